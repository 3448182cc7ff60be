"""The workload of predictions: agents that tally what their node predicts for them, while models change."""

import random

import numpy as np
import trio

from kernels import Layer, Mlp
from kernels import reference as reference_path
from kernels.model import Floats
from simulations.checkers.models import COUNTER
from simulations.mesh.agents import MODEL, Classifier
from simulations.mesh.client import TIMEOUTS_S, SimClient
from simulations.mesh.workload import World

INPUTS, HIDDEN, OUTPUTS = 6, 8, 4

TOLERANCE = 1e-6
"""Of a probability. Weights and rows are small whole numbers, so that all but the softmax is exact in any order."""

MODELS = 4
"""Versions among which clients choose what to publish."""

ROWS_MAX = 5
"""In one call."""

FRESH_WITHIN_S = 30.0
"""So long after a model was published in calm all nodes use it: many times the interval at which they look."""


def draw_model(rng: random.Random) -> Mlp:
    """A network of whole numbers."""

    def layer(inputs: int, outputs: int) -> Layer:
        drawn = [[rng.randint(-2, 2) for _ in range(outputs)] for _ in range(inputs + 1)]
        return Layer(np.array(drawn[:-1], np.float32), np.array(drawn[-1], np.float32))

    return Mlp((layer(INPUTS, HIDDEN), layer(HIDDEN, OUTPUTS)))


def draw_rows(rng: random.Random) -> list[list[float]]:
    """What is to be predicted in one call."""
    return [[float(rng.randint(-3, 3)) for _ in range(INPUTS)] for _ in range(rng.randint(1, ROWS_MAX))]


async def predict(world: World) -> None:
    """Each call has rows predicted by a model that was published, and each row is tallied once."""
    world.model = COUNTER
    models = [draw_model(world.rng) for _ in range(MODELS)]
    published = {0}  # by their places in ``models``: those that some node may use by now
    await world.client.publish_model(MODEL, models[0])

    def computed_by(rows: list[list[float]], answers: list[list[float]]) -> set[int]:
        """The published models that give these answers."""
        given, seen = np.array(rows, np.float32), np.array(answers, np.float32)
        return {place for place in published if _equal(reference_path.forward(models[place], given), seen)}

    async def tally(client: SimClient, key: str, timeout_s: float) -> set[int]:
        rows = draw_rows(client.rng)
        agent = client.ref(Classifier, key, timeout_s=timeout_s)
        answers: list[list[float]] = []

        async def classify() -> int:
            total, given = await agent.classify(rows)
            answers.extend(given)
            return total

        await client.operation("add", key, len(rows), classify())
        places = computed_by(rows, answers)
        if not places:
            world.violated("prediction-reference", f"{key}: {rows} gave {answers}, and no published model does")
        return places

    async def step(client: SimClient) -> None:
        key = f"k{client.rng.randrange(world.plan.keys)}"
        chance, timeout_s = client.rng.random(), client.rng.choice(TIMEOUTS_S)
        if chance < 0.1:
            place = client.rng.randrange(MODELS)
            published.add(place)  # an attempt is enough: some node may see it before its publisher knows
            await client.publish_model(MODEL, models[place])
        elif chance < 0.25:
            await client.operation("read", key, None, client.ref(Classifier, key, timeout_s=timeout_s).read())
        else:
            await tally(client, key, timeout_s)

    await world.under_faults(step)
    last = draw_model(world.rng)
    models.append(last)
    published.add(MODELS)
    await world.client.publish_model(MODEL, last)
    give_up_s = world.now + FRESH_WITHIN_S
    for key in (f"k{number}" for number in range(world.plan.keys)):
        while MODELS not in await tally(world.client, key, world.plan.recovery_s):
            if world.now > give_up_s:
                world.violated("prediction-fresh", f"{key} is answered by an old model, {FRESH_WITHIN_S:g} s later")
            await trio.sleep(0.5)
        agent = world.client.ref(Classifier, key, timeout_s=world.plan.recovery_s)
        total, by_class = await agent.tallies()
        if total != sum(by_class):
            world.violated("prediction-tallies", f"{key} tallied {total} rows, and {by_class} by class")


def _equal(expected: Floats, seen: Floats) -> bool:
    return expected.shape == seen.shape and bool(np.all(np.abs(expected - seen) <= TOLERANCE))
