"""The demo's live display."""

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from meshnode.demo.story import Progress

BAR_AGENTS = 4
"""One character of a bar for so many agents."""


class Display:
    """Shows progress while the context lasts; redrawn from `Progress` a few times a second."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=5, transient=True)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        progress = self._progress
        nodes = Table(box=None, pad_edge=False)
        for heading in ("node", "state", "raft", "agents"):
            nodes.add_column(heading)
        for member in progress.members:
            count = progress.agents_by_node.get(member["name"], 0)
            colour = {"alive": "green", "suspect": "yellow"}.get(member["state"], "red")
            role = "leader" if member["leader"] else "voter" if member["voter"] else ""
            bar = f"{'█' * (count // BAR_AGENTS)} {count}"
            nodes.add_row(member["name"], f"[{colour}]{member['state']}[/]", role, bar)
        line = (
            f"{progress.acknowledged:,} calls acknowledged   {progress.calls_per_s:,.0f}/s   "
            f"accuracy on held-out images {progress.accuracy:.1%}"
        )
        events = "\n".join(f"• {event}" for event in progress.events[-6:])
        return Panel(Group(f"[bold]{progress.phase}[/]", line, nodes, events), title="meshnode demo")


def summary_table(summary: dict[str, Any]) -> RenderableType:
    """The summary for people."""
    table = Table(title="meshnode demo", show_header=False)
    failover = summary["failover_s"]
    rows = {
        "calls acknowledged": f"{summary['acknowledged']:,}",
        "counted by the agents": f"{summary['counted']:,}",
        "lost / counted twice": f"{summary['lost']} / {summary['duplicated']}",
        "accuracy on held-out images": f"{summary['accuracy']:.1%}",
        "killed": ", ".join(summary["kills"]),
        "failover: node known dead": f"{failover['detect']:.1f} s",
        "failover: agents have new primaries": f"{failover['reassign']:.1f} s",
        "failover: all agents answer": f"{failover['last_agent_reachable']:.1f} s",
        "agents moved / had to move": f"{summary['moved_agents']} / {summary['ideal_moved_agents']}",
        "device": summary["device"],
        "mean batch": f"{summary['mean_batch_rows']} rows",
        "throughput": f"{summary['calls_per_s']:,.0f} calls/s, failovers included",
        "wall time": f"{summary['wall_s']:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
