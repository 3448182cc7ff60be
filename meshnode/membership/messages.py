"""What nodes tell each other. Every message checks its own fields: one that exists is within its bounds.

Nobody changes one. Those that are sent all the time are not frozen all the same, since to make a frozen one takes three
to four times as long. A message that carries `Member` records carries as many as its datagram has room for; see
`UPDATES_OVERHEAD_BYTES`.
"""

import enum
import functools
from dataclasses import dataclass, replace
from typing import TypeAlias

from meshnode import wire
from meshnode.identity import NODE_ID_MAX, Address, Boot, NodeId, check_address, check_text

BOOT_MAX = 2**30 - 1
"""A start a second for 34 years."""

BOOT_SHIFT = 32
"""Each start has room for 2**32 refutations before it could reach into the incarnations of the next start."""

INCARNATION_LIMIT = (BOOT_MAX + 1) << BOOT_SHIFT
"""2**62: no honest node gets there, and one step above a rumour still fits in 64 bits."""

WEIGHT_MAX = 65_535
"""Capacity relative to other nodes of the mesh; more could only come from a mistake in the unit."""

SEQUENCE_MAX = 2**32 - 1

BUCKETS = 64
"""Node ids are compared in this many ranges when two nodes sync; one datagram has room for all their digests."""

BUCKET_SHIFT = 57
"""Node ids are random 63-bit numbers: the top six bits are the bucket."""

DIGEST_BYTES = 4
"""A bucket that differs unseen, one in 2**32, is compared again with the next change in it."""

UPDATES_OVERHEAD_BYTES = 40
"""The most that a message takes beside the records that it carries (a `SyncRequest` beside its digests, too)."""


class State(enum.IntEnum):
    """What is believed of a member, from weak to strong: at the same incarnation the stronger belief wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


# For what is asked with every message: Python 3.11 takes longer to find a member of an enum than for all the rest.
ALIVE, SUSPECT, DEAD = State.ALIVE, State.SUSPECT, State.DEAD


@dataclass(frozen=True, slots=True)
class Member:
    """A node as it is known, and at the same time the rumour that spreads it.

    Attributes:
        node_id: whom it is about.
        name: what people call the node; at most 255 bytes of UTF-8.
        address: where it listens, a literal IP address.
        boot: how often it has started; 1 … `BOOT_MAX`.
        incarnation: which claim of the subject this is about; starts at ``boot << 32`` and only the subject raises it.
        state: what is claimed.
        weight: capacity relative to other nodes; 0 for a node that is to own nothing.
        zone: what fails together with it, such as a rack or a site; at most 255 bytes of UTF-8.

    Raises:
        ValueError: a field is out of its range.
    """

    node_id: NodeId
    name: str
    address: Address
    boot: Boot
    incarnation: int
    state: State = State.ALIVE
    weight: int = 1
    zone: str = ""

    def __post_init__(self) -> None:
        check_node_id(self.node_id)
        check_text("name", self.name)
        check_text("zone", self.zone)
        check_address(self.address)
        if not 1 <= self.boot <= BOOT_MAX:
            raise ValueError(f"boot {self.boot}: expected 1 … {BOOT_MAX}")
        if not self.boot << BOOT_SHIFT <= self.incarnation < INCARNATION_LIMIT:
            raise ValueError(f"incarnation {self.incarnation}: expected boot << {BOOT_SHIFT} or more, below 2**62")
        if not 0 <= self.weight <= WEIGHT_MAX:
            raise ValueError(f"weight {self.weight}: expected 0 … {WEIGHT_MAX}")

    @property
    def is_live(self) -> bool:
        """Whether it takes part: a suspect still does."""
        return self.state < DEAD


@functools.lru_cache(maxsize=16_384)  # one for each member of the largest mesh: what one says, many say
def in_state(member: Member, state: State) -> Member:
    """The same claim of the member, with another belief about it."""
    return replace(member, state=state)


def first_incarnation(boot: Boot) -> int:
    """The incarnation with which a node begins the life of this number: above all of its earlier lives."""
    return boot << BOOT_SHIFT


@wire.message(0x10)
@dataclass(slots=True, unsafe_hash=True)
class Ping:
    """Asks ``target`` for an `Ack` with the same sequence number (SWIM 4.1)."""

    sequence: int
    target: NodeId
    source: NodeId
    updates: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        # At once, as a rule: half of all messages are probes.
        are_ids = 1 <= self.target <= NODE_ID_MAX and 1 <= self.source <= NODE_ID_MAX
        if not are_ids or not 0 <= self.sequence <= SEQUENCE_MAX:
            _check_ids(self.sequence, self.target, self.source)


@wire.message(0x11)
@dataclass(slots=True, unsafe_hash=True)
class Ack:
    """Says that ``source`` is alive: by itself, or by a relay that has its `Ack`."""

    sequence: int
    source: NodeId
    updates: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.sequence <= SEQUENCE_MAX and 1 <= self.source <= NODE_ID_MAX):
            _check_ids(self.sequence, self.source, self.source)


@wire.message(0x12)
@dataclass(frozen=True, slots=True)
class PingRequest:
    """Asks a relay to ping ``target`` and to pass on its `Ack` under this sequence number (SWIM 4.1).

    The first update is what the sender knows of the target, so that a relay which never heard of it can find it.
    """

    sequence: int
    target: NodeId
    source: NodeId
    updates: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        _check_ids(self.sequence, self.target, self.source)


@wire.message(0x13)
@dataclass(slots=True, unsafe_hash=True)
class Gossip:
    """Updates that do not wait for a ping to travel with."""

    updates: tuple[Member, ...]


@wire.message(0x14)
@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Asks for what the sender lacks, and introduces it.

    Attributes:
        sequence: comes back in the `SyncPage`.
        source: the sender as it knows itself.
        digests: of the sender's live members, `BUCKETS` times `DIGEST_BYTES`, big-endian; see `Roster.digests`.
        after: members up to this node id were exchanged already; 0 at first.
    """

    sequence: int
    source: Member
    digests: bytes
    after: int = 0

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        if len(self.digests) != BUCKETS * DIGEST_BYTES:
            raise ValueError(f"{len(self.digests)} bytes of digests: expected {BUCKETS * DIGEST_BYTES}")
        _check_cursor(self.after)


