"""What one run came to."""

from dataclasses import dataclass

from simulations.checkers.violation import Violation
from simulations.hosts.trace import Line
from simulations.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run.

    Attributes:
        violation: the first thing that did not hold; None if everything did.
        digest: of the trace.
        begun_s: when the mesh was formed: time 0 of the plan; infinity if it never was.
        virtual_s: how much time passed in the world.
        events: how many events happened.
        operations: how many calls of agents the clients made in their steps under faults; a step without any is one.
        steps: how many steps they began; ``acknowledged`` of them ended without an error.
        fired: how often each kind of fault struck.
        nodes: a line a node, at the end.
        lines: the last things that happened.
        history: what the clients saw, as JSON lines.
    """

    plan: Plan
    violation: Violation | None
    digest: str
    begun_s: float
    virtual_s: float
    events: int
    operations: int
    steps: int
    acknowledged: int
    fired: dict[str, int]
    nodes: tuple[str, ...]
    lines: tuple[Line, ...]
    history: str
