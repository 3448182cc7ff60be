"""Device memory, reused between batches.

A block is not cleared when it is handed out again: kernels write before they read, and read only what they or the
host wrote for the batch in hand.
"""

import contextlib
from typing import Any, Final, Protocol

import numpy as np
import pyopencl as cl

from kernels.model import Floats

# Sizes are rounded up to powers of two, so that batches of similar sizes share blocks; below this there is no gain.
_BLOCK_BYTES_MIN: Final = 4096


class Block(Protocol):
    """Memory that a kernel can use. `argument` is what pyopencl takes for it, `nbytes` its size."""

    nbytes: int
    argument: Any

    def write(self, queue: Any, rows: Floats, stride: int) -> None:
        """Enqueue (or do) the copy of `rows` (n, k) into the block, `stride` floats apart."""
        ...

    def read(self, queue: Any, out: np.ndarray[Any, Any]) -> None:
        """Wait for the queue and copy the start of the block into the contiguous array `out`."""
        ...

    def release(self) -> None:
        """Give the memory back to the driver."""
        ...


class SharedBlock:
    """Memory that host and device see at the same address: no transfers, so a batch is one wait."""

    def __init__(self, context: Any, nbytes: int) -> None:
        self.nbytes = nbytes
        self._bytes: Any = cl.fsvm_empty(context, nbytes, np.dtype(np.uint8), alignment=64)
        self.argument: Any = cl.SVM(self._bytes)

    def write(self, queue: Any, rows: Floats, stride: int) -> None:
        count, width = rows.shape
        np.copyto(self._bytes[: 4 * count * stride].view(np.float32).reshape(count, stride)[:, :width], rows)

    def read(self, queue: Any, out: np.ndarray[Any, Any]) -> None:
        queue.finish()
        np.copyto(out, self._bytes[: out.nbytes].view(out.dtype).reshape(out.shape))

    def release(self) -> None:
        del self.argument, self._bytes


class DeviceBlock:
    """Memory of the device's own: a transfer each way."""

    def __init__(self, context: Any, nbytes: int) -> None:
        self.nbytes = nbytes
        self.argument: Any = cl.Buffer(context, cl.mem_flags.READ_WRITE, nbytes)

    def write(self, queue: Any, rows: Floats, stride: int) -> None:
        assert stride == rows.shape[1], "rows are sent as they lie"
        # `rows` stays untouched until the batch is read, and the queue is in order: no need to wait here.
        cl.enqueue_copy(queue, self.argument, rows, is_blocking=False)

    def read(self, queue: Any, out: np.ndarray[Any, Any]) -> None:
        cl.enqueue_copy(queue, out, self.argument, is_blocking=True)

    def release(self) -> None:
        self.argument.release()


class Pool:
    """Blocks of one kind. `idle_bytes_max` bounds what is kept for later; the least recently used goes first."""

    def __init__(self, context: Any, *, shared: bool, idle_bytes_max: int) -> None:
        self._context = context
        self.shared = shared
        self._idle_bytes_max = idle_bytes_max
        self._idle: list[Block] = []  # least recently used first; bounded by idle_bytes_max
        self.idle_bytes = 0

    def take(self, nbytes: int) -> Block:
        """A block of at least so many bytes, of undefined content. Raises pyopencl.Error when there is no memory."""
        size = max(_BLOCK_BYTES_MIN, 1 << (nbytes - 1).bit_length())
        for position in range(len(self._idle) - 1, -1, -1):
            if self._idle[position].nbytes == size:
                self.idle_bytes -= size
                return self._idle.pop(position)
        return SharedBlock(self._context, size) if self.shared else DeviceBlock(self._context, size)

    def give(self, block: Block) -> None:
        """Take a block back; nothing enqueued may still use it."""
        self._idle.append(block)
        self.idle_bytes += block.nbytes
        while self.idle_bytes > self._idle_bytes_max:
            oldest = self._idle.pop(0)
            self.idle_bytes -= oldest.nbytes
            oldest.release()
        assert self.idle_bytes == sum(idle.nbytes for idle in self._idle)

    def clear(self) -> None:
        """Release every idle block. One that the driver does not take back keeps no other from being released."""
        while self._idle:
            with contextlib.suppress(cl.Error):
                self._idle.pop().release()
        self.idle_bytes = 0
