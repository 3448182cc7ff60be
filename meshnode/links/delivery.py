"""What becomes of a message that arrived."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshnode import wire
from meshnode.identity import NodeId
from meshnode.links.frames import Channel
from meshnode.links.hello import Role
from meshnode.links.items import has_at_most

Handler = Callable[[NodeId, Any], None]

GUEST_CHANNELS = frozenset({Channel.CONTROL, Channel.CALLS})

GUEST_ITEMS_MAX = 4096
"""What a message of a guest may decode to: arguments and payloads are one byte string each, whatever their size."""


@dataclass(slots=True)
class LinkCounters:
    """What was dropped, since the start."""

    malformed: int = 0
    unknown_kind: int = 0
    forbidden: int = 0
    no_handler: int = 0
    connections_failed: int = 0
    connections_refused: int = 0
    connections_silent: int = 0
    messages_dropped: int = 0


class Delivery:
    """Decodes messages and hands each to the function registered for its channel."""

    def __init__(self, counters: LinkCounters) -> None:
        self._counters = counters
        self._handlers: dict[Channel, Handler] = {}

    def on(self, channel: Channel, handler: Handler) -> None:
        """Register the one function that takes a channel's messages."""
        assert channel not in self._handlers, channel
        self._handlers[channel] = handler

    def deliver(self, peer: NodeId, role: Role, channel: Channel, data: memoryview) -> None:
        """Hand a message over, or count why not."""
        if role is Role.GUEST and channel not in GUEST_CHANNELS:
            self._counters.forbidden += 1
            return
        if role is Role.GUEST and not has_at_most(GUEST_ITEMS_MAX, data):
            self._counters.malformed += 1
            return
        try:
            message = wire.decode(data)
        except wire.UnknownKind:
            self._counters.unknown_kind += 1
            return
        except wire.WireError:
            self._counters.malformed += 1
            return
        handler = self._handlers.get(channel)
        if handler is None:
            self._counters.no_handler += 1
        else:
            handler(peer, message)
