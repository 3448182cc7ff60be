"""What a user can set about the Raft group, and about placement in a running mesh."""

from dataclasses import dataclass, fields

VOTERS_DEFAULT = 5
VOTERS_CHOICES = (1, 3, 5, 7)
"""How many members of the Raft group may be wanted as voters: an even number could lose no more of them."""

COMMAND_BYTES_MAX = 2**17
"""Of the metadata's commands, the largest has 256 rows of up to seven replicas: some 80 KiB."""


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """How much of the Raft group's log is under way at a time; `consensus.config.RaftConfig` says what each means.

    Raises:
        ValueError: a bound is below 1, or has no room for the largest command.
    """

    append_bytes_max: int = 2**20
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 16 * 2**20
    uncommitted_bytes_max: int = 64 * 2**20
    apply_bytes_max: int = 4 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}: choose 1 or more")
        for name in ("append_bytes_max", "uncommitted_bytes_max"):
            if getattr(self, name) < COMMAND_BYTES_MAX:
                raise ValueError(f"{name} is {getattr(self, name)}: choose {COMMAND_BYTES_MAX} or more")


@dataclass(frozen=True, slots=True)
class AllocatorConfig:
    """Times in seconds.

    Attributes:
        settle_s: how long the members must stay the same before load is moved.
        replacement_delay_s: how long a failed node may be away before its replicas are made again elsewhere.
        stuck_after_s: a reachable node whose main loop is silent this long loses its partitions.
        stall_s: how long a takeover may take before another replica is named; doubles with each try.
        moves_max: partitions whose replicas are moved at one time.
    """

    settle_s: float = 1.0
    replacement_delay_s: float = 60.0
    stuck_after_s: float = 6.0
    stall_s: float = 3.0
    moves_max: int = 128

    def __post_init__(self) -> None:
        for name in ("settle_s", "replacement_delay_s", "stuck_after_s", "stall_s", "moves_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")


@dataclass(frozen=True, slots=True)
class VotersConfig:
    """Times in seconds.

    Attributes:
        replacement_delay_s: how long a voter may be gone before another one takes its place.
        settle_s: how long nothing must have changed before voters are spread better over the zones.
    """

    replacement_delay_s: float = 30.0
    settle_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("replacement_delay_s", "settle_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")
