"""A process that writes a Raft log is killed at any moment: in a sync, a change of files, a snapshot."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.log_writer import opened

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

KILLS = 15


def test_a_kill_at_any_moment_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    rng = random.Random(1)
    files: set[str] = set()
    snapshots: set[int] = set()
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.process.log_writer", str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(rng.randint(1, 40))]
            time.sleep(rng.random() * 0.01)
            writer.kill()
            lines += writer.stdout.readlines()
        whole = [line for line in lines if line.endswith("\n")]
        last, snapshot = map(int, whole[-1].split())
        log = opened(tmp_path)
        assert log.last_index() >= last
        assert log.snapshot().index >= snapshot
        files.update(path.name for path in (tmp_path / "raft").glob("*.log"))
        snapshots.add(log.snapshot().index)
        log.close()
    assert len(files) > 20
    assert len(snapshots) > 8
