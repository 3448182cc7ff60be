"""Nodes and clients in one process: calls, agents that call agents, predictions, coming and going."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from kernels.reference import forward
from meshnode import AgentError, InvalidArgument, UnknownAgentType, UnknownMethod
from meshnode.errors import NotFound
from tests.node.mesh import Counter, Receipt, client_of, mesh_of, until
from tests.prediction.networks import network, rows_of


async def test_every_node_and_a_client_call_every_agent(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b", "c") as mesh:
        keys = [mesh.key_at(name) for name in "abc"]
        async with client_of(mesh.node("b")) as client:
            callers: dict[str, Any] = {**{name: mesh.node(name) for name in "abc"}, "client": client}
            for key in keys:
                for number, (name, caller) in enumerate(callers.items(), start=1):
                    receipt = await caller.ref(Counter, key).add(who=name)
                    assert receipt == Receipt(number, tuple(list(callers)[:number]))
            for caller in callers.values():
                assert [await caller.ref(Counter, key).total() for key in keys] == [4, 4, 4]
                assert await caller.ref("tally", keys[0]).total() == 4


async def test_errors_arrive_as_what_they_are(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        for caller in (mesh.node("a"), client):
            for name in "ab":
                key = mesh.key_at(name)
                with pytest.raises(AgentError, match="out of paper") as caught:
                    await caller.ref(Counter, key).fail("out of paper")
                assert caught.value.error_type == "ValueError"
                with pytest.raises(InvalidArgument, match="not like this"):
                    await caller.ref(Counter, key).refuse()
                with pytest.raises(InvalidArgument, match=r"add\(n: int = 1.*argument 'n': Expected `int`, got `str`"):
                    await caller.ref("tally", key).add("one")
                with pytest.raises(UnknownMethod, match="has no handler 'subtract'"):
                    await caller.ref("tally", key).subtract()
                with pytest.raises(UnknownAgentType, match=r"no agent type 'telly'; .* meshnode.model, tally"):
                    await caller.ref("telly", key).add()
                assert await caller.ref(Counter, key).total() == 0


async def test_agents_call_agents_and_a_loop_is_refused(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        here, there = mesh.key_at("a"), mesh.key_at("b")
        assert await client.ref(Counter, here).forward(there, 5) == 5
        assert await client.ref(Counter, there).forward(here, 2) == -3
        assert await client.ref(Counter, there).total() == 3
        with pytest.raises(AgentError, match=f"tally/{here} → tally/{there} → tally/{here} would wait for itself"):
            await client.ref(Counter, here).ring([there, here])


async def test_a_request_id_takes_effect_once_whoever_calls(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        key = mesh.key_at("b")
        for caller in (client, mesh.node("a"), mesh.node("b")):
            assert (await caller.ref(Counter, key, request_id="order-1").add(7)).total == 7
        assert (await client.ref(Counter, key, request_id="order-2").add(1)).total == 8


async def test_many_calls_at_once_are_each_counted_once(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                caller: Any = (client, mesh.node("a"), mesh.node("b"))[number % 3]
                nursery.start_soon(caller.ref(Counter, f"agent {number % 10}").add)
        assert [await client.ref(Counter, f"agent {number}").total() for number in range(10)] == [20] * 10


async def test_a_published_model_answers_on_every_node_and_in_turns(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        with pytest.raises(NotFound, match="no model 'digits' was published"):
            await mesh.node("a").predict("digits", rows_of(1))
        assert await mesh.node("a").publish_model("digits", network(1)) == 1
        rows = rows_of(5)
        for name in "ab":
            assert np.allclose(await mesh.node(name).predict("digits", rows), forward(network(1), rows), atol=1e-6)
            found = await client.ref(Counter, mesh.key_at(name)).classify("digits", rows[0].tolist())
            assert found == forward(network(1), rows[:1]).argmax()
        assert await client.publish_model("digits", network(2)) == 2
        for name in "ab":
            while not np.allclose(await mesh.node(name).predict("digits", rows), forward(network(2), rows), atol=1e-6):
                await trio.sleep(0.01)
        with pytest.raises(AgentError, match="NotFound: no model 'letters'"):
            await client.ref(Counter, "x").classify("letters", [1.0])


async def test_a_client_sees_views_of_the_mesh(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        key = mesh.key_at("b")
        await client.ref(Counter, key).add()
        assert sorted(member["name"] for member in await client.view("members")) == ["a", "b"]
        assert (await client.view("locate", type="tally", key=key))["node"] == "b"
        assert [(item["key"], item["node"]) for item in (await client.view("agents"))["agents"]] == [(key, "b")]
        with pytest.raises(NotFound, match="this node has no view 'weather'"):
            await client.view("weather")


# ---- coming and going


async def test_a_node_that_leaves_hands_over_and_what_it_held_stays(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a"), mesh.node("b")) as client:
        keys = [mesh.key_at(name) for name in "ab"]
        for key in keys:
            await client.ref(Counter, key).add(5)
        await mesh.node("b").leave()
        assert mesh.node("b").left.is_set()
        await mesh.stop("b")
        for key in keys:
            assert (await client.ref(Counter, key).add(1)).total == 6
            assert await mesh.node("a").ref(Counter, key).total() == 6
        await mesh.balanced("a")
        assert set(mesh.node("a").metadata.nodes) == {mesh.node("a").node_id}


async def test_calls_go_on_while_a_node_leaves(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh, client_of(mesh.node("a")) as client:
        acknowledged = {f"agent {number}": 0 for number in range(6)}
        has_left = trio.Event()

        async def keep_calling(key: str) -> None:
            while not has_left.is_set():
                acknowledged[key] += 1
                assert (await client.ref(Counter, key).add()).total == acknowledged[key]

        async with trio.open_nursery() as nursery:
            for key in acknowledged:
                nursery.start_soon(keep_calling, key)
            await mesh.node("b").leave()
            has_left.set()
        await mesh.stop("b")
        for key, count in acknowledged.items():
            assert await client.ref(Counter, key).total() == count


async def test_a_node_that_stops_loses_nothing_and_comes_back_with_its_data(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b", "c") as mesh, client_of(mesh.node("a")) as client:
        keys = [mesh.key_at(name) for name in "abc"]
        for key in keys:
            await client.ref(Counter, key).add(5)
        former = mesh.node("c")
        await mesh.stop("c")
        for key in keys:
            assert (await client.ref(Counter, key).add(1)).total == 6
        back = await mesh.start("c")
        assert (back.node_id, back.identity.boot) == (former.node_id, former.identity.boot + 1)
        await until(lambda: any(row.primary == back.node_id for row in back.metadata.rows.values()))
        for key in keys:
            assert await back.ref(Counter, key).total() == 6


async def test_a_mesh_of_one_comes_back_from_its_disk(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        await mesh.node("a").ref(Counter, "x").add(5)
        await mesh.stop("a")
        again = await mesh.start("a")
        assert (await again.ref(Counter, "x").add(1)).total == 6


async def test_a_client_goes_on_when_its_gateway_goes_away(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b", "c") as mesh, client_of(mesh.node("c")) as client:
        key = mesh.key_at("c")
        await client.ref(Counter, key).add(5)
        await mesh.stop("c")
        assert (await client.ref(Counter, key).add(1)).total == 6
        assert sorted(member["name"] for member in await client.view("members")) == ["a", "b", "c"]
