"""Commands for operators of the Raft group."""

import os
from pathlib import Path

from tests.cli.command import meshnode
from tests.process.cluster import Cluster
from tests.process.ports import ReservedPort


def _at(mesh: Cluster) -> tuple[object, ...]:
    return "--node", mesh.nodes[0].address


def test_doctor_sees_nothing_wrong_in_a_mesh_that_is_well(mesh: Cluster) -> None:
    outcome = meshnode("doctor", *_at(mesh))
    assert (outcome.code, outcome.out, outcome.err) == (0, "n0 sees nothing wrong\n", "")
    assert meshnode("doctor", "--json", *_at(mesh)).json == {"name": "n0", "findings": []}


def test_status_says_how_many_voters_are_wanted_and_needed(mesh: Cluster) -> None:
    status = meshnode("raft", "status", "--json", *_at(mesh)).json
    assert (status["voters_wanted"], status["voters_needed"], status["missing"]) == (1, 1, [])
    assert (status["generation"], status["leaderless_s"]) == (0, None)
    assert "(1 wanted, 1 needed)" in meshnode("raft", "status", *_at(mesh)).out


def test_leadership_goes_to_voters_only(mesh: Cluster) -> None:
    (voter,) = meshnode("raft", "status", "--json", *_at(mesh)).json["voters"]
    (other,) = {"n0", "n1"} - {voter}
    assert meshnode("raft", "transfer", *_at(mesh)).message(1) == f"{voter} is the only voter: nobody else can lead"
    assert f"{other} is no voter" in meshnode("raft", "transfer", other, *_at(mesh)).message(1)
    assert meshnode("raft", "transfer", voter, *_at(mesh)).out == f"{voter} leads\n"
    assert "no node 'nobody' is known here" in meshnode("raft", "transfer", "nobody", *_at(mesh)).message(5)
    assert "no node '' is known here" in meshnode("raft", "transfer", "", *_at(mesh)).message(5)


def test_a_node_that_is_alive_is_not_removed(mesh: Cluster) -> None:
    message = meshnode("raft", "remove", "n1", *_at(mesh)).message(1)
    assert message == f"n1 is alive: have it hand over and leave, by meshnode leave --node {mesh.nodes[1].address}"
    assert "no node 'nobody'" in meshnode("raft", "remove", "nobody", *_at(mesh)).message(5)


def test_recover_wants_the_data_directory_of_a_node_that_is_down(mesh: Cluster, tmp_path: Path) -> None:
    data = mesh.nodes[0].data
    assert "locked by a running node" in meshnode("raft", "recover", "--data", data).message(1)
    message = meshnode("raft", "recover", "--data", tmp_path).message(1)
    assert message == f"{tmp_path} is no data directory of a node: it has no file identity"
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_is_taken_at_any_node_and_can_be_looked_at(mesh: Cluster, tmp_path: Path) -> None:
    status = meshnode("raft", "status", "--json", *_at(mesh)).json
    for node in mesh.nodes:
        file = tmp_path / f"{node.name}.snapshot"
        taken = meshnode("raft", "snapshot", file, "--node", node.address, "--json").json
        assert (taken["file"], taken["bytes"], taken["generation"]) == (str(file), file.stat().st_size, 0)
        assert (taken["nodes"], taken["voters"]) == (["n0", "n1"], status["voters"])
        assert (taken["partitions"], taken["term"]) == (mesh.partitions, status["term"])
        assert taken["index"] >= status["applied"]
        del taken["file"]
        assert meshnode("raft", "verify", file, "--json").json == {**taken, "sound": True, "problem": ""}
    text = meshnode("raft", "verify", file)
    assert (text.code, text.out.splitlines()[-1]) == (0, "sound")
    assert text.out.startswith(f"mesh {taken['mesh']}: index {taken['index']} of term {taken['term']}, generation 0\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n0.snapshot", "n1.snapshot"]


def test_a_snapshot_replaces_a_file_only_if_it_is_to(mesh: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    message = meshnode("raft", "snapshot", file, *_at(mesh)).message(1)
    assert message == f"{file} is there already: choose another name, or give --overwrite to replace it"
    assert file.read_bytes() == b"mine"
    assert meshnode("raft", "snapshot", file, "--overwrite", *_at(mesh)).out.startswith(f"{file}: mesh ")
    assert meshnode("raft", "verify", file).code == 0


def test_a_snapshot_that_cant_be_taken_leaves_nothing(mesh: Cluster, tmp_path: Path) -> None:
    port = ReservedPort()
    outcome = meshnode("raft", "snapshot", tmp_path / "file", "--node", f"127.0.0.1:{port.number}")
    port.release()
    assert "can't be reached" in outcome.message(6)
    assert (
        f"{tmp_path / 'no'} is no directory"
        in meshnode("raft", "snapshot", tmp_path / "no" / "file", *_at(mesh)).hint()
    )
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_replaces_no_device(mesh: Cluster, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is no regular file" in meshnode("raft", "snapshot", "--overwrite", pipe, *_at(mesh)).hint()
    assert pipe.is_fifo()


def test_a_damaged_snapshot_is_refused_with_the_place_and_the_way_out(mesh: Cluster, tmp_path: Path) -> None:
    file, data = tmp_path / "file", tmp_path / "data"
    meshnode("raft", "snapshot", file, *_at(mesh))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    message = meshnode("raft", "verify", file).message(1)
    assert message.startswith(f"{file} is damaged at byte ")
    as_json = meshnode("raft", "verify", file, "--json")
    assert (as_json.code, as_json.json) == (1, {"sound": False, "problem": message})
    assert "does not match its checksum. Take another copy of it, or an earlier one" in message
    assert meshnode("raft", "restore", file, data).message(1) == message
    assert not data.exists()


def test_restore_wants_a_directory_that_no_node_uses(mesh: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "file"
    meshnode("raft", "snapshot", file, *_at(mesh))
    message = meshnode("raft", "restore", file, mesh.nodes[1].data, "--discard-newer").message(1)
    assert "locked by a running node" in message
    hint = meshnode("raft", "restore", file, tmp_path / "data", "--alone", "--lost", "n1").hint()
    assert hint == "--alone says that all other nodes are lost: leave out --lost"
    assert "no node 'n7' is known here: choose from n0, n1" in meshnode(
        "raft", "restore", file, tmp_path / "data", "--lost", "n7"
    ).message(5)
    assert "generation 0: choose one above 0" in meshnode(
        "raft", "restore", file, tmp_path / "data", "--generation", "0"
    ).message(1)
    message = meshnode("raft", "restore", file, tmp_path).message(1)
    assert f"{tmp_path} is no data directory of a node, and has other files, such as 'data': give one that" in message
    assert not (tmp_path / "lock").exists()
    done = meshnode("raft", "restore", file, tmp_path / "data", "--lost", "n1", "--json")
    assert done.code == 0
    assert (done.json["generation"], len(done.json["lost"]), done.json["emptied"]) == (1, 1, [])
    assert "NOT IN IT: the state of agents" in done.err
    assert "partitions wait for the copies of n0\n" in done.err
    assert meshnode("raft", "verify", tmp_path / "data", "--json").json["sound"]
