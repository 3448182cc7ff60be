"""Commands that ask a running node."""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import trio

from meshnode.cli.outcome import json_text, run, show, table
from meshnode.cli.run import AddressType
from meshnode.cli.secure import takes_tls
from meshnode.client import Client
from meshnode.config import PORT_DEFAULT
from meshnode.identity import Address
from meshnode.links import Tls
from meshnode.views import PAGE_MAX

LISTED_DEFAULT = 1000

QUIET_S = 15.0
"""How long a command says nothing of what it waits for: longer than it takes to find out that the node is not there."""


class TextType(click.ParamType[str]):
    """Text that can cross the mesh: what a shell hands over need not be any."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value!r:.200} has no UTF-8 form", param, ctx)
        return value


class AgentType(click.ParamType[tuple[str, str]]):
    """TYPE/KEY."""

    name = "type/key"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        agent_type, slash, key = TextType().convert(value, param, ctx).partition("/")
        if not slash or not agent_type or not key:
            self.fail(f"{value!r:.200} is not TYPE/KEY, as in counter/42", param, ctx)
        return agent_type, key


@dataclass(frozen=True, slots=True)
class Asked:
    """The node that a command asks."""

    address: Address
    tls: Tls | None

    def __str__(self) -> str:
        return str(self.address)

    def client(self) -> Client:
        """A client that knows this node."""
        return Client([self.address], tls=self.tls)

    def view(self, name: str, *, timeout_s: float = 10.0, meanwhile: str = "", **arguments: Any) -> Any:
        """Ask it for a view. Where that takes a while, stderr says what goes on ``meanwhile``."""

        async def ask() -> Any:
            async with self.client() as client, trio.open_nursery() as nursery:
                if meanwhile:
                    nursery.start_soon(_say_after, QUIET_S, f"waiting up to {timeout_s:g} s: {meanwhile}")
                found = await client.view(name, at=self.address, timeout_s=timeout_s, **arguments)
                nursery.cancel_scope.cancel()
                return found

        return run(ask)


async def _say_after(seconds: float, text: str) -> None:
    await trio.sleep(seconds)
    click.echo(text, err=True)


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Options that every asking command has; it is handed ``node: Asked`` and ``as_json``."""

    @functools.wraps(command)
    def asking(*arguments: object, node: Address, tls: Tls | None, **named: object) -> None:
        command(*arguments, node=Asked(node, tls), **named)

    at = f"127.0.0.1:{PORT_DEFAULT}"
    where = click.option("--node", type=AddressType(), default=at, show_default=True, help="Any node of the mesh.")
    how = click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")
    return where(how(takes_tls(asking)))


@click.command()
@asks
def members(node: Asked, as_json: bool) -> None:
    """Who is here; and the dead, for a day, in case they return. Those who left are not shown."""
    found = node.view("members")

    def text() -> str:
        rows = [
            (
                member["name"],
                member["address"],
                member["state"],
                "leader" if member["leader"] else "voter" if member["voter"] else "follower",
                member["primaries"],
                member["id"],
            )
            for member in found
        ]
        return table(("NAME", "ADDRESS", "STATE", "RAFT", "PRIMARIES", "ID"), rows)

    show(found, text, as_json=as_json)


@click.group()
def agents() -> None:
    """Agents and where they are."""


@agents.command("ls")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LISTED_DEFAULT, show_default=True, help="How many at most."
)
@click.option("--after", type=AgentType(), help="Only those that come after this one.")
@asks
def agents_ls(limit: int, after: tuple[str, str] | None, node: Asked, as_json: bool) -> None:
    """Agents with a state, in the order of their names."""
    found = run(lambda: _listed(node, limit, after))

    def text() -> str:
        rows = [(f"{agent['type']}/{agent['key']}", agent["node"], agent["partition"]) for agent in found["agents"]]
        lines = [table(("AGENT", "NODE", "PARTITION"), rows)]
        if len(rows) < found["total"]:
            last = f": --after {rows[-1][0]} shows those that follow" if rows and len(rows) == limit else ""
            lines.append(f"({len(rows)} of {found['total']}{last})")
        lines += [f"(not those of {one['node']}: {one['reason']})" for one in found["silent"]]
        return "\n".join(lines)

    show(found, text, as_json=as_json)


