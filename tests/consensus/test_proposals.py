"""Proposals and what they can be told: a result, surely nothing, or that nobody knows."""

import random

import pytest

from consensus.config import RaftConfig
from consensus.errors import MalformedMessage, NodeStopped, OutcomeUnknown, Overloaded, ProposalDropped
from consensus.forwarding import propose_all
from consensus.memory import MemoryLog
from consensus.proposals import Envelope, Envelopes, Proposal, Proposals, unwrap, wrap
from consensus.raft import Raft
from tests.consensus.group import add_voter


def waiting(proposals: Proposals, data: bytes = b"a", *, deadline: float = 10.0) -> Proposal:
    return proposals.add(data, deadline=deadline, wake=lambda _: None)


def sent(proposals: Proposals, data: bytes = b"a", *, term: int = 1, deadline: float = 10.0) -> Proposal:
    proposal = waiting(proposals, data, deadline=deadline)
    proposals.mark_sent(proposals.next_batch(1000), term=term)
    return proposal


@pytest.fixture
def proposals() -> Proposals:
    return Proposals(bytes_max=10_000)


def test_an_envelope_carries_its_data() -> None:
    envelope = Envelope(proposer=1, incarnation=2**64 - 1, sequence=3, term=4)
    assert unwrap(wrap(envelope, b"data")) == (envelope, b"data")
    with pytest.raises(MalformedMessage, match="too short"):
        unwrap(bytes(31))


def test_the_one_that_waits_is_woken_with_the_result(proposals: Proposals) -> None:
    woken = []
    proposal = proposals.add(b"a", deadline=10.0, wake=lambda _: woken.append(1))
    proposals.mark_sent(proposals.next_batch(100), term=1)
    proposals.applied(proposal.sequence, "result")
    assert (proposal.outcome(), woken, len(proposals)) == ("result", [1], 0)
    proposals.applied(proposal.sequence, "again")
    assert proposal.outcome() == "result"


def test_a_batch_is_data_that_fits_or_one_change(proposals: Proposals) -> None:
    for data in (b"a" * 6, b"b" * 6, b"c"):
        waiting(proposals, data)
    proposals.add(add_voter(2), deadline=1.0, wake=lambda _: None)
    waiting(proposals, b"d" * 50)
    batches = []
    while batch := proposals.next_batch(10):
        batches.append([proposal.content for proposal in batch])
    assert batches == [[b"a" * 6], [b"b" * 6, b"c"], [add_voter(2)], [b"d" * 50]]


def test_what_an_old_leader_did_not_keep_is_surely_lost_once_a_later_term_is_applied(proposals: Proposals) -> None:
    old, new = sent(proposals, term=3), sent(proposals, term=5)
    proposals.term_applied(3)
    assert not old.settled
    proposals.term_applied(5)
    with pytest.raises(ProposalDropped, match="leader of term 3 was replaced"):
        old.outcome()
    assert not new.settled


def together(proposals: Proposals, *data: bytes, term: int) -> Proposal:
    proposal = proposals.add(data, deadline=10.0, wake=lambda _: None)
    proposals.mark_sent(proposals.next_batch(1000), term=term)
    return proposal


def test_those_made_together_end_when_the_last_is_applied(proposals: Proposals) -> None:
    proposal = together(proposals, b"a", b"b", term=1)
    proposals.applied(proposal.sequence, "first")
    assert not proposal.settled
    proposals.applied(proposal.sequence, "second")
    assert (proposal.outcome(), len(proposals)) == (["first", "second"], 0)


def test_those_made_together_are_sent_together(proposals: Proposals) -> None:
    waiting(proposals, b"a" * 5)
    proposals.add((b"b" * 3, b"c" * 3), deadline=10.0, wake=lambda _: None)
    waiting(proposals, b"d" * 4)
    batches = []
    while batch := proposals.next_batch(10):
        batches.append([piece for proposal in batch for piece in proposal.data])
    assert batches == [[b"a" * 5], [b"b" * 3, b"c" * 3, b"d" * 4]]


def test_each_of_those_made_together_counts_in_what_is_under_way() -> None:
    proposals = Proposals(bytes_max=2000)
    first = together(proposals, b"a", b"b", b"c", term=1)
    second = waiting(proposals)
    assert proposals.next_batch(1000) == []
    for _ in first.data:
        proposals.applied(first.sequence, None)
    assert proposals.next_batch(1000) == [second]


