"""What a seed is: the options that `meshnode simulate` draws plans by, and how they are typed."""

import functools
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from simulations.cores.plans import CORE_KINDS
from simulations.cores.swarm import DRAWS, Wish
from simulations.mesh.swarm import KINDS, draw_plan
from simulations.mesh.workloads import WORKLOADS, UnknownWorkload, find_workload
from simulations.plan import AnyPlan, MalformedPlan, Plan, read_plan

NODES = 5
DURATION_S = 30.0
"""Of whole nodes, where nothing else is said. Worlds of cores draw both from the seed."""

NODES_MAX = 99
"""Whole nodes in one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which plans seeds have.

    Attributes:
        nodes, duration_s: None if nothing is said.
        faults: kinds of them.
        app: modules with the agents of a workload of the user's own; none means those of its module.
        worlds: of cores, at level 1.
        tls: whether links are over TLS, at level 2.
        typed: these options as arguments, as they were given.
    """

    level: int
    nodes: int | None
    duration_s: float | None
    faults: tuple[str, ...]
    workload: str
    app: tuple[str, ...]
    worlds: tuple[str, ...]
    tls: bool = False
    typed: tuple[str, ...] = ()

    def plans(self, seed: int) -> Iterator[AnyPlan]:
        """Of whole nodes one; of cores one for each world."""
        if self.level == 2:
            plan = draw_plan(
                seed,
                nodes=self.nodes or NODES,
                duration_s=self.duration_s or DURATION_S,
                kinds=self.faults,
                workload=self.workload,
                app=self.app,
            )
            yield replace(plan, tls=self.tls)
            return
        wish = Wish(nodes=self.nodes, duration_s=self.duration_s, kinds=frozenset(self.faults))
        for world in self.worlds:
            yield DRAWS[world](seed, wish)

    def replay(self, plan: AnyPlan) -> str:
        """The command that runs again what these options made of the plan's seed."""
        typed = [*self.typed]
        if self.level == 1:
            world = getattr(plan, "world", "")
            at = typed.index("--world") if "--world" in typed else len(typed)
            typed[at : at + 2] = ["--world", world]
        return shlex.join(["meshnode", "simulate", "replay", "--seed", str(plan.seed), *typed])


