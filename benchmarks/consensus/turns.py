"""A turn of each system: three fresh processes, all workloads one after the other, and what was measured."""

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.consensus.client import Load, LoadSettings
from benchmarks.consensus.clusters import (
    NODES,
    Cluster,
    EtcdCluster,
    OwnCluster,
    Processes,
    cpu_s,
    data_directory,
    free_ports,
    rss_mb,
    until,
)

PEERS_PYTHON: Final = Path(".peers/bin/python")
UNSYNCED_OUTSTANDING: Final = (256, 1000)


@dataclass(frozen=True, slots=True)
class Workloads:
    """How much is asked of each system.

    Attributes:
        outstanding: requests that are under way at a time, one load after the other.
        budget_s: for each load.
        catch_up_entries: what a follower misses.
        tls_outstanding: as `outstanding`, over TLS.
    """

    outstanding: Sequence[int]
    budget_s: float
    catch_up_entries: int
    tls_outstanding: Sequence[int]


class Key(NamedTuple):
    """What a figure is of; `outstanding` is 0 where it means nothing."""

    system: str
    metric: str
    outstanding: int
    fsync: bool
    tls: bool


Measured = Iterator[tuple[Key, float]]


def own_turn(work: Workloads, *, tls: bool = False) -> Measured:
    """Ours, with fsync."""
    with data_directory() as directory, Processes() as processes:
        yield from _loads("meshnode", OwnCluster(processes, directory, fsync=True, tls=tls), work)
    if tls:
        return
    with data_directory() as directory, Processes() as processes:
        per_s = _catch_up(OwnCluster(processes, directory, fsync=True, tls=False), work.catch_up_entries)
        yield Key("meshnode", "catch_up_entries_per_s", 0, fsync=True, tls=False), per_s


def own_unsynced_turn(work: Workloads) -> Measured:
    """Ours, without fsync."""
    with data_directory() as directory, Processes() as processes:
        cluster = OwnCluster(processes, directory, fsync=False, tls=False)
        port, pids = cluster.port(cluster.leader()), _pids(cluster)
        for outstanding in UNSYNCED_OUTSTANDING:
            before_s = cpu_s(pids)
            load = _load(LoadSettings("meshnode", port, "put", outstanding, work.budget_s))
            yield from _metrics("meshnode", "write", load, cpu_s(pids) - before_s, outstanding, fsync=False)


def etcd_turn(work: Workloads, *, tls: bool = False) -> Measured:
    """etcd as it is."""
    with data_directory() as directory, Processes() as processes:
        yield from _loads("etcd", EtcdCluster(processes, directory, tls=tls), work)


def pysyncobj_turn(work: Workloads) -> Measured:
    """PySyncObj with a journal."""
    with data_directory() as directory, _pysyncobj(directory) as (running, leader):
        pids = [process.pid for process in running]
        for outstanding in UNSYNCED_OUTSTANDING:
            question = f"{outstanding} {work.budget_s}"
            before_s = cpu_s(pids)
            load = Load(**json.loads(_ask(leader(), question)))
            yield from _metrics("pysyncobj", "write", load, cpu_s(pids) - before_s, outstanding, fsync=False)


TURNS: Final[dict[tuple[str, str], Callable[[Workloads], Measured]]] = {
    ("meshnode", ""): own_turn,
    ("etcd", ""): etcd_turn,
    ("meshnode", " with TLS"): functools.partial(own_turn, tls=True),
    ("etcd", " with TLS"): functools.partial(etcd_turn, tls=True),
    ("meshnode", " without fsync"): own_unsynced_turn,
    ("pysyncobj", ""): pysyncobj_turn,
}
"""Each by its system, and by what else sets it apart."""


def _loads(system: str, cluster: Cluster, work: Workloads) -> Measured:
    leader, pids, files = cluster.leader(), _pids(cluster), cluster.client_files
    tls = files is not None
    for what, name in (("put", "write"), ("get", "read")):
        for outstanding in work.tls_outstanding if tls else work.outstanding:
            before_s = cpu_s(pids)
            load = _load(LoadSettings(system, cluster.port(leader), what, outstanding, work.budget_s, tls=files))
            yield from _metrics(system, name, load, cpu_s(pids) - before_s, outstanding, fsync=True, tls=tls)
    yield Key(system, "rss_mb", 0, fsync=True, tls=tls), rss_mb(cluster.pid(leader))


def _pids(cluster: Cluster) -> list[int]:
    return [cluster.pid(node) for node in range(NODES)]


def _metrics(
    system: str, name: str, load: Load, took_s: float, outstanding: int, *, fsync: bool, tls: bool = False
) -> Measured:
    figures = {
        f"{name}s_per_s": load.per_s,
        f"{name}_p50_ms": load.p50_ms,
        f"{name}_p99_ms": load.p99_ms,
        f"{name}_cpu_us": 1e6 * took_s / load.count,
    }
    if load.client_cpu_percent:
        figures[f"{name}_client_cpu_percent"] = load.client_cpu_percent
    for metric, figure in figures.items():
        yield Key(system, metric, outstanding, fsync, tls), figure


def _load(settings: LoadSettings) -> Load:
    command = [sys.executable, "-m", "benchmarks.consensus.client", json.dumps(asdict(settings))]
    return Load(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def _catch_up(cluster: OwnCluster, entries: int) -> float:
    leader = cluster.leader()
    away = (leader + 1) % NODES
    had = _applied(cluster, away)
    cluster.end(away)
    _load(LoadSettings("meshnode", cluster.port(leader), "put", 1000, 0.0, count=entries))
    wanted = _applied(cluster, leader)
    begin = time.perf_counter()
    cluster.start(away)
    until(lambda: _applied(cluster, away) >= wanted, "the follower catches up")
    return (wanted - had) / (time.perf_counter() - begin)


def _applied(cluster: OwnCluster, node: int) -> int:
    status = cluster.status(node)
    return -1 if status is None else status["applied"]


@contextmanager
def _pysyncobj(
    directory: Path,
) -> Iterator[tuple[list["subprocess.Popen[str]"], Callable[[], "subprocess.Popen[str]"]]]:
    """Three nodes of PySyncObj, and a function that waits for their leader."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(NODES)]
    running: list[subprocess.Popen[str]] = []
    try:
        for node, address in enumerate(addresses):
            settings: dict[str, Any] = {
                "address": address,
                "partners": [other for other in addresses if other != address],
                "journal": str(directory / f"journal{node}"),
            }
            command = [str(PEERS_PYTHON), "-m", "benchmarks.consensus.pysyncobj_node", json.dumps(settings)]
            running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

        def leader() -> "subprocess.Popen[str]":
            leaders: list[subprocess.Popen[str]] = []

            def is_led() -> bool:
                leaders[:] = [process for process in running if _ask(process, "role") == "leader"]
                return len(leaders) == 1

            until(is_led, "PySyncObj elects a leader")
            return leaders[0]

        yield running, leader
    finally:
        for process in running:
            process.kill()
            process.wait()


def _ask(process: "subprocess.Popen[str]", question: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()
