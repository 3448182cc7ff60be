"""One seed, one run; and what that takes is undone afterwards."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio._core._run as scheduler
import trio._sync as synchronization
import wsproto.frame_protocol
import wsproto.utilities
from hypothesis import given
from hypothesis import strategies as st

from simulations.kernel import Events, simulate
from simulations.kernel.ordering import VERIFIED_VERSIONS, UnverifiedTrio, ordered, ordered_set
from tests.simulations.kernel.scenario import Scenario

REPOSITORY = Path(__file__).parents[3]


def digest_in_another_process(*, seed: int, junk: int, hash_seed: int) -> str:
    command = [sys.executable, "-m", "tests.simulations.kernel.scenario", str(seed), str(junk)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.process
def test_two_processes_do_the_same_whatever_their_hashes_and_their_memory() -> None:
    first = digest_in_another_process(seed=3, junk=0, hash_seed=0)
    assert len(first) == 64
    assert digest_in_another_process(seed=3, junk=5, hash_seed=1) == first
    assert digest_in_another_process(seed=3, junk=700, hash_seed=77) == first


def test_the_same_seed_gives_the_same_steps_however_the_memory_is_littered() -> None:
    steps = Scenario(1).run()
    assert steps == Scenario(1).run()
    assert steps == Scenario(1, junk=100).run()
    assert {step.split()[0] for step in steps} >= {"cancel", "child", "deadline", "event", "generator", "process"}


def test_another_seed_gives_another_order_of_the_same_steps() -> None:
    runs = [[step for step in Scenario(seed).run() if not step.startswith("generator")] for seed in range(3)]
    assert len({tuple(run) for run in runs}) == 3
    assert sorted(runs[0]) == sorted(runs[1]) == sorted(runs[2])


def test_the_order_of_a_run_does_not_depend_on_who_drew_random_numbers_before() -> None:
    random.seed(1)
    first = Scenario(5).run()
    random.seed(2)
    scheduler._r.random()
    assert Scenario(5).run() == first


# ---- what is patched


def patched() -> dict[str, Any]:
    """Everything that `ordered` exchanges, and the class attribute that `processes` exchanges."""
    found: dict[str, Any] = {
        name: vars(scheduler).get(name, "absent") for name in ("unrolled_run", "id", "set", "frozenset")
    }
    for cls in (scheduler.CancelStatus, scheduler.Runner, synchronization.Event):
        for name, value in cls.__init__.__globals__.items():
            if name.startswith("__attr_factory"):
                found[f"{cls.__name__} {name}"] = value
    found["deadlines"] = vars(trio.CancelScope)["_might_change_registered_deadline"]
    found["reschedule"] = scheduler.Runner.reschedule
    found["frames"] = vars(wsproto.frame_protocol)["os"]
    found["utilities"] = vars(wsproto.utilities)["os"]
    found["unraisable"] = sys.unraisablehook
    return found


def test_everything_is_as_it_was_after_a_run() -> None:
    before = patched()
    during: list[dict[str, Any]] = []

    async def main() -> None:
        during.append(patched())
        await trio.sleep(1.0)

    simulate(main, events=Events(), seed=1)
    assert patched() == before
    changed = {name for name, value in during[0].items() if value != before[name]}
    others = {name for name, value in before.items() if "__attr_factory" in name and value is not set}
    assert changed == before.keys() - others - {"unraisable"}


def test_everything_is_as_it_was_after_an_error() -> None:
    before = patched()

    async def fail() -> None:
        raise LookupError("of the run")

    with pytest.raises(LookupError, match="of the run"):
        simulate(fail, events=Events(), seed=1)
    assert patched() == before
    with pytest.raises(trio.TrioInternalError):
        simulate(trio.sleep_forever, events=Events(), seed=1)
    assert patched() == before


def test_a_version_that_nobody_has_verified_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = patched()
    monkeypatch.setattr(trio, "__version__", "0.99.0")
    with pytest.raises(UnverifiedTrio, match=r"0\.99\.0.*run tests/simulations/kernel.*or install"):
        simulate(trio.sleep_forever, events=Events(), seed=1)
    assert patched() == before


def test_the_version_that_is_installed_is_verified() -> None:
    assert trio.__version__ in VERIFIED_VERSIONS


def test_sets_that_are_made_in_another_way_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = scheduler.Runner.__init__.__globals__
    (name,) = [name for name, value in namespace.items() if name.startswith("__attr_factory") and value is set]
    monkeypatch.setitem(namespace, name, frozenset)
    with pytest.raises(UnverifiedTrio, match="Runner"), ordered(1):
        pass


def test_random_bytes_of_the_framing_depend_on_the_seed_alone() -> None:
    async def draw() -> tuple[bytes, bytes]:
        modules = (wsproto.frame_protocol, wsproto.utilities)
        first, second = (vars(module)["os"].urandom(8) for module in modules)
        return first, second

    drawn = [simulate(draw, events=Events(), seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


# ---- sets in order

OPERATIONS = st.lists(st.tuples(st.sampled_from(["add", "discard", "remove"]), st.integers(0, 5)), max_size=40)


@given(st.lists(st.integers(0, 5)), OPERATIONS)
def test_an_ordered_set_holds_what_a_set_holds_in_order_of_insertion(
    items: list[int], operations: list[tuple[str, int]]
) -> None:
    ordered_one, plain = ordered_set(items), set(items)
    order = list(dict.fromkeys(items))
    for operation, item in operations:
        if operation == "remove" and item not in plain:
            with pytest.raises(KeyError):
                ordered_one.remove(item)
            continue
        getattr(ordered_one, operation)(item)
        getattr(plain, operation)(item)
        if item in order and operation != "add":
            order.remove(item)
        elif item not in order and operation == "add":
            order.append(item)
    assert set(ordered_one) == plain
    assert list(ordered_one) == order
    assert (len(ordered_one), bool(ordered_one)) == (len(plain), bool(plain))
    assert list(ordered_set(ordered_one)) == order
