"""Runs drawn from a seed: which faults there are at all, how many and how bad, and how small timeouts and batches.

Runs in which everything goes wrong a little are all alike. Where each kind of fault is there or not at all, some seed
has just the two that a mistake needs (Groce et al., "Swarm Testing", 2012).
"""

import functools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshnode.membership.config import SwimConfig
from meshnode.metadata.config import AllocatorConfig
from meshnode.partitions.config import PartitionsConfig
from simulations.cores.faults import ClockRate, CoreFaults, Crash, Cut, Leave, LinkQuality, Pause, Slow
from simulations.cores.partition_echoes import NODES, quiet
from simulations.cores.partition_world import PartitionSettings, PartitionWorkload
from simulations.cores.placement_settings import PlacementSettings, PlacementWorkload
from simulations.cores.plans import CORE_KINDS, CorePlan, PartitionsPlan, PlacementPlan, RaftPlan, SwimPlan, only
from simulations.cores.raft_draws import with_losses, with_reads, with_snapshots, with_threads
from simulations.cores.raft_process import RaftSettings
from simulations.cores.raft_world import RaftWorkload
from simulations.cores.report import Report
from simulations.disk import DiskFaults

EFFECTS_MAX = 12
"""How many effects a process that is to die between two of them still performs: those of a batch of a busy node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a drawn run is to be like. Whatever is left open is drawn, from the same numbers as without a wish.

    Attributes:
        nodes: how many.
        duration_s: for how long there are faults.
        kinds: those of `CORE_KINDS` that there may be.
    """

    nodes: int | None = None
    duration_s: float | None = None
    kinds: frozenset[str] = frozenset(CORE_KINDS)

    def of_nodes(self, drawn: int) -> int:
        """How many nodes there are."""
        return drawn if self.nodes is None else self.nodes

    def of_duration_s(self, drawn_s: float) -> float:
        """How long faults go on."""
        return drawn_s if self.duration_s is None else self.duration_s

    def of_isolations(self, drawn_per_s: float) -> float:
        """How many isolations there are."""
        return drawn_per_s if "isolations" in self.kinds else 0.0

    def of_restarts(self, drawn_per_s: float) -> float:
        """How many restarts there are beside those that are planned."""
        return drawn_per_s if "crashes" in self.kinds else 0.0

    def of_disks(self, drawn: DiskFaults) -> DiskFaults:
        """How disks fail, beside what a power loss does to any."""
        return drawn if "bad-disks" in self.kinds else DiskFaults(in_order=drawn.in_order)


ANY = Wish()
"""Everything is drawn."""


