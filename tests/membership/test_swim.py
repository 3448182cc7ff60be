"""Cores on a list: every message is delivered, dropped or delayed by hand."""

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import Address, NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.effects import Changed, Effect, SeedsSilent, Send
from meshnode.membership.messages import (
    BOOT_MAX,
    INCARNATION_LIMIT,
    SEQUENCE_MAX,
    Ack,
    Gossip,
    Message,
    Ping,
    PingRequest,
    State,
    SyncRequest,
)
from meshnode.membership.probe import PROBES_MAX, RELAYS_MAX, SUSPECTS_MAX
from meshnode.membership.seeds import SEEDS_MAX, SEEDS_PER_ATTEMPT
from meshnode.membership.swim import Swim
from tests.membership.samples import address, member

# One that neither syncs nor rejoins within the time of a test, so that only what the test is about happens.
CONFIG = SwimConfig(sync_interval_s=3600.0, rejoin_interval_s=3600.0)


def core(number: int, *others: int, config: SwimConfig = CONFIG, seed: int = 1) -> Swim:
    """The core of a member that knows the others, with nothing left to spread."""
    swim = Swim(config, member(number), random.Random(seed), 0.0)
    swim._sync_at = 3600.0
    swim._plan_chores()
    for other in others:
        swim.receive(Gossip((member(other),)), address(other), 0.0)
    swim._view.gossip.take(bytes_max=10**6, transmit_limit=1)
    swim._gossip_at = math.inf
    return swim


