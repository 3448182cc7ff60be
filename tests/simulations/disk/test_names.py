"""Names in directories: what a process sees, and what a power loss leaves."""

import errno

import pytest

from simulations.disk import DiskFaults, SimDisk
from tests.simulations.disk.twin import TwinNames


def disk_with(seed: int = 1) -> SimDisk:
    return SimDisk("disk", seed=seed)


def write(disk: SimDisk, path: str, data: bytes) -> None:
    file = disk.open(path, create=True)
    file.append(data)
    file.sync()
    file.close()


def content(disk: SimDisk, path: str) -> bytes:
    file = disk.open(path, create=False)
    return file.read(0, file.size())


def left_after_power_loss(origin: SimDisk, paths: tuple[str, ...], seeds: int = 300) -> set[frozenset[str]]:
    """The sets of names among ``paths`` that power losses leave."""
    found = set()
    for seed in range(seeds):
        disk = origin.fork("copy", seed=seed)
        disk.crash()
        found.add(frozenset(path for path in paths if disk.exists(path)))
    return found


def test_a_created_name_is_durable_only_after_its_directory_is_synced() -> None:
    disk = disk_with()
    write(disk, "a", b"synced content")
    assert left_after_power_loss(disk, ("a",)) == {frozenset(), frozenset({"a"})}
    disk.sync_directory("")
    assert left_after_power_loss(disk, ("a",)) == {frozenset({"a"})}
    assert content(disk, "a") == b"synced content"


def test_a_synced_directory_is_gone_if_its_own_name_was_not_durable() -> None:
    disk = disk_with()
    disk.make_directory("journal")
    write(disk, "journal/1", b"x")
    disk.sync_directory("journal")
    assert frozenset() in left_after_power_loss(disk, ("journal/1",))
    disk.sync_directory("")
    assert left_after_power_loss(disk, ("journal/1",)) == {frozenset({"journal/1"})}


def test_a_rename_happens_as_a_whole_or_not_at_all() -> None:
    disk = disk_with()
    write(disk, "identity", b"first")
    disk.sync_directory("")
    write(disk, "identity.new", b"second")
    disk.sync_directory("")
    disk.rename("identity.new", "identity")
    seen = set()
    for seed in range(100):
        copy = disk.fork("copy", seed=seed)
        copy.crash()
        seen.add((content(copy, "identity"), copy.exists("identity.new")))
    assert seen == {(b"first", True), (b"second", False)}
    disk.sync_directory("")
    disk.crash()
    assert (content(disk, "identity"), disk.exists("identity.new")) == (b"second", False)


def test_a_new_name_may_be_durable_before_the_bytes_behind_it() -> None:
    seen = set()
    for seed in range(100):
        disk = disk_with(seed)
        disk.open("new", create=True).append(b"bytes")
        disk.rename("new", "name")
        disk.sync_directory("")
        disk.crash()
        seen.add(content(disk, "name"))
    assert seen == {b"", bytes(5), b"bytes"}


def test_each_set_of_changes_that_keeps_the_order_of_each_name_comes_up_and_no_other() -> None:
    disk = disk_with()
    twin = TwinNames()

    def create(path: str, number: int) -> None:
        write(disk, path, b"%d" % number)
        twin.change({path: number})

    create("a", 1)
    create("b", 2)
    disk.sync_directory("")
    twin.sync("")
    disk.rename("a", "c")
    twin.change({"a": None, "c": 1})
    create("a", 3)
    disk.remove("b")
    twin.change({"b": None})
    disk.rename("c", "b")
    twin.change({"c": None, "b": 1})
    create("e", 4)
    found = set()
    for seed in range(600):
        copy = disk.fork("copy", seed=seed)
        copy.crash()
        found.add(frozenset((path, int(content(copy, path))) for path in copy.list("")))
    assert found == {frozenset(names.items()) for names in twin.outcomes()}
    assert len(found) == 16
    assert frozenset({("a", 1), ("b", 2), ("e", 4)}) in found, "only the last change, which depends on no other"


