"""Messages on their way out."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from consensus.messages import APPEND, HardState, Message
from consensus.ready import StorageAppend

COMPANY_S: Final = 0.001
"""How long an append without entries waits for one with entries, which says all that it says. In a group at work that
one comes sooner: each follower hears of a commit with what is to be committed next, and has one message to take in and
to answer where it had two."""

WITHHELD_MAX: Final = 1024
"""Messages that wait for the disk: more than come within one sync, and few enough if it hangs. The oldest are lost."""


class Outbox:
    """Sends what the core wants sent: at once, but for two things.

    What could name a term or a vote that the node may forget waits until that is on disk. A core with asynchronous
    storage leaves that to whoever drives it; what is withheld waits for one sync.

    An append without entries waits a little for company. It goes at once to who waits for the last of what it says.

    Args:
        state: the hard state on disk.
        send: takes a message to `message.to`.

    Attributes:
        due: when `flush` has to look next; None if nothing waits for company.
    """

    def __init__(self, state: HardState, send: Callable[[Message], None]) -> None:
        self._send = send
        self._promised = state.term, state.vote
        self._promise: StorageAppend | None = None
        self._withheld: deque[Message] = deque(maxlen=WITHHELD_MAX)
        # By whom they are for, like what each waits to see committed.
        self._alone: dict[int, Message] = {}
        self._awaited: dict[int, int] = {}
        self._alone_until: float | None = None
        self.due: float | None = None

    def take(self, messages: Sequence[Message], append: StorageAppend | None) -> None:
        """Messages of one batch, and what it wants written. `flush` has to follow."""
        if append is not None and append.hard_state is not None:
            promised = append.hard_state.term, append.hard_state.vote
            if promised != self._promised:
                self._promised, self._promise = promised, append
        if self._promise is None:
            for message in messages:
                self._pass(message)
        else:
            self._withheld += messages

    @property
    def is_withholding(self) -> bool:
        """Whether all messages wait for the disk."""
        return self._promise is not None

    def stored(self, append: StorageAppend) -> bool:
        """That is durable, and all that was to be written before it. Whether messages waited for it."""
        if append is not self._promise:
            return False
        self._promise = None
        while self._withheld:
            self._send(self._withheld.popleft())
        return True

    def await_commit(self, node: int, index: int) -> None:
        """A node waits until it hears that the log is committed up to an index, higher than any before."""
        self._awaited[node] = index

    def flush(self, now: float) -> None:
        """Send what has waited for company long enough."""
        if not self._alone:
            self._alone_until = None
        elif self._alone_until is None:
            self._alone_until = now + COMPANY_S
        # Only a later look moves `due`, or a group at work would set its alarm anew with each message.
        if self.due is None or now >= self.due:
            if self._alone_until is not None and now >= self._alone_until:
                alone, self._alone, self._alone_until = self._alone, {}, None
                for message in alone.values():
                    self._send(message)
            self.due = self._alone_until

    def _pass(self, message: Message) -> None:
        alone = self._alone.pop(message.to, None)
        if message.kind is APPEND:  # which says all that an earlier one would
            is_awaited = message.commit >= self._awaited.get(message.to, message.commit + 1)
            if is_awaited:
                del self._awaited[message.to]
            elif not message.entries:
                self._alone[message.to] = message
                return
        elif alone is not None:
            self._send(alone)
        self._send(message)
