"""Mutual exclusion by fencing tokens: what a resource that refuses lower tokens sees of those who hold its lock.

A section is one block of code that runs under a lock, on one or several names. The checker is told of its life:

1. `asked` before it asks for the lock, `granted` when it has it, `left` when its code is over, however that came.
2. `use` when a request of it reaches the resource that the name protects: whether the resource takes it.

A process that is stopped between two of its steps can't know that its lock has passed on, so two sections may well be
under way at once; the tokens keep them apart. Where no process is stopped and no clock is off, a section ends before
the next one begins, and `exclusive` has the checker say so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulations.checkers.violation import Violation


@dataclass(slots=True, eq=False)
class Section:
    """One block under a lock.

    Attributes:
        who: for people.
        is_there: whether its process lives.
        floors: the highest token of each name that was granted before it asked.
        token: 0 before it is granted.
    """

    who: str
    names: tuple[str, ...]
    is_there: Callable[[], bool]
    floors: dict[str, int] = field(default_factory=dict)
    token: int = 0

    def __str__(self) -> str:
        return f"{self.who} (token {self.token})"


class LocksChecker:
    """Of all locks of a run. Raises Violation.

    Args:
        clock: virtual seconds.
        exclusive: whether no section may begin while another one on a name of it lasts.
    """

    def __init__(self, clock: Callable[[], float], *, exclusive: bool) -> None:
        self._clock = clock
        self._exclusive = exclusive
        # As long as the run: it bounds the number of sections.
        self._owners: dict[tuple[str, int], Section] = {}
        self._granted: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._inside: dict[str, list[Section]] = {}
        self.sections = 0
        self.refused = 0

    def asked(self, who: str, names: Sequence[str], is_there: Callable[[], bool]) -> Section:
        """A section is about to ask for its lock."""
        return Section(who, tuple(names), is_there, {name: self._granted.get(name, 0) for name in names})

    def granted(self, section: Section, token: int) -> None:
        """It has the lock.

        Raises:
            Violation: locks-token, locks-order, locks-overlap.
        """
        section.token = token
        self.sections += 1
        for name in section.names:
            owner = self._owners.setdefault((name, token), section)
            if owner is not section:
                raise self._violation("locks-token", f"{section} and {owner} hold {name!r} under one token")
            if token <= section.floors[name]:
                raise self._violation(
                    "locks-order",
                    f"{section} asked for {name!r} when token {section.floors[name]} was granted already",
                )
            self._granted[name] = max(token, self._granted.get(name, 0))
            inside = [other for other in self._inside.get(name, []) if other.is_there()]
            if self._exclusive and inside:
                raise self._violation("locks-overlap", f"{section} has {name!r} while {inside[0]} is at it")
            self._inside[name] = [*inside, section]

    def use(self, section: Section, name: str) -> bool:
        """A request of the section reaches the resource; whether it is taken: not after a higher token.

        Raises:
            Violation: locks-interleaved.
        """
        highest = self._seen.get(name, 0)
        if section.token < highest:
            self.refused += 1
            return False
        owner = self._owners.get((name, section.token))
        if owner is not section:
            raise self._violation("locks-interleaved", f"{section} uses {name!r} under the token of {owner}")
        self._seen[name] = section.token
        return True

    def left(self, section: Section) -> None:
        """Its code is over."""
        for name in section.names:
            inside = self._inside.get(name, [])
            if section in inside:
                inside.remove(section)

    def _violation(self, invariant: str, message: str) -> Violation:
        return Violation(invariant, virtual_s=self._clock(), message=message)
