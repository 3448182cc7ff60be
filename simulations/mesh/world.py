"""One run of whole nodes under a plan."""

import functools
import io
import random
from typing import Any

import trio

from meshnode import Client, MeshError, OutcomeUnknown
from meshnode.errors import TurnTimeout
from meshnode.identity import Address
from simulations.checkers.explanation import check_history
from simulations.checkers.history import History, Json, Operation
from simulations.checkers.violation import Violation
from simulations.hosts import Machine, SimHost, Trace
from simulations.kernel import Events, Process, simulate
from simulations.mesh.agreement import Agreement
from simulations.mesh.cluster import Cluster
from simulations.mesh.injector import Injector
from simulations.mesh.observer import Observer
from simulations.mesh.report import Report
from simulations.mesh.settings import PORT, host_of
from simulations.mesh.workload import WORKLOADS, Workload
from simulations.plan import Plan

FORMATION_S = 120.0
"""Within this time a mesh without faults is there, whatever its tempo."""

SAFETY_S = 20.0
"""How long a mesh that may never be whole again is looked at: several elections and takeovers."""

LOOK_S = 0.25
"""How often the world looks whether it is what it should be."""


class NotFormed(Exception):
    """The harness failed: without any fault, the mesh was not formed."""


def run(plan: Plan) -> Report:
    """Run the plan to its end, or to the first violation.

    Raises:
        KeyError: there is no such workload.
        NotFormed: see there.
    """
    return _World(plan).run()


class _World:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workload: Workload = WORKLOADS[plan.workload]
        self._events = Events()
        self._trace = Trace()
        self._history = History(plan.clients)
        self._acknowledged = 0
        self._violation: Violation | None = None
        self._over = trio.CancelScope()
        self._is_loaded = True
        self._clients: list[Client] = []
        self._client_processes: list[Process] = []

    def run(self) -> Report:
        with Agreement(lambda: self._events.now, self._fail).listening():
            simulate(self._main, events=self._events, seed=self._plan.seed)
        lines = io.StringIO()
        self._history.write(lines)
        operations = self._history.operations()
        if self._violation is None:
            self._violation = check_history(operations, self._workload.model).violation()
        cluster = self._cluster
        for disk in cluster.disks:
            cluster.fired.update({f"disk {name}": count for name, count in disk.fired.items()})
        return Report(
            plan=self._plan,
            violation=self._violation,
            digest=self._trace.digest,
            virtual_s=self._events.now,
            events=self._events.happened,
            operations=len(operations),
            acknowledged=self._acknowledged,
            fired=dict(sorted(cluster.fired.items())),
            nodes=self._summary,
            lines=tuple(self._trace.lines()),
            history=lines.getvalue(),
        )

    def _fail(self, violation: Violation) -> None:
        if self._violation is None:
            self._violation = violation
            self._over.cancel()

    async def _main(self) -> None:
        plan, events = self._plan, self._events
        async with trio.open_nursery() as nursery:
            self._cluster = cluster = Cluster(
                plan, events, self._trace, nursery, agents=self._workload.agents, fail=self._fail
            )
            self._observer = Observer(cluster, self._fail)
            with self._over:
                for number in range(plan.nodes):
                    cluster.start(number)
                await self._until_formed()
                for number in range(plan.clients):
                    self._start_client(number, nursery)
                injector = Injector(cluster)
                injector.begin()
                begun_s = events.now
                await self._look_until(begun_s + plan.duration_s)
                self._is_loaded = False
                injector.end()
                await self._until_recovered()
            self._summary = self._observer.summary()
            events.after(0.0, self._end)
            await trio.sleep(LOOK_S)

    def _end(self) -> None:
        self._cluster.end()
        for process in self._client_processes:
            process.kill()

    async def _until_formed(self) -> None:
        with trio.move_on_after(FORMATION_S * max(1.0, self._plan.tempo)):
            while (missing := self._observer.unfinished()) is not None:
                await trio.sleep(LOOK_S)
            return
        raise NotFormed(f"without any fault, after {self._events.now:.1f} s: {missing}")

    async def _look_until(self, end_s: float) -> None:
        while self._events.now < end_s:
            self._observer.look()
            await trio.sleep(LOOK_S)

    async def _until_recovered(self) -> None:
        """The mesh becomes whole, and every agent answers."""
        end_s = self._events.now + (self._plan.recovery_s if self._plan.atlas else SAFETY_S)
        missing: str | None = ""
        while self._events.now < end_s and missing is not None:
            self._observer.look()
            missing = self._observer.unfinished()
            await trio.sleep(LOOK_S)
        if not self._plan.atlas:
            return  # what is gone may be gone for good
        if missing is not None:
            self._fail(Violation("liveness-membership", virtual_s=self._events.now, message=missing))
            await trio.lowlevel.checkpoint()
        silent: list[str] = []
        with trio.move_on_after(self._plan.recovery_s):
            async with trio.open_nursery() as nursery:
                for key in range(self._plan.keys):
                    silent.append(f"k{key}")
                    nursery.start_soon(self._read, f"k{key}", silent)
        if silent:
            message = f"{', '.join(silent)} did not answer within {self._plan.recovery_s:g} s of calm"
            self._fail(Violation("liveness-agents", virtual_s=self._events.now, message=message))

    async def _read(self, key: str, silent: list[str]) -> None:
        client = self._clients[0]
        while True:
            try:
                await self._workload.call(client, key, self._workload.read, None, 5.0)
            except MeshError:
                await trio.sleep(LOOK_S)
            else:
                silent.remove(key)
                return

    # ---- clients

    def _start_client(self, number: int, nursery: trio.Nursery) -> None:
        host = f"10.0.1.{number + 1}"
        self._cluster.network.add_machine(host)

        def no_disk(root: str) -> Any:
            raise AssertionError(f"a client has no disk {root}")

        machine = Machine(self._events, host, seed=self._plan.seed, make_disk=no_disk)
        process = Process(self._events, name=f"c{number}")
        self._client_processes.append(process)
        process.start(
            nursery, functools.partial(self._client, number, SimHost(machine, self._cluster.network, process))
        )

    async def _client(self, number: int, host: SimHost) -> None:
        plan = self._plan
        rng = random.Random(f"client {number} of {plan.seed}")
        addresses = [Address(host_of(node), PORT) for node in range(plan.nodes)]
        rng.shuffle(addresses)
        pause_s = plan.clients / plan.calls_per_s
        async with Client(addresses, host=host) as client:
            self._clients.append(client)
            while self._is_loaded:
                key = f"k{rng.randrange(plan.keys)}"
                op, value = self._workload.draw(rng)
                operation = self._history.invoke(number, op=op, key=key, value=value, time_ns=self._now_ns())
                await self._call(client, operation, rng.choice((1.0, 3.0, 10.0)))
                await trio.sleep(rng.expovariate(1.0) * pause_s)
            await trio.sleep_forever()

    async def _call(self, client: Client, operation: Operation, timeout_s: float) -> None:
        history = self._history
        result: Json
        try:
            result = await self._workload.call(client, operation.key, operation.op, operation.value, timeout_s)
        except (OutcomeUnknown, TurnTimeout) as error:
            history.info(operation, str(error)[:80], time_ns=self._now_ns())
        except MeshError as error:
            history.fail(operation, str(error)[:80], time_ns=self._now_ns())
        else:
            self._acknowledged += 1
            history.ok(operation, result, time_ns=self._now_ns())

    def _now_ns(self) -> int:
        return round(self._events.now * 1e9)
