"""Commands that make a snapshot of what the Raft group agreed on, and begin a group from one; see docs/raft.md."""

import functools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import trio
from crc32c import crc32c

from consensus.codec import decode_snapshot
from meshnode.cli.ask import Asked, TextType, asks
from meshnode.cli.outcome import ERROR, reported, run, show
from meshnode.data_directory import PATH, RAFT_PATH, has_identity
from meshnode.errors import DamagedSnapshot, DataDirectoryError, MeshError, Unavailable
from meshnode.host import RealHost
from meshnode.identity import NodeId, node_id_text
from meshnode.real_disk import LOCK_NAME, PlainDisk, ReadOnlyDisk
from meshnode.restoration import Present, Restored, check_age, look, lost_nodes, next_generation, restore
from meshnode.snapshot_file import SnapshotFile, check_target, read_snapshot, save

PART_TIMEOUT_S = 20.0
"""For a node to make the next part of an image, or to find out that it misses nothing."""


def described(snapshot: SnapshotFile) -> dict[str, Any]:
    """A snapshot as plain data."""
    metadata, configuration = snapshot.metadata, snapshot.snapshot.configuration
    coordination = metadata.coordination
    names = {node_id: record.name for node_id, record in metadata.nodes.items()}
    return {
        "mesh": snapshot.founding.mesh_id.hex(),
        "index": snapshot.position,
        "term": snapshot.snapshot.term,
        "generation": metadata.generation,
        "voters": [names.get(NodeId(voter), node_id_text(NodeId(voter))) for voter in configuration.electorate],
        "nodes": sorted(names.values()),
        "partitions": len(metadata.rows),
        "locks": len(coordination.queues),
        "sessions": len(coordination.sessions),
        "keys": len(coordination.store),
        "bytes": snapshot.size,
    }


def described_text(found: dict[str, Any]) -> str:
    """The same for people."""
    return "\n".join(
        (
            f"mesh {found['mesh']}: index {found['index']} of term {found['term']}, generation {found['generation']}",
            f"voters {', '.join(found['voters']) or '-'}; nodes {', '.join(found['nodes']) or '-'}",
            f"{found['partitions']} partitions, {found['locks']} locks held or waited for, {found['sessions']} "
            f"sessions, {found['keys']} keys; {found['bytes']} bytes",
        )
    )


def show_snapshot(path: str, *, as_json: bool) -> None:
    """What `raft verify` says of a file."""
    with reported():
        try:
            found = {**described(read_snapshot(ReadOnlyDisk("."), path)), "sound": True, "problem": ""}
        except DamagedSnapshot as error:
            if as_json:
                show({"sound": False, "problem": str(error)}, str, as_json=True)
                sys.exit(ERROR)
            raise
    show(found, lambda: f"{described_text(found)}\nsound", as_json=as_json)


# ---- snapshot


@click.command("snapshot")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@asks
def raft_snapshot(file: str, overwrite: bool, node: Asked, as_json: bool) -> None:
    """Write all that the Raft group has agreed on to FILE: nodes, rows of partitions, locks, the configuration.

    Any node will do; it must reach the leader. The state of agents is not in it. FILE appears once it is whole, on disk
    and checked; what a command that was killed leaves ends in .part.
    """
    target = Path(file)
    with reported():
        if not target.parent.is_dir():
            raise click.UsageError(f"{target.parent} is no directory: make it, or choose another place")
        if target.exists() and not target.is_file():
            raise click.UsageError(f"{file} is no regular file, and would be replaced by one: choose another name")
    disk = PlainDisk(".")

    async def carry_out() -> dict[str, Any]:
        await trio.to_thread.run_sync(functools.partial(check_target, disk, file, overwrite=overwrite))
        async with node.client() as client:

            async def ask(**arguments: Any) -> Any:
                return await client.view("raft_snapshot", at=node.address, timeout_s=PART_TIMEOUT_S, **arguments)

            match await ask():
                case {"stream": int(stream), "snapshot": bytes(encoded)}:
                    snapshot, _ = decode_snapshot(encoded, 0)
                case _:
                    raise MeshError(f"node {node} runs another version: it offers no snapshot")

            def pieces() -> Iterator[bytes]:
                """In the thread that writes them."""
                offset = checksum = 0
                is_last = False
                while not is_last:
                    match trio.from_thread.run(functools.partial(ask, stream=stream, offset=offset)):
                        case {"data": bytes(data), "checksum": int(told), "is_last": bool(is_last)}:
                            checksum = crc32c(data, checksum)
                        case _:
                            raise MeshError(f"node {node} runs another version: its answer is no part of a snapshot")
                    if checksum != told:
                        raise Unavailable(f"the snapshot was damaged on its way, after byte {offset}: retry")
                    offset += len(data)
                    yield data

            partial = f"{file}.{os.urandom(4).hex()}.part"
            write = functools.partial(save, disk, file, snapshot, pieces(), partial=partial, overwrite=overwrite)
            return {"file": file, **described(await trio.to_thread.run_sync(write))}

    done = run(carry_out)
    show(done, lambda: f"{file}: {described_text(done)}", as_json=as_json)


