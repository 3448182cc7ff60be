"""Messages that have come and were not looked at yet."""

from collections import deque
from collections.abc import Iterator
from typing import Final

from consensus.log import data_bytes
from consensus.messages import Message

MESSAGES_MAX: Final = 4096
"""Several round trips of a busy group. What does not fit is dropped, and Raft sends it again."""
BYTES_MAX: Final = 64 << 20
"""Entry data: what one leader may send ahead of this node's answers, and more."""


class Inbox:
    """One node's.

    Attributes:
        dropped: how many did not fit.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self.dropped = 0

    def put(self, message: Message) -> bool:
        """Keep a message. False, and it is dropped, if there is no room."""
        size = data_bytes(message.entries)
        if len(self._messages) >= MESSAGES_MAX or self._bytes + size > BYTES_MAX:
            self.dropped += 1
            return False
        self._messages.append(message)
        self._bytes += size
        return True

    def take_all(self) -> Iterator[Message]:
        """What has come, in its order; it is out of the inbox as it is taken."""
        while self._messages:
            yield self._messages.popleft()
        self._bytes = 0
