"""A request takes effect at most once: in the committed records of a partition, no request has two turns.

And an answer that says what became of a request is the reply in its turn, which is committed by then; nobody says of
one that has a turn that it had no effect.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshnode.agents.ledger import Expired, SessionOpened, Turn
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.reply import Reply
from meshnode.identity import PartitionId
from simulations.checkers.violation import Violation

_RequestId = tuple[str, str, str, int]
"""Agent type, key, id, and the partition of the turn that asks; -1 where no turn does."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A committed turn.

    Attributes:
        until_s: how long its request id is kept.
    """

    sequence: int
    reply: Reply
    until_s: float


class RequestsChecker:
    """Reads committed records as the agents' ledger does. Raises Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Of sessions that have expired too: a primary that was cut off may commit and answer what others went on from.
        self._sessions: dict[PartitionId, dict[int, dict[int, _Turn]]] = {}
        self._expired: dict[PartitionId, set[int]] = {}
        self._request_ids: dict[PartitionId, dict[_RequestId, _Turn]] = {}

    def committed(self, partition: PartitionId, sequence: int, record: object) -> None:
        """A record is committed for the first time anywhere; in the order of their sequences.

        Args:
            record: as it was decoded; None for a barrier.

        Raises:
            Violation: requests-at-most-once or requests-session.
        """
        sessions = self._sessions.setdefault(partition, {})
        match record:
            case SessionOpened():
                sessions[sequence] = {}
            case Turn():
                self._take_turn(partition, sequence, record)
            case Expired():
                self._expired.setdefault(partition, set()).update(record.sessions)
                # By the partition's own time, which never falls; a turn that asked may let a reply go earlier.
                kept = self._request_ids.setdefault(partition, {})
                for name in [name for name, first in kept.items() if first.until_s < record.elapsed_s]:
                    del kept[name]
            case _:
                pass

    def answered(self, call: Call, answer: Answer) -> None:
        """A call of a handler that may write is told that it has ended.

        Raises:
            Violation: requests-answer.
        """
        first: _Turn | None
        if call.request_id:
            first = self._request_ids.get(call.partition, {}).get(_request_id(call))
        else:
            first = self._sessions.get(call.partition, {}).get(call.session, {}).get(call.request)
        if first is None or first.reply != Reply(answer.code, answer.payload):
            what = "no turn of it is committed" if first is None else f"record {first.sequence} replies {first.reply}"
            raise self._unfounded(
                call.partition, f"{_name(call)} is answered {answer.code!r} {answer.payload!r:.60}, and {what}"
            )

    def ended(self, call: Call, status: Status) -> None:
        """Whoever waits for a call whose turn has a record is told what became of it.

        Raises:
            Violation: requests-denied.
        """
        if status in (Status.TRY_AGAIN, Status.REFUSED):
            raise Violation(
                "requests-denied",
                virtual_s=self._clock(),
                message=f"partition {call.partition}: {_name(call)} is said to have had no effect ({status.name}), and"
                " its record may be committed yet",
            )

    def opened(self, opening: OpenSession, answer: Answer) -> None:
        """Who wants a session is told its number.

        Raises:
            Violation: requests-answer.
        """
        if answer.session not in self._sessions.get(opening.partition, {}):
            raise self._unfounded(opening.partition, f"session {answer.session} is told, and no record opened it")

    def _take_turn(self, partition: PartitionId, sequence: int, turn: Turn) -> None:
        made = _Turn(sequence, turn.reply, turn.keep_until_s)
        if turn.request_id:
            kept = self._request_ids.setdefault(partition, {})
            first = kept.setdefault(_request_id(turn), made)
            if first is not made:
                raise self._twice(partition, _name(turn), first, made)
        if turn.session:
            session = self._sessions.setdefault(partition, {}).get(turn.session)
            if session is None or turn.session in self._expired.get(partition, ()):
                raise Violation(
                    "requests-session",
                    virtual_s=self._clock(),
                    message=f"partition {partition}: record {sequence} is of session {turn.session}, which is not open",
                )
            first = session.setdefault(turn.number, made)
            if first is not made:
                raise self._twice(partition, f"request {turn.number} of session {turn.session}", first, made)

    def _twice(self, partition: PartitionId, what: str, first: _Turn, second: _Turn) -> Violation:
        return Violation(
            "requests-at-most-once",
            virtual_s=self._clock(),
            message=f"partition {partition}: {what} takes effect in record {first.sequence} and again in"
            f" {second.sequence}",
        )

    def _unfounded(self, partition: PartitionId, message: str) -> Violation:
        return Violation("requests-answer", virtual_s=self._clock(), message=f"partition {partition}: {message}")


def _request_id(of: Turn | Call) -> _RequestId:
    return (of.agent_type, of.key, of.request_id, -1 if of.origin is None else of.origin.partition)


def _name(of: Turn | Call) -> str:
    """A request, for people."""
    agent = f"{of.agent_type}/{of.key}"
    if of.request_id:
        return f"request id {of.request_id!r} of {agent}"
    return f"request {of.request if isinstance(of, Call) else of.number} of session {of.session} to {agent}"
