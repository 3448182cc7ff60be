"""A Raft group on disks that forget: elections, proposals, changes of the members, crashes between any two effects."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consensus.founding import founding
from consensus.messages import ChangeKind, ConfChange, ConfChangeSet, Transition
from consensus.quorum import VoteResult, joint_vote_result
from consensus.storage import open_log
from simulations.checkers.violation import Violation
from simulations.cores.faults import FOREVER, CoreFaults, Crash, Cut, Pause
from simulations.cores.heap import Action, EventHeap
from simulations.cores.network import Network
from simulations.cores.raft_checks import RaftChecks
from simulations.cores.raft_member import DIRECTORY, RaftMember, RaftSettings
from simulations.cores.report import CORE_ERRORS, Report, core_error
from simulations.cores.trace import Trace
from simulations.disk import DiskFaults, FaultAtlas, SimDisk

LOOK_INTERVAL_S = 0.2
"""How often it is looked at whether a group without faults has recovered."""

RESTART_S = 0.5
"""How soon a process whose disk failed is followed by another one."""

RECOVERY_TIMEOUTS = 60
"""Election timeouts within which a group without faults agrees on a proposal: candidates that split the vote or that
removed members disturb need a few rounds, and a leader that a change removes hands over only after another."""


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
    """

    members: int = 5
    founders: int = 5
    proposals_per_s: float = 5.0
    changes_per_s: float = 0.0
    single_share: float = 0.7
    transfers_per_s: float = 0.0
    campaigns_per_s: float = 0.0
    isolations_per_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.founders <= self.members:
            raise ValueError(f"{self.founders} founders of {self.members} members: choose 1 … {self.members}")


