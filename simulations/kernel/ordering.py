"""Makes one run of trio a function of a seed.

Trio schedules at random on purpose, and where order does not matter to it, it keeps tasks and cancel scopes in sets and
breaks ties by `id`, so by addresses. All of that is replaced while a simulation runs: sets keep the order of insertion,
`id` in trio's scheduler is a counter, and its loop is `run_tasks`, which draws the order of tasks from the seed. What
costs much there and is of no use in a simulation goes as well.

These are internals of trio, so only versions that were verified are accepted; `tests/simulations/kernel` is how one
is verified.
"""

import contextlib
import functools
import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import trio
import trio._core._run as scheduler
import trio._sync as synchronization
import wsproto.frame_protocol
import wsproto.utilities

from simulations.kernel.scheduling import change_deadline, run_tasks

VERIFIED_VERSIONS = ("0.35.0",)


class UnverifiedTrio(Exception):
    """The installed trio may order tasks in ways that this module does not know."""


class OrderedSet(dict[Any, None]):
    """As much of a set as trio uses, in order of insertion. Made by `ordered_set`."""

    # Methods of dict as they are: one of these sets is made for each cancel scope and each event.
    add = dict.setdefault
    remove = dict.__delitem__

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def ordered_set(items: Iterable[Any] = ()) -> OrderedSet:
    """Stands in for `set` and `frozenset`."""
    made = OrderedSet()
    made.update(dict.fromkeys(items))
    return made


class _Entropy:
    """Stands in for the module `os` where a library draws bytes that go over the wire."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def urandom(self, size: int) -> bytes:
        return self._rng.randbytes(size)


@contextlib.contextmanager
def ordered(seed: int) -> Iterator[None]:
    """While this lasts, trio's order of things depends on ``seed`` alone.

    Raises:
        UnverifiedTrio: nobody has verified this for the installed version.
    """
    if trio.__version__ not in VERIFIED_VERSIONS:
        raise UnverifiedTrio(
            f"trio {trio.__version__} is not verified for reproducible runs ({', '.join(VERIFIED_VERSIONS)} is): run "
            "tests/simulations/kernel with it and add it, or install a verified one"
        )
    counter = itertools.count(1)
    patches: list[tuple[Any, str, Any]] = [
        (scheduler, "unrolled_run", functools.partial(run_tasks, random.Random(seed))),
        (scheduler, "id", lambda _object: next(counter)),
        (scheduler, "set", ordered_set),
        (scheduler, "frozenset", ordered_set),
        (trio.CancelScope, "_might_change_registered_deadline", change_deadline),
    ]
    # Generated initializers keep the factories of their fields in a namespace of their own.
    for cls in (scheduler.CancelStatus, scheduler.Runner, synchronization.Event):
        namespace = cls.__init__.__globals__
        factories = [name for name, value in namespace.items() if name.startswith("__attr_factory") and value is set]
        if not factories:
            raise UnverifiedTrio(f"trio.{cls.__name__} makes its sets in another way than the verified versions")
        patches += [(_Namespace(namespace), name, OrderedSet) for name in factories]
    entropy = _Entropy(random.Random(seed))
    patches += [(wsproto.frame_protocol, "os", entropy), (wsproto.utilities, "os", entropy)]
    with contextlib.ExitStack() as undo:
        for target, name, value in patches:
            _set(target, name, value, undo)
        yield


class _Namespace:
    """Attributes that are a dictionary's items."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        object.__setattr__(self, "__dict__", namespace)


def _set(target: Any, name: str, value: Any, undo: contextlib.ExitStack) -> None:
    if name in vars(target):
        undo.callback(setattr, target, name, vars(target)[name])
    else:
        undo.callback(delattr, target, name)
    setattr(target, name, value)
