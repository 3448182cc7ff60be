"""Copies of a partition hold what its records make: states of agents, sessions, replies, request ids.

What they make is worked out apart from the agents' ledger, and the plain way, so that neither what the ledger does with
a record, nor what a snapshot leaves out, nor what a primary does behind its records waits until somebody asks for it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from meshnode.agents.ledger import AgentId, Expired, Ledger, SessionOpened, Turn
from meshnode.agents.nested import Kept
from meshnode.agents.origin import Origin
from meshnode.agents.reply import Reply, RequestId
from meshnode.identity import NodeId, PartitionId
from simulations.checkers.violation import Violation


class LedgersChecker:
    """Takes every committed record once, and compares. Raises Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # As long as the run: copies of any age may be judged.
        self._records: dict[PartitionId, list[object]] = {}
        self._newest: dict[PartitionId, _Content] = {}

    def committed(self, partition: PartitionId, record: object) -> None:
        """A record is committed for the first time anywhere; in the order of their sequences, which begin with 1.

        Args:
            record: as it was decoded; None for a barrier.
        """
        records = self._records.setdefault(partition, [])
        records.append(record)
        self._newest.setdefault(partition, _Content()).take(len(records), record)

    def check(self, partition: PartitionId, node: NodeId, ledger: Ledger, committed: int) -> None:
        """Judge a copy that has taken the records up to ``committed``.

        Raises:
            Violation: partitions-same-state.
        """
        records = self._records.get(partition, [])
        if committed > len(records):
            return  # of which nobody has heard yet
        if committed == len(records):
            expected = self._newest.get(partition, _Content())
        else:
            expected = _made_by(records[:committed])
        self._compare(partition, node, committed, _held_by(ledger), expected.shown())

    def check_last(self, partition: PartitionId, node: NodeId, ledger: Ledger, committed: int) -> None:
        """Judge what the last record touched, where that is the last of all: quick enough for each of them.

        Raises:
            Violation: partitions-same-state.
        """
        records = self._records.get(partition, [])
        if committed == len(records) and records and isinstance(turn := records[-1], Turn):
            self._compare(partition, node, committed, _touched(ledger, turn), self._newest[partition].touched(turn))

    def _compare(
        self, partition: PartitionId, node: NodeId, committed: int, held: dict[str, Any], due: dict[str, Any]
    ) -> None:
        for name, value in held.items():
            if value != due[name]:
                raise Violation(
                    "partitions-same-state",
                    virtual_s=self._clock(),
                    message=f"partition {partition} on {node}, after record {committed}: {name} are {value!r:.300}, and"
                    f" the records make {due[name]!r:.300}",
                    nodes=(node,),
                )

    def check_snapshot(self, partition: PartitionId, node: NodeId, state: bytes, committed: int) -> None:
        """Judge what a copy would hold that is made from a snapshot.

        Raises:
            Violation: partitions-same-state.
        """
        ledger = Ledger()
        ledger.restore(state)
        self.check(partition, node, ledger, committed)


