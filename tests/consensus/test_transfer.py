"""Snapshots on running nodes: when they are taken, and how they get to followers that the log no longer reaches."""

import random
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from crc32c import crc32c

from consensus.config import LogConfig
from consensus.environment import Image
from consensus.errors import Damage
from consensus.image import image_path
from consensus.messages import (
    Configuration,
    ImagePart,
    ImageRequest,
    Message,
    MessageKind,
    Packet,
    Role,
    Snapshot,
)
from consensus.progress import ProgressState
from tests.consensus.disks import OsDisk
from tests.consensus.group import add_learner, remove
from tests.consensus.test_driver import World, hang_disk, proposed_by_2, world

SMALL = LogConfig(segment_bytes=4000, cache_bytes=4000, snapshot_log_bytes=5000, kept_log_bytes=0)
PART = 1000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("consensus.image", "consensus.snapshots"):
        monkeypatch.setattr(f"{module}.CHUNK_BYTES", PART)


pytestmark = pytest.mark.anyio


async def propose(here: World, count: int, *, node: int = 1) -> None:
    for number in range(count):
        await here.nodes[node].propose(b"%d" % number + bytes(300), timeout_s=5.0)


async def alone(here: World, count: int) -> None:
    """Node 1 leads alone, and has taken snapshots."""
    here.log_config = SMALL
    await here.start(1, founders=(1,))
    await here.until(1, lambda status: status.role is Role.LEADER)
    await propose(here, count)


async def with_newcomer(here: World, count: int) -> None:
    """Node 2 is a learner, and its log is to begin where that of node 1 has long been compacted."""
    await alone(here, count)
    await here.start(2)
    await here.nodes[1].change_configuration(add_learner(2), timeout_s=5.0)


async def until_caught_up(here: World, *, timeout_s: float = 60.0) -> None:
    with trio.fail_after(timeout_s):
        while here.machines[1].data != here.machines[2].data:
            await trio.sleep(0.05)


def names(here: World, node: int, suffix: str) -> list[str]:
    return [name for name in here.disks[node].list("raft") if name.endswith(suffix)]


async def test_a_log_that_has_grown_is_replaced_by_a_snapshot() -> None:
    async with world() as here:
        await alone(here, 100)
        status = here.nodes[1].status()
        assert status.snapshot > 50
        assert status.first > 20
        assert len(names(here, 1, ".snapshot")) == 2
        assert len(names(here, 1, ".log")) <= 12
        data = here.machines[1].data
        await here.stop(1, power=True)
        await here.start(1)
        await here.until(1, lambda status: status.role is Role.LEADER)
        await propose(here, 1)
        assert here.machines[1].data == [*data, b"0" + bytes(300)]


async def test_snapshots_take_no_more_room_than_the_log_and_come_less_often_as_they_grow() -> None:
    async with world() as here:
        await alone(here, 20)
        taken = set()
        for _ in range(300):
            await propose(here, 1)
            taken.add(here.nodes[1].status().snapshot)
        assert 3 <= len(taken) <= 8


async def test_a_newcomer_gets_the_snapshot_and_then_the_entries() -> None:
    async with world() as here:
        await with_newcomer(here, 60)
        await until_caught_up(here)
        status = here.nodes[2].status()
        assert status.snapshot > 20
        assert status.configuration == here.nodes[1].status().configuration
        await propose(here, 3)
        await until_caught_up(here)
        assert not names(here, 2, ".part")
        await here.stop(2, power=True)
        await here.start(2)
        await until_caught_up(here)


async def test_a_follower_that_falls_behind_gets_one_too() -> None:
    async with world() as here:
        await with_newcomer(here, 10)
        await until_caught_up(here)
        here.cut(2)
        await propose(here, 60)
        here.heal()
        await until_caught_up(here)


async def test_for_entries_found_damaged_a_follower_gets_a_snapshot_though_nothing_more_is_applied() -> None:
    async with world() as here:
        here.log_config = LogConfig(segment_bytes=4000, cache_bytes=2000)
        await here.start(1, founders=(1,))
        await here.until(1, lambda status: status.role is Role.LEADER)
        await here.start(2)
        await here.nodes[1].change_configuration(add_learner(2), timeout_s=5.0)
        await until_caught_up(here)
        here.cut(2)
        await propose(here, 40)
        await trio.sleep(5.0)
        first = next(
            name for name in names(here, 1, ".log") if b"10" + bytes(300) in here.disks[1].bytes_of(f"raft/{name}")
        )
        here.disks[1].turn_over(f"raft/{first}", b"10" + bytes(300))
        here.heal()
        await until_caught_up(here)
        assert here.nodes[1].status().snapshot > 40
        assert first in here.nodes[1].status().damage


