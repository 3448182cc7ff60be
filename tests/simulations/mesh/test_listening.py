"""Mistakes in production code are found while it runs, by the name of what they break."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consensus.records import RecordScan
from meshnode.agents.ledger import Turn
from meshnode.agents.service import Agents
from meshnode.membership.messages import Member
from meshnode.membership.view import View
from meshnode.metadata.allocator import Allocator
from meshnode.partitions.confirmation import Rounds
from meshnode.partitions.driver import Partitions
from meshnode.partitions.effects import AfterSync, Effect, Send
from meshnode.partitions.journal import Journal
from meshnode.partitions.messages import Appended, Entry
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Replica
from meshnode.partitions.takeover import Takeover
from meshnode.placement import next_table
from simulations.checkers import LIVENESS
from simulations.cores.faults import Crash, LinkQuality, Pause
from simulations.disk import DiskFaults, SimFile
from simulations.faults import BadDisk, DiskKill, Faults, NewDisk
from simulations.mesh import run
from simulations.plan import Plan

Mistake = Callable[[pytest.MonkeyPatch], None]

CALM = Plan(nodes=3, clients=2, duration_s=4.0, keys=4, partitions=4, tempo=0.5)

# One node after the other is gone for a while, so that each takes over from another one.
CRASHES = dataclasses.replace(
    CALM, duration_s=12.0, faults=Faults(crashes=tuple(Crash(node, 1.0 + 4 * node, 2.0) for node in range(3)))
)

# Killed between a write and its sync.
KILLED = dataclasses.replace(
    CALM, faults=Faults(disk_kills=tuple(DiskKill(1, 2 + number, 0.5 + number, 0.4) for number in range(3)))
)

# What is said on such links arrives late, and in another order.
LOSSY = dataclasses.replace(
    CALM,
    nodes=5,
    tempo=0.25,
    faults=Faults(quality=LinkQuality(delay_s=0.01, jitter_s=0.1, loss=0.2, late=0.2, late_s=0.5), calm_s=4.0),
)

GONE = dataclasses.replace(CALM, duration_s=10.0, tempo=0.25, faults=Faults(crashes=(Crash(2, 1.0, 9.0),)))

PAUSED = dataclasses.replace(CALM, duration_s=5.0, tempo=0.25, faults=Faults(pauses=(Pause(2, 1.0, 3.0),)))

BURNT = dataclasses.replace(CALM, nodes=4, duration_s=20.0, faults=Faults(new_disks=(NewDisk(1, 1.0, 1.0),)))


# All disks rot: with the atlas, one of them may.
ROTTEN = dataclasses.replace(
    CALM,
    duration_s=6.0,
    faults=Faults(
        bad_disks=tuple(BadDisk(node, DiskFaults(bit_rot_rate=0.5), 0.5, 5.0) for node in range(3)),
        crashes=tuple(Crash(node, 1.0 + 0.5 * node + 2 * times, 0.4) for node in range(3) for times in range(2)),
    ),
)

# Rot that strikes the journal, and not the file by which a node knows itself.
ROTTING = dataclasses.replace(
    CALM,
    duration_s=6.0,
    faults=Faults(
        bad_disks=(BadDisk(1, DiskFaults(bit_rot_rate=0.3), 0.5, 5.0),),
        crashes=tuple(Crash(1, 1.0 + 1.5 * times, 0.5) for times in range(3)),
    ),
)

REFUSING = dataclasses.replace(
    CALM,
    duration_s=12.0,
    faults=Faults(
        bad_disks=(BadDisk(1, DiskFaults(sync_error_rate=0.2), 0.5, 3.0),),
        crashes=(Crash(1, 5.0, 1.0), Crash(1, 8.0, 1.0)),
    ),
)


def answer_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    propose: Callable[..., int] = Agents._propose

    def hasty(agents: Any, serving: Any, record: object, committed: Callable[[int], None]) -> int:
        if not isinstance(record, Turn):
            return propose(agents, serving, record, committed)
        sequence = propose(agents, serving, record, lambda _sequence: None)
        committed(sequence)
        return sequence

    patch.setattr(Agents, "_propose", hasty)


def keep_request_ids_in_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("meshnode.agents.service.known_reply", lambda _ledger, _call: None)


def confirm_no_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Partitions, "read", lambda driver, *read: driver._tenant.read_ready(*read))


def count_an_older_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rounds, "next_round", property(lambda rounds: rounds._last_round - 8))


def acknowledge_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "after_sync", lambda _journal, action: action())


def promise_in_memory(patch: pytest.MonkeyPatch) -> None:
    promise = Replica._promise
    patch.setattr(Replica, "_promise", lambda replica, epoch: promise(replica, epoch)[:0])


def seal_past_the_queue(patch: pytest.MonkeyPatch) -> None:
    seal = Replica.seal

    def hasty(replica: Replica, *question: Any) -> list[Effect]:
        return [effect.send if isinstance(effect, AfterSync) else effect for effect in seal(replica, *question)]

    patch.setattr(Replica, "seal", hasty)


def take_one_seal_for_two(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("meshnode.partitions.takeover.majority", lambda _members: 1)


def seal_the_new_set(patch: pytest.MonkeyPatch) -> None:
    begin = Takeover.start

    def mistaken(takeover: Takeover, now: float) -> list[Effect]:
        others = [member for member in range(1, 4) if member != takeover._node_id]
        takeover.base = (takeover._node_id,) if takeover.base else ()
        return begin(takeover, now) if others else []

    patch.setattr(Takeover, "start", mistaken)


def leave_the_barrier_out(patch: pytest.MonkeyPatch) -> None:
    def start(primary: Primary, now: float) -> list[Effect]:
        last = primary.barrier = primary._replica.log.last.sequence
        own = Appended(primary.partition, primary.epoch, last)
        effects: list[Effect] = [AfterSync(Send(primary._node_id, own))]
        for member, progress in primary._progress.items():
            progress.next = max(last, 1)
            primary._feed(member, progress, now, effects, {})
        return effects

    patch.setattr(Primary, "start", start)


def make_each_table_anew(patch: pytest.MonkeyPatch) -> None:
    def anew(_current: Any, members: Any, **sizes: Any) -> Any:
        return next_table(None, members, **sizes)

    patch.setattr("meshnode.metadata.allocator.next_table", anew)


def move_to_whom_it_likes(patch: pytest.MonkeyPatch) -> None:
    take_stock = Allocator._take_stock

    def mistaken(allocator: Any, goal: Any, now: float) -> int:
        rows = [(*row[1:], row[0]) if len(row) < 3 else (row[1], row[2], row[0]) for row in goal.table.rows]
        goal.table = dataclasses.replace(goal.table, rows=tuple((row[0],) for row in rows))
        return take_stock(allocator, goal, now)

    patch.setattr(Allocator, "_take_stock", mistaken)


def take_damage_for_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RecordScan, "_check_lost", lambda *_: None)
    patch.setattr(RecordScan, "_check_never_synced", lambda *_: None)


def sync_again_after_an_error(patch: pytest.MonkeyPatch) -> None:
    sync = Journal._sync

    def stubborn(journal: Journal) -> None:
        while True:
            with contextlib.suppress(OSError):
                return sync(journal)

    patch.setattr(Journal, "_sync", stubborn)


def rely_on_what_was_found(patch: pytest.MonkeyPatch) -> None:
    recover = Journal.recover

    def careless(journal: Journal) -> Iterator[Entry]:
        with pytest.MonkeyPatch.context() as meanwhile:
            for entry in recover(journal):
                meanwhile.setattr(Journal, "_sync", lambda _journal: None)
                yield entry

    patch.setattr(Journal, "recover", careless)


def believe_the_page_cache(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimFile, "drop_cache", lambda file: file.sync())


def let_rumours_win(patch: pytest.MonkeyPatch) -> None:
    def supersedes(rumour: Member, held: Member) -> bool:
        return rumour.incarnation >= held.incarnation and rumour != held

    patch.setattr("meshnode.membership.view.supersedes", supersedes)


def suspect_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(View, "suspect", lambda *_: None)


def refute_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(View, "_hear_of_myself", lambda *_: None)


@pytest.mark.parametrize(
    ("mistake", "plan", "expected"),
    [
        (answer_before_the_commit, CALM, "requests-answer"),
        (keep_request_ids_in_memory, CALM, "requests-at-most-once"),
        (confirm_no_read, CALM, "partitions-read-confirmed"),
        (count_an_older_round, CALM, "partitions-read-confirmed"),
        (acknowledge_before_the_sync, CALM, "partitions-promise-durable"),
        (promise_in_memory, CRASHES, "partitions-promise-durable"),
        (seal_past_the_queue, CRASHES, "partitions-promise-durable"),
        (take_one_seal_for_two, CRASHES, "partitions-sealed-majority"),
        (seal_the_new_set, BURNT, "partitions-sealed-majority"),
        (leave_the_barrier_out, CRASHES, "partitions-barrier"),
        (take_damage_for_the_end, ROTTING, "partitions-durable-log"),
        (sync_again_after_an_error, REFUSING, "disk-sync-again"),
        (rely_on_what_was_found, KILLED, "disk-found-unsynced"),
        (believe_the_page_cache, REFUSING, "disk-found-dropped"),
        (make_each_table_anew, BURNT, "placement-same-table"),
        (move_to_whom_it_likes, BURNT, "placement-minimal-movement"),
        (let_rumours_win, LOSSY, "swim-precedence"),
        (suspect_nobody, GONE, "swim-detection-bound"),
        (refute_nothing, PAUSED, "swim-live-stays-dead"),
    ],
)
def test_a_mistake_is_found_by_name(
    mistake: Mistake, plan: Plan, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    violation = run(plan).violation
    assert violation is not None
    assert violation.invariant == expected, violation


def test_without_an_atlas_what_a_majority_lost_is_missing_and_never_taken_for_absent() -> None:
    report = run(dataclasses.replace(ROTTEN, atlas=False))
    assert report.violation is None, report.violation
    assert report.fired["DataDirectoryError"] == 3
    assert report.acknowledged > 10


def test_a_majority_that_is_gone_while_an_atlas_says_that_it_is_not_is_found() -> None:
    burnt = Faults(new_disks=(NewDisk(1, 1.0, 1.0), NewDisk(2, 1.0, 1.0)))
    violation = run(dataclasses.replace(CALM, faults=burnt)).violation
    assert violation is not None
    assert violation.invariant in LIVENESS
    assert "s after the last fault, with a bound of" in violation.message


def test_a_crash_that_is_no_operators_business_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "until_too_large", lambda _journal: 1 / 0)
    violation = run(CALM).violation
    assert violation is not None
    assert violation.invariant == "node-crash"
    assert "ZeroDivisionError" in violation.message