class _Content:
    """What the records make, with everything looked through whenever something may go."""

    def __init__(self) -> None:
        self.states: dict[AgentId, bytes] = {}
        self.lowest: dict[int, int] = {}
        self.replies: dict[int, dict[int, Reply]] = {}
        self.request_ids: dict[RequestId, tuple[float, Reply]] = {}
        self.nested: dict[RequestId, Kept] = {}
        self.origins: dict[PartitionId, Origin] = {}
        self.elapsed_s = 0.0

    def take(self, sequence: int, record: object) -> None:
        """The next record."""
        match record:
            case SessionOpened():
                self.lowest[sequence] = 1
                self.replies[sequence] = {}
            case Expired(sessions, elapsed_s):
                for session in sessions:
                    self.lowest.pop(session, None)
                    self.replies.pop(session, None)
                now = self.elapsed_s = max(self.elapsed_s, elapsed_s)
                self.request_ids = {name: kept for name, kept in self.request_ids.items() if kept[0] >= now}
                self.nested = {name: kept for name, kept in self.nested.items() if kept.until_s >= now}
            case Turn():
                self._take_turn(record)
            case _:
                pass  # a barrier

    def _take_turn(self, turn: Turn) -> None:
        if turn.state is not None and not turn.reply.code:  # an error changes no agent
            self.states[turn.agent_type, turn.key] = turn.state
        self.elapsed_s = max(self.elapsed_s, turn.elapsed_s)
        name = (turn.agent_type, turn.key, turn.request_id)
        origin = turn.origin
        if origin is not None:
            self._hear_of(origin)
            self.nested[name] = Kept(turn.keep_until_s, turn.reply, origin.partition, origin.epoch, origin.turn)
        elif turn.request_id:
            self.request_ids[name] = (turn.keep_until_s, turn.reply)
        elif turn.session in self.lowest:
            lowest = self.lowest[turn.session] = max(self.lowest[turn.session], turn.lowest)
            replies = {**self.replies[turn.session], turn.number: turn.reply}
            self.replies[turn.session] = {number: reply for number, reply in replies.items() if number >= lowest}

    def _hear_of(self, origin: Origin) -> None:
        """News of a partition's turns: what those that have ended asked for is asked for no more."""
        latest = self.origins.get(origin.partition)
        if latest is not None and not origin.is_after(latest):
            return
        self.origins[origin.partition] = origin
        if latest is None or latest.epoch != origin.epoch:
            return  # what the older epoch asked for is left to its time
        self.nested = {
            name: kept
            for name, kept in self.nested.items()
            if (kept.partition, kept.epoch) != (origin.partition, origin.epoch) or not origin.has_ended(kept.turn)
        }

    def shown(self) -> dict[str, Any]:
        """All that decides about answers."""
        replies = [reply for _until_s, reply in self.request_ids.values()]
        replies += [kept.reply for kept in self.nested.values()]
        replies += [reply for kept in self.replies.values() for reply in kept.values()]
        return {
            "states": self.states,
            "sessions": {number: (lowest, self.replies[number]) for number, lowest in self.lowest.items()},
            "request ids": self.request_ids,
            "replies to turns": self.nested,
            "turns heard of": self.origins,
            "times": self.elapsed_s,
            "bytes": sum(map(len, self.states.values())) + sum(len(reply.payload) for reply in replies),
        }

    def touched(self, turn: Turn) -> dict[str, Any]:
        """The part of it that the turn may have changed."""
        name = (turn.agent_type, turn.key, turn.request_id)
        return {
            "states": self.states.get((turn.agent_type, turn.key)),
            "sessions": (self.lowest.get(turn.session), self.replies.get(turn.session)),
            "request ids": self.request_ids.get(name),
            "replies to turns": self.nested.get(name),
        }


def _made_by(records: Iterable[object]) -> _Content:
    content = _Content()
    for sequence, record in enumerate(records, 1):
        content.take(sequence, record)
    return content


def _touched(ledger: Ledger, turn: Turn) -> dict[str, Any]:
    name = (turn.agent_type, turn.key, turn.request_id)
    session = ledger.sessions.get(turn.session)
    return {
        "states": ledger.states.get((turn.agent_type, turn.key)),
        "sessions": (None, None) if session is None else (session.lowest, session.replies or {}),
        "request ids": ledger.request_ids.get(name),
        "replies to turns": ledger.nested.replies.get(name),
    }


def _held_by(ledger: Ledger) -> dict[str, Any]:
    nested = ledger.nested.snapshot()
    return {
        "states": ledger.states,
        "sessions": {number: (session.lowest, session.replies or {}) for number, session in ledger.sessions.items()},
        "request ids": ledger.request_ids,
        "replies to turns": {(agent_type, key, chosen): kept for agent_type, key, chosen, kept in nested.replies},
        "turns heard of": {origin.partition: origin for origin in nested.origins},
        "times": ledger.elapsed_s,
        "bytes": ledger.payload_bytes,
    }
