"""Messages on their way out."""

from collections.abc import Callable, Sequence

from consensus.messages import HardState, Message
from consensus.ready import StorageAppend


class Outbox:
    """Sends what the core wants sent: at once, unless it could name a term or a vote that the node may forget.

    A core with asynchronous storage leaves that to whoever drives it. What is withheld waits for one sync.

    Args:
        state: the hard state on disk.
        send: takes a message to `message.to`.
    """

    def __init__(self, state: HardState, send: Callable[[Message], None]) -> None:
        self._send = send
        self._promised = state.term, state.vote
        self._promise: StorageAppend | None = None
        # As many as come together within one sync.
        self._withheld: list[Message] = []

    def take(self, messages: Sequence[Message], append: StorageAppend | None) -> None:
        """Messages of one batch, and what it wants written."""
        if append is not None and append.hard_state is not None:
            promised = append.hard_state.term, append.hard_state.vote
            if promised != self._promised:
                self._promised, self._promise = promised, append
        if self._promise is None:
            for message in messages:
                self._send(message)
        else:
            self._withheld += messages

    def stored(self, append: StorageAppend) -> None:
        """That is durable, and all that was to be written before it."""
        if append is self._promise:
            withheld, self._promise, self._withheld = self._withheld, None, []
            for message in withheld:
                self._send(message)