class RaftWorld:
    """A group whose founders are about to elect a first leader; `run_for` lets virtual time pass.

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
        self.checks = RaftChecks(self.heap)
        self.proposed = 0
        self.changed = 0
        self._rng = random.Random(f"raft {seed}")
        self._disk_rngs: dict[int, random.Random] = {}
        self._is_calm = False
        self.members: dict[int, RaftMember] = {}
        numbers = range(1, workload.members + 1)
        atlas = FaultAtlas(copies=workload.members, replication=workload.members)
        for number in numbers:
            disk = SimDisk(f"member {number}", seed=seed, atlas=atlas)
            self.members[number] = RaftMember(self, number, disk)
            self._disk_rngs[number] = random.Random(f"disk {seed} {number}")
        receivers = {number: member.receive for number, member in self.members.items()}
        self.network = Network(self.heap, seed, receivers, faults)
        self._found(numbers[: workload.founders])
        for member in self.members.values():
            member.disk.faults = disk_faults or DiskFaults()
        self._plan(faults)
        for number in numbers:
            self._start(number)

    def _found(self, founders: Sequence[int]) -> None:
        for number in founders:
            disk = self.members[number].disk
            life = disk.acquire()
            log = open_log(disk, DIRECTORY, owner=b"member %d" % number)
            log.append(*founding(founders))
            log.close()
            disk.release(life)

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

    # ---- what members find here

    def sync_takes_s(self, node: int) -> float:
        """How long the next sync of this node takes."""
        shortest_s, longest_s = self.faults.sync_s
        if self.heap.now >= self.faults.calm_s:
            return shortest_s
        return self._disk_rngs[node].uniform(shortest_s, longest_s)

    def leading(self) -> Mapping[int, Sequence[int]]:
        """Of each process that takes itself for a leader, the terms of its entries, by its own term."""
        return {
            member.raft.term: member.terms
            for member in self.members.values()
            if member.raft is not None and member.is_leader
        }

    def failed(self, node: int) -> None:
        """Its disk failed: start it again in a moment."""
        self.heap.at(self.heap.now + RESTART_S, self._start, node)

    # ---- planned faults

    def _start(self, number: int) -> None:
        member = self.members[number]
        if member.raft is None and not member.is_corrupt:
            member.start(random.Random(f"{self.seed}/{number}/{self._rng.random()}"))

    def _crash(self, crash: Crash) -> None:
        member = self.members[crash.node]
        if member.raft is None:
            return
        if crash.effects:
            member.fuse.effects_left = crash.effects
        else:
            member.end(power=crash.power)
        if crash.for_s != FOREVER:
            self.heap.at(crash.at_s + crash.for_s, self._restart, crash)

    def _restart(self, crash: Crash) -> None:
        member = self.members[crash.node]
        if member.fuse.is_lit:
            member.end(power=crash.power)
        self._start(crash.node)

    def _pause(self, pause: Pause) -> None:
        if self.members[pause.node].raft is not None:
            self.members[pause.node].pause(pause.for_s)

    # ---- what is asked of the group

    def _again(self, action: Action, rate: float) -> bool:
        """Whether the workload goes on; if so, ask once more later."""
        if self._is_calm:
            return False
        self.heap.at(self.heap.now + self._rng.expovariate(rate), action, rate)
        return True

    def _present(self, *, leading: bool) -> RaftMember | None:
        able = [
            member
            for member in self.members.values()
            if member.raft is not None and not member.is_paused and (member.is_leader or not leading)
        ]
        return self._rng.choice(able) if able else None

    def _propose(self, rate: float) -> None:
        if not self._again(self._propose, rate):
            return
        member = self._present(leading=self._rng.random() < 0.75)
        if member is not None:
            self.proposed += 1
            member.propose(b"%d" % self.proposed * self._rng.choice((1, 1, 1, 10)))

    def _change(self, rate: float) -> None:
        if not self._again(self._change, rate):
            return
        change = self._drawn_change()
        member = self._present(leading=True)
        if member is not None and member.propose(change):
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
        member = self._present(leading=True)
        to = self._rng.randint(1, self.workload.members)
        if member is not None and member.raft is not None:
            member.raft.transfer_leadership(to)
            member.work()

    def _campaign(self, rate: float) -> None:
        if not self._again(self._campaign, rate):
            return
        member = self._present(leading=False)
        if member is not None and member.raft is not None:
            member.raft.campaign(member.clock.now_s())
            member.work()

    def _isolate(self, rate: float) -> None:
        if not self._again(self._isolate, rate) or self.heap.now >= self.faults.calm_s:
            return
        leader = self._present(leading=True)
        others = [number for number in self.members if leader is not None and number != leader.number]
        if leader is None or not others:
            return
        # It may keep a friend: with one, it is not alone enough to know that it is.
        unheard = self._rng.sample(others, max(1, len(others) - self._rng.choice((0, 0, 1))))
        for_s = self.settings.election_timeout_s * self._rng.uniform(0.5, 4.0)
        senders, receivers = frozenset([leader.number]), frozenset(unheard)
        self.network.plan(Cut(senders, receivers, self.heap.now, min(for_s, self.faults.calm_s - self.heap.now)))

    # ---- time

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.heap.run_until(self.heap.now + seconds)

    def recover(self) -> None:
        """Without any further fault, a leader gets a proposal through to every member that runs.

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
        while self.heap.now < end_s:
            for member in list(self.members.values()):
                if member.is_leader:
                    attempt += 1
                    member.propose(b"last %d" % attempt)
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
        for leader in self.members.values():
            if leader.raft is None or not leader.is_leader or leader.raft.configuration.auto_leave:
                continue
            last = leader.applied[-1:]
            running = [self.members[node] for node in leader.raft.configuration.members if self._runs(node)]
            if last and last[0].startswith(b"last") and all(last[0] in member.applied[-8:] for member in running):
                return True
        return False

    def _can_recover(self) -> bool:
        """Whether a majority of the voters run, by the newest configuration that any of them has in force."""
        newest = max(
            [member.raft for member in self.members.values() if member.raft is not None],
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
        return self.members[node].raft is not None


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
        world.run_for(max(duration_s, faults.ends_s))
        world.recover()
        _check_logs_open(world, disk_faults)
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
        "corrupt_logs": sum(member.is_corrupt for member in world.members.values()),
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


def _check_logs_open(world: RaftWorld, disk_faults: DiskFaults | None) -> None:
    """Where nothing that was synced is destroyed, a power failure leaves only what a log knows as a cut-off end."""
    corrupt = [number for number, member in world.members.items() if member.is_corrupt]
    if corrupt and (disk_faults is None or not disk_faults.bit_rot_rate):
        message = "the log can't be opened after a power failure, although nothing that was synced is lost"
        raise Violation("raft-log-opens", virtual_s=world.heap.now, message=message, nodes=corrupt)
