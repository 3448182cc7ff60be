"""Runs with a pen: everything that happens, as steps that people can read.

A run repeats itself, so no run pays for what only one that failed needs: that one is run again while `recording` lasts.
Messages are taken where a node takes them; what the trace notes is taken as it is, so that the notes of two runs that
differ show where they part.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xxhash import xxh32_hexdigest

from consensus import codec
from consensus.errors import MalformedMessage
from consensus.messages import Message as RaftMessage
from meshnode import wire
from meshnode.identity import NodeId
from meshnode.links.delivery import Delivery
from meshnode.links.links import Links
from meshnode.metadata.group import RaftBytes
from simulations.cores import partition_node, placement_world, raft_process, swim_node
from simulations.cores.partition_client import PartitionClient
from simulations.cores.partition_node import PartitionNode
from simulations.cores.raft_member import RaftMember
from simulations.cores.swim_node import SwimNode
from simulations.cores.trace import Trace as CoreTrace
from simulations.hosts.host import SimHost
from simulations.hosts.trace import Trace as HostTrace
from simulations.kernel.process import current_process

FIRST_CLIENT = 1000
"""The numbers of clients in worlds of cores begin here."""

UNTOLD = ("took", "woken")
"""How those notes of cores begin that say no more than a message does, or nothing to people."""

TEXT_MAX = 160
"""Characters of a message that are shown."""

Note = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    Attributes:
        place: the node or client where it happened, such as `n1` or `c0`; empty if nowhere in particular.
        source: who sent the message that arrived there; empty if none did.
        what: in a word or two: the type of a message, or what is noted.
        text: the rest.
        is_note: whether it is of the trace, by whose digest runs are compared.
    """

    time_s: float
    place: str
    source: str
    what: str
    text: str
    is_note: bool

    @property
    def line(self) -> str:
        """All of it, with its time to the last bit."""
        return f"{self.time_s!r} {self.place} {self.what} {self.text}"

    def __str__(self) -> str:
        way = f"{self.source} → {self.place}" if self.source else self.place
        return f"{self.time_s:12.6f}  {way:<9} {self.what} {self.text}".rstrip()


@contextlib.contextmanager
def recording(note: Note, *, world: str = "") -> Iterator[None]:
    """While this lasts, whatever happens in a run is told to ``note``, in its order.

    Args:
        note: takes a step.
        world: of cores, whose numbers for what it notes are to be read; empty for whole nodes.
    """
    with contextlib.ExitStack() as undo:

        def replace(target: type, name: str, make: Callable[[Any], Any]) -> None:
            before = getattr(target, name)
            undo.callback(setattr, target, name, before)
            setattr(target, name, functools.wraps(before)(make(before)))

        if world:
            names = _NOTES.get(world, {})
            replace(CoreTrace, "note", functools.partial(_core_note, note, names))
            for receiver in (SwimNode, RaftMember, PartitionNode, PartitionClient):
                replace(receiver, "receive", functools.partial(_core_message, note))
        else:
            known: dict[NodeId, str] = {}
            replace(HostTrace, "note", functools.partial(_host_note, note))
            replace(Links, "__init__", functools.partial(_introduction, known))
            replace(Links, "introduce_as", functools.partial(_introduction, known))
            replace(Delivery, "deliver", functools.partial(_host_message, note, known))
        yield


# ---- worlds of cores

_NOTES = {
    "swim": swim_node.NOTES,
    "raft": raft_process.NOTES,
    "partitions": partition_node.NOTES,
    "placement": placement_world.NOTES,
}


def _core_note(note: Note, names: dict[int, str], before: Callable[..., None]) -> Callable[..., None]:
    def seen(trace: CoreTrace, now_s: float, node: int, kind: int, value: int) -> None:
        before(trace, now_s, node, kind, value)
        note(Step(now_s, f"n{node}", "", names.get(kind, f"note {kind}"), str(value), is_note=True))

    return seen


def _core_message(note: Note, before: Callable[..., None]) -> Callable[..., None]:
    def seen(receiver: Any, envelope: tuple[Any, int]) -> None:
        message, sender = envelope
        number = receiver._number if isinstance(receiver, PartitionClient) else receiver.number
        place, source = _core_name(number), _core_name(sender)
        note(Step(receiver._world.heap.now, place, source, _word(message), _short(message), is_note=False))
        before(receiver, envelope)

    return seen


def _core_name(number: int) -> str:
    return f"c{number - FIRST_CLIENT}" if number >= FIRST_CLIENT else f"n{number}"


# ---- whole nodes


def _host_note(note: Note, before: Callable[..., None]) -> Callable[..., None]:
    def seen(trace: HostTrace, time_s: float, what: str, subject: str, payload: bytes = b"") -> None:
        before(trace, time_s, what, subject, payload)
        source, arrow, place = subject.partition(" → ")
        text = f"{subject}, {len(payload)} bytes {xxh32_hexdigest(payload)}" if arrow else subject
        if arrow:
            note(Step(time_s, _host_name(place), _host_name(source), what, text, is_note=True))
        else:
            word = subject.split(" ", 1)[0]
            is_place = word[:1] == "n" and word[1:].isdigit()
            note(Step(time_s, word if is_place else "", "", what, text, is_note=True))

    return seen


def _host_name(address: str) -> str:
    """10.0.0.1:… is of node 0, 10.0.1.1:… of client 0."""
    *_, group, number = address.partition(":")[0].split(".")
    return f"{'c' if group == '1' else 'n'}{int(number) - 1}"


def _introduction(known: dict[NodeId, str], before: Callable[..., None]) -> Callable[..., None]:
    def seen(links: Links, *arguments: Any, **named: Any) -> None:
        before(links, *arguments, **named)
        if isinstance(links._host, SimHost):
            known[links._local.node_id] = links._host.process.name

    return seen


def _host_message(note: Note, known: dict[NodeId, str], before: Callable[..., None]) -> Callable[..., None]:
    def seen(delivery: Delivery, peer: NodeId, role: Any, channel: Any, data: memoryview) -> None:
        process = current_process()
        if process is not None and process.is_alive:
            with contextlib.suppress(wire.WireError, MalformedMessage):
                message = wire.decode(data)
                if isinstance(message, RaftBytes):
                    message = codec.decode(message.message)
                now_s, source = process.events.now, known.get(peer, "a guest")
                note(Step(now_s, process.name, source, _word(message), _short(message), is_note=False))
        before(delivery, peer, role, channel, data)

    return seen


def _word(message: object) -> str:
    """The type of a message; those of Raft are one, and differ by their kind."""
    return message.kind.name.lower() if isinstance(message, RaftMessage) else type(message).__name__


def _short(message: object) -> str:
    """What a message says, without its name."""
    text = repr(message).removeprefix(type(message).__name__)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
