"""``meshnode demo``."""

import json
import signal
import sys
from typing import Any

import click
import trio

from meshnode.cli.outcome import ERROR, INTERRUPTED, reported

ACCURACY_MIN = 0.9


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and no display.")
@click.option("--device", default="", help="Part of an OpenCL device's name, a kind (gpu, cpu), or numpy.")
def demo(as_json: bool, device: str) -> None:
    """Start five nodes, stream digits to 500 durable agents, kill two nodes, and count."""
    try:
        from rich.console import Console

        from meshnode.demo.display import Display, summary_table
        from meshnode.demo.story import Progress, tell_story
    except ImportError as error:
        click.echo(f"meshnode: the demo needs more packages ({error}): pip install 'meshnode[demo]'", err=True)
        sys.exit(ERROR)
    progress = Progress()
    outcome: list[dict[str, Any]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def stop_on_signal() -> None:
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                    async for _number in signals:
                        nursery.cancel_scope.cancel()

            outcome.append(await tell_story(progress, device=device))
            nursery.cancel_scope.cancel()

    with reported():
        if as_json:
            trio.run(main)
        else:
            with Display(progress, Console()):
                trio.run(main)
    if not outcome:
        sys.exit(INTERRUPTED)
    summary = outcome[0]
    if as_json:
        click.echo(json.dumps(summary))
    else:
        Console().print(summary_table(summary))
    is_right = summary["lost"] == summary["duplicated"] == 0 and summary["accuracy"] >= ACCURACY_MIN
    sys.exit(0 if is_right else ERROR)
