"""Commands about locks and the replicated configuration."""

import json
import subprocess

import pytest
import trio

from meshnode import Client, parse_address
from tests.cli.command import meshnode
from tests.process.cluster import Cluster
from tests.process.ports import ReservedPort
from tests.process.processes import MESHNODE, die_with_parent

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


def test_what_one_node_was_told_another_one_tells(mesh: Cluster) -> None:
    one, other = (["--node", node.address] for node in mesh.nodes)
    put = meshnode("config", "put", "ui/colour", "grün", "--json", *one)
    assert (put.code, put.err, put.json["key"]) == (0, "", "ui/colour")
    assert meshnode("config", "get", "ui/colour", *other).out == "grün\n"
    found = meshnode("config", "get", "ui/colour", "--json", *other).json
    assert (found["value"], found["version"], found["modified"]) == ("grün", 1, put.json["revision"])
    listed = meshnode("config", "list", "ui/", "--json", *other).json
    assert (listed["entries"], listed["revision"]) == ([found], put.json["revision"])
    assert meshnode("config", "list", "ui/", *other).out.splitlines()[1].split()[:2] == ["ui/colour", "grün"]
    assert meshnode("config", "delete", "ui/colour", "--json", *other).json == {"key": "ui/colour", "deleted": True}
    assert "was not there" in meshnode("config", "delete", "ui/colour", *one).out
    message = meshnode("config", "get", "ui/colour", *one).message(5)
    assert message.startswith("the configuration has no key 'ui/colour': 'meshnode config list'")


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        (("config", "put", "", "v"), 1, "a key is empty"),
        (("config", "put", "k", "v", "--ttl", "0.2"), 1, "a TTL of 0.2 s: choose 1 to 86400 s"),
        (("config", "put", "k", "v", "--ttl", "0"), 1, "a TTL of 0 s: choose 1 to 86400 s"),
        (("config", "put", "k", "v" * 70_000), 1, "has 70000 bytes and at most 65536 may"),
        (("config", "watch", "--after", "-1"), 1, "revision -1 is below 0: watch after 0"),
    ],
)
def test_what_is_out_of_bounds_says_the_way_out(mesh: Cluster, command: tuple[str, ...], code: int, why: str) -> None:
    assert why in meshnode(*command, "--node", mesh.nodes[0].address).message(code)


@pytest.mark.parametrize("command", [("locks",), ("config", "get", "k"), ("config", "watch")])
def test_a_node_that_is_not_there_is_said_so_at_once(command: tuple[str, ...]) -> None:
    port = ReservedPort()
    address = f"127.0.0.1:{port.number}"
    assert f"node {address} can't be reached" in meshnode(*command, "--node", address).message(6)
    port.release()


def test_a_watch_goes_on_where_it_was_told_to(mesh: Cluster) -> None:
    at = ["--node", str(mesh.nodes[0].address)]
    first = meshnode("config", "put", "w/a", "1", "--json", *at).json["revision"]
    meshnode("config", "put", "w/a", "2", *at)
    meshnode("config", "delete", "w/a", *at)
    command = [MESHNODE, "config", "watch", "w/", "--after", str(first), "--json", *at]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=die_with_parent()) as watching:
        assert watching.stdout is not None
        seen = [json.loads(watching.stdout.readline()) for _ in range(2)]
        meshnode("config", "put", "w/b", "3", *at)
        seen.append(json.loads(watching.stdout.readline()))
        watching.kill()
    assert [(change["kind"], change["key"], change["value"]) for change in seen] == [
        ("put", "w/a", "2"),
        ("deleted", "w/a", None),
        ("put", "w/b", "3"),
    ]
    assert seen[0]["revision"] > first


def test_locks_shows_who_holds_what_and_who_waits(mesh: Cluster) -> None:
    one, other = mesh.nodes

    async def main() -> None:
        async with (
            Client([parse_address(str(one.address))]) as client,
            client.lock("printer", "paper") as lock,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(wait)
            while True:
                shown = await trio.to_thread.run_sync(lambda: meshnode("locks", "--json", "--node", other.address))
                found = {held["name"]: held for held in shown.json}
                if found["printer"]["waiting"]:
                    break
            assert found["paper"]["waiting"] == []
            holder = found["printer"]["holder"]
            assert (holder["name"], holder["token"], holder["names"]) == ("client", lock.token, ["printer", "paper"])
            (waiter,) = found["printer"]["waiting"]
            assert (waiter["token"], waiter["names"]) == (None, ["printer"])
            text = await trio.to_thread.run_sync(lambda: meshnode("locks", "--prefix", "pr", "--node", other.address))
            line = text.out.splitlines()[1].split()
            assert (line[0], line[1], line[2], line[-1]) == ("printer", "client", str(lock.token), "client")
            nursery.cancel_scope.cancel()

    async def wait() -> None:
        async with Client([parse_address(str(other.address))]) as client, client.lock("printer"):
            raise AssertionError("it is held")

    trio.run(main)
