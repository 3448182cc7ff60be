"""Draws what happens to processes."""

from simulations.cores.faults import Crash, Leave, Pause
from simulations.faults import Departure, DiskKill, LateStart, RollingRestart, SlowCpu, StuckLoop
from simulations.mesh.drawing import Draw, Drawing


def _crashes(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    crashes = []
    for at_s in draw.times(5):
        effects = rng.choice((0, 0, rng.randint(1, 300)))
        crashes.append(Crash(draw.node(), at_s, draw.span(at_s, 12.0), effects, power=rng.random() < 0.5))
    return {"crashes": tuple(crashes)}


def _blackouts(draw: Drawing) -> dict[str, object]:
    """Several at once, or one after the other."""
    rng = draw.rng
    (at_s,) = draw.times(1)
    for_s = draw.span(at_s, 5.0)
    power = rng.random() < 0.5
    apart_s = rng.choice((0.0, 0.0, 1.0, 3.0))
    nodes = rng.sample(range(draw.nodes), rng.randint(2, draw.nodes)) if draw.nodes > 1 else [0]
    last_s = draw.last_s - for_s
    return {
        "crashes": tuple(
            Crash(node, round(min(at_s + number * apart_s, last_s), 3), for_s, 0, power=power)
            for number, node in enumerate(nodes)
        )
    }


def _stops(draw: Drawing) -> dict[str, object]:
    return {"leaves": tuple(Leave(draw.node(), at_s, draw.span(at_s, 8.0)) for at_s in draw.times(4))}


def _rolling_restarts(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    at_s = round(rng.uniform(0.0, 0.4 * draw.duration_s), 3)
    return {"rolling_restarts": (RollingRestart(at_s, rng.choice((0.1, 1.0, 3.0)), orderly=rng.random() < 0.7),)}


def _departures(draw: Drawing) -> dict[str, object]:
    """One at most: of those that stay, three may be all that know something, and of these one may lose its disk."""
    if draw.nodes < 4:
        return {}
    return {"departures": (Departure(draw.node(), draw.times(1)[0]),)}


def _late_starts(draw: Drawing) -> dict[str, object]:
    """Four are there from the beginning, for the reason above."""
    number = draw.rng.randint(1, draw.nodes - 4) if draw.nodes > 4 else 0
    late = draw.rng.sample(range(1, draw.nodes), number)
    return {"late_starts": tuple(LateStart(node, draw.times(1)[0]) for node in late)}


def _pauses(draw: Drawing) -> dict[str, object]:
    return {"pauses": tuple(Pause(draw.node(), at_s, draw.span(at_s, 15.0)) for at_s in draw.times(3))}


def _stuck_loops(draw: Drawing) -> dict[str, object]:
    return {"stuck_loops": tuple(StuckLoop(draw.node(), at_s, draw.span(at_s, 15.0)) for at_s in draw.times(3))}


def _slow_cpus(draw: Drawing) -> dict[str, object]:
    step_s = draw.rng.choice((0.0001, 0.001))
    return {"slow_cpus": tuple(SlowCpu(draw.node(), step_s, at_s, draw.span(at_s, 10.0)) for at_s in draw.times(2))}


def _disk_kills(draw: Drawing) -> dict[str, object]:
    """Some of them followed by a power cut soon after the restart, which may have found what was never synced."""
    rng = draw.rng
    kills, cuts = [], []
    for at_s in draw.times(4):
        operations = rng.choice((0, rng.randint(1, 20), rng.randint(1, 200)))
        kill = DiskKill(draw.node(), operations, at_s, draw.span(at_s, 8.0), power=rng.random() < 0.5)
        kills.append(kill)
        if not kill.power and rng.random() < 0.5:
            again_s = round(at_s + kill.for_s + rng.random() ** 2, 3)
            if again_s < draw.last_s:
                cuts.append(Crash(kill.node, again_s, draw.span(again_s, 2.0), 0, power=True))
    return {"disk_kills": tuple(kills), "crashes": tuple(cuts)}


PROCESS_KINDS: dict[str, Draw] = {
    "crashes": _crashes,
    "blackouts": _blackouts,
    "stops": _stops,
    "rolling-restarts": _rolling_restarts,
    "departures": _departures,
    "late-starts": _late_starts,
    "pauses": _pauses,
    "stuck-loops": _stuck_loops,
    "slow-cpus": _slow_cpus,
    "disk-kills": _disk_kills,
}
"""By the names under which they are asked for."""
