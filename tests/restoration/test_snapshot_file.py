"""The file of a snapshot: there whole or not at all, and nothing wrong with it goes unseen."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from consensus.messages import Configuration, Snapshot
from meshnode import wire
from meshnode.errors import DamagedSnapshot, OperatorError
from meshnode.metadata.history import History
from meshnode.metadata.state import Metadata
from meshnode.snapshot_file import read_snapshot, save
from simulations.disk import DiskFaults, SimDisk
from tests.consensus.disks import MemoryDisk
from tests.restoration.directories import COMMANDS, MESH, NAMES, A, B, C, write_log, write_snapshot
from tests.simulations.disk.test_users import Killed, crash_after


def state(metadata: Metadata) -> bytes:
    return b"".join(metadata.freeze()())


def test_a_file_says_of_what_it_is_and_has_all_of_it() -> None:
    disk = MemoryDisk()
    written = write_snapshot(disk)
    found = read_snapshot(disk, "file")
    assert (found.position, found.snapshot.index, found.snapshot.term) == (14, 14, 3)
    assert found.snapshot.configuration == Configuration(voters=(A, B, C))
    assert (found.founding.mesh_id, found.metadata.generation) == (MESH, 0)
    assert [found.metadata.nodes[node].name for node in (A, B, C)] == [NAMES[node] for node in (A, B, C)]
    assert found.metadata.coordination.store.get("key") is not None
    assert state(found.metadata) == state(written.metadata)
    assert found.size == len(disk.bytes_of("file"))


def test_every_wrong_byte_is_seen_and_said_where_it_is() -> None:
    disk = MemoryDisk()
    write_snapshot(disk)
    content = disk.bytes_of("file")
    for place in range(len(content)):
        content[place] ^= 0x20
        with pytest.raises(DamagedSnapshot, match=r"^file is damaged at byte \d+ of \d+: .*an earlier one"):
            read_snapshot(disk, "file")
        content[place] ^= 0x20
    read_snapshot(disk, "file")


def test_a_file_that_was_cut_off_is_none() -> None:
    disk = MemoryDisk()
    write_snapshot(disk)
    whole = bytes(disk.bytes_of("file"))
    for size in range(len(whole)):
        disk.bytes_of("file")[:] = whole[:size]
        with pytest.raises(DamagedSnapshot, match="an earlier one"):
            read_snapshot(disk, "file")


def test_what_is_something_else_is_said_to_be_no_snapshot() -> None:
    disk = MemoryDisk()
    disk.open("file", create=True).append(b"something else" * 100)
    with pytest.raises(DamagedSnapshot, match="file is damaged at byte 0 of 1400: it is no image of a snapshot"):
        read_snapshot(disk, "file")


def test_the_image_of_another_application_is_refused() -> None:
    disk = MemoryDisk()
    with pytest.raises(DamagedSnapshot, match="is whole, but can't be read"):
        save(disk, "file", Snapshot(5, 1), [b"not the metadata"], partial="file.part", overwrite=False)
    assert disk.list("") == []


def test_a_mesh_that_is_not_founded_has_nothing_to_restore() -> None:
    with pytest.raises(DamagedSnapshot, match="not founded yet"):
        write_snapshot(MemoryDisk(), commands=())


@pytest.mark.parametrize("wrong", ["name", "partitions"])
def test_what_no_mesh_can_have_agreed_on_is_refused_and_not_printed(wrong: str) -> None:
    metadata = Metadata()
    for index, command in enumerate(COMMANDS[:4], start=2):
        metadata.apply(index, wire.encode(command))
    if wrong == "name":
        metadata.nodes[A] = replace(metadata.nodes[A], name="\x1b]0;mine\x07")
    else:
        assert metadata.founding is not None
        metadata.founding = replace(metadata.founding, partitions=2**50, replication=-3)
    history = History(metadata)
    history.replaced(5)
    with pytest.raises(DamagedSnapshot, match="no mesh has agreed") as refused:
        save(MemoryDisk(), "file", Snapshot(5, 3), history.freeze()(), partial="file.part", overwrite=False)
    assert str(refused.value).isprintable()


def test_an_image_beside_a_raft_log_is_such_a_file_too() -> None:
    disk = MemoryDisk()
    metadata = write_log(disk, snapshot_every=len(COMMANDS))
    (name,) = [name for name in disk.list("raft") if name.endswith(".snapshot")]
    assert state(read_snapshot(disk, f"raft/{name}").metadata) == state(metadata)


def test_nothing_is_replaced_unless_it_is_to_be() -> None:
    disk = MemoryDisk()
    write_snapshot(disk)
    before = bytes(disk.bytes_of("file"))
    with pytest.raises(OperatorError, match="file is there already: choose another name, or give --overwrite"):
        write_snapshot(disk, commands=COMMANDS[:3])
    assert bytes(disk.bytes_of("file")) == before
    frozen = read_snapshot(disk, "file")
    pieces = [(20).to_bytes(8, "big"), state(frozen.metadata)]
    save(disk, "file", Snapshot(20, 1), pieces, partial="file.part", overwrite=True)
    assert read_snapshot(disk, "file").snapshot.index == 20


def test_what_ends_in_the_middle_leaves_nothing() -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(200_000)
        raise ConnectionError("the node is gone")

    disk = MemoryDisk()
    with pytest.raises(ConnectionError):
        save(disk, "file", Snapshot(5, 1), pieces(), partial="file.part", overwrite=False)
    assert disk.list("") == []
    disk.space_left = 100
    with pytest.raises(OSError, match="space"):
        write_snapshot(disk)
    assert disk.list("") == []


@pytest.mark.parametrize("power_loss", [False, True], ids=["killed", "power-lost"])
def test_a_crash_before_any_operation_leaves_a_whole_file_or_none(power_loss: bool) -> None:
    is_there = False
    for number in range(1, 30):
        disk = SimDisk("disk", seed=number, faults=DiskFaults(torn_sector_rate=0.3))
        crash_after(disk, number, power_loss=power_loss)
        try:
            write_snapshot(disk)
        except Killed:
            assert not is_there, "it was there before as many operations"
            if disk.exists("file"):
                read_snapshot(disk, "file")
        else:
            disk.on_operation = None
            disk.crash(power_loss=True)
            assert state(read_snapshot(disk, "file").metadata)
            is_there = True
    assert is_there