async def test_none_is_taken_in_the_configuration_of_one_that_is_received_and_not_on_disk_yet() -> None:
    async with world() as here:
        here.log_config = replace(SMALL, cache_bytes=40_000)
        node = await here.start(1, founders=(1, 2), election_timeout_s=100.0)
        last = node._raft.last_index
        entries = proposed_by_2(last, 21, bytes(300))
        node.receive(Message(MessageKind.APPEND, 1, 2, 5, last, 1, entries[:20], last))
        await trio.sleep(0.05)
        hang_disk(node)
        node.receive(Message(MessageKind.APPEND, 1, 2, 5, last + 20, 5, entries[20:], last))
        await trio.sleep(0.05)
        received = Snapshot(500, 5, Configuration(voters=(1, 2, 3)), b"image")
        node._engine.snapshots._restored.append((received, lambda: None))
        node.receive(Message(MessageKind.HEARTBEAT, 1, 2, 5, commit=last + 20))
        assert node._engine._snapshot_arrived(Message(MessageKind.SNAPSHOT, 1, 2, 5, snapshot=received))
        before = node._log.snapshot()
        assert node._log.snapshot_due
        await trio.sleep(0.5)
        assert node._log.snapshot() in (before, received)


async def test_a_transfer_goes_on_where_a_broken_link_left_it() -> None:
    async with world() as here:
        asked: list[int] = []
        broken = False

        def on_image(packet: Packet) -> Packet | None:
            if isinstance(packet, ImageRequest):
                asked.append(packet.offset)
            return None if broken else packet

        here.on_image = on_image
        await with_newcomer(here, 150)
        with trio.fail_after(60):
            while max(asked, default=0) < 17 * PART:
                await trio.sleep(0.001)
        broken = True
        await trio.sleep(3.0)
        assert here.machines[2].data == []
        before = len(asked)
        broken = False
        await until_caught_up(here)
        assert min(asked[before:]) > 0, "what it had it did not ask for again"


@pytest.mark.parametrize("kind", ["lost", "damaged", "twice", "of another snapshot", "in disorder"])
async def test_whatever_happens_to_parts_under_way_the_state_is_right(kind: str) -> None:
    async with world() as here:
        rng = random.Random(1)
        kept: list[ImagePart] = []

        def on_image(packet: Packet) -> Packet | None:
            if not isinstance(packet, ImagePart) or rng.random() < 0.6:
                return packet
            match kind:
                case "lost":
                    return None
                case "damaged":
                    return replace(packet, data=packet.data[:-1] + b"?")
                case "twice":
                    here.nursery.start_soon(here.carry, packet)
                    return packet
                case "of another snapshot":
                    return replace(packet, image=packet.image[::-1], data=bytes(len(packet.data)))
                case _:
                    kept.append(packet)
                    return kept.pop(rng.randrange(len(kept))) if len(kept) > 2 else None

        here.on_image = on_image
        await with_newcomer(here, 60)
        await until_caught_up(here, timeout_s=300.0)


async def test_a_damaged_image_is_not_loaded_and_another_one_is_sent() -> None:
    """The checksums under way were right: it was damaged on the leader's disk, or by the receiver's."""
    async with world() as here:
        spoilt = 0

        def on_image(packet: Packet) -> Packet | None:
            nonlocal spoilt
            if isinstance(packet, ImagePart) and packet.offset == 2 * PART and spoilt < 1:
                spoilt += 1
                data = bytes([packet.data[0] ^ 1]) + packet.data[1:]
                return replace(packet, data=data, checksum=crc32c(data))
            return packet

        here.on_image = on_image
        await with_newcomer(here, 60)
        await until_caught_up(here)
        assert spoilt == 1
        assert not names(here, 2, ".part")


@pytest.mark.parametrize("how", ["damaged", "missing", "short"])
async def test_an_image_that_was_damaged_on_the_leader_is_replaced_though_nothing_more_is_applied(how: str) -> None:
    async with world() as here:
        offers: list[tuple[float, int]] = []

        def spoil(message: Message) -> bool:
            if message.kind is MessageKind.SNAPSHOT and message.snapshot is not None:
                path = image_path("raft", message.snapshot)
                if not offers and how == "missing":
                    here.disks[1].remove(path)
                elif not offers and how == "short":
                    del here.disks[1].bytes_of(path)[2 * PART :]
                elif not offers:
                    here.disks[1].bytes_of(path)[2 * PART] ^= 1
                if not offers or offers[-1][0] < trio.current_time() - 1.0:
                    offers.append((trio.current_time(), message.snapshot.index))
            return False

        here.lost = spoil
        await with_newcomer(here, 60)
        await until_caught_up(here)
        assert len(offers) == (1 if how == "missing" else 2)  # that is found where a part of it is read
        status = here.nodes[1].status()
        assert status.damage.startswith("raft/")
        assert status.snapshot == status.applied == offers[0][1]
        assert not here.errors
        await here.stop(1, power=True)
        await here.start(1)
        await here.until(1, lambda status: status.role is Role.LEADER)
        assert (here.nodes[1].status().snapshot, here.nodes[1].status().damage) == (status.snapshot, "")


