"""A process that stands still and then goes on as if nothing had happened."""

import signal

import pytest
import trio

from meshnode import Client, OutcomeUnknown
from tests.process.cluster import Cluster, until
from tests.process.counters import Counter, TallyAgent
from tests.process.processes import NodeProcess
from tests.process.workload import Workload

pytestmark = pytest.mark.process

PAUSE_S = 15.0
"""Several times a suspicion and a lease: the others have long gone on without it."""

TURN_S = 3.0


@pytest.mark.timeout(150)
async def test_a_paused_primary_commits_nothing_stale_and_rejoins(cluster: Cluster) -> None:
    await cluster.form(3)
    victim = await cluster.primary_of("counter", "slow")
    async with cluster.client() as client:
        workload = Workload(client, timeout_s=30.0)
        async with workload.running(), trio.open_nursery() as nursery:
            totals: list[int] = []

            async def call_slowly() -> None:
                totals.append(await client.ref(Counter, "slow", timeout_s=60.0).dawdle(TURN_S))

            nursery.start_soon(call_slowly)
            await until(lambda: client.ref(Counter, "slow-begun").total(), "the turn that is to be paused")
            victim.signal(signal.SIGSTOP)
            resume_at_s = trio.current_time() + PAUSE_S
            await cluster.serves_everything([node for node in cluster.nodes if node is not victim])
            await workload.all_answer()
            await trio.sleep_until(resume_at_s)
            victim.signal(signal.SIGCONT)
            await cluster.settled()
            await workload.all_answer()
        await workload.verify()
        # The turn has run on the victim and on its successor; one of the two was committed, and made its call once.
        assert totals == [1]
        assert await client.ref(Counter, "slow").total() == 1
        assert await client.ref(Counter, "slow-begun").total() == 1
    assert victim.is_running


@pytest.mark.timeout(90)
async def test_a_primary_that_was_paused_answers_no_stale_read(cluster: Cluster) -> None:
    await cluster.form(3)
    led = await _agents_led_by(cluster, cluster.nodes[2])
    victim, others = cluster.nodes[2], cluster.nodes[:2]
    async with cluster.client(others) as client, cluster.client([victim]) as stale_client:
        for key in led:  # now its client has its routes, a link and sessions
            await stale_client.ref(TallyAgent, key).record(0)
        victim.signal(signal.SIGSTOP)
        await cluster.serves_everything(others)
        for key in led:
            await client.ref(TallyAgent, key).record(1)
        async with trio.open_nursery() as nursery:
            for key in led:
                nursery.start_soon(_expect_both, stale_client, key)
            await trio.sleep(0.2)  # the questions wait in the victim's socket, ahead of all news
            victim.signal(signal.SIGCONT)


@pytest.mark.timeout(90)
async def test_no_operation_is_acknowledged_while_its_other_replicas_stand_still(cluster: Cluster) -> None:
    await cluster.form(3)
    primary, others = cluster.nodes[0], cluster.nodes[1:]
    key, *_ = await _agents_led_by(cluster, primary)
    async with cluster.client([primary]) as client:
        tally = client.ref(TallyAgent, key, timeout_s=2.0)
        await tally.record(0)  # now all that it takes is an answer of one of the two
        for node in others:
            node.signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown):
            await tally.record(1)
        for node in others:
            node.signal(signal.SIGCONT)
        held = await client.ref(TallyAgent, key, timeout_s=30.0).report()
        assert held.numbers() >= {0}
        assert held.doubled == 0
    await cluster.settled()


async def _agents_led_by(cluster: Cluster, node: NodeProcess) -> list[str]:
    return [key for key in map(str, range(20)) if await cluster.primary_of("tally", key) is node]


async def _expect_both(client: Client, key: str) -> None:
    tally = await client.ref(TallyAgent, key, timeout_s=30.0).report()
    assert tally.numbers() == {0, 1}
    assert tally.doubled == 0
