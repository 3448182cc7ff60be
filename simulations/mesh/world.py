"""One run of whole nodes under a plan."""

import contextlib
import functools
import io
import math
import random
import re
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import outcome
import trio

from meshnode import AgentError, MeshError
from meshnode.identity import Address
from simulations.checkers import LIVENESS
from simulations.checkers.explanation import check_history
from simulations.checkers.history import History
from simulations.checkers.liveness import LivenessChecker, rest_s, unmet
from simulations.checkers.violation import Violation
from simulations.hosts import Machine, SimHost, Trace
from simulations.hosts.quality import LAN, Paths
from simulations.kernel import Events, Process, simulate
from simulations.mesh.agreement import Agreement
from simulations.mesh.allocation import Allocation
from simulations.mesh.beliefs import Beliefs
from simulations.mesh.claims import Claims
from simulations.mesh.client import CAUSED_BY_FAULTS, LANES, SimClient
from simulations.mesh.cluster import Cluster, leaves
from simulations.mesh.injector import Injector
from simulations.mesh.observer import Observer
from simulations.mesh.replication import Replication
from simulations.mesh.report import Report
from simulations.mesh.secrecy import traced_tls
from simulations.mesh.settings import PORT, host_of
from simulations.mesh.storage import Storage
from simulations.mesh.workload import MisusedWorld, Step, World
from simulations.mesh.workloads import WORKLOADS, find_workload
from simulations.plan import Plan

FORMATION_S = 120.0
"""Within this time a mesh without faults is there, whatever its tempo; and a workload has made its preparations."""

LOOK_S = 0.25
"""How often the world looks whether it is what it should be."""

WITHOUT_ATLAS_S = 30.0
"""How long a mesh that may have lost a majority is looked at once the faults have ended, and how long a workload may
then take to end."""


class NotFormed(Exception):
    """The harness failed: without any fault, the mesh was not formed."""


class WorkloadFailed(Exception):
    """The workload has a mistake: it raised, at the line that the message names."""


def run(plan: Plan) -> Report:
    """Run the plan to its end, or to the first violation.

    Raises:
        UnknownWorkload: there is no such workload.
        NotFormed, WorkloadFailed: see there.
    """
    return _Run(plan).run()


NODE_ID = re.compile(r"\b[0-9]{12,19}\b")
"""Random numbers of 63 bits."""


