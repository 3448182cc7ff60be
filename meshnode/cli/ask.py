"""Commands that ask a running node."""

import json
from collections.abc import Callable
from typing import Any

import click

from meshnode.cli.outcome import run, show, table
from meshnode.cli.run import AddressType
from meshnode.client import Client
from meshnode.config import PORT_DEFAULT
from meshnode.identity import Address


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Options that every asking command has."""
    command = click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")(command)
    at = f"127.0.0.1:{PORT_DEFAULT}"
    return click.option("--node", type=AddressType(), default=at, show_default=True, help="Any node of the mesh.")(
        command
    )


def view(node: Address, name: str, *, timeout_s: float = 10.0, **arguments: Any) -> Any:
    """Ask a node for a view."""

    async def ask() -> Any:
        async with Client([node]) as client:
            return await client.view(name, at=node, timeout_s=timeout_s, **arguments)

    return run(ask)


@click.command()
@asks
def members(node: Address, as_json: bool) -> None:
    """Who is here."""
    found = view(node, "members")
    rows = [
        (
            member["name"],
            member["address"],
            member["state"],
            "leader" if member["leader"] else "voter" if member["voter"] else "",
            member["primaries"],
            member["id"],
        )
        for member in found
    ]
    show(found, table(("NAME", "ADDRESS", "STATE", "RAFT", "PRIMARIES", "ID"), rows), as_json=as_json)


@click.group()
def raft() -> None:
    """The Raft group."""


@raft.command("status")
@asks
def raft_status(node: Address, as_json: bool) -> None:
    """Term, leader, voters and progress, as the asked node sees them."""
    status = view(node, "raft_status")
    lines = [
        f"{status['name']} is {status['role']} in term {status['term']}; leader {status['leader_name'] or 'unknown'}",
        f"committed {status['commit']}, applied {status['applied']}",
        f"voters   {', '.join(status['voters']) or '-'}",
        f"learners {', '.join(status['learners']) or '-'}",
    ]
    lines += [f"  {peer['name']}: {peer['state']}, has {peer['match']}" for peer in status["followers"]]
    show(status, "\n".join(lines), as_json=as_json)


@click.group()
def agents() -> None:
    """Agents and where they are."""


@agents.command("ls")
@asks
def agents_ls(node: Address, as_json: bool) -> None:
    """All agents with a state."""
    found = view(node, "agents")
    rows = [(f"{agent['type']}/{agent['key']}", agent["node"], agent["partition"]) for agent in found["agents"]]
    text = table(("AGENT", "NODE", "PARTITION"), rows)
    if found["silent"]:
        text += f"\n(no answer from {', '.join(found['silent'])})"
    show(found, text, as_json=as_json)


@agents.command("locate")
@click.argument("agent", metavar="TYPE/KEY")
@asks
def agents_locate(agent: str, node: Address, as_json: bool) -> None:
    """Where an agent is, and why it is there."""
    agent_type, key = split_agent(agent)
    found = view(node, "locate", type=agent_type, key=key)
    text = (
        f"{agent} is on {found['node']} (partition {found['partition']}, epoch {found['epoch']}, {found['phase']}; "
        f"replicas {', '.join(found['replicas'])})\nlast moved: {found['moved_because']}\n{found['why']}"
    )
    show(found, text, as_json=as_json)


@click.command()
@click.argument("agent", metavar="TYPE/KEY")
@click.argument("method")
@click.argument("arguments", default="{}")
@click.option("--timeout", "timeout_s", type=float, default=30.0, show_default=True, help="Seconds.")
@click.option("--request-id", default="", help="Calls with the same id take effect once.")
@asks
def call(
    agent: str, method: str, arguments: str, timeout_s: float, request_id: str, node: Address, as_json: bool
) -> None:
    """Call a method of an agent; ARGUMENTS is a JSON object of named arguments, or a JSON array."""
    agent_type, key = split_agent(agent)
    try:
        given = json.loads(arguments)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"the arguments {arguments!r} are not JSON: {error}") from error
    if not isinstance(given, dict | list):
        raise click.UsageError(f"the arguments {arguments!r} are neither a JSON object nor an array")
    if timeout_s <= 0:
        raise click.UsageError(f"--timeout {timeout_s}: choose above 0")
    positional, named = ((), given) if isinstance(given, dict) else (given, {})

    async def ask() -> Any:
        async with Client([node]) as client:
            reference: Any = client.ref(agent_type, key, timeout_s=timeout_s, request_id=request_id)
            return await getattr(reference, method)(*positional, **named)

    if method.startswith("_"):
        raise click.UsageError(f"{method!r} is no method of an agent")
    result = run(ask)
    show(result, json.dumps(result, ensure_ascii=False, indent=2), as_json=as_json)


@click.command()
@asks
def devices(node: Address, as_json: bool) -> None:
    """What the asked node computes predictions on."""
    found = view(node, "devices")
    text = f"{found['name']}: {found['device']}\n{found['batches']} batches, {found['mean_batch_rows']} rows each"
    show(found, text, as_json=as_json)


@click.command()
@asks
def leave(node: Address, as_json: bool) -> None:
    """Have the asked node hand everything over, leave the mesh and end."""
    done = view(node, "leave", timeout_s=130.0)
    show(done, f"{node} has left", as_json=as_json)


@click.command()
@asks
def status(node: Address, as_json: bool) -> None:
    """Counters of the asked node."""
    found = view(node, "status")
    show(found, "\n".join(f"{name:16} {value}" for name, value in found.items()), as_json=as_json)


def split_agent(agent: str) -> tuple[str, str]:
    """TYPE and KEY of TYPE/KEY."""
    agent_type, slash, key = agent.partition("/")
    if not slash or not agent_type or not key:
        raise click.UsageError(f"{agent!r} is not TYPE/KEY, as in counter/42")
    return agent_type, key
