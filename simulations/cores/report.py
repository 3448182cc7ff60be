"""What came of a run."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from consensus.errors import ConsensusError
from meshnode.errors import MeshError
from simulations.checkers.violation import Violation

INVARIANTS: Mapping[str, str] = {
    "core-error": "no core raises anything that its caller could not expect",
    "liveness": "once the faults are over, what can be done is done within a stated time",
    "swim-no-blame": "without faults, nobody holds a node that runs dead",
    "raft-durable-ack": "what a member acknowledges is on its disk",
    "raft-durable-apply": "what a member applies is on its disk",
    "raft-read": "a read sees everything that was committed before it was asked",
    "raft-read-confirmed": "a leader answers a read only if a majority has confirmed its term since, or within a lease",
    "raft-lease": "nobody is elected while another leader may answer reads without asking",
    "raft-ack-matches": "what a member acknowledges is what its leader has",
    "raft-durable-commit": "what a leader commits is on the disks of a majority",
    "raft-elected": "who leads has the votes of a majority",
    "raft-commit-verified": "an append commits no more than it has compared",
    "raft-commit-term": "a leader commits by counting only what is of its own term",
    "raft-log-opens": "a power failure leaves a log that can be opened",
    "partitions-at-most-once": "a request takes effect at most once",
    "partitions-state": "equal records make equal states",
    "partitions-commit-verified": "an append commits no more than it has compared",
    "partitions-lease": "a turn starts only while a majority of the replicas confirmed the epoch of late",
    "partitions-read": "a read sees all that was acknowledged before it came, and nothing that is not committed",
    "placement-same-rows": "equal commands make equal nodes and rows",
    "placement-heir-lives": "a leader names processes that run, and asks for moves those that serve",
    "placement-goal": "a leader changes replicas only to found what never was active, or on the way to the table",
}
"""What is checked at this level beside the invariants of `simulations.checkers`: a world of cores sees more."""

CORE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ConsensusError,
    LookupError,
    MeshError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""How a mistake in a core shows, beside a broken invariant: what of this leaves a core ends the run as a violation."""


def core_error(error: BaseException, virtual_s: float) -> Violation:
    """The violation that an error which left a core is: the cores raise nothing that their caller could not expect."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{type(error).__name__}: {error} in {place.name}: {place.line}"
    return Violation("core-error", virtual_s=virtual_s, message=message)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one run.

    Attributes:
        seed: of the run.
        events: how many events of the heap happened.
        virtual_s: how much virtual time passed.
        violations: empty for a clean run; otherwise the one that ended it.
        counters: what happened how often; the names are the world's own.
        trace: a digest of everything that happened: equal for equal seeds and faults.
        nodes: a line a node, as it was at a violation; empty for a clean run.
        history: what clients saw, as JSON lines; empty where a world has none.
    """

    seed: int
    events: int
    virtual_s: float
    violations: tuple[Violation, ...]
    counters: Mapping[str, int]
    trace: str
    nodes: tuple[str, ...] = ()
    history: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not self.violations
