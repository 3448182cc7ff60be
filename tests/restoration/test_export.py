"""Handing out an image: parts in order, each with the checksum of all so far, while the state goes on."""

from collections.abc import Callable, Iterable
from typing import TypeVar, TypeVarTuple

import pytest
from crc32c import crc32c

from meshnode.errors import InvalidArgument, NotFound, Overloaded, Unavailable
from meshnode.export import PART_BYTES, PATIENCE_S, STREAMS_MAX, Exports
from tests.agents.fake_host import FakeHost

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def image(size: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(size))


def in_pieces(data: bytes, size: int = 999) -> Iterable[bytes]:
    return (data[begin : begin + size] for begin in range(0, len(data), size))


async def read_all(exports: Exports, number: int) -> tuple[bytes, list[int]]:
    data, sizes, is_last = b"", list[int](), False
    while not is_last:
        part = await exports.part(number, len(data))
        data += part.data
        sizes.append(len(part.data))
        is_last = part.is_last
        assert part.checksum == crc32c(data)
    return data, sizes


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 5])
async def test_parts_come_in_order_and_are_the_whole_image(size: int) -> None:
    exports = Exports(FakeHost())
    data, sizes = await read_all(exports, exports.begin(lambda: in_pieces(image(size))))
    assert data == image(size)
    assert all(one == PART_BYTES for one in sizes[:-1])


async def test_no_more_is_made_than_is_asked_for() -> None:
    made = 0

    def pieces() -> Iterable[bytes]:
        nonlocal made
        for piece in in_pieces(image(20 * PART_BYTES)):
            made += len(piece)
            yield piece

    exports = Exports(FakeHost())
    number = exports.begin(pieces)
    assert made == 0
    await exports.part(number, 0)
    assert made < PART_BYTES + 1000


async def test_a_part_whose_answer_was_lost_is_given_again_and_no_other() -> None:
    exports = Exports(FakeHost())
    number = exports.begin(lambda: in_pieces(image(3 * PART_BYTES)))
    first = await exports.part(number, 0)
    assert await exports.part(number, 0) == first
    second = await exports.part(number, PART_BYTES)
    assert await exports.part(number, PART_BYTES) == second != first
    for offset in (0, 1, PART_BYTES + 1, 3 * PART_BYTES):
        with pytest.raises(InvalidArgument, match="parts come in order"):
            await exports.part(number, offset)
    with pytest.raises(NotFound, match="begin anew"):
        await exports.part(number + 1, 0)


async def test_a_part_is_not_made_twice_at_once() -> None:
    refused: list[Unavailable] = []

    class Busy(FakeHost):
        async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
            with pytest.raises(Unavailable, match="already") as caught:
                await exports.part(number, 0)
            refused.append(caught.value)
            return work(*arguments)

    exports = Exports(Busy())
    number = exports.begin(lambda: in_pieces(image(10)))
    assert (await exports.part(number, 0)).data == image(10)
    assert len(refused) == 1


async def test_streams_are_few_and_those_that_nobody_reads_make_room() -> None:
    host = FakeHost()
    exports = Exports(host)
    numbers = [exports.begin(lambda: in_pieces(image(10))) for _ in range(STREAMS_MAX)]
    with pytest.raises(Overloaded, match="4 snapshots are being taken"):
        exports.begin(lambda: ())
    await read_all(exports, numbers[0])
    exports.begin(lambda: in_pieces(image(10)))  # in the place of the one that is through
    with pytest.raises(Overloaded):
        exports.begin(lambda: ())
    host.leap_s += PATIENCE_S
    exports.begin(lambda: ())
    with pytest.raises(NotFound):
        await exports.part(numbers[1], 0)
