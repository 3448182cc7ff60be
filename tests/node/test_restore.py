"""A mesh of nodes whose group is made anew from a snapshot while others still run."""

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from consensus.codec import decode_snapshot
from meshnode import Node
from meshnode.errors import Compacted, GroupRecovered
from meshnode.host import RealHost
from meshnode.identity import NodeId
from meshnode.raft_views import doctor
from meshnode.real_disk import PlainDisk
from meshnode.restoration import INDEX_JUMP, look, next_generation, restore
from meshnode.snapshot_file import SnapshotFile, read_snapshot, save
from tests.node.mesh import Counter, Mesh, Running, client_of, config_of, mesh_of, until


async def snapshot_of(asked: Node, path: Path) -> SnapshotFile:
    """As the command takes it."""
    async with client_of(asked) as client:
        ask = functools.partial(client.view, "raft_snapshot", at=asked.address)
        begun = await ask()
        described, _ = decode_snapshot(begun["snapshot"], 0)
        pieces: list[bytes] = []
        is_last = False
        while not is_last:
            part = await ask(stream=begun["stream"], offset=sum(map(len, pieces)))
            pieces.append(part["data"])
            is_last = part["is_last"]
    return save(PlainDisk("."), str(path), described, pieces, partial=f"{path}.part", overwrite=True)


async def restore_to(directory: str, path: Path, *, without_log: bool = False) -> None:
    """As the command does it, though the directory has more; or had, in a log that is gone."""
    if without_log:
        shutil.rmtree(Path(directory) / "raft")
    snapshot = read_snapshot(PlainDisk("."), str(path))
    async with RealHost().disk(directory) as disk:
        present = look(disk, snapshot, NodeId(99))
        restore(disk, snapshot, present, generation=next_generation(present, snapshot), lost=())


@dataclass(eq=False)
class Ending(Running):
    """A node that may end because the group was made anew."""

    is_over: bool = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await super().run(task_status=task_status)
        except* GroupRecovered:
            self.is_over = True


async def join(mesh: Mesh, nursery: trio.Nursery, directory: Path, *names: str) -> list[Ending]:
    """More nodes."""
    seeds = [running.node.address for running in mesh.running.values()]
    joined = [Ending(Node(config_of(name, directory, join=seeds), agents=[Counter])) for name in names]
    for running in joined:
        await nursery.start(running.run)
        mesh.running[running.node.config.name] = running
    return joined


async def test_a_snapshot_has_all_that_was_agreed_on_before_it_at_any_node(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh:
        a, b = mesh.node("a"), mesh.node("b")
        for number in range(5):
            await a.configuration.put("key", str(number))
            taken = await snapshot_of(b, tmp_path / "file")
            entry = taken.metadata.coordination.store.get("key")
            assert entry is not None
            assert entry.value == str(number).encode()
        assert taken.founding.mesh_id == a.identity.mesh_id
        assert taken.snapshot.configuration.voters == (a.node_id,)
        assert taken.position == a.group.status.applied


async def test_a_running_node_that_the_snapshot_does_not_know_stays_and_is_registered_anew(tmp_path: Path) -> None:
    """One that only follows: it has no log that could contradict the new group's."""
    async with mesh_of(tmp_path) as mesh, trio.open_nursery() as nursery:
        a = await mesh.start("a", voters=1)
        await a.configuration.put("key", "then")
        taken = await snapshot_of(a, tmp_path / "file")
        joined = await join(mesh, nursery, tmp_path, "b", "c", "d")
        await until(lambda: len(a.group.status.configuration.members) == 3)
        members = a.group.status.configuration.members
        (follower,) = [running for running in joined if running.node.node_id not in members]
        node = follower.node
        later = await node.configuration.put("key", "later")
        async with node.lock("lock") as lock:
            token = lock.token
        await mesh.stop("a")
        await restore_to(a.config.data, tmp_path / "file", without_log=True)
        a = await mesh.start("a")
        assert a.metadata.boot_of(node.node_id) == 0
        await until(lambda: a.metadata.boot_of(node.node_id) == 1)
        await until(lambda: node.group.leader == a.node_id)
        assert (a.metadata.generation, node.metadata.generation) == (1, 1)
        found = await node.configuration.get("key")
        assert found is not None
        assert found.value == b"then"
        with pytest.raises(Compacted):
            await anext(node.configuration.watch(after=later))
        async with a.lock("lock") as lock:
            assert lock.token > token
            assert lock.token >> 40 == 1
        assert not node.left.is_set()
        assert not follower.is_over
        assert taken.position < INDEX_JUMP < a.group.status.commit
        nursery.cancel_scope.cancel()


async def test_voters_whom_the_snapshot_does_not_know_hear_that_their_group_is_over(tmp_path: Path) -> None:
    """They are a majority of the old group, and go on without the one that is restored."""
    async with mesh_of(tmp_path, "a") as mesh, trio.open_nursery() as nursery:
        a = mesh.node("a")
        await snapshot_of(a, tmp_path / "file")
        joined = await join(mesh, nursery, tmp_path, "b", "c")
        await mesh.balanced("a", "b", "c")
        await mesh.stop("a")
        await until(lambda: any(running.node.group.is_leader for running in joined))
        await restore_to(a.config.data, tmp_path / "file", without_log=True)
        a = await mesh.start("a")
        for running in joined:
            await running.stopped.wait()
            await until(lambda: running.is_over)  # noqa: B023
        assert a.group.is_leader
        nursery.cancel_scope.cancel()


async def test_agents_keep_what_their_nodes_have_though_the_metadata_go_back(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b", "c") as mesh, trio.open_nursery() as nursery:
        nodes = {name: mesh.node(name) for name in "abc"}
        keys = {name: mesh.key_at(name) for name in "abc"}
        await nodes["a"].ref(Counter, keys["b"]).add(1)
        taken = await snapshot_of(nodes["a"], tmp_path / "file")
        epochs = [row.epoch for row in taken.metadata.rows.values()]
        for key in keys.values():
            await nodes["a"].ref(Counter, key).add(2)
        for name in "abc":
            await mesh.stop(name)
        await restore_to(nodes["a"].config.data, tmp_path / "file")
        a = await mesh.start("a")
        (finding,) = [found for found in (await doctor(a, None))["findings"] if "voters" in found["problem"]]
        assert finding["problem"] == "there are 1 voters, and 3 are wanted"
        assert finding["remedy"] == "of 3 registered nodes 1 are there: start the others, or remove who is lost"
        seeds = [a.address]
        for name in "bc":  # they end when they are taken in, and come back with their logs set aside
            ending = Ending(Node(config_of(name, tmp_path, join=seeds), agents=[Counter]))
            await nursery.start(ending.run)
            await ending.stopped.wait()
            await until(lambda: ending.is_over)  # noqa: B023
            await mesh.start(name, join=seeds)
        await mesh.balanced("a", "b", "c")
        totals = {name: await a.ref(Counter, key).total() for name, key in keys.items()}
        assert totals == {"a": 2, "b": 3, "c": 2}
        assert min(row.epoch for row in a.metadata.rows.values()) > 1 << 40 > max(epochs)
        nursery.cancel_scope.cancel()
