"""Whether a mesh has come together again after the faults, and if not, what has not.

Converged: every node that runs holds exactly those live; all follow one leader and have applied what it has; as many
vote as should, and run; every row is active, and its primary, a process that runs, serves it; it has as many replicas
that run as it should; every agent that was asked answered. And it rests: for a stated time it is all of that, and
nobody else leads, votes or has a partition, since what is whole for a moment between two changes that undo each other
is not.

Nothing is asked of a set of which a majority is gone for good: of the Raft group without a majority of its voters no
agreement, and so no change of a row; of a partition without a majority of its base no service.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.membership.config import SwimConfig
from meshnode.metadata.allocator import MOVE_TIMEOUT_S, STALL_MAX_S
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase, Row
from simulations.checkers.swim_bounds import CHANCE, swim_bounds
from simulations.checkers.violation import Violation

REST_S = 20.0
"""How long a mesh that is whole stays as it is, times the tempo: longer than any decision about a voter waits."""

SHOWN_MAX = 12
"""Lines in a message; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What one process that runs has to say.

    Attributes:
        live: whom its membership holds live, itself included.
        leader, term, applied: of the Raft group as it knows it; applied is an index or any number that rises like one.
        rows: its committed rows.
        serving: the partitions that it serves, and in which epochs.
    """

    node_id: NodeId
    boot: Boot
    live: Set[NodeId]
    leader: NodeId | None
    term: int
    applied: int
    rows: Mapping[PartitionId, Row]
    serving: Mapping[PartitionId, Epoch]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshReport:
    """All of a mesh at one moment.

    Attributes:
        nodes: of the processes that run and belong to the mesh.
        expected: the nodes that should run by now.
        voters: of the Raft group.
        voters_wanted: how many there should be, if as many run; 0 where that is not asked for.
        partitions: how many there are.
        replication: how many replicas each should have, if there are as many nodes; 0 where that is not asked for.
        silent: agents that were asked and have not answered, with the reason.
        behind_max: by how much nodes of a mesh at rest may differ in ``applied``: the last entries are under way.
    """

    nodes: tuple[NodeReport, ...]
    expected: Set[NodeId]
    voters: tuple[NodeId, ...]
    partitions: int
    silent: Mapping[str, str]
    replication: int = 0
    voters_wanted: int = 0
    behind_max: int = 2


@dataclass(frozen=True, slots=True)
class Unmet:
    """Something that has not converged.

    Attributes:
        invariant: under which name it is reported.
        message: what is missing.
        nodes: where.
    """

    invariant: str
    message: str
    nodes: tuple[NodeId, ...] = ()


class LivenessChecker:
    """Gives the mesh a stated time after the last fault.

    Args:
        within_s: of virtual time, until the mesh is whole; see `convergence_bound_s`.
        clock: virtual seconds.
        rest_s: for how long it then has to stay as it is; this time comes on top.
    """

    def __init__(self, within_s: float, clock: Callable[[], float], *, rest_s: float = 0.0) -> None:
        self._within_s = within_s
        self._clock = clock
        self._rest_s = rest_s
        self._calm_since_s: float | None = None
        self._arrangement: dict[str, object] = {}
        self._changed_at_s = 0.0
        self._whole_since_s: float | None = None
        self._changed = ""

    def calm(self) -> None:
        """The last fault has ended: time counts from now."""
        self._calm_since_s = self._clock()

    def disturb(self) -> None:
        """Faults begin: nothing is expected until they end."""
        self._calm_since_s = None

    def check(self, report: MeshReport) -> tuple[Unmet, ...]:
        """What has not converged yet; nothing where the mesh is whole and has rested.

        Raises:
            Violation: the time is over; under the name of the first thing that is missing, which others may wait for.
        """
        found = unmet(report)
        now = self._clock()
        arrangement = _arrangement(report)
        if arrangement != self._arrangement:
            parts = sorted(arrangement.items() ^ self._arrangement.items(), key=str)
            self._changed = ", ".join(dict.fromkeys(part for part, _ in parts))
            self._arrangement, self._changed_at_s = arrangement, now
        bound_s = self._within_s
        if found:
            self._whole_since_s = None
        else:
            self._whole_since_s = now if self._whole_since_s is None else self._whole_since_s
            bound_s += self._rest_s
            found = self._unrest(now, self._whole_since_s)
        if found and self._calm_since_s is not None and now > self._calm_since_s + bound_s:
            lines = [each.message for each in found[:SHOWN_MAX]]
            if len(found) > SHOWN_MAX:
                lines.append(f"and {len(found) - SHOWN_MAX} more")
            raise Violation(
                found[0].invariant,
                virtual_s=now,
                message=f"not converged {now - self._calm_since_s:.3f} s after the last fault, with a bound of"
                f" {bound_s:.3f} s: {'; '.join(lines)}",
                nodes=[node for each in found for node in each.nodes],
            )
        return found

    def _unrest(self, now: float, whole_since_s: float) -> tuple[Unmet, ...]:
        """What a mesh that is whole has not left alone for long enough."""
        if now - self._changed_at_s < self._rest_s:
            return (Unmet("liveness-rest", f"{self._changed} changed {now - self._changed_at_s:.3f} s ago"),)
        if now - whole_since_s < self._rest_s:
            return (Unmet("liveness-rest", f"whole for {now - whole_since_s:.3f} s only"),)
        return ()


def convergence_bound_s(
    swim: SwimConfig,
    allocator: AllocatorConfig,
    *,
    election_timeout_s: float,
    live: int,
    gone: int = 0,
    latency_s: float = 0.01,
    slowest: float = 1.0,
    chance: float = CHANCE,
) -> float:
    """In how many virtual seconds after the last fault a mesh comes together; arguments as of `swim_bounds`.

    Membership heals (`swim_bounds`), after which everybody reaches everybody. Twelve election timeouts: each election
    takes at most two and fails with even odds or less, so that six in a row are one case in sixty-four, and the next is
    under way meanwhile. A primary that is stuck is noticed after ``stuck_after_s``. A takeover that had stalled before
    may be left alone for as long as the most patience with one, and then takes its time once more. A node that is gone
    for good is replaced after its time, sooner as a voter than as a replica, and what had stalled before is moved only
    when it was left alone as long again.
    """
    bounds = swim_bounds(swim, live=live, gone=gone, latency_s=latency_s, slowest=slowest, chance=chance)
    patience_s = max(STALL_MAX_S, allocator.stall_s)
    takeover_s = 12 * election_timeout_s + allocator.stuck_after_s + allocator.settle_s + patience_s + allocator.stall_s
    moving_s = allocator.replacement_delay_s + STALL_MAX_S + MOVE_TIMEOUT_S
    return bounds.healing_s + (takeover_s + moving_s) / slowest


def rest_s(tempo: float) -> float:
    """For how many virtual seconds a mesh that is whole has to stay as it is, where all timeouts are times ``tempo``.

    Longer too than a move takes to be asked for again, which the tempo does not change.
    """
    return max(REST_S * tempo, MOVE_TIMEOUT_S + 5.0)


def unmet(report: MeshReport) -> tuple[Unmet, ...]:
    """What keeps the mesh from being whole, causes before what they cause."""
    found = [*_membership(report)]
    if _has_majority(report.voters, report):
        found += _raft(report)
        found += _voters(report)
        found += _partitions(report)
    found += [
        Unmet("liveness-agents", f"{agent} does not answer: {reason}")
        for agent, reason in sorted(report.silent.items())
    ]
    return tuple(found)


def _arrangement(report: MeshReport) -> dict[str, object]:
    """Who leads, who votes, and who has which partition since when."""
    newest = max(report.nodes, key=lambda node: (node.term, node.applied), default=None)
    if newest is None:
        return {}
    epochs = {f"partition {partition}": row.epoch for partition, row in newest.rows.items()}
    return {"the leader": (newest.term, newest.leader), "the voters": frozenset(report.voters), **epochs}


def _membership(report: MeshReport) -> list[Unmet]:
    running = {node.node_id for node in report.nodes}
    found = [
        Unmet("liveness-membership", f"node {node} does not run or belongs to no mesh", (node,))
        for node in sorted(report.expected - running)
    ]
    for node in report.nodes:
        unseen, ghosts = sorted(running - node.live), sorted(node.live - running)
        if unseen:
            found.append(Unmet("liveness-membership", f"node {node.node_id} does not see {unseen}", (node.node_id,)))
        if ghosts:
            found.append(Unmet("liveness-membership", f"node {node.node_id} holds {ghosts} live", (node.node_id,)))
    return found


def _raft(report: MeshReport) -> list[Unmet]:
    found = []
    newest = max((node.applied for node in report.nodes), default=0)
    term = max((node.term for node in report.nodes), default=0)
    leaders = {node.leader for node in report.nodes if node.term == term and node.leader is not None}
    for node in report.nodes:
        here = (node.node_id,)
        if node.leader is None:
            found.append(Unmet("liveness-raft", f"node {node.node_id} knows no leader in term {node.term}", here))
        elif node.leader not in leaders:
            found.append(
                Unmet(
                    "liveness-raft", f"node {node.node_id} follows {node.leader} of term {node.term}, not {term}", here
                )
            )
        if node.applied < newest - report.behind_max:
            message = f"node {node.node_id} has applied {node.applied} of {newest}"
            found.append(Unmet("liveness-raft", message, here))
    return found


def _voters(report: MeshReport) -> list[Unmet]:
    running = {node.node_id for node in report.nodes}
    wanted = report.voters_wanted
    if not wanted:
        return []
    found = []
    if len(report.voters) % 2 == 0:
        found.append(Unmet("liveness-voters", f"{len(report.voters)} nodes vote, an even number"))
    if len(running) < wanted:
        return found
    if len(report.voters) != wanted:
        found.append(Unmet("liveness-voters", f"{len(report.voters)} nodes vote, {wanted} should"))
    gone = sorted(set(report.voters) - running)
    return [*found, *(Unmet("liveness-voters", f"node {voter} votes and does not run", (voter,)) for voter in gone)]


def _partitions(report: MeshReport) -> list[Unmet]:
    if not report.nodes:
        return []
    processes = {(node.node_id, node.boot): node for node in report.nodes}
    rows = max(report.nodes, key=lambda node: node.applied).rows
    found = []
    for partition in map(PartitionId, range(report.partitions)):
        row = rows.get(partition)
        if row is None:
            found.append(Unmet("liveness-partitions", f"partition {partition} has no row"))
            continue
        if row.base and not _has_majority(row.base, report):
            continue
        primary = processes.get((row.primary, row.boot))
        if row.phase is not Phase.ACTIVE:
            what = f"has been taken over by {row.primary} since epoch {row.epoch} began and is not active"
        elif primary is None:
            what = f"has the primary {row.primary}, start {row.boot}, which does not run"
        elif primary.serving.get(partition) != row.epoch:
            what = f"is not served by {row.primary}, its primary of epoch {row.epoch}"
        else:
            found += _replicas(partition, row, report)
            continue
        found.append(Unmet("liveness-partitions", f"partition {partition} {what}", (row.primary,)))
    return found


def _replicas(partition: PartitionId, row: Row, report: MeshReport) -> list[Unmet]:
    running = {node.node_id for node in report.nodes}
    present = [member for member in row.replicas if member in running]
    wanted = min(report.replication, len(running))
    if len(present) >= wanted:
        return []
    return [Unmet("liveness-replicas", f"partition {partition} has replicas on {present}, {wanted} should be", ())]


def _has_majority(members: tuple[NodeId, ...], report: MeshReport) -> bool:
    """Whether a majority runs, or should by now."""
    present = report.expected | {node.node_id for node in report.nodes}
    return 2 * sum(member in present for member in members) > len(members)
