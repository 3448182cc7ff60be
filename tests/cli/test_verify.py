"""`meshnode raft verify`: what a log has, and what is damaged, without a node."""

import hashlib
from pathlib import Path

import pytest

from consensus.config import LogConfig
from consensus.errors import CorruptLog
from consensus.messages import Configuration, Entry, HardState, Snapshot
from consensus.opening import open_log
from consensus.storage import DurableLog
from meshnode.data_directory import Identity, Standing, save_identity
from meshnode.identity import Boot, MeshId, NodeId
from meshnode.real_disk import PlainDisk
from tests.cli.command import meshnode
from tests.consensus.disks import OsDisk

OWNER = b"mesh and node"
SMALL = LogConfig(segment_bytes=500, snapshot_log_bytes=1, kept_log_bytes=100)


def append(log: DurableLog, count: int) -> None:
    for _ in range(count):
        index = log.last_index() + 1
        log.append(HardState(2, 1, index - 1), [Entry(2, index, data=b"entry %d" % index * 5)])
        log.sync()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A log of several files with two snapshots; 30 entries, the first ones compacted."""
    log = open_log(OsDisk(tmp_path), "", owner=OWNER, config=SMALL)
    for index in (10, 20):
        append(log, 10)
        described = Snapshot(index, 2, Configuration(voters=(1, 2)))
        log.record_snapshot(log.images.write(described, [b"state" * index]))
    append(log, 10)
    log.close()
    return tmp_path


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir()}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def logs(root: Path) -> list[Path]:
    return sorted(root.glob("*.log"))


def test_a_sound_log_is_described_and_left_as_it_is(root: Path) -> None:
    before = digests(root)
    outcome = meshnode("raft", "verify", root, "--json")
    assert outcome.code == 0
    found = outcome.json
    assert (found["sound"], found["problem"], found["damages"], found["lost"]) == (True, "", [], None)
    assert (found["last"], found["last_term"], found["term"], found["commit"]) == (30, 2, 2, 29)
    assert found["vote"] == f"{1:016x}"
    assert found["entries"] == 30 - found["first"] + 1
    assert 1 < found["first"] <= 21
    assert found["owner"] == OWNER.hex()
    assert [one["index"] for one in found["snapshots"]] == [10, 20]
    assert all(one["sound"] and (root / one["path"]).stat().st_size == one["bytes"] for one in found["snapshots"])
    assert [one["path"] for one in found["files"]] == [path.name for path in logs(root)]
    assert sum(one["entries"] for one in found["files"]) >= found["entries"]
    assert digests(root) == before
    text = meshnode("raft", "verify", root)
    assert text.out.endswith("\nsound\n")
    assert f"entries {found['first']} to 30" in text.out


def test_damage_to_an_entry_is_named_and_what_the_others_will_give_back(root: Path) -> None:
    path = logs(root)[-1]
    content = path.read_bytes()
    flip(path, content.index(b"entry 30"))
    outcome = meshnode("raft", "verify", root, "--json")
    assert outcome.code == 1
    (damage,) = outcome.json["damages"]
    assert damage["path"] == path.name
    assert 0 < damage["offset"] < content.index(b"entry 30")
    assert outcome.json["lost"] == {"index": 30, "term": 2}
    assert (outcome.json["last"], outcome.json["problem"]) == (29, "")
    text = meshnode("raft", "verify", root)
    assert f"DAMAGED {path.name} is damaged at byte {damage['offset']} of" in text.out
    assert text.out.endswith("\nnot sound\n")
    log = open_log(OsDisk(root), "", owner=OWNER, config=SMALL)
    assert (log.last_index(), log.lost() is not None) == (29, True)


def test_damage_after_which_a_node_cannot_start_is_told_with_the_way_out(root: Path) -> None:
    path = logs(root)[-1]
    content = path.read_bytes()
    flip(path, content.rindex(b"\xab\x02Lg"))
    outcome = meshnode("raft", "verify", root)
    assert outcome.code == 1
    assert "THE NODE CAN'T START" in outcome.out
    assert "Start with an empty data directory" in outcome.out
    with pytest.raises(CorruptLog, match="for whom the node voted"):
        open_log(OsDisk(root), "", owner=OWNER, config=SMALL)


def test_a_damaged_snapshot_is_named(root: Path) -> None:
    path = sorted(root.glob("*.snapshot"))[-1]
    flip(path, path.stat().st_size // 2)
    outcome = meshnode("raft", "verify", root, "--json")
    assert outcome.code == 1
    assert [one["sound"] for one in outcome.json["snapshots"]] == [True, False]
    (damage,) = outcome.json["damages"]
    assert damage["path"] == path.name
    assert outcome.json["last"] == 30
    assert "nothing is lost by that" in meshnode("raft", "verify", root).out


def test_a_file_that_is_missing_is_noticed(root: Path) -> None:
    logs(root)[-2].unlink()
    outcome = meshnode("raft", "verify", root, "--json")
    assert outcome.code == 1
    assert "is missing" in outcome.json["damages"][0]["what"]


def test_what_was_being_written_is_no_damage(root: Path) -> None:
    path = logs(root)[-1]
    with path.open("ab") as file:
        file.write(b"\xa5" * 3 + bytes(100))
    outcome = meshnode("raft", "verify", root, "--json")
    assert outcome.code == 0
    assert outcome.json["files"][-1]["torn_bytes"] == 103


def test_room_that_was_made_ahead_is_said_to_be_that(root: Path) -> None:
    with logs(root)[-1].open("ab") as file:
        file.write(bytes(100))
    outcome = meshnode("raft", "verify", root, "--json")
    assert outcome.code == 0
    assert (outcome.json["files"][-1]["torn_bytes"], outcome.json["files"][-1]["room_bytes"]) == (0, 100)
    assert "of which 100 are room made ahead" in meshnode("raft", "verify", root).out


def test_a_log_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00000001-00000000000000000001.log").write_bytes(b"something else that is long enough" * 3)
    outcome = meshnode("raft", "verify", tmp_path)
    assert outcome.code == 1
    assert "not sound" in outcome.out


def test_a_directory_without_a_log_is_refused(tmp_path: Path) -> None:
    message = meshnode("raft", "verify", tmp_path).message(1)
    assert message == f"{tmp_path} is no data directory of a node: it has no file identity, and no files of a log"
    save_identity(PlainDisk(str(tmp_path)), Identity(NodeId(5), Boot(1), Standing.MEMBER, MeshId(bytes(16))))
    assert f"{tmp_path} has no raft: its Raft log is gone" in meshnode("raft", "verify", tmp_path).message(1)
