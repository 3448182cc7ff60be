"""What a leader knows of one follower's log, and how fast it may send.

*Probe*: the leader looks for the point where the logs agree, one message at a time. *Replicate*: it sends ahead, within
a window. *Snapshot*: the follower needs entries that the leader no longer has, so nothing is sent until a snapshot is
in. The states are those of etcd-io/raft's `tracker`.
"""

from collections import deque
from enum import Enum
from typing import Final


class ProgressState(Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


# See `consensus.messages` for why these have names of their own.
PROBE: Final = ProgressState.PROBE
REPLICATE: Final = ProgressState.REPLICATE
SNAPSHOT: Final = ProgressState.SNAPSHOT


class Inflights:
    """The window of appends that a follower has not acknowledged: (last index, bytes) of each, oldest first.

    Attributes:
        full: whether nothing more may go out. A message larger than `bytes_max` may still go into an empty window, or
            it could never go out.
    """

    __slots__ = ("_bytes", "_bytes_max", "_messages_max", "_window", "full")

    def __init__(self, *, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._bytes = 0
        # Bounded by messages_max: `add` asserts that the window is open.
        self._window: deque[tuple[int, int]] = deque()
        self.full = False

    def __len__(self) -> int:
        return len(self._window)

    def add(self, index: int, size_bytes: int) -> None:
        """One more message is under way, with entries up to `index`."""
        assert not self.full, "an append was sent past a full window"
        assert not self._window or self._window[-1][0] < index
        self._window.append((index, size_bytes))
        self._bytes += size_bytes
        self.full = len(self._window) >= self._messages_max or self._bytes >= self._bytes_max

    def free_up_to(self, index: int) -> None:
        """The follower has all entries up to `index`."""
        window = self._window
        while window and window[0][0] <= index:
            self._bytes -= window.popleft()[1]
        if self.full:
            self.full = len(window) >= self._messages_max or self._bytes >= self._bytes_max

    def clear(self) -> None:
        self._window.clear()
        self._bytes = 0
        self.full = False


class Progress:
    """One follower's place in the leader's log.

    Attributes:
        match: the highest index known to be on the follower's disk.
        next: the index to send next. Always above `match`.
        state: how to send.
        pending_snapshot: in state SNAPSHOT, the index of the snapshot under way; otherwise 0.
        recent_active: whether the follower answered since the leader last checked its quorum.
        paused: no append until the follower answers, or a heartbeat has come back.
        is_learner: whether it has no vote.
    """

    __slots__ = (
        "_sent_commit",
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "recent_active",
        "state",
    )

    def __init__(self, *, match: int, next_index: int, is_learner: bool, inflights: Inflights) -> None:
        assert next_index > match
        self.match = match
        self.next = next_index
        self.is_learner = is_learner
        self.inflights = inflights
        self.state = PROBE
        self.pending_snapshot = 0
        self.recent_active = False
        self.paused = False
        self._sent_commit = 0

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be sent, not even an empty append."""
        return self.paused or self.state is SNAPSHOT

    def become_probe(self) -> None:
        """Look for the point of agreement; after a snapshot, begin behind it."""
        behind_snapshot = self.pending_snapshot + 1 if self.state is SNAPSHOT else 0
        self._reset(PROBE)
        self.next = max(self.match + 1, behind_snapshot)
        self._sent_commit = min(self._sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """The logs agree up to `match`: send ahead from there."""
        self._reset(REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot of `index` is on its way."""
        self._reset(SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self._sent_commit = index

    def _reset(self, state: ProgressState) -> None:
        self.paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.clear()

    def note_sent(self, *, entries: int, size_bytes: int, commit: int) -> None:
        """An append with that many entries and that commit index was sent."""
        if self.state is REPLICATE:
            if entries:
                self.next += entries
                self.inflights.add(self.next - 1, size_bytes)
            # A full window is as good as a probe: one message more, and then wait.
            self.paused = self.inflights.full
        else:
            assert self.state is PROBE, "appends are not sent while a snapshot is under way"
            if entries:
                self.paused = True
        self._sent_commit = commit

    def note_commit_sent(self, commit: int) -> None:
        """A heartbeat carried that commit index."""
        self._sent_commit = commit

    def lacks_commit(self, commit: int) -> bool:
        """Whether `commit` would tell the follower something that it can use and was not sent before."""
        return commit > self._sent_commit and self._sent_commit < self.next - 1

    def acknowledge(self, index: int) -> bool:
        """The follower has everything up to `index` on disk. False if that was known."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def forget_match(self, *, hint: int) -> None:
        """The follower's disk has lost what it had; `hint` is the highest index that may match still.

        What was committed with it stays committed: the follower votes as if it had it.
        """
        self.match = 0
        if self.state is not SNAPSHOT:
            following = min(self.next, hint + 1)
            self.become_probe()
            self.next = max(following, 1)

    def reject(self, index: int, *, hint: int) -> bool:
        """The follower has no entry that matches at `index`; `hint` is the highest that may.

        Returns:
            False if the answer is stale and says nothing new.
        """
        if self.state is REPLICATE:
            if index <= self.match:
                return False
            self.next = self.match + 1
        else:
            # In a probe only the last message counts; what came before it was answered or is lost.
            if self.next - 1 != index:
                return False
            self.next = max(min(index, hint + 1), self.match + 1)
            self.paused = False
        self._sent_commit = min(self._sent_commit, self.next - 1)
        return True
