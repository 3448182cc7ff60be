"""Lets a plan's faults happen to a cluster."""

import functools
from collections.abc import Callable
from dataclasses import replace

from simulations.cores.faults import FOREVER, LAN, Crash, Cut, LinkQuality, Slow
from simulations.disk import DiskFaults
from simulations.hosts.quality import Quality
from simulations.kernel import Handle, Killed
from simulations.mesh.cluster import Cluster, host_of
from simulations.plan import BadDisk, DiskKill, NewDisk


class Injector:
    """Schedules everything at once; each fault undoes itself at its end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._network = cluster.network
        self._begin_s = 0.0
        # As many as the plan has faults, and one more for each that flaps or undoes itself.
        self._pending: list[Handle] = []

    def begin(self) -> None:
        """Time 0 of the plan is now."""
        self._begin_s = self._events.now
        faults, network = self._cluster.plan.faults, self._network
        if faults.quality != LAN:
            self._network.paths.default = quality_of(faults.quality)
            if faults.calm_s != FOREVER:
                self._at(faults.calm_s, "calm", self._calm)
        for cut in faults.cuts:
            self._at(cut.at_s, "cut", functools.partial(self._cut, cut))
        for slow in faults.slow:
            self._at(slow.at_s, "slow", functools.partial(self._slow, slow))
        for crash in faults.crashes:
            self._at(crash.at_s, "crash", functools.partial(self._crash, crash))
        for pause in faults.pauses:
            self._while("pause", pause.node, pause.at_s, pause.for_s, self._pause, self._resume)
        for stuck in faults.stuck_loops:
            self._while("stuck loop", stuck.node, stuck.at_s, stuck.for_s, self._stick, self._resume)
        for leave in faults.leaves:
            # What a process says at its end is for cores: here it ends without a word, and comes back.
            end = Crash(leave.node, leave.at_s, leave.for_s, power=False)
            self._at(leave.at_s, "leave", functools.partial(self._crash, end))
        for reset in faults.resets:
            ends = host_of(reset.one), host_of(reset.other)
            self._at(reset.at_s, "reset", functools.partial(network.reset_streams, *ends))
        for hang in faults.hangs:
            host = host_of(hang.node)
            self._at(hang.at_s, "hang", functools.partial(network.hang_dials, host, hang=True))
            self._at(hang.at_s + hang.for_s, "", functools.partial(network.hang_dials, host, hang=False))
        for cpu in faults.slow_cpus:
            self._at(cpu.at_s, "slow cpu", functools.partial(self._set_step, cpu.node, cpu.step_s))
            if cpu.for_s != FOREVER:
                self._at(cpu.at_s + cpu.for_s, "", functools.partial(self._set_step, cpu.node, 0.0))
        for bad in faults.bad_disks:
            self._at(bad.at_s, "bad disk", functools.partial(self._spoil, bad))
        for kill in faults.disk_kills:
            self._at(kill.at_s, "kill at disk", functools.partial(self._kill_at_disk, kill))
        for new in faults.new_disks:
            self._at(new.at_s, "new disk", functools.partial(self._new_disk, new))
        for device in faults.bad_devices:
            spoil = functools.partial(self._cluster.devices.spoil, f"n{device.node}", batches=device.batches)
            self._at(device.at_s, "bad device", spoil)
        for jump in faults.wall_jumps:
            self._at(jump.at_s, "wall jump", functools.partial(self._jump, jump.node, jump.by_s))

    def _at(self, at_s: float, name: str, action: Callable[[], object]) -> None:
        def happen() -> None:
            if name:
                self._cluster.fired[name] += 1
                self._cluster.trace.note(self._events.now, "fault", name)
            action()

        self._pending.append(self._events.at(self._begin_s + at_s, happen))

    def _after(self, delay_s: float, action: Callable[[], object]) -> None:
        self._pending.append(self._events.after(delay_s, action))

    def end(self) -> None:
        """Whatever the plan says, nothing goes wrong from here on: what does is undone, what would does not."""
        for handle in self._pending:
            handle.cancel()
        cluster, network = self._cluster, self._network
        network.calm()
        for number, machine in sorted(cluster.machines.items()):
            machine.step_s = 0.0
            for disk in machine.disks.values():
                disk.faults = DiskFaults()
                disk.on_operation = None
            process = cluster.processes[number]
            process.step_s = 0.0
            process.steps_left = None
            process.resume()
            network.power_on(host_of(number))
            if number in cluster.down:
                cluster.start(number)

    def _while(
        self,
        name: str,
        node: int,
        at_s: float,
        for_s: float,
        begin: Callable[[int], None],
        end: Callable[[int], None],
    ) -> None:
        self._at(at_s, name, functools.partial(begin, node))
        self._at(at_s + for_s, "", functools.partial(end, node))

    # ---- links

    def _calm(self) -> None:
        self._network.paths.default = quality_of(LAN)

    def _cut(self, cut: Cut) -> None:
        pairs = [(sender, receiver) for sender in sorted(cut.senders) for receiver in sorted(cut.receivers)]
        if cut.both_ways:
            pairs += [(receiver, sender) for sender, receiver in pairs]
        paths = [(host_of(sender), host_of(receiver)) for sender, receiver in pairs if sender != receiver]
        end_s = cut.at_s + cut.for_s
        begin_s = self._begin_s

        def shut() -> None:
            for path in paths:
                self._network.cut(*path)
            open_at_s = min(self._events.now + cut.flap_s, begin_s + end_s) if cut.flap_s else begin_s + end_s
            if open_at_s != FOREVER:
                self._after(open_at_s - self._events.now, mend)

        def mend() -> None:
            for path in paths:
                self._network.mend(*path)
            if cut.flap_s and self._events.now + cut.flap_s < begin_s + end_s:
                self._after(cut.flap_s, shut)

        shut()

    def _slow(self, slow: Slow) -> None:
        host = host_of(slow.node)
        others = [host_of(other) for other in range(self._cluster.plan.nodes) if other != slow.node]
        quality = quality_of(slow.quality)

        def set_to(quality: Quality | None) -> None:
            for other in others:
                self._network.paths.set_quality(host, other, quality)
                self._network.paths.set_quality(other, host, quality)

        set_to(quality)
        if slow.for_s != FOREVER:
            self._after(slow.for_s, functools.partial(set_to, None))

    # ---- processes

    def _crash(self, crash: Crash) -> None:
        process = self._cluster.processes.get(crash.node)
        if crash.effects and process is not None and process.is_alive and not crash.power:
            process.on_kill(functools.partial(self._cluster.kill, crash.node))
            process.steps_left = crash.effects
        else:
            self._cluster.kill(crash.node, power=crash.power)
        if crash.for_s != FOREVER:
            self._after(crash.for_s, functools.partial(self._start, crash.node, power=crash.power))

    def _start(self, node: int, *, power: bool) -> None:
        if power:
            self._network.power_on(host_of(node))
        self._cluster.start(node)

    def _pause(self, node: int) -> None:
        process = self._cluster.processes.get(node)
        if process is not None:
            process.pause()

    def _stick(self, node: int) -> None:
        process = self._cluster.processes.get(node)
        if process is not None:
            process.main.pause()

    def _resume(self, node: int) -> None:
        process = self._cluster.processes.get(node)
        if process is not None:
            process.resume()

    def _set_step(self, node: int, step_s: float) -> None:
        self._cluster.machines[node].step_s = step_s
        process = self._cluster.processes.get(node)
        if process is not None:
            process.step_s = step_s

    # ---- disks and clocks

    def _spoil(self, bad: BadDisk) -> None:
        cluster = self._cluster
        faults = bad.faults
        if faults.capacity_bytes is not None:  # what is left, since nobody knows how full the disk will be
            used = cluster.disk(bad.node).used_bytes
            faults = replace(faults, capacity_bytes=used + faults.capacity_bytes)
        cluster.set_disk_faults(bad.node, faults)
        if bad.for_s != FOREVER:
            self._after(bad.for_s, functools.partial(cluster.set_disk_faults, bad.node, DiskFaults()))

    def _kill_at_disk(self, kill: DiskKill) -> None:
        cluster = self._cluster
        disk = cluster.disk(kill.node)
        left = kill.operations

        def count(_operation: str, _path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                disk.on_operation = None
                cluster.down.add(kill.node)
                cluster.nodes.pop(kill.node, None)
                raise Killed

        def restart() -> None:
            disk.on_operation = None
            if kill.node in cluster.down:
                cluster.start(kill.node)

        disk.on_operation = count
        self._after(kill.for_s, restart)

    def _new_disk(self, new: NewDisk) -> None:
        cluster = self._cluster
        cluster.kill(new.node, power=True)
        cluster.add_machine(new.node, cluster.machines[new.node].skew)
        self._after(new.for_s, functools.partial(self._start, new.node, power=True))

    def _jump(self, node: int, by_s: float) -> None:
        self._cluster.machines[node].jump(by_s)


def quality_of(quality: LinkQuality) -> Quality:
    """The same for paths that also carry streams."""
    return Quality(
        delay_s=quality.delay_s,
        jitter_s=quality.jitter_s,
        loss=quality.loss,
        duplicate=quality.duplicate,
        late=quality.late,
        late_s=quality.late_s,
    )
