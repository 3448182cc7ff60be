"""Seeds that once failed: each stands for a mistake that was in the code."""

import pytest

from simulations.cores.swarm import WORLDS

CORPUS = {
    # A takeover asked for ever for the rest of a snapshot that its source, knowing less committed, did not have.
    ("partitions", 1594),
    ("partitions", 5709),
    # A replica whose first part of an empty snapshot was lost was sent another one, and its answers were ignored.
    ("partitions", 9330),
}


@pytest.mark.parametrize(("world", "seed"), sorted(CORPUS))
def test_a_seed_that_once_failed_is_clean(world: str, seed: int) -> None:
    report = WORLDS[world](seed)
    assert report.is_clean, report.violations
