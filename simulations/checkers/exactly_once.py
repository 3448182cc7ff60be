"""Whether each request took effect exactly once, judged by what the agents hold in the end.

A request is what has one request id, however often it is tried. Of its tries one ``ok`` makes it acknowledged, and one
that ends in an error of its handler refused, for good; failing that, one ``info`` makes it unknown; if all of them
failed, it is refused. An acknowledged request must have been counted once, an unknown one at most once, a refused one
never.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from simulations.checkers.violation import Violation

SHOWN_MAX: Final = 10
"""Request ids named in a message: enough to look them up."""

TOTAL_MAX: Final = 1 << 24
"""Of all unknown amounts of one key: which sums they can make is worked out with one bit a sum."""


class Outcome(enum.Enum):
    """What is known of a request."""

    REFUSED = "refused"
    UNKNOWN = "unknown"
    ACKNOWLEDGED = "acknowledged"


@dataclass(slots=True)
class _Request:
    amount: int
    tries: int = 0
    refused: int = 0
    is_acknowledged: bool = False
    has_failed: bool = False
    reply: object = None


class ExactlyOnce:
    """The ledger of a workload that adds to counters under request ids.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # As long as the run: a workload bounds its number of requests.
        self._requests: dict[str, dict[str, _Request]] = {}

    def tried(self, key: str, request_id: str, amount: int) -> None:
        """A try leaves the client. Until it ends it counts as unknown.

        Raises:
            ValueError: the amount is not positive, or not that of an earlier try: that would be another request.
        """
        if amount < 1:
            raise ValueError(f"request {request_id!r} adds {amount}: amounts are whole numbers from 1")
        request = self._requests.setdefault(key, {}).setdefault(request_id, _Request(amount))
        if request.amount != amount:
            raise ValueError(
                f"request {request_id!r} of {key!r} adds {amount} and before {request.amount}: take a new id"
            )
        request.tries += 1

    def acknowledged(self, key: str, request_id: str, reply: object = None) -> None:
        """A try was answered. All answers to one request id are the recorded one."""
        self._answered(key, request_id, reply).is_acknowledged = True

    def failed(self, key: str, request_id: str, error: str) -> None:
        """A try was answered by an error with which the request has ended. So are all others, and it had no effect."""
        self._answered(key, request_id, ("error", error)).has_failed = True

    def refused(self, key: str, request_id: str) -> None:
        """A try surely had no effect."""
        self._requests[key][request_id].refused += 1

    def outcome(self, key: str, request_id: str) -> Outcome:
        """What is known of a request by now."""
        request = self._requests[key][request_id]
        if request.is_acknowledged:
            return Outcome.ACKNOWLEDGED
        is_refused = request.has_failed or request.refused == request.tries
        return Outcome.REFUSED if is_refused else Outcome.UNKNOWN

    def may_have_run(self, key: str, request_id: str) -> bool:
        """Whether it has ended, well or not, or nobody knows."""
        request = self._requests[key][request_id]
        return request.has_failed or self.outcome(key, request_id) is not Outcome.REFUSED

    def _answered(self, key: str, request_id: str, reply: object) -> _Request:
        request = self._requests[key][request_id]
        if (request.is_acknowledged or request.has_failed) and request.reply != reply:
            raise self._violation(
                "exactly-once-reply",
                f"{key}: request {request_id!r} was answered {request.reply!r} and then {reply!r}",
            )
        request.reply = reply
        return request

    def check_applied(self, key: str, applied: Mapping[str, int]) -> None:
        """Judge an agent that knows how often it took each request id.

        Raises:
            Violation: exactly-once-lost, exactly-once-duplicated or exactly-once-phantom.
        """
        requests = self._requests.get(key, {})
        lost = [
            name for name in requests if self.outcome(key, name) is Outcome.ACKNOWLEDGED and applied.get(name, 0) < 1
        ]
        if lost:
            raise self._violation("exactly-once-lost", f"{key} lost acknowledged requests: {_some(lost)}")
        doubled = [name for name, times in applied.items() if times > 1]
        if doubled:
            raise self._violation("exactly-once-duplicated", f"{key} took requests more than once: {_some(doubled)}")
        phantoms = [
            name
            for name, times in applied.items()
            if times and (name not in requests or self.outcome(key, name) is Outcome.REFUSED)
        ]
        if phantoms:
            raise self._violation(
                "exactly-once-phantom", f"{key} took requests that were refused or never made: {_some(phantoms)}"
            )

    def check_total(self, key: str, total: int) -> None:
        """Judge an agent that knows only the sum of what it took.

        Raises:
            Violation: exactly-once-lost if the sum is too low, exactly-once-duplicated if it is too high, and
                exactly-once-total if it lies between and no choice of the unknown requests makes it.
            ValueError: the unknown requests add up to more than `TOTAL_MAX`.
        """
        requests = self._requests.get(key, {})
        outcomes = {name: self.outcome(key, name) for name in requests}
        sure = sum(request.amount for name, request in requests.items() if outcomes[name] is Outcome.ACKNOWLEDGED)
        maybe = [request.amount for name, request in requests.items() if outcomes[name] is Outcome.UNKNOWN]
        if sum(maybe) > TOTAL_MAX:
            raise ValueError(
                f"{key}: unknown requests add up to {sum(maybe)}: choose amounts that stay below {TOTAL_MAX}"
            )
        what = f"{key} holds {total}: {sure} are acknowledged and {sum(maybe)} unknown"
        if total < sure:
            raise self._violation("exactly-once-lost", f"{what}, so {sure - total} are lost")
        if total > sure + sum(maybe):
            raise self._violation("exactly-once-duplicated", f"{what}, so {total - sure - sum(maybe)} are too many")
        sums = 1
        for amount in maybe:
            sums |= sums << amount
        if not sums >> total - sure & 1:
            raise self._violation("exactly-once-total", f"{what}, and no choice of these makes the difference")

    def _violation(self, invariant: str, message: str) -> Violation:
        return Violation(invariant, virtual_s=self._clock(), message=message)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(repr(name) for name in names[:SHOWN_MAX]) + more
