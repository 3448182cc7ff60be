"""How a node begins and ends, and what it says when it can't."""

import contextlib
import dataclasses
import errno
import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import pytest
import trio

from meshnode import Address, Client, Node, OperatorError, OutcomeUnknown, Unavailable
from meshnode.agents.definition import Agent, agent
from meshnode.control import Join, Joined, Routes
from meshnode.errors import DataDirectoryError, NameTaken, StorageFailed, WrongMesh
from meshnode.host import RealHost
from meshnode.identity import Boot, MeshId, NodeId
from meshnode.joining import join_mesh
from meshnode.links import Channel, Hello, Links, LinksConfig, Requests, Role
from meshnode.metadata.commands import Leaving, Register
from meshnode.metadata.group import open_raft_log
from meshnode.partitions.driver import Partitions
from meshnode.real_disk import RealFile
from tests.node.mesh import GUARD_S, Counter, Mesh, Tally, client_of, config_of, mesh_of, until

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def raised_by(node: Node) -> BaseException:
    """The one error that ends the node, out of whatever groups."""
    with trio.fail_after(GUARD_S):
        try:
            async with node:
                await trio.sleep_forever()
        except BaseException as error:
            leaf: BaseException = error
            while isinstance(leaf, BaseExceptionGroup):
                (leaf,) = leaf.exceptions
            if isinstance(leaf, trio.Cancelled | trio.TooSlowError):
                raise
            return leaf
    raise AssertionError("the node did not end")


