"""The addresses at which a node knocks while it knows nobody."""

import math
import random
from collections.abc import Sequence

from meshnode.identity import Address, check_address

SEEDS_MAX = 64
"""More would not make joining any surer."""

SEEDS_PER_ATTEMPT = 4
"""One that answers is enough; all of a long list at once would only be work for them."""

_FIRST_DELAY = 0.25
"""In probe intervals: nodes that are started together find a seed that is a moment late."""

_DELAY_MAX = 30.0
"""In probe intervals: a seed that returns after hours is found within half a minute at the default interval."""


def check_seeds(addresses: Sequence[Address]) -> None:
    """Refuse what can't be knocked at.

    Raises:
        ValueError: there are too many, or one is not a literal IP address with a port.
    """
    if len(addresses) > SEEDS_MAX:
        raise ValueError(f"{len(addresses)} seeds: name at most {SEEDS_MAX}, any node of the mesh will do")
    for address in addresses:
        check_address(address)


class Seeds:
    """Knocks with growing, jittered pauses until someone answers."""

    __slots__ = ("_probe_interval_s", "_rng", "addresses", "attempts", "knock_at")

    def __init__(self, rng: random.Random, *, probe_interval_s: float) -> None:
        self._rng = rng
        self._probe_interval_s = probe_interval_s
        self.addresses: tuple[Address, ...] = ()
        self.attempts = 0
        """How often this node knocked since it has been alone."""
        self.knock_at = math.inf
        """When to knock next."""

    def set(self, addresses: Sequence[Address], *, me: Address) -> None:
        """Knock at these from now on, ``me`` left out. Raises as `check_seeds` does."""
        check_seeds(addresses)
        self.addresses = tuple(address for address in dict.fromkeys(addresses) if address != me)

    def start(self, now: float) -> None:
        """Knock at once, if there is anywhere to."""
        self.attempts = 0
        self.knock_at = now if self.addresses else math.inf

    def rest(self) -> None:
        """Someone answered: stop knocking."""
        self.attempts = 0
        self.knock_at = math.inf

    def knock(self, now: float) -> list[Address]:
        """Where to knock now; plans the next time."""
        pause = min(_FIRST_DELAY * 2 ** min(self.attempts, 16), _DELAY_MAX) * self._probe_interval_s
        self.knock_at = now + pause * (0.5 + 0.5 * self._rng.random())
        self.attempts += 1
        return self._rng.sample(self.addresses, min(SEEDS_PER_ATTEMPT, len(self.addresses)))
