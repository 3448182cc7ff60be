"""Processes that die without a word."""

import functools
import re

import pytest
import trio

from meshnode import Client, OutcomeUnknown, Unavailable
from meshnode.placement import partition_of
from tests.process.cluster import PARTITIONS, Cluster, until
from tests.process.counters import TallyAgent
from tests.process.workload import Workload

pytestmark = pytest.mark.process


@pytest.mark.timeout(120)
async def test_a_killed_node_costs_no_acknowledged_operation_and_returns_as_a_member(cluster: Cluster) -> None:
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
    assert '"boot": 2' in victim.log()


@pytest.mark.timeout(120)
async def test_partitions_whose_primary_lives_go_on_in_their_epoch_when_a_replica_is_killed(cluster: Cluster) -> None:
    await cluster.form(3)
    async with cluster.client() as client:
        workload = Workload(client)
        async with workload.running():
            victim = cluster.nodes[1]
            before = await cluster.rows(cluster.nodes[0])
            victim.kill()
            await cluster.serves_everything([cluster.nodes[0], cluster.nodes[2]])
            after = await cluster.rows(cluster.nodes[0])
            spared = [row for row in before if row["primary"] != victim.name]
            assert 0 < len(spared) < PARTITIONS
            assert all(victim.name in row["replicas"] for row in spared)
            assert [after[row["partition"]]["epoch"] for row in spared] == [row["epoch"] for row in spared]
            await workload.all_answer()
        await workload.verify()


@pytest.mark.timeout(120)
async def test_the_mesh_elects_another_leader_when_the_raft_leader_is_killed(cluster: Cluster) -> None:
    await cluster.form(3)
    async with cluster.client() as client:
        workload = Workload(client)
        async with workload.running():
            victim = await cluster.leader()
            victim.kill()
            await workload.all_answer()
            assert await cluster.leader() is not victim
        await workload.verify()


@pytest.mark.timeout(180)
async def test_agents_without_a_majority_wait_for_one_and_the_rest_goes_on(cluster: Cluster) -> None:
    await cluster.form(5)
    lost = set(cluster.nodes[3:])
    kept = cluster.nodes[:3]
    async with cluster.client(kept) as client:
        workload = Workload(client, timeout_s=30.0)
        bereft: list[str] = []
        async with workload.running():
            rows = await cluster.rows()
            names = {node.name for node in lost}
            for ledger in workload.ledgers:
                if len(names.intersection(rows[partition_of("tally", ledger.key, PARTITIONS)]["replicas"])) == 2:
                    bereft.append(ledger.key)
            assert 0 < len(bereft) < len(workload.ledgers)
            for node in lost:
                node.kill()
            spared = [ledger.key for ledger in workload.ledgers if ledger.key not in bereft]
            await workload.all_answer(keys=spared)
            for key in bereft:
                await until(functools.partial(_is_refused, client, key), f"a refusal of tally/{key}")
            cluster.nodes[3].start()
            await workload.all_answer(within_s=60.0)
        await workload.verify()


async def _is_refused(client: Client, key: str) -> bool:
    """Whether a call is refused with the reason; one that may have reached a dying primary has an unknown outcome."""
    with trio.fail_after(10):
        try:
            await client.ref(TallyAgent, key, timeout_s=1.0).report()
        except Unavailable as error:
            return (
                re.search("majority of its replicas|node [0-9a-f]{16}( at [0-9.:]+)? can't be reached", str(error))
                is not None
            )
        except OutcomeUnknown:
            return False
    raise AssertionError(f"tally/{key} answers without a majority of its replicas")


@pytest.mark.timeout(180)
async def test_nothing_acknowledged_is_lost_when_all_nodes_are_killed_and_start_again(cluster: Cluster) -> None:
    await cluster.form(5)
    async with cluster.client() as client:
        workload = Workload(client, timeout_s=10.0)
        async with workload.running():
            for node in cluster.nodes:
                node.kill()
            for node in cluster.nodes:
                node.start()
            await cluster.serves_everything(cluster.nodes)
            await workload.all_answer()
        await workload.verify()
