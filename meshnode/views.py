"""What people ask of a node through the command line: plain data, by name."""

import heapq
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from meshnode import wire
from meshnode.agents.definition import check_key
from meshnode.control import Query, View
from meshnode.coordination.views import coordination_agree, coordination_ask
from meshnode.errors import InvalidArgument, MeshError, NotFound, Unavailable, error_from_code
from meshnode.identity import NodeId, PartitionId, node_id_text
from meshnode.membership.messages import State
from meshnode.placement import MemberSpec, Table, explain, partition_of

if TYPE_CHECKING:
    from meshnode.node import Node

GATHER_TIMEOUT_S = 5.0
"""How long the other nodes may take when a view is put together from all of them."""

LEAVE_TIMEOUT_S = 120.0

PAGE_MAX = 1000
"""Agents in one answer. One takes up to 3 KiB (its key has up to 512 characters, its type 128, the name of its node 255
bytes), and a frame that every node accepts has room for a thousand such."""


async def members(node: "Node", _arguments: Any) -> Any:
    """Everyone whom this node knows and who has not left: the dead too, until they are forgotten after a day."""
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
            "primary": name_of(node, row.primary),
            "replicas": [name_of(node, member) for member in row.replicas],
            "reason": row.reason,
        }
        for partition, row in sorted(node.metadata.rows.items())
    ]


async def agents_here(node: "Node", arguments: Any) -> Any:
    """The agents whose primary is this node: how many there are, and a page of them; see `agents`."""
    after, limit = _page(arguments)
    total = 0

    def all_after() -> Iterable[tuple[str, str, PartitionId]]:
        nonlocal total
        for partition, agent_type, key in node.agents.agents():
            total += 1
            if (agent_type, key) > after:
                yield agent_type, key, partition

    page = heapq.nsmallest(limit, all_after())
    return {"total": total, "agents": [list(agent) for agent in page]}


async def agents(node: "Node", arguments: Any) -> Any:
    """A page of all agents with a state, in the order of type and key, with the node that serves each.

    Gathered from all live nodes; one that can't tell is in ``silent``, with the reason. ``total`` is how many agents
    the others have. Arguments: ``limit``, up to `PAGE_MAX`, and ``after``, the type and key that the page comes after.
    """
    after, limit = _page(arguments)
    found: list[dict[str, Any]] = []
    silent: list[dict[str, str]] = []
    total = 0

    async def ask(node_id: NodeId, name: str) -> None:
        nonlocal total
        try:
            if node_id == node.node_id:
                answer = await agents_here(node, arguments)
            else:
                answer = await ask_node(node, node_id, "agents_here", after=list(after), limit=limit)
            listed = _agents_of(answer)
        except MeshError as error:
            silent.append({"node": name, "reason": str(error)})
            return
        total += answer["total"]
        found.extend({"type": item[0], "key": item[1], "partition": item[2], "node": name} for item in listed)

    async with trio.open_nursery() as nursery:
        for member in node.membership.members.values():
            if member.is_live:
                nursery.start_soon(ask, member.node_id, member.name)
    page = heapq.nsmallest(limit, found, key=lambda agent: (agent["type"], agent["key"]))
    return {"total": total, "agents": page, "silent": sorted(silent, key=lambda one: one["node"])}


