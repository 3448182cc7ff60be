"""The safety properties of the Raft paper (figure 3) under loss, reordering, duplicates, crashes and changes."""

import contextlib
import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import ProposalDropped
from consensus.messages import (
    ChangeKind,
    ConfChange,
    ConfChangeSet,
    Entry,
    Message,
    MessageKind,
    ReadState,
    Role,
    Transition,
)
from tests.consensus.group import ELECTION_S, HEARTBEAT_S, Group, Member

NODES: Final = 6
STEPS: Final = 1500
LOOK_EVERY: Final = 5
IN_FLIGHT_MAX: Final = 60


class Checker:
    """What has been seen so far, and what must hold of it."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.applied: dict[int, Entry] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.checked: dict[int, int] = {}
        self.terms: dict[int, int] = {}

    def saw_message(self, message: Message) -> None:
        """A node votes at most once in a term, whatever crashes come between (Raft paper 5.2)."""
        if message.kind is MessageKind.VOTE_RESPONSE and not message.reject:
            candidate = self.votes.setdefault((message.sender, message.term), message.to)
            assert candidate == message.to, f"node {message.sender} voted twice in term {message.term}"

    def look_at(self, group: Group) -> None:
        for member in group.members.values():
            self.look_at_member(member)
        members = list(group.members.values())
        for place, one in enumerate(members):
            for other in members[place + 1 :]:
                check_log_matching(one, other)

    def look_at_member(self, member: Member) -> None:
        raft = member.raft
        assert raft.applied_index <= raft.commit_index <= raft.last_index
        for index, entry in enumerate(member.applied, start=1):
            # State machine safety.
            assert entry.index == index
            assert self.applied.setdefault(index, entry) == entry, f"index {index} was applied differently"
        if raft.role is Role.LEADER:
            # Election safety.
            assert self.leaders.setdefault(raft.term, raft.id) == raft.id, f"two leaders in term {raft.term}"
            # Leader completeness: what was applied anywhere before is in its log.
            entries = member.entries()
            for index, entry in self.applied.items():
                if entry.term < raft.term:
                    assert entries[index - 1] == entry, f"the leader of term {raft.term} lacks index {index}"


def check_log_matching(one: Member, other: Member) -> None:
    """Logs that have the same term at an index are the same up to there."""
    mine, theirs = one.entries(), other.entries()
    equal = True
    for left, right in zip(mine, theirs, strict=False):
        if left.term == right.term:
            assert equal, f"nodes {one.id} and {other.id} agree at index {left.index} and not before"
            assert left == right
        else:
            equal = False


def random_change(rng: random.Random) -> ConfChange | ConfChangeSet:
    def one() -> ConfChange:
        kinds = (ChangeKind.ADD_VOTER, ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER, ChangeKind.REMOVE)
        return ConfChange(rng.choice(kinds), rng.randint(1, NODES))

    if rng.random() < 0.7:
        return one()
    changes = tuple(one() for _ in range(rng.randint(0, 3)))
    return ConfChangeSet(changes, rng.choice(list(Transition)))


class Chaos:
    """Does one random thing after the other."""

    def __init__(self, seed: int, *, protected: bool, changes: bool, threads: bool, leases: bool = False) -> None:
        self.rng = random.Random(seed)
        self.group = Group(
            3,
            seed=seed,
            pre_vote=protected,
            check_quorum=protected,
            inflight_messages_max=4,
            append_bytes_max=40,
            apply_bytes_max=40,
            async_storage=threads,
            lease_reads=leases,
        )
        for node in range(4, NODES + 1):
            self.group.add(node)
        self.changes = changes
        self.checker = Checker()
        self.group.on_send = self.checker.saw_message
        self.sent = 0
        self.group.on_read = self.check_read
        # By request: what was applied somewhere, and so perhaps acknowledged, when it was asked.
        self.reads: list[int] = []
        self.answered: set[int] = set()

    def read(self, member: Member) -> None:
        """Ask for a read index; whatever was acknowledged before must be within it."""
        acknowledged = max(one.raft.applied_index for one in self.group.members.values())
        self.reads.append(max(acknowledged, *self.reads[-1:], 0))
        with contextlib.suppress(ProposalDropped):
            member.raft.read(len(self.reads), self.group.now)

    def check_read(self, read: ReadState) -> None:
        """Thesis 6.4: a read sees every write that was acknowledged before it was asked."""
        self.answered.add(read.request)
        acknowledged = self.reads[read.request - 1]
        assert read.index >= acknowledged, f"a read was answered at {read.index} and {acknowledged} was acknowledged"

    def step(self) -> None:
        rng, group = self.rng, self.group
        member = group[rng.randint(1, NODES)]
        roll = rng.random()
        if roll < 0.45:
            self.deliver()
        elif roll < 0.86:
            self.work()
        elif roll < 0.90:
            self.read(member)
        elif roll < 0.95:
            leaders = [one for one in group.members.values() if one.raft.role is Role.LEADER]
            if leaders:
                self.propose(rng.choice(leaders))
        elif roll < 0.97:
            group.now += rng.choice((HEARTBEAT_S, ELECTION_S / 4))
            member.raft.wake(group.now)
        elif roll < 0.98:
            member.raft.campaign(group.now)
        elif roll < 0.985 and member.raft.role is Role.LEADER:
            member.raft.transfer_leadership(rng.randint(1, NODES))
        elif roll < 0.99:
            group.crash(member.id, power=rng.random() < 0.7)
        elif roll < 0.993:
            cut_off = rng.randint(1, NODES)
            group.in_flight = [message for message in group.in_flight if cut_off not in (message.to, message.sender)]

    def work(self) -> None:
        """One half of a batch of somebody who has one, or one step of a storage thread."""
        group = self.group
        members = list(group.members.values())
        self.rng.shuffle(members)
        for member in members:
            if member.config.async_storage:
                steps = [group.begin, group.write, group.sync, group.apply]
                self.rng.shuffle(steps)
                if any(step(member) for step in steps):
                    return
                continue
            if member.ready is not None and self.rng.random() < 0.6:
                self.group.finish(member)
                return
            if member.ready is None and self.group.begin(member):
                return

    def deliver(self) -> None:
        rng, group = self.rng, self.group
        if not group.in_flight:
            return
        place = rng.randrange(len(group.in_flight))
        message = group.in_flight[place]
        if rng.random() < 0.9:
            del group.in_flight[place]
        if rng.random() < 0.95:
            group.deliver(message)
        del group.in_flight[: max(len(group.in_flight) - IN_FLIGHT_MAX, 0)]

    def propose(self, member: Member) -> None:
        if member.raft.role is not Role.LEADER:
            return
        with contextlib.suppress(ProposalDropped):
            if self.changes and self.rng.random() < 0.4:
                change = random_change(self.rng)
                if member.raft.refusal(change) is None:
                    member.raft.propose_change(change)
            else:
                self.sent += 1
                member.raft.propose(b"%d" % self.sent * self.rng.choice((1, 10)))

    def recover(self) -> None:
        """Without faults, some leader gets a proposal through to every member."""
        group = self.group
        for _ in range(600):
            group.pass_time(ELECTION_S / 20)
            group.settle()
            leader = max(group.members.values(), key=lambda one: (one.raft.role is Role.LEADER, one.raft.term))
            if leader.raft.role is not Role.LEADER or leader.raft.configuration.auto_leave:
                continue
            with contextlib.suppress(ProposalDropped):
                group.propose(leader.id, b"last")
                group.settle()
                members = leader.raft.configuration.members
                if all(group[node].data()[-1:] == [b"last"] for node in members):
                    return
        pytest.fail("the group did not recover")


def run_chaos(seed: int, *, protected: bool, changes: bool, threads: bool = False, leases: bool = False) -> Chaos:
    chaos = Chaos(seed, protected=protected, changes=changes, threads=threads, leases=leases)
    for step in range(STEPS):
        chaos.step()
        if step % LOOK_EVERY == 0:
            chaos.checker.look_at(chaos.group)
    chaos.recover()
    chaos.checker.look_at(chaos.group)
    return chaos


@given(seed=st.integers(0, 1 << 32), protected=st.booleans(), threads=st.booleans())
def test_the_properties_of_figure_3_hold_whatever_is_lost_reordered_or_crashes(
    seed: int, protected: bool, threads: bool
) -> None:
    run_chaos(seed, protected=protected, changes=False, threads=threads)


@given(seed=st.integers(0, 1 << 32), protected=st.booleans(), threads=st.booleans())
def test_the_properties_of_figure_3_hold_while_the_membership_changes(
    seed: int, protected: bool, threads: bool
) -> None:
    run_chaos(seed, protected=protected, changes=True, threads=threads)


@given(seed=st.integers(0, 1 << 32), changes=st.booleans(), threads=st.booleans())
def test_reads_on_a_lease_see_what_was_acknowledged(seed: int, changes: bool, threads: bool) -> None:
    run_chaos(seed, protected=True, changes=changes, threads=threads, leases=True)


@pytest.mark.parametrize("threads", [False, True], ids=["batches", "storage-threads"])
def test_the_random_runs_reach_what_they_are_meant_to_check(threads: bool) -> None:
    runs = [run_chaos(seed, protected=False, changes=True, threads=threads) for seed in range(25)]
    assert sum(len(run.checker.leaders) for run in runs) > 50, "hardly any elections"
    assert sum(len(run.checker.applied) for run in runs) > 500, "hardly anything was applied"
    assert sum(len(run.answered) for run in runs) > 100, "hardly any reads"
    kinds = [entry.kind for run in runs for entry in run.checker.applied.values()]
    assert len(kinds) - kinds.count(kinds[-1]) > 50, "hardly any changes of the membership"
