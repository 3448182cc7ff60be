"""Loopback ports that no other test takes at the same time, in this process or another."""

import contextlib
import itertools
import os
import socket

PORTS = range(21_000, 31_000)
"""Below the range from which Linux takes the ports of outgoing connections."""

_next = itertools.count(os.getpid() * 97)


class ReservedPort:
    """A port that is free for TCP and UDP, and held against other tests until `release` or the end of the process.

    The hold is an abstract Unix socket named after the port: the kernel lets one process have it, and lets it go when
    that process ends, however it ends.
    """

    def __init__(self) -> None:
        for _attempt in PORTS:
            self.number = PORTS[next(_next) % len(PORTS)]
            self._hold = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._hold.bind(f"\0meshnode-test-port-{self.number}")
            except OSError:
                self._hold.close()
                continue
            if _is_free(self.number):
                return
            self._hold.close()
        raise RuntimeError(f"every port in {PORTS} is taken")

    def release(self) -> None:
        """Others may have it."""
        self._hold.close()


def _is_free(port: int) -> bool:
    with contextlib.ExitStack() as stack:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
            if kind is socket.SOCK_STREAM:  # as the node's listener: a connection that lingers does not matter
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
