"""Commands for operators of the Raft group."""

from pathlib import Path

from tests.cli.command import meshnode
from tests.process.cluster import Cluster


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
    assert "no node 'nobody' is registered" in meshnode("raft", "transfer", "nobody", *_at(mesh)).message(5)


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
