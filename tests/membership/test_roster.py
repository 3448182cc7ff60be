import math
import random
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from meshnode.identity import NODE_ID_MAX, NodeId
from meshnode.membership import roster as roster_module
from meshnode.membership.config import SwimConfig
from meshnode.membership.effects import Changed, Counters, Effect
from meshnode.membership.gossip import record_bytes
from meshnode.membership.messages import BUCKET_SHIFT, BUCKETS, Member, State
from meshnode.membership.roster import MEMBERS_MAX, Roster, supersedes
from meshnode.membership.view import View
from tests.membership.samples import member, rumours

ME = 5_000_000
one = rumours(st.just(1))
one_conflicting = rumours(st.just(1), conflicts=True)
several = st.lists(rumours(st.integers(1, 4), conflicts=True), max_size=12)


def roster(*members: Member) -> Roster:
    table = Roster(member(ME), retention_s=100.0)
    for one_more in members:
        table.put(one_more, now=0.0)
    return table


def view() -> View:
    return View(SwimConfig(), member(ME), random.Random(1), Counters())


def as_the_paper_says(rumour: Member, held: Member) -> bool:
    """SWIM 4.2, rule by rule, with departure as the strongest claim and rebirth by a higher incarnation."""
    i, j = rumour.incarnation, held.incarnation
    match rumour.state:
        case State.ALIVE:
            return i > j
        case State.SUSPECT:
            return i >= j if held.state is State.ALIVE else i > j
        case State.DEAD:
            return i >= j if held.state in (State.ALIVE, State.SUSPECT) else i > j
        case State.LEFT:
            return i >= j if held.state is not State.LEFT else i > j


@given(one, one)
def test_rumours_override_each_other_as_the_paper_says(rumour: Member, held: Member) -> None:
    assert supersedes(rumour, held) == as_the_paper_says(rumour, held)


@given(one_conflicting, one_conflicting, one_conflicting)
def test_the_order_of_rumours_is_total(a: Member, b: Member, c: Member) -> None:
    assert [supersedes(a, b), supersedes(b, a), a == b].count(True) == 1
    if supersedes(a, b) and supersedes(b, c):
        assert supersedes(a, c)


@given(several, st.randoms(use_true_random=False))
def test_nodes_that_heard_the_same_in_any_order_believe_the_same_once_no_suspicion_runs(
    heard: list[Member], rng: random.Random
) -> None:
    other_order = heard * 2
    rng.shuffle(other_order)
    views = view(), view()
    for believer, order in zip(views, (heard, other_order), strict=True):
        for rumour in order:
            believer.merge(rumour, 0.0, [])
        believer.declare_due(SwimConfig().suspicion_s(9), [])
    # Of two records that differ at one incarnation each may have declared another one dead.
    for believer, other in (views, views[::-1]):
        for declared in list(other.roster.tombstones()):
            believer.merge(declared, 0.0, [])
    assert dict(views[0].roster.members) == dict(views[1].roster.members)
    assert views[0].roster.digests() == views[1].roster.digests()


@given(several)
def test_a_belief_only_ever_moves_up_the_order_and_each_move_is_reported_once(heard: list[Member]) -> None:
    believer = view()
    for rumour in heard:
        before = believer.roster.get(rumour.node_id)
        effects: list[Effect] = []
        believer.merge(rumour, 0.0, effects)
        if rumour.state is State.DEAD and before is not None and before.is_live:
            rumour = replace(rumour, state=State.SUSPECT)
        after = believer.roster.members[rumour.node_id]
        if before is None:
            assert after == rumour
            assert effects == ([Changed(after, None)] if after.is_live else [])
        elif supersedes(rumour, before):
            assert after == rumour
            assert effects in ([], [Changed(after, before.state)])
            if after.state != before.state or after.boot != before.boot:
                assert effects
        else:
            assert after == before
            assert effects == []


@given(several)
def test_counts_suspicions_and_probe_order_follow_from_the_table(heard: list[Member]) -> None:
    believer = view()
    for rumour in heard:
        believer.merge(rumour, 0.0, [])
        live = [held for held in believer.roster.members.values() if held.is_live]
        assert believer.roster.live == len(live)
        assert len(believer.order) == len(live) - 1
        suspects = {held.node_id for held in live if held.state is State.SUSPECT}
        assert {held.node_id for held in live if held.node_id in believer.suspicions} == suspects
        assert len(believer.suspicions) == len(suspects)
        tombstones = {held.node_id for held in believer.roster.tombstones()}
        assert tombstones == believer.roster.members.keys() - {held.node_id for held in live}


@given(st.lists(rumours(st.integers(1, NODE_ID_MAX)), max_size=12), st.lists(rumours(st.integers(1, 9)), max_size=6))
def test_tables_have_equal_digests_if_they_have_the_same_live_claims(some: list[Member], more: list[Member]) -> None:
    table = roster(*some, *more)
    rebuilt = roster(*[held for held in table.members.values() if held.is_live])
    assert table.digests() == rebuilt.digests()
    assert table.buckets_that_differ(rebuilt.digests()) == 0


