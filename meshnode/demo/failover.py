"""What the demo measures when it kills a node."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import trio

from meshnode.agents.definition import definition_of
from meshnode.client import Client
from meshnode.demo.digits import DigitReader
from meshnode.demo.stream import AGENTS, Tallies
from meshnode.errors import Unavailable
from meshnode.placement import partition_of

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Failover:
    """Seconds from the kill until …

    Attributes:
        detect: a live node says that the node is dead.
        reassign: each of its agents has another active primary.
        first_answer: the first of its agents has answered a call made after the kill.
        last_agent_reachable: all of them have.
    """

    detect: float
    reassign: float
    first_answer: float
    last_agent_reachable: float


def worst(failovers: Sequence[Failover]) -> dict[str, float]:
    """The largest of each figure."""
    tables = [asdict(failover) for failover in failovers]
    return {name: round(max(table[name] for table in tables), 3) for name in tables[0]}


@dataclass(frozen=True, slots=True)
class Places:
    """Where each agent is, by its number; None while its partition has no active primary."""

    nodes: tuple[str | None, ...]

    def held_by(self, name: str) -> list[int]:
        """The agents on a node."""
        return [number for number, node in enumerate(self.nodes) if node == name]

    def moved_since(self, earlier: "Places") -> list[int]:
        """The agents that are elsewhere than they were."""
        pairs = zip(earlier.nodes, self.nodes, strict=True)
        return [number for number, (before, now) in enumerate(pairs) if before != now]


async def ask(client: Client, view: str) -> Any:
    """A view of any node; asked again while nobody answers, as when the one that is asked dies."""
    while True:
        try:
            return await client.view(view)
        except Unavailable:
            await trio.sleep(POLL_S)


async def leader(client: Client) -> str:
    """Who leads the Raft group, once anybody does."""
    while True:
        for member in await ask(client, "members"):
            if member["leader"]:
                return str(member["name"])
        await trio.sleep(POLL_S)


async def places(client: Client) -> Places:
    """Where the agents are now, as a node has it from the Raft group; from one that has all of it."""
    while True:
        total = (await ask(client, "status"))["partitions"]
        rows = await ask(client, "rows")
        if 0 < total == len(rows):
            break
        await trio.sleep(POLL_S)
    active = {row["partition"]: row["primary"] for row in rows if row["phase"] == "active"}
    agent_type = definition_of(DigitReader).name
    return Places(tuple(active.get(partition_of(agent_type, str(number), total)) for number in range(AGENTS)))


async def measure(client: Client, tallies: Tallies, victim: str, held: Sequence[int], killed_at_s: float) -> Failover:
    """Watch until every agent of a node that was killed answers again; `Tallies.watch` was called at the kill."""
    times: dict[str, float] = {}

    async def until_detected() -> None:
        while True:
            states = {member["name"]: member["state"] for member in await ask(client, "members")}
            if states.get(victim) == "dead":
                break
            await trio.sleep(POLL_S)
        times["detect"] = time.monotonic() - killed_at_s

    async def until_reassigned() -> None:
        while True:
            now = await places(client)
            if all(now.nodes[number] not in (None, victim) for number in held):
                break
            await trio.sleep(POLL_S)
        times["reassign"] = time.monotonic() - killed_at_s

    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_detected)
        nursery.start_soon(until_reassigned)
    while not all(number in tallies.answered_again for number in held):
        await trio.sleep(POLL_S)
    again = [tallies.answered_again[number] - killed_at_s for number in held]
    return Failover(times["detect"], times["reassign"], min(again), max(again))
