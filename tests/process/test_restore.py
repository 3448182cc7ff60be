"""A mesh that has lost all its disks goes on from a snapshot; and one that was being taken is there whole or not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.cli.command import Outcome, meshnode
from tests.process.cluster import Cluster, until
from tests.process.processes import REPOSITORY, die_with_parent

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SAVING = """
import sys, time
from consensus.messages import Snapshot
from meshnode.real_disk import PlainDisk
from meshnode.snapshot_file import save

def pieces():
    yield bytes(200_000)
    print("in the middle", flush=True)
    time.sleep(1000)

path = sys.argv[1]
save(PlainDisk("."), path, Snapshot(5, 1), pieces(), partial=path + ".part", overwrite=True)
"""


async def said_by(*arguments: object) -> Outcome:
    """What a command says."""
    return await trio.to_thread.run_sync(meshnode, *arguments)


async def token_of(cluster: Cluster) -> int:
    """The fencing token of the next who takes the lock."""
    async with cluster.client() as client, client.lock("lock", timeout=40.0) as lock:
        return lock.token


async def test_a_mesh_whose_disks_are_gone_goes_on_from_a_snapshot(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "file.snapshot"
    await cluster.form(3)
    n0, n1, n2 = cluster.nodes
    async with cluster.client() as client:
        await client.configuration.put("key", "then")
        tokens = [await token_of(cluster)]
        async with client.lock("held"):
            taken = await said_by("raft", "snapshot", file, "--node", n1.address, "--json")
        assert (taken.code, taken.json["nodes"], taken.json["keys"], taken.json["locks"]) == (
            0,
            ["n0", "n1", "n2"],
            1,
            1,
        )
        await client.configuration.put("key", "later")
        tokens += [await token_of(cluster) for _ in range(3)]
    for node in cluster.nodes:
        node.kill()
        shutil.rmtree(node.data)

    done = await said_by("raft", "restore", file, n0.data, "--alone", "--json")
    assert done.code == 0, done
    assert (done.json["generation"], done.json["mesh"]) == (1, taken.json["mesh"])
    assert (len(done.json["lost"]), len(done.json["emptied"])) == (3, cluster.partitions)
    assert "LOST: all that was agreed on after the snapshot" in done.err
    n0.start()

    async def is_alone() -> bool:
        status = await cluster.view(n0, "raft_status")
        names = [member["name"] for member in await cluster.view(n0, "members")]
        rows = await cluster.rows(n0)
        served = [row for row in rows if row["phase"] == "active" and row["epoch"] >> 40 == 1]
        alone = status["role"] == "leader" and status["voters"] == names == ["n0"]
        return bool(alone and status["generation"] == 1 and len(served) == cluster.partitions)

    await until(is_alone, "a group of one")
    async with cluster.client([n0]) as client:
        entry = await client.configuration.get("key")
        assert entry is not None
        assert entry.text == "then"
        locks = (await said_by("locks", "--node", n0.address, "--json")).json
        assert [lock["name"] for lock in locks] == ["held"], "its holder may live: it is held until its TTL is over"
    tokens += [await token_of(cluster)]
    assert tokens == sorted(set(tokens))
    assert [token >> 40 for token in tokens] == [0, 0, 0, 0, 1]
    for node in (n1, n2):
        node.start()
    await cluster.settled()


def test_a_snapshot_that_is_killed_in_the_middle_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    command = [sys.executable, "-c", SAVING, str(file)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, preexec_fn=die_with_parent()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["file.part"]
