"""What a user can set about links."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinksConfig:
    """Sizes in bytes, times in seconds.

    Attributes:
        frame_bytes_max: the largest frame that is accepted; it bounds a single message, such as an agent's state.
        queue_bytes_max: what may wait for one peer on one channel before `Links.send` refuses.
        handshake_timeout_s: how long a new connection may take until both sides know each other.
        backoff_min_s: the first pause after a dial that failed; it doubles, jittered, up to ``backoff_max_s``.
        connections_max: accepted connections at one time, guests included.
        idle_s: a side that has sent nothing for this long lets the other one hear that it is there.
        silent_s: a connection on which nothing at all was heard for this long is dead. It is compared with the other
            side's ``idle_s``, so both are to be the same on all nodes of a mesh.
    """

    frame_bytes_max: int = 16 * 2**20
    queue_bytes_max: int = 32 * 2**20
    handshake_timeout_s: float = 5.0
    backoff_min_s: float = 0.1
    backoff_max_s: float = 5.0
    connections_max: int = 4096
    idle_s: float = 5.0
    silent_s: float = 15.0

    def __post_init__(self) -> None:
        if not 2**16 <= self.frame_bytes_max <= 2**30:
            raise ValueError(f"frame_bytes_max is {self.frame_bytes_max}: choose 64 KiB to 1 GiB")
        if self.queue_bytes_max < 2 * self.frame_bytes_max:
            raise ValueError(
                f"queue_bytes_max is {self.queue_bytes_max}: a queue that is less than half full must have room for "
                f"any message, so choose 2 × or more of frame_bytes_max ({self.frame_bytes_max})"
            )
        if not 0 < self.backoff_min_s <= self.backoff_max_s:
            raise ValueError(f"backoff_min_s is {self.backoff_min_s}: choose above 0, up to backoff_max_s")
        if self.handshake_timeout_s <= 0 or self.connections_max < 1:
            raise ValueError("handshake_timeout_s and connections_max must be above 0")
        if not 0 < 2 * self.idle_s <= self.silent_s:
            raise ValueError(
                f"silent_s is {self.silent_s}: choose 2 × or more of idle_s ({self.idle_s}), which is above 0, so that "
                "a sign of life that comes late ends no connection"
            )
