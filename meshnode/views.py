"""What people ask of a node through the command line: plain data, by name."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from meshnode import wire
from meshnode.control import Query, View
from meshnode.errors import InvalidArgument, MeshError, NotFound, error_from_code
from meshnode.identity import NodeId, PartitionId, node_id_text
from meshnode.membership.messages import State
from meshnode.placement import MemberSpec, Table, explain, partition_of

if TYPE_CHECKING:
    from meshnode.node import Node

GATHER_TIMEOUT_S = 5.0
"""How long the other nodes may take when a view is put together from all of them."""

LEAVE_TIMEOUT_S = 120.0


async def members(node: "Node", _arguments: Any) -> Any:
    """Everyone whom this node knows."""
    leader = node.group.leader
    primaries = _primaries_by_node(node)
    return [
        {
            "name": member.name,
            "id": node_id_text(member.node_id),
            "address": str(member.address),
            "state": member.state.name.lower(),
            "boot": member.boot,
            "leader": member.node_id == leader,
            "voter": member.node_id in node.group.status.voters,
            "primaries": primaries.get(member.node_id, 0),
            "weight": member.weight,
            "zone": member.zone,
        }
        for member in sorted(node.membership.members.values(), key=lambda member: member.name)
        if member.state is not State.LEFT
    ]


async def raft_status(node: "Node", _arguments: Any) -> Any:
    """This node's view of the Raft group."""
    status = node.group.status
    return {
        "id": node_id_text(node.node_id),
        "name": node.config.name,
        "role": status.role.name.lower(),
        "term": status.term,
        "leader": node_id_text(NodeId(status.leader)) if status.leader else None,
        "leader_name": _name_of(node, NodeId(status.leader)) if status.leader else None,
        "commit": status.commit,
        "applied": status.applied,
        "voters": [_name_of(node, NodeId(voter)) for voter in status.voters],
        "learners": [_name_of(node, NodeId(learner)) for learner in status.learners],
        "followers": [
            {"name": _name_of(node, NodeId(peer.node)), "state": peer.state.name.lower(), "match": peer.match}
            for peer in status.progress
        ],
    }


async def status(node: "Node", _arguments: Any) -> Any:
    """Counters and the state of this node."""
    rows = node.metadata.rows.values()
    return {
        "name": node.config.name,
        "id": node_id_text(node.node_id),
        "mesh": node.identity.mesh_id.hex(),
        "boot": node.identity.boot,
        "registered": node.metadata.nodes[node.node_id].boot == node.identity.boot
        if node.node_id in node.metadata.nodes
        else False,
        "partitions": node.directory.partitions_total,
        "active": sum(row.phase.name == "ACTIVE" for row in rows),
        "primaries": sum(row.primary == node.node_id for row in rows),
        "replicas": sum(node.node_id in row.replicas for row in rows),
        "turns_committed": node.agents.turns_committed,
        "prediction": {
            "device": node.predictor.backend.description,
            "batches": node.predictor.batches,
            "rows": node.predictor.rows,
        },
    }


async def rows(node: "Node", _arguments: Any) -> Any:
    """All committed rows: primary, replicas and phase of each partition."""
    return [
        {
            "partition": partition,
            "epoch": row.epoch,
            "phase": row.phase.name.lower(),
            "primary": _name_of(node, row.primary),
            "replicas": [_name_of(node, member) for member in row.replicas],
            "reason": row.reason,
        }
        for partition, row in sorted(node.metadata.rows.items())
    ]


async def agents_here(node: "Node", _arguments: Any) -> Any:
    """Agents whose primary is this node."""
    return [[agent_type, key, partition] for partition, agent_type, key in node.agents.agents()]


