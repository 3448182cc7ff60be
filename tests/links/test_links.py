"""Links between nodes in one process, over real loopback sockets."""

import contextlib
import random
from dataclasses import replace

import pytest
import trio
import trio.testing

from meshnode import wire
from meshnode.errors import MeshError, OldCopy, WrongMesh
from meshnode.identity import Boot, MeshId, NodeId
from meshnode.links import Channel, Hello, LinkLost, LinkRefused, LinksConfig, Requests, Role
from meshnode.links.frames import SendQueue
from meshnode.links.socket import SocketClosed
from tests.links.network import GUARD_S, MESH, Note, introduced, network, stranger
from tests.links.websocket import TEXT, frame


async def test_a_message_dials_and_arrives_and_the_answer_uses_the_same_link() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        assert one.links.send(two.hello.node_id, Channel.CALLS, Note(1))
        await two.until(lambda: two.received)
        assert two.received == [(1, Note(1))]
        assert two.links.send(one.hello.node_id, Channel.CALLS, Note(2))
        await one.until(lambda: one.received)
        assert [hello.node_id for hello in two.links.linked()] == [1]


async def test_everything_queued_arrives_in_order_over_both_directions() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)
        for number in range(2000):
            assert one.links.send(NodeId(2), Channel.CALLS, Note(number, bytes(number % 300)))
            assert two.links.send(NodeId(1), Channel.CALLS, Note(number))
        await two.until(lambda: len(two.received) == 2000)
        await one.until(lambda: len(one.received) == 2000)
        assert [note.number for _, note in two.received] == list(range(2000))
        assert [note.number for _, note in one.received] == list(range(2000))
        assert len(one.links.linked()) == 1


async def test_a_message_that_goes_to_several_peers_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []
    encode = wire.encode

    def encode_heard(message: object) -> bytes:
        encoded.append(message)
        return encode(message)

    async with network() as net:
        one, *others = [await net.start(number) for number in range(1, 5)]
        for other in others:
            await one.links.connect(other.address)
        monkeypatch.setattr(wire, "encode", encode_heard)
        first, second = Note(1), Note(2)
        for message in (first, second):
            for other in others:
                assert one.links.send(other.hello.node_id, Channel.CALLS, message)
        for other in others:
            await other.until(lambda other=other: len(other.received) == 2)
            assert other.received == [(1, first), (1, second)]
    assert [id(message) for message in encoded] == [id(first), id(second)]


async def test_dialling_each_other_at_once_ends_in_one_link_and_loses_nothing() -> None:
    async with network() as net:
        for number in range(10, 30, 2):
            one, two = await net.start(number), await net.start(number + 1)
            for batch in range(20):
                for note in range(batch * 20, batch * 20 + 20):
                    assert one.links.send(two.hello.node_id, Channel.CALLS, Note(note))
                    assert two.links.send(one.hello.node_id, Channel.CALLS, Note(note))
                await trio.lowlevel.checkpoint()
            await two.until(lambda two=two: len(two.received) == 400)
            await one.until(lambda one=one: len(one.received) == 400)
            assert sorted(note.number for _, note in one.received) == list(range(400))
            assert sorted(note.number for _, note in two.received) == list(range(400))
            assert len(one.links.linked()) == len(two.links.linked()) == 1
            assert not one.ended
            assert not two.ended


async def test_dialling_twice_at_once_leaves_one_link_that_both_ends_agree_on() -> None:
    async with network() as net:
        for number in range(40, 60, 2):
            one, two = await net.start(number), await net.start(number + 1)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(two.links.connect, one.address)
            assert two.links.send(one.hello.node_id, Channel.CALLS, Note(1))
            await one.until(lambda one=one: one.received)
            assert one.links.send(two.hello.node_id, Channel.CALLS, Note(2))
            await two.until(lambda two=two: two.received)
            assert not one.ended
            assert not two.ended


async def test_the_end_of_a_link_is_reported_once_and_a_later_message_dials_again() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        one.links.send(NodeId(2), Channel.CALLS, Note(1))
        await two.until(lambda: two.received)
        two.scope.cancel()
        await one.until(lambda: one.ended)
        assert one.ended == [2]
        again = await net.start(2)
        with trio.fail_after(GUARD_S):
            while not again.received:
                one.links.send(NodeId(2), Channel.CALLS, Note(2))
                await trio.sleep(0.01)
        assert again.received[0] == (1, Note(2))


async def test_an_unreachable_peer_is_reported_and_sends_are_refused_while_backing_off() -> None:
    async with network() as net:
        one = await net.start(1, config=LinksConfig(backoff_min_s=60.0, backoff_max_s=60.0))
        gone = await net.start(2)
        gone.scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert one.links.send(NodeId(2), Channel.CALLS, Note(1)), "it is queued while the dial goes on"
        await one.until(lambda: one.ended)
        assert not one.links.send(NodeId(2), Channel.CALLS, Note(2))
        assert not one.links.send(NodeId(77), Channel.CALLS, Note(3)), "nobody knows this one's address"
        assert one.links.counters.messages_dropped == 3


