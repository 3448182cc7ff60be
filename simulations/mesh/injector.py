"""Lets a plan's faults happen to a cluster."""

from simulations.disk import DiskFaults
from simulations.mesh.cluster import Cluster
from simulations.mesh.link_faults import inject_into_links
from simulations.mesh.machine_faults import inject_into_machines
from simulations.mesh.process_faults import inject_into_processes
from simulations.mesh.schedule import Schedule
from simulations.mesh.settings import host_of


class Injector:
    """Schedules everything at once; each fault undoes itself at its end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._schedule = Schedule(cluster)

    def begin(self) -> None:
        """Time 0 of the plan is now."""
        faults = self._cluster.plan.faults
        self._schedule = schedule = Schedule(self._cluster)
        inject_into_links(faults, schedule, self._cluster)
        inject_into_processes(faults, schedule, self._cluster)
        inject_into_machines(faults, schedule, self._cluster)

    def end(self) -> None:
        """Whatever the plan says, nothing goes wrong from here on: what does is undone, what would does not."""
        self._schedule.cancel()
        self._cluster.events.after(0.0, self._calm)  # only between the steps of all processes can some be killed

    def _calm(self) -> None:
        cluster, network = self._cluster, self._cluster.network
        cluster.end_visits()
        network.calm()
        if cluster.plan.atlas:
            cluster.absent.clear()
        rates = {clock.node: clock.rate for clock in cluster.plan.faults.clocks}
        for number, machine in sorted(cluster.machines.items()):
            machine.step_s = 0.0
            if machine.skew.rate != rates.get(number, 1.0):
                machine.run_at(rates.get(number, 1.0))
            process = cluster.processes.get(number)
            if process is not None:
                process.step_s = 0.0
                process.steps_left = None
                process.resume()
            if cluster.has_copy(number):
                cluster.kill(number)
                cluster.put_back(number)
            for disk in machine.disks.values():
                disk.faults = DiskFaults()
                disk.on_operation = None
            machine.unstick()
            network.power_on(host_of(number))
            if process is None or number in cluster.down:
                cluster.start(number)
