"""Nodes on trio: three in one run, over a network in memory and a clock that jumps."""

import random
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from consensus.applier import APPLIED_AT_ONCE
from consensus.config import LogConfig, RaftConfig
from consensus.driver import RaftNode
from consensus.environment import Image, RunBlocking, StateMachine
from consensus.errors import (
    ConfigurationRefused,
    CorruptLog,
    LostLog,
    NodeStopped,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    Refusal,
    StorageError,
    StorageFailed,
)
from consensus.founding import founding
from consensus.image import image_path
from consensus.inbox import MESSAGES_MAX
from consensus.messages import Configuration, Entry, EntryKind, HardState, Message, MessageKind, Packet, Role, Snapshot
from consensus.opening import open_log
from consensus.proposals import Envelope, wrap
from consensus.reconfiguration import encode_change
from consensus.status import Status
from consensus.syncing import SlowSyncs
from consensus.waiting import Waiter
from tests.consensus.disks import MemoryDisk
from tests.consensus.group import add_learner, add_voter, remove

DELAY_S = 0.001


class JumpingClock:
    """Trio's own clock, which the tests make jump."""

    def now(self) -> float:
        return trio.current_time()

    async def sleep_until(self, deadline: float) -> None:
        await trio.sleep_until(deadline)


class PartlyQuickSyncs:
    """Some syncs at once, and the others elsewhere."""

    def __init__(self, run_blocking: RunBlocking, rate: float) -> None:
        self._run_blocking = run_blocking
        self._rate = rate
        self._rng = random.Random(7)

    def at_once(self, call: Callable[[], None], /) -> bool:
        is_quick = self._rng.random() < self._rate
        if is_quick:
            call()
        return is_quick

    async def __call__(self, call: Callable[[], None], /) -> None:
        await self._run_blocking(call)


class Machine:
    """Keeps what it is given, and answers with how much that is."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def apply(self, index: int, data: bytes) -> object:
        if data == b"explode":
            raise RuntimeError("the state machine is broken")
        self.data.append(data)
        return (data, len(self.data))

    def freeze(self) -> Image:
        frozen = list(self.data)
        return lambda: (struct.pack(">I", len(data)) + data for data in frozen)

    def restore(self, pieces: Iterable[bytes]) -> Callable[[], None]:
        image, data, at = b"".join(pieces), [], 0
        while at < len(image):
            (size,) = struct.unpack_from(">I", image, at)
            data.append(image[at + 4 : at + 4 + size])
            at += 4 + size
        return lambda: self.replace(data)

    def replace(self, data: list[bytes]) -> None:
        self.data = data


class Steps(trio.abc.Instrument):
    """Counts the steps that tasks take."""

    def __init__(self) -> None:
        self.taken = 0

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.taken += 1


class SteppedMachine(Machine):
    """Counts what is applied in each step."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps
        self.by_step: Counter[int] = Counter()

    def apply(self, index: int, data: bytes) -> object:
        self.by_step[self.steps.taken] += 1
        return super().apply(index, data)


def hang_disk(node: RaftNode) -> None:
    """Let none of its syncs that run elsewhere come back any more."""

    async def hang(_call: Callable[[], None], /) -> None:
        await trio.sleep_forever()

    node._syncs = SlowSyncs(hang)


def proposed_by_2(last: int, count: int, data: bytes) -> tuple[Entry, ...]:
    """Entries behind an index, as node 2 makes them of its own proposals when it leads in term 5."""
    return tuple(Entry(5, last + number, data=wrap(Envelope(2, 1, number, 5), data)) for number in range(1, count + 1))


async def watch(node: RaftNode) -> None:
    """Take note of every change."""
    while True:
        await node.status_changed()


