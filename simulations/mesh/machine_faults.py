"""Lets what happens to disks, clocks and devices happen to a cluster."""

import functools
from dataclasses import replace

from simulations.disk import DiskFaults, SimDisk
from simulations.faults import BadDisk, Faults, Mixup, NewDisk, OldImage
from simulations.mesh.cluster import Cluster
from simulations.mesh.schedule import Schedule
from simulations.mesh.settings import host_of

COPY_S = 0.5
"""How long a node is down while its disk is copied."""


def inject_into_machines(faults: Faults, schedule: Schedule, cluster: Cluster) -> None:
    """Schedule all of it."""
    injector = _Machines(schedule, cluster)
    for bad in faults.bad_disks:
        schedule.at(bad.at_s, "bad disk", functools.partial(injector.spoil, bad))
    for new in faults.new_disks:
        schedule.at(new.at_s, "new disk", functools.partial(injector.replace_machine, new))
    for mixup in faults.mixups:
        schedule.at(mixup.at_s, "mixup", functools.partial(injector.mix_up, mixup))
    for image in faults.old_images:
        schedule.at(image.taken_at_s, "image taken", functools.partial(injector.take_image, image))
    for jump in faults.wall_jumps:
        schedule.at(jump.at_s, "wall jump", functools.partial(injector.jump, jump.node, jump.by_s))
    for device in faults.bad_devices:
        spoil = functools.partial(cluster.devices.spoil, f"n{device.node}", batches=device.batches)
        schedule.at(device.at_s, "bad device", spoil)
    usual = {clock.node: clock.rate for clock in faults.clocks}
    for drift in faults.drifts:
        begin = functools.partial(injector.set_rate, drift.node, drift.rate)
        end = functools.partial(injector.set_rate, drift.node, usual.get(drift.node, 1.0))
        schedule.during("drift", drift.at_s, drift.for_s, begin, end)


class _Machines:
    def __init__(self, schedule: Schedule, cluster: Cluster) -> None:
        self._schedule = schedule
        self._cluster = cluster

    def spoil(self, bad: BadDisk) -> None:
        disk, faults = self._cluster.disk(bad.node), bad.faults
        if faults.capacity_bytes is not None:  # what is left, since nobody knows how full the disk will be
            faults = replace(faults, capacity_bytes=disk.used_bytes + faults.capacity_bytes)
        disk.faults = faults
        self._schedule.after(bad.for_s, functools.partial(self._cluster.mend, disk))

    def replace_machine(self, new: NewDisk) -> None:
        cluster = self._cluster
        cluster.kill(new.node, power=True)
        cluster.add_machine(new.node, cluster.machines[new.node].skew)
        self._schedule.after(new.for_s, functools.partial(self._start, new.node))

    def mix_up(self, mixup: Mixup) -> None:
        nodes = (mixup.one, mixup.other)
        if mixup.one == mixup.other or self._cluster.absent.intersection(nodes):
            return

        def exchange() -> None:
            for node in nodes:
                self._cluster.kill(node)
            self._cluster.exchange_disks(*nodes)
            for node in nodes:
                self._start(node)

        exchange()
        self._schedule.after(mixup.for_s, exchange)

    def take_image(self, image: OldImage) -> None:
        """Copy the disk while nothing runs on it; put the copy to use later."""
        cluster, schedule = self._cluster, self._schedule
        node = cluster.nodes.get(image.other)
        if node is None or image.other in cluster.absent:
            return  # it belongs to no mesh, so that nothing could be known of it
        node_id, boot = node.node_id, node.identity.boot
        cluster.kill(image.other)
        copy = cluster.disk(image.other).fork(f"copy for n{image.node}", seed=cluster.plan.seed)
        copy.faults = DiskFaults()
        schedule.after(COPY_S, functools.partial(self._start, image.other))

        def use() -> None:
            if any(node.metadata.boot_of(node_id) > boot for node in cluster.nodes.values()):
                self._use_image(image, copy)

        schedule.after(image.at_s - image.taken_at_s, use)

    def _use_image(self, image: OldImage, copy: SimDisk) -> None:
        cluster, node = self._cluster, image.node
        self._schedule.count("old image")
        cluster.kill(node)
        cluster.put_copy(node, copy)
        self._start(node)

        def start_again() -> None:
            if cluster.has_copy(node):
                cluster.kill(node)
                self._start(node)

        if image.again_s < image.for_s:
            self._schedule.after(image.again_s, start_again)

        def put_right() -> None:
            if cluster.has_copy(node):
                cluster.kill(node)
                cluster.put_back(node)
                self._start(node)

        self._schedule.after(image.for_s, put_right)

    def _start(self, node: int) -> None:
        if self._cluster.network.is_down(host_of(node)):
            self._cluster.network.power_on(host_of(node))
        self._cluster.start(node)

    def set_rate(self, node: int, rate: float) -> None:
        self._cluster.machines[node].run_at(rate)

    def jump(self, node: int, by_s: float) -> None:
        self._cluster.machines[node].jump(by_s)