async def _listed(node: Asked, limit: int, after: tuple[str, str] | None) -> dict[str, Any]:
    """As many agents as are wanted, page by page: all of them would not fit into one answer."""
    listed: list[dict[str, Any]] = []
    async with node.client() as client:
        while True:
            wanted = min(limit - len(listed), PAGE_MAX)
            page: dict[str, Any] = await client.view(
                "agents", at=node.address, limit=wanted, after=list(after or ("", ""))
            )
            listed += page["agents"]
            if len(page["agents"]) < wanted or len(listed) == limit:
                return {**page, "agents": listed}
            after = (listed[-1]["type"], listed[-1]["key"])


@agents.command("locate")
@click.argument("agent", metavar="TYPE/KEY", type=AgentType())
@asks
def agents_locate(agent: tuple[str, str], node: Asked, as_json: bool) -> None:
    """Where an agent is, and why it is there; for one without a state, where it would be."""
    agent_type, key = agent
    found = node.view("locate", type=agent_type, key=key)

    def text() -> str:
        lines = [
            f"{agent_type}/{key} is on {found['node']} (partition {found['partition']}, epoch {found['epoch']}, "
            f"{found['phase']}; replicas {', '.join(found['replicas'])})",
            f"last moved: {found['moved_because']}",
            found["why"],
        ]
        if not found["offered"]:
            types = ", ".join(found["types"])
            lines.insert(0, f"{node} offers no agent type {agent_type!r}; its application has: {types}")
        return "\n".join(lines)

    show(found, text, as_json=as_json)


@click.command()
@click.argument("agent", metavar="TYPE/KEY", type=AgentType())
@click.argument("method", type=TextType())
@click.argument("arguments", default="{}")
@click.option("--timeout", "timeout_s", type=float, default=30.0, show_default=True, help="Seconds.")
@click.option("--request-id", type=TextType(), default="", help="Calls with the same id take effect once.")
@asks
def call(
    agent: tuple[str, str], method: str, arguments: str, timeout_s: float, request_id: str, node: Asked, as_json: bool
) -> None:
    """Call a method of an agent; ARGUMENTS is a JSON object of named arguments, or a JSON array.

    The result is printed as JSON. Bytes in it are {"base64": "…"}, dates text as in ISO 8601, and numbers that JSON
    does not have "NaN", "Infinity" and "-Infinity".
    """
    agent_type, key = agent
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or nested too deep
        raise click.UsageError(f"the arguments {arguments!r:.200} are not JSON: {error}") from error
    if not isinstance(given, dict | list):
        raise click.UsageError(f"the arguments {arguments!r:.200} are neither a JSON object nor an array")
    if not 0 < timeout_s < math.inf:
        raise click.UsageError(f"--timeout {timeout_s}: choose a number of seconds above 0")
    positional, named = ((), given) if isinstance(given, dict) else (given, {})

    async def ask() -> Any:
        async with node.client() as client:
            reference: Any = client.ref(agent_type, key, timeout_s=timeout_s, request_id=request_id)
            return await getattr(reference, method)(*positional, **named)

    if method.startswith("_"):
        raise click.UsageError(f"{method!r} is no method of an agent")
    result = run(ask)
    show(result, lambda: json_text(result, indent=2), as_json=as_json)


@click.command()
@asks
def devices(node: Asked, as_json: bool) -> None:
    """What the asked node computes predictions on."""
    found = node.view("devices")

    def text() -> str:
        return f"{found['name']}: {found['device']}\n{found['batches']} batches, {found['mean_batch_rows']} rows each"

    show(found, text, as_json=as_json)


@click.command()
@asks
def leave(node: Asked, as_json: bool) -> None:
    """Have the asked node hand everything over, leave the mesh and end."""
    done = node.view("leave", timeout_s=130.0, meanwhile="its replicas are made elsewhere before it goes")
    show(done, lambda: f"{node} has left", as_json=as_json)


@click.command()
@asks
def status(node: Asked, as_json: bool) -> None:
    """Counters of the asked node."""
    found = node.view("status")
    show(found, lambda: "\n".join(f"{name:16} {value}" for name, value in found.items()), as_json=as_json)
