"""Rounds alone, and with a primary over links that are slow."""

from collections import deque

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.confirmation import Confirmation, Rounds
from meshnode.partitions.effects import ReadReady, Send
from meshnode.partitions.messages import Appended, Claim, Confirm, Confirmed, Denial
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Replica
from tests.partitions.copies import A, B, C, D, P
from tests.partitions.oracle import ListMachine

CONFIG = PartitionsConfig()
INTERVAL_S = CONFIG.confirm_interval_s
EPOCH = Epoch(3)


def copy_of(partition: int) -> Replica:
    """An empty one that promised the epoch."""
    replica = Replica(PartitionId(partition), ListMachine())
    replica.promised = EPOCH
    return replica


def primary_of(partition: int = P, replicas: tuple[NodeId, ...] = (A, B, C), replica: Replica | None = None) -> Primary:
    """An active one whose log is a barrier."""
    replica = replica or copy_of(partition)
    primary = Primary(replica, epoch=EPOCH, node_id=A, replicas=replicas, config=CONFIG, now=0.0)
    primary.start(0.0)
    for member in replicas:
        primary.appended(member, Appended(replica.partition, EPOCH, 1), 0.0)
    primary.activated()
    return primary


def rounds_of(boot: int = 1) -> Rounds:
    """Nothing is due before an interval has passed."""
    rounds = Rounds(A, Boot(boot), CONFIG)
    assert rounds.wake([], 0.0) == []
    return rounds


def confirm_of(send: Send) -> Confirm:
    assert isinstance(send.message, Confirm)
    return send.message


def asked(sends: list[Send]) -> dict[NodeId, list[int]]:
    """The partitions that each node is asked for."""
    return {send.to: [claim.partition for claim in confirm_of(send).claims] for send in sends}


def test_all_primaries_ask_at_each_interval_with_one_message_a_peer() -> None:
    rounds = rounds_of()
    primaries = [primary_of(1), primary_of(2, (A, C, D))]
    assert rounds.next_deadline == INTERVAL_S
    assert rounds.wake(primaries, 0.9 * INTERVAL_S) == []
    assert asked(rounds.wake(primaries, INTERVAL_S)) == {B: [1], C: [1, 2], D: [2]}
    assert rounds.next_deadline == 2 * INTERVAL_S


def test_a_claim_says_the_epoch_and_what_is_committed() -> None:
    (send, _) = rounds_of().wake([primary_of()], INTERVAL_S)
    assert confirm_of(send).claims == (Claim(P, EPOCH, 1),)


def test_a_primary_whose_node_promised_a_newer_epoch_claims_nothing() -> None:
    rounds = rounds_of()
    copy = copy_of(1)
    rounds.want(primary_of(1, (A, B), copy), 0.1)
    rounds.want(primary_of(2, (A, B)), 0.1)
    copy.promised = Epoch(EPOCH + 1)  # and from now on what is committed there may be of that epoch
    assert asked(rounds.wake([], 0.1)) == {B: [2]}


def test_what_is_wanted_is_asked_at_once_and_only_of_its_replicas() -> None:
    rounds = rounds_of()
    rounds.want(primary_of(1, (A, B)), 0.3)
    assert rounds.next_deadline == 0.3
    assert asked(rounds.wake([], 0.3)) == {B: [1]}
    assert rounds.next_deadline == INTERVAL_S
    assert rounds.wake([], 0.3) == []


def test_what_is_wanted_while_a_question_is_under_way_shares_the_next_one() -> None:
    rounds = rounds_of()
    rounds.want(primary_of(1, (A, B)), 0.1)
    (send,) = rounds.wake([], 0.1)
    for partition in (1, 2, 3):
        rounds.want(primary_of(partition, (A, B)), 0.2)
        assert rounds.wake([], 0.2) == []
    rounds.want(primary_of(4, (A, C)), 0.2)
    assert asked(rounds.wake([], 0.2)) == {C: [4]}, "another peer does not wait"
    rounds.answered(B, Confirmed(confirm_of(send).round, ()), 0.3)
    assert rounds.next_deadline == 0.3
    assert asked(rounds.wake([], 0.3)) == {B: [1, 2, 3]}


