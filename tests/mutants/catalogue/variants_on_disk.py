"""Mistakes of the kinds in `disk`, at other places: in the drivers, in names, after failures."""

from tests.mutants.catalogue.disk import _IDENTITY, _JOURNAL, _OPENING, _RECORDS, _STORAGE, _journal, _log
from tests.mutants.mutant import Edit, Mutant


def _identity(name: str, wrong: str, *edits: Edit) -> Mutant:
    return Mutant(
        name=f"identity-{name}",
        wrong=wrong,
        edits=edits,
        invariants=("swim-*", "partitions-*", "liveness*", "linearizability", "raft-*"),
    )


VARIANTS_ON_DISK = (
    _log(
        "parent-directory-not-synced",
        "The log's directory is synced, but not the one that holds its name.",
        Edit(_OPENING, "for ancestor in _with_ancestors(directory):", "for ancestor in [directory]:"),
    ),
    _log(
        "last-checksum-ignored",
        "The checksum of the last record is not looked at.",
        Edit(
            _RECORDS,
            "if body is None or body[header.length :] != _TRAILER.pack(crc32c(payload, header.checksum), _MARK):",
            "if body is None or (\n"
            "            end < self._size and body[header.length :] != _TRAILER.pack(crc32c(payload, header.checksum), _MARK)\n"
            "        ):",
        ),
    ),
    _log(
        "no-checksum-of-the-body",
        "Only the headers of records are checked.",
        Edit(
            _RECORDS,
            "if body is None or body[header.length :] != _TRAILER.pack(crc32c(payload, header.checksum), _MARK):",
            "if body is None:",
        ),
    ),
    _log(
        "lost-record-is-the-end",
        "A synced record that is gone is taken for one that was never synced.",
        Edit(_RECORDS, "                    self._check_never_synced(offset)\n", ""),
    ),
    _log(
        "close-drops-what-is-queued",
        "A log that is closed does not write what was appended since the last sync, such as what founds a group.",
        Edit(
            _STORAGE,
            "            if self._failure is None:\n                self.sync()\n",
            "            pass\n",
        ),
    ),
    _journal(
        "found-but-not-synced",
        "What a restart finds in the page cache counts as durable without a sync.",
        Edit(_JOURNAL, "        file.drop_cache()  # what is read is answered for from now on\n", ""),
        Edit(
            _JOURNAL,
            "            self._sync()\n            self._disk.sync_directory(DIRECTORY)\n\n    def _recover",
            "            pass\n\n    def _recover",
        ),
    ),
    _journal(
        "found-but-dropped",
        "What a restart finds in the page cache is synced, but a failed sync before may have taken it for written.",
        Edit(_JOURNAL, "        file.drop_cache()  # what is read is answered for from now on\n", ""),
    ),
    _journal(
        "late-waiters-served",
        "What begins to wait while a batch is being synced is served with that batch.",
        Edit(
            _JOURNAL,
            "            waiting, self._waiting = self._waiting, []\n            # All",
            "            # All",
        ),
        Edit(
            _JOURNAL,
            "            for action in waiting:\n",
            "            waiting, self._waiting = self._waiting, []\n            for action in waiting:\n",
        ),
    ),
    _journal(
        "closed-without-sync",
        "A file that is full is closed without the last sync.",
        Edit(
            _JOURNAL,
            "        self._sync()\n        if self._segments[-1].size >= self._config.segment_bytes:\n",
            "        if self._segments[-1].size < self._config.segment_bytes:\n            self._sync()\n        else:\n",
        ),
    ),
    _journal(
        "deletions-not-synced",
        "The deletion of old files may be undone by a power failure, of some and not of others.",
        Edit(
            _JOURNAL,
            "            self._disk.sync_directory(DIRECTORY)\n            del self._segments[0]\n",
            "            del self._segments[0]\n",
        ),
    ),
    _journal(
        "goes-on-after-a-failed-sync",
        "A batch that could not be synced is left, and the next one is written.",
        Edit(
            _JOURNAL,
            "                    path = self._path(self._segments[-1].number)\n                    raise StorageFailed(",
            "                    if error.errno is not None:\n                        continue\n"
            "                    path = self._path(self._segments[-1].number)\n                    raise StorageFailed(",
        ),
    ),
    _journal(
        "parent-directory-not-synced",
        "The journal's directory may be lost in a power failure.",
        Edit(
            _JOURNAL,
            '        self._disk.make_directory(DIRECTORY)\n        self._disk.sync_directory("")\n',
            "        self._disk.make_directory(DIRECTORY)\n",
        ),
    ),
    _identity(
        "overwritten-in-place",
        "The identity is written over, not beside the old one.",
        Edit(_IDENTITY, 'temporary = f"{PATH}.new"', "temporary = PATH"),
        Edit(_IDENTITY, "    disk.rename(temporary, PATH)\n", ""),
    ),
    _identity(
        "renamed-before-sync",
        "The new identity takes the old one's place before it is on disk.",
        Edit(_IDENTITY, "        file.sync()\n    finally:\n", "    finally:\n"),
    ),
    _identity(
        "nonce-unchecked",
        "A process takes up duties when its boot number is registered, by whomever.",
        Edit(
            "meshnode/node.py",
            "record.start == self.identity.start and",
            "record.boot == self.identity.boot and",
        ),
        Edit(
            "meshnode/identity.py",
            "return self != registered",
            "return self.boot < registered.boot",
        ),
    ),
    _identity(
        "a-copys-later-start-goes-on",
        "The start of a copy is taken for one of the node once its boot is higher than the one registered.",
        Edit(
            "meshnode/identity.py",
            "return ago <= len(self.before) and self.before[-ago] != registered.nonce",
            "return False",
        ),
    ),
    _identity(
        "duties-before-registration",
        "A process takes part in partitions before its start is registered (rule 2).",
        Edit(
            "meshnode/node.py",
            "if record is not None and record.start == self.identity.start and not self._has_duties:",
            "if record is not None and not self._has_duties:",
        ),
    ),
)
