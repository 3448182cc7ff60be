"""A running hash over what happens, by which two runs are compared."""

import struct

from xxhash import xxh3_64

_pack = struct.Struct("<dQBq").pack


class Trace:
    """A digest of events in their order. Equal runs give equal digests; in others some event differs."""

    __slots__ = ("_hash", "_update")

    def __init__(self) -> None:
        self._hash = xxh3_64()
        self._update = self._hash.update

    def note(self, now_s: float, node: int, kind: int, value: int) -> None:
        """Add an event.

        Args:
            now_s: when.
            node: where; 0 … 2**64 - 1.
            kind: what, as a number of the world's own; 0 … 255.
            value: what distinguishes it from others of its kind; -2**63 … 2**63 - 1.
        """
        self._update(_pack(now_s, node, kind, value))

    def hexdigest(self) -> str:
        """The digest so far: sixteen hexadecimal digits."""
        return self._hash.hexdigest()
