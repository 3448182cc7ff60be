"""Locks: claims of sets of names, granted in the order in which they were made.

Each name has a queue of claims. A claim is granted once it is the first in the queues of all of its names. It waits
for older claims only, so that no two wait for each other, and nobody who comes later overtakes it: also where a name
of it is free, which waits with it then.

The token of a grant is the stamp of the command that brought it about. A name is granted at most once by one command,
so its tokens grow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshnode.coordination import bounds
from meshnode.coordination.commands import Refused

ClaimKey = tuple[int, int]
"""The session, and the number of the request that made the claim."""


@dataclass(slots=True)
class Claim:
    """One holder, or one who waits.

    Attributes:
        deadline_ms: when it ends unless it is renewed, in the state machine's own time.
        token: of the grant; 0 while it waits.
    """

    session: int
    number: int
    names: tuple[str, ...]
    ttl_ms: int
    deadline_ms: int
    token: int = 0

    @property
    def key(self) -> ClaimKey:
        return self.session, self.number


class Queues:
    """All claims, in the order in which they were made."""

    def __init__(self) -> None:
        self._claims: dict[ClaimKey, Claim] = {}
        # Derived from the claims: those of each name, in their order.
        self._queues: dict[str, dict[ClaimKey, Claim]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims.values())

    def get(self, key: ClaimKey) -> Claim | None:
        """None if it was given up or has ended."""
        return self._claims.get(key)

    def of_session(self, session: int) -> list[Claim]:
        """Those that a session has."""
        return [claim for claim in self._claims.values() if claim.session == session]

    def queue(self, name: str) -> tuple[Claim, ...]:
        """Those that claim a name: the first one may hold it."""
        return tuple(self._queues.get(name, {}).values())

    def names(self) -> list[str]:
        """All that are claimed, in the order of the alphabet."""
        return sorted(self._queues)

    def add(self, claim: Claim, stamp: int) -> Refused | None:
        """Put a claim at the end, and grant it if nobody is before it."""
        if len(self._claims) >= bounds.CLAIMS_MAX:
            return Refused(
                "overloaded", f"{bounds.CLAIMS_MAX} locks are held or waited for already: retry when some are released"
            )
        self._insert(claim)
        self._grant(claim.names, stamp)
        return None

    def remove(self, claims: Iterable[Claim], stamp: int) -> None:
        """Take these out, and then grant what became free: not to one that goes as well."""
        freed: dict[str, None] = {}
        for claim in claims:
            del self._claims[claim.key]
            for name in claim.names:
                del self._queues[name][claim.key]
                freed[name] = None
        self._grant(freed, stamp)
        for name in freed:
            if not self._queues[name]:
                del self._queues[name]

    def _insert(self, claim: Claim) -> None:
        self._claims[claim.key] = claim
        for name in claim.names:
            self._queues.setdefault(name, {})[claim.key] = claim

    def _grant(self, names: Iterable[str], stamp: int) -> None:
        for name in names:
            first = next(iter(self._queues[name].values()), None)
            if first is not None and not first.token and self._is_first_everywhere(first):
                first.token = stamp

    def _is_first_everywhere(self, claim: Claim) -> bool:
        return all(next(iter(self._queues[name])) == claim.key for name in claim.names)

    # ---- snapshots

    def freeze(self) -> tuple[Claim, ...]:
        """For a snapshot: copies."""
        return tuple(
            Claim(claim.session, claim.number, claim.names, claim.ttl_ms, claim.deadline_ms, claim.token)
            for claim in self._claims.values()
        )

    def restore(self, claims: Iterable[Claim]) -> None:
        """From a snapshot."""
        self._claims, self._queues = {}, {}
        for claim in claims:
            self._insert(Claim(claim.session, claim.number, claim.names, claim.ttl_ms, claim.deadline_ms, claim.token))
