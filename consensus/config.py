"""What an operator or an embedder may decide about a node of the group."""

from dataclasses import dataclass

from consensus.messages import NODE_ID_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """A node's settings. Times are in the unit of the `now` that the core is given: seconds, in production.

    Attributes:
        id: this node, 1 … 2**63 - 1.
        election_timeout_s: without a word from a leader for this long to twice as long, stand for election. Also the
            time within which a leader must hear from a quorum.
        heartbeat_interval_s: how often a leader lets its followers know.
        pre_vote: ask first whether an election could be won, so that a node that was cut off disturbs nobody when it
            comes back (thesis 9.6).
        check_quorum: a leader that hears from no quorum steps down, and who hears from a leader grants no vote
            (thesis 6.2 and 4.2.3).
        step_down_on_removal: a leader that is removed, or becomes a learner, becomes a follower once that is applied.
        commit_in_refusals: who refuses a vote says what is committed. A leader that removes itself may be gone before
            anyone hears that the removal is committed. Those who stay would then still need the votes of removed nodes,
            whose logs may be longer and who refuse.
        lease_reads: the leader answers reads on the strength of its lease, without asking; see `consensus.reads` for
            what that relies on. All nodes of a group must agree on it.
        clock_error_max: by which share a clock may run too fast or too slow. Leases are shorter for it.
        check_changes: a leader refuses a configuration change while an earlier one may be unapplied. Safety depends
            on it: switch it off only where the application keeps that order itself.
        async_storage: hand out work for storage threads, any number of batches at a time, in place of one batch that
            has to be advanced. `consensus.driver` switches it on; the plain cycle asks less of who drives a core alone.
        append_bytes_max: entry data in one append. An entry that is larger goes alone.
        inflight_messages_max: appends sent ahead of a follower's answers.
        inflight_bytes_max: entry data sent ahead of a follower's answers.
        uncommitted_bytes_max: entry data that a leader takes on before it is committed. Beyond it, `Overloaded`.
        apply_bytes_max: entry data handed out for application in one batch. An entry that is larger comes alone.
    """

    id: int
    election_timeout_s: float = 1.0
    heartbeat_interval_s: float = 0.1
    pre_vote: bool = True
    check_quorum: bool = True
    step_down_on_removal: bool = True
    commit_in_refusals: bool = True
    lease_reads: bool = False
    clock_error_max: float = 0.05
    check_changes: bool = True
    async_storage: bool = False
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 16 << 20
    uncommitted_bytes_max: int = 64 << 20
    apply_bytes_max: int = 4 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.id <= NODE_ID_MAX:
            raise ValueError(f"id is {self.id}: a node id is a number from 1 to 2**63 - 1")
        if not 0 < self.heartbeat_interval_s < self.election_timeout_s:
            raise ValueError(
                f"heartbeat_interval_s is {self.heartbeat_interval_s} and election_timeout_s is"
                f" {self.election_timeout_s}: several heartbeats must fit into an election timeout, a tenth is usual"
            )
        bounds = {
            "append_bytes_max": self.append_bytes_max,
            "inflight_messages_max": self.inflight_messages_max,
            "inflight_bytes_max": self.inflight_bytes_max,
            "uncommitted_bytes_max": self.uncommitted_bytes_max,
            "apply_bytes_max": self.apply_bytes_max,
        }
        for name, value in bounds.items():
            if value < 1:
                raise ValueError(f"{name} is {value}: it must be at least 1, or nothing could ever be sent")
        if not 0 <= self.clock_error_max < 1:
            raise ValueError(f"clock_error_max is {self.clock_error_max}: choose a share from 0 to below 1, as 0.05")
        if self.lease_reads and not self.check_quorum:
            raise ValueError("lease_reads is on and check_quorum is off: without it, a leader has no lease to read on")

    @property
    def lease_s(self) -> float:
        """How long after it sent a round that a quorum answered, by its own clock, a leader may rely on it.

        A follower grants no vote for ``election_timeout_s`` of its clock, which at worst is fast while the leader's is
        slow.
        """
        return self.election_timeout_s * (1 - self.clock_error_max) / (1 + self.clock_error_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How a log is kept on disk.

    Attributes:
        segment_bytes: how large one of its files may become before the next one begins.
        cache_bytes: the latest entries that are kept in memory.
        snapshot_log_bytes: a snapshot is taken when the log has grown by this much since the last one, and by as much
            as that one has.
        kept_log_bytes: how much of the log stays behind a snapshot, at the least and if there is so much: a follower
            that is no further behind is sent entries, and not the whole state.
    """

    segment_bytes: int = 64 << 20
    cache_bytes: int = 16 << 20
    snapshot_log_bytes: int = 16 << 20
    kept_log_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        for name, value in (
            ("segment_bytes", self.segment_bytes),
            ("cache_bytes", self.cache_bytes),
            ("snapshot_log_bytes", self.snapshot_log_bytes),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}: choose at least 1 byte, and better megabytes")
        if self.kept_log_bytes < 0:
            raise ValueError(f"kept_log_bytes is {self.kept_log_bytes}: choose 0 or more")
