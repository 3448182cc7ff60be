"""A node's part in the mesh's Raft group: what it takes from others, and who is let in."""

from pathlib import Path

import pytest
import trio

from consensus import codec
from consensus.messages import Message, MessageKind
from meshnode.errors import NameTaken
from meshnode.identity import Address, Boot, NodeId
from meshnode.metadata.commands import Register
from meshnode.metadata.group import RaftBytes
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
