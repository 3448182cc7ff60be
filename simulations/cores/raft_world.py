"""A Raft group on disks that forget: elections, proposals, changes of the members, crashes between any two effects."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from consensus.founding import founding
from consensus.messages import LEADER, ChangeKind, ConfChange, ConfChangeSet, Transition
from consensus.opening import open_log
from consensus.quorum import VoteResult, joint_vote_result
from simulations.checkers.violation import Violation
from simulations.cores.collector import resting_collector
from simulations.cores.faults import FOREVER, CoreFaults, Crash, Cut, Pause
from simulations.cores.heap import Action, EventHeap
from simulations.cores.network import Network
from simulations.cores.raft_checks import RaftChecks
from simulations.cores.raft_member import DIRECTORY, RaftMember
from simulations.cores.raft_process import Images, RaftProcess, RaftSettings
from simulations.cores.report import CORE_ERRORS, Report, core_error
from simulations.cores.trace import Trace
from simulations.disk import DiskCosts, DiskFaults, FaultAtlas, SimDisk

LOOK_INTERVAL_S = 0.2
"""How often it is looked at whether a group without faults has recovered."""

RESTART_S = 0.5
"""How soon a process whose disk failed is followed by another one."""

RECOVERY_TIMEOUTS = 60
"""Election timeouts within which a group without faults agrees on a proposal: candidates that split the vote or that
removed members disturb need a few rounds, and a leader that a change removes hands over only after another."""

_NO_TIME = DiskCosts(call_s=0.0, transfer_s_per_kib=0.0, sync_s_min=0.0, sync_s_max=0.0)
"""Of the disks themselves: how long a sync takes here is drawn by `RaftWorld.sync_takes_s`."""

_DESTRUCTIVE = ("bit_rot", "read_bit_rot", "stale", "misdirected")
"""Faults of a disk that take what was synced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftWorkload:
    """What is asked of a group, on average, until the faults end.

    Attributes:
        members: how many nodes there are, with the ids 1, 2, …
        founders: the first so many found the group; the others begin with empty disks and no part in it.
        proposals_per_s: by clients, at a member that leads or, one time in four, at any.
        changes_per_s: changes of the configuration by the leader, of one member or several.
        single_share: of the changes; the others are sets, of which some take a joint configuration until they are left
            by another change.
        transfers_per_s: leaders that hand over.
        campaigns_per_s: members that stand for election without waiting.
        isolations_per_s: leaders that nobody hears for a while, though they are asked for more.
        reads_per_s: by clients, at a member that leads or, one time in three, at any.
    """

    members: int = 5
    founders: int = 5
    proposals_per_s: float = 5.0
    changes_per_s: float = 0.0
    single_share: float = 0.7
    transfers_per_s: float = 0.0
    campaigns_per_s: float = 0.0
    isolations_per_s: float = 0.0
    reads_per_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.founders <= self.members:
            raise ValueError(f"{self.founders} founders of {self.members} members: choose 1 … {self.members}")