async def test_two_live_nodes_can_not_have_one_name(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        config = dataclasses.replace(config_of("a", tmp_path / "other"), join=[mesh.node("a").address])
        error = await raised_by(Node(config))
        assert isinstance(error, NameTaken)
        assert "is named 'a' already: choose another --name" in str(error)
        assert (await mesh.node("a").ref(Counter, "x").add()).total == 1


async def test_a_data_directory_serves_one_node_at_a_time(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a"):
        error = await raised_by(Node(config_of("a", tmp_path, found=True)))
        assert isinstance(error, DataDirectoryError)
        assert str(tmp_path / "a") in str(error)


async def test_an_empty_data_directory_needs_a_mesh(tmp_path: Path) -> None:
    error = await raised_by(Node(config_of("a", tmp_path)))
    assert isinstance(error, OperatorError)
    assert "give --found on the first node" in str(error)


async def test_an_address_is_bound_once(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        error = await raised_by(Node(config_of("b", tmp_path, bind=mesh.node("a").address, found=True)))
        assert isinstance(error, OperatorError)
        assert "is in use by another process" in str(error)


async def test_a_node_of_another_mesh_is_not_let_in(tmp_path: Path) -> None:
    async with mesh_of(tmp_path / "one", "a") as one:
        async with mesh_of(tmp_path / "two", "x") as two:
            await two.stop("x")
        host = RealHost()
        hello = Hello(MeshId(b"y" * 16), NodeId(5), Boot(1), Role.NODE, "stranger")
        links = Links(host, LinksConfig(), local=hello, address_of=lambda _node_id: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(links.run, None)
            with pytest.raises(Exception, match="mesh") as caught:
                await links.connect(one.node("a").address)
            assert isinstance(getattr(caught.value, "refusal", None), WrongMesh)
            nursery.cancel_scope.cancel()


async def test_a_node_ends_when_a_later_start_of_it_is_registered(tmp_path: Path) -> None:
    node = Node(config_of("a", tmp_path, found=True))

    async def supersede() -> None:
        await node.group.propose(Register(node.node_id, Boot(node.identity.boot + 1), "copy", node.address))

    ended = pytest.RaisesExc(DataDirectoryError, match="another process runs on a copy of it")
    with trio.fail_after(GUARD_S), pytest.RaisesGroup(ended, flatten_subgroups=True):
        async with node, trio.open_nursery() as nursery:
            nursery.start_soon(supersede)
            await trio.sleep_forever()


async def test_what_can_not_be_registered_is_not_let_in(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        host = RealHost()
        hello = Hello(MeshId(b""), NodeId(5), Boot(1), Role.GUEST, "b")
        links = Links(host, LinksConfig(), local=hello, address_of=lambda _node_id: None)
        requests = Requests[Joined](links, Channel.CONTROL)
        links.on(Channel.CONTROL, lambda peer, joined: requests.answered(peer, joined.number, joined))
        wrong = Register(NodeId(5), Boot(1), "b", Address("127.0.0.1", 7946), weight=0)
        async with trio.open_nursery() as nursery:
            await nursery.start(links.run, None)
            with trio.fail_after(GUARD_S), pytest.raises(OperatorError, match="weight 0 is outside 1 … 1000"):
                await join_mesh(host, links, requests, Join(0, wrong), [mesh.node("a").address])
            nursery.cancel_scope.cancel()
        assert set(mesh.node("a").metadata.nodes) == {mesh.node("a").node_id}


async def test_the_last_node_can_not_leave(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        with pytest.raises(Unavailable, match="the last node can't leave its mesh"):
            await mesh.node("a").leave()
        assert not mesh.node("a").left.is_set()
        assert (await mesh.node("a").ref(Counter, "x").add()).total == 1


async def test_what_a_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with trio.fail_after(GUARD_S):
        with pytest.raises(LookupError, match="mine"):
            async with Node(config_of("a", tmp_path, found=True)):
                raise LookupError("mine")
        with pytest.raises(LookupError, match="mine"):
            async with Client([Address("127.0.0.1", 1)]):
                raise LookupError("mine")


async def test_a_block_that_calls_while_its_node_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what it called left as if it ran: a second call is refused in the same way, however little time it has."""

    def is_full(_file: RealFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    failed = pytest.RaisesExc(StorageFailed, match="No space left on device")
    with trio.fail_after(GUARD_S), pytest.RaisesGroup(failed, flatten_subgroups=True):
        async with Node(config_of("a", tmp_path, found=True), agents=[Counter]) as node:
            assert (await node.ref(Counter, "x").add()).total == 1
            monkeypatch.setattr(RealFile, "sync", is_full)
            try:
                await node.ref(Counter, "y").add()
            finally:
                with trio.CancelScope(shield=True):
                    for timeout_s in (0.1, 0.0):
                        with pytest.raises(Unavailable, match="call through another one"):
                            await node.ref(Counter, "x", timeout_s=timeout_s).add()


def test_a_node_offers_what_its_modules_and_its_program_offer(tmp_path: Path) -> None:
    @agent("other", state=Tally)
    class Other(Agent[Tally]): ...

    config = config_of("a", tmp_path, app=["tests.node.mesh"])
    node = Node(config, agents=[Other])
    assert {definition.name for definition in node.application} == {"tally", "other", "meshnode.model"}
    with pytest.raises(OperatorError, match=r"--app no\.such\.module: No module named 'no'"):
        Node(config_of("a", tmp_path, app=["no.such.module"]))
    with pytest.raises(OperatorError, match=r"--app tests\.node: the module has no class decorated with @agent"):
        Node(config_of("a", tmp_path, app=["tests.node"]))


async def test_a_joining_node_waits_for_its_seed(tmp_path: Path) -> None:
    """Nodes may be started in any order."""
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            listener, address = await RealHost().listen(Address("127.0.0.1", 0))
            await listener.aclose()
            joined = trio.Event()

            async def join() -> None:
                async with Node(config_of("b", tmp_path, join=[address]), agents=[Counter]) as node:
                    joined.set()
                    assert (await node.ref(Counter, "x").add()).total == 1
                    nursery.cancel_scope.cancel()

            nursery.start_soon(join)
            await trio.lowlevel.checkpoint()
            assert not joined.is_set()
            await Mesh(nursery, tmp_path).start("a", bind=address)


# ---- clients


async def test_a_client_without_a_mesh_says_what_it_tried() -> None:
    host = RealHost()
    listener, address = await host.listen(Address("127.0.0.1", 0))
    await listener.aclose()
    with pytest.raises(ValueError, match="name at least one node"):
        Client([])
    with trio.fail_after(GUARD_S):
        async with Client([address]) as client:
            with pytest.raises(Unavailable, match=f"no node could be reached: node {address} can't be reached"):
                await client.ref(Counter, "x", timeout_s=0.3).add()
            with pytest.raises(Unavailable, match=f"{address}"):
                await client.view("members", timeout_s=0.3)


async def test_a_client_can_be_entered_again(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        client = client_of(mesh.node("a"))
        for total in (1, 2):
            async with client:
                assert (await client.ref(Counter, "x").add()).total == total


class SlowToOpen(RealHost):
    """A machine whose Raft log takes until the test says so to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reading = trio.Event()
        self.may_go_on = trio.Event()

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if getattr(work, "func", None) is open_raft_log:
            self.is_reading.set()
            await self.may_go_on.wait()
        return await super().run_blocking(work, *arguments)


async def test_a_call_to_a_node_that_is_starting_is_answered_once_it_has(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        node = mesh.node("a")
        async with client_of(node) as client:
            await client.ref(Counter, "x").add()
            await mesh.stop("a")
            host = SlowToOpen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(functools.partial(mesh.start, "a", host=host, bind=node.address))
                await host.is_reading.wait()
                with pytest.raises((Unavailable, OutcomeUnknown)):
                    await client.ref(Counter, "x", timeout_s=0.5).add()
                host.may_go_on.set()
            assert (await client.ref(Counter, "x", timeout_s=5.0).add()).total == 2


async def test_a_client_leaves_a_node_that_accepts_and_is_silent(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("meshnode.client.ROUTES_TIMEOUT_S", 0.1)
    async with mesh_of(tmp_path, "a") as mesh:
        node = mesh.node("a")
        host = RealHost()
        listener, address = await host.listen(Address("127.0.0.1", 0))
        hello = Hello(node.identity.mesh_id, NodeId(5), Boot(1), Role.NODE, "frozen")
        frozen = Links(host, LinksConfig(), local=hello, address_of=lambda _node_id: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(functools.partial(frozen.run, listener))
            async with Client([address, node.address]) as client:
                assert (await client.ref(Counter, "x").add()).total == 1
            assert frozen.counters.no_handler > 0, "it was asked first"
            nursery.cancel_scope.cancel()


async def test_one_list_of_seeds_serves_all_nodes(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        listener, own = await RealHost().listen(Address("127.0.0.1", 0))
        await listener.aclose()
        named = Address("localhost", own.port)  # the same one, in a form that only the resolver knows
        seeds = [own, named, mesh.node("a").address]
        with trio.fail_after(GUARD_S):
            async with Node(config_of("b", tmp_path, bind=own, join=seeds)) as node:
                assert node.identity.mesh_id == mesh.node("a").identity.mesh_id


async def test_of_two_nodes_that_start_at_once_with_one_name_one_is_let_in(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        seeds = [mesh.node("a").address]
        ended: list[type[BaseException]] = []
        runs = trio.Event()

        async def run(directory: Path) -> None:
            try:
                async with Node(config_of("b", directory, join=seeds)):
                    runs.set()
                    await trio.sleep_forever()
            except* NameTaken:
                ended.append(NameTaken)

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, tmp_path / "one")
                nursery.start_soon(run, tmp_path / "two")
                await runs.wait()
                while not ended:
                    await trio.sleep(0.01)
                assert [record.name for record in mesh.node("a").metadata.nodes.values()] == ["a", "b"]
                nursery.cancel_scope.cancel()
        assert ended == [NameTaken]


async def test_an_address_that_nobody_can_reach_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    for host, reason in (("0.0.0.0", "does not name one machine"), ("224.0.0.1", "does not name one machine"),
                         ("fe80::1%eth0", "has a scope"), ("example", "give an IP address")):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            config_of("b", tmp_path, advertise=Address(host, 7946), insecure=True)
    with pytest.raises(ValueError, match=r"zone 'zzz.* is longer than 255 bytes"):
        config_of("b", tmp_path, zone="z" * 256)


async def test_a_restored_data_directory_is_refused_for_good(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b", "c") as mesh:
        await mesh.balanced("a", "b", "c")
        await mesh.stop("c")
        shutil.copytree(tmp_path / "c", tmp_path / "backup")
        again = await mesh.start("c")
        await until(lambda: mesh.node("a").metadata.boot_of(again.node_id) == again.identity.boot)
        await mesh.stop("c")
        shutil.rmtree(tmp_path / "c")
        shutil.copytree(tmp_path / "backup", tmp_path / "c")
        seeds = [mesh.node("a").address]
        for reason in ("is an old copy, or another", "is an old copy: node .* has gone on elsewhere"):
            error = await raised_by(Node(config_of("c", tmp_path, join=seeds)))
            assert isinstance(error, DataDirectoryError)
            assert re.search(reason, str(error))


async def test_no_partition_message_is_taken_before_the_start_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    receive = Partitions.receive

    def watch(partitions: Partitions, sender: NodeId, message: Any) -> None:
        for node in started:
            if getattr(node, "partitions", None) is partitions:
                taken.append(node.metadata.boot_of(node.node_id) == node.identity.boot)
        receive(partitions, sender, message)

    monkeypatch.setattr(Partitions, "receive", watch)
    started: list[Node] = []
    async with mesh_of(tmp_path, "a", "b", "c") as mesh, client_of(mesh.node("a")) as client:
        key = mesh.key_at("a")
        await client.ref(Counter, key).add(1)
        await mesh.stop("c")
        started.append(await mesh.start("c"))
        await mesh.balanced("a", "b", "c")
        assert (await client.ref(Counter, key).add(1)).total == 2
        with trio.fail_after(GUARD_S):
            while not taken:
                await trio.sleep(0.01)
    assert all(taken)


async def test_of_two_nodes_that_leave_at_once_one_stays(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh:
        await mesh.node("a").ref(Counter, "x").add()
        refused: list[str] = []
        left: list[str] = []

        async def leave(name: str) -> None:
            try:
                await mesh.node(name).leave()
            except Unavailable as error:
                refused.append(f"{name}: {error}")
            else:
                left.append(name)

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                for name in "ab":
                    nursery.start_soon(leave, name)
        (gone,) = left
        (stays,) = {"a", "b"} - {gone}
        assert refused == [
            f"{stays}: the last node can't leave its mesh: nobody is there to take over; stop it instead"
        ]
        await mesh.stop(gone)
        assert (await mesh.node(stays).ref(Counter, "x").add()).total == 2


async def test_a_node_leaves_though_whoever_asked_for_it_waits_no_more(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a", "b") as mesh:
        with trio.move_on_after(0.01):
            await mesh.node("b").leave()
        with trio.fail_after(GUARD_S):
            while not mesh.node("b").metadata.nodes[mesh.node("b").node_id].is_leaving:
                await mesh.node("b").group.propose(Leaving(mesh.node("b").node_id))
            await mesh.node("b").left.wait()
            await mesh.node("b").leave()  # it has, and says nothing else
        assert set(mesh.node("a").metadata.nodes) == {mesh.node("a").node_id}


async def test_many_idle_clients_take_no_answers_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.reception.RECEIVED_MAX", 2)
    async with mesh_of(tmp_path, "a") as mesh, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(mesh.node("a"))) for _ in range(6)]
        for client in clients:
            await client.ref(Counter, "x").add()
        with trio.fail_after(GUARD_S):
            await mesh.start("b")
            for client in clients:
                while len(await client.view("members")) < 2:
                    await trio.sleep(0.05)


async def test_a_client_leaves_a_gateway_that_is_cut_off_from_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mesh_of(tmp_path, "a", "b", "c") as mesh, client_of(mesh.node("c"), mesh.node("b")) as client:
        key = mesh.key_at("a")
        await client.ref(Counter, key).add()
        stale = mesh.node("c").reception
        monkeypatch.setattr(stale, "_routes", lambda question: Routes(question.number, question.version))
        await mesh.stop("a")
        assert (await client.ref(Counter, key, timeout_s=GUARD_S).add()).total == 2
