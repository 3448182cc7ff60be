"""The demo from start to end, and its summary."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from meshnode.client import Client
from meshnode.demo.digits import MODEL, DigitReader
from meshnode.demo.failover import Failover, Places, leader, measure, places, worst
from meshnode.demo.processes import NodeProcess, Processes, node_processes
from meshnode.demo.stream import AGENTS, Stream, Tallies
from meshnode.demo.training import load_digits, train
from meshnode.errors import MeshError, OperatorError, OutcomeUnknown, Unavailable

NODES = 5

FORMATION_TIMEOUT_S = 40.0
"""Five interpreters start on two cores, and the first of them compiles the kernels."""

STEADY_S = 3.0
"""How long the stream runs undisturbed before each kill."""

POLL_S = 0.2


@dataclass(slots=True)
class Progress:
    """What the display shows; changed in place while the demo runs."""

    phase: str = "starting five nodes"
    members: list[dict[str, Any]] = field(default_factory=list)
    agents_by_node: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    calls_per_s: float = 0.0
    accuracy: float = 0.0
    events: list[str] = field(default_factory=list)

    def tell(self, event: str) -> None:
        """Something happened."""
        self.events.append(event)


@dataclass(slots=True)
class Findings:
    """What was measured on the way."""

    kills: list[str] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    moved: int = 0
    ideal: int = 0


async def tell_story(progress: Progress, *, device: str) -> dict[str, Any]:
    """Run the demo; the summary that ``--json`` prints.

    Raises:
        OperatorError: the nodes did not find each other.
    """
    began_s = time.monotonic()
    findings = Findings()
    async with node_processes() as processes:
        _start(processes, device)
        digits = await trio.to_thread.run_sync(load_digits)
        progress.phase = "training the model"
        model = await trio.to_thread.run_sync(train, digits)
        async with Client([node.address for node in processes.nodes]) as client, trio.open_nursery() as nursery:
            progress.phase = "waiting until the nodes have found each other"
            await _until_formed(client, processes)
            nursery.start_soon(_watch, client, progress)
            version = await client.publish_model(MODEL, model)
            progress.tell(f"model {MODEL!r} published, version {version}, {model.nbytes / 1024:.0f} KiB")
            stream = Stream(client, digits)
            streaming_s = await _stream(client, stream, processes, progress, findings)
            progress.phase = "counting"
            counted = await _count(client)
            devices = await _devices(processes)
            nursery.cancel_scope.cancel()
    return _summary(stream.tallies, counted, devices, findings, streaming_s=streaming_s, began_s=began_s)


def _start(processes: Processes, device: str) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshnode" / "kernels"
    for _ in range(NODES):
        processes.add(kernel_cache=cache, device=device).start()


async def _until_formed(client: Client, processes: Processes) -> None:
    """All nodes alive, and all partitions active and spread over them."""
    with trio.move_on_after(FORMATION_TIMEOUT_S):
        while True:
            _check_running(processes)
            try:
                members = await client.view("members")
                rows = await client.view("rows")
            except MeshError:
                rows, members = [], []
            alive = [member for member in members if member["state"] == "alive"]
            serving = {row["primary"] for row in rows if row["phase"] == "active"}
            all_active = bool(rows) and all(row["phase"] == "active" for row in rows)
            if len(alive) == len(serving) == NODES and all_active:
                return
            await trio.sleep(POLL_S)
    logs = "\n".join(f"{node.name}: {node.last_lines(2)}" for node in processes.nodes)
    raise OperatorError(f"the nodes did not find each other within {FORMATION_TIMEOUT_S:g} s:\n{logs}")


def _check_running(processes: Processes) -> None:
    for node in processes.nodes:
        if not node.is_running:
            raise OperatorError(f"{node.name} ended on its own:\n{node.last_lines()}")


async def _stream(
    client: Client, stream: Stream, processes: Processes, progress: Progress, findings: Findings
) -> float:
    """The stream, and in its midst the two kills; how long it took in seconds."""
    began_s = time.monotonic()
    async with trio.open_nursery() as counting:
        counting.start_soon(_count_up, stream.tallies, progress)
        async with trio.open_nursery() as streaming:
            streaming.start_soon(stream.run)
            await trio.sleep(STEADY_S)
            await _kill_two(client, stream.tallies, processes, progress, findings)
            progress.phase = "finishing the pass over all images"
            while not stream.tallies.has_passed_once:
                await trio.sleep(POLL_S)
            stream.finish()
        counting.cancel_scope.cancel()
    return time.monotonic() - began_s


async def _kill_two(
    client: Client, tallies: Tallies, processes: Processes, progress: Progress, findings: Findings
) -> None:
    leading = await leader(client)
    first = next(node for node in processes.nodes if node.name == leading)
    after_first = await _kill(client, tallies, first, "the Raft leader", progress, findings)

    progress.phase = f"starting {first.name} again on its old data directory"
    first.start()
    await _until_formed(client, processes)
    returned = await places(client)
    findings.moved += len(returned.moved_since(after_first))
    findings.ideal += len(returned.held_by(first.name))
    progress.tell(f"{first.name} is back and serves {len(returned.held_by(first.name))} agents")
    await trio.sleep(STEADY_S)

    second = next(node for node in processes.nodes if node is not first)
    await _kill(client, tallies, second, "another node", progress, findings)


async def _kill(
    client: Client, tallies: Tallies, victim: NodeProcess, what: str, progress: Progress, findings: Findings
) -> Places:
    """Kill a node and watch its agents come back; where they are then."""
    before = await places(client)
    held = before.held_by(victim.name)
    progress.phase = f"killed {victim.name}, {what}, which served {len(held)} agents"
    await victim.kill()
    killed_at_s = time.monotonic()
    tallies.watch()
    findings.kills.append(victim.name)
    failover = await measure(client, tallies, victim.name, held, killed_at_s)
    after = await places(client)
    moved = after.moved_since(before)
    findings.failovers.append(failover)
    findings.moved += len(moved)
    findings.ideal += len(held)
    progress.tell(
        f"killed {victim.name} ({what}): seen after {failover.detect:.1f} s, all of its {len(held)} agents answer "
        f"after {failover.last_agent_reachable:.1f} s; {len(moved)} moved"
    )
    return after


async def _count_up(tallies: Tallies, progress: Progress) -> None:
    """Throughput and accuracy for the display."""
    last, last_at_s = 0, time.monotonic()
    while True:
        await trio.sleep(1.0)
        now_s = time.monotonic()
        progress.calls_per_s = (tallies.total - last) / (now_s - last_at_s)
        last, last_at_s = tallies.total, now_s
        progress.acknowledged = last
        progress.accuracy = tallies.held_out_right / max(1, tallies.held_out)


async def _watch(client: Client, progress: Progress) -> None:
    """Members and places for the display; a node that is asked while it dies is asked again."""
    while True:
        try:
            progress.members = await client.view("members")
            now = await places(client)
            names = {name for name in now.nodes if name is not None}
            progress.agents_by_node = {name: len(now.held_by(name)) for name in names}
        except MeshError:
            progress.members = []
        await trio.sleep(0.5)


async def _count(client: Client) -> list[int]:
    """The tally of each agent, as it is kept."""
    counted = [0] * AGENTS

    async def ask(number: int) -> None:
        while True:
            try:
                counted[number] = (await client.ref(DigitReader, str(number)).tally()).read
            except (Unavailable, OutcomeUnknown):
                await trio.sleep(POLL_S)
            else:
                return

    async with trio.open_nursery() as nursery:
        for number in range(AGENTS):
            nursery.start_soon(ask, number)
    return counted


async def _devices(processes: Processes) -> list[dict[str, Any]]:
    """What each living node computed on, asked of itself."""
    found = []
    for node in processes.nodes:
        if node.is_running:
            async with Client([node.address]) as client:
                found.append(await client.view("devices", at=node.address))
    return found


def _summary(
    tallies: Tallies,
    counted: list[int],
    devices: list[dict[str, Any]],
    findings: Findings,
    *,
    streaming_s: float,
    began_s: float,
) -> dict[str, Any]:
    pairs = list(zip(tallies.acknowledged, counted, strict=True))
    batches = sum(device["batches"] for device in devices)
    names = sorted({"numpy" if device["device"].startswith("numpy") else device["device"] for device in devices})
    return {
        "acknowledged": tallies.total,
        "counted": sum(counted),
        "lost": sum(max(0, acknowledged - kept) for acknowledged, kept in pairs),
        "duplicated": sum(max(0, kept - acknowledged) for acknowledged, kept in pairs),
        "accuracy": round(tallies.held_out_right / max(1, tallies.held_out), 4),
        "nodes": NODES,
        "agents": AGENTS,
        "kills": findings.kills,
        "failover_s": worst(findings.failovers),
        "moved_agents": findings.moved,
        "ideal_moved_agents": findings.ideal,
        "device": ", ".join(names),
        "mean_batch_rows": round(sum(device["rows"] for device in devices) / max(1, batches), 2),
        "calls_per_s": round(tallies.total / streaming_s, 1),
        "wall_s": round(time.monotonic() - began_s, 1),
    }
