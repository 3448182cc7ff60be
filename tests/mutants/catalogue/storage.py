"""Mistakes in the files of the Raft log, in its snapshots, and in what a node does that has lost entries."""

from tests.mutants.catalogue.disk import _OPENING, _RECORDS, _SEGMENTS, _STORAGE, _log
from tests.mutants.mutant import Edit

_RECOVERY = "consensus/recovery.py"

STORAGE = (
    _log(
        "found-but-dropped",
        "What a restart finds in the page cache is synced, but a failed sync before may have taken it for written.",
        Edit(_OPENING, "        file.drop_cache()\n", "        file.sync()\n"),
    ),
    _log(
        "damage-is-forgotten",
        "A node that has lost entries takes its log for whole.",
        Edit(
            _RECOVERY,
            "            lost = _both(lost, Lost(*self._end, state.term))\n",
            "            lost = _both(lost, Lost(0, 0, state.term))\n",
        ),
    ),
    _log(
        "lost-entries-do-not-count-in-votes",
        "A node that has lost entries votes as if it had never had them.",
        Edit(
            "consensus/core.py",
            "        if self.lost is not None and (term, index) < (self.lost.log_term, self.lost.index):\n"
            "            return False\n",
            "",
        ),
    ),
    _log(
        "leads-with-a-damaged-log",
        "A node that has lost entries stands for election.",
        Edit(
            "consensus/core.py",
            "not progress.is_learner and self.log.snapshot is None and self.lost is None",
            "not progress.is_learner and self.log.snapshot is None",
        ),
    ),
    _log(
        "whole-too-early",
        "A log that has lost entries counts as whole again with the first that a leader sends.",
        Edit(
            "consensus/memory.py",
            "        return last >= self.index or last_term > self.term\n",
            "        return last > 0\n",
        ),
    ),
    _log(
        "unreadable-vote-ignored",
        "A node starts although its last record, which may have had its vote, can't be read.",
        Edit(
            _RECOVERY,
            "        unknown = self._unknown or self._had_unknown\n",
            "        unknown = None\n",
        ),
    ),
    _log(
        "torn-end-beside-damage",
        "A file that is damaged and cut off is taken for one that a crash has cut off.",
        Edit(
            _RECOVERY,
            "        if last is not None and damage is not None and last.torn_bytes and not last.is_room:\n",
            "        if last is not None and damage is not None and last.torn_bytes < 0:\n",
        ),
    ),
    _log(
        "astray-record-leaves-room",
        "Zeros in the place of the last record, which was written to another place, are taken for room made ahead.",
        Edit(
            _RECORDS,
            "        return not any(header is not None and header.offset >= end for header in astray)\n",
            "        return True\n",
        ),
    ),
    _log(
        "damaged-head-is-a-witness",
        "A head that can't be read counts as one that says what was promised.",
        Edit(
            _RECOVERY,
            "                self._had_unknown = self._had_unknown or self._unknown\n",
            "                self._unknown = None\n",
        ),
    ),
    _log(
        "what-was-lost-is-forgotten-with-a-head",
        "A log whose loss was noted in a head that can't be read counts as whole.",
        Edit(_RECOVERY, "        if self._had is not None:\n", "        if False:\n"),
    ),
    _log(
        "damage-skips-the-next-record",
        "Behind a damaged record the next sound one is taken, whatever lies between.",
        Edit(_RECORDS, "            return min(end, self._size)\n", "            offset = end - 1\n"),
    ),
    _log(
        "head-without-state",
        "A new file begins without term and vote.",
        Edit(
            _SEGMENTS,
            "            *(_HEAD_KIND, FORMAT, head.number, head.oldest, state.term, state.vote, state.commit),\n",
            "            *(_HEAD_KIND, FORMAT, head.number, head.oldest, 0, 0, 0),\n",
        ),
    ),
    _log(
        "files-removed-before-the-head",
        "Files are removed before the head that says so is on disk.",
        Edit(
            _SEGMENTS,
            "        self._flush()\n        if changed:\n            self.clean_up()\n",
            "        if changed:\n            self.clean_up()\n        self._flush()\n",
        ),
    ),
    _log(
        "image-not-synced",
        "The image of a snapshot gets its name before it is on disk.",
        Edit(
            "consensus/image.py",
            "crc32c(end), _END_MAGIC))\n    file.sync()\n",
            "crc32c(end), _END_MAGIC))\n",
        ),
    ),
    _log(
        "compacted-too-far",
        "The log is compacted up to its last file, whatever still follows the snapshot.",
        Edit(_STORAGE, "            oldest = min(oldest, after[0])\n", "            pass\n"),
    ),
    _log(
        "what-a-snapshot-stands-for-is-missed",
        "A log that goes on from a snapshot of all of it is in doubt if what was there before is damaged.",
        Edit(
            _RECOVERY,
            "        if head.start >= head.end or (self.head is None and not self.damages):\n",
            "        if self.head is None and not self.damages:\n",
        ),
    ),
    _log(
        "installed-without-term-and-vote",
        "The file that begins with an installed snapshot has an older term than what follows it.",
        Edit(
            _SEGMENTS,
            "            state = replace(work.state, commit=index)\n",
            "            state = HardState(0, 0, index)\n",
        ),
    ),
    _log(
        "commit-before-the-snapshot",
        "A log goes on from a snapshot with a commit index that is behind it.",
        Edit(
            _RECOVERY,
            "        commit = min(max(state.commit, snapshot.index), last)\n",
            "        commit = min(state.commit, last)\n",
        ),
    ),
    _log(
        "leader-remembers-what-was-lost",
        "A leader goes on from what a follower had before its disk lost it.",
        Edit(
            "consensus/replication.py",
            "        progress.forget_match(hint=hint)\n",
            "        pass\n",
        ),
    ),
)
