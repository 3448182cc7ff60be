"""Commands for operators of the Raft group; docs/raft.md is their guide."""

import sys
from typing import Any

import click

from meshnode.cli.ask import Asked, TextType, asks
from meshnode.cli.outcome import ERROR, show

REMOVE_TIMEOUT_S = 130.0
"""More than the node takes before it says what holds it up."""


@click.group()
def raft() -> None:
    """The Raft group."""


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
@click.argument("to", metavar="[NODE]", type=TextType(), default="")
@asks
def raft_transfer(to: str, node: Asked, as_json: bool) -> None:
    """Have another voter lead: NODE, by its name or id, or the one that has most of the log."""
    done = node.view("raft_transfer", timeout_s=20.0, to=to)
    show(done, lambda: f"{done['leader']} leads", as_json=as_json)


@raft.command("remove")
@click.argument("lost", metavar="NODE", type=TextType())
@asks
def raft_remove(lost: str, node: Asked, as_json: bool) -> None:
    """Have NODE, which is lost for good, forgotten. For one that is there: meshnode leave."""
    done = node.view("raft_remove", timeout_s=REMOVE_TIMEOUT_S, node=lost)
    show(done, lambda: f"{done['removed']} ({done['id']}) is removed", as_json=as_json)


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
