"""How a node that belongs to no mesh is let into one, and one that does finds out that it is sent to another."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from meshnode.control import Join, Joined
from meshnode.errors import MeshError, OperatorError, OwnNode, Unavailable, WrongMesh, error_from_code
from meshnode.host import Host
from meshnode.identity import Address, check_address
from meshnode.links import LinkRefused, Links, Requests
from meshnode.log import get_logger


class NoMesh(OperatorError):
    """The data directory belongs to no mesh, and nobody says which one to found or to join."""


PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0
"""Between two rounds over all seeds, growing and jittered: a seed that is down may take its time."""

ANSWER_TIMEOUT_S = 10.0
"""A leader answers once the log has the node in it; twice the time that it gives a proposal."""


async def join_mesh(
    host: Host, links: Links, requests: Requests[Joined], candidate: Join, seeds: Sequence[Address]
) -> Joined:
    """Ask until a leader lets the node in.

    Raises:
        OperatorError: it never will, as with a name that is taken; the message says what to do.
    """
    log = get_logger()
    others = [seed for seed in seeds if seed != candidate.registration.address]  # one list may serve all nodes
    pause_s = PAUSE_MIN_S
    while True:
        problems = []
        for seed in others:
            try:
                return await _ask(host, links, requests, candidate, seed)
            except OwnNode as error:
                problems.append(f"{seed}: {error}")
            except OperatorError:
                raise
            except (MeshError, OSError) as error:
                problems.append(f"{seed}: {error}")
        log.warning("no seed let this node in; trying again", seeds=problems, pause_s=round(pause_s, 1))
        await host.sleep_until(host.now() + pause_s * host.rng.uniform(0.5, 1.0))
        pause_s = min(PAUSE_MAX_S, pause_s * 2)


def literal_addresses(seeds: Sequence[Address]) -> list[Address]:
    """The seeds at which membership can knock with datagrams; names serve for joining only, where they are resolved."""
    literal = []
    for seed in seeds:
        with contextlib.suppress(ValueError):
            check_address(seed)
            literal.append(seed)
    return literal


async def check_mesh(links: Links, data: str, seeds: Sequence[Address]) -> None:
    """Ask each seed once, as a node that belongs to a mesh already. A seed that does not answer says nothing.

    Raises:
        WrongMesh: a seed is of another mesh than the data directory.
    """
    for seed in seeds:
        try:
            await links.connect(seed)
        except LinkRefused as error:
            if isinstance(error.refusal, WrongMesh):
                raise WrongMesh(
                    f"--join {seed}: {error.refusal}, the one that the data directory {data} belongs to. Give a member "
                    "of its own mesh with --join, or an empty directory with --data"
                ) from error
        except OSError:
            pass


async def _ask(host: Host, links: Links, requests: Requests[Joined], candidate: Join, seed: Address) -> Joined:
    """Ask a member, and then the leader that it names."""
    asked: set[Address] = set()
    address: Address | None = seed
    while address is not None and address not in asked:
        asked.add(address)
        answer = await _exchange(host, links, requests, candidate, address)
        if not answer.code:
            return answer
        error = error_from_code(answer.code, answer.reason)
        if isinstance(error, OperatorError):
            raise error
        address = answer.leader
    raise error


async def _exchange(host: Host, links: Links, requests: Requests[Joined], candidate: Join, address: Address) -> Joined:
    answer: Joined | None = None
    with host.deadline(host.now() + ANSWER_TIMEOUT_S):
        try:
            hello = await links.connect(address)
        except LinkRefused as error:
            if isinstance(error.refusal, OperatorError):
                raise error.refusal from error
            raise
        answer = await requests.ask(
            hello.node_id,
            lambda number: replace(candidate, number=number),
        )
    if answer is None:
        raise Unavailable(f"no answer within {ANSWER_TIMEOUT_S:g} s")
    return answer
