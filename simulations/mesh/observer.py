"""Looks into running nodes from outside, and at what must hold of all of them together."""

from collections.abc import Callable

from xxhash import xxh3_64_hexdigest

from meshnode import Node
from meshnode.identity import NodeId
from meshnode.membership.messages import State
from simulations.checkers.liveness import MeshReport, NodeReport, convergence_bound_s
from simulations.checkers.violation import Violation
from simulations.mesh.cluster import Cluster


class Observer:
    """Checks what can be seen at any moment."""

    def __init__(self, cluster: Cluster, fail: Callable[[Violation], None]) -> None:
        self._cluster = cluster
        self._fail = fail
        # As long as the run: one entry for each version of the metadata that was seen.
        self._versions: dict[int, tuple[int, str]] = {}
        self._seen_version: dict[Node, int] = {}
        # The same for locks and the configuration, by the stamp of the last command.
        self._stamps: dict[int, tuple[int, str]] = {}
        self._seen_stamp: dict[Node, int] = {}
        self._ids: dict[int, NodeId] = {}

    def look(self) -> None:
        """Check what is to be seen right now."""
        for number, node in sorted(self._cluster.nodes.items()):
            self._look_at_metadata(number, node)
            self._look_at_coordination(number, node)

    def _look_at_metadata(self, number: int, node: Node) -> None:
        metadata = node.metadata
        if self._seen_version.get(node) == metadata.version:
            return
        self._seen_version[node] = metadata.version
        rows = sorted(metadata.rows.items())
        records = sorted((record.node_id, record.boot, record.is_leaving) for record in metadata.nodes.values())
        digest = xxh3_64_hexdigest(repr((rows, records)).encode())
        first, known = self._versions.setdefault(metadata.version, (number, digest))
        if known != digest:
            message = f"n{first} and n{number} disagree about the metadata at version {metadata.version}"
            self._violated("raft-state-machine", message, first, number)

    def _look_at_coordination(self, number: int, node: Node) -> None:
        state = node.metadata.coordination
        if not state.version or self._seen_stamp.get(node) == state.seen:
            return
        self._seen_stamp[node] = state.seen
        digest = xxh3_64_hexdigest(repr(state.freeze()).encode())
        first, known = self._stamps.setdefault(state.seen, (number, digest))
        if known != digest:
            message = f"n{first} and n{number} disagree about locks, sessions or keys at {state.seen}"
            self._violated("coordination-same-state", message, first, number)

    def _violated(self, invariant: str, message: str, *nodes: int) -> None:
        self._fail(Violation(invariant, virtual_s=self._cluster.events.now, message=message, nodes=nodes))

    # ---- whether the mesh is whole

    def report(self) -> MeshReport:
        """All of the mesh at this moment, but for its agents: those the workload asks."""
        cluster, plan = self._cluster, self._cluster.plan
        nodes = tuple(_report_of(node) for _, node in sorted(cluster.nodes.items()))
        for number, node in cluster.nodes.items():
            self._ids[number] = node.node_id
        numbers = [number for number in range(plan.nodes) if number not in cluster.absent]
        newest = max(cluster.nodes.values(), key=lambda node: node.metadata.version, default=None)
        return MeshReport(
            nodes=nodes,
            expected={self._ids.get(number, NodeId(number)) for number in numbers},
            voters=() if newest is None else tuple(map(NodeId, newest.group.status.voters)),
            voters_wanted=0 if newest is None else _wanted(newest, plan.bounds.voters),
            partitions=plan.partitions,
            replication=min(plan.replication, len(numbers)),
            silent={},
        )

    def bound_s(self) -> float:
        """In how many virtual seconds without faults the mesh comes together."""
        plan, nodes = self._cluster.plan, self._cluster.nodes.values()
        known = {node_id for node in nodes for node_id in node.membership.members}
        config = self._cluster.config(0)
        return convergence_bound_s(
            config.swim,
            config.allocator,
            election_timeout_s=config.election_timeout_s,
            live=plan.nodes,
            gone=max(0, len(known) - plan.nodes),
            slowest=min([1.0, *(clock.rate for clock in plan.faults.clocks)]),
        )

    def summary(self) -> tuple[str, ...]:
        """A line a node."""
        lines = []
        for number in range(self._cluster.plan.nodes):
            node = self._cluster.nodes.get(number)
            if node is None:
                process = self._cluster.processes.get(number)
                lines.append(f"n{number}: {'starts' if process is not None and process.is_alive else 'down'}")
                continue
            status = node.group.status
            primaries = sum(row.primary == node.node_id for row in node.metadata.rows.values())
            lines.append(
                f"n{number}: boot {node.identity.boot}, {status.role.name.lower()} of term {status.term}, commit "
                f"{status.commit}, applied {status.applied}, primary of {primaries}"
            )
        return tuple(lines)


def _wanted(node: Node, target: int) -> int:
    """How many of the nodes that this one knows, and that mean to stay, should vote."""
    count = min(target, sum(not record.is_leaving for record in node.metadata.nodes.values()))
    return count - 1 + count % 2


def _report_of(node: Node) -> NodeReport:
    status, copies = node.group.status, node.partitions.partitions
    return NodeReport(
        node_id=node.node_id,
        boot=node.identity.boot,
        live={member.node_id for member in node.membership.members.values() if member.state is State.ALIVE},
        leader=node.group.leader,
        term=status.term,
        applied=status.applied,
        rows=node.metadata.rows,
        serving={
            partition: copy.primary.epoch
            for partition, copy in copies.items()
            if copy.primary is not None and copy.is_serving
        },
    )
