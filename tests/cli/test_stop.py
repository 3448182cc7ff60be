"""A node that is told to stop."""

import json
import signal
from pathlib import Path

import pytest
import trio

from tests.process.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


def test_a_node_that_is_stopped_by_a_signal_says_so_once(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        node = cluster.new_node()
        for number in (signal.SIGTERM, signal.SIGINT):
            node.start()
            trio.run(cluster.settled)
            node.signal(number)
            assert trio.run(lambda: node.ended(within_s=5.0)) == 0
        lines = [json.loads(line) for line in node.log().splitlines()]
        stops = [(line["node"], line["signal"], line["level"]) for line in lines if line["event"] == "node stops"]
        assert stops == [("n0", "SIGTERM", "info"), ("n0", "SIGINT", "info")]
    finally:
        cluster.close()
