"""What a user may set about membership."""

import math
from dataclasses import dataclass

from meshnode.membership.messages import UPDATES_OVERHEAD_BYTES

HEADER_BYTES = 16
"""What `datagram` puts before each message: the mesh id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimConfig:
    """Settings of the membership protocol; the same on all nodes of a mesh.

    Attributes:
        probe_interval_s: each node probes one other this often; the protocol period of SWIM.
        probe_timeout_s: how long a direct probe waits before others are asked to probe too; less than the interval.
        indirect_probes: how many others are asked.
        suspicion_multiplier: a suspect has this many intervals, times log10 of the members, to refute.
        retransmit_multiplier: each node repeats an update this often, times log10 of the members.
        gossip_interval_s: while there are updates to spread, they leave this often without waiting for a probe.
        gossip_peers: and to this many members each time.
        datagram_bytes_max: the largest datagram sent or taken. The default passes any path of the common 1,500 bytes.
        sync_interval_s: each node compares its whole list with another's this often.
        rejoin_interval_s: each node knocks at a dead member this often, and some at a seed, so that a partition that
            has healed is noticed.
        dead_retention_s: how long the dead and the departed are remembered, to know stale gossip about them as stale.

    Raises:
        ValueError: a value is out of its range.
    """

    probe_interval_s: float = 1.0
    probe_timeout_s: float = 0.5
    indirect_probes: int = 3
    suspicion_multiplier: float = 3.0
    retransmit_multiplier: int = 4
    gossip_interval_s: float = 0.2
    gossip_peers: int = 3
    datagram_bytes_max: int = 1400
    sync_interval_s: float = 30.0
    rejoin_interval_s: float = 15.0
    dead_retention_s: float = 86_400.0

    def __post_init__(self) -> None:
        self._check("probe_interval_s", self.probe_interval_s, 0.01, 60.0)
        self._check("probe_timeout_s", self.probe_timeout_s, 0.001, 60.0)
        if self.probe_timeout_s >= self.probe_interval_s:
            raise ValueError(
                f"probe_timeout_s = {self.probe_timeout_s} leaves no time for indirect probes: "
                f"choose less than probe_interval_s = {self.probe_interval_s}"
            )
        self._check("indirect_probes", self.indirect_probes, 0, 16)
        self._check("suspicion_multiplier", self.suspicion_multiplier, 1.0, 100.0)
        self._check("retransmit_multiplier", self.retransmit_multiplier, 1, 16)
        self._check("gossip_interval_s", self.gossip_interval_s, 0.001, 60.0)
        self._check("gossip_peers", self.gossip_peers, 1, 16)
        # From the smallest datagram that every IPv6 path takes (RFC 8200, section 5) to the largest there is.
        self._check("datagram_bytes_max", self.datagram_bytes_max, 1232, 65_507)
        self._check("sync_interval_s", self.sync_interval_s, 0.01, 3600.0)
        self._check("rejoin_interval_s", self.rejoin_interval_s, 0.01, 3600.0)
        self._check("dead_retention_s", self.dead_retention_s, self.sync_interval_s, 30 * 86_400.0)

    def _check(self, field: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"{field} = {value}: expected {low:g} … {high:g}")

    @property
    def updates_bytes_max(self) -> int:
        """How many bytes of records fit in one message."""
        return self.datagram_bytes_max - HEADER_BYTES - UPDATES_OVERHEAD_BYTES

    def suspicion_s(self, members: int) -> float:
        """How long a suspect has to refute, in a mesh of so many live members (SWIM 4.2)."""
        return self.suspicion_multiplier * self.probe_interval_s * max(1.0, math.log10(members))

    def transmit_limit(self, members: int) -> int:
        """How often a node repeats an update, in a mesh of so many live members (SWIM 4.1)."""
        return self.retransmit_multiplier * math.ceil(math.log10(members + 1))
