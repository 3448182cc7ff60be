"""What a user can set about partitions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionsConfig:
    """Times in seconds, sizes in bytes.

    Attributes:
        confirm_interval_s: how often a primary asks its replicas whether its epoch still holds.
        lease_s: for how long such an answer lets a primary start turns.
        resend_after_s: when to repeat what a replica has not answered. Parts of a state wait twice as long each time.
        uncommitted_bytes_max: past this size of what waits for its majority in one partition, no turn starts there.
            Turns that run by then still end, so that one record for each agent in a turn may come on top.
        segment_bytes: the journal starts a new file past this size.
        journal_bytes_max: past this size, or past twice that of everything kept where that is more, the journal copies
            the live part of its oldest file and deletes it. What is written meanwhile, and a file, come on top.
    """

    confirm_interval_s: float = 1.0
    lease_s: float = 3.0
    resend_after_s: float = 0.5
    uncommitted_bytes_max: int = 16 * 2**20
    segment_bytes: int = 64 * 2**20
    journal_bytes_max: int = 512 * 2**20

    def __post_init__(self) -> None:
        for name in ("confirm_interval_s", "lease_s", "resend_after_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")
        if self.lease_s < 2 * self.confirm_interval_s:
            raise ValueError(
                f"lease_s is {self.lease_s}: one lost answer must not end it, so choose 2 × or more "
                f"of confirm_interval_s ({self.confirm_interval_s})"
            )
        if self.uncommitted_bytes_max < 2**16:
            raise ValueError(f"uncommitted_bytes_max is {self.uncommitted_bytes_max}: choose 64 KiB or more")
        if self.segment_bytes < 2**12 or self.journal_bytes_max < 2 * self.segment_bytes:
            raise ValueError("choose segment_bytes of 4 KiB or more, and journal_bytes_max of two segments or more")
