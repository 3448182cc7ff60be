"""Datagram endpoints."""

from collections import deque
from typing import TYPE_CHECKING

import trio

from meshnode.host import DATAGRAM_BYTES_MAX
from meshnode.identity import Address

if TYPE_CHECKING:
    from simulations.hosts.network import Network

RECEIVE_BYTES = 208 * 2**10
"""Linux's default receive buffer: what comes while it is full is lost."""

OVERHEAD_BYTES = 512
"""What a datagram takes there besides its payload, about: empty ones fill the buffer too."""


class SimDatagrams:
    """A `meshnode.host.Datagrams`."""

    def __init__(self, network: "Network", address: Address, owner: object) -> None:
        self.address = address
        self.owner = owner
        self.is_closed = False
        self._network = network
        self._arrived: deque[tuple[bytes, Address]] = deque()
        self._arrived_bytes = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def send(self, data: bytes, to: Address) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_closed:
            raise trio.ClosedResourceError("this endpoint was closed")
        if len(data) <= DATAGRAM_BYTES_MAX:
            self._network.send_datagram(self.address, to, bytes(data))

    async def receive(self) -> tuple[bytes, Address]:
        if self._arrived or self.is_closed:
            await trio.lowlevel.checkpoint()
        while not self._arrived:
            if self.is_closed:
                raise trio.ClosedResourceError("this endpoint was closed")
            await self._lot.park()
        data, sender = self._arrived.popleft()
        self._arrived_bytes -= len(data) + OVERHEAD_BYTES
        return data, sender

    def arrive(self, data: bytes, sender: Address) -> None:
        """A datagram has come this far."""
        size = len(data) + OVERHEAD_BYTES
        if self._arrived_bytes + size <= RECEIVE_BYTES:
            self._arrived.append((data, sender))
            self._arrived_bytes += size
            self._lot.unpark()

    def close(self) -> None:
        """Nothing arrives any more."""
        self.is_closed = True
        self._arrived.clear()
        self._lot.unpark_all()
