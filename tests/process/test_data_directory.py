"""Data directories that a node must not run on, and some that it can."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from consensus.records import frame
from meshnode import Client
from tests.process.cluster import Cluster
from tests.process.counters import Counter
from tests.process.processes import NodeProcess
from tests.process.refusals import said_at_end

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

CALLS = 20


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Makes nodes that are no part of a cluster, and ends them."""
    made: list[NodeProcess] = []

    def make(*options: str) -> NodeProcess:
        made.append(NodeProcess(tmp_path, f"x{len(made)}", *options))
        return made[-1]

    yield make
    for node in made:
        node.discard()


async def test_a_directory_of_a_running_node_is_refused(cluster: Cluster, new_node: Callable[..., NodeProcess]) -> None:
    await cluster.form(1)
    second = new_node("--join", str(cluster.nodes[0].address))
    second.data = cluster.nodes[0].data
    second.start()
    message = await said_at_end(second)
    assert message == (
        f"data directory {second.data} is locked by a running node: stop it, or give another one with --data"
    )


async def test_a_directory_that_is_a_file_is_refused(new_node: Callable[..., NodeProcess]) -> None:
    node = new_node("--found")
    node.data.write_text("in the way")
    node.data /= "n0"
    node.start()
    message = await said_at_end(node)
    assert message == f"can't use data directory {node.data}: Not a directory. Give a writable directory with --data"


async def test_a_directory_that_is_not_writable_is_refused(new_node: Callable[..., NodeProcess]) -> None:
    node = new_node("--found")
    if os.geteuid() == 0:  # root passes all permissions unless it gives that power up
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root needs setpriv to try this")
        node.wrapper = (setpriv, "--inh-caps=-all", "--bounding-set=-dac_override", "--")
    node.data.mkdir(mode=0o500)
    node.start()
    message = await said_at_end(node)
    assert message == f"can't use data directory {node.data}: Permission denied. Give a writable directory with --data"


async def test_a_directory_of_another_mesh_is_refused_by_the_first_seed_that_answers(
    clusters: Callable[[], Cluster], new_node: Callable[..., NodeProcess]
) -> None:
    ours, theirs = clusters(), clusters()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.form, 1)
        nursery.start_soon(theirs.form, 1)
    mesh_ids = [(await cluster.view(cluster.nodes[0], "status"))["mesh"] for cluster in (ours, theirs)]
    copied = new_node("--join", str(theirs.nodes[0].address))
    ours.nodes[0].kill()
    shutil.copytree(ours.nodes[0].data, copied.data)
    copied.start()
    message = await said_at_end(copied)
    assert message == (
        f"--join {theirs.nodes[0].address}: this node is of mesh {mesh_ids[1]}, not {mesh_ids[0]}, the one that the "
        f"data directory {copied.data} belongs to. Give a member of its own mesh with --join, or an empty directory "
        "with --data"
    )
    await theirs.settled()


async def test_a_directory_without_identity_beside_data_is_refused(cluster: Cluster) -> None:
    node = await _stopped_node_with_data(cluster)
    (node.data / "identity").unlink()
    node.start()
    assert "has a node's data but no identity" in await said_at_end(node)


@pytest.mark.parametrize("directory", ["raft", "journal"])
@pytest.mark.parametrize("how", ["the files", "the directory", "what is in the files"])
async def test_a_directory_whose_log_or_journal_is_gone_is_refused(cluster: Cluster, directory: str, how: str) -> None:
    node = await _stopped_node_with_data(cluster)
    if how == "the directory":
        shutil.rmtree(node.data / directory)
    for file in (node.data / directory).glob("*.log"):
        file.unlink() if how == "the files" else os.truncate(file, 0)
    node.start()
    message = await said_at_end(node)
    assert ("raft has no log any more" if directory == "raft" else "journal is gone or empty") in message
    assert "Start with an empty data directory" in message


@pytest.mark.parametrize("path", ["identity", "raft/00000001-00000000000000000001.log", "journal/00000001.log"])
async def test_a_damaged_file_is_named_with_the_offset_and_left_as_it_is(cluster: Cluster, path: str) -> None:
    node = await _stopped_node_with_data(cluster)
    file = node.data / path
    content = bytearray(file.read_bytes())
    middle = len(content.rstrip(b"\0")) // 2  # behind the last record there may be room
    content[middle] ^= 0x10
    file.write_bytes(content)
    before = _digests(node.data)
    node.start()
    message = await said_at_end(node)
    assert f"{path} is damaged at byte " in message
    offset = int(message.split("at byte ")[1].split()[0])
    assert offset <= middle
    after = {name: digest for name, digest in _digests(node.data).items() if name in before}
    if path != "identity":  # a start that fails is a start: its number is used up
        before.pop("identity"), after.pop("identity")
    assert after == before


@pytest.mark.parametrize("path", ["raft/00000001-00000000000000000001.log", "journal/00000001.log"])
async def test_a_write_that_a_crash_cut_off_is_removed_and_the_node_starts(cluster: Cluster, path: str) -> None:
    node = await _stopped_node_with_data(cluster)
    file = node.data / path
    content = file.read_bytes()
    end = len(content.rstrip(b"\0"))
    begun = frame(bytes(200), offset=end, synced=end)
    written = content[:end] + begun[: len(begun) // 2]
    file.write_bytes(written + content[len(written) :])
    node.start()
    await cluster.settled()
    async with Client([node.address]) as client:
        assert await client.ref(Counter, "kept").total() == CALLS


async def test_a_copy_of_a_running_nodes_directory_ends_and_the_original_goes_on(cluster: Cluster) -> None:
    await cluster.form(3)
    original = cluster.nodes[1]
    original.kill()
    copied = cluster.new_node()
    shutil.copytree(original.data, copied.data)
    original.start()
    await cluster.settled(cluster.nodes[:3])
    copied.start()
    message = await said_at_end(copied)
    assert message.startswith("the data directory is an old copy, or another node runs on a copy of it: ")
    await cluster.settled(cluster.nodes[:3])
    assert original.is_running


async def _stopped_node_with_data(cluster: Cluster) -> NodeProcess:
    """A node that was a mesh of its own, and has an agent."""
    await cluster.form(1)
    node = cluster.nodes[0]
    async with Client([node.address]) as client:
        for _ in range(CALLS):
            await client.ref(Counter, "kept").add(1)
    node.kill()
    return node


def _digests(root: Path) -> dict[str, str]:
    """Of what is in each file, but for room behind its end."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes().rstrip(b"\0")).hexdigest() for path in files}
