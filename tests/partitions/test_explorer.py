"""Random schedules with every kind of fault; see `oracle` for what is checked after each event."""

import os

import pytest

from tests.partitions.schedule import Explorer

SEEDS = int(os.environ.get("PARTITION_SEEDS", "300"))
FIRST_SEED = int(os.environ.get("PARTITION_FIRST_SEED", "0"))
BLOCK = 50


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BLOCK))
def test_no_random_schedule_breaks_an_invariant_or_ends_without_service(first: int) -> None:
    for seed in range(first, min(first + BLOCK, FIRST_SEED + SEEDS)):
        explorer = Explorer(seed)
        try:
            explorer.run(events=400)
        except Exception as error:
            error.add_note(
                f"replay: PARTITION_FIRST_SEED={seed} PARTITION_SEEDS=1 pytest tests/partitions/test_explorer.py"
            )
            raise
