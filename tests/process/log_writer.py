"""Writes to a Raft log for ever, and says after each sync what is durable: `python -m tests.process.log_writer DIR`."""

import sys
from pathlib import Path

from consensus.config import LogConfig
from consensus.image import write_image
from consensus.messages import Configuration, Entry, HardState, Snapshot
from consensus.opening import open_log
from consensus.storage import DurableLog
from tests.consensus.disks import OsDisk

OWNER = b"mesh and node"
SMALL = LogConfig(segment_bytes=2000, cache_bytes=2000, snapshot_log_bytes=1, kept_log_bytes=0)


def entry(index: int) -> Entry:
    """The entry that every log has at an index."""
    return Entry(1 + index // 50, index, data=b"%d," % index * (index % 7 * 10))


def state(index: int) -> bytes:
    """What those up to an index amount to."""
    return b"".join(entry(number).data for number in range(max(1, index - 20), index + 1))


def opened(root: Path) -> DurableLog:
    """The log, after a look that it is whole."""
    log = open_log(OsDisk(root), "raft", owner=OWNER, config=SMALL)
    assert log.lost() is None, log.damage
    first, last = log.first_index(), log.last_index()
    assert (
        [*log.entries(first, last + 1)] == [entry(index) for index in range(first, last + 1)] if last >= first else True
    )
    if log.snapshot().index:
        assert b"".join(log.images.pieces(log.snapshot())) == state(log.snapshot().index)
    return log


def main(root: Path) -> None:
    log = opened(root)
    while True:
        first = log.last_index() + 1
        snapshot = None
        if first % 90 < 3:
            described = Snapshot(first + 40, entry(first + 40).term, Configuration(voters=(1,)))
            partial = log.images.partial_path(described)
            file = log.images.open_partial(partial)
            snapshot = write_image(file, described, [state(described.index)])
            file.close()
            log.images.keep(partial, snapshot)
            first = snapshot.index + 1
        elif first % 15 < 3 and first > 3:
            described = Snapshot(first - 2, entry(first - 2).term, Configuration(voters=(1,)))
            if described.index > log.snapshot().index:
                log.record_snapshot(log.images.write(described, [state(described.index)]))
        fresh = [entry(index) for index in range(first, first + 3)]
        log.append(HardState(fresh[-1].term, 1, first - 1), fresh, snapshot)
        log.sync()
        sys.stdout.write(f"{log.last_index()} {log.snapshot().index}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
