"""Commands for operators of the Raft group; docs/raft.md is their guide."""

import sys
from pathlib import Path
from typing import Any

import click
import trio

from consensus.segments import find_segments
from consensus.verification import LogReport, verify
from meshnode.cli.ask import Asked, TextType, asks
from meshnode.cli.outcome import ERROR, reported, run, show
from meshnode.cli.snapshots import raft_restore, raft_snapshot, show_snapshot
from meshnode.data_directory import PATH, read_identity
from meshnode.errors import DataDirectoryError
from meshnode.host import RealHost
from meshnode.identity import NodeId, node_id_text
from meshnode.real_disk import ReadOnlyDisk
from meshnode.recovery import Survey, recover, survey

REMOVE_TIMEOUT_S = 130.0
"""More than the node takes before it says what holds it up."""


@click.group()
def raft() -> None:
    """The Raft group."""


raft.add_command(raft_snapshot)
raft.add_command(raft_restore)


@raft.command("status")
@asks
def raft_status(node: Asked, as_json: bool) -> None:
    """Term, leader, voters and progress, as the asked node sees them; the leader alone knows how far the others are."""
    status = node.view("raft_status")

    def text() -> str:
        leader = status["leader_name"] or f"unknown for {status['leaderless_s']:g} s"
        generation = f", generation {status['generation']}" if status["generation"] else ""
        lines = [
            f"{status['name']} is {status['role']} in term {status['term']}; leader {leader}",
            f"committed {status['commit']}, applied {status['applied']}{generation}",
            f"voters   {', '.join(status['voters']) or '-'} ({status['voters_wanted']} wanted, "
            f"{status['voters_needed']} needed)",
            f"learners {', '.join(status['learners']) or '-'}",
        ]
        lines += [f"missing  {absence(one)}" for one in status["missing"]]
        lines += [f"  {peer['name']}: {peer['state']}, has {peer['match']}" for peer in status["followers"]]
        return "\n".join(lines)

    show(status, text, as_json=as_json)


def absence(missing: dict[str, Any]) -> str:
    """A node that is not there, and since when."""
    gone_s = missing["gone_s"]
    since = "not seen since this node was started" if gone_s is None else f"gone for {gone_s:g} s"
    return f"{missing['name']} ({missing['id']}): {since}"


@raft.command("transfer")
@click.argument("to", metavar="[NODE]", type=TextType(), required=False)
@asks
def raft_transfer(to: str | None, node: Asked, as_json: bool) -> None:
    """Have another voter lead: NODE, by its name or id, or the one that has most of the log."""
    done = node.view("raft_transfer", timeout_s=20.0, to=to)
    show(done, lambda: f"{done['leader']} leads", as_json=as_json)


@raft.command("remove")
@click.argument("lost", metavar="NODE", type=TextType())
@asks
def raft_remove(lost: str, node: Asked, as_json: bool) -> None:
    """Have NODE, which is lost for good, forgotten. For one that is there: meshnode leave."""
    meanwhile = "the replicas that it had are made elsewhere"
    done = node.view("raft_remove", timeout_s=REMOVE_TIMEOUT_S, meanwhile=meanwhile, node=lost)
    show(done, lambda: f"{done['removed']} ({done['id']}) is removed", as_json=as_json)


@raft.command("recover")
@click.option("--data", required=True, type=click.Path(file_okay=False), help="Data directory of a node that is down.")
@click.option(
    "--survivor",
    "survivors",
    type=TextType(),
    multiple=True,
    help="Another voter that is still there, by name or id. Repeat it for each.",
)
@click.option("--give-up", type=TextType(), help="The voters that are lost, with commas, in place of the question.")
@click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")
def raft_recover(data: str, survivors: tuple[str, ...], give_up: str | None, as_json: bool) -> None:
    """Make a new Raft group from the log of one node, when the old one has lost its quorum for good.

    Read docs/raft.md first. What the lost voters agreed on without this node is lost, and none of them may run until
    the new group is there. Take the survivor whose log ends last.
    """

    async def carry_out() -> dict[str, Any]:
        if not await trio.to_thread.run_sync((Path(data) / PATH).exists):
            raise DataDirectoryError(f"{data} is no data directory of a node: it has no file {PATH}")
        async with RealHost().disk(data) as disk:
            found = await trio.to_thread.run_sync(survey, disk)
            named = [found.identity.node_id, *map(found.resolve, survivors)]
            given_up = found.given_up(named)
            _confirm(found, named, given_up, give_up)
            identity = await trio.to_thread.run_sync(recover, disk, found, given_up)
        return {
            "generation": identity.generation,
            "last": found.last,
            "term": found.term,
            "survivors": [node_id_text(node_id) for node_id in named],
            "given_up": [node_id_text(node_id) for node_id in given_up],
        }

    done = run(carry_out)
    text = (
        f"generation {done['generation']} of the Raft group begins with this node: start it, then the other survivors"
    )
    show(done, lambda: text, as_json=as_json)


