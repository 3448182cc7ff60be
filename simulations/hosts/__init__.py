"""The outside of a node, made of events: machines with clocks, disks and a network between them.

1. A `Machine` has an address, disks that survive its processes, and clocks with an offset and a rate of their own.
2. A `SimHost` is what one process on a machine takes from outside: a `meshnode.host.Host`. No node can tell it from the
   real one; `tests/host/contract` runs against both.
3. The `Network` carries datagrams, which may be lost, late, repeated and reordered, and streams, which may be slow,
   stall, hang and break, but deliver what they deliver in order. What happens to a message is keyed by the seed, the
   link and its number there, so that a fault that is taken away changes nothing for the other messages.
4. A process that was killed is fenced first: nothing that it still tries reaches a disk or the network.
"""

from simulations.hosts.host import SimHost
from simulations.hosts.machine import Machine
from simulations.hosts.network import Network
from simulations.hosts.trace import Trace

__all__ = ["Machine", "Network", "SimHost", "Trace"]
