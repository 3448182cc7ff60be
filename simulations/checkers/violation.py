"""What a checker says when something that must hold does not."""

import functools
from collections.abc import Callable, Iterable


class Violation(Exception):
    """An invariant does not hold.

    Attributes:
        invariant: its stable name, a key of `simulations.checkers.INVARIANTS`.
        virtual_s: when it was noticed, in virtual seconds.
        message: what was seen and what it contradicts.
        nodes: the nodes that are part of it, by the numbers that the world gives them, ascending.
    """

    def __init__(self, invariant: str, *, virtual_s: float, message: str, nodes: Iterable[int] = ()) -> None:
        super().__init__(invariant, virtual_s, message)
        self.invariant = invariant
        self.virtual_s = virtual_s
        self.message = message
        self.nodes = tuple(sorted(set(nodes)))

    def __reduce__(self) -> tuple[Callable[[], "Violation"], tuple[()]]:
        """Between processes, in which seeds run."""
        rebuild = functools.partial(
            Violation, self.invariant, virtual_s=self.virtual_s, message=self.message, nodes=self.nodes
        )
        return rebuild, ()

    def __str__(self) -> str:
        who = f" (nodes {', '.join(map(str, self.nodes))})" if self.nodes else ""
        return f"{self.invariant} at {self.virtual_s:.6f} s: {self.message}{who}"
