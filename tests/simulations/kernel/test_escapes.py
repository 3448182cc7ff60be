"""What reaches past the simulated world is caught, whoever does it, and nothing else is."""

import datetime
import linecache
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import datetime as moment
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import trio

from simulations.kernel import Escaped, Events, simulate


def run(step: Callable[[], object]) -> object:
    """Take a step in the middle of a run; what it gives."""
    results: list[object] = []

    async def main() -> None:
        await trio.sleep(1.0)
        results.append(step())
        await trio.sleep(1.0)

    simulate(main, events=Events(), seed=1)
    return results[0]


ESCAPES: dict[str, Callable[[], object]] = {
    "time.time": lambda: time.time(),
    "time.monotonic": lambda: monotonic(),
    "time.perf_counter_ns": lambda: time.perf_counter_ns(),
    "time.localtime": lambda: time.localtime(),
    "time.sleep": lambda: time.sleep(0.0),
    "datetime.now": lambda: moment.now(datetime.UTC),
    "datetime.utcnow": lambda: datetime.datetime.utcnow(),  # noqa: DTZ003 - in a simulation, too
    "date.today": lambda: datetime.date.today(),  # noqa: DTZ011
    "random.random": lambda: random.random(),
    "random.shuffle": lambda: random.shuffle([1, 2]),
    "random.Random": lambda: random.Random(),
    "os.urandom": lambda: os.urandom(8),
    "os.urandom by secrets": lambda: secrets.token_hex(8),
    "os.urandom by SystemRandom": lambda: random.SystemRandom().randrange(5),
    "os.urandom by numpy": lambda: np.random.default_rng(),
    "numpy.random.rand": lambda: np.random.rand(),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "open": lambda: Path(__file__).read_text(),
    "os.listdir": lambda: os.listdir(),
    "os.mkdir": lambda: Path("/nowhere/at/all").mkdir(),
    "socket.__new__": lambda: socket.socket(),
    "subprocess.Popen": lambda: subprocess.run(["true"], check=True),
    "_thread.start_new_thread": lambda: threading.Thread(target=int).start(),
}


@pytest.mark.parametrize("what", ESCAPES)
def test_what_reaches_past_the_world_ends_the_run_with_its_name_its_place_and_the_way_out(what: str) -> None:
    name = what.partition(" ")[0]
    with pytest.raises(Escaped, match=rf"{name}\(.* was called at .*test_escapes.py:\d+, in .*take such a value as an"):
        run(ESCAPES[what])


def test_nothing_happens_that_was_caught(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(Escaped, match="open"):
        run(lambda: made.write_text("x"))
    assert not made.exists()


def test_who_hides_it_is_found_all_the_same() -> None:
    def hide() -> float:
        try:
            return time.time()
        except Exception:  # noqa: BLE001
            return 0.0

    with pytest.raises(Escaped, match=r"time\.time\(\) was called at .*, in .*hide"):
        run(hide)


def test_an_event_that_reaches_past_the_world_is_caught_too() -> None:
    events = Events()
    events.at(0.5, lambda: time.time())

    async def main() -> None:
        await trio.sleep(1.0)

    with pytest.raises(Escaped):
        simulate(main, events=events, seed=1)


def look_up_source() -> str:
    linecache.clearcache()
    try:
        raise ValueError("in the middle of a run")
    except ValueError as error:
        return "".join(traceback.format_exception(error))


ALLOWED: dict[str, Callable[[], object]] = {
    "numbers from a seed": lambda: random.Random(3).random(),
    "numbers of numpy from a seed": lambda: np.random.default_rng(3).random(),
    "time as an argument": lambda: time.gmtime(0.0),
    "dates": lambda: (
        isinstance(moment(2020, 1, 1, tzinfo=datetime.UTC), datetime.date)
        and issubclass(moment, datetime.date)
        and moment.fromisoformat("2020-01-01T00:00+00:00") < moment(2020, 1, 2, tzinfo=datetime.UTC)
    ),
    "a module that is imported late": lambda: sys.modules.pop("colorsys", None) or __import__("colorsys"),
    "source lines": look_up_source,
    "virtual time": lambda: trio.current_time(),
    "names made of bytes": lambda: uuid.UUID(bytes=b"0" * 16),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_stays_in_the_world_goes_on_as_ever(what: str) -> None:
    assert run(ALLOWED[what])


def test_between_runs_everything_is_as_it_was() -> None:
    originals = (time.time, random.random, os.urandom, datetime.datetime, random.Random.seed, monotonic)
    run(lambda: 1)
    with pytest.raises(Escaped):
        run(lambda: time.time())
    assert originals == (time.time, random.random, os.urandom, datetime.datetime, random.Random.seed, monotonic)
    assert time.time() > 0
    assert Path(__file__).read_text()


def test_other_threads_are_left_alone() -> None:
    asked, answered = threading.Event(), threading.Event()
    seen: list[object] = []

    def look() -> None:
        asked.wait(10.0)
        seen.extend((time.time(), Path(__file__).stat(), Path(__file__).read_text()))
        answered.set()

    thread = threading.Thread(target=look)
    thread.start()

    def wait() -> bool:
        asked.set()
        while not answered.is_set():
            pass
        return True

    assert run(wait)
    thread.join()
    assert len(seen) == 3
