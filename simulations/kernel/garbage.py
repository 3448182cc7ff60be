"""Collects garbage between two moments rather than anywhere.

What is collected may have finalizers: trio starts a task for each asynchronous generator, for one. When Python collects
depends on whatever else was allocated, so it would not be the same in another process.
"""

import contextlib
import gc
import itertools
from collections.abc import Iterator

YOUNG_MOMENTS = 5_000
"""Collect what is young each time that so many moments have passed: a few MB of garbage at most."""

OLD_MOMENTS = 50_000
"""Collect everything that the run has made: as seldom as not to be noticed, as often as to bound the memory."""

RUNS = 4
"""Collect what so many runs have left behind: each is a world of cycles, of some tens of MB."""

_runs = itertools.count(1)


@contextlib.contextmanager
def orderly_garbage() -> Iterator[None]:
    """While this lasts, garbage is collected by `collect_garbage` alone, and only what was made meanwhile."""
    was_enabled = gc.isenabled()
    if not next(_runs) % RUNS:
        gc.collect()  # Python alone would not for long: it counts what is made while it may collect
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def collect_garbage(moments: int) -> None:
    """At each multiple of `YOUNG_MOMENTS`: so often has no task been able to run by now."""
    gc.collect(2 if not moments % OLD_MOMENTS else 1)
