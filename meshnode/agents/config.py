"""What a user can set about agents."""

from dataclasses import dataclass

RECORD_BYTES_MAX = 12 * 2**20
"""What one turn may write, state and result together: a record crosses to the replicas in one frame of a link."""


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    """Times in seconds, sizes in bytes.

    Attributes:
        call_timeout_s: the deadline of a call whose caller gives none.
        mailbox_max: calls that wait for one agent; past it a caller is told to come back later.
        state_bytes_max: the largest state of an agent, up to `RECORD_BYTES_MAX`.
        idle_s: an agent's object is let go after this time without a call; its state stays.
        session_s: a caller's session is forgotten after this time without a call.
    """

    call_timeout_s: float = 30.0
    mailbox_max: int = 1024
    state_bytes_max: int = 8 * 2**20
    idle_s: float = 600.0
    session_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("call_timeout_s", "mailbox_max", "state_bytes_max", "idle_s", "session_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")
        if self.state_bytes_max > RECORD_BYTES_MAX:
            raise ValueError(f"state_bytes_max is {self.state_bytes_max}: choose up to {RECORD_BYTES_MAX}")
