"""When Python's collector of cycles works: not while a world runs."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def resting_collector() -> Iterator[None]:
    """While this lasts, cycles are not collected; in another one that lasts longer, it changes nothing.

    What events leave behind has none to speak of and is freed by its counts, while a world is in use as a whole: each
    collection looks through what has come about since the last one, which is one tenth of all that a run costs, and
    through thousands of nodes for seconds. Once a run is over, its world is garbage as a whole.
    """
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()
