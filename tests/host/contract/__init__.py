"""What every `meshnode.host.Host` promises, as one suite.

1. A test module derives a class from `HostContract`, named ``Test…``, so that pytest collects the suite under its name.
2. It has a fixture ``host``: the host of one node, and a fixture ``root``: a data directory that does not exist yet.
3. Where the host does not live on 127.0.0.1, it overrides ``anywhere``: an address to bind, with port 0.
4. A host in virtual time wraps each test of the class in a run of its own, as `tests.simulations.hosts` does.
5. What only a machine can show (threads, processes, IPv6, permissions) is tested beside the class, not in it.
"""

import pytest

from meshnode.identity import Address
from tests.host.contract.directory import DiskContract
from tests.host.contract.loops import LoopContract
from tests.host.contract.network import NetworkContract
from tests.host.contract.time import TimeContract

__all__ = ["HostContract"]


class HostContract(TimeContract, NetworkContract, DiskContract, LoopContract):
    """The whole suite, to be derived from."""

    @pytest.fixture
    def anywhere(self) -> Address:
        return Address("127.0.0.1", 0)
