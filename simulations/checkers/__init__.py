"""What must hold, judged from outside: by what nodes do and say, by what clients see, and by what comes of it.

1. The checkers know no trio and no world. A world tells an online checker what happens, in order, and it raises a
   `violation.Violation` at the first thing that must not be; each module's docstring lists the calls that it needs.
2. Histories and tables are judged as a whole: `explanation.check_history`, `exactly_once.ExactlyOnce`,
   `placement.check_table`, `tables.check_quality`, `moves.check_moves`, `liveness.LivenessChecker`.
3. A verdict depends on what was told alone, not on the hash seed.

The invariants, by names that stay the same (those of a user's workload are its own: ``app-`` and a name):

- linearizability: the operations on each key can have happened one at a time, each between its call and its end.
- exactly-once-lost: no acknowledged request is missing from the state.
- exactly-once-duplicated: no request is in the state twice.
- exactly-once-phantom: nothing is in the state that was refused or never asked for.
- exactly-once-total: a total is that of the acknowledged requests and some of the unknown ones.
- exactly-once-reply: every answer to one request id is the same.
- requests-at-most-once: no request has two turns in the committed records of its partition.
- requests-session: a turn is of a session that is open.
- requests-answer: an answer is the reply in a committed turn of its request.
- requests-denied: nobody is told that a request had no effect whose turn has a record.

- raft-election-safety: a term has one leader.
- raft-log-matching: entries of one index and term are the same everywhere, and so is everything before them.
- raft-leader-completeness: what was committed in a term is in the log of every leader of a later one.
- raft-state-machine: all state machines are given the same entries in the same order.
- raft-committed-stays: what a node took for committed stays in its log.
- raft-durable-vote: a node votes once in a term, whatever restarts come between, and not before that is on its disk.
- raft-durable-term: no restart finds a lower term than a message named.
- raft-durable-log: what is acknowledged is on the disk, and no restart misses it.
- raft-monotonic-term: the term of a process never falls.
- raft-monotonic-commit: nor do its commit and applied indexes, and it applies only what is committed.

- disk-sync-again: no process syncs a file again after a sync of it failed.
- disk-found-unsynced: what a restart finds in the page cache is synced before anybody relies on it.
- disk-found-dropped: nor does anybody rely on what only the page cache has because a sync failed.

- swim-incarnation: only the subject raises its incarnation.
- swim-life-supersedes: a node claims no less than before, and a new life begins above all that was claimed.
- swim-precedence: a belief gives way only to a stronger one of its incarnation, or to any of a higher one.
- swim-departure: only the subject says that it leaves.
- swim-time-to-answer: who suspects has waited for an answer without a pause, to a probe later than the member's claim.
- swim-time-to-refute: nobody holds a live member dead before it has suspected it for as long as that has to refute.
- swim-detection-bound: a crash is known to somebody within its bound.
- swim-spread-bound: and to all within theirs.
- swim-live-stays-dead: once the faults have ended, nobody holds a live, responsive node dead for long.

- placement-same-table: everyone makes the same table of the same members and rows.
- placement-minimal-movement: only what must move moves.
- placement-row-sound: each row has as many replicas as there can be, all of them members.
- placement-balance: each member holds its fair share of replicas, rounded down or up.
- placement-zones: the rows are in as many zones as such loads permit.
- placement-survivor-leads: who leads had the data, if anybody left had it.
- placement-primaries: what each leads is as near to its fair share as handovers bring it.
- placement-stays: a table that is right is its own successor.
- placement-moves: the moves lead from one table to the other, for the reasons that they give.
- placement-explanation: what is said of a partition is what can be counted.
- placement-takeover: a living replica takes over, as evenly as there can be.

- partitions-one-process: an epoch is served by one process, the one that its row names.
- partitions-one-record: there is one record for each epoch and sequence.
- partitions-equal-prefixes: logs that have a record in common agree before it.
- partitions-committed-kept: the primary of an epoch has everything that was committed in earlier ones.
- partitions-acknowledged-committed: what a caller is told is committed, and is what it sent.
- partitions-durable-majority: a record is committed by an active primary, on the disks of a majority of its replicas.
- partitions-sealed-majority: nothing is written in an epoch before a majority of the base has told the writer so.
- partitions-acknowledged-majority: a primary commits what a majority of its replicas acknowledged in its epoch.
- partitions-committed-stays: what a copy took for committed is replaced by nothing, and taken back never.
- partitions-barrier: a primary commits only up to a record of its own epoch.
- partitions-one-history: there is one committed record for each sequence.
- partitions-snapshot-committed: a snapshot is of committed records.
- partitions-log-whole: a log in memory is what was written, without holes, around what is committed.
- partitions-same-state: copies hold the same states, sessions and replies after the same records.
- partitions-excluded: a node keeps no copy of an older epoch than that of the active row that it knows, and is not in.
- partitions-promise-falls: the promised epoch never falls.
- partitions-promise-durable: what is answered for is on the disk, and no restart forgets it.
- partitions-durable-log: a restart finds every record that was said to be on disk.
- partitions-below-promise: nothing is accepted or done for an epoch below the promised one.
- partitions-read-confirmed: what a read saw is committed, and its primary confirmed since, before it is answered.
- partitions-same-rows: every node applies the same changes of a row in the same order.
- partitions-epoch-rises: epochs rise, and each becomes active once at most, while it is the newest.
- partitions-base: only an activation changes `base`, to the replicas.
- partitions-row-sound: a row names its primary among distinct replicas, and within an epoch neither changes.

- locks-token: no two sections hold a lock under one token.
- locks-order: who asks for a lock after another one was granted it gets a higher token.
- locks-interleaved: a resource that refuses lower tokens never sees two sections under one.
- locks-overlap: where no process is stopped and no clock is off, a section ends before the next one begins.
- locks-fair: a lock is granted to the oldest claim of all of its names.
- locks-stuck: and that one is granted it.
- locks-grant: under one token for as long as it lasts.
- locks-left-behind: in calm, no lock stays claimed by processes that are gone.

- config-torn: what a transaction set is seen together or not at all.
- config-ttl: where no clock is off, a key is there for its TTL.
- coordination-same-state: nodes that have applied the same commands hold the same locks, sessions and keys.
- watch-order: revisions rise.
- watch-gap: a watcher sees every revision that another one sees.
- watch-differs: a revision is the same for all.
- watch-lost: an acknowledged change is seen by who watches.
- watch-state: the changes that were watched make the keys that there are.

- prediction-reference: an answer is what the reference computes with a model that was published.
- prediction-fresh: what was published in calm is soon what everybody uses.
- prediction-tallies: the rows of an agent are those of all its classes together.

- node-crash: no node ends by an error but one that its operator has to deal with.
- client-crash: no client ends by an error, whatever the mesh does.
- app-agent-error: no handler raises what the workload does not expect, and no call that is in order is refused.

- liveness-membership: after the faults every node runs, and sees exactly those that run.
- liveness-raft: they follow one leader and have applied what it has.
- liveness-voters: as many nodes vote as should, an odd number, and all of them run, if there are as many that run.
- liveness-partitions: every partition is active, and served by the process that its row names.
- liveness-replicas: every partition has as many replicas that run as it should have.
- liveness-agents: every agent answers.
- liveness-rest: then nobody else leads, votes or has a partition any more.
"""

from collections.abc import Mapping
from typing import Final


def _listed(text: str) -> dict[str, str]:
    """The invariants in a docstring: a name and a sentence each."""
    lines = (line.removeprefix("- ").partition(": ") for line in text.splitlines() if line.startswith("- "))
    return {name: sentence for name, _, sentence in lines}


INVARIANTS: Final[Mapping[str, str]] = _listed(__doc__ or "")
"""By name, what must hold. Empty where Python runs without docstrings."""

LIVENESS: Final = frozenset(
    {
        "swim-detection-bound",
        "swim-spread-bound",
        "swim-live-stays-dead",
        "liveness-membership",
        "liveness-raft",
        "liveness-voters",
        "liveness-partitions",
        "liveness-replicas",
        "liveness-agents",
        "liveness-rest",
        "locks-left-behind",
    }
)
"""Those that say that something will happen. All others say that something never does."""
