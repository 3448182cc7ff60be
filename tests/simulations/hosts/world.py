"""A world to test in: machines on a network, and processes on them."""

import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import outcome
import trio

from meshnode.identity import Address
from simulations.disk import DiskCosts, SimDisk
from simulations.hosts import Machine, Network, SimHost, Trace
from simulations.hosts.machine import ClockSkew
from simulations.kernel import Events, Process, simulate

T = TypeVar("T")

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
A, B, C = HOSTS

COSTS = DiskCosts(call_s=0.0, transfer_s_per_kib=0.0, sync_s_min=0.25, sync_s_max=0.25)
"""Of a disk on which only syncs take time, all of them the same."""


class World:
    """Three machines on one network."""

    def __init__(self, *, seed: int = 1, skew: ClockSkew | None = None) -> None:
        self.seed = seed
        self.events = Events()
        self.trace = Trace()
        self.network = Network(self.events, self.trace, seed=seed)
        self.machines: dict[str, Machine] = {}
        for host in HOSTS:
            self.network.add_machine(host)
            make_disk = functools.partial(self._make_disk, host)
            self.machines[host] = Machine(self.events, host, seed=seed, make_disk=make_disk, skew=skew)

    def _make_disk(self, host: str, root: str) -> SimDisk:
        return SimDisk(f"{host} {root}", seed=self.seed, costs=COSTS)

    def process(self, host: str) -> SimHost:
        """What a new process on a machine takes from outside."""
        return SimHost(self.machines[host], self.network, Process(self.events, name=f"on {host}"))

    def start(self, nursery: trio.Nursery, host: SimHost, program: Callable[[], Awaitable[object]]) -> None:
        """Run a program as the process of the host."""
        host.process.start(nursery, program)

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run a world that ends with ``main``; whatever else is going on is killed then."""
        return simulate(main, events=self.events, seed=self.seed)

    def run_as_process(self, host: SimHost, program: Callable[[], Awaitable[object]]) -> None:
        """Run one process to its end; its error comes out."""
        ends: list[outcome.Outcome[object]] = []

        async def main() -> None:
            process = host.process
            process._on_end = ends.append
            async with trio.open_nursery() as nursery:
                process.start(nursery, program)

        self.run(main)
        (end,) = ends
        end.unwrap()


async def connect(
    world: World, source: str = A, target: str = B
) -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Both ends of a new connection; each belongs to a process of its own on its machine."""
    listener, address = await world.process(target).listen(Address(target, 0))
    near = await world.process(source).dial(address)
    far = await listener.accept()
    await listener.aclose()
    return near, far


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the end."""
    parts = []
    while part := await stream.receive_some():
        parts.append(bytes(part))
    return b"".join(parts)
