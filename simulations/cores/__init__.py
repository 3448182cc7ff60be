"""The cores of SWIM, Raft, partitions and placement on one heap of events: thousands of nodes, without trio.

1. A world (`swim_world`, `raft_world`, `partition_world`, `placement_world`) is made of a seed and
   `faults.CoreFaults`. Its `run` lets it work, suffer and recover, and returns a `report.Report`; invariants are
   checked while it runs, and the first that is broken ends it.
2. Equal seeds and faults give equal runs, to the event, in any process: `Report.trace` is a digest of all that
   happened. What is drawn for a message depends on the seed, its link and how many came before it there, so that a run
   without one of its faults draws the same for all that is left.
3. A run is a plan (`plans`): plain data that fits into a file. `swarm.DRAWS` draws one from a seed, with faults,
   timeouts and batches of its own; `swarm.sweep` runs a range of seeds.
4. A process may end between any two effects of its core, and a disk keeps what was synced. What a core relies on beside
   that is what its driver's room promises: see the docstrings of `consensus`, `meshnode.membership` and
   `meshnode.partitions`.
"""