async def test_while_an_image_is_known_to_be_damaged_it_is_not_offered() -> None:
    async with world() as here:
        await alone(here, 60)
        node = here.nodes[1]
        snapshot = node._log.snapshot()
        assert node._engine.snapshots.sends(Message(MessageKind.SNAPSHOT, 1, 1, snapshot=snapshot))
        node._log.image_found_damaged(snapshot, Damage("a file", 0, 0, "it is missing"))
        assert not node._engine.snapshots.sends(Message(MessageKind.SNAPSHOT, 1, 1, snapshot=snapshot))
        await trio.sleep(1.0)
        assert node.status().snapshot == node.status().applied > snapshot.index


async def test_a_transfer_that_does_not_move_is_given_up_on_both_sides() -> None:
    async with world() as here:
        parts = 0

        def on_image(packet: Packet) -> Packet | None:
            nonlocal parts
            parts += isinstance(packet, ImagePart)
            return packet if parts < 5 else None

        here.on_image = on_image
        await with_newcomer(here, 60)
        with trio.fail_after(60):
            while not parts:
                await trio.sleep(0.05)
            here.cut(2)
            assert names(here, 2, ".part")
            while names(here, 2, ".part"):
                await trio.sleep(0.5)
            peer = here.nodes[1]._raft.progress[2]
            while peer.state is ProgressState.SNAPSHOT:
                await trio.sleep(0.5)
        here.heal()
        here.on_image = lambda packet: packet
        await until_caught_up(here)


async def test_a_newer_offer_takes_the_place_of_a_transfer_under_way_and_its_file_goes() -> None:
    async with world() as here:
        here.on_image = lambda packet: None if isinstance(packet, ImageRequest) and packet.offset > 4000 else packet
        await with_newcomer(here, 40)
        while not names(here, 2, ".part"):
            await trio.sleep(0.1)
        first = names(here, 2, ".part")
        await propose(here, 200)
        status = here.nodes[1].status()
        snapshot = here.nodes[1]._log.snapshot()
        here.nodes[2].receive(Message(MessageKind.SNAPSHOT, to=2, sender=1, term=status.term, snapshot=snapshot))
        here.on_image = lambda packet: packet
        await until_caught_up(here)
        assert first != [f"{snapshot.index}"]
        assert not names(here, 2, ".part")


async def test_parts_that_nobody_asked_for_change_nothing() -> None:
    async with world() as here:
        await alone(here, 20)
        before = {name: bytes(here.disks[1].bytes_of(f"raft/{name}")) for name in here.disks[1].list("raft")}
        here.nodes[1].receive(ImagePart(1, 7, 5, b"whose", 0, b"data", 0))
        here.nodes[1].receive(ImageRequest(1, 7, 5, b"whose", 0))
        term = here.nodes[1].status().term
        refused = here.nodes[1].status().messages_refused
        for snapshot in (Snapshot(5000, 1, here.nodes[1].status().configuration, b"no identity"), None):
            here.nodes[1].receive(Message(MessageKind.SNAPSHOT, to=1, sender=7, term=term + 1, snapshot=snapshot))
        await trio.sleep(0.1)
        assert here.nodes[1].status().messages_refused == refused + 2
        for name, content in before.items():
            assert bytes(here.disks[1].bytes_of(f"raft/{name}")).startswith(content)


async def test_a_removed_follower_holds_up_no_snapshot() -> None:
    async with world() as here:
        here.on_image = lambda packet: None
        await with_newcomer(here, 40)
        await here.nodes[1].change_configuration(remove(2), timeout_s=5.0)
        before = here.nodes[1].status().snapshot
        await propose(here, 60)
        assert here.nodes[1].status().snapshot > before


class Large:
    """A state of so many bytes, made as it is given out."""

    def __init__(self, size: int) -> None:
        self.size = size

    def apply(self, index: int, data: bytes) -> object:
        return None

    def freeze(self) -> Image:
        return lambda: (bytes([number % 251]) * 65536 for number in range(self.size // 65536))

    def restore(self, pieces: Iterable[bytes]) -> Callable[[], None]:
        size = sum(map(len, pieces))

        def put_in_place() -> None:
            self.size = size

        return put_in_place


async def test_memory_does_not_grow_with_the_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is taken, sent, received and loaded, with a few parts of it in memory."""
    for module in ("consensus.image", "consensus.snapshots"):
        monkeypatch.setattr(f"{module}.CHUNK_BYTES", 64 << 10)
    size = 16 << 20
    async with world() as here:
        here.log_config = SMALL
        for node in (1, 2):
            (tmp_path / str(node)).mkdir()
            here.disks[node] = OsDisk(tmp_path / str(node))  # type: ignore[assignment]
        sender, receiver = Large(0), Large(0)
        await here.start(1, founders=(1,), machine=sender)
        await here.until(1, lambda status: status.role is Role.LEADER)
        await here.start(2, machine=receiver)
        tracemalloc.start()
        try:
            await propose(here, 20)
            first = await here.until(1, lambda status: status.snapshot > 0)
            sender.size = size
            await propose(here, 30)
            await here.until(1, lambda status: status.snapshot > first.snapshot)
            await here.nodes[1].change_configuration(add_learner(2), timeout_s=5.0)
            await here.until(2, lambda status: status.applied > 20)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert receiver.size == size
        assert peak < 4 << 20
