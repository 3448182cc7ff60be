"""A request takes effect at most once: in the committed records of a partition, no request has two turns."""

from collections.abc import Callable

from meshnode import wire
from meshnode.agents.ledger import Expired, SessionOpened, Turn
from meshnode.identity import PartitionId
from meshnode.partitions.messages import Record
from simulations.checkers.violation import Violation


class RequestsChecker:
    """Reads committed records as the agents' ledger does. Raises Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # One entry for each request that is committed and not expired.
        self._sessions: dict[PartitionId, dict[int, dict[int, int]]] = {}
        self._request_ids: dict[PartitionId, dict[tuple[str, str, str], tuple[int, float]]] = {}

    def committed(self, partition: PartitionId, record: Record) -> None:
        """A record is committed for the first time anywhere; in the order of their sequences.

        Raises:
            Violation: requests-at-most-once or requests-session.
            WireError: it is no record of the ledger.
        """
        if not record.payload:
            return
        turn = wire.decode(record.payload)
        sessions = self._sessions.setdefault(partition, {})
        match turn:
            case SessionOpened():
                sessions[record.sequence] = {}
            case Turn():
                self._take_turn(partition, record.sequence, turn)
            case Expired():
                for session in turn.sessions:
                    sessions.pop(session, None)
                # By the partition's own time, which never falls; a turn that asked may let a reply go earlier.
                kept = self._request_ids.setdefault(partition, {})
                for name in [name for name, (_, until_s) in kept.items() if until_s < turn.elapsed_s]:
                    del kept[name]
            case _:
                pass

    def _take_turn(self, partition: PartitionId, sequence: int, turn: Turn) -> None:
        agent = f"{turn.agent_type}/{turn.key}"
        if turn.request_id:
            kept = self._request_ids.setdefault(partition, {})
            name = (turn.agent_type, turn.key, turn.request_id)
            first = kept.setdefault(name, (sequence, turn.keep_until_s))[0]
            if first != sequence:
                raise self._twice(partition, f"request id {turn.request_id!r} of {agent}", first, sequence)
        if turn.session:
            session = self._sessions.setdefault(partition, {}).get(turn.session)
            if session is None:
                raise Violation(
                    "requests-session",
                    virtual_s=self._clock(),
                    message=f"partition {partition}: record {sequence} is of session {turn.session}, which is not open",
                )
            first = session.setdefault(turn.number, sequence)
            if first != sequence:
                raise self._twice(partition, f"request {turn.number} of session {turn.session}", first, sequence)

    def _twice(self, partition: PartitionId, what: str, first: int, second: int) -> Violation:
        return Violation(
            "requests-at-most-once",
            virtual_s=self._clock(),
            message=f"partition {partition}: {what} takes effect in record {first} and again in {second}",
        )