class World:
    """Nodes, their disks, and a network that delays everything by a millisecond."""

    quick_rate = 0.0

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.disks: dict[int, MemoryDisk] = {}
        self.nodes: dict[int, RaftNode] = {}
        self.machines: dict[int, Machine] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.errors: dict[int, BaseException] = {}
        self.lost: Callable[[Message], bool] = lambda message: False
        self.on_image: Callable[[Packet], Packet | None] = lambda packet: packet
        self.sync_takes_s = 0.0002
        self.is_shielded = False
        self.log_config = LogConfig()

    async def start(
        self,
        node: int,
        *,
        founders: tuple[int, ...] = (),
        waiting_bytes_max: int = 1 << 20,
        machine: StateMachine | None = None,
        **settings: Any,
    ) -> RaftNode:
        disk = self.disks.setdefault(node, MemoryDisk())
        log = open_log(disk, "raft", owner=b"%d" % node, config=self.log_config)
        if founders:
            log.append(*founding(founders))
            log.sync()
        self.machines[node] = Machine()
        raft = RaftNode(
            RaftConfig(id=node, **settings),
            log=log,
            machine=machine or self.machines[node],
            clock=JumpingClock(),
            run_blocking=self.run_blocking,
            rng=random.Random(node * 1000 + len(self.scopes)),
            send=self.send,
            syncs=PartlyQuickSyncs(self.run_blocking, self.quick_rate) if self.quick_rate else None,
            waiting_bytes_max=waiting_bytes_max,
        )
        self.nodes[node] = raft
        self.scopes[node] = trio.CancelScope()
        await self.nursery.start(self.run, node, raft)
        return raft

    async def run(self, node: int, raft: RaftNode, task_status: trio.TaskStatus[None]) -> None:
        with self.scopes[node]:
            try:
                await raft.run(task_status=task_status)
            except (StorageError, ExceptionGroup) as error:
                self.errors[node] = error

    async def run_blocking(self, call: Callable[[], None], /) -> None:
        with trio.CancelScope(shield=self.is_shielded):  # as a thread is, once it has begun
            await trio.sleep(self.sync_takes_s)
            call()

    def send(self, message: Packet) -> None:
        if not isinstance(message, Message):
            changed = self.on_image(message)
            if changed is not None:
                self.nursery.start_soon(self.carry, changed)
        elif not self.lost(message):
            self.nursery.start_soon(self.carry, message)

    async def carry(self, message: Packet) -> None:
        await trio.sleep(DELAY_S)
        node = self.nodes.get(message.to)
        if node is not None and not (isinstance(message, Message) and self.lost(message)):
            node.receive(message)

    async def stop(self, node: int, *, power: bool = False) -> None:
        self.scopes[node].cancel()
        with pytest.raises(NodeStopped):
            await watch(self.nodes[node])
        if power:
            self.disks[node] = self.disks[node].after_power_failure(random.Random(node))

    async def failure(self, node: int) -> BaseException:
        """What ends the node."""
        while node not in self.errors:
            await trio.sleep(0.01)
        return self.errors[node]

    def cut(self, *nodes: int) -> None:
        """Lose what crosses between these nodes and the others."""
        self.lost = lambda message: (message.to in nodes) != (message.sender in nodes)

    def heal(self) -> None:
        self.lost = lambda message: False

    async def leader(self, *among: int) -> RaftNode:
        """Wait for a leader among the named nodes that all of them follow."""
        numbers = among or tuple(self.nodes)
        while True:
            statuses = [self.nodes[node].status() for node in numbers]
            (leader, _), *others = {(status.leader, status.term) for status in statuses}
            if leader in numbers and not others and self.nodes[leader].status().role is Role.LEADER:
                return self.nodes[leader]
            await trio.sleep(0.01)

    async def until(self, node: int, wanted: Callable[[Status], bool]) -> Status:
        status = self.nodes[node].status()
        while not wanted(status):
            status = await self.nodes[node].status_changed()
        return status


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield World(nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def three() -> AsyncIterator[World]:
    async with world() as here:
        for node in (1, 2, 3):
            await here.start(node, founders=(1, 2, 3))
        yield here


QUICK_RATES = {"slow disk": 0.0, "quick disk": 1.0, "disk that is slow at times": 0.7}


@pytest.fixture(autouse=True, params=QUICK_RATES)
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds on each."""
    monkeypatch.setattr(World, "quick_rate", QUICK_RATES[request.param])


on_a_slow_disk = pytest.mark.parametrize("disk", ["slow disk"], indirect=True)


def followers_of(here: World, leader: RaftNode) -> list[RaftNode]:
    return [node for node in here.nodes.values() if node is not leader]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Trio with a clock that jumps to the next deadline as soon as nothing else is left to do."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class TestAgreement:
    async def test_a_founder_alone_leads_at_once(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            before = trio.current_time()
            status = await here.until(1, lambda status: status.role is Role.LEADER)
            assert trio.current_time() - before < 0.1
            assert await node.propose(b"a", timeout_s=1.0) == (b"a", 1)
            assert (status.voters, status.learners) == ((1,), ())

    async def test_a_founder_alone_leads_at_once_after_a_restart_however_long_its_log(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await here.until(1, lambda status: status.role is Role.LEADER)
            for number in range(2 * APPLIED_AT_ONCE + 10):
                await node.propose(b"%d" % number, timeout_s=5.0)
            await here.stop(1)
            await here.start(1)
            began = trio.current_time()
            await here.until(1, lambda status: status.role is Role.LEADER)
            assert trio.current_time() < began + 0.1

    @on_a_slow_disk
    async def test_what_a_founder_alone_is_asked_before_it_leads_waits_until_it_does(self) -> None:
        async with world() as here:
            here.sync_takes_s = 0.05
            node = await here.start(1, founders=(1,))
            await trio.sleep(0.01)
            assert node.role is Role.CANDIDATE
            assert await node.propose(b"a", timeout_s=1.0) == (b"a", 1)

    async def test_who_waits_to_lead_is_woken_by_each_election_that_the_node_wins(self) -> None:
        async with three() as here:
            led: list[int] = []

            async def wait(number: int) -> None:
                await here.nodes[number].until_leader()
                led.append(number)

            for number in here.nodes:
                here.nursery.start_soon(wait, number)
            leader = (await here.leader()).status().id
            await trio.sleep(0.1)
            assert led == [leader]
            other = next(number for number in here.nodes if number != leader)
            here.nodes[leader].transfer_leadership(other)
            await here.until(other, lambda status: status.role is Role.LEADER)
            await trio.sleep(0.1)
            assert led == [leader, other]
            with trio.move_on_after(1.0) as waited:
                await here.nodes[leader].until_leader()
            assert waited.cancelled_caught

    async def test_a_node_that_has_stopped_leads_nobody(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await node.until_leader()
            await here.stop(1)
            with trio.move_on_after(1.0) as waited:
                await node.until_leader()
            assert waited.cancelled_caught

    @on_a_slow_disk
    async def test_a_node_that_has_stopped_does_nothing_when_its_disk_comes_back(self) -> None:
        async with world() as here:
            here.is_shielded = True
            node = await here.start(1, founders=(1,))
            await here.until(1, lambda status: status.role is Role.LEADER)
            await node.propose(b"a", timeout_s=1.0)
            await trio.sleep(0.1)
            here.sync_takes_s = 0.05
            node.propose_soon(b"b", timeout_s=1.0, settled=lambda waiter: None)
            await trio.sleep(0.01)
            await here.stop(1)
            await trio.sleep(1.0)
            assert here.machines[1].data == [b"a"]

    @on_a_slow_disk
    async def test_a_node_that_has_stopped_wins_no_election(self) -> None:
        async with world() as here:
            here.sync_takes_s = 0.05
            here.is_shielded = True
            node = await here.start(1, founders=(1,))
            await trio.sleep(0.01)
            assert node.role is Role.CANDIDATE
            await here.stop(1)
            await trio.sleep(1.0)
            assert node.role is Role.CANDIDATE

    async def test_every_proposer_gets_the_result_of_its_own_proposal(self) -> None:
        async with three() as here:
            await here.leader()
            results: dict[bytes, object] = {}

            async def propose(node: RaftNode, data: bytes) -> None:
                results[data] = await node.propose(data, timeout_s=5.0)

            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(propose, here.nodes[1 + number % 3], b"%d" % number)
            assert len(results) == 30
            await trio.sleep(1.0)
            order = here.machines[1].data
            assert results == {data: (data, place) for place, data in enumerate(order, start=1)}
            assert here.machines[2].data == here.machines[3].data == order

    async def test_what_gathers_during_a_sync_shares_the_next_one(self) -> None:
        async with three() as here:
            leader = await here.leader()
            await leader.propose(b"first", timeout_s=1.0)
            here.sync_takes_s = 0.05
            disk = here.disks[leader.status().id]
            before = disk.syncs
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(lambda data: leader.propose(data, timeout_s=5.0), b"%d" % number)
            assert disk.syncs - before <= 3

    async def test_a_node_that_never_rests_shows_what_changes(self) -> None:
        async with three() as here:
            leader = await here.leader()
            here.sync_takes_s = 0.05

            async def go_on() -> None:
                while True:
                    here.nursery.start_soon(lambda: leader.propose(b"more", timeout_s=60.0))
                    await trio.sleep(DELAY_S)

            here.nursery.start_soon(go_on)
            await trio.sleep(1.0)
            for node in here.nodes.values():
                before = node.status().commit
                with trio.fail_after(0.5):
                    while node.status().commit == before:
                        await node.status_changed()

    @on_a_slow_disk
    async def test_a_leader_sends_while_its_own_disk_is_slow(self) -> None:
        """Thesis 10.2.1."""
        async with three() as here:
            leader = await here.leader()
            own = leader.status().id
            slow = trio.Event()
            blocking = here.run_blocking

            async def stuck(call: Callable[[], None], /) -> None:
                await slow.wait()
                await blocking(call)

            leader._syncs = SlowSyncs(stuck)
            with pytest.raises(OutcomeUnknown):
                await leader.propose(b"a", timeout_s=0.5)
            others = [node for node in (1, 2, 3) if node != own]
            assert all(here.nodes[node]._log.last_index() == leader._log.last_index() for node in others)
            slow.set()
            await here.leader()
            await here.until(others[0], lambda status: here.machines[others[0]].data == [b"a"])

    async def test_followers_hear_of_a_commit_with_what_comes_next(self) -> None:
        async with three() as here:
            leader = await here.leader()
            await leader.propose(b"first", timeout_s=1.0)
            await trio.sleep(0.01)
            appends: list[Message] = []

            def note(message: Message) -> bool:
                if message.kind is MessageKind.APPEND:
                    appends.append(message)
                return False

            here.lost = note
            for number in range(20):
                await leader.propose(b"%d" % number, timeout_s=1.0)
            assert [one for one in appends if not one.entries] == []
            await trio.sleep(5 * DELAY_S)
            assert all(len(machine.data) == 21 for machine in here.machines.values())

    async def test_a_follower_that_proposed_hears_of_it_at_once(self) -> None:
        async with three() as here:
            follower = followers_of(here, await here.leader())[0]
            here.sync_takes_s = 0.0
            before = trio.current_time()
            await follower.propose(b"a", timeout_s=1.0)
            assert trio.current_time() - before == pytest.approx(4 * DELAY_S)

    async def test_a_node_that_was_away_catches_up(self) -> None:
        async with three() as here:
            leader = await here.leader()
            away = followers_of(here, leader)[0].status().id
            here.cut(away)
            await leader.propose(b"a", timeout_s=5.0)
            await trio.sleep(10.0)
            here.heal()
            await here.until(away, lambda status: here.machines[away].data == [b"a"])
            status = await here.until(away, lambda status: status.leader != 0)
            assert status.term == leader.status().term, "the pre-vote left the term alone"

    async def test_others_have_their_turn_while_a_long_log_is_applied_in_many_pieces(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,), apply_bytes_max=1000)
            await here.until(1, lambda status: status.role is Role.LEADER)
            count = 4 * APPLIED_AT_ONCE
            node.propose_batch([bytes(500)] * count, timeout_s=5.0, settled=lambda waiter: None)
            await here.until(1, lambda status: len(here.machines[1].data) == count)
            await here.stop(1)
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            machine = SteppedMachine(steps)
            await here.start(1, machine=machine, apply_bytes_max=1000)
            await here.until(1, lambda status: machine.by_step.total() == count)
            assert max(machine.by_step.values()) < 2 * APPLIED_AT_ONCE


class TestFaults:
    async def test_a_leader_that_is_cut_off_steps_down_and_its_proposals_have_unknown_or_no_outcome(self) -> None:
        async with three() as here:
            old = await here.leader()
            own = old.status().id
            here.cut(own)
            with pytest.raises(OutcomeUnknown):
                await old.propose(b"lost", timeout_s=0.5)
            others = [node for node in (1, 2, 3) if node != own]
            new = await here.leader(*others)
            await here.until(own, lambda status: status.role is not Role.LEADER)
            with pytest.raises(ProposalDropped, match="no leader"):
                await old.propose(b"refused", timeout_s=0.5)
            assert await new.propose(b"kept", timeout_s=5.0) == (b"kept", 1)
            here.heal()
            await here.until(own, lambda status: here.machines[own].data == [b"kept"])

    async def test_a_proposal_that_an_old_leader_did_not_keep_is_surely_dropped(self) -> None:
        async with three() as here:
            old = await here.leader()
            own = old.status().id
            outcomes: list[Exception] = []

            async def propose() -> None:
                try:
                    await old.propose(b"lost", timeout_s=100.0)
                except ProposalDropped as dropped:
                    outcomes.append(dropped)

            here.cut(own)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(propose)
                await here.leader(*[node for node in (1, 2, 3) if node != own])
                here.heal()
            assert "was replaced before it could keep the proposal" in str(outcomes[0])
            assert trio.current_time() < 60

    async def test_a_proposal_forwarded_to_a_leader_that_is_gone_is_resolved_by_the_next_term(self) -> None:
        async with three() as here:
            leader = await here.leader()
            own = leader.status().id
            proposer = followers_of(here, leader)[0]
            here.lost = lambda message: message.kind is MessageKind.PROPOSE or own in (message.to, message.sender)
            with pytest.raises(ProposalDropped, match="was replaced"):
                await proposer.propose(b"a", timeout_s=100.0)

    @pytest.mark.parametrize("led", [False, True], ids=["a follower", "the leader"])
    async def test_a_proposal_that_a_snapshot_may_have_brought_is_never_said_to_be_dropped(self, led: bool) -> None:
        async with world() as here:
            here.log_config = LogConfig(segment_bytes=4000, cache_bytes=4000, snapshot_log_bytes=5000, kept_log_bytes=0)
            for node in (1, 2, 3):
                await here.start(node, founders=(1, 2, 3))
            leader = await here.leader()
            proposer = leader if led else followers_of(here, leader)[0]
            outcomes: list[str] = []

            async def propose() -> None:
                try:
                    await proposer.propose(b"agreed on", timeout_s=60.0)
                except (ProposalDropped, OutcomeUnknown) as error:
                    outcomes.append(type(error).__name__)

            here.nursery.start_soon(propose)
            await trio.sleep(1.5 * DELAY_S)  # it is with the others
            away = proposer.status().id
            here.cut(away)
            rest = [node for node in here.nodes if node != away]
            other = await here.leader(*rest)
            for number in range(60):
                await other.propose(b"%d" % number + bytes(300), timeout_s=5.0)
            if not led:
                (next_one,) = {*rest} - {other.status().id}
                other.transfer_leadership(next_one)
                await here.until(next_one, lambda status: status.role is Role.LEADER)
            here.heal()
            await here.until(away, lambda _: b"agreed on" in here.machines[away].data)
            while not outcomes:
                await trio.sleep(0.01)
            assert outcomes == ["OutcomeUnknown"]

    @on_a_slow_disk
    async def test_a_disk_that_hangs_holds_up_nobody_when_the_node_is_stopped(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await node.until_leader()
            here.sync_takes_s = 60.0
            here.is_shielded = True
            outcomes: list[str] = []

            async def note(ask: Callable[[], Awaitable[object]]) -> None:
                try:
                    await ask()
                except (NodeStopped, OutcomeUnknown) as error:
                    outcomes.append(type(error).__name__)

            here.nursery.start_soon(note, lambda: node.propose(b"a", timeout_s=5.0))
            await trio.sleep(0.1)
            here.scopes[1].cancel()
            await trio.sleep(0.1)
            assert outcomes == ["OutcomeUnknown"]
            await note(lambda: node.propose(b"b", timeout_s=5.0))
            await note(lambda: node.read_index(timeout_s=5.0))
            assert outcomes == ["OutcomeUnknown", "NodeStopped", "NodeStopped"]
            assert 1 not in here.errors

    @on_a_slow_disk
    async def test_a_leader_whose_disk_hangs_hands_over(self) -> None:
        async with three() as here:
            leader = await here.leader()
            others = followers_of(here, leader)
            await leader.propose(b"before", timeout_s=5.0)
            hang_disk(leader)
            await others[0].propose(b"agreed on by the others", timeout_s=5.0)
            with trio.fail_after(8.0):
                other = await here.leader(*(one.status().id for one in others))
            assert await other.propose(b"after", timeout_s=5.0) == (b"after", 3)
            with pytest.raises(ProposalDropped, match="before it could be proposed"):
                await leader.propose(b"what would have to wait for the disk", timeout_s=1.0)

    @on_a_slow_disk
    async def test_on_a_follower_whose_disk_hangs_nothing_gathers_however_long_it_does(self) -> None:
        async with three() as here:
            leader = await here.leader()
            await leader.propose(b"a", timeout_s=5.0)
            follower = followers_of(here, leader)[0]
            hang_disk(follower)
            for _ in range(3):
                await leader.propose(b"b", timeout_s=5.0)
            await trio.sleep(1.0)
            before = len(follower._engine._writer._waiting)
            await trio.sleep(60.0)
            assert len(follower._engine._writer._waiting) == before

    async def test_a_majority_that_restarts_after_a_power_failure_has_kept_everything(self) -> None:
        async with three() as here:
            leader = await here.leader()
            for number in range(5):
                await leader.propose(b"%d" % number, timeout_s=5.0)
            for node in (1, 2, 3):
                await here.stop(node, power=True)
            for node in (1, 2, 3):
                await here.start(node)
            leader = await here.leader()
            assert await leader.propose(b"more", timeout_s=5.0) == (b"more", 6)
            await trio.sleep(1.0)
            assert {tuple(machine.data) for machine in here.machines.values()} == {
                (b"0", b"1", b"2", b"3", b"4", b"more")
            }

    async def test_what_an_earlier_start_proposed_answers_nobody_now(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await here.until(1, lambda status: status.role is Role.LEADER)
            assert await node.propose(b"old", timeout_s=1.0) == (b"old", 1)
            await here.stop(1)
            node = await here.start(1)
            await here.until(1, lambda status: status.role is Role.LEADER)
            assert await node.propose(b"new", timeout_s=1.0) == (b"new", 2)

    async def test_a_disk_that_fails_ends_the_node_and_acknowledges_nothing(self) -> None:
        async with three() as here:
            leader = await here.leader()
            own = leader.status().id
            sent: list[Message] = []
            here.disks[own].fail_sync = True

            def lost(message: Message) -> bool:
                if message.sender == own:
                    sent.append(message)
                return False

            here.lost = lost
            with pytest.raises(OutcomeUnknown, match="the node stopped"):
                await leader.propose(b"a", timeout_s=50.0)
            assert not leader.status().running
            assert isinstance(await here.failure(own), StorageFailed)
            assert "input/output error" in str(await here.failure(own))
            with pytest.raises(NodeStopped, match="has stopped"):
                await leader.propose(b"b", timeout_s=1.0)
            with pytest.raises(NodeStopped):
                leader.transfer_leadership(1)
            leader.report_unreachable(2)
            await trio.sleep(0.1)
            before = len(sent)
            await trio.sleep(5.0)
            assert len(sent) == before

    async def test_a_disk_that_fails_stops_a_follower_before_it_answers(self) -> None:
        async with three() as here:
            leader = await here.leader()
            follower = followers_of(here, leader)[0].status().id
            here.disks[follower].space_left = 3
            answers: list[Message] = []

            def lost(message: Message) -> bool:
                if message.sender == follower and message.kind is MessageKind.APPEND_RESPONSE:
                    answers.append(message)
                return False

            here.lost = lost
            await leader.propose(b"a", timeout_s=5.0)
            with pytest.raises(NodeStopped):
                await watch(here.nodes[follower])
            assert isinstance(await here.failure(follower), StorageFailed)
            assert answers == []

    async def test_a_disk_that_went_back_in_time_ends_the_node(self) -> None:
        async with three() as here:
            leader = await here.leader()
            await leader.propose(b"a", timeout_s=5.0)
            follower = followers_of(here, leader)[0].status().id
            here.lost = lambda message: message.kind is MessageKind.APPEND
            await here.stop(follower)
            here.disks[follower] = MemoryDisk()
            await here.start(follower, founders=(1, 2, 3))
            await trio.sleep(3.0)
            assert isinstance(await here.failure(follower), LostLog)

    @staticmethod
    def with_a_damaged_image(voters: tuple[int, ...], *, starts: int = 0) -> MemoryDisk:
        """The disk of node 1, whose log had a snapshot and nothing else, which is damaged; opened so often since."""
        disk = MemoryDisk()
        log = open_log(disk, "raft", owner=b"1")
        snapshot = log.images.write(Snapshot(10, 2, Configuration(voters)), [b""])
        log.append(HardState(2, 1, 10), (), snapshot)
        log.close()
        disk.bytes_of(image_path("raft", snapshot))[-1] ^= 1
        for _ in range(starts):
            open_log(disk, "raft", owner=b"1").close()
        return disk

    @pytest.mark.parametrize(
        ("starts", "what"), [(0, "0{18}10-.*snapshot is damaged"), (1, "found damaged by an earlier start")]
    )
    async def test_a_sole_voter_whose_only_snapshot_is_damaged_says_that_nobody_gives_it_back(
        self, starts: int, what: str
    ) -> None:
        async with world() as here:
            here.disks[1] = self.with_a_damaged_image((1,), starts=starts)
            before = trio.current_time()
            await here.start(1)
            with trio.fail_after(20.0):
                failure = await here.failure(1)
            assert trio.current_time() - before > 9.0
            assert isinstance(failure, CorruptLog)
            assert re.search(
                f"{what}.*the only voter, and no other has been heard.*restore its directory from a copy", str(failure)
            )

    async def test_one_of_several_voters_whose_only_snapshot_is_damaged_goes_on_once_it_has_heard_of_others(
        self,
    ) -> None:
        async with world() as here:
            here.disks[1] = self.with_a_damaged_image((1, 2))
            await here.start(1)
            await trio.sleep(5.0)
            here.nodes[1].receive(Message(MessageKind.PRE_VOTE, 1, 2, 3, index=10, log_term=2))
            await trio.sleep(100.0)
            assert not here.errors
            assert here.nodes[1].status().lost

    async def test_its_patience_begins_with_its_first_turn_and_what_waits_for_that_is_heard(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = RaftNode.run

        async def run_late(node: RaftNode, **keywords: Any) -> None:
            await trio.sleep(11.0)
            node.receive(Message(MessageKind.PRE_VOTE, 1, 2, 3, index=10, log_term=2))
            await run(node, **keywords)

        monkeypatch.setattr(RaftNode, "run", run_late)
        async with world() as here:
            here.disks[1] = self.with_a_damaged_image((1, 2))
            await here.start(1)
            await trio.sleep(100.0)
            assert not here.errors

    async def test_a_node_that_joins_waits_for_a_leader_however_long_it_takes(self) -> None:
        async with world() as here:
            await here.start(1)
            await trio.sleep(1000.0)
            assert not here.errors

    async def test_a_broken_state_machine_ends_the_node(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await here.until(1, lambda status: status.role is Role.LEADER)
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"explode", timeout_s=5.0)
            failure = await here.failure(1)
            assert isinstance(failure, ExceptionGroup)
            assert failure.subgroup(RuntimeError) is not None


class TestManyUnderWay:
    async def test_who_has_many_under_way_hears_of_each(self) -> None:
        async with three() as here:
            leader = await here.leader()
            outcomes: list[object] = []
            for number in range(100):
                leader.propose_soon(b"%d" % number, timeout_s=5.0, settled=lambda it: outcomes.append(it.outcome()))
            await here.until(leader.status().id, lambda status: len(outcomes) == 100)
            assert outcomes == [(b"%d" % number, number + 1) for number in range(100)]

    async def test_who_has_many_under_way_hears_what_became_of_them_when_the_node_stops(self) -> None:
        async with three() as here:
            leader = await here.leader()
            here.cut(leader.status().id)
            waiters: list[Waiter] = []
            leader.propose_soon(b"a", timeout_s=50.0, settled=waiters.append)
            await trio.sleep(0.1)
            await here.stop(leader.status().id)
            with pytest.raises(OutcomeUnknown):
                waiters[0].outcome()
            with pytest.raises(NodeStopped):
                leader.propose_soon(b"a", timeout_s=50.0, settled=waiters.append)
            assert len(waiters) == 1

    @pytest.mark.parametrize("leads", [True, False])
    async def test_many_that_came_together_are_agreed_on_in_their_order_and_end_as_one(self, leads: bool) -> None:
        async with three() as here:
            leader = await here.leader()
            node = leader if leads else followers_of(here, leader)[0]
            outcomes: list[object] = []
            data = [b"%d" % number for number in range(100)]
            node.propose_batch(data, timeout_s=5.0, settled=lambda it: outcomes.append(it.outcome()))
            await here.until(node.status().id, lambda _: bool(outcomes))
            assert outcomes == [[(piece, number + 1) for number, piece in enumerate(data)]]

    async def test_what_is_no_data_is_not_taken(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            with pytest.raises(TypeError, match="'text' is not bytes"):
                await node.propose("text", timeout_s=1.0)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="None is not bytes"):
                node.propose_batch([b"a", None], timeout_s=1.0, settled=lambda _: None)  # type: ignore[list-item]
            assert await node.propose(b"a", timeout_s=1.0) == (b"a", 1)

    async def test_those_that_came_together_fit_in_one_append(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,), append_bytes_max=10)
            waiters: list[Waiter] = []
            with pytest.raises(ValueError, match="nothing is proposed"):
                node.propose_batch([], timeout_s=5.0, settled=waiters.append)
            with pytest.raises(ValueError, match="11 bytes and append_bytes_max is 10"):
                node.propose_batch([b"x" * 6, b"y" * 5], timeout_s=5.0, settled=waiters.append)
            node.propose_batch([b"x" * 5, b"y" * 5], timeout_s=5.0, settled=waiters.append)
            await here.until(1, lambda _: bool(waiters))
            assert waiters[0].outcome() == [(b"xxxxx", 1), (b"yyyyy", 2)]


class TestLimits:
    async def test_a_proposal_that_nobody_answers_ends_in_time(self) -> None:
        async with three() as here:
            leader = await here.leader()
            follower = followers_of(here, leader)[0]
            here.lost = lambda message: message.kind is MessageKind.PROPOSE
            before = trio.current_time()
            with pytest.raises(OutcomeUnknown):
                await follower.propose(b"a", timeout_s=0.25)
            assert trio.current_time() - before == pytest.approx(0.25)

    async def test_one_that_gives_up_waits_no_longer(self) -> None:
        async with three() as here:
            leader = await here.leader()
            here.cut(leader.status().id)
            with trio.move_on_after(0.1) as scope:
                await leader.propose(b"a", timeout_s=50.0)
            assert scope.cancelled_caught
            assert len(leader._proposals) == 0

    @on_a_slow_disk
    async def test_past_the_bound_callers_wait_in_order_or_until_their_time_is_over(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,), waiting_bytes_max=1500)
            await here.until(1, lambda status: status.role is Role.LEADER)
            here.sync_takes_s = 0.1
            async with trio.open_nursery() as nursery:

                async def propose(data: bytes, timeout_s: float) -> None:
                    await node.propose(data, timeout_s=timeout_s)

                async def propose_late() -> None:
                    with pytest.raises(Overloaded, match="earlier proposals were under way"):
                        await node.propose(b"late", timeout_s=0.05)

                nursery.start_soon(propose, b"a" * 900, 5.0)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(propose_late)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(propose, b"b", 5.0)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(Overloaded, match="wait behind them"):
                    await node.propose(b"c" * 500, timeout_s=5.0)
            assert here.machines[1].data == [b"a" * 900, b"b"]
            with pytest.raises(ValueError, match="split it"):
                await node.propose(b"c" * (1 << 21), timeout_s=5.0)

    async def test_a_leader_that_has_taken_on_all_it_may_lets_its_own_callers_wait(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,), uncommitted_bytes_max=100)
            await here.until(1, lambda status: status.role is Role.LEADER)
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(lambda data: node.propose(data, timeout_s=5.0), b"%d" % number)
            assert sorted(here.machines[1].data) == sorted(b"%d" % number for number in range(50))

    async def test_an_alarm_that_finds_a_turn_due_rings_once(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1, 2))
            await trio.sleep(0.01)
            deadline = node._next_deadline()
            assert deadline is not None
            node._turns.soon()
            node._due(deadline)
            later = node._next_deadline()
            assert later is None or later > deadline

    async def test_who_is_told_of_an_outcome_may_propose_what_comes_next(self) -> None:
        async with three() as here:
            leader = await here.leader()
            outcomes: list[object] = []
            is_over = trio.Event()

            def settled(waiter: Waiter) -> None:
                outcomes.append(waiter.outcome())
                if len(outcomes) == 20:
                    is_over.set()
                else:
                    leader.propose_soon(b"%d" % len(outcomes), timeout_s=5.0, settled=settled)

            leader.propose_soon(b"0", timeout_s=5.0, settled=settled)
            await is_over.wait()
            assert outcomes == [(b"%d" % number, number + 1) for number in range(20)]

    async def test_who_is_refused_may_propose_again_and_others_have_their_turn_meanwhile(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1, 2))
            turns = 0
            turns_at: list[int] = []

            def settled(waiter: Waiter) -> None:
                with pytest.raises(ProposalDropped):
                    waiter.outcome()
                turns_at.append(turns)
                if len(turns_at) < 20:
                    node.propose_soon(b"a", timeout_s=5.0, settled=settled)

            node.propose_soon(b"a", timeout_s=5.0, settled=settled)
            while len(turns_at) < 20:
                turns += 1
                await trio.lowlevel.checkpoint()
            assert len({*turns_at}) > 5

    async def test_all_that_can_not_be_proposed_are_refused_at_once(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1, 2), election_timeout_s=100.0)
            refused: list[Waiter] = []
            half = RaftConfig(id=1).append_bytes_max // 2 + 1
            for _ in range(3):
                node.propose_batch([bytes(half)], timeout_s=30.0, settled=refused.append)
            await trio.sleep(1.0)
            assert len(refused) == 3

    async def test_an_inbox_that_is_full_drops(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1, 2))
            message = Message(MessageKind.HEARTBEAT, to=1, sender=2, term=1)
            node.receive(*(MESSAGES_MAX + 5) * [message])
            assert node.status().messages_dropped == 5
            await trio.sleep(0.01)
            node.receive(message)
            assert node.status().messages_dropped == 5

    async def test_what_nobody_should_send_is_counted_and_changes_nothing(self) -> None:
        async with three() as here:
            leader = await here.leader()
            status = leader.status()
            own, term = status.id, status.term
            follower = followers_of(here, leader)[0].status().id

            def proposal(term: int = term, proposer: int = follower, data: bytes = b"a") -> Entry:
                return Entry(0, 0, EntryKind.NORMAL, wrap(Envelope(proposer, 1, 1, term), data))

            kind, change = encode_change(replace(add_learner(2), context=wrap(Envelope(follower, 1, 1, term), b"")))
            offers = [
                Entry(0, 0, EntryKind.NORMAL, b"no envelope"),
                Entry(0, 0, EntryKind.CHANGE, b"\xff"),
                proposal(term=term - 1),
                proposal(proposer=77),
                Entry(0, 0, kind, change),
            ]
            before = status.messages_refused
            leader._raft.propose_change(add_learner(8))
            for offer in offers:
                leader.receive(Message(MessageKind.PROPOSE, to=own, sender=follower, entries=(offer,)))
            leader.receive(Message(MessageKind.HEARTBEAT_RESPONSE, to=own, sender=77, term=term))
            leader.receive(Message(MessageKind.HEARTBEAT, to=9, sender=2, term=term))
            leader.receive(Message(MessageKind.SNAPSHOT, to=own, sender=2, term=term, snapshot=Snapshot(99, 1)))
            await trio.sleep(0.5)
            assert leader.status().messages_refused == before + len(offers) + 3
            assert here.machines[own].data == []
            here.nodes[follower].receive(Message(MessageKind.PROPOSE, to=follower, sender=own, entries=(proposal(),)))
            await trio.sleep(0.5)
            assert here.nodes[follower].status().messages_refused == 1


class TestReads:
    async def test_any_member_reads_what_was_agreed_on_before(self) -> None:
        async with three() as here:
            await here.leader()
            for round_ in range(1, 6):
                for number in (1, 2, 3):
                    await here.nodes[number].propose(b"%d" % round_, timeout_s=5.0)
                    for reader in (1, 2, 3):
                        index = await here.nodes[reader].read_index(timeout_s=5.0)
                        assert here.machines[reader].data[-1] == b"%d" % round_
                        assert here.nodes[reader].status().applied >= index

    async def test_one_round_of_the_leader_answers_all_who_wait(self) -> None:
        async with three() as here:
            leader = await here.leader()
            await leader.propose(b"a", timeout_s=5.0)
            await trio.sleep(0.05)
            rounds = leader._raft._core.rounds
            for node in here.nodes.values():
                before = rounds.last
                async with trio.open_nursery() as nursery:
                    for _ in range(100):
                        nursery.start_soon(lambda node: node.read_index(timeout_s=5.0), node)
                assert rounds.last <= before + 2
                assert len(node._readers) == 0

    async def test_a_leader_that_is_cut_off_answers_no_read(self) -> None:
        async with three() as here:
            old = await here.leader()
            own = old.status().id
            await old.propose(b"a", timeout_s=5.0)
            here.cut(own)
            with pytest.raises(ProposalDropped, match="no leader confirmed"):
                await old.read_index(timeout_s=0.3)
            new = await here.leader(*[node for node in (1, 2, 3) if node != own])
            await new.propose(b"b", timeout_s=5.0)
            waiting = trio.Event()

            async def read() -> None:
                waiting.set()
                await old.read_index(timeout_s=50.0)
                assert here.machines[own].data == [b"a", b"b"]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await waiting.wait()
                await trio.sleep(3.0)
                here.heal()

    async def test_a_read_whose_messages_are_lost_is_asked_again(self) -> None:
        async with three() as here:
            leader = await here.leader()
            follower = followers_of(here, leader)[0]
            lost: list[Message] = []

            def lose(message: Message) -> bool:
                if message.kind is MessageKind.READ_INDEX_RESPONSE and not lost:
                    lost.append(message)
                    return True
                return False

            here.lost = lose
            before = trio.current_time()
            await follower.read_index(timeout_s=5.0)
            assert lost
            assert trio.current_time() - before < 0.3

    async def test_an_answer_on_its_way_to_an_earlier_start_confirms_nothing(self) -> None:
        async with three() as here:
            leader = await here.leader()
            await leader.propose(b"old", timeout_s=5.0)
            await trio.sleep(0.2)
            reader = followers_of(here, leader)[0].status().id
            late: list[Message] = []

            def delay(message: Message) -> bool:
                is_answer = message.kind is MessageKind.READ_INDEX_RESPONSE and message.to == reader
                if is_answer and not late:
                    late.append(message)
                return is_answer

            here.lost = delay
            with pytest.raises(ProposalDropped):
                await here.nodes[reader].read_index(timeout_s=0.1)
            await here.stop(reader)
            here.heal()
            await here.start(reader)
            await here.until(reader, lambda status: status.leader == leader.status().id)
            here.lost = lambda message: message.to == reader and message.kind is MessageKind.APPEND
            await leader.propose(b"new", timeout_s=5.0)
            outcome: list[object] = []

            async def read() -> None:
                await here.nodes[reader].read_index(timeout_s=5.0)
                outcome.append(list(here.machines[reader].data))

            here.nursery.start_soon(read)
            await trio.sleep(DELAY_S / 2)
            here.nodes[reader].receive(late[0])
            await trio.sleep(0.1)
            here.heal()
            while not outcome:
                await trio.sleep(0.01)
            assert outcome == [[b"old", b"new"]]

    async def test_one_that_waits_for_what_a_snapshot_that_came_too_late_had_applied_is_answered(self) -> None:
        async with world() as here:
            count = 2 * APPLIED_AT_ONCE
            node = await here.start(1, founders=(1, 2), election_timeout_s=100.0)
            last = node._raft.last_index
            sent: list[Message] = []

            def lose(message: Message) -> bool:
                sent.append(message)
                return True

            here.lost = lose
            node.receive(Message(MessageKind.APPEND, 1, 2, 5, last, 1, proposed_by_2(last, count, b"x"), last))
            await trio.sleep(0.05)
            outcome: list[int] = []

            async def read() -> None:
                outcome.append(await node.read_index(timeout_s=5.0))

            here.nursery.start_soon(read)
            await trio.sleep(0.01)
            (asked,) = [message for message in sent if message.kind is MessageKind.READ_INDEX]
            node.receive(
                Message(MessageKind.READ_INDEX_RESPONSE, 1, 2, 5, index=last + count, request=asked.request),
                Message(MessageKind.HEARTBEAT, 1, 2, 5, commit=last + count),
            )
            assert node.status().applied < last + count
            late = Snapshot(last + count, 4, Configuration(voters=(1, 2)))
            assert not node._engine._snapshot_arrived(Message(MessageKind.SNAPSHOT, 1, 2, 4, snapshot=late))
            await trio.sleep(0.01)
            assert outcome == [last + count]

    async def test_a_lease_answers_without_a_round(self) -> None:
        async with world() as here:
            for node in (1, 2, 3):
                await here.start(node, founders=(1, 2, 3), lease_reads=True)
            leader = await here.leader()
            await leader.propose(b"a", timeout_s=5.0)
            await leader.read_index(timeout_s=5.0)
            before = trio.current_time()
            await leader.read_index(timeout_s=5.0)
            assert trio.current_time() == before

    async def test_nobody_reads_on_a_node_that_has_stopped(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1, 2))
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    with pytest.raises(NodeStopped, match="before it could answer"):
                        await node.read_index(timeout_s=5.0)

                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                here.scopes[1].cancel()
            with pytest.raises(NodeStopped, match="ask another"):
                await node.read_index(timeout_s=5.0)


class TestMembership:
    async def test_a_group_grows_by_learners_that_become_voters(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await here.until(1, lambda status: status.role is Role.LEADER)
            await node.propose(b"a", timeout_s=1.0)
            for joiner in (2, 3):
                await here.start(joiner)
                assert joiner in (await node.change_configuration(add_learner(joiner), timeout_s=5.0)).learners
                await here.until(joiner, lambda status: status.applied == node.status().applied)
                assert joiner in (await node.change_configuration(add_voter(joiner), timeout_s=5.0)).voters
            await here.until(3, lambda status: status.voters == (1, 2, 3))
            assert here.machines[3].data == [b"a"]
            progress = {peer.node: peer.match for peer in node.status().progress}
            assert progress.keys() == {1, 2, 3}
            await here.stop(1)
            leader = await here.leader(2, 3)
            assert await leader.propose(b"b", timeout_s=5.0) == (b"b", 2)

    async def test_a_follower_may_ask_for_a_change(self) -> None:
        async with three() as here:
            leader = await here.leader()
            follower = followers_of(here, leader)[0]
            configuration = await follower.change_configuration(add_learner(9), timeout_s=5.0)
            assert configuration == Configuration(voters=(1, 2, 3), learners=(9,))

    async def test_a_leader_refuses_a_change_that_does_not_fit(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1,))
            await here.until(1, lambda status: status.role is Role.LEADER)
            with pytest.raises(ConfigurationRefused) as caught:
                await node.change_configuration(remove(1), timeout_s=5.0)
            assert caught.value.refusal is Refusal.REMOVES_ALL_VOTERS

    @pytest.mark.parametrize("node", [-1, 2**63, 2**64])
    async def test_what_is_no_node_can_be_no_change(self, node: int) -> None:
        with pytest.raises(ValueError, match=f"{node} is no node id"):
            add_learner(node)

    async def test_leadership_moves_on_request(self) -> None:
        async with three() as here:
            leader = await here.leader()
            follower = followers_of(here, leader)[0]
            with pytest.raises(ProposalDropped, match="does not lead"):
                follower.transfer_leadership(follower.status().id)
            leader.transfer_leadership(follower.status().id)
            await here.until(follower.status().id, lambda status: status.role is Role.LEADER)
            follower.report_unreachable(leader.status().id)
            assert await follower.propose(b"a", timeout_s=5.0) == (b"a", 1)

    async def test_a_leader_that_removes_itself_hears_of_it_and_steps_down(self) -> None:
        async with three() as here:
            leader = await here.leader()
            own = leader.status().id
            configuration = await leader.change_configuration(remove(own), timeout_s=5.0)
            assert own not in configuration.voters
            others = [node for node in (1, 2, 3) if node != own]
            new = await here.leader(*others)
            assert await new.propose(b"a", timeout_s=5.0) == (b"a", 1)


class TestStatus:
    async def test_it_changes_when_something_was_done(self) -> None:
        async with three() as here:
            leader = await here.leader()
            before = leader.status()
            assert before.role is Role.LEADER
            await leader.propose(b"a", timeout_s=5.0)
            after = await here.until(before.id, lambda status: status.applied > before.applied)
            assert after.commit == after.applied == before.applied + 1
            assert [peer.node for peer in after.progress] == [1, 2, 3]
            assert followers_of(here, leader)[0].status().progress == ()

    async def test_nobody_waits_for_a_node_that_has_stopped(self) -> None:
        async with world() as here:
            node = await here.start(1, founders=(1, 2))
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    with pytest.raises(NodeStopped):
                        await watch(node)

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                here.scopes[1].cancel()
            with pytest.raises(NodeStopped):
                await node.run()
            node.receive(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=1))
            assert node.status().messages_refused == 0