class _Run:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workload = find_workload(plan.workload, plan.app)
        self._events = Events()
        self._trace = Trace()
        self._tls = traced_tls(self._trace, self._events) if plan.tls else None
        self._history = History(plan.clients * LANES)
        self._violation: Violation | None = None
        self._mistake: WorkloadFailed | None = None
        self._over = trio.CancelScope()
        self._patience = trio.CancelScope()
        self._is_loaded = False
        self._unloaded = trio.Event()
        self._operations = 0
        self._begun_s = math.inf
        self._clients: list[SimClient] = []
        self._client_processes: list[Process] = []
        self._replication = Replication(self._now, self._fail)
        self._beliefs = Beliefs(self._now, self._fail, faults=plan.faults)
        self._listeners = (
            Agreement(self._now, self._fail),
            self._replication,
            self._beliefs,
            Allocation(self._now, self._fail),
            Storage(self._now, self._fail),
            Claims(self._now, self._fail),
        )
        self._ways_out = Paths(plan.seed)
        self._world = World(
            plan,
            self._events,
            self._trace,
            self._clients,
            paths=self._ways_out,
            under_faults=self._under_faults,
            beside=lambda program: self._cluster.beside(program),
            fail=self._fail,
        )

    def run(self) -> Report:
        with contextlib.ExitStack() as stack:
            for listener in self._listeners:
                stack.enter_context(listener.listening())
            simulate(self._main, events=self._events, seed=self._plan.seed)
        if self._mistake is not None:
            raise self._mistake
        lines = io.StringIO()
        self._history.write(lines)
        operations = self._history.operations()
        if self._violation is None and self._world.model is not None:
            self._violation = check_history(operations, self._world.model).violation()
        cluster = self._cluster
        for disk in cluster.disks:
            cluster.fired.update({f"disk {name}": count for name, count in disk.fired.items()})
        return Report(
            plan=self._plan,
            violation=self._violation,
            digest=self._trace.digest,
            begun_s=self._begun_s,
            virtual_s=self._events.now,
            events=self._events.happened,
            operations=self._operations,
            steps=self._world.steps,
            acknowledged=self._world.done,
            fired=dict(sorted(cluster.fired.items())),
            nodes=self._summary,
            lines=tuple(self._trace.lines()),
            history=lines.getvalue(),
        )

    def _now(self) -> float:
        return self._events.now

    def _fail(self, violation: Violation) -> None:
        if violation.invariant in LIVENESS and not self._plan.atlas:
            return  # what is gone may be gone for good
        if self._violation is None:
            self._violation = _named(violation, self._replication.names)
            self._over.cancel()

    async def _main(self) -> None:
        plan, events = self._plan, self._events
        async with trio.open_nursery() as nursery:
            self._cluster = cluster = Cluster(
                plan, events, self._trace, nursery, agents=self._workload.agents, fail=self._fail, tls=self._tls
            )
            self._observer = Observer(cluster, self._fail)
            with cluster.devices.installed(), self._over:
                for number in range(plan.nodes):
                    cluster.start(number)
                await self._until_formed()
                for number in range(plan.clients):
                    self._start_client(number, nursery)
                await self._carry_out()
            self._summary = self._observer.summary()
            events.after(0.0, self._end)
            await trio.sleep(LOOK_S)

    def _end(self) -> None:
        self._cluster.end()
        for process in self._client_processes:
            process.kill()

    async def _until_formed(self) -> None:
        with trio.move_on_after(FORMATION_S * max(1.0, self._plan.tempo)):
            while missing := unmet(self._observer.report()):
                await trio.sleep(LOOK_S)
            return
        raise NotFormed(f"without any fault, after {self._events.now:.1f} s: {missing[0].message}")

    async def _look_until(self, end_s: float) -> None:
        while self._events.now < end_s:
            self._look()
            await trio.sleep(LOOK_S)

    def _look(self) -> None:
        self._observer.look()
        self._beliefs.look()

    async def _until_recovered(self) -> None:
        """The mesh becomes whole."""
        within_s = self._observer.bound_s() if self._plan.atlas else WITHOUT_ATLAS_S
        liveness = LivenessChecker(within_s, self._now, rest_s=rest_s(self._plan.tempo))
        liveness.calm()
        try:
            while liveness.check(self._observer.report()):
                self._look()
                await trio.sleep(LOOK_S)
        except Violation as violation:
            self._fail(violation)
        self._replication.check_logs()
        await trio.lowlevel.checkpoint()

    # ---- the workload

    async def _carry_out(self) -> None:
        """All of the workload: what it prepares, `_under_faults`, and what it finds in the end."""
        patience_s = FORMATION_S * max(1.0, self._plan.tempo)
        self._patience.deadline = self._events.now + patience_s
        try:
            with self._patience:
                await self._workload.program(self._world)
            if not self._world.steps and not self._patience.cancelled_caught:
                raise MisusedWorld("it never called under_faults: nothing was put to the test")
        except BaseException as error:
            causes = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
            if not causes:
                raise
            self._blame(causes[0])
        if self._patience.cancelled_caught:
            calm_s = patience_s if not self._world.steps else self._plan.recovery_s
            self._fail(self._silence(f"the workload did not end within {calm_s:g} s of calm"))

    def _blame(self, error: BaseException) -> None:
        """Whose mistake it is that the workload ended like this."""
        if not isinstance(error, Exception):
            raise error
        told = f"{_place_of(error, self._workload.program)}{type(error).__name__}: {error}"
        if isinstance(error, Violation):
            self._fail(error)
        elif isinstance(error, CAUSED_BY_FAULTS) and not self._is_loaded:
            self._fail(self._silence(f"in calm, {told}"))
        elif isinstance(error, AgentError) or (_is_refusal(error) and self._plan.workload in WORKLOADS):
            self._fail(Violation("app-agent-error", virtual_s=self._events.now, message=told))
        else:
            self._mistake = WorkloadFailed(f"workload {self._plan.workload}: {told}")
            self._mistake.__cause__ = error
            self._over.cancel()

    def _silence(self, message: str) -> Violation:
        return Violation("liveness-agents", virtual_s=self._events.now, message=message)

    async def _under_faults(self, step: Step) -> None:
        plan, events = self._plan, self._events
        if self._world.steps:
            raise MisusedWorld("under_faults was called before: a plan's faults happen once in a run")
        injector = Injector(self._cluster)
        self._patience.deadline = math.inf
        self._is_loaded = True
        self._ways_out.default = replace(LAN, late=plan.faults.outside.late, late_s=plan.faults.outside.late_s)
        async with trio.open_nursery() as nursery:
            for client, process in zip(self._clients, self._client_processes, strict=True):
                process.main.spawn(nursery, functools.partial(self._repeat, client, step), f"{process.name} steps")
            injector.begin()
            self._beliefs.begin()
            self._begun_s = events.now
            await self._look_until(self._begun_s + plan.duration_s)
            self._is_loaded = False
            self._unloaded.set()
            injector.end()
            self._ways_out.calm()
            self._beliefs.calm()
            await self._until_recovered()
            self._patience.deadline = events.now + (plan.recovery_s if plan.atlas else WITHOUT_ATLAS_S)

    async def _repeat(self, client: SimClient, step: Step) -> None:
        world, plan = self._world, self._plan
        pause_s = plan.clients / plan.calls_per_s
        while self._is_loaded:
            world.steps += 1
            calls_before = client.calls
            try:
                await step(client)
                world.done += 1
            except* CAUSED_BY_FAULTS:
                pass
            finally:
                self._operations += max(1, client.calls - calls_before)
            with trio.move_on_after(client.rng.expovariate(1.0) * pause_s):
                await self._unloaded.wait()

    # ---- clients

    def _start_client(self, number: int, nursery: trio.Nursery) -> None:
        host = f"10.0.1.{number + 1}"
        self._cluster.network.add_machine(host)

        def no_disk(root: str) -> Any:
            raise AssertionError(f"a client has no disk {root}")

        machine = Machine(self._events, host, seed=self._plan.seed, make_disk=no_disk)
        process = Process(self._events, name=f"c{number}", on_end=self._client_ended)
        self._client_processes.append(process)
        rng = random.Random(f"client {number} of {self._plan.seed}")
        addresses = [Address(host_of(node), PORT) for node in range(self._plan.nodes)]
        rng.shuffle(addresses)
        client = SimClient(
            addresses,
            host=SimHost(machine, self._cluster.network, process),
            number=number,
            clients=self._plan.clients,
            rng=rng,
            history=self._history,
            now_ns=lambda: round(self._events.now * 1e9),
            tls=self._tls,
        )
        self._clients.append(client)
        process.start(nursery, functools.partial(self._live, client))

    async def _live(self, client: SimClient) -> None:
        async with client:
            await trio.sleep_forever()

    def _client_ended(self, ended: outcome.Outcome[object]) -> None:
        """Nothing that a mesh does may end a client."""
        if isinstance(ended, outcome.Error) and not isinstance(ended.error, trio.Cancelled):
            told = "".join(traceback.format_exception(ended.error)[-3:])
            self._fail(Violation("client-crash", virtual_s=self._events.now, message=told))


def _is_refusal(error: Exception) -> bool:
    """Whether a call was refused, which none is of a workload that is known to be right."""
    return isinstance(error, MeshError) and not isinstance(error, CAUSED_BY_FAULTS)


def _named(violation: Violation, names: Mapping[int, str]) -> Violation:
    """The same with the nodes' names for their ids, and their numbers."""
    message = NODE_ID.sub(lambda found: names.get(int(found[0]), found[0]), violation.message)
    numbers = [int(names[node][1:]) if node in names else node for node in violation.nodes]
    return Violation(violation.invariant, virtual_s=violation.virtual_s, message=message, nodes=numbers)


def _place_of(error: BaseException, program: Any) -> str:
    """The line of the workload's own at which the error came up: "my_agents.py:12: ", or nothing."""
    own = program.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    return f"{Path(own).name}:{lines[-1]}: " if lines else ""
