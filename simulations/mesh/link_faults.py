"""Lets what goes wrong between machines happen to a cluster."""

import functools
from collections.abc import Iterable

from simulations.cores.faults import FOREVER, LAN, Cut, LinkQuality, Slow
from simulations.faults import Damage, Faults, Narrow
from simulations.hosts.quality import Change, Quality
from simulations.mesh.cluster import Cluster
from simulations.mesh.schedule import Schedule
from simulations.mesh.settings import host_of


def inject_into_links(faults: Faults, schedule: Schedule, cluster: Cluster) -> None:
    """Schedule all of it."""
    network = cluster.network
    if faults.quality != LAN:
        network.paths.default = quality_of(faults.quality)
        if faults.calm_s != FOREVER:
            schedule.at(faults.calm_s, "calm", functools.partial(setattr, network.paths, "default", quality_of(LAN)))
    for cut in faults.cuts:
        schedule.at(cut.at_s, "cut", functools.partial(_cut, cut, schedule, cluster))
    for slow in faults.slow:
        _change_for_a_while("slow", slow, _values_of(slow.quality), schedule, cluster)
    for narrow in faults.narrows:
        _change_for_a_while("narrow", narrow, {"bytes_per_s": narrow.bytes_per_s}, schedule, cluster)
    for damage in faults.damages:
        _change_for_a_while("damage", damage, {"damage": damage.share}, schedule, cluster)
    for clog in faults.clogs:
        path = host_of(clog.one), host_of(clog.other)
        begin, end = functools.partial(network.clog, *path), functools.partial(network.unclog, *path)
        schedule.during("clog", clog.at_s, clog.for_s, begin, end)
    for reset in faults.resets:
        ends = host_of(reset.one), host_of(reset.other)
        if reset.in_frame:
            schedule.at(reset.at_s, "reset to come", functools.partial(network.reset_in_frame, *ends))
        else:
            schedule.at(reset.at_s, "reset", functools.partial(network.reset_streams, *ends))
    for half in faults.half_opens:
        ends = host_of(half.one), host_of(half.other)
        schedule.at(half.at_s, "half-open", functools.partial(network.half_open, *ends))
    for number, stranger in enumerate(faults.strangers):
        seed = f"stranger {number} of {cluster.plan.seed}"
        schedule.at(stranger.at_s, "stranger", functools.partial(cluster.visit, stranger.node, seed=seed))
    for hang in faults.hangs:
        host = host_of(hang.node)
        begin, end = (functools.partial(network.hang_dials, host, hang=hangs) for hangs in (True, False))
        schedule.during("hang", hang.at_s, hang.for_s, begin, end)


def _cut(cut: Cut, schedule: Schedule, cluster: Cluster) -> None:
    pairs = [(sender, receiver) for sender in sorted(cut.senders) for receiver in sorted(cut.receivers)]
    if cut.both_ways:
        pairs += [(receiver, sender) for sender, receiver in pairs]
    paths = [(host_of(sender), host_of(receiver)) for sender, receiver in pairs if sender != receiver]
    end_s = cut.at_s + cut.for_s

    def shut() -> None:
        for path in paths:
            cluster.network.cut(*path)
        left_s = end_s - schedule.now_s
        schedule.after(min(cut.flap_s, left_s) if cut.flap_s else left_s, mend)

    def mend() -> None:
        for path in paths:
            cluster.network.mend(*path)
        if cut.flap_s and schedule.now_s + cut.flap_s < end_s:
            schedule.after(cut.flap_s, shut)

    shut()


def _change_for_a_while(
    name: str, fault: Slow | Narrow | Damage, values: dict[str, float], schedule: Schedule, cluster: Cluster
) -> None:
    paths = cluster.network.paths
    changes: list[Change] = []

    def begin() -> None:
        changes.extend(paths.change(*path, **values) for path in _paths_of(fault.node, cluster))

    def end() -> None:
        for change in changes:
            paths.change_back(change)

    schedule.during(name, fault.at_s, fault.for_s, begin, end)


def _paths_of(node: int, cluster: Cluster) -> Iterable[tuple[str, str]]:
    """To all other nodes, and from them."""
    host = host_of(node)
    for other in range(cluster.plan.nodes):
        if other != node:
            yield host, host_of(other)
            yield host_of(other), host


def _values_of(quality: LinkQuality) -> dict[str, float]:
    names = ("delay_s", "jitter_s", "loss", "duplicate", "late", "late_s")
    return {name: getattr(quality, name) for name in names}


def quality_of(quality: LinkQuality) -> Quality:
    """The same for paths that also carry streams."""
    return Quality(**_values_of(quality))
