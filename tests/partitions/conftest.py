"""Small bounds, so that a few records already need snapshots in parts, windows and copies."""

import pytest
import trio.testing

from meshnode.partitions import primary, replica


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "RECORDS_RETAINED", 3)
    monkeypatch.setattr(replica, "RETAINED_BYTES_MAX", 100)
    monkeypatch.setattr(replica, "MESSAGE_BYTES", 24)
    monkeypatch.setattr(primary, "MESSAGE_BYTES", 24)
    monkeypatch.setattr(primary, "WINDOW_MESSAGES", 4)
    monkeypatch.setattr(primary, "TAIL_RECORDS", 2)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Time is virtual: it jumps to the next deadline when nobody has anything to do."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
