"""What a disk has lost of a log and only other nodes can give back: until when that may be hoped for."""

from consensus.applier import Applier
from consensus.errors import CorruptLog
from consensus.raft import Raft
from consensus.storage import DurableLog


class LossWatch:
    """Notices where what is lost can't come back to this process.

    Args:
        patience_s: after its first turn, when a node gives up that knows of no other voter and has heard none.
    """

    def __init__(self, log: DurableLog, raft: Raft, applier: Applier, *, patience_s: float) -> None:
        self._log = log
        self._raft = raft
        self._applier = applier
        self._has_heard = False
        # A log that has lost entries may have lost those that brought in other voters.
        self._patience_s = patience_s
        self._alone_until: float | None = None

    def heard(self) -> None:
        """Another node is there."""
        self._has_heard = True

    @property
    def deadline(self) -> float | None:
        """When a damaged node gives up that knows of no other voter; None for any other."""
        if self._raft.lost is None or self._has_heard:
            return None
        # What said who votes may be lost as well.
        return self._alone_until if self._raft.configuration.electorate in ((), (self._raft.id,)) else None

    def check(self, now: float) -> None:
        """Stop where what is lost can't come back. To be called once in a turn, when messages have been taken.

        Raises:
            CorruptLog: that is so.
        """
        log = self._log
        if self._alone_until is None:  # whoever is slow to begin has not listened yet
            self._alone_until = now + self._patience_s
        if log.unreadable > self._applier.index:
            raise CorruptLog(
                f"{log.damage}. It is not applied yet: start the node again, and it gets back from the others what it"
                " has lost"
            )
        if (deadline := self.deadline) is not None and now >= deadline:
            damage = log.damage or "The log was found damaged by an earlier start, and lacks what it lost then"
            raise CorruptLog(
                f"{damage}. As far as its log can be read, this node is the only voter, and no other has been heard:"
                " nobody gives back what it has lost. If there are others, start it when they can be reached. If no"
                " other node was ever in the group, restore its directory from a copy; else the group has lost its"
                " quorum"
            )
