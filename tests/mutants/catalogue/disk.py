"""Mistakes in what is kept on disk: the Raft log, the journal of the partitions, the identity."""

from tests.mutants.mutant import Edit, Mutant

_OPENING = "consensus/opening.py"
_STORAGE = "consensus/storage.py"
_SEGMENTS = "consensus/segments.py"
_RECORDS = "consensus/records.py"
_JOURNAL = "meshnode/partitions/journal.py"
_IDENTITY = "meshnode/data_directory.py"


def _log(name: str, wrong: str, *edits: Edit, easy: bool = False) -> Mutant:
    return Mutant(
        name=f"log-{name}", wrong=wrong, edits=edits, worlds=("raft",), invariants=("raft-*", "disk-*"), is_easy=easy
    )


def _journal(name: str, wrong: str, *edits: Edit, easy: bool = False) -> Mutant:
    return Mutant(
        name=f"journal-{name}",
        wrong=wrong,
        edits=edits,
        worlds=(),
        invariants=("partitions-*", "disk-*", "linearizability", "exactly-once-*", "requests-*", "liveness*"),
        is_easy=easy,
    )


DISK = (
    _log(
        "not-synced",
        "The log is written and not synced.",
        Edit(_SEGMENTS, "        self.file.sync()\n        self._buffer = []\n", "        self._buffer = []\n"),
        easy=True,
    ),
    _log(
        "directory-not-synced",
        "The name of a new file of the log may be lost in a power failure.",
        Edit(
            _SEGMENTS,
            "            self._disk.sync_directory(self._directory)\n            self._names_changed",
            "            self._names_changed",
        ),
        Edit(_OPENING, "    for ancestor in _with_ancestors(directory):\n        disk.sync_directory(ancestor)\n", ""),
        Edit(
            "consensus/images.py",
            "                self._disk.remove(posixpath.join(self._directory, name))\n"
            "        self._disk.sync_directory(self._directory)\n",
            "                self._disk.remove(posixpath.join(self._directory, name))\n",
        ),
    ),
    _log(
        "sync-error-retried",
        "A sync that failed is tried again, and believed.",
        Edit(
            _SEGMENTS,
            "        self.file.sync()\n        self._buffer = []\n",
            "        try:\n"
            "            self.file.sync()\n"
            "        except OSError:\n"
            "            self.file.sync()\n"
            "        self._buffer = []\n",
        ),
    ),
    _log(
        "checksum-failure-is-the-end",
        "A record that does not match its checksum is taken for the end of the log.",
        Edit(
            _RECORDS,
            '        raise _Damaged(f"{what} does not match its checksum, and no part of it is missing as after a crash")\n',
            "",
        ),
        Edit(
            _RECORDS,
            "                if payload is None:\n                    self._check_never_synced(offset)\n",
            "                if payload is None:\n",
        ),
    ),
    _log(
        "torn-end-kept",
        "What a crash cut off stays in the file, and new records are appended behind it.",
        Edit(_OPENING, "                file.truncate(last.end)\n", "                pass\n"),
    ),
    _log(
        "found-but-not-synced",
        "What a restart finds in the page cache counts as durable without a sync.",
        Edit(_OPENING, "        file.drop_cache()\n", "        pass\n"),
    ),
    _log(
        "batches-superseded",
        "A batch with entries is dropped from what is to be written when another one follows.",
        Edit(
            _SEGMENTS,
            "            elif not work.entries and place + 1 < len(works):\n",
            "            elif place + 1 < len(works):\n",
        ),
    ),
    _journal(
        "not-synced",
        "The journal is written and not synced.",
        Edit(
            _JOURNAL,
            "        assert self._file is not None\n        self._file.sync()\n        self._segments[-1].synced",
            "        assert self._file is not None\n        self._segments[-1].synced",
        ),
    ),
    _journal(
        "acknowledged-before-sync",
        "What waits for the sync is done before it.",
        Edit(
            _JOURNAL,
            "            if queue:\n                try:\n",
            "            for action in waiting:\n                action()\n            waiting = []\n            if queue:\n                try:\n",
        ),
    ),
    _journal(
        "room-kept-before-a-newer-file",
        "A file keeps the room behind its end although a newer one follows.",
        Edit(
            _JOURNAL,
            "            self._file.truncate(self._segments[-1].size)"
            "  # zeros before a newer file are entries that were lost\n            self._file.sync()\n",
            "",
        ),
    ),
    _journal(
        "directory-not-synced",
        "The names of new files of the journal may be lost in a power failure.",
        Edit(
            _JOURNAL,
            "        self._append(wire.encode(Header(self._owner, number)))\n        self._sync()\n        self._disk.sync_directory(DIRECTORY)\n",
            "        self._append(wire.encode(Header(self._owner, number)))\n        self._sync()\n",
        ),
    ),
    _journal(
        "sync-error-retried",
        "A sync that failed is tried again, and believed.",
        Edit(
            _JOURNAL,
            "        assert self._file is not None\n        self._file.sync()\n        self._segments[-1].synced",
            "        assert self._file is not None\n"
            "        try:\n"
            "            self._file.sync()\n"
            "        except OSError:\n"
            "            self._file.sync()\n"
            "        self._segments[-1].synced",
        ),
    ),
    _journal(
        "files-deleted-too-early",
        "A file is deleted when the copy that makes it superfluous is queued, and not when it is on disk.",
        Edit(
            _JOURNAL,
            "        while self._segments[0].number < needed:\n",
            "        needed = self._retention.oldest_needed() or needed\n        while self._segments[0].number < needed:\n",
        ),
    ),
    _journal(
        "torn-end-kept",
        "What a crash cut off stays in the file, and new records are appended behind it.",
        Edit(_JOURNAL, "            if scan.torn_bytes:\n                file.truncate(scan.end)\n", ""),
    ),
    _journal(
        "files-of-promises-deleted",
        "A file is not kept for the sake of promises and records that stand in it.",
        Edit(
            "meshnode/partitions/retention.py",
            "self._needed_from.setdefault(partition, file)",
            "self._needed_from[partition] = file",
        ),
    ),
    Mutant(
        name="identity-boot-not-raised",
        wrong="A restarted node takes the boot number of its earlier life (rule 2).",
        edits=(Edit(_IDENTITY, "replace(kept, boot=Boot(kept.boot + 1), ", "replace(kept, boot=kept.boot, "),),
        invariants=("swim-*", "partitions-*", "liveness*", "linearizability"),
        is_easy=True,
    ),
    Mutant(
        name="identity-not-synced",
        wrong="The boot number is used before it is on disk.",
        edits=(
            Edit(_IDENTITY, "        file.sync()\n    finally:\n", "    finally:\n"),
            Edit(
                _IDENTITY,
                '    disk.rename(temporary, PATH)\n    disk.sync_directory("")\n',
                "    disk.rename(temporary, PATH)\n",
            ),
        ),
        invariants=("swim-*", "partitions-*", "liveness*", "linearizability"),
    ),
)
