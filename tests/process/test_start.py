"""Starts that can't succeed, or not yet, and ends on request."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster, until
from tests.process.counters import Counter
from tests.process.processes import NodeProcess
from tests.process.refusals import said_at_end

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

END_WITHIN_S = 5.0


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
async def test_a_port_in_use_is_named_and_the_node_starts_once_it_is_free(
    cluster: Cluster, kind: socket.SocketKind
) -> None:
    node = cluster.new_node()
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", node.address.port))
        if kind is socket.SOCK_STREAM:
            other.listen()
        node.start()
        message = await said_at_end(node)
    assert message == f"{node.address} is in use by another process: stop it, or choose another port with --bind"
    node.start()
    await cluster.settled()


async def test_a_node_keeps_asking_its_seed_and_joins_once_that_appears(cluster: Cluster) -> None:
    founder, joiner = cluster.new_node(), cluster.new_node()
    joiner.start()
    await until(lambda: _has_waited(joiner, 4), "four attempts to join")
    warnings = _warnings(joiner)
    assert all(str(founder.address) in str(warning["seeds"]) for warning in warnings)
    pauses = [warning["pause_s"] for warning in warnings]
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]
    founder.start()
    await cluster.settled()


async def test_a_seed_may_be_given_by_name_at_the_first_start_and_later(cluster: Cluster) -> None:
    founder = cluster.new_node()
    joiner = NodeProcess(cluster.root, "n1", "--join", f"localhost:{founder.address.port}")
    cluster.nodes.append(joiner)
    founder.start()
    joiner.start()
    await cluster.settled()
    joiner.kill()
    joiner.start()
    await until(lambda: _has_booted(cluster, joiner, 2), "the second start")
    await cluster.settled()


async def test_a_name_that_a_live_node_has_is_refused_with_that_nodes_address(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.form(1)
    first = cluster.nodes[0]
    second = NodeProcess(tmp_path, first.name, "--join", str(first.address))
    try:
        second.start()
        message = await said_at_end(second)
    finally:
        second.discard()
    assert message == f"a live node at {first.address} is named 'n0' already: choose another --name"
    await cluster.settled()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_nodes_in_order_under_load_and_while_they_wait(
    cluster: Cluster, number: signal.Signals
) -> None:
    await cluster.form(2)
    waiting = NodeProcess(cluster.root, "waiting", "--join", "127.0.0.1:1")
    cluster.nodes.append(waiting)
    waiting.start()
    await until(lambda: _has_waited(waiting, 1), "a node that waits for its seed")
    async with cluster.client() as client:
        await client.ref(Counter, "42").add(1)
        for node in cluster.nodes:
            node.signal(number)
        for node in cluster.nodes:
            assert await node.ended(within_s=END_WITHIN_S) == 0
            assert "Traceback" not in node.log()


async def _has_waited(node: NodeProcess, times: int) -> bool:
    return len(_warnings(node)) >= times


async def _has_booted(cluster: Cluster, node: NodeProcess, boot: int) -> bool:
    return bool((await cluster.view(node, "status"))["boot"] == boot)


def _warnings(node: NodeProcess) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in node.log().splitlines()]
    return [line for line in lines if line["event"] == "no seed let this node in; trying again"]
