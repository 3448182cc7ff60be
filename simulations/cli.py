"""``meshnode simulate``: runs of whole meshes in virtual time, under faults."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from simulations import campaign, determinism
from simulations.campaign import HARNESS, NOT_DETERMINISTIC, Result
from simulations.display import Display
from simulations.options import Options, OutputType, PlanFile, PlanType, SeedsType, drawn
from simulations.plan import AnyPlan, Plan
from simulations.recording import Step, recording
from simulations.shrinking import RUNS_MAX, Shrinking
from simulations.workers import interruptible

_seeds = click.option("--seeds", type=SeedsType(), default="0:10", show_default=True, help="A:B, without B.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and no display.")
_jobs = click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Runs side by side.")
_failures = click.option("--failures", type=click.IntRange(1), help="Stop after so many seeds that failed.")
_history = click.option(
    "--history",
    type=OutputType(),
    help="Write what the clients saw there, as JSON lines: in the first run that failed, or else in the last one.",
)


@click.group()
def simulate() -> None:
    """Run meshes in virtual time, break everything, and check what must hold.

    Exit codes: 0 clean, 10 something unsafe happened, 11 something that must happen did not, 12 two runs of one seed
    differed, 13 the simulator itself failed, 130 interrupted.
    """
    logging.disable(logging.CRITICAL)  # thousands of nodes have much to say
    sys.path.insert(0, "")  # modules of users' are looked for in the current folder too, as with python -m


@simulate.command()
@_seeds
@drawn
@_jobs
@_failures
@click.option("--plan", "kept", type=PlanType(), help="Run this plan instead, whatever the options say of seeds.")
@_history
@_json
def run(
    seeds: range,
    options: Options,
    jobs: int,
    failures: int | None,
    kept: PlanFile | None,
    history: str | None,
    as_json: bool,
) -> None:
    """Run seeds, each with faults of its own."""
    display = Display(len(seeds) if kept is None else 1, as_json=as_json)
    plans: Iterable[AnyPlan] = (plan for seed in seeds for plan in options.plans(seed)) if kept is None else [kept.plan]
    again = options.replay if kept is None else _replay_of(kept)
    _carry_out(plans, display, again=again, jobs=jobs, failures=failures, history=history, explain=not as_json)
    display.finish()
    sys.exit(display.totals.exit_code)


@simulate.command()
@click.option("--seed", type=click.IntRange(0), help="Of a run with the same options.")
@click.option("--plan", "kept", type=PlanType(), help="A plan that was kept.")
@drawn
@_history
@click.option("--save", type=OutputType(), help="Write the plan there.")
@_json
def replay(
    seed: int | None, kept: PlanFile | None, options: Options, history: str | None, save: str | None, as_json: bool
) -> None:
    """Run one seed or plan again, and show what happened."""
    if (seed is None) == (kept is None):
        raise click.UsageError("give either --seed N or --plan FILE")
    plans = [kept.plan] if kept is not None else list(options.plans(seed or 0))
    if save and len(plans) > 1:
        raise click.UsageError(f"seed {seed} has {len(plans)} plans, one for each world: choose one with --world")
    if save:
        Path(save).write_text(plans[0].to_json())
    display = Display(1, as_json=as_json)
    again = options.replay if kept is None else _replay_of(kept)

    def tell(result: Result) -> None:
        if not as_json:
            click.echo(f"digest {_name(result.plan)}{result.digest}")

    _carry_out(plans, display, again=again, history=history, tell=tell, explain=not as_json)
    display.finish()
    sys.exit(display.totals.exit_code)


@simulate.command("check-determinism")
@_seeds
@drawn
@_json
def check_determinism(seeds: range, options: Options, as_json: bool) -> None:
    """Run each seed in two processes with other hash seeds: the traces must be the same, to the byte."""
    try:
        found = determinism.differences(f"{seeds.start}:{seeds.stop}", options.typed)
    except determinism.ProcessFailed as error:
        click.echo(f"meshnode: {error}", err=True)
        sys.exit(HARNESS)
    if as_json:
        different = [{"run": one.what, "line": one.line, "first": one.first, "second": one.second} for one in found]
        click.echo(json.dumps({"seeds": len(seeds), "different": different}))
    else:
        for difference in found:
            click.echo(f"seed {difference}", err=True)
        click.echo(f"{len(seeds)} seeds, {len(found)} runs differ")
    if found:
        sys.exit(NOT_DETERMINISTIC)


@simulate.command(hidden=True)
@_seeds
@drawn
@click.option("--trace", type=OutputType(), help="Write every line of the traces there.")
def digests(seeds: range, options: Options, trace: str | None) -> None:
    """A line a run: the seed, the world, and the digest of its trace with what did not hold."""
    with contextlib.ExitStack() as files:
        file = files.enter_context(Path(trace).open("w")) if trace else None

        def note(step: Step) -> None:
            assert file is not None
            if step.is_note:
                file.write(f"{step.line}\n")

        for seed in seeds:
            for plan in options.plans(seed):
                world = "" if isinstance(plan, Plan) else plan.world
                with recording(note, world=world) if file is not None else contextlib.nullcontext():
                    result = campaign.run_plan(plan)
                click.echo(f"{seed} {_name(plan)}{result.digest}{result.invariant}")


@simulate.command()
@click.argument("kept", metavar="PLAN", type=PlanType())
@click.option("--save", type=OutputType(), help="Where to write it; stdout if not given.")
@click.option("--runs", type=click.IntRange(1), default=RUNS_MAX, show_default=True, help="Try so many plans at most.")
def shrink(kept: PlanFile, save: str | None, runs: int) -> None:
    """Make a plan that fails smaller: fewer faults, operations, nodes, and less time, for the same invariant.

    An interrupt ends the search with the smallest plan so far.
    """
    result = campaign.run_plan(kept.plan)
    if result.is_clean:
        raise click.UsageError(f"{kept.path} does not fail: there is nothing to shrink")
    click.echo(f"violates {result.message}", err=True)
    search = Shrinking(
        kept.plan,
        result.invariant,
        run=campaign.run_plan,
        tell=lambda step: click.echo(f"  {step}", err=True),
        runs_max=runs,
    )

    def write() -> None:
        if save:
            Path(save).write_text(search.plan.to_json())
        else:
            sys.stdout.flush()
            os.write(sys.stdout.fileno(), f"{search.plan.to_json()}\n".encode())

    with interruptible(write):
        search.shrink()
    if save:
        Path(save).write_text(search.plan.to_json())
        click.echo(f"again: {PlanFile(save, search.plan).replay}", err=True)
    else:
        click.echo(search.plan.to_json())


@simulate.command()
@click.option("--minutes", type=click.FloatRange(0.0, min_open=True), required=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@drawn
@_jobs
@_failures
@click.option("--keep", type=click.Path(file_okay=False), default="failed-plans", show_default=True)
@_json
def soak(
    minutes: float, first: int, options: Options, jobs: int, failures: int | None, keep: str, as_json: bool
) -> None:
    """Run one seed after the other for a while; keep the plans that fail."""
    end_s = time.monotonic() + minutes * 60

    def plans() -> Iterator[AnyPlan]:
        seed = first
        while time.monotonic() < end_s:
            yield from options.plans(seed)
            seed += 1

    def path_of(plan: AnyPlan) -> Path:
        return Path(keep) / f"seed-{plan.seed}{'' if isinstance(plan, Plan) else f'-{plan.world}'}.json"

    def keep_failed(result: Result) -> None:
        if not result.is_clean:
            Path(keep).mkdir(parents=True, exist_ok=True)
            path_of(result.plan).write_text(result.plan.to_json())

    display = Display(None, as_json=as_json)
    _carry_out(
        plans(),
        display,
        again=lambda plan: PlanFile(str(path_of(plan)), plan).replay,
        jobs=jobs,
        failures=failures,
        tell=keep_failed,
        explain=not as_json,
    )
    display.finish()
    sys.exit(display.totals.exit_code)


# ---- what they have in common


def _carry_out(
    plans: Iterable[AnyPlan],
    display: Display,
    *,
    again: Callable[[AnyPlan], str],
    explain: bool,
    jobs: int = 1,
    failures: int | None = None,
    history: str | None = None,
    tell: Callable[[Result], None] = lambda _: None,
) -> None:
    """Run plans, and show each as it comes; an interrupt ends the process with what was seen by then.

    Args:
        again: the command that repeats a plan.
        explain: whether those that fail get a story.
        failures: stop after so many seeds that failed.
        history: a file for that of the first run that failed, or else the last one that has any.
        tell: told of each result.
    """
    work = campaign.run_and_explain if explain else campaign.run_plan
    seen, is_of_failure = "", False
    with interruptible(display.stop), contextlib.closing(campaign.run_all(work, plans, jobs=jobs)) as results:
        for result in results:
            if result.history and not is_of_failure:
                seen, is_of_failure = result.history, not result.is_clean
            tell(result)
            display.ran(result, again(result.plan))
            if failures is not None and display.totals.failed_seeds >= failures:
                break
    if history:
        Path(history).write_text(seen)


def _replay_of(kept: PlanFile) -> Callable[[AnyPlan], str]:
    return lambda _plan: kept.replay


def _name(plan: AnyPlan) -> str:
    """The world of a plan, if there are several."""
    return "" if isinstance(plan, Plan) else f"{plan.world} "
