"""Drawn runs: clean as the cores are, the same everywhere, and not clean as soon as a core is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import consensus.core
import consensus.log
import meshnode.membership.view
import meshnode.metadata.allocator
import meshnode.partitions.primary
import meshnode.partitions.replica
import meshnode.placement.table
import meshnode.placement.takeover
from consensus.messages import NO_NODE, HardState
from meshnode.membership.messages import Member, State
from meshnode.membership.roster import supersedes
from meshnode.placement import Reason
from simulations.cores.swarm import WORLDS, sweep

SEEDS = int(os.environ.get("CORE_SEEDS", "40"))
FIRST_SEED = int(os.environ.get("CORE_FIRST_SEED", "1"))
BLOCK = 20

REACHED = {
    "swim": ("refutations", "deaths", "pauses", "false_deaths", "messages_lost"),
    "raft": ("terms_led", "entries_chosen", "changes", "reads_answered", "messages_lost"),
    "placement": ("tables", "copies_begun", "rows_proposed", "handed_over", "nodes_registered"),
    "partitions": ("rows_changed", "records_committed", "requests_answered", "requests_refused", "messages_lost"),
}


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BLOCK))
@pytest.mark.parametrize("world", WORLDS)
def test_no_drawn_run_breaks_an_invariant_or_fails_to_recover(world: str, first: int) -> None:
    swept = sweep(first, min(first + BLOCK, FIRST_SEED + SEEDS) - 1, world)
    replay = f"CORE_FIRST_SEED=… CORE_SEEDS=1 pytest tests/simulations/cores/test_swarm.py -k {world}"
    assert [(report.seed, str(report.violations[0])) for report in swept.failures] == [], replay
    for name in REACHED[world]:
        assert swept.counters[name] > 0, f"no run reached any {name}"


def test_a_world_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no world 'moon': choose one of swim, raft, partitions, placement"):
        sweep(1, 2, "moon")


def traces() -> str:
    """Of a few runs of each world."""
    reports = [run(seed) for run in WORLDS.values() for seed in (3, 4, 5)]
    return " ".join(f"{report.trace}/{report.events}" for report in reports)


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_a_run_is_the_same_in_another_process_with_another_hash_seed(hash_seed: str) -> None:
    root = Path(__file__).parents[3]
    script = "from tests.simulations.cores.test_swarm import traces; print(traces())"
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    assert printed.stdout.strip() == traces()


# ---- mistakes


def forget_votes(patch: pytest.MonkeyPatch) -> None:
    hard_state = property(lambda core: HardState(core.term, NO_NODE, core.log.committed))
    patch.setattr(consensus.core.Core, "hard_state", hard_state)


def vote_for_anyone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consensus.log.RaftLog, "is_up_to_date", lambda *_: True)


def commit_old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    def commit_by_quorum(core: Any) -> bool:
        index = core.tracker.committed_index()
        return bool(index > core.log.committed and core.log.commit_to(index))

    patch.setattr(consensus.core.Core, "commit_by_quorum", commit_by_quorum)


def believe_good_news(patch: pytest.MonkeyPatch) -> None:
    def believed(rumour: Member, held: Member) -> bool:
        is_refuted = rumour.incarnation == held.incarnation and rumour.state is State.ALIVE
        return (is_refuted and held.state is State.SUSPECT) or supersedes(rumour, held)

    patch.setattr(meshnode.membership.view, "supersedes", believed)


def ignore_incarnations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meshnode.membership.view, "supersedes", lambda rumour, held: rumour.state > held.state)


def promise_without_writing(patch: pytest.MonkeyPatch) -> None:
    def promise(copy: Any, epoch: int) -> list[object]:
        copy.promised = epoch
        return []

    patch.setattr(meshnode.partitions.replica.Replica, "_promise", promise)


def commit_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meshnode.partitions.primary, "majority", lambda _members: 1)


def make_tables_anew(patch: pytest.MonkeyPatch) -> None:
    made_of = meshnode.placement.table._layout
    patch.setattr(meshnode.placement.table, "_layout", lambda _previous, *rest: made_of(None, *rest))


def overlook_zones(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meshnode.placement.table, "spread_over_zones", lambda *_: None)


def take_over_without_exchanges(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meshnode.placement.takeover._Evening, "relieve_all", lambda _: False)


def give_up_who_failed_at_once(patch: pytest.MonkeyPatch) -> None:
    def members_that_count(self: Any, live: Any, _now: float) -> Any:
        return meshnode.metadata.allocator._specs({key: node for key, node in live.items() if not node.is_leaving})

    patch.setattr(meshnode.metadata.allocator.Allocator, "_members_that_count", members_that_count)


def name_heirs_that_failed(patch: pytest.MonkeyPatch) -> None:
    def heirs(self: Any, row: Any, *_: Any) -> Any:
        return meshnode.metadata.allocator._Vacancy(row.replicas, row.replicas, Reason.NODE_FAILED)

    everyone = meshnode.metadata.allocator.Allocator
    patch.setattr(everyone, "_vacancy", heirs)
    fill = everyone._fill
    patch.setattr(everyone, "_fill", lambda self, vacancies, _live: fill(self, vacancies, self._metadata.nodes))


MISTAKES: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    forget_votes: "raft",
    vote_for_anyone: "raft",
    commit_old_terms_by_counting: "raft",
    believe_good_news: "swim",
    ignore_incarnations: "swim",
    promise_without_writing: "partitions",
    commit_alone: "partitions",
    make_tables_anew: "placement",
    overlook_zones: "placement",
    take_over_without_exchanges: "placement",
    give_up_who_failed_at_once: "placement",
    name_heirs_that_failed: "placement",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_a_core_is_caught(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    swept = sweep(1, 100, MISTAKES[mistake], failures_max=1)
    assert swept.failures, "a hundred runs were clean all the same"
