"""Whole lists compared by two cores, message by message."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.identity import NODE_ID_MAX, Address, NodeId
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.membership.effects import Effect, Send
from meshnode.membership.messages import (
    BUCKETS,
    DIGEST_BYTES,
    Ack,
    Gossip,
    Member,
    Message,
    Ping,
    State,
    SyncPage,
    SyncPush,
    SyncRequest,
)
from meshnode.membership.swim import Swim
from meshnode.membership.sync import PUSHES_MAX, REQUESTS_MAX, SESSIONS_MAX
from tests.membership.samples import address, member, rumours

CONFIG = SwimConfig()
SYNC_MESSAGES = (SyncRequest, SyncPage, SyncPush)


def core(number: int, known: Iterable[Member] = (), *, config: SwimConfig = CONFIG) -> Swim:
    """A core that holds ``known`` and has nothing left to say about it."""
    swim = Swim(config, member(number), random.Random(number), 0.0)
    for one in known:
        swim._view.merge(one, 0.0, [])
        swim._view.gossip.discard(one.node_id)
    return swim


def spread(count: int) -> list[Member]:
    """Members over all buckets."""
    return [
        dataclasses.replace(member(number), node_id=NodeId(number * 0x9E3779B97F4A7C15 % NODE_ID_MAX))
        for number in range(1, count + 1)
    ]


def begin(swim: Swim, to: Address, now: float = 0.1) -> list[Effect]:
    effects: list[Effect] = []
    swim._sync.begin(to, now, effects)
    return effects


def converse(
    one: Swim,
    other: Swim,
    effects: list[Effect],
    *,
    now: float = 0.1,
    lose: Callable[[Message], bool] = lambda _: False,
) -> list[Message]:
    """Deliver what the two say to each other about their lists, until they are done. Returns all of it."""
    cores = {one.me.address: one, other.me.address: other}
    said: list[Message] = []
    pending = list(effects)
    while pending:
        effect = pending.pop(0)
        if isinstance(effect, Send) and isinstance(effect.message, SYNC_MESSAGES) and effect.to in cores:
            said.append(effect.message)
            assert HEADER_BYTES + len(wire.encode(effect.message)) <= CONFIG.datagram_bytes_max
            target = cores[effect.to]
            sender = other.me.address if target is one else one.me.address
            if not lose(effect.message):
                pending += target.receive(effect.message, sender, now)
    return said


def live(swim: Swim) -> dict[NodeId, Member]:
    return {node_id: held for node_id, held in swim.members.items() if held.is_live}


@pytest.mark.parametrize("count", [0, 1, 10, 300])
def test_a_newcomer_learns_the_whole_list_page_by_page(count: int) -> None:
    seed = core(1, spread(count))
    newcomer = core(2)
    said = converse(newcomer, seed, newcomer.join([address(1)], 0.0))
    assert live(newcomer) == live(seed)
    assert len(live(seed)) == count + 2
    assert not [message for message in said if isinstance(message, SyncPush)]


def test_equal_lists_cost_one_question_and_one_short_answer() -> None:
    known = spread(100)
    one, other = core(1, [*known, member(2)]), core(2, [*known, member(1)])
    said = converse(one, other, begin(one, address(2)))
    assert [type(message) for message in said] == [SyncRequest, SyncPage]
    assert sum(len(wire.encode(message)) for message in said) < 400


def test_one_difference_in_a_long_list_costs_one_bucket() -> None:
    known = spread(1000)
    one, other = core(1, [*known, member(2)]), core(2, [*known[1:], member(1)])
    said = converse(one, other, begin(one, address(2)))
    assert live(one) == live(other)
    assert sum(len(message.members) for message in said if isinstance(message, SyncPage)) <= 2 * 1000 / BUCKETS
    assert sum(len(message.members) for message in said if isinstance(message, SyncPush)) == 1


lists = st.lists(rumours(st.integers(1, 9) | st.integers(NODE_ID_MAX - 9, NODE_ID_MAX), conflicts=True), max_size=14)


@given(lists, lists)
def test_two_lists_are_the_same_after_one_comparison(known_to_one: list[Member], known_to_other: list[Member]) -> None:
    one, other = core(100, [*known_to_one, member(101)]), core(101, [*known_to_other, member(100)])
    before = {
        node_id: [held for held in (one.members.get(node_id), other.members.get(node_id)) if held is not None]
        for node_id in {*one.members, *other.members}
    }
    converse(one, other, begin(one, address(101)))
    for node_id, beliefs in before.items():
        newest = max(beliefs, key=lambda held: (held.incarnation, held.state))
        after = [one.members.get(node_id), other.members.get(node_id)]
        for held in after:
            if newest.is_live:
                # Suspicion alone starts no exchange, and a death that only one has heard of becomes one.
                assert held is not None
                assert held.incarnation == newest.incarnation
                assert held.is_live
            elif len(beliefs) == 2 and any(belief.is_live for belief in beliefs):
                assert held is not None
                assert held.incarnation == newest.incarnation
                assert held.state in (State.SUSPECT, newest.state)
    assert one._view.roster.buckets_that_differ(other._view.roster.digests()) == 0 or any(
        held.state is State.DEAD for held in [*one.members.values(), *other.members.values()]
    )


def test_a_listed_death_is_doubted_by_who_holds_the_member_alive() -> None:
    one, other = core(1, [member(2), member(3, state=State.DEAD)]), core(2, [member(1), member(3)])
    converse(one, other, begin(one, address(2)))
    assert other.members[NodeId(3)].state is State.SUSPECT
    assert one.members[NodeId(3)].state is State.DEAD


def test_who_asks_while_held_dead_learns_of_it_refutes_and_is_alive_again() -> None:
    one, other = core(1, [member(2)]), core(2, [member(1, state=State.DEAD), member(3)])
    converse(one, other, begin(one, address(2)))
    assert one.me == member(1, claim=1)
    assert other.members[NodeId(1)] == one.me
    assert one.members[NodeId(3)] == member(3)


def test_who_is_asked_while_held_dead_refutes_too() -> None:
    one, other = core(1, [member(2, state=State.DEAD), member(4)]), core(2, [member(1)])
    converse(one, other, begin(one, address(2)))
    assert other.me == member(2, claim=1)
    assert other.members[NodeId(4)] == member(4)


def test_the_departed_stay_departed_in_both_lists() -> None:
    one, other = core(1, [member(2), member(3, state=State.LEFT)]), core(2, [member(1), member(3)])
    converse(one, other, begin(one, address(2)))
    assert other.members[NodeId(3)].state is State.LEFT
    one, other = core(1, [member(2), member(3)]), core(2, [member(1), member(3, state=State.LEFT)])
    converse(one, other, begin(one, address(2)))
    assert one.members[NodeId(3)].state is State.LEFT


def test_tombstones_do_not_pass_to_who_never_heard_of_the_member() -> None:
    one, other = core(1, [member(2), member(5)]), core(2, [member(1), member(3, state=State.DEAD)])
    converse(other, one, begin(other, address(1)))
    assert NodeId(5) in other.members
    assert NodeId(3) not in one.members
    converse(one, other, begin(one, address(2)))
    assert NodeId(3) not in one.members


def test_a_lost_page_is_asked_for_again() -> None:
    seed, newcomer = core(1, spread(100)), core(2)
    pages = 0

    def lose_the_third(message: Message) -> bool:
        nonlocal pages
        pages += isinstance(message, SyncPage)
        return isinstance(message, SyncPage) and pages == 3

    converse(newcomer, seed, newcomer.join([address(1)], 0.0), lose=lose_the_third)
    assert 2 < len(live(newcomer)) < 102
    overdue = newcomer._sync.deadline
    effects: list[Effect] = []
    newcomer._sync.wake(overdue, effects)
    converse(newcomer, seed, effects, now=0.1)
    assert live(newcomer) == live(seed)


def test_who_stops_answering_is_asked_a_bounded_number_of_times() -> None:
    seed, newcomer = core(1, spread(100)), core(2)
    (first,) = newcomer.join([address(1)], 0.0)
    assert isinstance(first, Send)
    (page,) = [effect for effect in seed.receive(first.message, address(2), 0.0) if isinstance(effect, Send)]
    effects = newcomer.receive(page.message, address(1), 0.0)
    asked = sum(isinstance(effect, Send) and isinstance(effect.message, SyncRequest) for effect in effects)
    for second in range(1, 10):
        effects = []
        newcomer._sync.wake(float(second), effects)
        asked += len(effects)
    assert asked == REQUESTS_MAX
    assert newcomer._sync.deadline == float("inf")


def test_a_repeated_page_neither_ends_the_comparison_nor_repeats_the_question() -> None:
    seed, newcomer = core(1, spread(100)), core(2)
    (first,) = newcomer.join([address(1)], 0.0)
    assert isinstance(first, Send)
    (page,) = [effect for effect in seed.receive(first.message, address(2), 0.0) if isinstance(effect, Send)]
    (question,) = [
        effect
        for effect in newcomer.receive(page.message, address(1), 0.0)
        if isinstance(effect, Send) and isinstance(effect.message, SyncRequest)
    ]
    assert newcomer.receive(page.message, address(1), 0.0) == []
    converse(newcomer, seed, [question])
    assert live(newcomer) == live(seed)


def test_a_page_that_answers_no_question_is_dropped() -> None:
    swim = core(1)
    assert swim.receive(SyncPage(5, NODE_ID_MAX, 0, (member(9),)), address(9), 0.0) == []
    assert swim.counters.strays == 1
    assert NodeId(9) not in swim.members


def test_comparisons_are_bounded_and_one_to_an_address() -> None:
    swim = core(1)
    for number in range(2, SESSIONS_MAX + 12):
        begin(swim, address(number))
        assert begin(swim, address(2)) == []
    assert swim.counters.syncs == SESSIONS_MAX
    assert swim.counters.refused == 10


def test_a_comparison_with_an_endless_list_ends() -> None:
    swim = core(1, [member(2)])
    (question,) = begin(swim, address(2))
    asked = 0
    while isinstance(question, Send) and isinstance(question.message, SyncRequest):
        asked += 1
        assert asked < 20_000
        page = SyncPage(question.message.sequence, question.message.after + 1, 2**BUCKETS - 1)
        answers = [
            effect
            for effect in swim.receive(page, address(2), 0.1)
            if isinstance(effect, Send) and isinstance(effect.message, SyncRequest)
        ]
        if not answers:
            break
        question = answers[0]
    assert asked > 100
    assert swim._sync.deadline == float("inf")


def test_one_answer_pushes_a_bounded_number_of_datagrams() -> None:
    one, other = core(1, [*spread(1900), member(2)]), core(2)
    said = converse(one, other, begin(one, address(2)))
    assert sum(isinstance(message, SyncPush) for message in said) == PUSHES_MAX
    assert len(live(other)) > 100


def test_the_news_of_a_newcomer_is_said_once_and_of_a_member_as_often_as_any() -> None:
    seed = core(1, spread(8))
    newcomer, friend = core(2), core(3, [member(1), member(4)])
    converse(newcomer, seed, newcomer.join([address(1)], 0.0))
    converse(friend, seed, begin(friend, address(1)))
    some = spread(1)[0].node_id
    for swim, times in ((newcomer, 1), (friend, CONFIG.transmit_limit(11))):
        queue = swim._view.gossip
        said = [queue.take(bytes_max=10**6, transmit_limit=CONFIG.transmit_limit(11)) for _ in range(20)]
        assert sum(some in {update.node_id for update in updates} for updates in said) == times


def test_a_node_that_is_its_own_seed_under_another_name_does_not_answer_itself() -> None:
    swim = core(1)
    (question,) = begin(swim, Address("127.0.0.1", 7946))
    assert isinstance(question, Send)
    assert swim.receive(question.message, Address("127.0.0.1", 7946), 0.1) == []


def test_two_processes_with_one_identity_do_not_raise_each_other_without_end() -> None:
    """Restored from one image: the same id and boot at two addresses."""
    original = core(1, [member(2)])
    copy = Swim(CONFIG, dataclasses.replace(member(1), address=Address("192.0.2.9", 7946)), random.Random(9), 0.0)
    copy.receive(Gossip((member(2),)), address(2), 0.0)
    said = converse(original, copy, begin(original, copy.me.address))
    assert len(said) < 12
    assert original.counters.conflicts + copy.counters.conflicts > 0


def test_a_stranger_that_pings_is_answered_and_asked_for_its_list() -> None:
    restarted, stranger = core(1), core(2, [member(1), member(3)])
    effects = restarted.receive(Ping(1, NodeId(1), NodeId(2)), address(2), 0.1)
    assert [type(effect.message).__name__ for effect in effects if isinstance(effect, Send)] == ["Ack", "SyncRequest"]
    converse(restarted, stranger, effects)
    assert {2, 3} <= restarted.members.keys()


def test_lists_are_compared_often_at_first_and_then_at_the_interval() -> None:
    swim = core(1, [member(2)])
    times = []
    while swim.next_deadline < 400.0:
        now = swim.next_deadline
        for effect in swim.wake(now):
            if isinstance(effect, Send) and isinstance(effect.message, SyncRequest):
                times.append(now)
                converse(swim, core(2, [member(1)]), [effect], now=now)
            elif isinstance(effect, Send) and isinstance(effect.message, Ping):
                swim.receive(Ack(effect.message.sequence, NodeId(2)), address(2), now)
    assert times[0] <= 1.25
    assert times[1] <= 4.0
    regular = [later - earlier for earlier, later in itertools.pairwise(times[5:])]
    assert len(regular) > 5
    assert all(22.5 <= pause <= 37.5 for pause in regular)


def test_a_lost_member_is_knocked_at_now_and_then_and_a_departed_one_is_not() -> None:
    swim = core(1, [member(2, state=State.DEAD), member(3, state=State.LEFT)])
    knocked: list[Address] = []
    while swim.next_deadline < 100.0:
        for effect in swim.wake(swim.next_deadline):
            assert isinstance(effect, Send)
            assert isinstance(effect.message, SyncRequest)
            knocked.append(effect.to)
    assert set(knocked) == {address(2)}
    assert 5 <= len(knocked) <= 10


def test_a_request_for_a_list_introduces_its_sender() -> None:
    swim = core(1)
    effects = swim.receive(SyncRequest(1, member(2), bytes(BUCKETS * DIGEST_BYTES)), address(2), 0.1)
    assert NodeId(2) in swim.members
    assert any(isinstance(effect, Send) and isinstance(effect.message, SyncPage) for effect in effects)
