"""Connections between nodes: one WebSocket (RFC 6455) a pair of nodes, dialled when there is something to send.

The contract:

1. `Links.send` queues a message for a peer and never waits. It answers False when the message is dropped: the queue is
   full, the peer was just found unreachable, or nobody knows its address.
2. Delivery is at most once and, while one connection lasts, in order within a channel. What was queued or in flight
   when a connection ends may be lost. Every protocol above repeats what matters.
3. All that is queued for a peer travels in one frame, as far as it has room there. A channel with much to send does not
   starve another: the first message of each channel leaves with one of the next four frames.
4. A message that arrives is handed to the function registered for its channel, in the loop that runs the links. Bytes
   that are no message are counted and dropped; bytes that are no frame end the connection. Nothing that arrives ends
   more than the connection, and reading it leaves other tasks their turn.
5. The end of a connection is reported once, when no other connection to that peer has taken its place; so is a dial
   that failed, and the end of `Links.run`. What was queued is dropped then, and who waits for room is woken.
6. A connection on which nothing at all is heard for ``silent_s`` ends, and so does one to an earlier start of a node
   that has started again since. A side that has nothing to send lets the other one hear from it every ``idle_s``.
7. A guest (an outside client, or a node that has yet to join) reaches the channels CONTROL and CALLS only.
8. With a `Tls`, nothing is said or heard but over mutual TLS 1.3, of which the handshake is bounded like, and together
   with, the rest of it. Both sides are told of one that can't be: a link with a stranger, or with a side without TLS.
9. Outside of `Links.run`, `Links.send` answers False and `Links.connect` raises LinkRefused. A second run begins with
   no peers. `Links.introduce_as` ends every present connection, as in point 5.
"""

from meshnode.links.config import LinksConfig
from meshnode.links.frames import Channel
from meshnode.links.handshake import LinkRefused
from meshnode.links.hello import Hello, Role
from meshnode.links.links import Links
from meshnode.links.requests import LinkLost, Requests
from meshnode.links.tls import Tls

__all__ = ["Channel", "Hello", "LinkLost", "LinkRefused", "Links", "LinksConfig", "Requests", "Role", "Tls"]
