"""Whatever a well-typed message says, the core stays sound."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.identity import Address, NodeId
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.membership.effects import Effect, Send
from meshnode.membership.messages import INCARNATION_LIMIT, Member, Message, State
from meshnode.membership.probe import PROBES_MAX, RELAYS_MAX
from meshnode.membership.swim import Swim
from meshnode.membership.sync import SESSIONS_MAX
from tests.membership.samples import address, member, messages

pytestmark = pytest.mark.timeout(600)  # two thousand examples in the long profile


CONFIG = SwimConfig(datagram_bytes_max=1232, sync_interval_s=5.0, rejoin_interval_s=5.0, dead_retention_s=20.0)

senders = st.sampled_from([address(number) for number in range(1, 6)])
steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.3, 2.0, 30.0]), senders, messages | st.integers(1, 5)), max_size=30
)


def check(swim: Swim, now: float, effects: list[Effect]) -> None:
    view = swim._view
    live = [held for held in swim.members.values() if held.is_live]
    assert swim.me == swim.members[swim.me.node_id]
    assert view.roster.live == len(live)
    assert {held.node_id for held in live if held.state is State.SUSPECT} == view.suspicions._deadlines.keys()
    assert len(view.order) == len(live) - swim.me.is_live
    assert len(swim._detector._probes) <= PROBES_MAX
    assert len(swim._detector._relays) <= RELAYS_MAX
    assert len(swim._sync._sessions) <= SESSIONS_MAX
    for effect in effects:
        if isinstance(effect, Send):
            assert HEADER_BYTES + len(wire.encode(effect.message)) <= CONFIG.datagram_bytes_max
            assert effect.to != swim.me.address or effect.to in (address(1), address(2), address(3))
    assert now >= 0.0


@given(steps, st.integers(0, 2**32), st.booleans())
def test_arbitrary_messages_never_raise_and_leave_the_core_consistent(
    happenings: list[tuple[float, Address, Message | int]], seed: int, leaves: bool
) -> None:
    swim = Swim(CONFIG, member(1), random.Random(seed), 0.0)
    now = 0.0
    check(swim, now, swim.join([address(2)], now))
    for pause_s, sender, happening in happenings:
        now += pause_s
        own = swim.me
        if isinstance(happening, int):
            effects = swim.probe_now(NodeId(happening), now)
        else:
            effects = swim.receive(happening, sender, now)
        check(swim, now, effects)
        assert own.incarnation <= swim.me.incarnation < INCARNATION_LIMIT
        assert swim.me.address == own.address
        if swim.next_deadline <= now:
            check(swim, now, swim.wake(now))
        assert swim.next_deadline > now
    if leaves:
        check(swim, now, swim.leave(now))
        for _, sender, happening in happenings:
            if not isinstance(happening, int):
                check(swim, now, swim.receive(happening, sender, now))
        assert swim.me.state is State.LEFT


@given(st.lists(st.tuples(senders, messages), max_size=30))
def test_nobody_else_can_raise_ones_incarnation_by_more_than_a_rumour_needs(
    heard: list[tuple[Address, Message]],
) -> None:
    swim = Swim(CONFIG, member(1), random.Random(1), 0.0)
    for sender, message in heard:
        before = swim.me
        swim.receive(message, sender, 0.0)
        if swim.me is not before:
            claims = [claim.incarnation for claim in _claims_in(message) if claim.node_id == 1]
            assert swim.me.incarnation <= max(claims) + 1
            assert swim.me.incarnation > before.incarnation


@given(st.lists(st.tuples(senders, messages), max_size=30))
def test_nobody_claims_an_incarnation_that_the_subject_did_not(heard: list[tuple[Address, Message]]) -> None:
    """What a core says of others is something it has heard, or less: never a higher incarnation."""
    swim = Swim(CONFIG, member(1), random.Random(1), 0.0)
    highest: dict[NodeId, int] = {}
    for number, (sender, message) in enumerate(heard):
        for claim in _claims_in(message):
            highest[claim.node_id] = max(claim.incarnation, highest.get(claim.node_id, 0))
        effects = swim.receive(message, sender, number * 0.6)
        if swim.next_deadline <= number * 0.6:
            effects += swim.wake(number * 0.6)
        for effect in effects:
            if isinstance(effect, Send):
                for claim in _claims_in(effect.message):
                    assert claim.node_id == 1 or claim.incarnation <= highest[claim.node_id]


def _claims_in(message: Message) -> list[Member]:
    claims = list(getattr(message, "updates", ())) + list(getattr(message, "members", ()))
    source = getattr(message, "source", None)
    return [*claims, source] if isinstance(source, Member) else claims
