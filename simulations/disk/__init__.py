"""A disk made of memory that does what disks do: it forgets what was not synced, and it breaks.

1. A `SimDisk` is a machine's data directory. It satisfies `consensus.disk.Disk` and outlives the processes that use it:
   each takes it with `acquire` and gives it back with `release`, unless a `crash` comes first.
2. A file has what the page cache shows and what the medium holds; a directory has names of both kinds. `File.sync` and
   `sync_directory` carry the one over to the other. `crash` is a process killed, or with `power_loss` the machine gone:
   each sector and each name that was not synced is then lost or kept for itself. `simulations.disk.power_loss` and
   `simulations.disk.names` say what a file system may and may not do.
3. `DiskFaults` are off unless they are asked for, and may be exchanged at any time. Those that destroy what was synced
   need the permission of a `FaultAtlas`, if there is one: it keeps enough disks sound to repair the others from.
4. Time is only counted: `take_elapsed` says how many seconds the operations since its last call took, infinite if a
   sync is stuck. Whoever runs the disk makes its process wait so long.
5. Everything drawn depends on the seed, the disk's name, the file and the number of the operation alone: a fault that
   is taken away changes no other draw.
"""

from simulations.disk.atlas import FaultAtlas
from simulations.disk.costs import DiskCosts
from simulations.disk.disk import Life, SimDisk
from simulations.disk.faults import DiskFaults
from simulations.disk.handle import SimFile
from simulations.disk.operation import Operation

__all__ = ["DiskCosts", "DiskFaults", "FaultAtlas", "Life", "Operation", "SimDisk", "SimFile"]
