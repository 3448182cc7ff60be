"""Operators and the Raft group: what is said when its quorum is lost, and the way out."""

import pytest
import trio

from tests.cli.command import Outcome, meshnode
from tests.process.cluster import Cluster, until
from tests.process.refusals import said_at_end

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


async def said_by(*arguments: object) -> Outcome:
    """What a command says."""
    return await trio.to_thread.run_sync(meshnode, *arguments)


async def test_a_lost_quorum_is_explained_and_recovered_from_the_log_of_one_node(cluster: Cluster) -> None:
    await cluster.form(3)
    kept, *lost = cluster.nodes
    for node in lost:
        node.kill()

    async def sees_it() -> bool:
        status = await cluster.view(kept, "raft_status")
        return status["leader"] is None and len(status["missing"]) == 2

    await until(sees_it, "word of the lost quorum")
    status = await cluster.view(kept, "raft_status")
    assert (status["voters_needed"], sorted(one["name"] for one in status["missing"])) == (2, ["n1", "n2"])
    outcome = await said_by("doctor", "--node", kept.address)
    assert outcome.code == 1
    assert "2 of the voters n0, n1, n2 are needed, 1 are there; missing: n1 (gone for" in outcome.out
    assert "did not confirm" in (await said_by("locks", "--node", kept.address)).message(6)
    outcome = await said_by("raft", "recover", "--data", kept.data)
    assert "is locked by a running node" in outcome.message(1)

    kept.kill()
    refused = await said_by("raft", "recover", "--data", kept.data, "--survivor", "n1")
    assert "a majority of the voters survives" in refused.message(1)
    wrong = await said_by("raft", "recover", "--data", kept.data, "--give-up", "n1")
    assert "are not the voters to give up, n1,n2" in wrong.hint()
    done = await said_by("raft", "recover", "--data", kept.data, "--give-up", "n2,n1", "--json")
    assert done.code == 0, done
    assert "LOST: all that n1, n2 agreed on beyond it" in done.err
    assert done.json["generation"] == 1

    kept.start()

    async def leads() -> bool:
        status = await cluster.view(kept, "raft_status")
        return bool(status["role"] == "leader" and status["voters"] == ["n0"] and status["generation"] == 1)

    await until(leads, "a group again")
    joiner = cluster.new_node()
    joiner.start()

    async def has_joined() -> bool:
        return bool((await cluster.view(joiner, "raft_status"))["leader_name"] == "n0")

    await until(has_joined, "the new node")

    # One of the lost comes back with its old log: it sets that aside, and is a node like any other from then on.
    back = lost[0]
    back.start()
    assert "was recovered, as generation 1, without this node's log" in await said_at_end(back)
    back.start()

    async def has_returned() -> bool:
        status = await cluster.view(back, "raft_status")
        return bool(status["leader_name"] == "n0" and (await cluster.view(back, "status"))["registered"])

    await until(has_returned, "the node that was given up")
