"""What every benchmark is asked and writes, and what it says of the machine."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [line for line in information.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def write_report(
    path: Path, subject: str, *, rows: Sequence[dict[str, Any]], missing: Sequence[dict[str, str]]
) -> None:
    """The report as JSON."""
    result = {"subject": subject, "machine": machine(), "rows": rows, "missing": missing}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse(parser: argparse.ArgumentParser, peers: Sequence[str], *, quick: str) -> argparse.Namespace:
    """The arguments that every benchmark has, beside those that `parser` knows already.

    Args:
        peers: the systems that can be compared.
        quick: what ``--quick`` does.
    """
    parser.add_argument("--peers", default=",".join(peers), help="comma-separated, of: " + ", ".join(peers))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, help="write the report to this file")
    parsed = parser.parse_args()
    unknown = set(filter(None, parsed.peers.split(","))) - set(peers)
    if unknown:
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; known are {', '.join(peers)}")
    if parsed.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {parsed.rounds}")
    return parsed