def _confirm(found: Survey, survivors: list[NodeId], given_up: tuple[NodeId, ...], answer: str | None) -> None:
    """Have the operator name what is given up."""
    names = sorted(map(found.name_of, given_up))
    lost, voters, kept = ", ".join(names), map(found.name_of, found.voters), map(found.name_of, survivors)
    for line in (
        f"this node's log ends at index {found.last} of term {found.term}, agreed on up to {found.committed} at least",
        f"voters: {', '.join(voters)}; survivors: {', '.join(kept)}",
        f"LOST: all that {lost} agreed on beyond it: nodes that joined or left, rows of partitions",
        "LOST: partitions with a majority of their copies on nodes that are gone",
        f"{lost} must not run again before the new group is there, and then hear of it",
    ):
        click.echo(line, err=True)
    if answer is None:
        answer = click.prompt("type the names of the voters that are given up, with commas", err=True)
    if sorted(name.strip() for name in answer.split(",")) != names:
        raise click.UsageError(f"{answer!r:.200} are not the voters to give up, {','.join(names)}: nothing was done")


@raft.command("verify")
@click.argument("path", metavar="DIR|FILE", type=click.Path(exists=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")
def raft_verify(path: str, as_json: bool) -> None:
    """Read the whole Raft log of the data directory DIR, or all of the snapshot FILE, and say what it has and what is
    damaged. Nothing is changed.

    A node may be running on DIR: then the last file may end within a record. Exit code 1 if anything is damaged.
    """
    if not Path(path).is_dir():
        show_snapshot(path, as_json=as_json)
        return
    with reported():
        disk = ReadOnlyDisk(path)
        report = verify(disk, _log_directory(disk, path))
    show(verified(report), lambda: verified_text(report), as_json=as_json)
    if not report.is_sound:
        sys.exit(ERROR)


def _log_directory(disk: ReadOnlyDisk, path: str) -> str:
    """Where the log is: of a node's data directory, or the directory itself if it is that of a log."""
    if disk.exists(PATH):
        place = read_identity(disk).raft_directory
        if not disk.exists(place):
            raise DataDirectoryError(
                f"{path} has no {place}: its Raft log is gone, or its node never came to begin one"
            )
        return place
    if not find_segments("", disk.list("")):
        raise DataDirectoryError(f"{path} is no data directory of a node: it has no file {PATH}, and no files of a log")
    return ""


def verified(report: LogReport) -> dict[str, Any]:
    """A report as plain data."""
    lost = report.lost
    return {
        "sound": report.is_sound,
        "problem": report.problem,
        "owner": report.owner.hex(),
        "term": report.term,
        "vote": _vote(report),
        "commit": report.commit,
        "first": report.first,
        "last": report.last,
        "last_term": report.last_term,
        "entries": report.entries,
        "lost": None if lost is None else {"index": lost.index, "term": lost.log_term},
        "files": [
            {
                "path": file.path,
                "bytes": file.size,
                "batches": file.batches,
                "entries": file.entries,
                "torn_bytes": 0 if file.is_room else file.torn_bytes,
                "room_bytes": file.torn_bytes if file.is_room else 0,
            }
            for file in report.files
        ],
        "snapshots": [
            {"path": one.path, "index": one.index, "term": one.term, "bytes": one.size, "sound": one.damage is None}
            for one in report.snapshots
        ],
        "damages": [{"path": one.path, "offset": one.offset, "what": one.what} for one in report.damages],
    }


def _vote(report: LogReport) -> str | None:
    return node_id_text(NodeId(report.vote)) if report.vote else None


def verified_text(report: LogReport) -> str:
    """A report for people."""
    lines = [
        f"entries {report.first} to {report.last} ({report.entries}), the last of term {report.last_term}",
        f"term {report.term}, vote {_vote(report) or 'nobody'}, committed {report.commit} at least",
    ]
    lines += [f"snapshot {one.index} of term {one.term}: {one.path}, {one.size} bytes" for one in report.snapshots]
    for file in report.files:
        what = "are room made ahead" if file.is_room else "were never synced"
        torn = f", of which {file.torn_bytes} {what}" if file.torn_bytes else ""
        lines.append(f"{file.path}: {file.entries} entries in {file.batches} batches, {file.size} bytes{torn}")
    lines += [f"DAMAGED {damage}" for damage in report.damages]
    if report.lost is not None:
        lines.append(f"LOST up to index {report.lost.index}: the others give it back when the node is started")
    elif report.damages and not report.problem:
        lines.append("nothing is lost by that: the rest of the log and of its snapshots says the same")
    if report.problem:
        lines.append(f"THE NODE CAN'T START: {report.problem}")
    return "\n".join([*lines, "sound" if report.is_sound else "not sound"])


@click.command()
@asks
def doctor(node: Asked, as_json: bool) -> None:
    """What is wrong with the mesh, as the asked node sees it, and what to do. Exit code 1 if anything is."""
    found = node.view("doctor")

    def text() -> str:
        lines = [f"{one['severity']}: {one['problem']}\n  {one['remedy']}" for one in found["findings"]]
        return "\n".join(lines) or f"{found['name']} sees nothing wrong"

    show(found, text, as_json=as_json)
    if found["findings"]:
        sys.exit(ERROR)
