"""The disk."""

import pytest
import trio

from consensus.disk import Disk
from meshnode.errors import DataDirectoryError
from meshnode.host import Host

LOCK = "lock"
"""The one name that a host may keep for itself at the root."""


def names(disk: Disk, directory: str = "") -> list[str]:
    return [name for name in disk.list(directory) if directory or name != LOCK]


def write(disk: Disk, path: str, data: bytes) -> None:
    file = disk.open(path, create=True)
    file.append(data)
    file.sync()
    file.close()


def content(disk: Disk, path: str) -> bytes:
    file = disk.open(path, create=False)
    try:
        return file.read(0, file.size() + 1)
    finally:
        file.close()


class DiskContract:
    """See `tests.host.contract`."""

    async def test_a_file_is_appended_at_its_end_and_read_anywhere(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            file = disk.open("a", create=True)
            assert file.size() == 0
            assert file.read(0, 10) == b""
            for part in (b"01", b"", b"23456", b"789"):
                file.append(part)
            assert file.size() == 10
            assert file.read(3, 4) == b"3456"
            assert file.read(8, 100) == b"89"
            assert file.read(10, 1) == b""
            assert file.read(500, 1) == b""
            assert file.read(0, 0) == b""
            file.close()

    async def test_what_is_read_is_what_another_opening_appended(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            writer = disk.open("a", create=True)
            reader = disk.open("a", create=False)
            writer.append(b"news")
            assert reader.read(0, 10) == b"news"
            writer.close()
            reader.close()

    async def test_room_that_is_made_ahead_does_not_show(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            file = disk.open("a", create=True)
            file.append(b"01")
            file.reserve(3000)
            assert (file.size(), file.read(1, 10), file.read(5, 10)) == (2, b"1", b"")
            file.append(b"2345")
            file.reserve(7)
            file.append(b"6789" * 1000)
            assert (file.size(), file.read(4, 4)) == (4006, b"4567")
            file.reserve(9000)
            file.truncate(5)
            assert (file.size(), file.read(0, 10)) == (5, b"01234")
            file.reserve(9000)
            file.sync()
            file.close()
            assert content(disk, "a") == b"01234"

    async def test_a_truncated_file_goes_on_from_its_new_end(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            file = disk.open("a", create=True)
            file.append(b"0123456789")
            file.truncate(4)
            assert file.size() == 4
            file.append(b"x")
            file.truncate(5)
            file.sync()
            assert file.read(0, 10) == b"0123x"
            file.truncate(0)
            assert (file.size(), file.read(0, 10)) == (0, b"")
            file.close()

    async def test_a_large_append_is_whole(self, host: Host, root: str) -> None:
        data = bytes(range(256)) * 8192
        async with host.disk(root) as disk:
            write(disk, "a", data)
            assert content(disk, "a") == data

    async def test_files_survive_the_closing_of_the_disk(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            disk.make_directory("log/old")
            write(disk, "log/old/1", b"kept")
            disk.sync_directory("log/old")
        async with host.disk(root) as disk:
            assert names(disk) == ["log"]
            file = disk.open("log/old/1", create=True)
            file.append(b" and continued")
            file.close()
            assert content(disk, "log/old/1") == b"kept and continued"

    async def test_only_a_file_to_be_created_may_be_absent(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            with pytest.raises(FileNotFoundError):
                disk.open("a", create=False)
            assert not disk.exists("a")
            disk.open("a", create=True).close()
            assert disk.exists("a")

    async def test_a_rename_replaces(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            write(disk, "old", b"new content")
            write(disk, "name", b"old content, and longer")
            disk.rename("old", "name")
            disk.sync_directory("")
            assert content(disk, "name") == b"new content"
            assert not disk.exists("old")
            with pytest.raises(FileNotFoundError):
                disk.rename("old", "name")

    async def test_a_removed_file_is_gone(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            write(disk, "a", b"x")
            disk.remove("a")
            assert not disk.exists("a")
            assert names(disk) == []
            with pytest.raises(FileNotFoundError):
                disk.remove("a")

    async def test_an_open_file_stays_readable_after_its_removal(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            write(disk, "a", b"x")
            file = disk.open("a", create=False)
            disk.remove("a")
            assert file.read(0, 1) == b"x"
            file.close()

    async def test_directories_are_made_with_their_parents_and_listed(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            disk.make_directory("a/b/c")
            disk.make_directory("a/b/c")
            for name in ("2", "10", "1"):
                write(disk, f"a/b/{name}", b"")
            disk.sync_directory("a/b")
            assert sorted(names(disk, "a/b")) == ["1", "10", "2", "c"]
            assert names(disk, "a/b/c") == []
            assert disk.exists("a/b/c")
            with pytest.raises(FileNotFoundError):
                disk.list("nowhere")
            with pytest.raises(FileNotFoundError):
                disk.sync_directory("nowhere")
            with pytest.raises(FileNotFoundError):
                disk.open("nowhere/file", create=True)

    async def test_the_disk_may_be_used_where_it_blocks_nobody(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk, trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(host.run_blocking, write, disk, f"{number}", b"%d" % number)
            nursery.cancel_scope.shield = True
        async with host.disk(root) as disk:
            assert [content(disk, f"{number}") for number in range(4)] == [b"0", b"1", b"2", b"3"]

    async def test_a_directory_is_for_one_node(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk:
            write(disk, "a", b"x")
            with pytest.raises(DataDirectoryError, match="locked"):
                async with host.disk(root):
                    pass
            assert content(disk, "a") == b"x"

    async def test_a_directory_is_unlocked_however_its_user_ends(self, host: Host, root: str) -> None:
        async def fail() -> None:
            async with host.disk(root):
                raise RuntimeError("the node failed")

        with pytest.raises(RuntimeError):
            await fail()
        with trio.CancelScope() as scope:
            async with host.disk(root):
                scope.cancel()
                await trio.lowlevel.checkpoint()
        async with host.disk(root) as disk:
            assert names(disk) == []

    async def test_two_directories_are_two_disks(self, host: Host, root: str) -> None:
        async with host.disk(root) as disk, host.disk(f"{root}-other") as other:
            write(disk, "a", b"x")
            assert not other.exists("a")