def sends(effects: list[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def messages_of(effects: list[Effect], kind: type) -> list[Message]:
    return [send.message for send in sends(effects) if isinstance(send.message, kind)]


def changes(effects: list[Effect]) -> list[Changed]:
    return [effect for effect in effects if isinstance(effect, Changed)]


def state(swim: Swim, number: int) -> State:
    return swim.members[NodeId(number)].state


def pass_time(swim: Swim, until: float) -> tuple[list[Effect], float]:
    """Wake the core whenever it wants, up to and including ``until``."""
    effects: list[Effect] = []
    while swim.next_deadline <= until:
        effects += swim.wake(swim.next_deadline)
    return effects, until


def first_ping(swim: Swim) -> tuple[Send, Ping, float]:
    """Let time pass until the core pings."""
    for _ in range(100):
        now = swim.next_deadline
        for send in sends(swim.wake(now)):
            if isinstance(send.message, Ping):
                return send, send.message, now
    pytest.fail("nobody was pinged")


# ---- probing


def test_a_ping_is_answered_to_its_sender_with_its_number() -> None:
    effects = core(1, 2).receive(Ping(7, NodeId(1), NodeId(2)), address(77), 0.1)
    (send,) = sends(effects)
    assert send.to == address(77)
    assert isinstance(send.message, Ack)
    assert (send.message.sequence, send.message.source) == (7, 1)


def test_a_ping_for_another_node_is_not_answered() -> None:
    swim = core(1, 2)
    assert swim.receive(Ping(7, NodeId(3), NodeId(2)), address(2), 0.1) == []
    assert swim.counters.misdirected == 1


def test_one_member_is_probed_each_period() -> None:
    swim = core(1, 2, 3, 4)
    pinged = []
    for _ in range(9):
        send, ping, now = first_ping(swim)
        assert send.to == address(ping.target)
        pinged.append(ping.target)
        swim.receive(Ack(ping.sequence, ping.target), send.to, now + 0.01)
    assert sorted(pinged[:3]) == sorted(pinged[3:6]) == sorted(pinged[6:]) == [2, 3, 4]
    assert 8.0 <= now <= 9.0
    assert swim.counters.probes == 9
    assert swim.counters.probes_failed == 0


def test_an_answered_probe_has_no_consequences() -> None:
    swim = core(1, 2, 3)
    send, ping, now = first_ping(swim)
    assert swim.receive(Ack(ping.sequence, ping.target), send.to, now + 0.4) == []
    effects, _ = pass_time(swim, now + 0.99)
    assert effects == []


def test_an_unanswered_probe_asks_others_after_the_timeout_and_suspects_after_the_period() -> None:
    swim = core(1, 2, 3, 4, 5, 6)
    _, ping, now = first_ping(swim)
    effects, now = pass_time(swim, now + 0.5)
    requests = sends(effects)
    assert len(requests) == 3
    assert len({request.to for request in requests}) == 3
    for request in requests:
        assert isinstance(request.message, PingRequest)
        assert request.message.target == ping.target
        assert request.message.updates[0] == swim.members[ping.target]
        assert request.to != address(ping.target)
    effects, now = pass_time(swim, now + 0.49)
    assert changes(effects) == []
    effects, now = pass_time(swim, now + 0.02)
    suspect = swim.members[ping.target]
    assert changes(effects) == [Changed(suspect, State.ALIVE)]
    assert suspect.state is State.SUSPECT


def test_suspects_are_not_asked_to_probe_for_others() -> None:
    swim = core(1, 2, 3, 4)
    swim.receive(Gossip((member(3, state=State.SUSPECT), member(4, state=State.SUSPECT))), address(2), 0.0)
    swim.wake(0.0)
    (ping,) = messages_of(swim.probe_now(NodeId(2), 0.01), Ping)
    assert isinstance(ping, Ping)
    effects, _ = pass_time(swim, 0.52)
    assert messages_of(effects, PingRequest) == []


@pytest.mark.parametrize("answered_at", [0.1, 0.7])
def test_an_answer_that_comes_before_the_end_of_the_period_counts(answered_at: float) -> None:
    swim = core(1, 2, 3)
    _, ping, now = first_ping(swim)
    pass_time(swim, now + answered_at)
    swim.receive(Ack(ping.sequence, ping.target), address(3), now + answered_at)
    pass_time(swim, now + 0.999)
    assert swim.counters.probes_failed == 0


def test_an_answer_of_another_node_or_number_does_not_count() -> None:
    swim = core(1, 2, 3)
    _, ping, now = first_ping(swim)
    other = NodeId(5 - ping.target)
    swim.receive(Ack(ping.sequence, other), address(other), now + 0.1)
    swim.receive(Ack((ping.sequence + 1) & SEQUENCE_MAX, ping.target), address(2), now + 0.1)
    assert swim.counters.strays == 2
    pass_time(swim, now + 1.0)
    assert swim.counters.probes_failed == 1


def test_a_relay_pings_for_another_and_passes_the_answer_on_under_its_number() -> None:
    relay = core(2, 1, 3)
    (send,) = sends(relay.receive(PingRequest(9, NodeId(3), NodeId(1)), address(1), 0.1))
    assert send.to == address(3)
    assert isinstance(send.message, Ping)
    assert send.message.target == 3
    (answer,) = sends(relay.receive(Ack(send.message.sequence, NodeId(3)), address(3), 0.2))
    assert answer == Send(address(1), Ack(9, NodeId(3)))
    again = relay.receive(Ack(send.message.sequence, NodeId(3)), address(3), 0.3)
    assert again == []
    assert relay.counters.strays == 1


def test_a_relay_that_does_not_know_the_target_learns_of_it_from_the_request() -> None:
    relay = core(2, 1)
    effects = relay.receive(PingRequest(9, NodeId(3), NodeId(1), (member(3),)), address(1), 0.1)
    assert [send.to for send in sends(effects)] == [address(3)]


def test_a_relay_refuses_a_target_that_nobody_describes_and_more_than_it_can_keep() -> None:
    relay = core(2, 1, 3)
    assert relay.receive(PingRequest(9, NodeId(4), NodeId(1)), address(1), 0.0) == []
    assert relay.counters.refused == 1
    for sequence in range(RELAYS_MAX + 5):
        relay.receive(PingRequest(sequence, NodeId(3), NodeId(1)), address(1), 0.0)
    assert relay.counters.refused == 1 + 5


def test_an_answer_that_reaches_a_relay_too_late_is_not_passed_on() -> None:
    relay = core(2, 1, 3)
    (send,) = sends(relay.receive(PingRequest(9, NodeId(3), NodeId(1)), address(1), 0.1))
    assert isinstance(send.message, Ping)
    late = relay.receive(Ack(send.message.sequence, NodeId(3)), address(3), 1.2)
    assert messages_of(late, Ack) == []


def test_a_request_to_ping_oneself_is_answered() -> None:
    effects = core(2, 1).receive(PingRequest(9, NodeId(2), NodeId(1)), address(1), 0.1)
    assert sends(effects) == [Send(address(1), Ack(9, NodeId(2)))]


def test_a_doubted_member_is_probed_at_once_and_once() -> None:
    swim = core(1, 2, 3)
    (send,) = sends(swim.probe_now(NodeId(3), 0.01))
    assert send.to == address(3)
    assert swim.probe_now(NodeId(3), 0.02) == []
    assert swim.next_deadline <= 0.51


def test_only_live_others_are_probed_on_demand() -> None:
    swim = core(1, 2)
    swim.receive(Gossip((member(3, state=State.DEAD), member(4, state=State.LEFT))), address(2), 0.0)
    for number in (1, 3, 4, 5):
        assert sends(swim.probe_now(NodeId(number), 0.01)) == []


def test_probes_on_demand_are_bounded() -> None:
    swim = core(1, *range(2, PROBES_MAX + 10))
    for number in range(2, PROBES_MAX + 10):
        swim.probe_now(NodeId(number), 0.0)
    assert swim.counters.probes == PROBES_MAX
    assert swim.counters.refused == 8


def test_a_probe_of_a_member_that_claimed_more_meanwhile_suspects_nobody() -> None:
    swim = core(1, 2, 3)
    _, ping, now = first_ping(swim)
    swim.receive(Gossip((member(ping.target, claim=1),)), address(2), now + 0.2)
    pass_time(swim, now + 1.0)
    assert swim.counters.probes_failed == 1
    assert state(swim, ping.target) is State.ALIVE


def test_a_probe_of_a_member_that_is_gone_meanwhile_ends_quietly() -> None:
    swim = core(1, 2, 3)
    _, ping, now = first_ping(swim)
    swim.receive(Gossip((member(ping.target, state=State.LEFT),)), address(2), now + 0.2)
    effects, _ = pass_time(swim, now + 1.0)
    assert messages_of(effects, PingRequest) == []
    assert state(swim, ping.target) is State.LEFT


def test_sequence_numbers_go_round() -> None:
    swim = core(1, 2)
    swim._detector._sequence = SEQUENCE_MAX
    (send,) = sends(swim.probe_now(NodeId(2), 0.0))
    assert isinstance(send.message, Ping)
    assert send.message.sequence == 0


# ---- suspicion, death, refutation


def test_a_suspect_that_does_not_refute_in_time_is_dead() -> None:
    swim = core(1, 2, 3)
    swim.receive(Gossip((member(3, state=State.SUSPECT),)), address(2), 0.0)
    quiet = dataclasses.replace(CONFIG, probe_interval_s=60.0)
    assert CONFIG.suspicion_s(3) == 3.0
    swim._detector.period_ends_at = quiet.probe_interval_s
    pass_time(swim, 2.99)
    assert state(swim, 3) is State.SUSPECT
    effects, _ = pass_time(swim, 3.0)
    assert changes(effects) == [Changed(member(3, state=State.DEAD), State.SUSPECT)]
    assert swim.counters.deaths == 1


@pytest.mark.parametrize("believed", [State.ALIVE, State.SUSPECT])
def test_a_death_that_is_heard_of_is_doubted_for_a_suspicions_time(believed: State) -> None:
    swim = core(1, 2, 3)
    swim.receive(Gossip((member(3, state=believed),)), address(2), 0.0)
    swim.receive(Gossip((member(3, state=State.DEAD),)), address(2), 0.5)
    died_at = CONFIG.suspicion_s(3) + (0.5 if believed is State.ALIVE else 0.0)
    swim._detector.period_ends_at = 60.0
    pass_time(swim, died_at - 0.01)
    assert state(swim, 3) is State.SUSPECT
    pass_time(swim, died_at)
    assert state(swim, 3) is State.DEAD


def test_a_suspect_is_probed_again_and_again_until_it_is_dead() -> None:
    swim = core(1, 2, 3)
    swim._detector.period_ends_at = 60.0
    effects = swim.probe_now(NodeId(3), 0.0)
    effects += pass_time(swim, 50.0)[0]
    assert state(swim, 3) is State.DEAD
    pings = messages_of(effects, Ping)
    # One finds it out, and then one a period for as long as it has to refute.
    assert len(pings) == 1 + CONFIG.suspicion_s(3) / CONFIG.probe_interval_s
    assert all(ping.updates[0] == member(3, state=State.SUSPECT) for ping in pings[1:])  # type: ignore[union-attr]


def test_a_suspect_that_refutes_is_not_probed_on() -> None:
    swim = core(1, 2, 3)
    swim._detector.period_ends_at = 60.0
    swim.probe_now(NodeId(3), 0.0)
    pass_time(swim, 1.5)
    assert state(swim, 3) is State.SUSPECT
    swim.receive(Gossip((member(3, claim=1),)), address(2), 1.5)
    effects, _ = pass_time(swim, 50.0)
    assert not messages_of(effects, Ping)
    assert state(swim, 3) is State.ALIVE


def test_suspects_leave_room_for_other_probes() -> None:
    numbers = range(2, PROBES_MAX + 2)
    swim = core(1, *numbers)
    for number in numbers:
        swim.probe_now(NodeId(number), 0.0)
    swim._detector.period_ends_at = 60.0
    pass_time(swim, 1.5)
    assert len(swim._view.suspicions) == PROBES_MAX
    assert len(swim._detector._probes) == SUSPECTS_MAX


def test_a_suspect_that_refutes_is_alive() -> None:
    swim = core(1, 2, 3)
    swim.receive(Gossip((member(3, state=State.SUSPECT),)), address(2), 0.0)
    effects = swim.receive(Gossip((member(3, claim=1),)), address(2), 2.9)
    assert changes(effects) == [Changed(member(3, claim=1), State.SUSPECT)]
    assert not len(swim._view.suspicions)


def test_an_alive_claim_of_the_same_incarnation_refutes_nothing() -> None:
    swim = core(1, 2, 3)
    swim.receive(Gossip((member(3, state=State.SUSPECT),)), address(2), 0.0)
    assert changes(swim.receive(Gossip((member(3),)), address(2), 0.1)) == []
    assert state(swim, 3) is State.SUSPECT


@pytest.mark.parametrize("claimed", [State.SUSPECT, State.DEAD, State.LEFT])
def test_a_node_that_hears_ill_of_itself_claims_a_higher_incarnation(claimed: State) -> None:
    swim = core(1, 2)
    rumour = member(1, claim=4, state=claimed)
    effects = swim.receive(Ping(1, NodeId(1), NodeId(2), (rumour,)), address(2), 0.1)
    assert swim.me == member(1, claim=5)
    assert swim.counters.refutations == 1
    (ack,) = messages_of(effects, Ack)
    assert isinstance(ack, Ack)
    assert ack.updates[0] == member(1, claim=5)


def test_old_rumours_about_oneself_change_nothing_but_are_answered_with_the_truth() -> None:
    swim = core(1, 2)
    swim.receive(Gossip((member(1, claim=4, state=State.SUSPECT),)), address(2), 0.1)
    effects = swim.receive(Ping(1, NodeId(1), NodeId(2), (member(1, state=State.SUSPECT),)), address(2), 0.2)
    assert swim.me == member(1, claim=5)
    (ack,) = messages_of(effects, Ack)
    assert isinstance(ack, Ack)
    assert ack.updates[0] == member(1, claim=5)


def test_what_one_claims_oneself_is_no_news() -> None:
    swim = core(1, 2)
    assert swim.receive(Gossip((member(1),)), address(2), 0.1) == []
    assert swim.counters.refutations == 0


def test_a_rumour_that_nobody_could_refute_is_refused() -> None:
    swim = core(1, 2)
    rumour = dataclasses.replace(member(1, boot=BOOT_MAX, state=State.DEAD), incarnation=INCARNATION_LIMIT - 1)
    swim.receive(Gossip((rumour,)), address(2), 0.1)
    assert swim.me == member(1)
    assert swim.counters.refused == 1


def test_a_suspect_hears_of_its_suspicion_first_with_each_ping() -> None:
    swim = core(1, 2)
    swim.receive(Gossip((member(2, state=State.SUSPECT), *[member(n) for n in range(10, 60)])), address(2), 0.0)
    swim._view.gossip.discard(NodeId(2))
    (ping,) = messages_of(swim.probe_now(NodeId(2), 0.01), Ping)
    assert isinstance(ping, Ping)
    assert len(ping.updates) > 10
    assert ping.updates[0] == member(2, state=State.SUSPECT)


@pytest.mark.parametrize("believed", [State.SUSPECT, State.DEAD, State.LEFT])
def test_who_pings_while_believed_gone_hears_of_it_in_the_answer(believed: State) -> None:
    swim = core(1, 3)
    swim.receive(Gossip((member(2, state=believed),)), address(3), 0.0)
    swim._view.gossip.discard(NodeId(2))
    (ack,) = messages_of(swim.receive(Ping(1, NodeId(1), NodeId(2)), address(2), 0.1), Ack)
    assert isinstance(ack, Ack)
    assert ack.updates == (member(2, state=believed),)


def test_what_does_not_fit_beside_what_must_be_said_first_waits() -> None:
    swim = core(1, 2, config=dataclasses.replace(CONFIG, datagram_bytes_max=1232))
    long = [
        dataclasses.replace(member(n, state=State.DEAD), name="n" * 255, zone="z" * 255, weight=65_535)
        for n in (7, 8, 9)
    ]
    assert swim._view.piggyback(long) == tuple(long[:2])


def test_who_spreads_a_refuted_death_is_told_at_once() -> None:
    swim = core(1, 2, 3)
    swim.receive(Gossip((member(3, claim=1),)), address(3), 0.0)
    swim._view.gossip.discard(NodeId(3))
    effects = swim.receive(Gossip((member(3, state=State.DEAD), member(2, state=State.SUSPECT))), address(2), 0.1)
    (told,) = messages_of(effects, Gossip)
    assert isinstance(told, Gossip)
    assert told.updates[0] == member(3, claim=1)
    assert sends(effects)[0].to == address(2)


def test_death_is_overcome_by_a_higher_incarnation_only() -> None:
    swim = core(1, 2)
    swim.receive(Gossip((member(3, state=State.DEAD),)), address(2), 0.0)
    assert changes(swim.receive(Gossip((member(3), member(3, state=State.SUSPECT))), address(2), 0.1)) == []
    effects = swim.receive(Gossip((member(3, boot=2),)), address(2), 0.2)
    assert changes(effects) == [Changed(member(3, boot=2), State.DEAD)]


def test_a_restart_that_nobody_noticed_is_reported_by_its_boot() -> None:
    swim = core(1, 2, 3)
    effects = swim.receive(Gossip((member(3, boot=2),)), address(2), 0.2)
    assert changes(effects) == [Changed(member(3, boot=2), State.ALIVE)]


def test_a_refutation_that_changes_nothing_else_is_not_reported() -> None:
    assert changes(core(1, 2, 3).receive(Gossip((member(3, claim=1),)), address(2), 0.2)) == []


def test_a_stranger_that_is_dead_is_remembered_and_not_reported() -> None:
    swim = core(1, 2)
    assert changes(swim.receive(Gossip((member(9, state=State.DEAD),)), address(2), 0.0)) == []
    assert state(swim, 9) is State.DEAD
    assert changes(swim.receive(Gossip((member(9),)), address(2), 0.1)) == []
    assert state(swim, 9) is State.DEAD


def test_the_address_of_the_newest_incarnation_counts() -> None:
    swim = core(1, 2, 3)
    moved = dataclasses.replace(member(3, boot=2), address=Address("192.0.2.1", 999))
    effects = swim.receive(Gossip((moved, member(3))), address(2), 0.0)
    assert changes(effects) == [Changed(moved, State.ALIVE)]
    assert sends(swim.probe_now(NodeId(3), 0.1))[0].to == moved.address
    assert swim.counters.conflicts == 0


def test_two_addresses_at_one_incarnation_are_a_conflict() -> None:
    swim = core(1, 2, 3)
    twin = dataclasses.replace(member(3), address=Address("192.0.2.1", 999))
    swim.receive(Gossip((twin,)), address(2), 0.0)
    assert swim.counters.conflicts == 1
    usurper = dataclasses.replace(member(1), address=Address("192.0.2.1", 999))
    swim.receive(Gossip((usurper,)), address(2), 0.1)
    assert swim.counters.conflicts == 2
    assert swim.me == member(1, claim=1)


@given(st.lists(st.sampled_from([State.SUSPECT, State.DEAD]), max_size=12), st.integers(0, 2**32))
def test_refutation_wins_against_any_finite_number_of_false_suspicions(accusations: list[State], seed: int) -> None:
    """Two cores whose messages all arrive; the accusations are the newest possible each time."""
    one, other = core(1, 2, seed=seed), core(2, 1, seed=seed + 1)
    now = 0.0
    for accusation in accusations:
        newest = dataclasses.replace(other.me, state=accusation)
        _exchange(one, other, sends(one.receive(Gossip((newest,)), address(3), now)), now)
        now = _run_two(one, other, now, 1.5)
    _run_two(one, other, now, 4.0)
    assert one.members[NodeId(2)] == other.me
    assert other.me.state is State.ALIVE
    assert other.counters.refutations == len(accusations)
    assert state(other, 1) is State.ALIVE


def _exchange(one: Swim, other: Swim, pending: list[Send], now: float) -> None:
    cores = {address(1): one, address(2): other}
    while pending:
        send = pending.pop(0)
        target = cores.get(send.to)
        if target is not None:
            sender = address(2) if target is one else address(1)
            pending += sends(target.receive(send.message, sender, now))


def _run_two(one: Swim, other: Swim, now: float, seconds: float) -> float:
    until = now + seconds
    while (now := min(one.next_deadline, other.next_deadline)) <= until:
        due = one if one.next_deadline <= now else other
        _exchange(one, other, sends(due.wake(now)), now)
    return until


# ---- joining and leaving


def test_a_newcomer_knocks_at_its_seeds_until_one_answers_and_says_how_often() -> None:
    swim = core(1)
    effects = swim.join([address(1), address(5), address(6), address(5)], 0.0)
    assert {send.to for send in sends(effects)} == {address(5), address(6)}
    assert all(isinstance(send.message, SyncRequest) and send.message.source == swim.me for send in sends(effects))
    effects, _ = pass_time(swim, 120.0)
    silent = [effect.attempts for effect in effects if isinstance(effect, SeedsSilent)]
    assert silent == list(range(1, len(silent) + 1))
    assert 8 <= len(silent) <= 16
    assert len(messages_of(effects, SyncRequest)) >= 2 * len(silent)
    swim.receive(Gossip((member(5),)), address(5), 120.0)
    for _ in range(50):
        send, ping, now = first_ping(swim)
        swim.receive(Ack(ping.sequence, ping.target), send.to, now)
    effects, _ = pass_time(swim, now + 0.5)
    assert not [effect for effect in effects if isinstance(effect, SeedsSilent)]
    assert swim._seeds.knock_at == math.inf


def test_the_pauses_between_knocks_grow_up_to_a_bound_and_differ() -> None:
    swim = core(1)
    swim.join([address(5)], 0.0)
    times = []
    now = 0.0
    while now < 600.0:
        now = swim.next_deadline
        if any(isinstance(effect, SeedsSilent) for effect in swim.wake(now)):
            times.append(now)
    pauses = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert pauses[0] <= 0.25
    assert max(pauses) <= 30.0
    assert all(15.0 <= pause <= 30.0 for pause in pauses[8:])
    assert len(set(pauses)) == len(pauses)


def test_a_long_list_of_seeds_is_tried_a_few_at_a_time() -> None:
    swim = core(1)
    effects = swim.join([address(number) for number in range(2, 40)], 0.0)
    assert len(sends(effects)) == SEEDS_PER_ATTEMPT


def test_a_founder_without_seeds_waits_in_silence() -> None:
    swim = core(1)
    assert swim.join([], 0.0) == []
    effects, _ = pass_time(swim, 100.0)
    assert effects == []


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([address(number) for number in range(SEEDS_MAX + 1)], "65 seeds"),
        ([Address("seed.example", 1)], "resolve the name"),
        ([Address("10.0.0.1", 0)], "port 0"),
    ],
)
def test_seeds_that_can_not_work_are_refused(seeds: list[Address], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        core(1).join(seeds, 0.0)


def test_a_node_that_became_alone_knocks_at_its_seeds_again() -> None:
    config = dataclasses.replace(CONFIG, rejoin_interval_s=10.0)
    swim = Swim(config, member(1), random.Random(1), 0.0)
    swim.join([address(5)], 0.0)
    swim.receive(Gossip((member(5),)), address(5), 0.0)
    pass_time(swim, 1.0)
    swim.receive(Gossip((member(5, state=State.LEFT),)), address(5), 1.0)
    effects, _ = pass_time(swim, 100.0)
    assert any(isinstance(effect, SeedsSilent) for effect in effects)
    assert {send.to for send in sends(effects) if isinstance(send.message, SyncRequest)} == {address(5)}


def test_who_leaves_says_so_to_as_many_as_gossip_would_reach() -> None:
    swim = core(1, *range(2, 30))
    goodbyes = sends(swim.leave(0.5))
    assert len({send.to for send in goodbyes}) == len(goodbyes) == 8
    assert all(send.message == Gossip((member(1, state=State.LEFT),)) for send in goodbyes)
    assert swim.leave(0.6) == []


def test_in_a_mesh_of_two_a_good_bye_is_repeated_for_the_case_of_loss() -> None:
    goodbyes = sends(core(1, 2).leave(0.5))
    assert [send.to for send in goodbyes] == [address(2)] * 4
    assert core(1).leave(0.5) == []


def test_who_has_left_answers_pings_with_it_and_does_nothing_else() -> None:
    swim = core(1, 2)
    swim.leave(0.5)
    assert swim.next_deadline == math.inf
    assert swim.wake(100.0) == []
    assert swim.probe_now(NodeId(2), 100.0) == []
    assert swim.join([address(2)], 100.0) == []
    assert swim.receive(Gossip((member(1, state=State.DEAD),)), address(2), 100.0) == []
    (ack,) = messages_of(swim.receive(Ping(1, NodeId(1), NodeId(2)), address(2), 100.0), Ack)
    assert isinstance(ack, Ack)
    assert ack.updates[0] == swim.me == member(1, state=State.LEFT)


def test_a_departure_overrides_suspicion_and_death() -> None:
    for believed in (State.ALIVE, State.SUSPECT, State.DEAD):
        swim = core(1, 2)
        swim.receive(Gossip((member(3, state=believed),)), address(2), 0.0)
        effects = swim.receive(Gossip((member(3, state=State.LEFT),)), address(3), 0.1)
        assert changes(effects) == [Changed(member(3, state=State.LEFT), believed)]


# ---- gossip between probes


def test_news_leave_within_a_gossip_interval_and_silence_costs_nothing() -> None:
    swim = core(1, *range(2, 12))
    swim._detector.period_ends_at = swim._detector.deadline = 60.0
    assert swim.next_deadline == 60.0
    swim.receive(Gossip((member(12),)), address(2), 1.0)
    assert swim.next_deadline <= 1.25
    effects, _ = pass_time(swim, 30.0)
    heard = messages_of(effects, Gossip)
    assert len(heard) == CONFIG.transmit_limit(12) == 8
    assert all(isinstance(message, Gossip) and message.updates[0] == member(12) for message in heard)
    assert swim.next_deadline == 60.0


# ---- a process that was stopped


def test_a_pause_suspects_nobody_and_repeats_the_probes_under_their_numbers() -> None:
    swim = core(1, 2, 3, 4)
    send, ping, now = first_ping(swim)
    effects = swim.wake(now + 10.0)
    again = [one for one in sends(effects) if isinstance(one.message, Ping)]
    assert [(one.to, one.message.sequence) for one in again if isinstance(one.message, Ping)] == [
        (send.to, ping.sequence)
    ]
    assert changes(effects) == []
    assert swim.counters.pauses == 1
    effects, _ = pass_time(swim, now + 10.49)
    assert effects == []
    swim.receive(Ack(ping.sequence, ping.target), send.to, now + 10.49)
    effects, _ = pass_time(swim, now + 11.0)
    assert changes(effects) == []


def test_a_pause_extends_running_suspicions_by_the_lateness() -> None:
    swim = core(1, 2, 3)
    swim.receive(Gossip((member(3, state=State.SUSPECT),)), address(2), 0.0)
    due = swim._detector.period_ends_at
    swim.wake(due + 100.0)
    assert state(swim, 3) is State.SUSPECT
    assert swim._view.suspicions.deadline == pytest.approx(3.0 + 100.0)


def test_a_pause_is_noticed_by_whichever_call_comes_first() -> None:
    for message in (Gossip(()), Ack(1, NodeId(2)), Ping(1, NodeId(1), NodeId(2))):
        swim = core(1, 2, 3)
        swim.receive(Gossip((member(3, state=State.SUSPECT),)), address(2), 0.0)
        swim.receive(message, address(2), 50.0)
        assert swim.counters.pauses == 1
        assert changes(swim.wake(50.0)) == []
    swim = core(1, 2, 3)
    swim.probe_now(NodeId(2), 50.0)
    assert swim.counters.pauses == 1


def test_a_probe_of_someone_gone_is_not_repeated_after_a_pause() -> None:
    swim = core(1, 2, 3)
    _, ping, now = first_ping(swim)
    swim.receive(Gossip((member(ping.target, state=State.LEFT),)), address(2), now)
    effects = swim.wake(now + 20.0)
    assert messages_of(effects, Ping) == []


def test_being_late_by_less_than_a_period_skips_no_stage_of_a_probe() -> None:
    swim = core(1, 2, 3, 4)
    _, _, now = first_ping(swim)
    effects = swim.wake(now + 1.9)
    assert len(messages_of(effects, PingRequest)) == 2
    assert changes(effects) == []
    effects, _ = pass_time(swim, now + 2.39)
    assert changes(effects) == []
    effects, _ = pass_time(swim, now + 2.4)
    assert len(changes(effects)) == 1
    assert swim.counters.pauses == 0
