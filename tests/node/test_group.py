"""A node's part in the mesh's Raft group: what it takes from others, and who is let in."""

from pathlib import Path

import pytest
import trio

from consensus import codec
from consensus.image import image_path
from consensus.messages import Configuration, HardState, Message, MessageKind, Snapshot
from consensus.opening import open_log
from meshnode.errors import NameTaken, Unavailable
from meshnode.identity import Address, Boot, NodeId
from meshnode.links import Channel
from meshnode.metadata import following
from meshnode.metadata.commands import Leaving, Register
from meshnode.metadata.group import RaftBytes
from meshnode.metadata.relayed import Propose, Proposed
from tests.consensus.disks import OsDisk
from tests.node.mesh import Mesh, mesh_of, until

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


async def test_a_node_outside_the_group_goes_on_though_its_log_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a member once; nobody of the group sends it anything, and it needs nothing of what it had."""
    monkeypatch.setattr(following, "PAUSE_MAX_S", 0.5)
    async with trio.open_nursery() as nursery:
        mesh = Mesh(nursery, tmp_path)
        for name in ("a", "b", "c", "d"):
            await mesh.start(name, voters=1)
        (outside,) = [
            name
            for name, running in mesh.running.items()
            if running.node.node_id not in mesh.node("a").group.status.configuration.members
        ]
        node = mesh.node(outside)
        await mesh.stop(outside)
        disk = OsDisk(Path(node.config.data))
        log = open_log(disk, node.identity.raft_directory, owner=node.identity.owner)
        snapshot = log.images.write(Snapshot(10, 2, Configuration((node.node_id,))), [b""])
        log.append(HardState(2, 0, 10), (), snapshot)
        log.close()
        disk.remove(image_path(node.identity.raft_directory, snapshot))
        await mesh.start(outside)
        await trio.sleep(4.0)  # more than ten election timeouts
        assert not mesh.running[outside].stopped.is_set()
        assert mesh.node(outside).group.member_status.lost
        nursery.cancel_scope.cancel()
