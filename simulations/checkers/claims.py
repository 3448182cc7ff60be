"""Locks are granted in the order in which they were asked for, as the replicated state has it.

Tell it of all claims, in the order in which they were made, after each command: it looks once at each stamp.
"""

from collections.abc import Callable, Iterable

from simulations.checkers.violation import Violation

Seen = tuple[tuple[int, int], tuple[str, ...], int]
"""The session and the number of a claim, its names, and its token; 0 while it waits."""


class ClaimsChecker:
    """Of all locks of a run. Raises Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stamp = 0
        self._tokens: dict[tuple[int, int], int] = {}

    def applied(self, stamp: int, claims: Iterable[Seen]) -> None:
        """The command with this stamp was applied somewhere.

        Raises:
            Violation: locks-fair, locks-stuck, locks-grant.
        """
        if stamp <= self._stamp:
            return
        self._stamp = stamp
        tokens: dict[tuple[int, int], int] = {}
        first: dict[str, tuple[int, int]] = {}
        for key, names, token in claims:
            older = [first[name] for name in names if name in first]
            if token and older:
                raise self._violation("locks-fair", f"claim {key} of {names} is granted, and {older[0]} is older")
            if not token and not older:
                raise self._violation("locks-stuck", f"claim {key} of {names} waits, and none is older")
            if token and self._tokens.get(key, token) not in (0, token):
                raise self._violation("locks-grant", f"claim {key} was granted under another token than {token}")
            tokens[key] = token
            for name in names:
                first.setdefault(name, key)
        self._tokens = tokens

    def _violation(self, invariant: str, message: str) -> Violation:
        return Violation(invariant, virtual_s=self._clock(), message=message)