# ---- restore

_BEGUN = re.compile(rf"{LOCK_NAME}|{PATH}\.new|{RAFT_PATH}\.[0-9]+")
"""What an attempt that came to nothing has left in an empty directory."""


def _check_is_for_a_node(directory: str) -> None:
    """Raises DataDirectoryError where there are files, and not those of a node."""
    disk = ReadOnlyDisk(directory)
    if not disk.exists("") or has_identity(disk):
        return
    others = [name for name in sorted(disk.list("")) if not _BEGUN.fullmatch(name)]
    if others:
        raise DataDirectoryError(
            f"{directory} is no data directory of a node, and has other files, such as {others[0]!r:.100}: give one "
            "that is empty or not there"
        )


@click.command("restore")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--lost",
    type=TextType(),
    multiple=True,
    help="A node whose data directory is gone, by name or id. Repeat it for each. Partitions go on without its copies.",
)
@click.option("--alone", is_flag=True, help="The data directories of all other nodes are gone.")
@click.option("--discard-newer", is_flag=True, help="Lose what DIR has that is newer than the snapshot.")
@click.option(
    "--generation", type=int, help="Of the new group: above all that ever were, where FILE and DIR do not know."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")
def raft_restore(
    file: str,
    directory: str,
    lost: tuple[str, ...],
    alone: bool,
    discard_newer: bool,
    generation: int | None,
    as_json: bool,
) -> None:
    """Make a node whose metadata are those of the snapshot FILE, and which is the Raft group alone, in DIR.

    DIR is empty or not there, or it is the data directory of a node of the same mesh that is down: that node keeps its
    id and what it has of partitions. Read docs/raft.md first, and stop all nodes. What was agreed on after the
    snapshot is lost, but for nodes and partitions that DIR has later ones of. The state of agents is not in it.
    """

    if alone and lost:
        raise click.UsageError("--alone says that all other nodes are lost: leave out --lost")

    async def carry_out() -> tuple[SnapshotFile, Present, Restored]:
        snapshot = await trio.to_thread.run_sync(read_snapshot, ReadOnlyDisk("."), file)
        await trio.to_thread.run_sync(_check_is_for_a_node, directory)
        host = RealHost()
        async with host.disk(directory) as disk:
            present = await trio.to_thread.run_sync(look, disk, snapshot, NodeId(host.fresh_id(63)))
            if not discard_newer:
                check_age(present, snapshot)
            gone = lost_nodes(present, snapshot, lost, alone=alone)
            begun = next_generation(present, snapshot, generation)
            work = functools.partial(restore, disk, snapshot, present, generation=begun, lost=gone)
            return snapshot, present, await trio.to_thread.run_sync(work)

    snapshot, present, restored = run(carry_out)
    found = described(snapshot)
    for line in _losses(snapshot, present, restored):
        click.echo(line, err=True)
    done = {
        "generation": restored.identity.generation,
        "index": restored.index,
        "mesh": found["mesh"],
        "id": node_id_text(restored.identity.node_id),
        "lost": [node_id_text(node_id) for node_id in restored.lost],
        "emptied": list(restored.emptied),
        "thinned": list(restored.thinned),
    }
    text = (
        f"generation {done['generation']} of the Raft group begins with this node, at index {done['index']}: start it, "
        "as meshnode run, then the others"
    )
    show(done, lambda: text, as_json=as_json)


def _losses(snapshot: SnapshotFile, present: Present, restored: Restored) -> Iterator[str]:
    """What there is no more, for people."""
    nodes, rows = snapshot.metadata.nodes, snapshot.metadata.rows
    others = [one for one in nodes if one != restored.identity.node_id and one not in restored.lost]
    yield "LOST: all that was agreed on after the snapshot about locks, sessions and keys"
    if present.is_newer:
        yield "nodes and partitions are those of the directory's own log, which is newer than the snapshot"
    else:
        yield "LOST: nodes that joined or left after it; and of partitions that moved, what only later copies have"
    yield "NOT IN IT: the state of agents, which the nodes have in their own data directories"
    if others:
        yield f"partitions wait for the copies of {', '.join(sorted(nodes[one].name for one in others))}"
    for what, partitions in (
        ("have no copy left, and begin empty", restored.emptied),
        ("have fewer copies left than a majority, and go on from those", restored.thinned),
    ):
        if partitions:
            shown = ", ".join(map(str, partitions[:8])) + (", …" if len(partitions) > 8 else "")
            yield f"LOST: {len(partitions)} of {len(rows) + len(restored.emptied)} partitions {what}: {shown}"
    generation = restored.identity.generation
    yield f"no group may have been of generation {generation} or above before: else repeat it with --generation"
