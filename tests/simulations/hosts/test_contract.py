"""The simulated host keeps the contract of hosts, in virtual time and with clocks and delays of all kinds."""

import functools
import inspect
from collections.abc import Awaitable, Callable

import pytest

from meshnode.host import Host
from meshnode.identity import Address
from simulations.hosts import SimHost
from simulations.hosts.machine import ClockSkew
from simulations.hosts.quality import Quality
from tests.host.contract import HostContract
from tests.simulations.hosts.world import A, World

WORLDS = {
    "plain": lambda: World(),
    "skewed": lambda: World(seed=2, skew=ClockSkew(offset_s=123.4, rate=1.25)),
    "slow": lambda: slow_world(),
}


def slow_world() -> World:
    """Late messages keep their order within a stream, but datagrams would not arrive in order of their sending."""
    world = World(seed=3, skew=ClockSkew(offset_s=-5.0, rate=0.8))
    world.network.paths.default = Quality(delay_s=0.2, jitter_s=0.0, bytes_per_s=1e6)
    return world


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test as the program of a process in a run of its own."""

    @functools.wraps(test)
    def run(self: object, host: SimHost, **arguments: object) -> None:
        worlds.pop(host).run_as_process(host, lambda: test(self, host=host, **arguments))

    return run


worlds: dict[Host, World] = {}


class TestSimHost(HostContract):
    """The contract in the simulated world."""

    @pytest.fixture(params=WORLDS)
    def host(self, request: pytest.FixtureRequest) -> Host:
        world = WORLDS[request.param]()
        host = world.process(A)
        worlds[host] = world
        return host

    @pytest.fixture
    def root(self) -> str:
        return "data"

    @pytest.fixture
    def anywhere(self) -> Address:
        return Address(A, 0)


for _name, _test in inspect.getmembers(HostContract, inspect.iscoroutinefunction):
    setattr(TestSimHost, _name, in_virtual_time(_test))