class _Draws:
    """One generator for one run's plan: every kind of fault is on in about half of the runs."""

    def __init__(self, rng: random.Random, *, nodes: Sequence[int], duration_s: float, scale_s: float) -> None:
        self.rng = rng
        self.nodes = nodes
        self.duration_s = duration_s
        self.scale_s = scale_s

    def is_on(self, share: float = 0.5) -> bool:
        """Whether a kind of fault is there at all."""
        return self.rng.random() < share

    def span_s(self, shortest: float = 0.05, longest: float = 4.0) -> float:
        """A time: as often a fraction of the world's timeout as a multiple of it."""
        return self.scale_s * math.exp(self.rng.uniform(math.log(shortest), math.log(longest)))

    def at_s(self) -> float:
        """When something happens."""
        return self.rng.uniform(0.0, self.duration_s)

    def times(self, most: int) -> range:
        """How often."""
        return range(self.rng.randint(1, most))

    def group(self) -> frozenset[int]:
        """Some of the nodes, often one or half of them."""
        most = max(len(self.nodes) - 1, 1)
        count = self.rng.choice((1, 1, len(self.nodes) // 2, self.rng.randint(1, most)))
        return frozenset(self.rng.sample(list(self.nodes), max(1, min(count, most))))

    def quality(self) -> LinkQuality:
        """Links that are bad in some ways."""
        rng = self.rng
        return LinkQuality(
            delay_s=rng.choice((0.0001, 0.0005, 0.02 * self.scale_s)),
            jitter_s=rng.choice((0.0, 0.0095, 0.1 * self.scale_s, 0.5 * self.scale_s)),
            late=rng.choice((0.0, 0.02, 0.2)),
            late_s=self.span_s(0.1, 2.0),
            loss=rng.choice((0.0, 0.02, 0.1, 0.4)),
            duplicate=rng.choice((0.0, 0.02, 0.2)),
        )

    def cut(self) -> Cut:
        """Two groups that do not hear each other; a third may hear both."""
        rng = self.rng
        senders = self.group()
        others = frozenset(self.nodes) - senders
        receivers = others
        if len(others) > 1 and rng.random() < 0.3:
            receivers = frozenset(rng.sample(sorted(others), len(others) - 1))
        flap_s = self.span_s(0.05, 1.0) if rng.random() < 0.2 else 0.0
        for_s = self.span_s(0.2, 6.0)
        return Cut(senders, receivers, self.at_s(), for_s, both_ways=rng.random() < 0.7, flap_s=flap_s)

    def crash(self) -> Crash:
        """A process that dies, and comes back."""
        rng = self.rng
        effects = rng.choice((0, rng.randint(1, EFFECTS_MAX)))
        return Crash(rng.choice(self.nodes), self.at_s(), self.span_s(), effects=effects, power=rng.random() < 0.6)

    def faults(self, *, leaves: bool = False, ordered: bool = False) -> CoreFaults:
        """All faults of a run."""
        rng = self.rng
        is_ordered = ordered and rng.random() < 0.5
        quality = self.quality() if self.is_on() else LinkQuality()
        if is_ordered:
            quality = LinkQuality(
                delay_s=quality.delay_s, jitter_s=quality.jitter_s, late=quality.late, late_s=quality.late_s
            )
        crashes = [self.crash() for _ in self.times(8)] if self.is_on(0.7) else []
        if self.is_on(0.2):
            at_s, for_s = self.at_s(), self.span_s()
            crashes += [Crash(node, at_s, for_s) for node in sorted(self.group())]
        pauses = [Pause(rng.choice(self.nodes), self.at_s(), self.span_s()) for _ in self.times(4)]
        slow = [Slow(rng.choice(self.nodes), self.quality(), self.at_s(), self.span_s(0.5, 8.0)) for _ in self.times(2)]
        leavers = [Leave(rng.choice(self.nodes), self.at_s(), self.span_s()) for _ in self.times(3)]
        clocks = [ClockRate(node, rng.uniform(0.8, 1.25)) for node in self.nodes]
        return CoreFaults(
            quality=quality,
            sync_s=(0.0005, rng.choice((0.002, 0.02 * self.scale_s, 0.3 * self.scale_s))),
            ordered=is_ordered,
            calm_s=self.duration_s,
            cuts=tuple(self.cut() for _ in self.times(6)) if self.is_on() else (),
            slow=tuple(slow) if self.is_on(0.3) else (),
            crashes=tuple(crashes),
            pauses=tuple(pauses) if self.is_on(0.4) else (),
            leaves=tuple(leavers) if leaves and self.is_on(0.4) else (),
            clocks=tuple(clocks) if self.is_on(0.2) else (),
        )


def draw_swim(seed: int, wish: Wish = ANY) -> SwimPlan:
    """One run of a small mesh."""
    rng = random.Random(f"swarm swim {seed}")
    nodes = rng.choice((2, 3, 5, 5, 8, 8, 13))
    if random.Random(f"swarm swim size {seed}").random() < 0.03:
        nodes = 48  # so many that what spreads by gossip is known long before everyone could find it out alone
    nodes = wish.of_nodes(nodes)
    scale = rng.choice((1.0, 1.0, 0.2))
    config = SwimConfig(
        probe_interval_s=1.0 * scale,
        probe_timeout_s=rng.choice((0.2, 0.5, 0.8)) * scale,
        indirect_probes=rng.choice((0, 1, 3)),
        suspicion_multiplier=rng.choice((1.0, 3.0, 5.0)),
        retransmit_multiplier=rng.choice((1, 4)),
        gossip_interval_s=rng.choice((0.1, 0.2, 0.5)) * scale,
        gossip_peers=rng.choice((1, 3)),
        datagram_bytes_max=rng.choice((1232, 1400)),
        sync_interval_s=rng.choice((5.0, 30.0)) * scale,
        rejoin_interval_s=rng.choice((2.0, 15.0)) * scale,
    )
    duration_s = wish.of_duration_s(rng.choice((20.0, 40.0)) * scale)
    draws = _Draws(rng, nodes=range(nodes), duration_s=duration_s, scale_s=3.0 * scale)
    faults = only(draws.faults(leaves=True), wish.kinds)
    return SwimPlan(seed=seed, nodes=nodes, duration_s=duration_s, config=config, faults=faults)


def draw_raft(seed: int, wish: Wish = ANY) -> RaftPlan:
    """One run of a group."""
    rng = random.Random(f"swarm raft {seed}")
    members = wish.of_nodes(rng.choice((1, 2, 3, 3, 3, 4, 5, 5)))
    has_changes = rng.random() < 0.4
    workload = RaftWorkload(
        members=members,
        founders=rng.randint(1, members) if has_changes else members,
        proposals_per_s=rng.choice((1.0, 4.0, 16.0)),
        changes_per_s=rng.choice((0.3, 1.0, 3.0)) if has_changes else 0.0,
        single_share=rng.choice((0.9, 0.5, 0.1)),
        transfers_per_s=rng.choice((0.0, 0.0, 0.3)),
        campaigns_per_s=rng.choice((0.0, 0.3, 1.5)),
        isolations_per_s=wish.of_isolations(rng.choice((0.0, 0.3, 1.0))),
    )
    # Without these protections, a member that was removed and does not know it may stand for election for ever, and
    # those that still listen to it never return to their leader (thesis 4.2.3): nothing unsafe, but no recovery either.
    is_protected = rng.random() < 0.5 or has_changes
    settings = RaftSettings(
        heartbeat_interval_s=rng.choice((0.1, 0.3, 0.45)),
        pre_vote=is_protected,
        check_quorum=is_protected,
        append_bytes_max=rng.choice((8, 1 << 20)),
        inflight_messages_max=rng.choice((1, 4, 256)),
        apply_bytes_max=rng.choice((1, 1 << 20)),
        is_eager=rng.random() < 0.5,
    )
    duration_s = wish.of_duration_s(rng.choice((6.0, 12.0)))
    storm = random.Random(f"swarm raft storm {seed}")
    is_storm = storm.random() < 0.4
    if is_storm:
        members = wish.of_nodes(storm.choice((3, 4, 5, 5)))
        workload = replace(
            workload,
            members=members,
            founders=storm.randint(min(2, members), members) if has_changes else members,
            campaigns_per_s=storm.choice((1.5, 4.0)),
            transfers_per_s=storm.choice((0.0, 0.5, 2.0)),
            isolations_per_s=wish.of_isolations(storm.choice((0.3, 1.5))),
        )
        is_eager = storm.random() < 0.7
        is_protected = has_changes or storm.random() < 0.4
        settings = replace(settings, is_eager=is_eager, pre_vote=is_protected, check_quorum=is_protected)
    draws = _Draws(rng, nodes=range(1, members + 1), duration_s=duration_s, scale_s=1.0)
    faults = draws.faults(ordered=True)
    if is_storm and storm.random() < 0.7:
        # One election after the other, with answers that come when theirs is long over.
        quality = replace(faults.quality, late=storm.choice((0.1, 0.3)), late_s=storm.choice((1.0, 3.0)), duplicate=0.1)
        faults = replace(faults, quality=quality, ordered=False, sync_s=(0.0005, storm.choice((0.02, 0.3))))
    disk_faults = DiskFaults(
        in_order=rng.random() < 0.5,
        torn_sector_rate=rng.choice((0.0, 0.3)),
        sync_error_rate=rng.choice((0.0, 0.0, 0.0, 0.02, 0.1)),
        bit_rot_rate=rng.choice((0.0, 0.0, 0.0, 0.3)),
    )
    settings, workload, faults = with_reads(seed, settings, workload, faults)
    settings, disk_faults = with_threads(seed, settings), with_losses(seed, disk_faults)
    settings = with_snapshots(seed, settings)
    return RaftPlan(
        seed=seed,
        duration_s=duration_s,
        settings=settings,
        workload=workload,
        disk_faults=wish.of_disks(disk_faults),
        faults=only(faults, wish.kinds),
    )


def draw_partitions(seed: int, wish: Wish = ANY) -> PartitionsPlan:
    """One run of several partitions."""
    rng = random.Random(f"swarm partitions {seed}")
    nodes = wish.of_nodes(rng.choice((1, 2, 3, 3, 4, 5)))
    scale = rng.choice((1.0, 1.0, 0.3))
    stall_s = rng.choice((0.5, 2.0)) * scale
    settings = PartitionSettings(
        partitions=PartitionsConfig(
            confirm_interval_s=rng.choice((0.3, 1.0)) * scale,
            lease_s=3.0 * scale,
            resend_after_s=rng.choice((0.1, 0.5)) * scale,
        ),
        allocator=AllocatorConfig(
            settle_s=0.5 * scale,
            replacement_delay_s=rng.choice((2.0, 30.0)) * scale,
            stuck_after_s=6.0 * scale,
            stall_s=stall_s,
        ),
        pulse_interval_s=0.5 * scale,
        failed_after_s=rng.choice((0.6, 1.5)) * scale,
        agreement_s=rng.choice((0.01, 0.3)) * scale,
        requires_lease=rng.random() < 0.3,
        has_small_bounds=rng.random() < 0.5,
    )
    workload = PartitionWorkload(
        nodes=nodes,
        partitions=rng.choice((1, 1, 2, 4)),
        replication=rng.choice((1, 2, 3, 3, 3, 5)),
        clients=rng.choice((1, 3, 6)),
        pause_s=rng.choice((0.02, 0.2, 0.5)) * scale,
        read_share=rng.choice((0.0, 0.3, 0.6, 0.97)),
        meddling_per_s=rng.choice((0.0, 0.3, 2.0)) / scale,
        copies_per_s=rng.choice((0.0, 1.0)) / scale,
        isolations_per_s=wish.of_isolations(rng.choice((0.0, 0.0, 0.4)) / scale),
    )
    duration_s = rng.choice((4.0, 10.0)) * scale
    storm = random.Random(f"swarm partitions storm {seed}")
    if storm.random() < 0.4:
        # Primaries that are replaced again and again without noticing it, while somebody still asks them.
        duration_s = 10.0 * scale
        nodes = wish.of_nodes(storm.choice((3, 3, 4, 5)))
        workload = replace(
            workload,
            nodes=nodes,
            replication=storm.choice((3, 3, 5)),
            partitions=storm.choice((1, 1, 2)),
            meddling_per_s=storm.choice((0.0, 0.0, 0.3, 3.0)) / scale,
            isolations_per_s=wish.of_isolations(storm.choice((0.6, 1.5)) / scale),
            read_share=storm.choice((0.0, 0.3, 0.9)),
            pause_s=storm.choice((0.02, 0.1, 0.1)) * scale,
            clients=8,
            readers=storm.choice((0, 5, 5)),
        )
    duration_s = wish.of_duration_s(duration_s)
    # With the metadata service among them, whose pause or cut means that nothing can be agreed on.
    draws = _Draws(rng, nodes=range(nodes + 1), duration_s=duration_s, scale_s=1.0 * scale)
    faults = draws.faults(ordered=True)
    if workload.readers and not faults.ordered and storm.random() < 0.4:
        # Answers that come when their epoch is long over.
        quality = replace(faults.quality, late=0.05, late_s=6.0 * scale, duplicate=0.1)
        faults = replace(faults, quality=quality)
    echoes = random.Random(f"swarm partitions echoes {seed}")
    if echoes.random() < 0.05 and wish.of_nodes(NODES) == NODES:
        return _draw_echoes(seed, echoes, settings, faults, wish)
    deep = random.Random(f"swarm partitions deep {seed}")
    if deep.random() < 0.5:
        return _draw_deep(seed, deep, settings, wish)
    faults = only(faults, wish.kinds)
    return PartitionsPlan(seed=seed, duration_s=duration_s, settings=settings, workload=workload, faults=faults)


def _draw_echoes(
    seed: int, rng: random.Random, settings: PartitionSettings, faults: CoreFaults, wish: Wish
) -> PartitionsPlan:
    """Primaries that are told what was acknowledged in an earlier epoch of their own."""
    scale = settings.pulse_interval_s / 0.5
    workload = PartitionWorkload(
        nodes=NODES,
        partitions=1,
        replication=NODES,
        clients=16,
        pause_s=0.03 * scale,
        read_share=rng.choice((0.0, 0.3)),
        echoes_per_s=wish.of_isolations(rng.choice((0.2, 0.4)) / scale),
    )
    duration_s = wish.of_duration_s(16.0 * scale)
    settings = replace(
        settings,
        partitions=replace(settings.partitions, resend_after_s=0.1 * scale),  # clients are as patient
        agreement_s=0.01 * scale,
        requires_lease=False,
        message_bytes=rng.choice((8, 24)),
        records_retained=1000,
    )
    faults = only(quiet(rng, duration_s, sync_s=faults.sync_s[1]), wish.kinds)
    return PartitionsPlan(seed=seed, duration_s=duration_s, settings=settings, workload=workload, faults=faults)


def _draw_deep(seed: int, rng: random.Random, settings: PartitionSettings, wish: Wish) -> PartitionsPlan:
    """Takeovers so close to each other that what was said and written in one meets the next.

    Of three kinds: primaries that nobody hears when they begin to write, so that logs fork again and again; primaries
    that restart and are named again before the answers to their earlier life are there; primaries that are cut off
    with a minority, whose logs grow until they are cut back.
    """
    scale = settings.pulse_interval_s / 0.5
    kind = rng.choice(("forks", "lives", "tails"))
    is_tails, is_lives = kind == "tails", kind == "lives"
    nodes = wish.of_nodes(5 if is_tails else rng.choice((3, 3, 5)))
    duration_s = wish.of_duration_s(rng.choice((8.0, 16.0)) * scale)
    settings = replace(
        settings,
        agreement_s=0.01 * scale,
        has_small_bounds=rng.random() < 0.7,
        message_bytes=rng.choice((8, 24, 1 << 20)),
        records_retained=1000 if is_tails else 3,
        requires_lease=is_lives and settings.requires_lease,
    )
    meddling_per_s = rng.choice((0.5, 2.0) if is_tails else (1.0, 3.0) if is_lives else (3.0, 10.0, 20.0)) / scale
    is_muted = kind == "forks" or rng.random() < 0.2
    workload = PartitionWorkload(
        nodes=nodes,
        partitions=1,
        replication=nodes,
        clients=8 if is_tails else rng.choice((3, 8)),
        pause_s=rng.choice((0.03, 0.1) if is_tails else (0.01, 0.1)) * scale,
        read_share=rng.choice((0.0, 0.5, 0.9) if is_lives else (0.0, 0.3)),
        meddling_per_s=meddling_per_s,
        copies_per_s=rng.choice((0.0, 1.0)) / scale,
        isolations_per_s=wish.of_isolations(rng.choice((0.3, 0.6) if is_tails else (0.0, 0.3)) / scale),
        restarts_per_s=wish.of_restarts(rng.choice((1.0, 3.0) if is_lives else (0.0, 0.0, 0.5)) / scale),
        muted=wish.of_isolations(rng.choice((0.3, 0.8)) if is_muted else 0.0),
        muted_s=rng.choice((0.1, 0.3, 1.0)) * scale,
    )
    draws = _Draws(rng, nodes=range(nodes + 1), duration_s=duration_s, scale_s=scale)
    quality = LinkQuality(
        jitter_s=rng.choice((0.0095, 0.05 * scale)),
        late=rng.choice((0.2, 0.5) if is_lives else (0.0, 0.1, 0.2) if is_tails else (0.0, 0.1, 0.3)),
        late_s=rng.choice((0.3, 1.0, 4.0)) * scale,
        loss=rng.choice((0.0, 0.02) if is_tails else (0.0, 0.0, 0.1, 0.3)),
        duplicate=rng.choice((0.0, 0.1, 0.3)),
    )
    drawn = draws.faults()
    if is_tails and rng.random() < 0.7:  # what else goes wrong would keep a majority from writing much
        drawn = CoreFaults(calm_s=duration_s, sync_s=drawn.sync_s)
    if is_lives and rng.random() < 0.5:  # what a process had written and not synced is on other disks already
        drawn = replace(drawn, sync_s=(0.0005, 0.3 * scale))
    faults = only(replace(drawn, quality=quality), wish.kinds)
    return PartitionsPlan(seed=seed, duration_s=duration_s, settings=settings, workload=workload, faults=faults)


def draw_placement(seed: int, wish: Wish = ANY) -> PlacementPlan:
    """One run of a mesh whose members come and go."""
    rng = random.Random(f"swarm placement {seed}")
    nodes = wish.of_nodes(rng.choice((1, 2, 3, 4, 5, 6, 8, 12)))
    scale = rng.choice((1.0, 1.0, 0.3))
    settings = PlacementSettings(
        allocator=AllocatorConfig(
            settle_s=rng.choice((0.2, 1.0)) * scale,
            replacement_delay_s=rng.choice((1.0, 5.0, 60.0)) * scale,
            stuck_after_s=6.0 * scale,
            stall_s=rng.choice((0.5, 3.0)) * scale,
            moves_max=rng.choice((1, 4, 128)),
        ),
        look_interval_s=rng.choice((0.1, 0.5)) * scale,
        seal_s=rng.choice((0.0, 0.2, 2.0)) * scale,
        copy_s=rng.choice((0.0, 2.0, 8.0)) * scale,
    )
    workload = PlacementWorkload(
        nodes=nodes,
        founders=rng.randint(1, nodes),
        partitions=rng.choice((1, 4, 16, 32)),
        replication=rng.choice((1, 2, 3, 3, 3, 5)),
        zones=rng.choice((0, 0, 2, 3)),
        weights=rng.choice(((1,), (1,), (1, 2, 4))),
        joins_per_s=rng.choice((0.2, 2.0)) / scale,
        changes_per_s=rng.choice((0.0, 0.0, 0.1, 0.5)) / scale,
        elections_per_s=rng.choice((0.0, 0.0, 0.1)) / scale,
        lost=rng.choice((0.0, 0.0, 0.1, 0.5)),
    )
    duration_s = wish.of_duration_s(rng.choice((10.0, 30.0)) * scale)
    draws = _Draws(rng, nodes=range(1, nodes + 1), duration_s=duration_s, scale_s=3.0 * scale)
    faults = only(draws.faults(leaves=True), wish.kinds)
    return PlacementPlan(seed=seed, duration_s=duration_s, settings=settings, workload=workload, faults=faults)


DRAWS: Mapping[str, Callable[[int, Wish], CorePlan]] = {
    "swim": draw_swim,
    "raft": draw_raft,
    "partitions": draw_partitions,
    "placement": draw_placement,
}
"""The worlds, by name."""


def _run_drawn(world: str, seed: int) -> Report:
    return DRAWS[world](seed, ANY).run()


WORLDS: Mapping[str, Callable[[int], Report]] = {name: functools.partial(_run_drawn, name) for name in DRAWS}
"""What `sweep` runs, by the worlds' names."""


@dataclass(slots=True)
class Sweep:
    """What came of a range of seeds.

    Attributes:
        failures: the reports of the seeds that were not clean.
        seeds, events, virtual_s, wall_s: totals.
        counters: the sums of those of the reports.
    """

    failures: list[Report] = field(default_factory=list)
    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    wall_s: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        """Count a run in."""
        self.seeds += 1
        self.events += report.events
        self.virtual_s += report.virtual_s
        for name, count in report.counters.items():
            self.counters[name] = self.counters.get(name, 0) + count
        if not report.is_clean:
            self.failures.append(report)


def sweep(first_seed: int, last_seed: int, world: str, *, failures_max: int = 10) -> Sweep:
    """Run the seeds from the first to the last, each for itself.

    Args:
        first_seed: the first.
        last_seed: the last, included.
        world: a key of `WORLDS`.
        failures_max: stop after so many seeds that were not clean.

    Raises:
        ValueError: there is no such world.
    """
    if world not in WORLDS:
        raise ValueError(f"there is no world {world!r}: choose one of {', '.join(WORLDS)}")
    run = WORLDS[world]
    swept = Sweep()
    began_s = time.perf_counter()
    for seed in range(first_seed, last_seed + 1):
        swept.add(run(seed))
        if len(swept.failures) >= failures_max:
            break
    swept.wall_s = time.perf_counter() - began_s
    return swept
