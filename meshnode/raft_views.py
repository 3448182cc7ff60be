"""What operators see of the Raft group, and ask of it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from consensus.codec import encode_snapshot
from consensus.quorum import majority
from meshnode.errors import InvalidArgument, Unavailable
from meshnode.identity import NodeId, node_id_text
from meshnode.metadata.commands import Leaving
from meshnode.metadata.nodes import resolve
from meshnode.metadata.rows import Phase
from meshnode.metadata.voters import Peer, wanted_voters
from meshnode.views import GATHER_TIMEOUT_S, ask_node, name_of

if TYPE_CHECKING:
    from meshnode.node import Node

TRANSFER_TIMEOUT_S = 8.0
"""Several elections. Less than what the command waits."""

REMOVE_TIMEOUT_S = 120.0
"""For the replicas of the removed node to be made elsewhere."""

LOOK_S = 0.25


async def raft_status(node: "Node", _arguments: Any) -> Any:
    """This node's view of the Raft group."""
    status = node.group.status
    leader = NodeId(status.leader)
    voters, learners = (_by_name(node, members) for members in (status.voters, status.learners))
    return {
        "id": node_id_text(node.node_id),
        "name": node.config.name,
        "role": status.role.name.lower(),
        "term": status.term,
        "generation": node.metadata.generation,
        "leader": node_id_text(leader) if leader else None,
        "leader_name": name_of(node, leader) if leader else None,
        "leaderless_s": None if leader else round(node.host.now() - node.group.relay.led_at_s, 1),
        "commit": status.commit,
        "applied": status.applied,
        "voters": [name_of(node, voter) for voter in voters],
        "voter_ids": [node_id_text(voter) for voter in voters],
        "voters_wanted": _wanted(node),
        "voters_needed": majority(len(voters)) if voters else 0,
        "missing": _missing(node),
        "learners": [name_of(node, learner) for learner in learners],
        "learner_ids": [node_id_text(learner) for learner in learners],
        "followers": [
            {"name": name_of(node, NodeId(peer.node)), "state": peer.state.name.lower(), "match": peer.match}
            for peer in status.progress
            if peer.node != node.node_id  # a leader keeps count of its own log too
        ],
    }


def _by_name(node: "Node", members: Iterable[int]) -> list[NodeId]:
    return sorted(map(NodeId, members), key=lambda member: (name_of(node, member), member))


def _wanted(node: "Node") -> int:
    founding = node.metadata.founding
    if founding is None:
        return 0
    peers = {record.node_id: Peer(is_leaving=record.is_leaving) for record in node.metadata.nodes.values()}
    return wanted_voters(peers, target=founding.voters)


def _missing(node: "Node") -> list[dict[str, Any]]:
    """The voters that don't seem to be there, as this node sees it."""
    return [
        {"name": name_of(node, voter), "id": node_id_text(voter), "gone_s": _gone_s(node, voter)}
        for voter in _by_name(node, node.group.status.voters)
        if not _is_there(node, voter)
    ]


def _is_there(node: "Node", other: NodeId) -> bool:
    member = node.membership.members.get(other)
    return other == node.node_id or (member is not None and member.is_live)


def _gone_s(node: "Node", other: NodeId) -> float | None:
    """For how long a node has been gone; None where this one has not seen it since it was started."""
    since_s = node.gone_since_s.get(other)
    return None if since_s is None else round(node.host.now() - since_s, 1)


async def doctor(node: "Node", _arguments: Any) -> Any:
    """What is wrong with the mesh, as this node sees it, and what to do: nothing where all is well."""
    status = await raft_status(node, None)
    findings: list[dict[str, str]] = []

    def find(severity: str, problem: str, remedy: str) -> None:
        findings.append({"severity": severity, "problem": problem, "remedy": remedy})

    missing = ", ".join(_absence(one) for one in status["missing"])
    reachable = len(status["voters"]) - len(status["missing"])
    quorum = f"{status['voters_needed']} of the voters {', '.join(status['voters']) or '(unknown)'} are needed"
    if status["leader"] is None:
        problem = f"the Raft group has had no leader for {status['leaderless_s']:g} s: {quorum}, {reachable} are there"
        remedy = "start them; if too many are lost for good: docs/raft.md, meshnode raft recover"
        find("error", problem + (f"; missing: {missing}" if missing else ""), remedy)
    elif missing:
        spare = reachable - status["voters_needed"]
        problem = f"voters are missing: {missing}; {quorum}, {reachable} are there, so {spare} more may fail"
        find("warning", problem, "start them, or meshnode raft remove NODE if they are lost for good")
    elif len(status["voters"]) < status["voters_wanted"]:
        problem = f"there are {len(status['voters'])} voters, and {status['voters_wanted']} are wanted"
        records = node.metadata.nodes
        there = sum(_is_there(node, node_id) for node_id in records)
        remedy = "wait while nodes catch up; else look at what their logs say"
        if there < min(status["voters_wanted"], len(records)):
            remedy = f"of {len(records)} registered nodes {there} are there: start the others, or remove who is lost"
        find("warning", problem, remedy)
    for record in node.metadata.nodes.values():
        if not _is_there(node, record.node_id) and node_id_text(record.node_id) not in status["voter_ids"]:
            gone_s = _gone_s(node, record.node_id)
            problem = f"node {_absence({'name': record.name, 'gone_s': gone_s})} is registered and not there"
            find("warning", problem, f"start it, or meshnode raft remove {record.name} if it is lost for good")
    rows = node.metadata.rows
    unserved = [
        number
        for number, row in sorted(rows.items())
        if row.phase is not Phase.ACTIVE or not _is_there(node, row.primary)
    ]
    if unserved:
        shown = ", ".join(map(str, unserved[:8])) + (", …" if len(unserved) > 8 else "")
        hint = "start the nodes that hold them; if their disks are lost, see `recover` in docs/raft.md"
        find("error", f"{len(unserved)} partitions are not served: {shown}", hint)
    return {"name": status["name"], "findings": findings}