def test_nobody_may_repeat_those_made_together_of_which_a_later_leader_kept_some(proposals: Proposals) -> None:
    none, some = together(proposals, b"a", b"b", term=1), together(proposals, b"c", b"d", term=1)
    proposals.applied(some.sequence, None)
    proposals.term_applied(2)
    with pytest.raises(ProposalDropped):
        none.outcome()
    with pytest.raises(OutcomeUnknown, match="1 of 2 that were proposed together"):
        some.outcome()


def test_one_that_was_sent_and_is_overdue_has_an_unknown_outcome(proposals: Proposals) -> None:
    proposal = sent(proposals, deadline=5.0)
    assert proposals.next_deadline == 5.0
    proposals.expire(4.9)
    assert not proposal.settled
    proposals.expire(5.0)
    with pytest.raises(OutcomeUnknown, match="may still be agreed on"):
        proposal.outcome()
    assert proposals.next_deadline is None


def test_one_that_was_never_sent_and_is_overdue_is_surely_lost(proposals: Proposals) -> None:
    proposal = waiting(proposals, deadline=5.0)
    proposals.expire(5.0)
    with pytest.raises(ProposalDropped, match="before it could be proposed"):
        proposal.outcome()
    assert proposals.next_batch(100) == []


def test_withdrawing_frees_its_place_once(proposals: Proposals) -> None:
    proposal = sent(proposals)
    proposals.withdraw(proposal)
    proposals.withdraw(proposal)
    assert len(proposals) == 0


def test_what_is_under_way_is_bounded_and_the_next_waits_for_its_turn() -> None:
    proposals = Proposals(bytes_max=2000)
    first, second = sent(proposals, b"a" * 1000), waiting(proposals, b"b" * 1000, deadline=5.0)
    assert proposals.next_batch(10_000) == []
    proposals.applied(first.sequence, None)
    assert proposals.next_batch(10_000) == [second]


def test_one_that_waited_for_its_turn_until_its_time_was_over_is_told_why() -> None:
    proposals = Proposals(bytes_max=2000)
    sent(proposals, b"a" * 1000)
    late = waiting(proposals, b"b" * 1000, deadline=5.0)
    assert proposals.next_batch(10_000) == []
    assert proposals.expire(5.0)
    with pytest.raises(Overloaded, match="earlier proposals were under way"):
        late.outcome()


def test_a_batch_that_the_leader_does_not_take_yet_keeps_its_place(proposals: Proposals) -> None:
    first, second, third = waiting(proposals), waiting(proposals), waiting(proposals, deadline=5.0)
    batch = proposals.next_batch(2)
    assert batch == [first, second]
    proposals.put_back(batch)
    assert proposals.next_batch(1000) == [first, second, third]
    proposals.put_back([first, second, third])
    proposals.expire(5.0)
    with pytest.raises(Overloaded):
        third.outcome()


def test_what_waits_is_bounded_and_one_of_any_size_fits_alone() -> None:
    proposals = Proposals(bytes_max=2000)
    large = waiting(proposals, b"x" * 5000)
    with pytest.raises(Overloaded, match="5512 wait behind them and at most 2000"):
        waiting(proposals)
    batch = proposals.next_batch(1)
    assert batch == [large]
    proposals.refuse(batch, ProposalDropped("no leader"))
    assert large.settled
    waiting(proposals)


def test_deadlines_of_what_is_settled_do_not_pile_up(proposals: Proposals) -> None:
    for _ in range(1000):
        proposal = sent(proposals)
        proposals.applied(proposal.sequence, None)
    assert len(proposals._deadlines) <= 70


def test_when_the_node_stops_nobody_waits_any_longer(proposals: Proposals) -> None:
    unsent = sent(proposals), waiting(proposals)
    proposals.stop()
    with pytest.raises(OutcomeUnknown, match="node stopped"):
        unsent[0].outcome()
    with pytest.raises(NodeStopped, match="before it could propose"):
        unsent[1].outcome()
    assert (len(proposals), proposals.next_deadline) == (0, None)


def test_what_can_not_be_proposed_is_not_forgotten(proposals: Proposals) -> None:
    core = Raft(RaftConfig(id=1), MemoryLog(), now=0.0, rng=random.Random(1))
    proposal = proposals.add(("no bytes",), deadline=10.0, wake=lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        propose_all(proposals, core, Envelopes(1, 1), bytes_max=1000)
    proposals.stop()
    with pytest.raises(NodeStopped):
        proposal.outcome()