class RaftWorld:
    """A group whose founders are about to elect a first leader: let it `begin`; `run_for` lets virtual time pass.

    Args:
        seed: of everything random.
        faults: they begin and end by themselves.
        settings: of all members.
        workload: what is asked of them.
        disk_faults: of all disks until `recover`. What destroys data strikes a minority of them.
    """

    def __init__(
        self,
        seed: int,
        *,
        faults: CoreFaults,
        settings: RaftSettings,
        workload: RaftWorkload,
        disk_faults: DiskFaults | None = None,
    ) -> None:
        self.seed = seed
        self.faults = faults
        self.settings = settings
        self.workload = workload
        self.heap = EventHeap()
        self.trace = Trace()
        self.checks = RaftChecks(self.heap, has_threads=settings.async_storage, lease_s=settings.lease_s)
        self.images: Images = {}
        self.proposed = 0
        self.changed = 0
        self.asked = 0
        self._rng = random.Random(f"raft {seed}")
        self._extra_rng = random.Random(f"raft extra {seed}")
        self._disk_rngs: dict[int, random.Random] = {}
        self._thread_rngs: dict[int, random.Random] = {}
        self._last_in_trouble = 0
        self._is_calm = False
        self.members: dict[int, RaftMember] = {}
        numbers = range(1, workload.members + 1)
        atlas = FaultAtlas(copies=workload.members, replication=workload.members)
        for number in numbers:
            disk = SimDisk(f"member {number}", seed=seed, costs=_NO_TIME, atlas=atlas)
            self.members[number] = RaftMember(self, number, disk)
            self._disk_rngs[number] = random.Random(f"disk {seed} {number}")
            if settings.thread_s[1]:
                self._thread_rngs[number] = random.Random(f"threads {seed} {number}")
        receivers = {number: member.receive for number, member in self.members.items()}
        self.network = Network(self.heap, seed, receivers, faults)
        self._found(numbers[: workload.founders])
        for member in self.members.values():
            member.disk.faults = disk_faults or DiskFaults()
        self._plan(faults)

    def begin(self) -> None:
        """All members start.

        Raises:
            Violation: they do not find what founded the group.
        """
        for number in self.members:
            self._start(number)

    def _found(self, founders: Sequence[int]) -> None:
        for number in founders:
            disk = self.members[number].disk
            life = disk.acquire()
            log = open_log(disk, DIRECTORY, owner=b"member %d" % number)
            hard_state, entries = founding(founders)
            log.append(hard_state, entries)
            log.close()
            disk.release(life)
            self.checks.founded(number, hard_state.term, [entry.term for entry in entries])

    def _plan(self, faults: CoreFaults) -> None:
        for clock in faults.clocks:
            self.members[clock.node].clock.rate = clock.rate
        for crash in faults.crashes:
            self.heap.at(crash.at_s, self._crash, crash)
        for pause in faults.pauses:
            self.heap.at(pause.at_s, self._pause, pause)
        for rate, action in (
            (self.workload.proposals_per_s, self._propose),
            (self.workload.changes_per_s, self._change),
            (self.workload.transfers_per_s, self._transfer),
            (self.workload.campaigns_per_s, self._campaign),
            (self.workload.isolations_per_s, self._isolate),
        ):
            if rate:
                self.heap.at(self._rng.expovariate(rate), action, rate)
        if self.workload.reads_per_s:
            self.heap.at(self._extra_rng.expovariate(self.workload.reads_per_s), self._read)

    # ---- what members find here

    def sync_takes_s(self, node: int) -> float:
        """How long the next sync of this node takes."""
        shortest_s, longest_s = self.faults.sync_s
        if self.heap.now >= self.faults.calm_s:
            return shortest_s
        return self._disk_rngs[node].uniform(shortest_s, longest_s)

    def thread_takes_s(self, node: int) -> float:
        """How long a storage thread of this node takes to get to its next piece of work."""
        shortest_s, longest_s = self.settings.thread_s
        if not longest_s or self.heap.now >= self.faults.calm_s:
            return shortest_s
        return self._thread_rngs[node].uniform(shortest_s, longest_s)

    def failed(self, node: int) -> None:
        """Its disk failed: start it again in a moment."""
        self.heap.at(self.heap.now + RESTART_S, self._start, node)

    # ---- planned faults

    def _start(self, number: int) -> None:
        member = self.members[number]
        if member.process is None and not member.is_corrupt:
            member.start(random.Random(f"{self.seed}/{number}/{self._rng.random()}"))

    def _crash(self, crash: Crash) -> None:
        member = self.members[crash.node]
        if member.process is None:
            return
        if crash.effects:
            member.process.fuse.effects_left = crash.effects
        else:
            member.end(power=crash.power)
        if crash.for_s != FOREVER:
            self.heap.at(crash.at_s + crash.for_s, self._restart, crash)

    def _restart(self, crash: Crash) -> None:
        member = self.members[crash.node]
        if member.process is not None and member.process.fuse.is_lit:
            member.end(power=crash.power)
        self._start(crash.node)

    def _pause(self, pause: Pause) -> None:
        self.members[pause.node].pause(pause.for_s)

    # ---- what is asked of the group

    def _again(self, action: Action, rate: float) -> bool:
        """Whether the workload goes on; if so, ask once more later."""
        if self._is_calm:
            return False
        self.heap.at(self.heap.now + self._rng.expovariate(rate), action, rate)
        return True

    def _running(self) -> list[RaftProcess]:
        return [member.process for member in self.members.values() if member.process is not None]

    def _present(self, rng: random.Random, *, leading: bool) -> RaftProcess | None:
        now_s = self.heap.now
        able = [process for process in self._running() if process.resumes_s <= now_s]
        if leading:
            able = [process for process in able if process.raft.role is LEADER]
        return rng.choice(able) if able else None

    def _propose(self, rate: float) -> None:
        if not self._again(self._propose, rate):
            return
        process = self._present(self._rng, leading=self._rng.random() < 0.75)
        if process is not None:
            self.proposed += 1
            process.propose(b"%d" % self.proposed * self._rng.choice((1, 1, 1, 10)))

    def _read(self, _: object) -> None:
        if self._is_calm:
            return
        rng = self._extra_rng
        self.heap.at(self.heap.now + rng.expovariate(self.workload.reads_per_s), self._read)
        process = self._present(rng, leading=rng.random() < 0.67)
        if process is not None:
            self.asked += 1
            process.ask(self.asked)

    def _change(self, rate: float) -> None:
        if not self._again(self._change, rate):
            return
        change = self._drawn_change()
        process = self._present(self._rng, leading=True)
        if process is not None and process.propose(change):
            self.changed += 1

    def _drawn_change(self) -> ConfChange | ConfChangeSet:
        rng = self._rng

        def one() -> ConfChange:
            kinds = (ChangeKind.ADD_VOTER, ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER, ChangeKind.REMOVE)
            return ConfChange(rng.choice(kinds), rng.randint(1, self.workload.members))

        if rng.random() < self.workload.single_share:
            return one()
        changes = tuple(one() for _ in range(rng.randint(0, 3)))
        return ConfChangeSet(changes, rng.choice(tuple(Transition)))

    def _transfer(self, rate: float) -> None:
        if not self._again(self._transfer, rate):
            return
        process = self._present(self._rng, leading=True)
        to = self._rng.randint(1, self.workload.members)
        if process is not None:
            process.raft.transfer_leadership(to)
            process.work()

    def _campaign(self, rate: float) -> None:
        if not self._again(self._campaign, rate):
            return
        process = self._present(self._rng, leading=False)
        if process is None:
            return
        process.campaign()
        if self.settings.async_storage and self._extra_rng.random() < 0.3:
            self._test_candidacy(process.number)

    def _test_candidacy(self, node: int) -> None:
        """A candidate dies while its term is on the way to its disk, and stands once more."""
        rng, now_s = self._extra_rng, self.heap.now
        crash = Crash(node, now_s + rng.uniform(0.0, 0.1), rng.uniform(0.0, 0.05), power=rng.random() < 0.7)
        self.heap.at(crash.at_s, self._crash, crash)
        self.heap.at(crash.at_s + crash.for_s + 0.001, self._stand, node)

    def _stand(self, node: int) -> None:
        process = self.members[node].process
        if process is not None and process.resumes_s <= self.heap.now:
            process.campaign()

    def _isolate(self, rate: float) -> None:
        if not self._again(self._isolate, rate) or self.heap.now >= self.faults.calm_s:
            return
        leader = self._present(self._rng, leading=True)
        others = [number for number in self.members if leader is not None and number != leader.number]
        if leader is None or not others:
            return
        # It may keep a friend: with one, it is not alone enough to know that it is.
        unheard = self._rng.sample(others, max(1, len(others) - self._rng.choice((0, 0, 1))))
        for_s = self.settings.election_timeout_s * self._rng.uniform(0.5, 4.0)
        senders, receivers = frozenset([leader.number]), frozenset(unheard)
        for_s = min(for_s, self.faults.calm_s - self.heap.now)
        friend = [number for number in others if number not in unheard]
        if friend and self._extra_rng.random() < 0.5:
            # It is gone when the leader is back, and returns with what both had alone.
            back_s = self.heap.now + for_s
            self.heap.at(back_s, self._crash, Crash(friend[0], back_s, self._extra_rng.uniform(0.5, 3.0), power=False))
        if self.settings.lease_reads:
            self._test_lease(leader, unheard, for_s)
        self.network.plan(Cut(senders, receivers, self.heap.now, for_s))

    def _test_lease(self, leader: RaftProcess, unheard: Sequence[int], for_s: float) -> None:
        """Before a leader is isolated, do what might let another one lead while its lease runs."""
        rng = self._extra_rng
        match rng.randrange(3):
            case 0:  # it asks for it itself
                leader.raft.transfer_leadership(rng.choice(unheard))
                leader.work()
            case 1:  # those who promised not to vote start anew
                for node in unheard:
                    if rng.random() < 0.7:
                        crash = Crash(node, self.heap.now, rng.uniform(0.0, min(for_s, 0.3)), power=rng.random() < 0.5)
                        self.heap.at(crash.at_s, self._crash, crash)
            case _:  # they stand before it is over
                for node in unheard:
                    self.heap.at(self.heap.now + self.settings.lease_s * rng.uniform(0.5, 1.0), self._stand, node)

    # ---- time

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.heap.run_until(self.heap.now + seconds)

    def recover(self) -> None:
        """Without any further fault, a leader gets a proposal through to every member that runs, and each may read.

        Raises:
            Violation: not in time, although a majority of its voters run.
        """
        self._is_calm = True
        for member in self.members.values():
            member.disk.faults = DiskFaults(in_order=member.disk.faults.in_order)
        slowest = min([member.clock.rate for member in self.members.values()], default=1.0)
        bound_s = RECOVERY_TIMEOUTS * self.settings.election_timeout_s / min(slowest, 1.0)
        end_s = self.heap.now + bound_s
        attempt = 0
        self._last_in_trouble = self.asked
        while self.heap.now < end_s:
            for process in self._running():
                if process.raft.role is LEADER:
                    attempt += 1
                    process.propose(b"last %d" % attempt)
                if self.workload.reads_per_s and process.answered <= self._last_in_trouble:
                    self.asked += 1
                    process.ask(self.asked)
            self.run_for(LOOK_INTERVAL_S)
            if self._has_recovered() or not self._can_recover():
                return
        message = f"no agreement {bound_s:.1f} s after the last fault: {'; '.join(self.summary())}"
        raise Violation("liveness", virtual_s=self.heap.now, message=message)

    def summary(self) -> tuple[str, ...]:
        """A line a member."""
        return tuple(
            f"n{member.number}: {'its log is corrupt' if member.is_corrupt else 'down'}"
            if member.raft is None
            else f"n{member.number}: {member.raft.role.name.lower()} in term {member.raft.term},"
            f" {member.raft.commit_index} committed of {member.raft.last_index}"
            for member in self.members.values()
        )

    def _has_recovered(self) -> bool:
        running = {process.number: process for process in self._running()}
        for leader in running.values():
            raft = leader.raft
            if raft.role is not LEADER or raft.configuration.auto_leave or not leader.applied:
                continue
            last = leader.applied[-1]
            members = [running[node] for node in raft.configuration.members if node in running]
            if last.startswith(b"last") and all(self._is_served(member, last) for member in members):
                return True
        return False

    def _is_served(self, member: RaftProcess, last: bytes) -> bool:
        """Whether a member has applied what a leader proposed last, and could answer a read since the last fault."""
        has_read = not self.workload.reads_per_s or member.answered > self._last_in_trouble
        return has_read and last in member.applied[-8:]

    def _can_recover(self) -> bool:
        """Whether a majority of the voters run with whole logs, by the newest configuration that any has in force."""
        newest = max(
            [process.raft for process in self._running()],
            key=lambda raft: raft.applied_index,
            default=None,
        )
        if newest is None:
            return False
        configuration = newest.configuration
        votes = {node: self._runs(node) for node in configuration.electorate}
        if not votes:
            return False  # all that run are still to be told of the group
        return joint_vote_result(configuration.voters, configuration.voters_outgoing, votes) is VoteResult.WON

    def _runs(self, node: int) -> bool:
        process = self.members[node].process
        return process is not None and process.raft.lost is None