async def test_another_mesh_is_refused_with_both_ids() -> None:
    async with network() as net:
        one, other = await net.start(1), await net.start(2, mesh_id=MeshId(b"o" * 16))
        with pytest.raises(LinkRefused, match=f"is of mesh {b'o'.hex() * 16}") as caught:
            await one.links.connect(other.address)
        assert isinstance(caught.value.refusal, WrongMesh)


async def test_a_copied_node_id_is_refused() -> None:
    async with network() as net:
        one = await net.start(1)
        twin = await net.start(1)
        with pytest.raises(LinkRefused, match="data directory copied"):
            await twin.links.connect(one.address)


async def test_a_guest_reaches_the_guest_channels_only() -> None:
    async with network() as net:
        node, guest = await net.start(1), await net.start(2, mesh_id=MeshId(b""), role=Role.GUEST)
        hello = await guest.links.connect(node.address)
        assert hello == node.hello, "the acceptor's own"
        guest.links.send(NodeId(1), Channel.RAFT, Note(1))
        guest.links.send(NodeId(1), Channel.PARTITIONS, Note(2))
        guest.links.send(NodeId(1), Channel.CONTROL, Note(3))
        await node.until(lambda: node.received)
        assert node.received == [(2, Note(3))]
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert node.links.counters.forbidden == 2


async def test_a_node_restarted_replaces_its_old_link() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        await two.links.connect(one.address)
        two.links.introduce_as(Hello(MESH, NodeId(2), Boot(2), Role.NODE, "node-2"), net.addresses.get)
        await two.links.connect(one.address)
        assert [hello.boot for hello in one.links.linked()] == [2]


async def test_a_start_that_is_over_is_refused_whoever_dials() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        net.boots[NodeId(2)] = Boot(2)
        for dialler, other in ((one, two), (two, one)):
            with pytest.raises(LinkRefused, match=r"start 1 of node 0{15}2 is over, since another start 2 is"):
                await dialler.links.connect(other.address)
        guest = await net.start(2, role=Role.GUEST)
        assert await guest.links.connect(one.address) == one.hello, "an outside program has no starts"


async def test_of_two_copies_of_a_node_the_one_that_is_registered_is_linked_and_the_other_is_told() -> None:
    async with network() as net:
        one, copy = await net.start(1), await net.start(2)
        told: list[MeshError] = []
        for end in (one, copy):
            end.links.on_refusal(told.append)
        net.nonces[NodeId(2)] = 77
        net.boots[NodeId(2)] = Boot(1)
        with pytest.raises(LinkRefused, match="another start 1 is registered") as refused:
            await copy.links.connect(one.address)
        assert isinstance(refused.value.refusal, OldCopy)
        one.links.send(NodeId(2), Channel.CONTROL, Note(1))
        await one.until(lambda: one.ended)
        assert told == [], "who refuses the other is not out of date itself"
        await copy.until(lambda: copy.ended)
        copy.links.send(NodeId(1), Channel.CONTROL, Note(1))
        await copy.until(lambda: told)
        assert [type(error) for error in told] == [OldCopy]
        registered = replace(copy.hello, nonce=77)
        copy.links.introduce_as(registered, net.addresses.get)
        assert await copy.links.connect(one.address) == one.hello


async def test_a_copy_of_a_node_is_told_also_when_it_has_been_started_more_often() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        net.nonces[NodeId(2)] = 77
        net.boots[NodeId(2)] = Boot(3)
        two.links.introduce_as(replace(two.hello, boot=Boot(4), before=(5, 6, 78)), net.addresses.get)
        with pytest.raises(LinkRefused, match=r"start 4 of .* is over, since another start 3 is registered"):
            await two.links.connect(one.address)
        two.links.introduce_as(replace(two.hello, boot=Boot(4), before=(5, 6, 77)), net.addresses.get)
        assert await two.links.connect(one.address) == one.hello


@pytest.mark.parametrize("seed", range(25))
async def test_garbage_on_the_port_is_survived(seed: int) -> None:
    rng = random.Random(seed)
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        for _ in range(8):
            stream = await trio.open_tcp_stream(one.address.host, one.address.port)
            start = rng.choice([b"", b"GET /meshnode/1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", b"\x16\x03\x01"])
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(start + rng.randbytes(rng.randrange(200)))
            await stream.aclose()
        two.links.send(NodeId(1), Channel.CALLS, Note(1))
        await one.until(lambda: one.received)


@pytest.mark.parametrize("seed", range(25))
async def test_garbage_after_the_handshake_is_counted_and_dropped(seed: int) -> None:
    rng = random.Random(seed)
    async with network() as net:
        one = await net.start(1)
        queue = SendQueue(10**6)
        for _ in range(5):
            queue.put(Channel.CALLS, rng.randbytes(20))
        queue.put(Channel.CALLS, wire.encode(Note(5)))
        async with introduced(one, Hello(MESH, NodeId(9), Boot(1), Role.NODE, "hostile")) as (socket, stream):
            await socket.send(queue.take_frame(10**6))
            await one.until(lambda: one.received)
            assert one.links.counters.malformed + one.links.counters.unknown_kind == 5
            await (socket.send(rng.randbytes(3)) if seed % 2 else stream.send_all(frame(b"text", opcode=TEXT)))
            await one.until(lambda: one.ended)
        async with stranger(one) as socket:
            await socket.send(rng.randbytes(50))
            with pytest.raises(SocketClosed):
                await socket.receive()
        assert one.received == [(9, Note(5))]


