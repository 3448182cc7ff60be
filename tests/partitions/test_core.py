"""All partitions of one process: what goes where, leases and reads, what is due when."""

import pytest

from meshnode.errors import DataDirectoryError
from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.core import PartitionsCore
from meshnode.partitions.effects import Committed, Deposed, Effect, Propose, ReadReady, Send
from meshnode.partitions.messages import (
    ORIGIN,
    Append,
    Appended,
    Claim,
    Confirm,
    Confirmed,
    Denial,
    Dropped,
    Log,
    Seal,
    Snapshot,
)
from meshnode.placement import PARTITIONS_MAX
from tests.partitions.copies import A, B, C, D, P, append, at, records, sends, sent
from tests.partitions.oracle import ListMachine

BOOT = Boot(4)
CONFIG = PartitionsConfig()
ONE = Epoch(1)


def core_of() -> PartitionsCore:
    """At node A."""
    return PartitionsCore(CONFIG, node_id=A, boot=BOOT, machine=lambda _partition: ListMachine())


def row(epoch: int, phase: Phase, primary: NodeId = A) -> Row:
    return Row(Epoch(epoch), primary, BOOT, (A, B, C), phase)


def serving(*partitions: int, now: float = 0.0) -> PartitionsCore:
    """The active primary of epoch 1, whose barriers are everywhere; nobody has confirmed anything yet."""
    core = core_of()
    assert core.wake(now) == []
    for partition in map(PartitionId, partitions or (P,)):
        core.row_changed(partition, row(1, Phase.SEALING), now)
        for member in (A, B, C):
            core.receive(member, Appended(partition, ONE, 1), now)
        core.row_changed(partition, row(1, Phase.ACTIVE), now)
    return core


def answer(core: PartitionsCore, effects: list[Effect], now: float, *, by: tuple[NodeId, ...] = (B, C)) -> list[Effect]:
    """These replicas confirm what they are asked."""
    return [
        effect
        for send in sends(effects)
        if isinstance(send.message, Confirm) and send.to in by
        for effect in core.receive(send.to, Confirmed(send.message.round, ()), now)
    ]


# ---- the lease and reads


def test_a_lease_begins_with_service_and_lasts_as_long_as_a_majority_confirms() -> None:
    core = serving(now=10.0)
    assert not core.holds_lease(P, 10.0)
    assert core.next_deadline == 10.0
    answer(core, core.wake(10.0), 10.1, by=(C,))
    assert core.holds_lease(P, 10.1)
    assert core.holds_lease(P, 9.9 + CONFIG.lease_s)
    assert not core.holds_lease(P, 10.1 + CONFIG.lease_s)
    answer(core, core.wake(12.0), 12.1)
    assert core.holds_lease(P, 11.9 + CONFIG.lease_s)


def test_nobody_holds_the_lease_of_what_it_does_not_serve() -> None:
    assert not core_of().holds_lease(P, 0.0)
    core = serving()
    answer(core, core.wake(0.0), 0.0)
    assert core.holds_lease(P, 0.0)
    core.receive(B, Seal(P, Epoch(2)), 0.0)
    assert not core.holds_lease(P, 0.0)


def test_a_read_is_ready_when_a_round_that_began_after_it_was_confirmed() -> None:
    core = serving()
    before = core.wake(0.0)
    assert core.read(P, 7, 0.1) == []
    assert answer(core, before, 0.2) == []
    assert answer(core, core.wake(0.2), 0.3, by=(B,)) == [ReadReady(P, 7)]


def test_a_read_without_any_answer_is_never_ready() -> None:
    core = serving()
    core.read(P, 7, 0.0)
    for second in range(10):
        assert not [effect for effect in core.wake(float(second)) if isinstance(effect, ReadReady)]


def test_a_claim_below_the_promise_is_denied_and_the_others_hold() -> None:
    core = core_of()
    core.receive(B, Seal(PartitionId(1), Epoch(5)), 0.0)
    core.receive(B, Seal(PartitionId(2), Epoch(5)), 0.0)
    claims = tuple(Claim(PartitionId(number), Epoch(epoch), 0) for number, epoch in ((1, 4), (2, 5), (3, 1)))
    confirmed = Confirmed(77, (Denial(PartitionId(1), Epoch(5)),))
    assert core.receive(C, Confirm(77, claims), 0.0) == [Send(C, confirmed)]


def test_a_claim_says_what_is_committed() -> None:
    core = core_of()
    core.receive(B, append(1, ORIGIN, *records(1, 1, 1)), 0.0)
    effects = core.receive(B, Confirm(77, (Claim(P, ONE, 2),)), 0.0)
    assert effects == [Committed(P, 2), Send(B, Confirmed(77, ()))]