async def agents(node: "Node", _arguments: Any) -> Any:
    """All agents with a state, with the node that serves each; gathered from all live nodes."""
    found: list[dict[str, Any]] = []
    silent: list[str] = []

    async def ask(node_id: NodeId, name: str) -> None:
        if node_id == node.node_id:
            listed = await agents_here(node, None)
        else:
            try:
                listed = await ask_node(node, node_id, "agents_here")
            except MeshError:
                silent.append(name)
                return
        found.extend({"type": item[0], "key": item[1], "partition": item[2], "node": name} for item in listed)

    async with trio.open_nursery() as nursery:
        for member in node.membership.members.values():
            if member.is_live:
                nursery.start_soon(ask, member.node_id, member.name)
    found.sort(key=lambda agent: (agent["type"], agent["key"]))
    return {"agents": found, "silent": sorted(silent)}


async def locate(node: "Node", arguments: Any) -> Any:
    """Where an agent is, and why."""
    match arguments:
        case {"type": str(agent_type), "key": str(key)}:
            pass
        case _:
            raise InvalidArgument("locate takes the type and the key of an agent, as in TYPE/KEY")
    total = node.directory.partitions_total
    if not total:
        raise NotFound("the mesh has no partitions yet")
    partition = partition_of(agent_type, key, total)
    row = node.metadata.rows.get(partition)
    if row is None:
        raise NotFound(f"partition {partition} has no row yet: the mesh is forming")
    return {
        "type": agent_type,
        "key": key,
        "partition": partition,
        "node": _name_of(node, row.primary),
        "replicas": [_name_of(node, member) for member in row.replicas],
        "epoch": row.epoch,
        "phase": row.phase.name.lower(),
        "moved_because": row.reason,
        "why": _why(node, partition),
    }


async def devices(node: "Node", _arguments: Any) -> Any:
    """What this node computes predictions on."""
    predictor = node.predictor
    return {
        "name": node.config.name,
        "device": predictor.backend.description,
        "batches": predictor.batches,
        "rows": predictor.rows,
        "mean_batch_rows": round(predictor.rows / predictor.batches, 2) if predictor.batches else 0.0,
    }


async def leave(node: "Node", _arguments: Any) -> Any:
    """Have this node leave; answered when it has handed everything over."""
    with node.host.deadline(node.host.now() + LEAVE_TIMEOUT_S):
        await node.leave()
        return {"left": True}
    holding = sum(node.node_id in (*row.replicas, *row.base) for row in node.metadata.rows.values())
    raise error_from_code("unavailable", f"still holds {holding} partitions; it goes on handing them over")


VIEWS: dict[str, Callable[["Node", Any], Awaitable[Any]]] = {
    view.__name__: view for view in (members, raft_status, status, rows, agents, agents_here, locate, devices, leave)
}


async def ask_node(node: "Node", other: NodeId, view: str) -> Any:
    """Another node's view, without arguments. Raises MeshError when it does not answer in time."""
    answer: View | None = None
    with node.host.deadline(node.host.now() + GATHER_TIMEOUT_S):
        answer = await node.reception.views.ask(other, lambda number: Query(number, view, wire.dumps({})))
    if answer is None or answer.code:
        raise NotFound(f"no answer from {_name_of(node, other)}")
    return wire.loads(answer.payload)


def _name_of(node: "Node", node_id: NodeId) -> str:
    record = node.metadata.nodes.get(node_id)
    return node_id_text(node_id) if record is None else record.name


def _primaries_by_node(node: "Node") -> dict[NodeId, int]:
    counts: dict[NodeId, int] = {}
    for row in node.metadata.rows.values():
        counts[row.primary] = counts.get(row.primary, 0) + 1
    return counts


def _why(node: "Node", partition: PartitionId) -> str:
    specs = {node_id: MemberSpec(float(record.weight), record.zone) for node_id, record in node.metadata.nodes.items()}
    rows = node.metadata.rows
    table = Table(
        tuple(
            (row.primary, *(member for member in row.replicas if member != row.primary))
            if (row := rows.get(PartitionId(number))) is not None
            else ()
            for number in range(node.directory.partitions_total)
        )
    )
    return explain(partition, table, specs).text
