"""``meshnode leave``."""

from pathlib import Path

import pytest
import trio

from meshnode.cli import ask
from tests.cli.command import meshnode
from tests.process.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


def test_a_node_leaves_and_ends_and_the_last_one_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(tmp_path)
    try:
        trio.run(cluster.form, 2)
        stays, leaves = cluster.nodes
        with monkeypatch.context() as patched:
            patched.setattr(ask, "QUIET_S", 0.0)
            outcome = meshnode("leave", "--json", "--node", leaves.address)
        assert (outcome.code, outcome.json) == (0, {"left": True})
        assert outcome.err == "waiting up to 130 s: its replicas are made elsewhere before it goes\n"
        assert trio.run(lambda: leaves.ended(within_s=5.0)) == 0
        members = meshnode("members", "--json", "--node", stays.address).json
        assert [member["name"] for member in members] == [stays.name]
        assert "stop it instead" in meshnode("leave", "--node", stays.address).message(6)
        assert stays.is_running
    finally:
        cluster.close()