async def test_a_bug_in_what_takes_a_message_comes_out_as_what_it_is() -> None:
    def stumble() -> None:
        raise LookupError("a bug")

    async def scenario() -> None:
        async with network() as net:
            one, two = await net.start(1), await net.start(2)
            two.took = stumble
            one.links.send(NodeId(2), Channel.CALLS, Note(1))
            await trio.sleep_forever()

    with trio.fail_after(GUARD_S), pytest.raises(BaseExceptionGroup) as caught:
        await scenario()
    assert caught.group_contains(LookupError, match="a bug")


async def test_a_silent_connection_is_dropped_after_the_handshake_timeout() -> None:
    async with network() as net:
        one = await net.start(1, config=LinksConfig(handshake_timeout_s=0.05))
        stream = await trio.open_tcp_stream(one.address.host, one.address.port)
        with trio.fail_after(GUARD_S):
            async with stream:
                assert await stream.receive_some() == b""


async def test_past_the_limit_a_connection_is_closed_at_once() -> None:
    async with network() as net:
        one = await net.start(1, config=LinksConfig(connections_max=1))
        two, three = await net.start(2), await net.start(3)
        await two.links.connect(one.address)
        with pytest.raises((LinkRefused, OSError)):
            await three.links.connect(one.address)
        assert one.links.counters.connections_refused == 1


async def test_a_message_over_the_frame_limit_is_refused_by_the_sender() -> None:
    async with network() as net:
        one, two = await net.start(1, config=LinksConfig(frame_bytes_max=2**16)), await net.start(2)
        assert not one.links.send(NodeId(2), Channel.CALLS, Note(1, bytes(2**16)))
        assert one.links.send(NodeId(2), Channel.CALLS, Note(2, bytes(2**16 - 100)))
        await two.until(lambda: two.received)


async def test_a_sender_waits_until_a_slow_peer_has_taken_half_of_its_queue() -> None:
    config = LinksConfig(frame_bytes_max=2**20, queue_bytes_max=2**21)
    async with network() as net:
        one, two = await net.start(1, config=config), await net.start(2)
        with trio.fail_after(GUARD_S):
            for number in range(100):
                await one.links.wait_for_room(NodeId(2), Channel.CALLS)
                assert one.links.send(NodeId(2), Channel.CALLS, Note(number, bytes(2**19)))
        await two.until(lambda: len(two.received) == 100)
        assert one.links.counters.messages_dropped == 0


async def test_a_question_gets_its_own_answer_or_learns_that_the_link_is_lost() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        asked = Requests[Note](one.links, Channel.CALLS)
        answers: dict[int, Note] = {}

        async def ask(text: bytes) -> None:
            answer = await asked.ask(NodeId(2), lambda number: Note(number, text))
            answers[int(text)] = answer

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(ask, b"%d" % number)
                await two.until(lambda: len(two.received) == 3)
                for _, note in reversed(two.received):
                    two.links.send(NodeId(1), Channel.CALLS, Note(note.number, note.data * 2))
                await one.until(lambda: len(one.received) == 3)
                for _, note in one.received:
                    asked.answered(NodeId(7), note.number, Note(0))
                    asked.answered(NodeId(2), note.number, note)
                    asked.answered(NodeId(2), note.number, Note(0))
            assert {number: answer.data for number, answer in answers.items()} == {0: b"00", 1: b"11", 2: b"22"}

            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def lose() -> None:
                    with pytest.raises(LinkLost, match="ended before it answered"):
                        await asked.ask(NodeId(2), Note)

                await two.until(lambda: len(two.received) == 4)
                two.scope.cancel()
            with pytest.raises(LinkLost, match="can't be reached"):
                await asked.ask(NodeId(77), Note)


async def test_a_question_whose_dial_failed_was_not_sent_and_one_whose_link_broke_may_have_been() -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        asked = Requests[Note](one.links, Channel.CALLS)
        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def lose() -> None:
                    with pytest.raises(LinkLost, match="ended before it answered") as caught:
                        await asked.ask(NodeId(2), Note)
                    assert caught.value.was_sent

                await two.until(lambda: two.received)
                two.scope.cancel()
            for _ in range(3):
                with pytest.raises(LinkLost, match=f"node 0{{15}}2 at {two.address} can't be reached") as caught:
                    await asked.ask(NodeId(2), Note)
                assert not caught.value.was_sent


def test_a_queue_that_is_half_full_must_take_any_message() -> None:
    with pytest.raises(ValueError, match="choose 2 × or more of frame_bytes_max"):
        LinksConfig(frame_bytes_max=2**20, queue_bytes_max=2**21 - 1)
