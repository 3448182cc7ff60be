"""How the nodes of a plan are set up."""

from consensus.config import LogConfig
from meshnode import NodeConfig
from meshnode.agents.config import AgentsConfig
from meshnode.identity import Address
from meshnode.links import LinksConfig
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.metadata.config import AllocatorConfig, GroupConfig, VotersConfig
from meshnode.partitions.config import PartitionsConfig
from meshnode.prediction import PredictionConfig
from simulations.plan import Plan

__all__ = ["DATA", "HEADER_BYTES", "PORT", "host_of", "settings_of"]

PORT = 7946

DATA = "data"


def host_of(number: int) -> str:
    """The address of a node's machine."""
    return f"10.0.0.{number + 1}"


def settings_of(plan: Plan, number: int, *, found: bool) -> NodeConfig:
    """Those of one node.

    Args:
        found: whether it founds the mesh, unless its disk belongs to one.
    """
    tempo, bounds = plan.tempo, plan.bounds
    return NodeConfig(
        name=f"n{number}",
        data=DATA,
        bind=Address(host_of(number), PORT),
        insecure=True,
        found=found,
        join=tuple(Address(host_of(other), PORT) for other in range(plan.nodes) if other != number),
        partitions=plan.partitions,
        replication=plan.replication,
        voters=bounds.voters,
        election_timeout_s=1.0 * tempo,
        links=LinksConfig(connections_max=bounds.connections_max),
        swim=SwimConfig(
            probe_interval_s=1.0 * tempo,
            probe_timeout_s=0.5 * tempo,
            gossip_interval_s=0.2 * tempo,
            datagram_bytes_max=bounds.datagram_bytes_max,
            indirect_probes=bounds.indirect_probes,
            gossip_peers=bounds.gossip_peers,
            retransmit_multiplier=bounds.retransmit_multiplier,
        ),
        group=GroupConfig(
            append_bytes_max=bounds.append_bytes_max,
            inflight_messages_max=bounds.inflight_messages_max,
            inflight_bytes_max=bounds.inflight_bytes_max,
            uncommitted_bytes_max=bounds.uncommitted_bytes_max,
            apply_bytes_max=bounds.apply_bytes_max,
        ),
        log=LogConfig(
            segment_bytes=bounds.log_segment_bytes,
            snapshot_log_bytes=bounds.log_snapshot_bytes,
            kept_log_bytes=bounds.log_kept_bytes,
        ),
        voting=VotersConfig(replacement_delay_s=8.0 * tempo, settle_s=15.0 * tempo),
        allocator=AllocatorConfig(replacement_delay_s=15.0 * tempo, moves_max=bounds.moves_max),
        partition=PartitionsConfig(
            confirm_interval_s=1.0 * tempo,
            lease_s=3.0 * tempo,
            resend_after_s=0.5 * tempo,
            uncommitted_bytes_max=bounds.partition_bytes_max,
            segment_bytes=bounds.segment_bytes,
            journal_bytes_max=bounds.journal_bytes_max,
        ),
        agents=AgentsConfig(
            mailbox_max=bounds.mailbox_max,
            state_bytes_max=bounds.state_bytes_max,
            idle_s=bounds.idle_s,
            session_s=bounds.session_s,
        ),
        prediction=PredictionConfig(device=f"n{number}"),
    )
