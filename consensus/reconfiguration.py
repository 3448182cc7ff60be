"""The next configuration from the present one and a list of changes: pure functions.

A simple change touches at most one voter, so that majorities before and after it overlap (thesis 4.1). Anything larger
goes through a joint configuration that needs both majorities (thesis 4.3). An error leaves everything as it was.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from consensus.errors import ConfigurationRefused, MalformedMessage, Refusal
from consensus.messages import (
    NO_NODE,
    ChangeKind,
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    EntryKind,
    Transition,
)

_CHANGE = struct.Struct(">BQ")
_SET = struct.Struct(">BH")


@dataclass(frozen=True, slots=True)
class Reconfiguration:
    """The outcome of a change.

    Attributes:
        configuration: what holds from now on.
        forgotten: nodes that were removed, if only to be added again: nothing known of their logs holds any longer.
    """

    configuration: Configuration
    forgotten: frozenset[int] = frozenset()


class _Draft:
    """A configuration while changes are made to it."""

    def __init__(self, configuration: Configuration) -> None:
        self.voters = set(configuration.voters)
        self.voters_outgoing = set(configuration.voters_outgoing)
        self.learners = set(configuration.learners)
        self.learners_next = set(configuration.learners_next)
        self.forgotten: set[int] = set()

    def make(self, changes: Iterable[ConfChange]) -> None:
        for change in changes:
            if change.node == NO_NODE:
                continue
            match change.kind:
                case ChangeKind.ADD_VOTER:
                    self._add_voter(change.node)
                case ChangeKind.ADD_LEARNER:
                    self._add_learner(change.node)
                case ChangeKind.REMOVE:
                    self._drop(change.node)
                    if change.node not in self.voters_outgoing:
                        self.forgotten.add(change.node)
                case ChangeKind.TOUCH:
                    pass

    def _drop(self, node: int) -> None:
        self.voters.discard(node)
        self.learners.discard(node)
        self.learners_next.discard(node)

    def _add_voter(self, node: int) -> None:
        self._drop(node)
        self.voters.add(node)

    def _add_learner(self, node: int) -> None:
        self._drop(node)
        # A node cannot be voter and learner at once, and in the outgoing half it still votes.
        (self.learners_next if node in self.voters_outgoing else self.learners).add(node)

    def freeze(self, *, auto_leave: bool) -> Reconfiguration:
        assert not self.voters & self.learners
        assert not self.voters_outgoing & self.learners
        assert self.learners_next <= self.voters_outgoing
        configuration = Configuration(
            voters=tuple(sorted(self.voters)),
            voters_outgoing=tuple(sorted(self.voters_outgoing)),
            learners=tuple(sorted(self.learners)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=auto_leave,
        )
        return Reconfiguration(configuration, frozenset(self.forgotten))


def simple(configuration: Configuration, changes: Iterable[ConfChange]) -> Reconfiguration:
    """Make changes that touch at most one voter.

    Raises:
        ConfigurationRefused: the configuration is joint, no voter would be left, or several voters would change.
    """
    if configuration.is_joint:
        raise ConfigurationRefused(Refusal.JOINT, f"cannot change {configuration}")
    draft = _Draft(configuration)
    draft.make(changes)
    if not draft.voters:
        raise ConfigurationRefused(Refusal.REMOVES_ALL_VOTERS, f"cannot change {configuration}")
    if len(draft.voters ^ set(configuration.voters)) > 1:
        raise ConfigurationRefused(Refusal.SEVERAL_VOTERS, f"cannot change {configuration} to {sorted(draft.voters)}")
    return draft.freeze(auto_leave=False)


def enter_joint(configuration: Configuration, changes: Iterable[ConfChange], *, auto_leave: bool) -> Reconfiguration:
    """Make any changes, in force only together with the present voters until the joint configuration is left.

    Raises:
        ConfigurationRefused: the configuration is joint already, has no voters, or would have none.
    """
    if configuration.is_joint:
        raise ConfigurationRefused(Refusal.ALREADY_JOINT, f"cannot change {configuration}")
    if not configuration.voters:
        raise ConfigurationRefused(Refusal.NO_VOTERS, f"cannot change {configuration}")
    draft = _Draft(configuration)
    draft.voters_outgoing = set(configuration.voters)
    draft.make(changes)
    if not draft.voters:
        raise ConfigurationRefused(Refusal.REMOVES_ALL_VOTERS, f"cannot change {configuration}")
    return draft.freeze(auto_leave=auto_leave)


def leave_joint(configuration: Configuration) -> Reconfiguration:
    """Let the incoming half stand alone.

    Raises:
        ConfigurationRefused: the configuration is not joint.
    """
    if not configuration.is_joint:
        raise ConfigurationRefused(Refusal.NOT_JOINT, f"cannot change {configuration}")
    draft = _Draft(configuration)
    draft.voters_outgoing.clear()
    draft.learners |= draft.learners_next
    draft.learners_next.clear()
    return draft.freeze(auto_leave=False)


def leaves_joint(change: ConfChange | ConfChangeSet) -> bool:
    """Whether the change asks to leave a joint configuration."""
    return isinstance(change, ConfChangeSet) and not change.changes and change.transition is Transition.AUTO


def reconfigure(configuration: Configuration, change: ConfChange | ConfChangeSet) -> Reconfiguration:
    """Apply a change in the way that it asks for.

    Raises:
        ConfigurationRefused: it does not fit the configuration.
    """
    if isinstance(change, ConfChange):
        return simple(configuration, (change,))
    if leaves_joint(change):
        return leave_joint(configuration)
    if change.transition is not Transition.AUTO or len(change.changes) > 1:
        auto_leave = change.transition is not Transition.JOINT_EXPLICIT
        return enter_joint(configuration, change.changes, auto_leave=auto_leave)
    return simple(configuration, change.changes)


def encode_change(change: ConfChange | ConfChangeSet) -> tuple[EntryKind, bytes]:
    """The kind and data of the entry that carries the change.

    One change: kind u8, node u64, context. A set: transition u8, count u16, that many (kind u8, node u64), context;
    the contexts of its single changes are not carried. Numbers are big-endian.
    """
    if isinstance(change, ConfChange):
        return EntryKind.CHANGE, _CHANGE.pack(change.kind, change.node) + change.context
    if leaves_joint(change) and not change.context:
        return EntryKind.CHANGE_SET, b""
    parts = [_SET.pack(change.transition, len(change.changes))]
    parts += [_CHANGE.pack(one.kind, one.node) for one in change.changes]
    return EntryKind.CHANGE_SET, b"".join([*parts, change.context])


def decode_change(entry: Entry) -> ConfChange | ConfChangeSet:
    """The inverse of `encode_change`.

    Raises:
        MalformedMessage: the entry carries no change, or one that `encode_change` did not write.
    """
    try:
        match entry.kind:
            case EntryKind.NORMAL:
                raise MalformedMessage(f"the entry at index {entry.index} carries no configuration change")
            case EntryKind.CHANGE:
                return _decode_single(entry.data, context=entry.data[_CHANGE.size :])
            case EntryKind.CHANGE_SET:
                return _decode_set(entry.data)
    except (struct.error, ValueError) as error:
        raise MalformedMessage(
            f"the configuration change at index {entry.index} is {entry.data[:64]!r}, which does not decode: {error}"
        ) from error


def _decode_single(data: bytes, *, context: bytes = b"") -> ConfChange:
    kind, node = _CHANGE.unpack_from(data)
    return ConfChange(ChangeKind(kind), node, context)


def _decode_set(data: bytes) -> ConfChangeSet:
    if not data:
        return ConfChangeSet()
    transition, count = _SET.unpack_from(data)
    end = _SET.size + count * _CHANGE.size
    changes = tuple(_decode_single(data[at : at + _CHANGE.size]) for at in range(_SET.size, end, _CHANGE.size))
    return ConfChangeSet(changes, Transition(transition), data[end:])