def test_a_primary_whose_claim_is_denied_steps_down() -> None:
    core = serving(0, 1)
    (send, _) = [send for send in sends(core.wake(0.0)) if isinstance(send.message, Confirm)]
    assert isinstance(send.message, Confirm)
    denied = Confirmed(send.message.round, (Denial(P, Epoch(2)),))
    assert core.receive(send.to, denied, 0.0) == [Deposed(P, ONE)]
    assert core.primary(P) is None
    assert core.primary(PartitionId(1)) is not None


def test_an_answer_about_an_earlier_epoch_neither_confirms_nor_deposes() -> None:
    core = serving()
    asked = core.wake(0.0)
    core.row_changed(P, Row(Epoch(2), A, BOOT, (A, B, C), Phase.SEALING), 0.0)
    assert core.primary(P) is not None
    assert answer(core, asked, 0.0, by=(B,)) == []
    (send,) = [send for send in sends(asked) if send.to == C]
    assert isinstance(send.message, Confirm)
    assert core.receive(C, Confirmed(send.message.round, (Denial(P, Epoch(2)),)), 0.0) == []
    assert core.primary(P) is not None
    assert not core.holds_lease(P, 0.0)


# ---- routing


def test_a_row_of_a_partition_of_others_makes_no_copy() -> None:
    core = core_of()
    assert core.row_changed(P, row(1, Phase.SEALING, B), 0.0) == []
    assert core.partitions == {}


@pytest.mark.parametrize("message", [object(), Seal(PartitionId(PARTITIONS_MAX), ONE), Seal(PartitionId(-1), ONE)])
def test_what_is_not_for_this_room_changes_nothing(message: object) -> None:
    core = core_of()
    assert core.receive(B, message, 0.0) == []
    assert core.partitions == {}


def test_what_comes_late_makes_no_copy_where_the_row_excludes_this_node() -> None:
    core = core_of()
    core.row_changed(P, Row(Epoch(2), B, BOOT, (B, C, D), Phase.ACTIVE), 0.0)
    assert core.receive(B, append(1, ORIGIN, *records(1, 1)), 0.0) == []
    assert core.partitions[P].replica.is_empty
    core.receive(B, append(2, ORIGIN, *records(1, 1)), 0.0)
    assert not core.partitions[P].replica.is_empty, "it is taught"


def test_a_move_goes_to_its_partition_and_nowhere_else() -> None:
    core = serving()
    move = Move(P, ONE, B, Boot(1), (B, A, C), "")
    change = RowChange(P, Step.BEGIN, ONE, Phase.ACTIVE, B, Boot(1), (B, A, C))
    assert core.receive(D, Move(PartitionId(9), ONE, B, Boot(1), (A, B, C), ""), 0.0) == []
    assert core.partitions.keys() == {P}
    assert core.receive(D, move, 0.0) == [Propose(change)]


def test_each_partition_is_woken_when_it_is_due() -> None:
    core = serving(0, 1)
    core.wake(1.0)
    core.propose(PartitionId(0), b"x", 1.1)
    core.propose(PartitionId(1), b"x", 1.2)
    assert core.next_deadline == 1.1 + CONFIG.resend_after_s
    assert {message.partition for message in sent(core.wake(core.next_deadline), Append)} == {0}
    assert core.next_deadline == 1.2 + CONFIG.resend_after_s
    assert {message.partition for message in sent(core.wake(core.next_deadline), Append)} == {1}


def test_only_who_serves_may_be_asked_to_write() -> None:
    core = core_of()
    core.row_changed(P, row(1, Phase.SEALING), 0.0)
    with pytest.raises(AssertionError):
        core.propose(P, b"x", 0.0)


# ---- the journal


def test_what_is_recovered_is_what_was_copied() -> None:
    core = core_of()
    core.receive(B, append(1, ORIGIN, *records(1, 1, 1, 1), committed=2), 0.0)
    core.receive(B, Seal(PartitionId(1), Epoch(3)), 0.0)
    again = core_of()
    again.recover([core.whole_copy(PartitionId(number)) for number in (0, 1)])
    assert again.partitions[P].replica.log.last == at(1, 3)
    assert again.partitions[P].replica.committed == 2
    assert again.partitions[PartitionId(1)].replica.promised == 3


def test_a_journal_whose_records_have_a_gap_is_refused_unless_a_later_entry_covers_it() -> None:
    gap = [Log(P, records(1, 1)), Log(P, records(3, 1))]
    with pytest.raises(DataDirectoryError, match="lacks records of partition 0 after 1"):
        core_of().recover(gap)
    core_of().recover([*gap, Snapshot(P, ONE, at(1, 3), b"")])
    core_of().recover([*gap, Dropped(P, ONE)])
