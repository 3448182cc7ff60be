"""A node's part in the mesh's Raft group: what it takes from others, and who is let in."""

from pathlib import Path

import pytest
import trio

from consensus import codec
from consensus.messages import Message, MessageKind
from meshnode.errors import NameTaken, Unavailable
from meshnode.identity import Address, Boot, NodeId
from meshnode.links import Channel
from meshnode.metadata.commands import Leaving, Register
from meshnode.metadata.group import RaftBytes
from meshnode.metadata.relayed import Propose, Proposed
from tests.node.mesh import mesh_of, until

STRANGER = NodeId(77)


async def test_what_is_no_message_of_raft_or_is_in_the_name_of_another_is_dropped(tmp_path: Path) -> None:
    async with mesh_of(tmp_path, "a") as mesh:
        group = mesh.node("a").group
        before = group.status.term
        heartbeat = Message(MessageKind.HEARTBEAT, to=group.status.id, sender=STRANGER, term=before + 5)
        group.receive(STRANGER, heartbeat)
        group.receive(STRANGER, RaftBytes(b"\1junk"))
        group.receive(NodeId(78), RaftBytes(codec.encode(heartbeat)))
        await trio.sleep(0.1)
        assert group.status.term == before
        group.receive(STRANGER, RaftBytes(codec.encode(heartbeat)))
        await until(lambda: group.status.term > before)


async def test_a_name_that_was_given_away_until_now_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier leader may have let in a node of that name, and this one may have yet to apply it."""
    async with mesh_of(tmp_path, "a") as mesh:
        node = mesh.node("a")
        read = node.group.read

        async def hear_late() -> None:
            await node.group.propose(Register(STRANGER, Boot(1), "x", Address("127.0.0.1", 7946)))
            await read()

        monkeypatch.setattr(node.group, "read", hear_late)
        with pytest.raises(NameTaken, match="'x'"):
            await node.leadership.admit(Register(NodeId(78), Boot(1), "x", Address("127.0.0.1", 7947)))


async def test_a_node_without_a_vote_sends_no_proposal_to_a_leader_that_it_hears_no_more(tmp_path: Path) -> None:
    """Nobody would answer: what surely is in no log would count as perhaps agreed on."""
    async with mesh_of(tmp_path, "a", "b") as mesh:
        (leader,) = (name for name in ("a", "b") if mesh.node(name).group.is_leader)
        (other,) = {"a", "b"} - {leader}
        group = mesh.node(other).group
        await mesh.stop(leader)
        await until(lambda: group.leader is None)
        with pytest.raises(Unavailable, match="hears from no leader"):
            await group.agree(Leaving(STRANGER), 1.0)


async def test_a_proposal_that_comes_after_the_end_of_a_node_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that have arrived are given out until the links have ended too."""
    answers: list[Proposed] = []

    def send(_peer: NodeId, _channel: Channel, message: object) -> bool:
        assert isinstance(message, Proposed)
        answers.append(message)
        return True

    async with mesh_of(tmp_path, "a") as mesh:
        node = mesh.node("a")
    monkeypatch.setattr(node.links, "send", send)
    node.group.receive(node.node_id, Propose(7, b""))
    (answer,) = answers
    assert (answer.number, answer.code) == (7, Unavailable.code)
    assert "has ended" in answer.reason
