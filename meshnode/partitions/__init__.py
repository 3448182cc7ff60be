"""Replicated partition logs: primary, replica, takeover, handoff; and the one journal of a node.

What was acknowledged survives whatever a minority of a partition's replicas does, by the intersection of majorities
alone: no rule relies on a clock. `core.PartitionsCore` is all partitions of one process without I/O.
`driver.Partitions` puts it to work on a node's main loop, with `journal.Journal` for what must not be forgotten.

Whoever drives the core:

1. hands all entries of the journal to `recover` first, and starts each process with a higher boot, registered before it
   takes part;
2. gives it a ``now`` in seconds that never falls, the committed rows of each partition in order (some may be left out),
   and whatever arrives, which may be late, twice, or not at all;
3. calls `wake` at `next_deadline`;
4. performs the effects of each call in order: `Write` to the journal's queue at once; what is in `AfterSync` only when
   everything queued before is on disk, and never again after a write that failed; `Send` to this node itself by
   `receive`. `Propose` and other messages may be lost;
5. deletes old files of the journal only as `retention.Retention` allows.

The room above takes turns between `Serving` and `Deposed`, while `holds_lease` and `has_room` say so, answers a caller
only when its record is `Committed`, and a read only when it is `ReadReady`.
"""
