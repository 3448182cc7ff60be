"""What share of a run's steps is out of the ordinary, drawn for each run as its faults are."""

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio

from simulations.mesh.client import CAUSED_BY_FAULTS
from simulations.plan import Plan

T = TypeVar("T")

SHARES = (0.0, 0.05, 0.2)
"""Of all steps, each kind: none of them, so that others get on, or some, or so many that they meet."""

PAUSES_S = (0.05, 0.2, 0.5, 1.5)
"""The longest rest of a turn that takes its time: in few of the others would anything happen."""

HANDS = 3
"""What a client that does several things does at a time."""

ACTS_OF_A_HAND = 3
"""One after the other, without a pause: so some have ended when others begin beside slow ones."""

ACTS = HANDS * ACTS_OF_A_HAND

BUSY_MAX = 0.1
"""The share of its time in which an agent may rest: whoever waits for its turn too long does not learn what becomes of
it, and a history of many such calls proves little and takes long to judge."""


@dataclass(frozen=True, slots=True)
class Habits:
    """Shares of the steps.

    Attributes:
        slow: those of turns that take their time.
        in_vain: whose turns change something and fail then.
        together: of turns that call other agents.
        again: that ask once more for what was asked for before, under its request id.
        at_once: in which a client does several things at a time.
    """

    slow: float
    in_vain: float
    together: float
    again: float
    at_once: float

    @staticmethod
    def draw(rng: random.Random, plan: Plan) -> "Habits":
        """Those of one run."""
        slow, in_vain, together, again, at_once = (rng.choice(SHARES) for _ in range(5))
        rest_s = sum(PAUSES_S) / len(PAUSES_S) / 2
        slow = min(slow, BUSY_MAX * plan.keys / plan.calls_per_s / rest_s)
        return Habits(slow, in_vain, together, again, at_once / ACTS)


def draw_pause_s(rng: random.Random) -> float:
    """How long a turn rests that takes its time."""
    return round(rng.random() * rng.choice(PAUSES_S), 3)


async def act_at_once(act: Callable[[], Awaitable[object]]) -> None:
    """Several times, in part side by side, whatever the faults make of each."""

    async def repeat() -> None:
        for _ in range(ACTS_OF_A_HAND):
            with contextlib.suppress(*CAUSED_BY_FAULTS):
                await act()

    async with trio.open_nursery() as nursery:
        for _ in range(HANDS):
            nursery.start_soon(repeat)


def choose(rng: random.Random, odd: Iterable[tuple[T, float]], usual: Sequence[tuple[T, float]]) -> T:
    """One of the odd ones, each with its share of all; or else one of the usual ones, which share what is left.

    Args:
        usual: with their weights.
    """
    chance = rng.random()
    for chosen, share in odd:
        if chance < share:
            return chosen
        chance -= share
    return rng.choices([chosen for chosen, _ in usual], [weight for _, weight in usual])[0]
