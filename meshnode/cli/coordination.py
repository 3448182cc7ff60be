"""Commands about locks and the replicated configuration."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from meshnode.cli.ask import Asked, TextType, asks
from meshnode.cli.outcome import json_text, run, show, table
from meshnode.client import Client
from meshnode.coordination.commands import Entry
from meshnode.coordination.questions import Claimant, LockState, LockStates, ReadLocks
from meshnode.coordination.store import Change, Revision
from meshnode.errors import NotFound
from meshnode.identity import node_id_text

T = TypeVar("T")

PAGE = 200
"""Locks in one answer: each has a queue."""


@click.command()
@click.option("--prefix", type=TextType(), default="", help="Only those that begin like this.")
@asks
def locks(prefix: str, node: Asked, as_json: bool) -> None:
    """Who holds which lock, under which fencing token, and who waits for it, in order.

    An election of a program's own is the lock election/ROLE.
    """

    async def ask(client: Client) -> list[LockState]:
        found: list[LockState] = []
        while True:
            question = ReadLocks(prefix, PAGE, found[-1].name if found else "")
            answer = await client.coordinator.replica.ask(question, fresh=not found)
            assert isinstance(answer, LockStates)
            found += answer.locks
            if len(answer.locks) < PAGE:
                return found

    found = _with_client(node, ask)

    def text() -> str:
        rows = [
            (
                lock.name,
                "-" if lock.holder is None else lock.holder.name,
                "-" if lock.holder is None else lock.holder.token,
                "-" if lock.holder is None else f"{lock.holder.left_ms / 1000:.0f} s",
                ", ".join(waiter.name for waiter in lock.waiting) or "-",
            )
            for lock in found
        ]
        return table(("LOCK", "HOLDER", "TOKEN", "LEFT", "WAITING"), rows)

    show([_lock(lock) for lock in found], text, as_json=as_json)


@click.group()
def config() -> None:
    """The replicated configuration of the mesh: keys that all nodes see alike."""


@config.command("get")
@click.argument("key", type=TextType())
@click.option("--local", is_flag=True, help="What the asked node has, which may be a moment old.")
@asks
def config_get(key: str, local: bool, node: Asked, as_json: bool) -> None:
    """Print the value of a key."""

    async def ask(client: Client) -> Entry:
        entry = await client.configuration.get(key, local=local)
        if entry is None:
            raise NotFound(f"the configuration has no key {key!r:.80}: 'meshnode config list' shows those that it has")
        return entry

    entry = _with_client(node, ask)
    show(_entry(entry), lambda: _text(entry.value), as_json=as_json)


@config.command("put")
@click.argument("key", type=TextType())
@click.argument("value", type=TextType())
@click.option("--ttl", type=float, help="Seconds after which the key goes away.")
@asks
def config_put(key: str, value: str, ttl: float | None, node: Asked, as_json: bool) -> None:
    """Set a key."""
    revision = _with_client(node, lambda client: client.configuration.put(key, value, ttl=ttl))
    show({"key": key, "revision": revision}, lambda: f"{key} set at revision {revision}", as_json=as_json)


@config.command("delete")
@click.argument("key", type=TextType())
@asks
def config_delete(key: str, node: Asked, as_json: bool) -> None:
    """Delete a key; also where it is not there."""
    was_there = _with_client(node, lambda client: client.configuration.delete(key))
    said = "deleted" if was_there else "was not there"
    show({"key": key, "deleted": was_there}, lambda: f"{key} {said}", as_json=as_json)


@config.command("list")
@click.argument("prefix", type=TextType(), default="")
@click.option("--local", is_flag=True, help="What the asked node has, which may be a moment old.")
@asks
def config_list(prefix: str, local: bool, node: Asked, as_json: bool) -> None:
    """All keys that begin with PREFIX, and the revision after which they can be watched."""
    listing = _with_client(node, lambda client: client.configuration.list(prefix, local=local))
    shown = {"revision": listing.revision, "entries": [_entry(entry) for entry in listing.entries]}

    def text() -> str:
        rows = [(entry.key, _text(entry.value), entry.modified) for entry in listing.entries]
        return table(("KEY", "VALUE", "REVISION"), rows)

    show(shown, text, as_json=as_json)


@config.command("watch")
@click.argument("prefix", type=TextType(), default="")
@click.option("--after", type=int, help="Begin after this revision; without it, after now.")
@asks
def config_watch(prefix: str, after: int | None, node: Asked, as_json: bool) -> None:
    """Print every change of keys that begin with PREFIX, in order, until interrupted; with --json, one object a line.

    Who was interrupted and goes on with --after the last revision that it has seen misses nothing.
    """

    async def watch(client: Client) -> None:
        async for revision in client.configuration.watch(prefix, after=after):
            for change in revision.changes:
                line = json_text(_change(revision, change)) if as_json else _told(revision, change)
                click.echo(line)
            sys.stdout.flush()

    _with_client(node, watch)


def _with_client(node: Asked, work: Callable[[Client], Awaitable[T]]) -> T:
    async def main() -> T:
        async with node.client() as client:
            await client.view("status", at=node.address)  # who can't be reached is told so at once
            return await work(client)

    return run(main)


def _lock(lock: LockState) -> dict[str, Any]:
    return {
        "name": lock.name,
        "holder": None if lock.holder is None else _claimant(lock.holder),
        "waiting": [_claimant(waiter) for waiter in lock.waiting],
    }


def _claimant(claimant: Claimant) -> dict[str, Any]:
    return {
        "name": claimant.name,
        "id": node_id_text(claimant.node_id) if claimant.node_id else None,
        "token": claimant.token or None,
        "names": list(claimant.names),
        "left_s": claimant.left_ms / 1000,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "value": _plain(entry.value),
        "created": entry.created,
        "modified": entry.modified,
        "version": entry.version,
    }


def _change(revision: Revision, change: Change) -> dict[str, Any]:
    return {
        "revision": revision.revision,
        "kind": change.kind.value,
        "key": change.key,
        "value": None if change.entry is None else _plain(change.entry.value),
    }


def _told(revision: Revision, change: Change) -> str:
    value = "" if change.entry is None else f" = {_text(change.entry.value)}"
    return f"{revision.revision} {change.kind.value} {change.key}{value}"


def _plain(value: bytes) -> str | bytes:
    """Text where it is some; `json_text` says how bytes are shown."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _text(value: bytes) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json_text(plain)