def _absence(missing: dict[str, Any]) -> str:
    gone_s = missing["gone_s"]
    return str(missing["name"]) + (" (not seen)" if gone_s is None else f" (gone for {gone_s:g} s)")


async def raft_transfer(node: "Node", arguments: Any) -> Any:
    """Have another voter lead: the one that is named in ``to``, or the one that is furthest; from any node."""
    match arguments:
        case {"to": str(to)}:
            heir: NodeId | None = _resolve(node, to)
        case _:
            heir = None
    leader = node.group.leader
    if leader is None:
        raise Unavailable("the Raft group has no leader: nobody can hand over")
    if leader != node.node_id:
        named = node_id_text(heir) if heir else None
        timeout_s = TRANSFER_TIMEOUT_S + GATHER_TIMEOUT_S
        return await ask_node(node, leader, "raft_transfer", timeout_s=timeout_s, to=named)
    status = node.group.status
    matched = {NodeId(peer.node): peer.match for peer in status.progress}
    others = [NodeId(voter) for voter in status.voters if voter != node.node_id]
    if heir == node.node_id:
        return {"leader": node.config.name}
    if heir is not None and heir not in others:
        names = ", ".join(name_of(node, voter) for voter in others)
        raise InvalidArgument(f"{name_of(node, heir)} is no voter: choose from {names or 'nobody: there is one voter'}")
    if not others:
        raise InvalidArgument(f"{node.config.name} is the only voter: nobody else can lead")
    heir = heir or max(others, key=lambda voter: matched.get(voter, 0))
    with node.host.deadline(node.host.now() + TRANSFER_TIMEOUT_S):
        await node.group.hand_over(heir)
        while node.group.leader != heir:
            await node.host.sleep_until(node.host.now() + LOOK_S)
        return {"leader": name_of(node, heir)}
    raise Unavailable(f"{name_of(node, heir)} did not take over: is it there, and has it caught up?")


async def raft_remove(node: "Node", arguments: Any) -> Any:
    """Have a node that is lost for good forgotten: its replicas are made elsewhere, and it is counted no more."""
    match arguments:
        case {"node": str(text)}:
            lost = _resolve(node, text)
        case _:
            raise InvalidArgument("raft_remove takes the name or the id of a node")
    name = name_of(node, lost)
    if _is_there(node, lost):
        address = node.metadata.nodes[lost].address
        raise InvalidArgument(f"{name} is alive: have it hand over and leave, by meshnode leave --node {address}")
    await node.group.propose(Leaving(lost))
    with node.host.deadline(node.host.now() + REMOVE_TIMEOUT_S):
        while lost in node.metadata.nodes or lost in node.group.status.configuration.members:
            await node.host.sleep_until(node.host.now() + LOOK_S)
        return {"removed": name, "id": node_id_text(lost)}
    holding = sum(lost in (*row.replicas, *row.base) for row in node.metadata.rows.values())
    raise Unavailable(
        f"{name} is leaving, but {holding} partitions still name it: they are moved when a majority of their replicas "
        "is there, and nodes to move them to; it goes on"
    )


async def raft_snapshot(node: "Node", arguments: Any) -> Any:
    """Begin to hand out all that is agreed on, from any node; then, part by part, what that is."""
    exports = node.reception.exports
    match arguments:
        case {"stream": int(stream), "offset": int(offset)}:
            part = await exports.part(stream, offset)
            return {"data": part.data, "checksum": part.checksum, "is_last": part.is_last}
        case _:
            await node.group.read()
            snapshot, image = node.group.freeze()
            return {"stream": exports.begin(image), "snapshot": encode_snapshot(snapshot)}


def _resolve(node: "Node", text: str) -> NodeId:
    """A registered node, by its name or id."""
    return resolve({node_id: record.name for node_id, record in node.metadata.nodes.items()}, text)


RAFT_VIEWS: dict[str, Callable[["Node", Any], Awaitable[Any]]] = {
    view.__name__: view for view in (raft_status, doctor, raft_transfer, raft_remove, raft_snapshot)
}
