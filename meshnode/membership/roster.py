"""The table of members, the order in which rumours override each other, and what is needed to compare two tables."""

import bisect
import functools
import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from meshnode import wire
from meshnode.identity import NODE_ID_MAX, NodeId
from meshnode.membership.gossip import record_bytes
from meshnode.membership.messages import ALIVE, BUCKET_SHIFT, BUCKETS, DIGEST_BYTES, Member, in_state

MEMBERS_MAX = 16_384
"""Live and dead together: more than one Raft group and partition table serve, and what a hostile peer can make up."""

_DIGESTS = struct.Struct(f">{BUCKETS}I")
assert _DIGESTS.size == BUCKETS * DIGEST_BYTES


def supersedes(rumour: Member, held: Member) -> bool:
    """Whether ``rumour`` overrides ``held``, which is about the same node.

    A total order: by incarnation, then by state (SWIM 4.2: suspect overrides alive of the same incarnation, dead
    overrides both). A higher incarnation overrides even death, since only the subject raises it. What is left, two
    records that differ at one incarnation, is no honest node's doing; the order just makes all nodes agree.
    """
    if rumour.incarnation != held.incarnation:
        return rumour.incarnation > held.incarnation
    if rumour.state != held.state:
        return rumour.state > held.state
    return _rest(rumour) > _rest(held)


def differs(member: Member, other: Member) -> bool:
    """Whether more than the incarnation differs between two records of one node."""
    return member.state != other.state or _rest(member) != _rest(other)


def _rest(member: Member) -> tuple[object, ...]:
    return (member.boot, member.address.host, member.address.port, member.name, member.weight, member.zone)


@functools.lru_cache(maxsize=MEMBERS_MAX)
def _digest(member: Member) -> int:
    # Suspicion is left out: it passes too quickly to be worth comparing lists for.
    record = wire.pack(member if member.state is ALIVE else in_state(member, ALIVE))
    return int.from_bytes(hashlib.blake2b(record, digest_size=DIGEST_BYTES).digest())


class Roster:
    """Every member this node knows, itself included, live or not.

    The dead and the departed are kept as tombstones for a time, so that older gossip about them is known as such.
    """

    __slots__ = (
        "_digests",
        "_expiries",
        "_ids",
        "_members",
        "_my_id",
        "_retention_s",
        "deadline",
        "get",
        "live",
        "members",
    )

    def __init__(self, me: Member, *, retention_s: float) -> None:
        self._my_id = me.node_id
        self._retention_s = retention_s
        self._members: dict[NodeId, Member] = {}
        self._ids: list[NodeId] = []  # sorted: pages of a sync are ranges of it
        self._digests = [0] * BUCKETS
        self._expiries: dict[NodeId, float] = {}  # of tombstones, the oldest first
        self.live = 0
        """How many members are alive or suspect, this node included."""
        self.deadline = math.inf
        """When the oldest tombstone is to be forgotten."""
        self.members: Mapping[NodeId, Member] = MappingProxyType(self._members)
        """A live view of everyone, in the order in which they became known."""
        self.get: Callable[[NodeId], Member | None] = self._members.get
        """What is known of the node. The dictionary's own method: every message asks it two or three times."""
        self.put(me, now=0.0)

    def put(self, member: Member, *, now: float) -> bool:
        """Record what is believed from now on. False if the table is full of live members."""
        held = self._members.get(member.node_id)
        if held is not None:
            self._count(held, -1)
            if self._expiries.pop(member.node_id, None) is not None:
                self._plan()
        elif not self._has_room():
            return False
        else:
            bisect.insort(self._ids, member.node_id)
        self._members[member.node_id] = member
        self._count(member, 1)
        if not member.is_live and member.node_id != self._my_id:
            self._expiries[member.node_id] = now + self._retention_s
            self._plan()
        return True

    def _has_room(self) -> bool:
        if len(self._members) >= MEMBERS_MAX and self._expiries:
            self._forget(next(iter(self._expiries)))
        return len(self._members) < MEMBERS_MAX

    def _count(self, member: Member, sign: int) -> None:
        if member.is_live:
            self.live += sign
            self._digests[member.node_id >> BUCKET_SHIFT] ^= _digest(member)

    def _plan(self) -> None:
        self.deadline = next(iter(self._expiries.values()), math.inf)

    def _forget(self, node_id: NodeId) -> None:
        del self._expiries[node_id]
        self._plan()
        del self._members[node_id]
        del self._ids[bisect.bisect_left(self._ids, node_id)]

    def forget_due(self, now: float) -> None:
        """Forget the tombstones whose time is over."""
        while self.deadline <= now:
            self._forget(next(iter(self._expiries)))

    def tombstones(self) -> Iterator[Member]:
        """The dead and the departed, the oldest first."""
        return (self._members[node_id] for node_id in self._expiries)

    def digests(self) -> bytes:
        """A digest of the live members for each bucket of node ids, big-endian; equal tables give equal bytes."""
        return _DIGESTS.pack(*self._digests)

    def buckets_that_differ(self, digests: bytes) -> int:
        """Which buckets are not as in another table's ``digests``: bit ``i`` for bucket ``i``."""
        pairs = enumerate(zip(self._digests, _DIGESTS.unpack(digests), strict=True))
        return sum([1 << bucket for bucket, (mine, other) in pairs if mine != other])

    def between(self, after: int, upto: int, buckets: int) -> Iterator[Member]:
        """Everyone with ``after < node id <= upto`` in the ``buckets``, by rising node id.

        The table must not change meanwhile.
        """
        if not buckets:
            return
        index = bisect.bisect_right(self._ids, after)
        while index < len(self._ids) and (node_id := self._ids[index]) <= upto:
            bucket = node_id >> BUCKET_SHIFT
            if buckets >> bucket & 1:
                yield self._members[node_id]
                index += 1
            else:
                index = bisect.bisect_left(self._ids, (bucket + 1) << BUCKET_SHIFT, lo=index)

    def page(self, after: int, buckets: int, *, bytes_max: int) -> tuple[list[Member], int]:
        """As many live members after ``after`` as fit, and the node id up to which these are all."""
        page: list[Member] = []
        for member in self.between(after, NODE_ID_MAX, buckets):
            if member.is_live:
                bytes_max -= record_bytes(member)
                if bytes_max < 0:
                    return page, member.node_id - 1
                page.append(member)
        return page, NODE_ID_MAX
