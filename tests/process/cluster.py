"""A mesh of real processes on this machine, observed through the views that its nodes offer."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import trio

from meshnode import Client, MeshError
from simulations.certificates import Authority
from tests.process.processes import NodeProcess

POLL_S = 0.1

PARTITIONS = 64
"""Few, where the number does not matter: a mesh of that size forms and moves quickly."""

REPLICATION = 3

VOTERS_MAX = 5

LOG_TAIL_LINES = 40


class Cluster:
    """Nodes ``n0``, ``n1``, … of one mesh; `close` ends all of them.

    Args:
        root: a folder of its own, for data directories and logs.
        authority: who signs certificates for everybody, so that links are over TLS.
    """

    def __init__(self, root: Path, *, partitions: int = PARTITIONS, authority: Authority | None = None) -> None:
        self.root = root
        self.authority = authority
        self._tls = None if authority is None else authority.tls("client")
        self.partitions = partitions
        self.nodes: list[NodeProcess] = []

    # ---- life

    def new_node(self, *options: str, **settings: Any) -> NodeProcess:
        """A node that is not started yet: the first one founds, the others join through all before them."""
        if self.nodes:
            belonging = [word for node in self.nodes for word in ("--join", str(node.address))]
        else:
            belonging = ["--found", "--partitions", str(self.partitions)]
        name = f"n{len(self.nodes)}"
        node = NodeProcess(self.root, name, *belonging, *self.tls_options(name), *options, **settings)
        self.nodes.append(node)
        return node

    def tls_options(self, name: str) -> tuple[str, ...]:
        """Of a command that has a certificate in that name; none without TLS."""
        if self.authority is None:
            return ()
        certificate, key = self.authority.issue(name)
        return ("--tls-ca", str(self.authority.ca), "--tls-cert", str(certificate), "--tls-key", str(key))

    async def form(self, size: int) -> None:
        """Start that many nodes at once and wait until they are one settled mesh."""
        for _ in range(size):
            self.new_node().start()
        await self.settled()

    def close(self) -> None:
        """Kill whatever runs."""
        for node in self.nodes:
            node.discard()

    def logs(self) -> str:
        """The end of every node's log, for people."""
        parts = []
        for node in self.nodes:
            lines = node.log().splitlines()[-LOG_TAIL_LINES:]
            parts.append("\n".join([f"---- {node.name} ({node.address}) ----", *lines]))
        return "\n".join(parts)

    # ---- asking

    def client(self, nodes: Iterable[NodeProcess] | None = None) -> Client:
        """A client that knows these nodes, or all."""
        return Client([node.address for node in (self.nodes if nodes is None else nodes)], tls=self._tls)

    async def view(self, node: NodeProcess, name: str, *, timeout_s: float = 10.0, **arguments: Any) -> Any:
        """Ask exactly this node."""
        async with self.client([node]) as client:
            return await client.view(name, at=node.address, timeout_s=timeout_s, **arguments)

    async def leader(self, asked: NodeProcess | None = None) -> NodeProcess:
        """Who leads the Raft group, as a running node sees it."""
        asked = asked or next(node for node in self.nodes if node.is_running)
        name = await until(lambda: self._leader_name(asked), "a leader of the Raft group")
        return self.named(name)

    async def primary_of(self, agent_type: str, key: str) -> NodeProcess:
        """Who serves an agent, as a running node sees it."""
        asked = next(node for node in self.nodes if node.is_running)
        return self.named((await self.view(asked, "locate", type=agent_type, key=key))["node"])

    async def rows(self, asked: NodeProcess | None = None) -> list[dict[str, Any]]:
        """The committed rows by partition, as a running node sees them."""
        asked = asked or next(node for node in self.nodes if node.is_running)
        rows: list[dict[str, Any]] = await self.view(asked, "rows")
        return rows

    def named(self, name: str) -> NodeProcess:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    # ---- waiting

    async def settled(self, nodes: Iterable[NodeProcess] | None = None, *, timeout_s: float = 45.0) -> None:
        """Wait until these nodes, or all, see only each other, all partitions served by them and well spread."""
        present = list(self.nodes if nodes is None else nodes)
        await until(lambda: self._is_settled(present), f"{len(present)} settled nodes", timeout_s=timeout_s)

    async def serves_everything(self, nodes: Iterable[NodeProcess], *, timeout_s: float = 30.0) -> None:
        """Wait until every partition has an active primary among these nodes."""
        present = list(nodes)
        await until(lambda: self._is_served_by(present), f"all served by {len(present)} nodes", timeout_s=timeout_s)

    async def _leader_name(self, asked: NodeProcess) -> str | None:
        name: str | None = (await self.view(asked, "raft_status", timeout_s=2.0))["leader_name"]
        return name

    async def _is_served_by(self, present: list[NodeProcess]) -> bool:
        _check_running(present)
        names = {node.name for node in present}
        for node in present:
            rows = await self.view(node, "rows", timeout_s=2.0)
            served = [row for row in rows if row["phase"] == "active" and row["primary"] in names]
            if len(served) < self.partitions:
                return False
        return True

    async def _is_settled(self, present: list[NodeProcess]) -> bool:
        _check_running(present)
        names = {node.name for node in present}
        voters_wanted = min(VOTERS_MAX, len(names) - 1 + len(names) % 2)
        for node in present:
            if not await self._sees_exactly(node, names):
                return False
            raft = await self.view(node, "raft_status", timeout_s=2.0)
            if len(names.intersection(raft["voters"])) < voters_wanted:
                return False
        rows = await self.view(present[0], "rows", timeout_s=2.0)
        replicas = min(REPLICATION, len(names))
        led = {name: sum(row["primary"] == name for row in rows) for name in names}
        return (
            len(rows) == self.partitions
            and all(row["phase"] == "active" for row in rows)
            and all(names.issuperset(row["replicas"]) and len(row["replicas"]) == replicas for row in rows)
            and min(led.values()) >= self.partitions // len(names) // 2
        )

    async def _sees_exactly(self, node: NodeProcess, names: set[str]) -> bool:
        status = await self.view(node, "status", timeout_s=2.0)
        members = await self.view(node, "members", timeout_s=2.0)
        return (
            status["registered"]
            and status["active"] == self.partitions
            and {member["name"] for member in members if member["state"] == "alive"} == names
        )


def _check_running(nodes: Iterable[NodeProcess]) -> None:
    for node in nodes:
        assert node.is_running, f"{node.name} has ended"


async def until(condition: Callable[[], Awaitable[Any]], what: str, *, timeout_s: float = 30.0) -> Any:
    """Ask again and again until the condition yields something true; that. A node that does not answer yet is no error.

    Raises:
        AssertionError: it did not in time.
    """
    problem = "it was never true"
    with trio.move_on_after(timeout_s):
        while True:
            try:
                found = await condition()
            except (MeshError, OSError) as error:
                problem = str(error)
            else:
                if found:
                    return found
                problem = f"the last answer was {found!r}"
            await trio.sleep(POLL_S)
    raise AssertionError(f"{what}: not within {timeout_s} s; {problem}")
