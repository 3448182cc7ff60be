"""Commands that ask a node for a view."""

import socket

import pytest

from meshnode.cli import ask
from tests.cli.command import meshnode
from tests.cli.conftest import SIZE
from tests.process.cluster import PARTITIONS, Cluster
from tests.process.ports import ReservedPort

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("members",), {"name", "id", "address", "state", "boot", "leader", "voter", "primaries", "weight", "zone"}),
        (("raft", "status"), {"name", "role", "term", "leader_name", "commit", "voters", "learners", "followers"}),
        (("agents", "ls"), {"agents", "silent"}),
        (("agents", "locate", "counter/42"), {"node", "partition", "epoch", "replicas", "phase", "why"}),
        (("call", "counter/json", "total"), set()),
        (("devices",), {"name", "device", "batches", "rows"}),
        (("status",), {"name", "boot", "partitions", "active", "primaries", "turns_committed"}),
    ],
)
def test_every_command_prints_one_json_value(mesh: Cluster, command: tuple[str, ...], expected: set[str]) -> None:
    for node in mesh.nodes:
        outcome = meshnode(*command, "--json", "--node", node.address)
        assert (outcome.code, outcome.err) == (0, "")
        value = outcome.json
        found = value[0] if isinstance(value, list) else value
        assert expected <= set(found if isinstance(found, dict) else ())


def test_members_shows_all_nodes_and_one_leader(mesh: Cluster) -> None:
    outcome = meshnode("members", "--node", mesh.nodes[1].address)
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["NAME", "ADDRESS", "STATE", "RAFT", "PRIMARIES", "ID"]
    assert [line.split()[:3] for line in lines[1:]] == [[node.name, str(node.address), "alive"] for node in mesh.nodes]
    assert sum("leader" in line for line in lines) == 1
    assert sum(int(line.split()[4]) for line in lines[1:]) == PARTITIONS


def test_agents_ls_gathers_from_all_nodes_and_locate_agrees(mesh: Cluster) -> None:
    keys = [f"listed-{number}" for number in range(12)]
    for key in keys:
        assert meshnode("call", f"counter/{key}", "add", '{"n": 1}', "--node", mesh.nodes[0].address).code == 0
    listed = meshnode("agents", "ls", "--json", "--node", mesh.nodes[1].address).json
    assert listed["silent"] == []
    homes = {agent["key"]: agent["node"] for agent in listed["agents"] if agent["key"] in keys}
    assert sorted(homes) == sorted(keys)
    assert set(homes.values()) == {node.name for node in mesh.nodes}
    for key in keys[:3]:
        located = meshnode("agents", "locate", f"counter/{key}", "--json", "--node", mesh.nodes[0].address).json
        assert located["node"] == homes[key]
        text = meshnode("agents", "locate", f"counter/{key}", "--node", mesh.nodes[0].address).out
        assert text.startswith(f"counter/{key} is on {homes[key]} (partition {located['partition']}, epoch ")


def test_agents_ls_lists_as_many_as_wanted_and_says_how_many_there_are(
    mesh: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        assert meshnode("call", f"counter/page-{number}", "add", '{"n": 1}', "--node", mesh.nodes[0].address).code == 0
    at = ("--node", mesh.nodes[1].address)
    whole = meshnode("agents", "ls", "--json", *at).json
    assert len(whole["agents"]) == whole["total"]
    names = [f"{agent['type']}/{agent['key']}" for agent in whole["agents"]]
    assert names == sorted(names)
    monkeypatch.setattr(ask, "PAGE_MAX", 2)  # several answers make one list
    for limit in (1, 2, 5, len(names) - 1, len(names), len(names) + 1):
        listed = meshnode("agents", "ls", "--json", "--limit", limit, *at).json
        assert listed == {**whole, "agents": whole["agents"][:limit]}
    begin = names.index("counter/page-2")
    lines = meshnode("agents", "ls", "--limit", 3, "--after", "counter/page-1", *at).out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == names[begin : begin + 3]
    assert lines[-1] == f"(3 of {len(names)}: --after counter/page-4 shows those that follow)"
    assert "(" not in meshnode("agents", "ls", *at).out
    assert "'page' is not TYPE/KEY" in meshnode("agents", "ls", "--after", "page").hint()


def test_locate_says_by_name_where_an_agent_is_and_that_its_type_does_not_exist(mesh: Cluster) -> None:
    at = ("--node", mesh.nodes[0].address)
    ids = {member["id"] for member in meshnode("members", "--json", *at).json}
    text = meshnode("agents", "locate", "counter/42", *at).out
    assert not any(node_id in text for node_id in ids)
    assert all(f" {node.name}: number " in text for node in mesh.nodes)
    assert "offers no agent type" not in text
    lines = meshnode("agents", "locate", "cuonter/42", *at).out.splitlines()
    assert lines[0].startswith(f"{mesh.nodes[0].address} offers no agent type 'cuonter'; its application has: ")
    assert "counter" in lines[0]
    assert meshnode("agents", "locate", "cuonter/42", "--json", *at).json["offered"] is False
    assert "a key is a string of 1 to 512" in meshnode("agents", "locate", f"counter/{'k' * 513}", *at).message(1)


def test_raft_status_names_the_leader_for_people(mesh: Cluster) -> None:
    leader = meshnode("raft", "status", "--json", "--node", mesh.nodes[0].address).json["leader_name"]
    for node in mesh.nodes:
        text = meshnode("raft", "status", "--node", node.address).out
        role = "leader" if node.name == leader else "follower"
        assert text.startswith(f"{node.name} is {role} in term ")
        assert f"leader {leader}" in text


def test_a_leader_does_not_follow_itself_and_ids_stand_beside_names(mesh: Cluster) -> None:
    ids = {member["name"]: member["id"] for member in meshnode("members", "--json", *_at(mesh, 0)).json}
    statuses = [meshnode("raft", "status", "--json", *_at(mesh, number)).json for number in range(SIZE)]
    for status in statuses:
        assert [ids[name] for name in status["voters"]] == status["voter_ids"]
        assert [ids[name] for name in status["learners"]] == status["learner_ids"]
        assert sorted((*status["voters"], *status["learners"])) == sorted(ids)
    (leading,) = (status for status in statuses if status["role"] == "leader")
    assert [peer["name"] for peer in leading["followers"]] == [name for name in ids if name != leading["name"]]


def _at(mesh: Cluster, number: int) -> tuple[str, str]:
    return "--node", str(mesh.nodes[number].address)


def test_a_port_where_nobody_listens_is_said_at_once() -> None:
    port = ReservedPort()
    message = meshnode("members", "--node", f"127.0.0.1:{port.number}").message(6)
    port.release()
    assert f"node 127.0.0.1:{port.number} can't be reached" in message
    assert "is --node right?" in message


@pytest.mark.parametrize(
    "command", [("members",), ("status",), ("leave",), ("call", "counter/42", "total", "--timeout", "1")]
)
def test_a_process_that_never_answers_is_given_up(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        message = meshnode(*command, "--node", address).message(6)
    assert address in message or "no node has answered yet" in message


def test_help_and_version_need_no_node() -> None:
    assert meshnode("--version").out.startswith("meshnode, version ")
    commands = ["run", "members", "raft", "agents", "call", "devices", "status", "leave"]
    assert all(command in meshnode("--help").out for command in commands)
    for command in (["run"], ["members"], ["raft", "status"], ["agents", "ls"], ["agents", "locate"], ["call"]):
        assert "--help" in meshnode(*command, "--help").out
