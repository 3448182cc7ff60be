"""``meshnode simulate``: runs of whole meshes in virtual time, under faults."""

import functools
import json
import logging
import os
import sys
import time
from pathlib import Path

import click

from simulations import campaign
from simulations.campaign import HARNESS, NOT_DETERMINISTIC, Result, Totals
from simulations.mesh.swarm import KINDS, UnknownFault, draw_plan, kinds_of
from simulations.mesh.workloads import WORKLOADS
from simulations.plan import MalformedPlan, Plan


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


class FaultsType(click.ParamType[tuple[str, ...]]):
    """all, none or names."""

    name = "all|none|list"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return kinds_of(value)
        except UnknownFault as error:
            self.fail(str(error), param, ctx)


class PlanType(click.ParamType[Plan]):
    """A file with a plan."""

    name = "file"

    def convert(self, value: str | Plan, param: click.Parameter | None, ctx: click.Context | None) -> Plan:
        if isinstance(value, Plan):
            return value
        try:
            return Plan.from_json(Path(value).read_text())
        except (OSError, MalformedPlan) as error:
            self.fail(f"{value}: {error}", param, ctx)


_seeds = click.option("--seeds", type=SeedsType(), default="0:10", show_default=True, help="A:B, without B.")
_nodes = click.option("--nodes", type=click.IntRange(1, 99), default=5, show_default=True)
_duration = click.option(
    "--duration", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Virtual seconds of faults."
)
_faults = click.option(
    "--faults", type=FaultsType(), default="all", show_default=True, help=f"all, none, or from: {', '.join(KINDS)}."
)
_workload = click.option("--workload", type=click.Choice(sorted(WORKLOADS)), default="counter", show_default=True)
_level = click.option(
    "--level", type=click.IntRange(1, 2), default=2, show_default=True, help="1: cores alone; 2: whole nodes."
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and no display.")
_jobs = click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Runs side by side.")


@click.group()
def simulate() -> None:
    """Run meshes in virtual time, break everything, and check what must hold.

    Exit codes: 0 clean, 10 something unsafe happened, 11 something that must happen did not, 12 two runs of one seed
    differed, 13 the simulator itself failed.
    """
    logging.disable(logging.CRITICAL)  # thousands of nodes have much to say


@simulate.command()
@_seeds
@_nodes
@_duration
@_faults
@_workload
@_level
@_jobs
@click.option("--plan", type=PlanType(), help="Run this plan instead, whatever the other options say.")
@click.option("--history", type=click.Path(dir_okay=False), help="Write what the clients of the last run saw there.")
@_json
def run(
    seeds: range,
    nodes: int,
    duration: float,
    faults: tuple[str, ...],
    workload: str,
    level: int,
    jobs: int,
    plan: Plan | None,
    history: str | None,
    as_json: bool,
) -> None:
    """Run seeds, each with faults of its own."""
    began_s = time.monotonic()
    totals = Totals()
    if plan is not None:
        results = campaign.run_all(campaign.run_plan, [plan], jobs=1)
    elif level == 1:
        results = campaign.run_all(campaign.run_cores, seeds, jobs=jobs)
    else:
        draw = functools.partial(draw_plan, nodes=nodes, duration_s=duration, kinds=faults, workload=workload)
        results = campaign.run_all(campaign.run_plan, [draw(seed) for seed in seeds], jobs=jobs)
    last: Result | None = None
    for result in results:
        totals.add(result)
        last = result
        if not result.is_clean and not as_json:
            _show_failure(result)
        _show_progress(totals, time.monotonic() - began_s, len(seeds) if plan is None else 1, quiet=as_json)
    if history and last is not None:
        Path(history).write_text(last.history)
    _finish(totals, time.monotonic() - began_s, as_json=as_json)


@simulate.command()
@click.option("--seed", type=int, help="Of a run with the same options.")
@click.option("--plan", type=PlanType(), help="A plan that was kept.")
@_nodes
@_duration
@_faults
@_workload
@click.option("--history", type=click.Path(dir_okay=False), help="Write what the clients saw there.")
@click.option("--save", type=click.Path(dir_okay=False), help="Write the plan there.")
@_json
def replay(
    seed: int | None,
    plan: Plan | None,
    nodes: int,
    duration: float,
    faults: tuple[str, ...],
    workload: str,
    history: str | None,
    save: str | None,
    as_json: bool,
) -> None:
    """Run one seed or plan again, and show what happened."""
    if (seed is None) == (plan is None):
        raise click.UsageError("give either --seed N or --plan FILE")
    began_s = time.monotonic()
    if plan is None:
        assert seed is not None
        plan = draw_plan(seed, nodes=nodes, duration_s=duration, kinds=faults, workload=workload)
    if save:
        Path(save).write_text(plan.to_json())
    result = campaign.run_plan(plan)
    if history:
        Path(history).write_text(result.history)
    totals = Totals()
    totals.add(result)
    if not as_json:
        click.echo(f"digest {result.digest}")
        if not result.is_clean:
            _show_failure(result)
    _finish(totals, time.monotonic() - began_s, as_json=as_json)


@simulate.command("check-determinism")
@_seeds
@_nodes
@_duration
@_level
@_json
def check_determinism(seeds: range, nodes: int, duration: float, level: int, as_json: bool) -> None:
    """Run each seed in two processes with other hash seeds: the traces must be the same, to the byte."""
    options = ["--nodes", str(nodes), "--duration", str(duration), "--level", str(level)]
    different = campaign.differs(f"{seeds.start}:{seeds.stop}", options)
    if as_json:
        click.echo(json.dumps({"seeds": len(seeds), "different": different}))
    else:
        click.echo(f"{len(seeds)} seeds, {len(different)} differ" + (f": {different}" if different else ""))
    if different:
        sys.exit(NOT_DETERMINISTIC)


@simulate.command(hidden=True)
@_seeds
@_nodes
@_duration
@_level
def digests(seeds: range, nodes: int, duration: float, level: int) -> None:
    """A line a seed: the seed and the digest of its trace."""
    for seed in seeds:
        if level == 1:
            result = campaign.run_cores(seed)
        else:
            result = campaign.run_plan(draw_plan(seed, nodes=nodes, duration_s=duration))
        click.echo(f"{seed} {result.digest}{result.invariant}")


@simulate.command()
@click.argument("plan", type=PlanType())
@click.option("--save", type=click.Path(dir_okay=False), help="Where to write it; stdout if not given.")
def shrink(plan: Plan, save: str | None) -> None:
    """Make a plan that fails smaller: fewer faults, operations, nodes, and less time, for the same invariant."""
    result = campaign.run_plan(plan)
    if result.is_clean:
        click.echo("meshnode: the plan does not fail: there is nothing to shrink", err=True)
        sys.exit(HARNESS)
    click.echo(f"violates {result.invariant}", err=True)
    smaller = campaign.shrink(plan, result.invariant, tell=lambda step: click.echo(f"  {step}", err=True))
    if save:
        Path(save).write_text(smaller.to_json())
    else:
        click.echo(smaller.to_json())


@simulate.command()
@click.option("--minutes", type=click.FloatRange(0.0, min_open=True), required=True)
@click.option("--first", type=int, default=0, show_default=True, help="The first seed.")
@_nodes
@_duration
@_faults
@_workload
@_jobs
@click.option("--keep", type=click.Path(file_okay=False), default="failed-plans", show_default=True)
@_json
def soak(
    minutes: float,
    first: int,
    nodes: int,
    duration: float,
    faults: tuple[str, ...],
    workload: str,
    jobs: int,
    keep: str,
    as_json: bool,
) -> None:
    """Run one seed after the other for a while; keep the plans that fail."""
    began_s = time.monotonic()
    totals = Totals()
    batch = max(1, jobs) * 4
    while time.monotonic() < began_s + minutes * 60:
        seeds = range(first, first + batch)
        first += batch
        draw = functools.partial(draw_plan, nodes=nodes, duration_s=duration, kinds=faults, workload=workload)
        for result in campaign.run_all(campaign.run_plan, [draw(seed) for seed in seeds], jobs=jobs):
            totals.add(result)
            if not result.is_clean:
                assert result.plan is not None
                Path(keep).mkdir(parents=True, exist_ok=True)
                (Path(keep) / f"seed-{result.seed}.json").write_text(result.plan.to_json())
                if not as_json:
                    _show_failure(result)
            _show_progress(totals, time.monotonic() - began_s, 0, quiet=as_json)
    _finish(totals, time.monotonic() - began_s, as_json=as_json)


# ---- what is shown


def _show_failure(result: Result) -> None:
    click.echo(f"\nseed {result.seed}: {result.story}", err=True)
    click.echo(f"again: meshnode simulate replay --seed {result.seed}  (with the same options)\n", err=True)


def _show_progress(totals: Totals, wall_s: float, of: int, *, quiet: bool) -> None:
    if quiet or not sys.stderr.isatty():
        return
    click.echo(
        f"\r{totals.seeds}{f' of {of}' if of else ''} seeds, {totals.seeds / wall_s:.2f} a second, "
        f"{totals.virtual_s / wall_s:.1f} × real time, {sum(totals.faults.values())} faults, "
        f"{len(totals.failures)} failed ",
        nl=False,
        err=True,
    )


def _finish(totals: Totals, wall_s: float, *, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "seeds": totals.seeds,
                    "failures": [
                        {"seed": failure.seed, "invariant": failure.invariant, "virtual_s": failure.violation_s}
                        for failure in totals.failures
                    ],
                    "virtual_s": round(totals.virtual_s, 3),
                    "wall_s": round(wall_s, 3),
                    "events": totals.events,
                    "operations": totals.operations,
                    "faults": dict(sorted(totals.faults.items())),
                }
            )
        )
    else:
        click.echo(
            f"\n{totals.seeds} seeds in {wall_s:.1f} s: {totals.virtual_s:.0f} virtual seconds "
            f"({totals.virtual_s / wall_s:.1f} × real time), {totals.events} events, {totals.operations} operations, "
            f"{sum(totals.faults.values())} faults; {len(totals.failures)} failed"
        )
    sys.exit(totals.exit_code)
