"""Lets what happens to processes happen to a cluster."""

import functools

from simulations.cores.faults import FOREVER, Crash, Leave
from simulations.disk import Operation
from simulations.faults import DiskKill, Faults, RollingRestart
from simulations.kernel import Killed
from simulations.mesh.cluster import Cluster
from simulations.mesh.schedule import Schedule
from simulations.mesh.settings import host_of

LOOK_S = 0.5
"""How often an operator looks whether a node is back."""


def inject_into_processes(faults: Faults, schedule: Schedule, cluster: Cluster) -> None:
    """Schedule all of it."""
    injector = _Processes(schedule, cluster)
    for crash in faults.crashes:
        schedule.at(crash.at_s, "crash", functools.partial(injector.crash, crash))
    for leave in faults.leaves:
        schedule.at(leave.at_s, "stop", functools.partial(injector.stop, leave))
    for pause in faults.pauses:
        begin, end = functools.partial(injector.pause, pause.node), functools.partial(injector.resume, pause.node)
        schedule.during("pause", pause.at_s, pause.for_s, begin, end)
    for stuck in faults.stuck_loops:
        begin, end = functools.partial(injector.stick, stuck.node), functools.partial(injector.resume, stuck.node)
        schedule.during("stuck loop", stuck.at_s, stuck.for_s, begin, end)
    for cpu in faults.slow_cpus:
        begin, end = (functools.partial(injector.set_step, cpu.node, step_s) for step_s in (cpu.step_s, 0.0))
        schedule.during("slow cpu", cpu.at_s, cpu.for_s, begin, end)
    for kill in faults.disk_kills:
        schedule.at(kill.at_s, "kill at disk to come", functools.partial(injector.kill_at_disk, kill))
    for rolling in faults.rolling_restarts:
        schedule.at(rolling.at_s, "rolling restart", functools.partial(injector.restart_from, 0, rolling))
    for departure in faults.departures:
        schedule.at(departure.at_s, "departure", functools.partial(cluster.leave, departure.node))
    for late in faults.late_starts:
        schedule.at(late.at_s, "late start", functools.partial(injector.start_late, late.node))


class _Processes:
    def __init__(self, schedule: Schedule, cluster: Cluster) -> None:
        self._schedule = schedule
        self._cluster = cluster

    def crash(self, crash: Crash) -> None:
        process = self._cluster.processes.get(crash.node)
        if crash.effects and process is not None and process.is_alive and not crash.power:
            process.on_kill(functools.partial(self._cluster.kill, crash.node))
            process.steps_left = crash.effects
        else:
            self._cluster.kill(crash.node, power=crash.power)
        self._start_after(crash.for_s, crash.node)

    def stop(self, leave: Leave) -> None:
        self._cluster.stop(leave.node)
        self._start_after(leave.for_s, leave.node)

    def restart_from(self, node: int, rolling: RollingRestart) -> None:
        """Restart a node, and when it is back the next one."""
        cluster, schedule = self._cluster, self._schedule
        if node >= cluster.plan.nodes:
            schedule.count("rolling restart done")
            return
        end = cluster.stop if rolling.orderly else cluster.kill
        end(node)
        self._start_after(rolling.down_s, node)

        def go_on() -> None:
            self.restart_from(node + 1, rolling)

        def is_back() -> bool:
            return node in cluster.nodes or node in cluster.absent

        schedule.after(rolling.down_s, functools.partial(schedule.until, is_back, LOOK_S, go_on))

    def start_late(self, node: int) -> None:
        self._cluster.absent.discard(node)
        self._cluster.start(node)

    def kill_at_disk(self, kill: DiskKill) -> None:
        cluster = self._cluster
        disk = cluster.disk(kill.node)
        left = kill.operations

        def count(operation: str, _path: str) -> None:
            nonlocal left
            if cluster.disk(kill.node) is not disk:  # it was put into another machine meanwhile
                disk.on_operation = None
                return
            left -= 1
            if left < 0 and (operation == Operation.SYNC or not kill.power):  # then there is something to lose
                disk.on_operation = None
                self._schedule.count("power cut at disk" if kill.power else "kill at disk")
                cluster.down.add(kill.node)
                cluster.nodes.pop(kill.node, None)
                if kill.power:
                    self._schedule.after(0.0, functools.partial(cluster.kill, kill.node, power=True))
                raise Killed

        def restart() -> None:
            if disk.on_operation is count:
                disk.on_operation = None
            if kill.node in cluster.down:
                self._start(kill.node)

        disk.on_operation = count
        self._schedule.after(kill.for_s, restart)

    def _start_after(self, delay_s: float, node: int) -> None:
        if delay_s != FOREVER:
            self._schedule.after(delay_s, functools.partial(self._start, node))

    def _start(self, node: int) -> None:
        if self._cluster.network.is_down(host_of(node)):
            self._cluster.network.power_on(host_of(node))
        self._cluster.start(node)

    def pause(self, node: int) -> None:
        process = self._cluster.processes.get(node)
        if process is not None:
            process.pause()

    def stick(self, node: int) -> None:
        process = self._cluster.processes.get(node)
        if process is not None:
            process.main.pause()

    def resume(self, node: int) -> None:
        process = self._cluster.processes.get(node)
        if process is not None:
            process.resume()

    def set_step(self, node: int, step_s: float) -> None:
        self._cluster.machines[node].step_s = step_s
        process = self._cluster.processes.get(node)
        if process is not None:
            process.step_s = step_s