def test_a_sync_of_one_directory_carries_what_its_names_come_from() -> None:
    disk = disk_with()
    disk.make_directory("from")
    disk.make_directory("to")
    disk.sync_directory("")
    write(disk, "from/a", b"x")
    disk.open("from/other", create=True)
    disk.rename("from/a", "to/a")
    disk.sync_directory("to")
    left = left_after_power_loss(disk, ("from/a", "from/other", "to/a"))
    assert left == {frozenset({"to/a"}), frozenset({"to/a", "from/other"})}


def test_a_removed_file_may_come_back_with_what_was_synced() -> None:
    disk = disk_with()
    write(disk, "a", b"content")
    disk.sync_directory("")
    disk.remove("a")
    used = set()
    for seed in range(50):
        copy = disk.fork("copy", seed=seed)
        copy.crash()
        assert not copy.exists("a") or content(copy, "a") == b"content"
        used.add(copy.used_bytes)
    assert used == {0, 7}


def test_in_order_the_names_that_survive_are_the_first_ones() -> None:
    for seed in range(100):
        disk = SimDisk("disk", seed=seed, faults=DiskFaults(in_order=True))
        for name in "abcdef":
            disk.open(name, create=True)
        disk.crash()
        assert "abcdef".startswith("".join(disk.list("")))


def test_a_directory_moves_with_what_is_in_it() -> None:
    disk = disk_with()
    disk.make_directory("d/e")
    write(disk, "d/e/a", b"x")
    disk.make_directory("empty")
    disk.rename("d/e", "empty")
    assert content(disk, "empty/a") == b"x"
    assert disk.list("d") == []
    for directory in ("", "d", "empty"):
        disk.sync_directory(directory)
    disk.crash()
    assert content(disk, "empty/a") == b"x"


def test_a_rename_to_itself_changes_nothing() -> None:
    disk = disk_with()
    write(disk, "a", b"x")
    disk.rename("a", "a")
    assert content(disk, "a") == b"x"
    assert disk.used_bytes == 1


def test_what_a_kernel_refuses_is_refused() -> None:
    disk = disk_with()
    disk.make_directory("d/e")
    write(disk, "file", b"x")
    refused: list[tuple[type[OSError], int]] = []
    for action in (
        lambda: disk.open("d", create=True),
        lambda: disk.remove("d"),
        lambda: disk.rename("file", "d"),
        lambda: disk.open("file/below", create=True),
        lambda: disk.list("file"),
        lambda: disk.rename("d", "file"),
        lambda: disk.make_directory("file"),
        lambda: disk.make_directory("file/below"),
        lambda: disk.rename("d", "d/e/f"),
        lambda: disk.rename("d/e", "d"),
        lambda: disk.rename("", "elsewhere"),
        lambda: disk.rename("file", "nowhere/file"),
    ):
        with pytest.raises(OSError) as caught:
            action()
        assert caught.value.errno is not None
        refused.append((caught.type, caught.value.errno))
    assert refused == [
        (IsADirectoryError, errno.EISDIR),
        (IsADirectoryError, errno.EISDIR),
        (IsADirectoryError, errno.EISDIR),
        (NotADirectoryError, errno.ENOTDIR),
        (NotADirectoryError, errno.ENOTDIR),
        (NotADirectoryError, errno.ENOTDIR),
        (FileExistsError, errno.EEXIST),
        (NotADirectoryError, errno.ENOTDIR),
        (OSError, errno.EINVAL),
        (OSError, errno.ENOTEMPTY),
        (OSError, errno.EBUSY),
        (FileNotFoundError, errno.ENOENT),
    ]
    assert disk.list("") == ["d", "file"]


@pytest.mark.parametrize("path", ["/a", "a//b", "../a", "a/./b", "a/"])
def test_a_path_that_leaves_the_disk_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="plain names separated by '/'"):
        disk_with().open(path, create=True)
