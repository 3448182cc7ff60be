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
5. An event is one entry of the heap: a message that arrives, also at a process that is gone; a moment for which a
   node had planned to look at its core, also one at which nothing is due any more; a disk that is done; a fault that
   begins or ends; an operation that a client begins or gives up. A message that is lost on its way is none. Since the
   worlds differ in what an event costs (one of placement may judge a whole table), `throughput` gives virtual time
   per second of the processor beside it.
"""
