"""Blocks and the pool of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.device import DeviceInfo

if TYPE_CHECKING:
    from kernels.buffers import Block, Pool

pytestmark = pytest.mark.device
IDLE_BYTES_MAX = 4 * 4096


@pytest.fixture(scope="module")
def queue(device: DeviceInfo, binaries: Path) -> Any:
    import pyopencl as cl

    from kernels.program import program_for
    from kernels.tiling import tiling_for

    return cl.CommandQueue(program_for(device, tiling_for(device), binaries).context)


@pytest.fixture(scope="module", params=["device", "shared"])
def pool(request: pytest.FixtureRequest, device: DeviceInfo, queue: Any) -> Iterator["Pool"]:
    from kernels.buffers import Pool

    shared = request.param == "shared"
    if shared and not device.shared_memory:
        pytest.skip(f"{device} does not share its memory with the host")
    made = Pool(queue.context, shared=shared, idle_bytes_max=IDLE_BYTES_MAX)
    yield made
    made.clear()


def test_what_is_written_is_read(pool: "Pool", queue: Any) -> None:
    rows = np.arange(35, dtype=np.float32).reshape(5, 7)
    out = np.zeros_like(rows)
    block = pool.take(rows.nbytes)
    block.write(queue, rows, 7)
    block.read(queue, out)
    np.testing.assert_array_equal(out, rows)
    pool.give(block)


def test_shared_rows_can_lie_apart(pool: "Pool", queue: Any) -> None:
    if not pool.shared:
        pytest.skip("device memory takes rows as they lie")
    rows = np.arange(35, dtype=np.float32).reshape(5, 7)
    block = pool.take(4 * 5 * 10)
    out = np.zeros((5, 10), np.float32)
    block.write(queue, rows, 10)
    block.read(queue, out)
    np.testing.assert_array_equal(out[:, :7], rows)
    pool.give(block)


def test_a_block_is_used_again_for_a_size_like_its_own(pool: "Pool") -> None:
    pool.clear()
    first = pool.take(5000)
    pool.give(first)
    assert pool.take(8192) is first
    other = pool.take(8193)
    assert other is not first
    assert other.nbytes == 16384
    pool.give(first)
    assert pool.take(4096) is not first


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20_000)), max_size=20))
def test_idle_memory_is_bounded_and_a_block_has_one_user(pool: "Pool", steps: list[tuple[bool, int]]) -> None:
    pool.clear()
    used: list[Block] = []
    for take, nbytes in steps:
        if take or not used:
            block = pool.take(nbytes)
            assert block.nbytes >= nbytes
            assert all(block is not other for other in used)
            used.append(block)
        else:
            pool.give(used.pop(0))
        assert 0 <= pool.idle_bytes <= IDLE_BYTES_MAX


def test_the_least_recently_used_block_goes_first(pool: "Pool") -> None:
    pool.clear()
    first, second = pool.take(8192), pool.take(8192)
    pool.give(first)
    pool.give(second)
    third = pool.take(4096)
    pool.give(third)  # 20 KiB idle: over the bound
    assert pool.take(8192) is second
    assert pool.idle_bytes == third.nbytes
