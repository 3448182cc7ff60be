"""Looks into running nodes from outside, and at what must hold of all of them together."""

from collections.abc import Callable, Mapping

from xxhash import xxh3_64_hexdigest

from meshnode import Node
from meshnode.identity import NodeId, PartitionId
from meshnode.membership.messages import State
from meshnode.metadata.rows import Phase
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

    def look(self) -> None:
        """Check what is to be seen right now."""
        for number, node in sorted(self._cluster.nodes.items()):
            self._look_at_metadata(number, node)

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

    def _violated(self, invariant: str, message: str, *nodes: int) -> None:
        self._fail(Violation(invariant, virtual_s=self._cluster.events.now, message=message, nodes=nodes))

    # ---- whether the mesh is whole

    def unfinished(self) -> str | None:
        """What keeps the mesh from being whole; None if nothing does."""
        cluster, plan = self._cluster, self._cluster.plan
        nodes = cluster.nodes
        absent = [number for number in range(plan.nodes) if number not in nodes and number not in cluster.absent]
        if absent:
            return f"{_names(absent)} run not or belong to no mesh"
        ids = {node.node_id: number for number, node in nodes.items()}
        if not nodes:
            return "no node runs"
        newest = max(node.metadata.version for node in nodes.values())
        for number, node in sorted(nodes.items()):
            live = {member.node_id for member in node.membership.members.values() if member.state is State.ALIVE}
            unseen = sorted(ids[node_id] for node_id in ids if node_id not in live)
            if unseen:
                return f"n{number} does not see {_names(unseen)}"
            if node.metadata.version < newest:
                return f"n{number} is behind: version {node.metadata.version} of {newest}"
            if node.group.leader is None:
                return f"n{number} knows no leader"
        return self._unfinished_rows(ids)

    def _unfinished_rows(self, ids: Mapping[NodeId, int]) -> str | None:
        plan = self._cluster.plan
        node = self._cluster.nodes[min(self._cluster.nodes)]
        wanted = min(plan.replication, plan.nodes - len(self._cluster.absent))
        for partition in range(plan.partitions):
            row = node.metadata.rows.get(PartitionId(partition))
            if row is None or row.phase is not Phase.ACTIVE:
                return f"partition {partition} is not active"
            present = [member for member in row.replicas if member in ids]
            if len(present) < wanted:
                return f"partition {partition} has {len(present)} live replicas of {wanted}"
            if row.primary not in ids:
                return f"partition {partition} has a primary that is gone"
        return None

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


def _names(numbers: list[int]) -> str:
    return ", ".join(f"n{number}" for number in numbers)