@wire.message(0x15)
@dataclass(frozen=True, slots=True)
class SyncPage:
    """Answers a `SyncRequest`: the live members with ``after < node id <= upto`` in the buckets that differ.

    Attributes:
        sequence: the request's.
        upto: how far the page goes; `NODE_ID_MAX` for the last one.
        buckets: the buckets that differ, bit ``i`` for bucket ``i``.
        members: may start with what the sender believes of the receiver, if that is not what the receiver claimed.
    """

    sequence: int
    upto: int
    buckets: int = 0
    members: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        _check_cursor(self.upto)
        if not 0 <= self.buckets < 1 << BUCKETS:
            raise ValueError(f"buckets {self.buckets}: expected a mask of {BUCKETS} bits")


@wire.message(0x16)
@dataclass(frozen=True, slots=True)
class SyncPush:
    """What the receiver of a sync showed not to know. It answers with what it knows better, if anything."""

    members: tuple[Member, ...]


Message: TypeAlias = Ping | Ack | PingRequest | Gossip | SyncRequest | SyncPage | SyncPush


def check_node_id(node_id: int) -> None:
    """Raises ValueError for what can't be a node id."""
    if not 1 <= node_id <= NODE_ID_MAX:
        raise ValueError(f"node id {node_id}: expected 1 … 2**63 - 1")


def _check_ids(sequence: int, node_id: int, other_id: int) -> None:
    _check_sequence(sequence)
    check_node_id(node_id)
    check_node_id(other_id)


def _check_sequence(sequence: int) -> None:
    if not 0 <= sequence <= SEQUENCE_MAX:
        raise ValueError(f"sequence {sequence}: expected 0 … 2**32 - 1")


def _check_cursor(cursor: int) -> None:
    if not 0 <= cursor <= NODE_ID_MAX:
        raise ValueError(f"cursor {cursor}: expected 0 … 2**63 - 1")
