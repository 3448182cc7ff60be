"""Draws plans: each run has a few kinds of faults, at rates of its own, and sizes that are not the usual ones.

A run in which everything may happen rarely gets far into anything; a random subset with random rates reaches states
that neither a mild nor a wild mixture does (Groce, Zhang, Eide, Chen, Regehr, "Swarm testing", 2012).
"""

import random
from collections.abc import Iterable
from dataclasses import replace

from meshnode.metadata.config import COMMAND_BYTES_MAX
from simulations.mesh.drawing import Draw, Drawing
from simulations.mesh.link_draws import LINK_KINDS
from simulations.mesh.machine_draws import DESTROYING, MACHINE_KINDS
from simulations.mesh.process_draws import PROCESS_KINDS
from simulations.plan import Bounds, Faults, Plan

__all__ = ["DESTROYING", "KINDS", "KINDS_MAX", "draw_plan"]

KINDS: dict[str, Draw] = {**LINK_KINDS, **PROCESS_KINDS, **MACHINE_KINDS}
"""Kinds of faults by the names under which they are asked for."""

KINDS_MAX = 8
"""In one plan."""

KINDS_TRIED_TOGETHER_MIN = 4
"""A choice of fewer kinds is never left without any."""


def _has_effect(kind: str, workload: str) -> bool:
    """Whether there is anything in the workload that the fault could strike."""
    is_own = ":" in workload
    return (kind != "outside" or is_own) and (kind != "bad-devices" or is_own or workload == "predict")


def draw_plan(
    seed: int,
    *,
    nodes: int = 5,
    duration_s: float = 30.0,
    kinds: Iterable[str] = KINDS,
    workload: str = "counter",
    app: tuple[str, ...] = (),
    calls_per_s: float = 20.0,
) -> Plan:
    """The plan of a seed: a random subset of these kinds of faults, and other sizes each time."""
    rng = random.Random(f"plan {seed}")
    drawing = Drawing(rng, nodes, duration_s)
    replication = min(nodes, rng.choice((3, 3, 3, 2, 5)))
    present = _subset(rng, [kind for kind in kinds if _has_effect(kind, workload)])
    if replication < 3:  # the loss of one copy for good is the loss of a majority
        present = [kind for kind in present if kind not in DESTROYING]
    found: dict[str, object] = {}
    for kind in present:
        for name, value in KINDS[kind](drawing).items():
            before = found.get(name)
            found[name] = before + value if isinstance(before, tuple) and isinstance(value, tuple) else value
    return Plan(
        seed=seed,
        nodes=nodes,
        clients=rng.randint(1, 5),
        duration_s=duration_s,
        workload=workload,
        app=app,
        keys=rng.choice((1, 3, 8, 20)),
        calls_per_s=calls_per_s,
        partitions=rng.choice((1, 4, 16)),
        replication=replication,
        tempo=rng.choice((1.0, 1.0, 0.5, 0.25)),
        bounds=_bounds(rng),
        atlas="no-atlas" not in present,
        faults=Faults(**found),  # type: ignore[arg-type]
    )


def _subset(rng: random.Random, kinds: list[str]) -> list[str]:
    fewest = 0 if len(kinds) >= KINDS_TRIED_TOGETHER_MIN else min(1, len(kinds))
    chosen = set(rng.sample(kinds, rng.randint(fewest, min(len(kinds), KINDS_MAX))))
    return [kind for kind in kinds if kind in chosen]


def _bounds(rng: random.Random) -> Bounds:
    """Each often the usual one, and sometimes so small that something runs into it."""
    usual = Bounds()
    if rng.random() < 0.3:
        return usual
    segment_bytes = rng.choice((2**13, usual.segment_bytes))  # many files, so that copies and deletions come often
    bounds = Bounds(
        segment_bytes=segment_bytes,
        journal_bytes_max=rng.choice((2 * segment_bytes, usual.journal_bytes_max)),
        partition_bytes_max=rng.choice((2**16, usual.partition_bytes_max)),
        moves_max=rng.choice((1, 4, usual.moves_max)),
        mailbox_max=rng.choice((1, 8, usual.mailbox_max)),
        state_bytes_max=rng.choice((2**20, usual.state_bytes_max)),
        idle_s=rng.choice((0.1, 0.5, 5.0, usual.idle_s)),
        session_s=rng.choice((1.0, 5.0, 20.0, usual.session_s)),
        append_bytes_max=rng.choice((COMMAND_BYTES_MAX, usual.append_bytes_max)),
        inflight_messages_max=rng.choice((1, 4, usual.inflight_messages_max)),
        inflight_bytes_max=rng.choice((1000, usual.inflight_bytes_max)),
        uncommitted_bytes_max=rng.choice((COMMAND_BYTES_MAX, usual.uncommitted_bytes_max)),
        apply_bytes_max=rng.choice((1, 500, usual.apply_bytes_max)),
        datagram_bytes_max=rng.choice((1232, usual.datagram_bytes_max, 8000)),
        indirect_probes=rng.choice((0, 1, usual.indirect_probes)),
        gossip_peers=rng.choice((1, usual.gossip_peers)),
        retransmit_multiplier=rng.choice((2, usual.retransmit_multiplier)),
        connections_max=rng.choice((64, usual.connections_max)),
        voters=rng.choice((3, usual.voters)),
    )
    return _with_snapshots(random.Random(f"raft log {bounds}"), bounds)


def _with_snapshots(rng: random.Random, bounds: Bounds) -> Bounds:
    """Small files of the Raft log and snapshots after a few entries, in half of these runs."""
    if rng.random() < 0.5:
        return bounds
    return replace(
        bounds,
        log_segment_bytes=rng.choice((1000, 20_000)),
        log_snapshot_bytes=rng.choice((1000, 20_000)),
        log_kept_bytes=rng.choice((0, 0, 5000)),
    )
