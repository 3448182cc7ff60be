"""Connections between nodes: one WebSocket (RFC 6455) a pair of nodes, dialled when there is something to send.

The contract:

1. `Links.send` queues a message for a peer and never waits. It answers False when the message is dropped: the queue is
   full, the peer was just found unreachable, or nobody knows its address.
2. Delivery is at most once and, while one connection lasts, in order within a channel. What was queued or in flight
   when a connection ends may be lost. Every protocol above repeats what matters.
3. All that is queued for a peer travels in one frame; a channel with much to send does not starve another.
4. A message that arrives is handed to the function registered for its channel, in the loop that runs the links. Bytes
   that are no message are counted and dropped; bytes that are no frame end the connection.
5. The end of a connection is reported once, when no other connection to that peer has taken its place.
6. A guest (an outside client, or a node that has yet to join) reaches the channels CONTROL and CALLS only.
"""

from meshnode.links.config import LinksConfig
from meshnode.links.frames import Channel
from meshnode.links.handshake import LinkRefused
from meshnode.links.hello import Hello, Role
from meshnode.links.links import Links
from meshnode.links.requests import LinkLost, Requests

__all__ = ["Channel", "Hello", "LinkLost", "LinkRefused", "Links", "LinksConfig", "Requests", "Role"]
