"""Nodes that come and go on purpose."""

import pytest

from meshnode import Unavailable
from tests.process.cluster import PARTITIONS, Cluster
from tests.process.processes import NodeProcess
from tests.process.workload import Workload

pytestmark = pytest.mark.process


@pytest.mark.timeout(120)
async def test_a_node_that_joins_a_running_mesh_gets_its_share_and_serves(cluster: Cluster) -> None:
    await cluster.form(2)
    async with cluster.client() as client:
        workload = Workload(client)
        async with workload.running():
            joined = cluster.new_node()
            joined.start()
            await cluster.settled()
            await workload.all_answer()
        await workload.verify()
    status = await cluster.view(joined, "status")
    assert status["replicas"] == PARTITIONS  # all three nodes hold everything
    assert abs(status["primaries"] - PARTITIONS / 3) <= 2
    assert status["turns_committed"] > 0


@pytest.mark.timeout(150)
async def test_nodes_that_leave_under_load_lose_nothing_the_leader_included(cluster: Cluster) -> None:
    await cluster.form(4)
    leader = await cluster.leader()
    follower = next(node for node in cluster.nodes if node is not leader)
    async with cluster.client() as client:
        workload = Workload(client)
        async with workload.running():
            await _leave(cluster, follower)
            await workload.all_answer()
            await _leave(cluster, leader)
            await workload.all_answer()
        await workload.verify()
    assert (await cluster.leader()).is_running


@pytest.mark.timeout(60)
async def test_the_last_node_refuses_to_leave_and_goes_on(cluster: Cluster) -> None:
    await cluster.form(1)
    with pytest.raises(Unavailable, match=r"the last node can't leave its mesh: .* stop it instead"):
        await cluster.view(cluster.nodes[0], "leave")
    await cluster.settled()


async def _leave(cluster: Cluster, node: NodeProcess) -> None:
    assert await cluster.view(node, "leave", timeout_s=60.0) == {"left": True}
    assert await node.ended(within_s=5.0) == 0
    for other in cluster.nodes:
        if other.is_running:
            assert node.name not in {member["name"] for member in await cluster.view(other, "members")}
            assert node.name not in {name for row in await cluster.rows(other) for name in row["replicas"]}
    await cluster.settled([other for other in cluster.nodes if other.is_running])