def test_a_question_that_was_lost_holds_up_reads_until_the_interval_ends() -> None:
    rounds, primary = rounds_of(), primary_of(1, (A, B))
    rounds.want(primary, 0.1)
    rounds.wake([], 0.1)
    rounds.want(primary, 0.2)
    assert rounds.wake([primary], 0.5) == []
    (again,) = rounds.wake([primary], INTERVAL_S)
    rounds.want(primary, 1.1)
    rounds.answered(B, Confirmed(confirm_of(again).round, ()), 1.2)
    assert asked(rounds.wake([primary], 1.2)) == {B: [1]}


def test_an_answer_says_who_was_denied_and_counts_once() -> None:
    rounds = rounds_of()
    (send,) = rounds.ask_all([primary_of(1, (A, B)), primary_of(2, (A, B))], 5.0)
    number = confirm_of(send).round
    answer = Confirmed(number, (Denial(PartitionId(2), Epoch(9)),))
    assert rounds.answered(C, answer, 5.1) == []
    assert rounds.answered(B, answer, 5.1) == [
        Confirmation(PartitionId(1), EPOCH, number, 5.0, None),
        Confirmation(PartitionId(2), EPOCH, number, 5.0, Epoch(9)),
    ]
    assert rounds.answered(B, answer, 5.1) == []


def test_a_late_answer_counts_as_long_as_it_could_extend_a_lease() -> None:
    rounds, primary = rounds_of(), primary_of(1, (A, B))
    numbers = []
    for interval in range(1, 6):
        numbers += [confirm_of(send).round for send in rounds.wake([primary], interval * INTERVAL_S)]
    counted = [bool(rounds.answered(B, Confirmed(number, ()), 5.0)) for number in numbers]
    assert CONFIG.lease_s == 3 * INTERVAL_S
    assert counted == [False, True, True, True, True]


def test_a_peer_that_no_primary_needs_any_more_is_forgotten_with_what_was_asked_and_wanted() -> None:
    rounds, former = rounds_of(), primary_of(1, (A, B))
    (send,) = rounds.ask_all([former], 1.0)
    rounds.want(former, 1.1)
    rounds.ask_all([], 2.0)
    assert rounds.answered(B, Confirmed(confirm_of(send).round, ()), 2.1) == []
    assert rounds.wake([], 2.1) == []


def test_what_a_peer_answers_to_an_earlier_process_confirms_nothing() -> None:
    earlier, later = rounds_of(1), rounds_of(2)
    sends = [send for _ in range(3) for send in earlier.ask_all([primary_of()], 1.0)]
    for _ in range(3):
        later.ask_all([primary_of()], 2.0)
    for send in sends:
        assert later.answered(send.to, Confirmed(confirm_of(send).round, ()), 2.0) == []


def test_a_round_after_a_read_has_its_number_or_a_higher_one_and_one_before_it_a_lower_one() -> None:
    rounds, primary = rounds_of(), primary_of()
    before = rounds.ask_all([primary], 1.0)
    number = rounds.next_round
    after = rounds.ask_all([primary], 1.0)
    assert max(confirm_of(send).round for send in before) < number
    assert min(confirm_of(send).round for send in after) >= number


def test_many_reads_over_a_slow_link_are_all_answered_and_the_lease_holds() -> None:
    round_trip_s, between_reads_s = 0.08, 0.001
    rounds, primary = rounds_of(), primary_of()
    under_way: deque[tuple[float, Send]] = deque()
    came_at_s: dict[int, float] = {}
    waited_s: list[float] = []
    messages = without_lease = 0
    for step in range(5000):
        now = step * between_reads_s
        while under_way and under_way[0][0] <= now:
            send = under_way.popleft()[1]
            for answer in rounds.answered(send.to, Confirmed(confirm_of(send).round, ()), now):
                for effect in primary.confirmed(send.to, answer.round, answer.asked_at_s):
                    assert isinstance(effect, ReadReady)
                    waited_s.append(now - came_at_s.pop(effect.token))
        came_at_s[step] = now
        rounds.want(primary, now)
        primary.read(step, rounds.next_round)
        for send in rounds.wake([primary], now):
            under_way.append((now + round_trip_s, send))
            messages += 1
        without_lease += now > round_trip_s + 0.01 and primary.lease_until <= now
    assert len(came_at_s) <= 2 * round_trip_s / between_reads_s + 1
    assert max(waited_s) <= 2 * round_trip_s + 0.01
    assert without_lease == 0
    assert messages <= 2 * (5.0 / round_trip_s + 5.0 / INTERVAL_S + 2)
