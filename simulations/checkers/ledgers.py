"""Copies of a partition hold the same state after the same records: states of agents, sessions, replies, request ids.

A copy that came by a snapshot, or was read from a journal that was shortened, holds what one does that took every
record. What a snapshot leaves out shows here, long before somebody asks for it.
"""

from collections.abc import Callable
from typing import Any

from meshnode.agents.ledger import Ledger
from meshnode.identity import NodeId, PartitionId
from meshnode.partitions.messages import Record
from simulations.checkers.violation import Violation


class LedgersChecker:
    """Takes every committed record once, and compares. Raises Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ledgers: dict[PartitionId, tuple[int, Ledger]] = {}

    def committed(self, partition: PartitionId, record: Record) -> None:
        """A record is committed for the first time anywhere; in the order of their sequences."""
        _, ledger = self._ledgers.get(partition, (0, Ledger()))
        if record.payload:
            ledger.apply(record.sequence, record.payload)
        self._ledgers[partition] = record.sequence, ledger

    def check(self, partition: PartitionId, node: NodeId, ledger: Ledger, committed: int) -> None:
        """Judge a copy that has taken the records up to ``committed``, if there are no later ones.

        Raises:
            Violation: partitions-same-state.
        """
        latest, reference = self._ledgers.get(partition, (0, Ledger()))
        if committed != latest:
            return
        expected = _content(reference)
        for name, held in _content(ledger).items():
            if held != expected[name]:
                raise Violation(
                    "partitions-same-state",
                    virtual_s=self._clock(),
                    message=f"partition {partition} on {node}, after record {committed}: {name} are {held!r:.300}, and"
                    f" the records make {expected[name]!r:.300}",
                    nodes=(node,),
                )


def _content(ledger: Ledger) -> dict[str, Any]:
    """All that decides about answers."""
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
