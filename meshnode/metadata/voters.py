"""Who votes in the Raft group of the mesh: the next single change of its configuration, or none.

A pure function of the configuration, and of what its leader sees of the registered nodes. The rules, the first that
applies being the one that counts:

1. The number of voters that is wanted is the target, or the nodes that mean to stay, if those are fewer, and odd: one
   more that is even can lose no more of them. A failure never lowers it, since a failed node is registered still.
2. A leader that wants to leave hands over first.
3. A voter that leaves, was let go, or is gone for a while is replaced: first a stand-by that has caught up is made a
   voter, then the old one is removed. Without a stand-by it is kept, unless it leaves, or there are enough voters
   without it, or an even number with it. One that leaves follows as a learner until it is let go, since it has much to
   hand over.
4. Where voters are missing, stand-bys that have caught up become voters: two, one after the other, where one alone
   would make the number even.
5. Where there are too many, or an even number for a while, one becomes a stand-by again.
6. There are always a few stand-bys: learners, of whom one can vote within a moment.
7. Voters are spread over zones. Where one zone has at least two voters more than the zone of a node that could stand
   in, that one is made a voter, and by rule 5 the zone with the most gives one up: which lessens the sum of the squares
   of the zones' voters, so it ends. It happens only while all is well and nothing has changed for a while, and only for
   a node that has been there for just as long: a node that comes and goes moves nothing.

No change is made unless a majority of the voters answers, before it and after it: one that doesn't answer counts as a
voter, and not as one who agrees.
"""

import enum
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from consensus.messages import ChangeKind, ConfChange, Configuration
from consensus.quorum import majority
from meshnode.identity import NodeId, node_id_text
from meshnode.metadata.config import VotersConfig

STAND_BYS = 2
"""Learners kept ready: as many as are made voters together. Each is one more that the leader streams to."""


class Action(enum.Enum):
    """What to do with one node."""

    HAND_OVER = "hand over to"
    PROMOTE = "make a voter"
    DEMOTE = "make a stand-by"
    TAKE_IN = "take in as a stand-by"
    REMOVE = "remove"


