"""Meshes of nodes in this process, over real loopback sockets and real files, with short times."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from meshnode import Address, Agent, Client, Node, NodeConfig, agent, handler
from meshnode.errors import InvalidArgument
from meshnode.host import Host
from meshnode.links import LinksConfig
from meshnode.membership.config import SwimConfig
from meshnode.metadata.config import VOTERS_DEFAULT, AllocatorConfig
from meshnode.partitions.config import PartitionsConfig
from meshnode.placement import partition_of
from meshnode.prediction import PredictionConfig

GUARD_S = 40.0
"""Far beyond what anything here takes, on a machine that does other things too."""

PARTITIONS = 8


@dataclass
class Tally:
    total: int = 0
    who: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Receipt:
    """A result with a type of its own."""

    total: int
    who: tuple[str, ...]


@agent("tally", state=Tally)
class Counter(Agent[Tally]):
    @handler
    async def add(self, n: int = 1, *, who: str = "") -> Receipt:
        self.state.total += n
        self.state.who.append(who)
        return Receipt(self.state.total, tuple(self.state.who))

    @handler(read_only=True)
    async def total(self) -> int:
        return self.state.total

    @handler
    async def forward(self, to: str, n: int) -> int:
        """Take from this one, and add to another."""
        self.state.total -= n
        return (await self.node.ref(Counter, to).add(n, who=self.key)).total

    @handler
    async def ring(self, to: list[str]) -> None:
        """Call the first one with the rest of the list."""
        if to:
            await self.node.ref(Counter, to[0]).ring(to[1:])

    @handler
    async def fail(self, why: str) -> None:
        self.state.total = -1
        raise ValueError(why)

    @handler
    async def refuse(self) -> None:
        raise InvalidArgument("not like this")

    @handler
    async def classify(self, model: str, row: list[float]) -> int:
        return int((await self.node.predict(model, row)).argmax())


def config_of(name: str, directory: Path, **overrides: Any) -> NodeConfig:
    settings: dict[str, Any] = {
        "name": name,
        "data": str(directory / name),
        "bind": Address("127.0.0.1", 0),
        "partitions": PARTITIONS,
        "election_timeout_s": 0.3,
        "links": LinksConfig(backoff_min_s=0.02, backoff_max_s=0.2),
        "swim": SwimConfig(probe_interval_s=0.2, probe_timeout_s=0.1, gossip_interval_s=0.05),
        "allocator": AllocatorConfig(settle_s=0.1, replacement_delay_s=0.5, stuck_after_s=5.0, stall_s=1.0),
        "partition": PartitionsConfig(confirm_interval_s=0.2, lease_s=2.0, resend_after_s=0.2),
        "prediction": PredictionConfig(device="numpy", refresh_s=0.05),
        **overrides,
    }
    return NodeConfig(**settings)


@dataclass(eq=False)
class Running:
    """A node in a task of its own, so that it can be stopped alone."""

    node: Node
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopped: trio.Event = field(default_factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self.scope:
                async with self.node:
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self.stopped.set()

    async def stop(self) -> None:
        """End it as a crash would: without a word to the others."""
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.stopped.wait()


class Mesh:
    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.running: dict[str, Running] = {}
        self._nursery = nursery
        self._directory = directory

    async def start(self, name: str, *, host: Host | None = None, **overrides: Any) -> Node:
        """Start a node; the first one founds the mesh, the others join it there."""
        seeds = [running.node.address for running in self.running.values() if not running.stopped.is_set()]
        ways = {"found": True} if not self.running else {"join": seeds}
        config = config_of(name, self._directory, **{**ways, **overrides})
        running = Running(Node(config, agents=[Counter], host=host))
        await self._nursery.start(running.run)
        self.running[name] = running
        return running.node

    async def stop(self, name: str) -> None:
        await self.running[name].stop()

    def node(self, name: str) -> Node:
        return self.running[name].node

    async def balanced(self, *names: str) -> None:
        """Wait until as many of these nodes as should, and no others, vote; and all of them, and no others, hold all
        partitions, and each serves some."""
        nodes = {self.node(name).node_id for name in names}
        voters = min(VOTERS_DEFAULT, len(nodes) - 1 + len(nodes) % 2)

        def is_balanced() -> bool:
            for name in names:
                node = self.node(name)
                rows = node.metadata.rows.values()
                if not nodes.issuperset(node.group.status.voters) or len(node.group.status.voters) != voters:
                    return False
                if len(rows) != PARTITIONS or any(row.phase.name != "ACTIVE" for row in rows):
                    return False
                if {row.primary for row in rows} != nodes:
                    return False
                if any(set(row.replicas) != nodes for row in rows):
                    return False
            return True

        await until(is_balanced)

    def key_at(self, name: str) -> str:
        """The key of a tally whose primary is this node."""
        node = self.node(name)
        keys = (f"key {number}" for number in range(10_000))
        return next(
            key for key in keys if node.directory.primary_of(partition_of("tally", key, PARTITIONS)) == node.node_id
        )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks and threads bring about."""
    while not condition():
        await trio.sleep(0.01)


@contextlib.asynccontextmanager
async def mesh_of(directory: Path, *names: str) -> AsyncIterator[Mesh]:
    """Nodes with these names, each serving its share."""
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            mesh = Mesh(nursery, directory)
            for name in names:
                await mesh.start(name)
            await mesh.balanced(*names)
            yield mesh
            nursery.cancel_scope.cancel()


def client_of(*nodes: Node) -> Client:
    return Client([node.address for node in nodes])
