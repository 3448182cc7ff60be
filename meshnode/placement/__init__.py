"""Placement: which node holds which partition, and why. Pure functions; nothing here waits, sends or remembers.

The caller's duties:

1. Found the mesh with one number of partitions and never change it: `partition_of` maps agents to partitions for ever.
2. Give `next_table` the rows that are committed, not those last proposed, and the members with the weights and zones
   that are committed: then every node computes the same proposal.
3. Act on no table. Commit its rows, in batches if need be; only a committed row gives the right to act. A proposal of
   which only some rows got committed is continued by asking `next_table` again.
4. When a node fails, ask `successors` at once, for primaries among the replicas that are alive; remove it from the
   members, and so have its replicas made again elsewhere, only once it will not return.
5. Show people `moves` and `explain`, which say what changes and why a partition is where it is.
"""

from meshnode.placement.explanation import Explanation, Standing, explain
from meshnode.placement.moves import Kind, Move, Reason, moves
from meshnode.placement.partitioner import PARTITIONS_DEFAULT, PARTITIONS_MAX, check_partitions, partition_of
from meshnode.placement.ring import Ring
from meshnode.placement.share import MemberSpec, fair_primaries, fair_replicas
from meshnode.placement.table import REPLICATION_DEFAULT, Table, next_table
from meshnode.placement.takeover import successor, successors

__all__ = [
    "PARTITIONS_DEFAULT",
    "PARTITIONS_MAX",
    "REPLICATION_DEFAULT",
    "Explanation",
    "Kind",
    "MemberSpec",
    "Move",
    "Reason",
    "Ring",
    "Standing",
    "Table",
    "check_partitions",
    "explain",
    "fair_primaries",
    "fair_replicas",
    "moves",
    "next_table",
    "partition_of",
    "successor",
    "successors",
]
