"""The replicated configuration: keys, what they were changed to of late, and transactions.

A revision is the stamp of the command that made a change, or with which the Raft group was made anew; all changes of
one command have the same one. Changes are kept for those who watch, up to a bound; `compacted` is the revision of the
last one that is not kept any more, so who has seen all up to there, or more, misses nothing.
"""

import bisect
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from meshnode.coordination import bounds
from meshnode.coordination.commands import Compare, Entry, Field, Refused, Relation, Step, StepKind, Transacted


class ChangeKind(enum.Enum):
    """What became of a key."""

    PUT = "put"
    DELETED = "deleted"
    EXPIRED = "expired"
    """Its TTL was over."""


@dataclass(frozen=True, slots=True)
class Change:
    """Of one key.

    Attributes:
        entry: what was put; None for a key that is not there any more.
    """

    key: str
    kind: ChangeKind
    entry: Entry | None = None

    @property
    def cost_bytes(self) -> int:
        """What it takes of the room for past changes."""
        return (len(self.key) if self.entry is None else self.entry.cost_bytes) + bounds.ENTRY_COST_BYTES


@dataclass(frozen=True, slots=True)
class Revision:
    """All that one command changed."""

    revision: int
    changes: tuple[Change, ...]

    @property
    def cost_bytes(self) -> int:
        """What it takes of the room for past changes."""
        return sum(change.cost_bytes for change in self.changes)


_revision_of = attrgetter("revision")