class SeedsType(click.ParamType[range]):
    """A:B, the seeds from A up to, and without, B; or one seed."""

    name = "a:b"

    def convert(self, value: str | range, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        first, separator, last = value.partition(":")
        try:
            begin = int(first)
            end = int(last) if separator else begin + 1
        except ValueError:
            self.fail(f"{value!r} is no range of seeds: write A:B, as in 0:100", param, ctx)
        if not 0 <= begin < end:
            self.fail(f"{value!r} names no seed: choose 0 ≤ A < B, as in 0:100", param, ctx)
        return range(begin, end)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan, and where it is kept."""

    path: str
    plan: AnyPlan

    @property
    def replay(self) -> str:
        """The command that runs it again."""
        return shlex.join(["meshnode", "simulate", "replay", "--plan", self.path])


class PlanType(click.ParamType[PlanFile]):
    """A file with a plan."""

    name = "file"

    def convert(self, value: str | PlanFile, param: click.Parameter | None, ctx: click.Context | None) -> PlanFile:
        if isinstance(value, PlanFile):
            return value
        try:
            plan = read_plan(Path(value).read_text(encoding="utf-8"))
            if isinstance(plan, Plan):
                find_workload(plan.workload, plan.app)
            return PlanFile(value, plan)
        except (OSError, UnicodeDecodeError, MalformedPlan, UnknownWorkload) as error:
            self.fail(f"{value}: {error}", param, ctx)


class OutputType(click.Path):
    """A file to be written at the end of a run, which must not be what fails then."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        folder = Path(os.fsdecode(path)).absolute().parent
        if not os.access(folder, os.W_OK):
            self.fail(f"{path!r} can't be written: {folder} is no folder, or not yours to write to", param, ctx)
        return path


def _chosen(value: str, known: list[str], what: str, option: str) -> tuple[str, ...]:
    """all, none, or names with commas between."""
    if value in ("all", "none"):
        return tuple(known) if value == "all" else ()
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in known:
            message = f"there is no {what} {name!r}: choose all, none, or from {', '.join(known)}"
            raise click.BadParameter(message, param_hint=option)
    return names


_OPTIONS = {
    "level": click.option(
        "--level", type=click.IntRange(1, 2), default=2, show_default=True, help="1: cores alone; 2: whole nodes."
    ),
    "nodes": click.option("--nodes", type=click.IntRange(1), help=f"How many.  [default: {NODES}; at level 1, drawn]"),
    "duration": click.option(
        "--duration",
        type=click.FloatRange(0.1),
        help=f"Virtual seconds of faults.  [default: {DURATION_S:g}; at level 1, drawn]",
    ),
    "faults": click.option(
        "--faults",
        default="all",
        show_default=True,
        metavar="all|none|LIST",
        help=f"LIST: names with commas between, from {', '.join(KINDS)}; at level 1 from {', '.join(CORE_KINDS)}.",
    ),
    "workload": click.option(
        "--workload",
        default="counter",
        show_default=True,
        metavar="NAME|MODULE:FUNCTION",
        help=f"What clients do: {', '.join(WORKLOADS)}, or an async function of your own; at level 1 each world has a "
        "load of its own.",
    ),
    "app": click.option(
        "--app",
        multiple=True,
        metavar="MODULE",
        help="Has the agents that a workload of your own calls, if its module does not. Repeatable.",
    ),
    "world": click.option(
        "--world",
        default="all",
        show_default=True,
        metavar="all|LIST",
        help=f"Level 1: which cores, from {', '.join(DRAWS)}.",
    ),
    "tls": click.option("--tls", is_flag=True, help="Level 2: all links are over TLS."),
}
"""By the names of their parameters. One that is new here is also a parameter of `_checked`, and typed again by
whatever tells how to repeat a run."""


def drawn(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options by which plans are drawn, as one `Options` under the name ``options``."""

    @functools.wraps(command)
    def typed(**arguments: Any) -> None:
        own = {name: arguments.pop(name) for name in _OPTIONS}
        command(options=_checked(**own, typed=_typed(click.get_current_context(), own)), **arguments)

    decorated: Callable[..., None] = typed
    for option in reversed(_OPTIONS.values()):
        decorated = option(decorated)
    return decorated


def _typed(context: click.Context, own: dict[str, Any]) -> tuple[str, ...]:
    """Those that were given, as words to be typed again."""
    words = []
    for name, value in own.items():
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{name.replace('_', '-')}", *([] if one is True else [str(one)])]
    return tuple(words)


def _checked(
    *,
    level: int,
    nodes: int | None,
    duration: float | None,
    faults: str,
    workload: str,
    app: tuple[str, ...],
    world: str,
    tls: bool,
    typed: tuple[str, ...],
) -> Options:
    if level == 2 and nodes is not None and nodes > NODES_MAX:
        message = f"{nodes} whole nodes are too many: choose 1 to {NODES_MAX}, or --level 1"
        raise click.BadParameter(message, param_hint="--nodes")
    if level == 2 and world != "all":
        raise click.BadParameter(f"{world!r} is of cores: give --level 1 too", param_hint="--world")
    try:
        find_workload(workload, app)
    except UnknownWorkload as error:
        raise click.BadParameter(str(error), param_hint="--workload") from error
    if level == 1 and tls:
        raise click.BadParameter("cores have no links: leave out --level 1", param_hint="--tls")
    worlds = _chosen(world, list(DRAWS), "world", "--world")
    if not worlds:
        raise click.BadParameter(f"{world!r} names no world: choose from {', '.join(DRAWS)}", param_hint="--world")
    return Options(
        level=level,
        nodes=nodes,
        duration_s=duration,
        faults=_chosen(faults, list(KINDS if level == 2 else CORE_KINDS), f"fault of level {level}", "--faults"),
        workload=workload,
        app=app,
        worlds=worlds,
        tls=tls,
        typed=typed,
    )
