"""What every benchmark writes, and what it says of the machine."""

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
