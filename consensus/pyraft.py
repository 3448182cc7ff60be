"""Leader election by the package pyraft 1.0.0, to compare with. Never a default, and never for what must not be lost.

The package runs what its peers send as Python code (`eval` in its snapshots), keeps neither term nor vote nor log over
a restart, gives several votes in one term, and grants them without a look at the candidate's log. So nothing but
loopback is accepted here, and nothing is proposed. ``tests/consensus/test_pyraft.py`` shows the evidence.

``pip install meshnode[pyraft]`` brings it, together with the old versions of redis and setuptools that it pins: give it
an environment of its own.
"""

import ipaddress
import random
import socket
from collections.abc import Mapping
from typing import Any, Final

import trio
from pyraft import raft
from pyraft.worker.worker import Worker

from consensus.messages import NO_NODE, NODE_ID_MAX, Role

LOOK_INTERVAL_S: Final = 0.05
"""How often its state is looked at: it tells nobody of changes."""

_ROLES: Final = {"l": Role.LEADER, "f": Role.FOLLOWER, "c": Role.CANDIDATE}


class _WholeNumbers(random.Random):
    """Its module draws `randint(0, 500.0)`, which Python refuses since 3.12."""

    def randint(self, a: float, b: float) -> int:
        return super().randint(int(a), int(b))


class PyraftElection:
    """One member of a pyraft ensemble; a `consensus.leader_election.LeaderElection`.

    Args:
        node: this member's id, 1 … 2**63 - 1.
        addresses: of all members, this one included: "127.0.0.1:PORT" by id. PORT + 1 is taken as well.

    Raises:
        ValueError: an address is not on loopback, or has no port, or this member has none.
    """

    def __init__(self, node: int, addresses: Mapping[int, str]) -> None:
        if node not in addresses:
            raise ValueError(f"node {node} is not among {sorted(addresses)}: give it an address as well")
        for member, address in addresses.items():
            _check(member, address)
        self._id = node
        raft.random = _WholeNumbers()
        names = {str(member): address for member, address in addresses.items()}
        address = addresses[node]
        # A bare worker knows no commands, so nothing comes in by the port for clients.
        self._node: Any = raft.RaftNode(str(node), address, names, worker=Worker(address))

    @property
    def role(self) -> Role:
        """This member's part, as it sees it: two may believe that they lead."""
        return _ROLES[self._node.state]

    @property
    def leader(self) -> int:
        """The id of the leader as far as this member knows; 0 for nobody."""
        if self.role is Role.LEADER:
            return self._id
        if self.role is Role.FOLLOWER:
            for name, peer in self._node.get_peers().items():
                if peer.state == "l":
                    return int(name)
        return NO_NODE

    async def until_leader(self) -> None:
        """Wait until this member leads."""
        while self.role is not Role.LEADER:
            await trio.sleep(LOOK_INTERVAL_S)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled, once. Its threads take about a second to end.

        Raises:
            OSError: one of its two ports is taken. They are tried first: the package would fail in a thread, unseen.
        """
        for port in (self._node.port, self._node.port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self._node.ip, port))
        self._node.start()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._node.shutdown()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._node.join)


def _check(member: int, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not 1 <= member <= NODE_ID_MAX:
        raise ValueError(f"{member} is no node id: choose a number from 1 to 2**63 - 1")
    try:
        is_loopback = ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isdecimal() or not 1 <= int(port) <= 65534:
        raise ValueError(
            f"node {member} has the address {address!r}: pyraft runs as Python code what it is sent, so it is for"
            " 127.0.0.1:PORT only. For a group on a network, use consensus.driver.RaftNode"
        )
