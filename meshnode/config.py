"""All that a user can set about a node, composed of the rooms' own settings."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from consensus.config import LogConfig
from meshnode.agents.config import RECORD_BYTES_MAX, AgentsConfig
from meshnode.identity import Address, check_address, check_text
from meshnode.links.config import LinksConfig
from meshnode.membership.config import SwimConfig
from meshnode.metadata.commands import WEIGHT_MAX
from meshnode.metadata.config import (
    VOTERS_CHOICES,
    VOTERS_DEFAULT,
    AllocatorConfig,
    GroupConfig,
    VotersConfig,
)
from meshnode.partitions.config import PartitionsConfig
from meshnode.placement import PARTITIONS_DEFAULT, REPLICATION_DEFAULT, check_partitions
from meshnode.prediction.config import PredictionConfig

PORT_DEFAULT = 7946

FRAME_BYTES_MIN = RECORD_BYTES_MAX + 2**20
"""A record of an agent crosses in one frame, with what is said about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node.

    Attributes:
        name: for people; no other live node of the mesh may have it.
        data: the data directory, of this node alone; made if absent.
        bind: where to listen, for datagrams and streams alike. Port 0 takes a free one.
        advertise: where others reach this node; ``bind`` if None.
        found: found a new mesh, unless the data directory belongs to one already. Exactly one node does.
        join: addresses of members, any of which lets this node in.
        app: names of modules whose agents this node offers.
        insecure: datagrams are not sealed yet: without this, only loopback addresses are accepted.
        weight: capacity relative to other nodes.
        zone: what fails together with this node.
        partitions, replication: fixed when the mesh is founded; ignored otherwise.
        voters: how many nodes are to vote in the Raft group, if there are as many; as those.
        election_timeout_s: a leader of the Raft group that is silent for one to two times this is replaced.

    Raises:
        ValueError: a value is out of its range, or the address is not loopback and ``insecure`` is not set.
    """

    name: str
    data: str
    bind: Address = Address("127.0.0.1", PORT_DEFAULT)
    advertise: Address | None = None
    found: bool = False
    join: Sequence[Address] = ()
    app: Sequence[str] = ()
    insecure: bool = False
    weight: int = 1
    zone: str = ""
    partitions: int = PARTITIONS_DEFAULT
    replication: int = REPLICATION_DEFAULT
    voters: int = VOTERS_DEFAULT
    election_timeout_s: float = 1.0
    links: LinksConfig = field(default_factory=LinksConfig)
    swim: SwimConfig = field(default_factory=SwimConfig)
    group: GroupConfig = field(default_factory=GroupConfig)
    log: LogConfig = field(default_factory=LogConfig)
    voting: VotersConfig = field(default_factory=VotersConfig)
    allocator: AllocatorConfig = field(default_factory=AllocatorConfig)
    partition: PartitionsConfig = field(default_factory=PartitionsConfig)
    agents: AgentsConfig = field(default_factory=AgentsConfig)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise ValueError(f"name {self.name!r}: choose 1 to 255 printable bytes, as in --name a")
        check_partitions(self.partitions)
        if not 1 <= self.replication <= 7:
            raise ValueError(f"replication is {self.replication}: choose 1 to 7")
        if self.voters not in VOTERS_CHOICES:
            raise ValueError(f"voters is {self.voters}: choose 1, 3, 5 or 7")
        if not 1 <= self.weight <= WEIGHT_MAX:
            raise ValueError(f"weight is {self.weight}: choose 1 to {WEIGHT_MAX}")
        if self.election_timeout_s <= 0:
            raise ValueError(f"election_timeout_s is {self.election_timeout_s}: choose above 0")
        if self.links.frame_bytes_max < FRAME_BYTES_MIN:
            raise ValueError(f"links.frame_bytes_max is {self.links.frame_bytes_max}: choose {FRAME_BYTES_MIN} or more")
        for address in (self.bind, self.advertise):
            if address is not None:
                _check_host(address, insecure=self.insecure)
        check_text("name", self.name)
        check_text("zone", self.zone)
        if self.advertise is not None:
            check_address(replace(self.advertise, port=self.advertise.port or 1))  # port 0 is the one that is bound
        if ipaddress.ip_address(self.bind.host).is_unspecified and self.advertise is None:
            raise ValueError(f"bind is {self.bind}, which nobody can dial: set advertise to this node's address")


def _check_host(address: Address, *, insecure: bool) -> None:
    try:
        host = ipaddress.ip_address(address.host)
    except ValueError:
        raise ValueError(f"{address}: give an IP address; names are not resolved") from None
    if not host.is_loopback and not insecure:
        raise ValueError(
            f"{address} is not a loopback address, and datagrams are not sealed yet, nor links without TLS: whoever "
            "reaches the port controls the node. Give --insecure if the network keeps strangers out"
        )
