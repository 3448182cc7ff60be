"""What `meshnode simulate` shows while it runs and at its end."""

import json
import os
import sys
import time

import click

from simulations.campaign import Result, Totals

REFRESH_S = 0.1
"""Nobody reads faster."""


class Display:
    """Of one campaign.

    Args:
        of: how many seeds there will be; None if nobody knows.
        as_json: one object at the end, and nothing else.
    """

    def __init__(self, of: int | None, *, as_json: bool) -> None:
        self.totals = Totals()
        self._of = of
        self._as_json = as_json
        self._is_live = not as_json and sys.stderr.isatty()
        self._began_s = time.monotonic()
        self._shown_s = 0.0
        self._width = 0

    def ran(self, result: Result, again: str) -> None:
        """A run is over; ``again`` is the command that repeats it."""
        self.totals.add(result)
        if not result.is_clean and not self._as_json:
            self._wipe()
            click.echo(f"seed {result.seed}: {result.story or result.message}\nagain: {again}\n", err=True)
        now_s = time.monotonic()
        if self._is_live and now_s >= self._shown_s + REFRESH_S:
            self._shown_s = now_s
            line = self._line()
            click.echo(f"\r{line:<{self._width}}", nl=False, err=True)
            self._width = len(line)

    def finish(self) -> None:
        """Show what it came to."""
        self._wipe()
        click.echo(self.summary())

    def stop(self) -> None:
        """The same, from a signal handler: past whatever is being written."""
        if not self._as_json:
            os.write(2, b"\ninterrupted\n")
        os.write(1, f"{self.summary()}\n".encode())

    def summary(self) -> str:
        """What it came to so far."""
        totals, wall_s = self.totals, time.monotonic() - self._began_s
        if not self._as_json:
            faults = ", ".join(f"{count} {name}" for name, count in sorted(totals.faults.items()))
            return (
                f"{totals.seeds} seeds in {wall_s:.1f} s: {totals.virtual_s:.0f} virtual seconds "
                f"({_rate(totals.virtual_s, wall_s):.1f} × real time), {totals.events} events, "
                f"{totals.operations} operations; {totals.failed_seeds} failed\nfaults: {faults or 'none'}"
            )
        return json.dumps(
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

    def _line(self) -> str:
        totals, wall_s = self.totals, time.monotonic() - self._began_s
        return (
            f"{totals.seeds}{f' of {self._of}' if self._of else ''} seeds, {_rate(totals.seeds, wall_s):.2f} a second, "
            f"{_rate(totals.virtual_s, wall_s):.1f} × real time, {sum(totals.faults.values())} faults, "
            f"{totals.failed_seeds} failed"
        )

    def _wipe(self) -> None:
        if self._width:
            click.echo(f"\r{'':<{self._width}}\r", nl=False, err=True)
            self._width = 0


def _rate(amount: float, wall_s: float) -> float:
    return amount / max(wall_s, 1e-9)