@resting_collector()
def run(
    seed: int,
    faults: CoreFaults,
    duration_s: float,
    *,
    settings: RaftSettings | None = None,
    workload: RaftWorkload | None = None,
    disk_faults: DiskFaults | None = None,
) -> Report:
    """Let a group work, suffer and recover.

    Args:
        seed: of everything random.
        faults: what goes wrong.
        duration_s: how long at least, before the group has its time to recover.
        settings: of all members.
        workload: what is asked of them.
        disk_faults: of all disks.
    """
    world = RaftWorld(
        seed,
        faults=faults,
        settings=settings or RaftSettings(),
        workload=workload or RaftWorkload(),
        disk_faults=disk_faults,
    )
    violations: list[Violation] = []
    try:
        world.begin()
        world.run_for(max(duration_s, faults.ends_s))
        world.recover()
        _check_logs_open(world)
    except Violation as violation:
        violations.append(violation)
    except CORE_ERRORS as error:
        violations.append(core_error(error, world.heap.now))
    counters = {
        "messages": world.network.sent,
        "messages_lost": world.network.lost + world.network.cut,
        "terms_led": len(world.checks.leaders),
        "entries_chosen": len(world.checks.chosen),
        "changes": world.changed,
        "reads_answered": world.checks.reads_answered,
        "corrupt_logs": sum(member.is_corrupt for member in world.members.values()),
        "losses": world.checks.losses,
        "snapshots": len(world.images),
        "installed": world.checks.installed,
    }
    return Report(
        seed,
        world.heap.events,
        world.heap.now,
        tuple(violations),
        counters,
        world.trace.hexdigest(),
        nodes=world.summary() if violations else (),
    )


def _check_logs_open(world: RaftWorld) -> None:
    """Where nothing that was synced is destroyed, a power failure leaves only what a log knows as a cut-off end."""
    corrupt = [
        number
        for number, member in world.members.items()
        if member.is_corrupt and not any(member.disk.fired[fault] for fault in _DESTRUCTIVE)
    ]
    if corrupt:
        message = "the log can't be opened after a power failure, although nothing that was synced is lost"
        raise Violation("raft-log-opens", virtual_s=world.heap.now, message=message, nodes=corrupt)
