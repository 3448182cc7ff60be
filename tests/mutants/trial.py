"""Looks for a violation in the tree that comes first on the path: run as a script by `hunt`, never imported.

    python -P trial.py TREE LEVEL WHERE FIRST LAST

WHERE is worlds of level 1, or workloads of level 2, which take turns. Tries the seeds in order and prints one JSON
object: ``seeds`` tried, CPU ``seconds`` taken, and of the first violation ``seed``, ``where``, ``invariant`` and
``story``; the invariant is empty if there was none.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

RUN_CPU_S = 120.0
"""A run that takes longer has lost its way: usual ones take a hundredth of it at level 1, and a tenth at level 2."""

ENDLESS = "endless-run"

NODES = (5, 4, 8)
"""Of whole nodes, in turns: of five all vote, of four three, and of eight five."""


class _Endless(BaseException):
    """A run does not end. No code of the tree catches this."""


def _end_run(_signal: int, _frame: FrameType | None) -> None:
    raise _Endless


def _tries(level: int, where: list[str], first: int, last: int) -> Iterator[tuple[int, str, str, str]]:
    """Seed, where, invariant and story of each run."""
    seeds = range(first, last + 1)
    return _of_cores(where, seeds) if level == 1 else _of_nodes(where, seeds)


def _of_cores(worlds: list[str], seeds: range) -> Iterator[tuple[int, str, str, str]]:
    from simulations.cores.swarm import WORLDS

    for seed in seeds:
        for world in worlds:
            report = WORLDS[world](seed)
            violation = None if report.is_clean else report.violations[0]
            yield seed, world, "" if violation is None else violation.invariant, str(violation)


def _of_nodes(workloads: list[str], seeds: range) -> Iterator[tuple[int, str, str, str]]:
    from simulations.campaign import run_plan
    from simulations.mesh.swarm import draw_plan

    for seed in seeds:
        workload = workloads[seed % len(workloads)]
        result = run_plan(draw_plan(seed, nodes=NODES[seed % len(NODES)], workload=workload))
        yield seed, workload, result.invariant, result.story


def main(tree: str, level: int, where: list[str], first: int, last: int) -> dict[str, object]:
    """See the module."""
    import simulations

    paths = list(simulations.__path__)
    if paths != [os.path.join(tree, "simulations")]:
        raise SystemExit(f"simulations is that of {paths}, and not of {tree}")
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGPROF, _end_run)
    began_s = time.process_time()
    found: dict[str, object] = {"seed": 0, "where": "", "invariant": "", "story": ""}
    seed = first
    tries = _tries(level, where, first, last)
    try:
        signal.setitimer(signal.ITIMER_PROF, RUN_CPU_S)
        for seed, place, invariant, story in tries:
            if invariant:
                found = {"seed": seed, "where": place, "invariant": invariant, "story": story}
                break
            signal.setitimer(signal.ITIMER_PROF, RUN_CPU_S)
    except _Endless:
        found = {"seed": seed + 1, "where": ",".join(where), "invariant": ENDLESS, "story": f"{RUN_CPU_S} s of CPU"}
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    return found | {"seeds": seed - first + 1, "seconds": time.process_time() - began_s}


if __name__ == "__main__":
    _, _tree, _level, _where, _first, _last = sys.argv
    sys.stdout.write(json.dumps(main(_tree, int(_level), _where.split(","), int(_first), int(_last))))