@given(st.lists(rumours(st.integers(1, NODE_ID_MAX)), max_size=12), rumours(st.integers(1, NODE_ID_MAX)))
def test_a_difference_shows_in_its_bucket_and_nowhere_else(some: list[Member], news: Member) -> None:
    assume(news.is_live and news not in some)
    table, other = roster(*some), roster(*some)
    held = table.get(news.node_id)
    assume(held is None or held.incarnation != news.incarnation or not held.is_live)
    table.put(news, now=0.0)
    assert table.buckets_that_differ(other.digests()) == 1 << (news.node_id >> BUCKET_SHIFT)


def test_suspicion_alone_is_no_difference() -> None:
    assert roster(member(1)).digests() == roster(member(1, state=State.SUSPECT)).digests()


ids = st.integers(1, 6) | st.integers(1, NODE_ID_MAX) | st.integers(NODE_ID_MAX - 3, NODE_ID_MAX)
masks = st.integers(0, 2**BUCKETS - 1) | st.just(2**BUCKETS - 1)


@given(st.lists(rumours(ids), max_size=20), ids, masks, st.integers(80, 400))
def test_a_page_lists_the_live_in_order_as_far_as_they_fit(
    some: list[Member], after: int, buckets: int, bytes_max: int
) -> None:
    table = roster(*some)
    listed = sorted(
        [
            held
            for held in table.members.values()
            if held.is_live and held.node_id > after and buckets >> (held.node_id >> BUCKET_SHIFT) & 1
        ],
        key=lambda held: held.node_id,
    )
    page, upto = table.page(after, buckets, bytes_max=bytes_max)
    assert page == listed[: len(page)]
    assert sum(record_bytes(held) for held in page) <= bytes_max
    if len(page) == len(listed):
        assert upto == NODE_ID_MAX
    else:
        assert upto == listed[len(page)].node_id - 1
        assert sum(record_bytes(held) for held in listed[: len(page) + 1]) > bytes_max


@given(st.lists(rumours(ids), max_size=20), ids, ids, masks)
def test_a_range_is_everyone_in_it(some: list[Member], after: int, upto: int, buckets: int) -> None:
    table = roster(*some)
    inside = [
        held
        for held in table.members.values()
        if after < held.node_id <= upto and buckets >> (held.node_id >> BUCKET_SHIFT) & 1
    ]
    assert list(table.between(after, upto, buckets)) == sorted(inside, key=lambda held: held.node_id)


def test_tombstones_are_forgotten_when_their_time_is_over_and_not_before() -> None:
    table = roster()
    assert table.deadline == math.inf
    table.put(member(1, state=State.DEAD), now=0.0)
    table.put(member(2, state=State.LEFT), now=10.0)
    table.put(member(1, boot=2), now=20.0)
    table.put(member(1, boot=2, state=State.DEAD), now=30.0)
    assert table.deadline == 110.0
    table.forget_due(109.9)
    assert {1, 2} <= table.members.keys()
    table.forget_due(110.0)
    assert table.members.keys() == {1, ME}
    assert list(table.between(0, NODE_ID_MAX, 2**BUCKETS - 1)) == sorted(table.members.values(), key=id_of)
    table.forget_due(130.0)
    assert table.members.keys() == {ME}
    assert table.deadline == math.inf


def id_of(held: Member) -> NodeId:
    return held.node_id


def test_a_full_table_forgets_the_oldest_dead_for_a_newcomer_but_never_the_live() -> None:
    believer = view()
    effects: list[Effect] = []
    for number in range(1, MEMBERS_MAX - 2):
        believer.merge(member(number), 0.0, effects)
    believer.merge(member(20_000, state=State.DEAD), 0.0, effects)
    believer.merge(member(20_001, state=State.DEAD), 1.0, effects)
    assert len(believer.roster.members) == MEMBERS_MAX
    for number in (30_000, 30_001):
        believer.merge(member(number), 2.0, effects)
        assert number in believer.roster.members
    assert not {20_000, 20_001} & believer.roster.members.keys()
    believer.merge(member(30_002), 3.0, effects)
    assert 30_002 not in believer.roster.members
    assert len(believer.roster.members) == believer.roster.live == MEMBERS_MAX
    assert believer._counters.refused == 1
    assert len(believer.order) == MEMBERS_MAX - 1


def test_a_table_that_is_full_still_takes_news_of_those_in_it() -> None:
    believer = view()
    for number in range(1, MEMBERS_MAX):
        believer.merge(member(number), 0.0, [])
    believer.merge(member(5, state=State.SUSPECT), 1.0, [])
    assert believer.roster.members[NodeId(5)].state is State.SUSPECT
    assert len(believer.roster.members) == roster_module.MEMBERS_MAX