class Store:
    """The keys.

    Attributes:
        revision: of the last change; 0 before the first one.
        compacted: see the module.
        history: past changes above that, in order.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.compacted = 0
        self.history: list[Revision] = []
        self._entries: dict[str, Entry] = {}
        self._bytes = 0
        self._history_changes = 0
        self._history_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """None if it is not there."""
        return self._entries.get(key)

    def matching(self, prefix: str) -> tuple[Entry, ...]:
        """All keys that begin like this, in the order of the alphabet."""
        return tuple(self._entries[key] for key in sorted(self._entries) if key.startswith(prefix))

    def since(self, after: int) -> Iterable[Revision]:
        """All changes after a revision that is not below `compacted`, in order."""
        begin = bisect.bisect_right(self.history, after, key=_revision_of)
        return (self.history[place] for place in range(begin, len(self.history)))

    def transact(
        self,
        stamp: int,
        now_ms: int,
        compares: tuple[Compare, ...],
        then: tuple[Step, ...],
        otherwise: tuple[Step, ...],
    ) -> Transacted | Refused:
        """Carry out one of the branches, all of it or, where there is no room for it, nothing."""
        succeeded = all(map(self._holds, compares))
        steps = then if succeeded else otherwise
        after: dict[str, Entry | None] = {}
        changes: list[Change] = []
        found: list[Entry | None] = []
        for step in steps:
            before = after[step.key] if step.key in after else self._entries.get(step.key)
            found.append(before)
            match step.kind:
                case StepKind.PUT:
                    after[step.key] = entry = _put(step, before, stamp, now_ms)
                    changes.append(Change(step.key, ChangeKind.PUT, entry))
                case StepKind.DELETE if before is not None:
                    after[step.key] = None
                    changes.append(Change(step.key, ChangeKind.DELETED))
        if refused := self._room_for(after, found):
            return refused
        for key, written in after.items():
            self._set(key, written)
        self._keep(stamp, changes)
        return Transacted(succeeded, self.revision, tuple(found))

    def recovered(self, stamp: int) -> None:
        """Changes may be undone that somebody has seen: whoever has seen any up to here begins anew."""
        self.history = []
        self._history_changes = self._history_bytes = 0
        self.revision = self.compacted = stamp

    def deadlines(self) -> list[int]:
        """Of the keys that have one."""
        return [entry.deadline_ms for entry in self._entries.values() if entry.deadline_ms]

    def expire(self, stamp: int, now_ms: int) -> bool:
        """Drop the keys whose time is over; whether there were any."""
        over = [entry for entry in self._entries.values() if entry.deadline_ms and entry.deadline_ms <= now_ms]
        for entry in over:
            self._set(entry.key, None)
        self._keep(stamp, [Change(entry.key, ChangeKind.EXPIRED) for entry in over])
        return bool(over)

    def _holds(self, compare: Compare) -> bool:
        entry = self._entries.get(compare.key)
        if compare.field is Field.VALUE:
            if entry is None:
                return compare.relation is Relation.NOT_EQUAL
            return _related(entry.value, compare.relation, compare.value)
        number = 0
        if entry is not None:
            number = {
                Field.VERSION: entry.version,
                Field.CREATED: entry.created,
                Field.MODIFIED: entry.modified,
            }[compare.field]
        return _related(number, compare.relation, compare.number)

    def _room_for(self, after: Mapping[str, Entry | None], found: Iterable[Entry | None]) -> Refused | None:
        told = sum(entry.cost_bytes for entry in found if entry is not None)
        if told > bounds.FOUND_BYTES_MAX:
            return Refused(
                "invalid_argument",
                f"the transaction would return {told} bytes and at most {bounds.FOUND_BYTES_MAX} may: split it",
            )
        grown = self._bytes + sum(_cost(entry) - _cost(self._entries.get(key)) for key, entry in after.items())
        if grown <= max(bounds.STORE_BYTES_MAX, self._bytes):
            return None
        return Refused(
            "config_full",
            f"the configuration would have {grown} bytes and at most {bounds.STORE_BYTES_MAX} may: delete keys, as with"
            " 'meshnode config delete', or keep large values elsewhere and configure where they are",
        )

    def _set(self, key: str, entry: Entry | None) -> None:
        self._bytes += _cost(entry) - _cost(self._entries.get(key))
        if entry is None:
            del self._entries[key]
        else:
            self._entries[key] = entry

    def _keep(self, stamp: int, changes: list[Change]) -> None:
        if not changes:
            return
        self.revision = stamp
        kept = Revision(stamp, tuple(changes))
        self.history.append(kept)
        self._history_changes += len(changes)
        self._history_bytes += kept.cost_bytes
        dropped = 0
        while self._history_changes > bounds.HISTORY_CHANGES_MAX or self._history_bytes > bounds.HISTORY_BYTES_MAX:
            oldest = self.history[dropped]
            self._history_changes -= len(oldest.changes)
            self._history_bytes -= oldest.cost_bytes
            self.compacted = oldest.revision
            dropped += 1
        del self.history[:dropped]

    # ---- snapshots

    def freeze(self) -> tuple[Entry, ...]:
        """The keys, for a snapshot; beside them it has `revision`, `compacted` and `history`."""
        return tuple(self._entries.values())

    def restore(self, entries: Iterable[Entry], history: Iterable[Revision], *, revision: int, compacted: int) -> None:
        """From a snapshot."""
        self._entries = {entry.key: entry for entry in entries}
        self._bytes = sum(entry.cost_bytes for entry in self._entries.values())
        self.history = [*history]
        self._history_changes = sum(len(one.changes) for one in self.history)
        self._history_bytes = sum(one.cost_bytes for one in self.history)
        self.revision, self.compacted = revision, compacted


def _put(step: Step, before: Entry | None, stamp: int, now_ms: int) -> Entry:
    deadline_ms = now_ms + step.ttl_ms + bounds.TICK_MS_MAX if step.ttl_ms else 0
    if before is None:
        return Entry(step.key, step.value, stamp, stamp, 1, deadline_ms)
    return Entry(step.key, step.value, before.created, stamp, before.version + 1, deadline_ms)


def _cost(entry: Entry | None) -> int:
    return 0 if entry is None else entry.cost_bytes


def _related(one: bytes | int, relation: Relation, other: bytes | int) -> bool:
    match relation:
        case Relation.EQUAL:
            return one == other
        case Relation.NOT_EQUAL:
            return one != other
        case Relation.LESS:
            return one < other  # type: ignore[operator]  # both are bytes or both are numbers
        case Relation.GREATER:
            return one > other  # type: ignore[operator]
