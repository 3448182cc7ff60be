"""Real nodes whose links are over TLS."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from simulations.certificates import Authority
from tests.cli.command import Outcome, meshnode
from tests.process.cluster import Cluster
from tests.process.processes import NodeProcess
from tests.process.refusals import said_at_end
from tests.process.workload import Workload

pytestmark = pytest.mark.process

MIXED = "give both sides --tls-ca, --tls-cert and --tls-key, or neither"


@pytest.fixture
def cluster(clusters: Callable[..., Cluster], tmp_path: Path) -> Cluster:
    """A mesh with TLS, without nodes yet."""
    return clusters(authority=Authority(tmp_path))


@pytest.mark.timeout(120)
async def test_a_mesh_over_tls_goes_on_without_a_killed_node_and_takes_it_back(cluster: Cluster) -> None:
    await cluster.form(3)
    async with cluster.client() as client:
        workload = Workload(client)
        async with workload.running():
            victim = await cluster.primary_of("tally", "0")
            victim.kill()
            await workload.all_answer()
            victim.start()
            await cluster.settled()
            await workload.all_answer()
        await workload.verify()


@pytest.mark.timeout(60)
async def test_commands_and_nodes_need_a_certificate_of_the_ca(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.form(1)
    node = cluster.nodes[0]

    async def members(*options: str) -> Outcome:
        return await trio.to_thread.run_sync(meshnode, "members", "--node", str(node.address), *options)

    assert "n0" in (await members(*cluster.tls_options("me"))).out
    said = (await members()).message(6)
    assert said == f"node {node.address} can't be reached: {node.address} speaks TLS, and this side does not: {MIXED}"
    (tmp_path / "other").mkdir()
    other = Cluster(tmp_path / "other", authority=Authority(tmp_path / "other"))
    assert "is not accepted here: do both" in (await members(*other.tls_options("me"))).message(6)
    for name, value in zip(("CA", "CERT", "KEY"), cluster.tls_options("me")[1::2], strict=True):
        monkeypatch.setenv(f"MESHNODE_TLS_{name}", value)
    assert "n0" in (await members()).out
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.delenv(f"MESHNODE_TLS_{name}")
    plain = NodeProcess(tmp_path, "plain", "--join", str(node.address))
    stranger = NodeProcess(tmp_path, "stranger", "--join", str(node.address), *other.tls_options("stranger"))
    for joiner, reason in (
        (plain, f"{node.address} speaks TLS, and this side does not: {MIXED}"),
        (stranger, f"the certificate of {node.address} is not accepted here: do both sides have certificates"),
    ):
        try:
            joiner.start()
            assert (await said_at_end(joiner)).startswith(reason)
        finally:
            joiner.discard()
    assert "Traceback" not in node.log()
