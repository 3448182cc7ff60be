"""An offline look at a log: what its files have, and what is damaged. Nothing is changed, so its node may be running.

While a node runs, its last file may end within a record, and files may come and go between two looks: one that is gone
is looked for anew, a few times.
"""

from dataclasses import dataclass
from typing import Final

from consensus.disk import Disk
from consensus.errors import CorruptLog, CorruptSnapshot, Damage, StorageError
from consensus.image import check_image, image_file_bytes, image_path
from consensus.memory import Lost
from consensus.messages import Snapshot
from consensus.recovery import FileReport, Recovered, read_segments
from consensus.segments import find_segments

_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """An image that the log names.

    Attributes:
        size: of its file, in bytes.
        damage: None if it is sound.
    """

    path: str
    index: int
    term: int
    size: int
    damage: Damage | None


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a log has.

    Attributes:
        owner: whose it is; empty if there is none.
        files, snapshots: of it.
        damages: in the log and its snapshots.
        problem: why the log can't be opened; empty if it can.
        first, last: the indexes of the first and the last entry that the node would have; `last` is below `first` if it
            would have none.
        last_term: of the last.
        entries: how many.
        term, vote, commit: the hard state.
        lost: what the node would have lost, to get back from its peers.
    """

    owner: bytes
    files: tuple[FileReport, ...]
    snapshots: tuple[SnapshotReport, ...]
    damages: tuple[Damage, ...]
    problem: str
    first: int = 0
    last: int = 0
    last_term: int = 0
    entries: int = 0
    term: int = 0
    vote: int = 0
    commit: int = 0
    lost: Lost | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages and not self.problem


def verify(disk: Disk, directory: str) -> LogReport:
    """Read all of a log. Files that cannot be opened for writing will do.

    Raises:
        OSError: it cannot be read.
    """
    for _ in range(_TRIES):
        try:
            return _verify(disk, directory)
        except FileNotFoundError:
            pass
    return _verify(disk, directory)


def _verify(disk: Disk, directory: str) -> LogReport:
    try:
        replay = read_segments(disk, find_segments(directory, disk.list(directory)), owner=None)
    except StorageError as error:
        return LogReport(b"", (), (), (), str(error))
    head = replay.head
    snapshots = tuple(_look_at(disk, directory, snapshot) for snapshot in (head.snapshots if head else ()))
    found, problem = None, ""
    try:
        found = replay.whole(disk, directory)
    except CorruptLog as error:
        problem = str(error)
    if not any(not report.is_void for report in replay.files):
        problem = problem or f"{directory} has no log"
    damages = tuple(dict.fromkeys([*replay.damages, *(one.damage for one in snapshots if one.damage is not None)]))
    report = LogReport(head.owner if head else b"", tuple(replay.files), snapshots, damages, problem)
    return report if found is None else _with_content(report, found)


def _look_at(disk: Disk, directory: str, snapshot: Snapshot) -> SnapshotReport:
    damage = None
    try:
        check_image(disk, directory, snapshot)
    except CorruptSnapshot as error:
        damage = error.damage
    path = image_path(directory, snapshot)
    return SnapshotReport(path, snapshot.index, snapshot.term, image_file_bytes(snapshot), damage)


def _with_content(report: LogReport, found: Recovered) -> LogReport:
    terms, state = found.terms, found.state
    return LogReport(
        report.owner,
        report.files,
        report.snapshots,
        report.damages,
        report.problem,
        first=terms.start + 1,
        last=terms.last,
        last_term=terms.last_term,
        entries=terms.last - terms.start,
        term=state.term,
        vote=state.vote,
        commit=state.commit,
        lost=found.lost,
    )