CHANGES = {
    Action.PROMOTE: ChangeKind.ADD_VOTER,
    Action.DEMOTE: ChangeKind.ADD_LEARNER,
    Action.TAKE_IN: ChangeKind.ADD_LEARNER,
    Action.REMOVE: ChangeKind.REMOVE,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One change.

    Attributes:
        reason: a sentence, for people.
    """

    action: Action
    node: NodeId
    reason: str

    @property
    def change(self) -> ConfChange:
        """Of the configuration; there is none for HAND_OVER."""
        return ConfChange(CHANGES[self.action], self.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A registered node, as the leader sees it.

    Attributes:
        zone: what fails together with it; nodes without one are in one zone.
        is_leaving: whether it wants to leave the mesh.
        is_live: whether it seems to be there.
        is_ready: whether, moreover, it answers as a member of the group, and has nearly all of the log.
        for_s: for how long it has been there, or gone.
    """

    zone: str = ""
    is_leaving: bool = False
    is_live: bool = True
    is_ready: bool = True
    for_s: float = math.inf


def wanted_voters(peers: Mapping[NodeId, Peer], *, target: int) -> int:
    """How many voters there should be (rule 1)."""
    staying = sum(not peer.is_leaving for peer in peers.values())
    count = max(1, min(target, staying))
    return count if count % 2 else count - 1


def next_step(
    configuration: Configuration,
    peers: Mapping[NodeId, Peer],
    *,
    leader: NodeId,
    target: int,
    config: VotersConfig,
    quiet_s: float,
) -> Step | None:
    """What to change now; None where all is well, or nothing can be done.

    Args:
        peers: every registered node.
        target: how many voters a mesh of enough nodes has.
        quiet_s: for how long the configuration has been as it is.
    """
    if configuration.is_joint:
        return None
    group = _Group(configuration, peers, leader, wanted_voters(peers, target=target), config, quiet_s)
    return (
        group.hand_over()
        or group.drop_voter()
        or group.promote()
        or group.demote()
        or group.keep_stand_bys()
        or group.spread()
    )


class _Group:
    def __init__(
        self,
        configuration: Configuration,
        peers: Mapping[NodeId, Peer],
        leader: NodeId,
        wanted: int,
        config: VotersConfig,
        quiet_s: float,
    ) -> None:
        self._peers = peers
        self._leader = leader
        self._wanted = wanted
        self._config = config
        self._quiet_s = quiet_s
        self._voters = frozenset(map(NodeId, configuration.voters))
        self._learners = frozenset(map(NodeId, configuration.learners))
        self._good = frozenset(filter(self._is_kept, self._voters))
        self._stand_by = frozenset(filter(self._is_kept, self._learners))
        self._candidates = [node for node in sorted(self._learners) if self._is_staying(node) and peers[node].is_ready]
        self._zones = Counter(peers[node].zone for node in self._good)

    # ---- what is so

    def _is_staying(self, node: NodeId) -> bool:
        peer = self._peers.get(node)
        return peer is not None and not peer.is_leaving

    def _is_kept(self, node: NodeId) -> bool:
        """Whether the node is to go on as what it is."""
        peer = self._peers.get(node)
        if peer is None or peer.is_leaving:
            return False
        return node == self._leader or peer.is_live or peer.for_s < self._config.replacement_delay_s

    @property
    def _is_even(self) -> bool:
        return len(self._voters) % 2 == 0

    def _is_safe(self, voters: Collection[NodeId]) -> bool:
        """Whether these would decide, too, if only those who answer now did."""
        return self._has_majority(self._voters) and self._has_majority(voters)

    def _has_majority(self, voters: Collection[NodeId]) -> bool:
        ready = sum(
            node == self._leader or ((peer := self._peers.get(node)) is not None and peer.is_ready) for node in voters
        )
        return bool(voters) and ready >= majority(len(voters))

    @property
    def _has_stand_by(self) -> bool:
        """Whether there is a node, or will be, that can take a voter's place."""
        return bool(self._stand_by) or any(map(self._is_free, self._peers))

    def _fate(self, node: NodeId) -> str:
        peer = self._peers.get(node)
        if peer is None:
            return "was let go"
        return "leaves" if peer.is_leaving else f"has been gone for {peer.for_s:.0f} s"

    def _best(self, nodes: Iterable[NodeId]) -> NodeId | None:
        """Of the zone with the fewest voters, and there the longest."""

        def rank(node: NodeId) -> tuple[int, float, NodeId]:
            peer = self._peers[node]
            return self._zones[peer.zone], -peer.for_s, node

        return min(nodes, key=rank, default=None)

    # ---- rules

    def hand_over(self) -> Step | None:
        """Rule 2."""
        if self._is_staying(self._leader):
            return None
        heirs = [node for node in self._good if node != self._leader and self._peers[node].is_ready]
        heir = self._best(heirs)
        return None if heir is None else Step(Action.HAND_OVER, heir, "the leader wants to leave the mesh")

    def drop_voter(self) -> Step | None:
        """Rule 3, once there is a replacement."""
        is_replaced = len(self._good) >= self._wanted or len(self._voters) > self._wanted
        is_in_the_way = self._is_even and not self._candidates

        def rank(node: NodeId) -> tuple[int, float, NodeId]:
            peer = self._peers.get(node)
            if peer is None:
                return 0, 0.0, node
            return 1 + peer.is_live, -peer.for_s, node

        for node in sorted(self._voters - self._good - {self._leader}, key=rank):
            is_over = node not in self._peers or (is_in_the_way and not self._peers[node].is_live)
            is_over = is_over or (self._peers[node].is_leaving and not self._has_stand_by)
            if (is_replaced or is_over) and self._is_safe(self._voters - {node}):
                is_live = node in self._peers and self._peers[node].is_live
                action = Action.DEMOTE if is_live else Action.REMOVE
                return Step(action, node, f"it {self._fate(node)}; {self._count}")
        return None

    @property
    def _count(self) -> str:
        return f"{len(self._good)} of {self._wanted} wanted voters are there"

    def promote(self) -> Step | None:
        """Rules 3 and 4."""
        best = self._best(self._candidates)
        if best is None or len(self._good) >= self._wanted or len(self._voters) > self._wanted:
            return None
        going = sorted(self._voters - self._good)
        if not going and not self._is_even and len(self._candidates) < 2:
            return None
        if not self._is_safe(self._voters | {best}):
            return None
        why = f"{self._name(going[0])} {self._fate(going[0])}; " if going else ""
        return Step(Action.PROMOTE, best, why + self._count)

    def _name(self, node: NodeId) -> str:
        zone = self._peers[node].zone if node in self._peers else ""
        return f"node {node_id_text(node)}" + (f" of zone {zone}" if zone else "")

    def demote(self) -> Step | None:
        """Rule 5."""
        if self._voters != self._good:
            return None
        is_surplus = len(self._voters) > self._wanted
        is_even = self._is_even and not self._candidates and self._quiet_s >= self._config.replacement_delay_s
        if not is_surplus and not is_even:
            return None

        def rank(node: NodeId) -> tuple[bool, int, float, NodeId]:
            peer = self._peers[node]
            return peer.is_ready, -self._zones[peer.zone], peer.for_s, node

        for node in sorted(self._voters - {self._leader}, key=rank):
            if self._is_safe(self._voters - {node}):
                reason = f"{self._wanted} voters are wanted, not {len(self._voters)}"
                return Step(Action.DEMOTE, node, reason if is_surplus else f"{len(self._voters)} voters are even")
        return None

    def keep_stand_bys(self) -> Step | None:
        """Rule 6."""
        for node in sorted(self._learners - self._stand_by):
            if node not in self._peers or not self._peers[node].is_live:
                return Step(Action.REMOVE, node, f"it {self._fate(node)}")
        if len(self._stand_by) < STAND_BYS:
            best = self._best(filter(self._is_free, self._peers))
            return None if best is None else Step(Action.TAKE_IN, best, f"{STAND_BYS} stand-bys are wanted")
        if len(self._stand_by) > STAND_BYS:

            def rank(node: NodeId) -> tuple[int, float, NodeId]:
                return -self._zones[self._peers[node].zone], self._peers[node].for_s, node

            node = min(self._stand_by, key=rank)
            return Step(Action.REMOVE, node, f"{STAND_BYS} stand-bys are enough")
        return None

    def _is_free(self, node: NodeId) -> bool:
        """Whether the node could be taken in."""
        is_member = node in self._voters or node in self._learners
        return not is_member and self._is_staying(node) and self._peers[node].is_live

    def spread(self) -> Step | None:
        """Rule 7."""
        settle_s = self._config.settle_s
        is_calm = self._voters == self._good and all(
            node == self._leader or self._peers[node].is_ready for node in self._voters
        )
        if not is_calm or len(self._voters) != self._wanted or self._quiet_s < settle_s:
            return None
        crowded, most = max(self._zones.items(), key=lambda item: (item[1], item[0]))

        def is_better(node: NodeId) -> bool:
            peer = self._peers[node]
            return peer.for_s >= settle_s and self._zones[peer.zone] <= most - 2

        node = self._best(filter(is_better, self._candidates))
        action = Action.PROMOTE
        if node is None and not any(map(is_better, self._stand_by)):
            node = self._best(filter(is_better, filter(self._is_free, self._peers)))
            action = Action.TAKE_IN
        if node is None:
            return None
        zone = self._peers[node].zone
        reason = f"zone {crowded or '-'} has {most} voters, and zone {zone or '-'} has {self._zones[zone]}"
        return Step(action, node, reason)