async def locate(node: "Node", arguments: Any) -> Any:
    """Where an agent is, or would be, and why; ``offered`` tells whether this node's application has its type."""
    match arguments:
        case {"type": str(agent_type), "key": str(key)}:
            pass
        case _:
            raise InvalidArgument("locate takes the type and the key of an agent, as in TYPE/KEY")
    check_key(key)
    total = node.directory.partitions_total
    if not total:
        raise NotFound("the mesh has no partitions yet")
    partition = partition_of(agent_type, key, total)
    row = node.metadata.rows.get(partition)
    if row is None:
        raise NotFound(f"partition {partition} has no row yet: the mesh is forming")
    types = sorted(definition.name for definition in node.application)
    return {
        "type": agent_type,
        "key": key,
        "offered": agent_type in types,
        "types": types,
        "partition": partition,
        "node": name_of(node, row.primary),
        "replicas": [name_of(node, member) for member in row.replicas],
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
        try:
            await node.leave()
        except Unavailable as error:
            raise error_from_code(error.code, with_names(node, str(error))) from error
        return {"left": True}
    holding = sum(node.node_id in (*row.replicas, *row.base) for row in node.metadata.rows.values())
    raise error_from_code("unavailable", f"still holds {holding} partitions; it goes on handing them over")


VIEWS: dict[str, Callable[["Node", Any], Awaitable[Any]]] = {
    view.__name__: view
    for view in (
        members,
        status,
        rows,
        agents,
        agents_here,
        locate,
        devices,
        leave,
        coordination_agree,
        coordination_ask,
    )
}


async def ask_node(
    node: "Node", other: NodeId, view: str, *, timeout_s: float = GATHER_TIMEOUT_S, **arguments: Any
) -> Any:
    """Another node's view.

    Raises:
        Unavailable: it does not answer in time.
        MeshError: it refused, or its answer can't be read.
    """
    answer: View | None = None
    given = wire.dumps(arguments)
    with node.host.deadline(node.host.now() + timeout_s):
        answer = await node.reception.views.ask(other, lambda number: Query(number, view, given))
    if answer is None:
        raise Unavailable(f"no answer from {name_of(node, other)} within {timeout_s:g} s")
    if answer.code:
        raise error_from_code(answer.code, answer.payload.decode(errors="replace"))
    try:
        return wire.loads(answer.payload)
    except wire.WireError as error:
        raise MeshError(f"the answer of {name_of(node, other)} can't be read: {error}") from error


def _page(arguments: Any) -> tuple[tuple[str, str], int]:
    """Which agent the page comes after, and how many agents it has at most."""
    match arguments:
        case {"after": [str(agent_type), str(key)]}:
            after = (agent_type, key)
        case {"after": _}:
            raise InvalidArgument("after takes the type and the key of an agent")
        case _:
            after = ("", "")
    match arguments:
        case {"limit": int(limit)} if 1 <= limit <= PAGE_MAX:
            return after, limit
        case {"limit": limit}:
            raise InvalidArgument(f"limit {limit!r:.40}: choose 1 to {PAGE_MAX}; for more, ask for what comes after")
        case _:
            return after, PAGE_MAX


def _agents_of(answer: Any) -> list[tuple[str, str, int]]:
    """What `agents_here` of another node listed. Raises MeshError."""
    match answer:
        case {"total": int(), "agents": list(listed)}:
            pass
        case _:
            raise MeshError("it runs another version: its answer is no page of agents")
    agents: list[tuple[str, str, int]] = []
    for item in listed:
        match item:
            case [str(agent_type), str(key), int(partition)]:
                agents.append((agent_type, key, partition))
            case _:
                raise MeshError("it runs another version: its answer is no page of agents")
    return agents


def name_of(node: "Node", node_id: NodeId) -> str:
    """A node for people: its name, or its id where it is not registered."""
    record = node.metadata.nodes.get(node_id)
    return node_id_text(node_id) if record is None else record.name


def with_names(node: "Node", text: str) -> str:
    """The text with names in the place of ids, written in hexadecimal or decimal, of nodes that are registered."""
    names: dict[str, str] = {}
    for node_id, record in node.metadata.nodes.items():
        names |= {node_id_text(node_id): record.name, str(node_id): record.name}
    return re.sub(r"\b[0-9a-f]{16,19}\b", lambda found: names.get(found[0], found[0]), text)


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
    assert node.metadata.founding is not None
    replication = node.metadata.founding.replication
    return with_names(node, explain(partition, table, specs, replication=replication).text)
