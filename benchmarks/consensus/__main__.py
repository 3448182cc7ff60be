"""The command; the package says what is measured."""

import argparse
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.consensus.clusters import NODES
from benchmarks.consensus.node import COLLECTOR
from benchmarks.consensus.turns import PEERS_PYTHON, TURNS, Key, Workloads
from benchmarks.report import parse, write_report
from consensus import raft

PEERS: Final = ("etcd", "pysyncobj")
FULL: Final = Workloads(
    outstanding=(1, 64, 256, 1000), budget_s=3.0, catch_up_entries=1_000_000, tls_outstanding=(1, 64, 1000)
)
QUICK: Final = Workloads(
    outstanding=(1, 64, 256, 1000), budget_s=1.0, catch_up_entries=50_000, tls_outstanding=(1, 64, 1000)
)
UNITS: Final = {"per_s": "1/s", "ms": "ms", "us": "us", "percent": "%", "mb": "MB"}


def missing(wanted: Sequence[str]) -> list[dict[str, str]]:
    """Systems that were asked for and cannot run here."""
    absent = []
    if "etcd" in wanted and shutil.which("etcd") is None:
        absent.append({"system": "etcd", "why": "etcd not found; on Debian: apt-get install etcd-server"})
    if "pysyncobj" in wanted and not PEERS_PYTHON.exists():
        absent.append({"system": "pysyncobj", "why": f"{PEERS_PYTHON} not found: make peers"})
    return absent


def rows(seen: Mapping[Key, Sequence[float]]) -> list[dict[str, Any]]:
    """The rows of the report."""
    made = []
    for key, values in seen.items():
        row: dict[str, Any] = {"nodes": NODES, **key._asdict()}
        if not key.outstanding:
            del row["outstanding"]
        if key.system == "meshnode":
            row |= {"gc_threshold": COLLECTOR[0], "compiled": is_compiled()}
        unit = next(unit for end, unit in UNITS.items() if key.metric.endswith(end))
        made.append({**row, "value": statistics.median(values), "unit": unit, "rounds": list(values)})
    return made


def is_compiled() -> bool:
    """Whether our cores were compiled (make compiled)."""
    return not raft.__file__.endswith(".py")


def print_table(seen: Mapping[Key, Sequence[float]]) -> None:
    """A line for each metric and number of outstanding requests, the systems side by side."""
    systems = list(dict.fromkeys(system for system, *_ in seen))
    line = "{:<24} {:>12} {:>6} {:>4}" + " {:>12}" * len(systems) + "\n"
    sys.stdout.write(line.format("metric", "outstanding", "fsync", "tls", *systems))
    for metric, outstanding, *switches in dict.fromkeys(key[1:] for key in seen):
        found = [seen.get(Key(system, metric, outstanding, *switches)) for system in systems]
        figures = ["-" if values is None else f"{statistics.median(values):,.2f}" for values in found]
        conditions = ("on" if is_on else "off" for is_on in switches)
        sys.stdout.write(line.format(metric, outstanding or "", *conditions, *figures))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.consensus", description="Replicated writes and linearizable reads, compared."
    )
    return parse(parser, PEERS, quick="one short round")


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    wanted = [peer for peer in options.peers.split(",") if peer]
    absent = missing(wanted)
    peers = [peer for peer in wanted if peer not in {entry["system"] for entry in absent}]
    work, rounds = (QUICK, 1) if options.quick else (FULL, options.rounds)
    kind = "compiled" if is_compiled() else "as it is"
    sys.stdout.write(f"meshnode: {kind}, RaftConfig's defaults, Python's collector at {COLLECTOR}\n")
    sys.stdout.write("etcd: its defaults; pysyncobj: its defaults, and a journal\n")
    sys.stdout.write("tls: 1.3 with a certificate on each side, for peers and clients; ciphers as each chooses\n")
    seen: dict[Key, list[float]] = {}
    for number in range(rounds):
        for (system, how), turn in TURNS.items():
            if system in (*peers, "meshnode"):
                sys.stderr.write(f"round {number + 1} of {rounds}: {system}{how}\n")
                for key, value in turn(work):
                    seen.setdefault(key, []).append(value)
    print_table(seen)
    for entry in absent:
        sys.stdout.write(f"missing: {entry['system']}: {entry['why']}\n")
    if options.json is not None:
        write_report(options.json, "consensus", rows=rows(seen), missing=absent)


if __name__ == "__main__":
    main()
