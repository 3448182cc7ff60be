"""A disk that takes no more."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from meshnode import MeshError
from tests.process.cluster import Cluster
from tests.process.counters import ChestAgent
from tests.process.processes import NodeProcess, die_with_parent
from tests.process.workload import Workload

pytestmark = pytest.mark.process

DISK_BYTES = 2 * 2**20

CONTENT_BYTES = 2**15


class SmallDisk:
    """A file system in memory that only the processes in its own mount namespace see.

    Raises:
        OSError: this user may not mount here.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        script = 'mount -t tmpfs -o "size=$1" meshnode-test "$2" && echo mounted && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(DISK_BYTES), str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.discard()
            raise PermissionError(f"can't mount at {path}")
        self.wrapper = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--")

    def enlarge(self) -> None:
        """Make room."""
        command = [*self.wrapper, "mount", "-o", f"remount,size={64 * DISK_BYTES}", str(self._path)]
        subprocess.run(command, check=True, timeout=10)

    def discard(self) -> None:
        """Unmount: with its last process the namespace goes, and the file system with it."""
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[SmallDisk]:
    """The disk of node n2."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("mounting takes root, unshare and nsenter")
    try:
        disk = SmallDisk(cluster.root / "n2")
    except PermissionError as error:
        pytest.skip(str(error))
    yield disk
    disk.discard()


@pytest.mark.timeout(150)
async def test_a_node_whose_disk_is_full_says_so_and_ends_and_nothing_acknowledged_is_lost(
    cluster: Cluster, small_disk: SmallDisk
) -> None:
    cluster.new_node().start()
    cluster.new_node().start()
    victim = cluster.new_node(wrapper=small_disk.wrapper)
    await _fill_the_disk_of(cluster, victim, victim.start, "No space left on device", small_disk.enlarge)


@pytest.mark.timeout(150)
async def test_a_node_that_may_not_write_on_says_so_and_ends_and_nothing_acknowledged_is_lost(cluster: Cluster) -> None:
    cluster.new_node().start()
    cluster.new_node().start()
    victim = cluster.new_node()
    start = lambda: victim.start(file_bytes_max=DISK_BYTES)  # noqa: E731
    await _fill_the_disk_of(cluster, victim, start, "File too large", lambda: None)


async def _fill_the_disk_of(
    cluster: Cluster, victim: NodeProcess, start: Callable[[], None], reason: str, make_room: Callable[[], None]
) -> None:
    start()
    await cluster.settled()
    async with cluster.client() as client:
        workload = Workload(client, timeout_s=30.0)
        async with workload.running():
            async with trio.open_nursery() as nursery:

                async def fill(key: str) -> None:
                    while True:
                        try:
                            await client.ref(ChestAgent, key, timeout_s=5.0).store(CONTENT_BYTES)
                        except MeshError:
                            await trio.sleep(0.1)

                for key in range(4):
                    nursery.start_soon(fill, str(key))
                assert await victim.ended(within_s=60.0) == 1
                nursery.cancel_scope.cancel()
            said = [line for line in victim.log().splitlines() if line.startswith("meshnode: ")]
            assert len(said) == 1
            assert reason in said[0]
            assert "Free space or replace the disk, then start it again" in said[0]
            assert "Traceback" not in victim.log()
            await workload.all_answer()
            make_room()
            victim.start()
            await cluster.settled()
            await workload.all_answer()
        await workload.verify()
