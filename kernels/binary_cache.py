"""Compiled programs on disk, shared by the processes of one user.

An entry is one file:

    offset  0           8                   40
            "KBINARY1"  SHA-256 of the rest  the driver's binary

A binary is native code that the driver will run: entries that another user owns or could write are not read. Every
failure to read or write costs a compilation and nothing else.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MAGIC: Final = b"KBINARY1"
_DIGEST_BYTES: Final = 32
_SUFFIX: Final = ".clbin"
# A machine has a few devices and a few driver versions over the years; older entries belong to neither.
ENTRIES_MAX: Final = 16
# A driver's binary of these kernels is 0.1 to 3 MB.
ENTRY_BYTES_MAX: Final = 64 * 2**20
# Longer than any compilation seen (3.7 s); a process that holds the lock longer is stuck, and is not waited for.
LOCK_WAIT_S: Final = 30.0
_LOCK_POLL_S: Final = 0.02


class BinaryCache:
    """Binaries by key, a hex digest of everything that they depend on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, key: str) -> bytes | None:
        """The binary, or None when there is no sound entry."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                if not _is_private(os.fstat(file.fileno())):
                    return None
                entry = file.read(ENTRY_BYTES_MAX + 1)
        except OSError:
            return None
        head = len(_MAGIC) + _DIGEST_BYTES
        binary = entry[head:]
        if len(entry) > ENTRY_BYTES_MAX or entry[:head] != _MAGIC + hashlib.sha256(binary).digest():
            return None
        return binary

    def put(self, key: str, binary: bytes) -> bool:
        """Keep the binary; readers see the old entry or the new one whole. False when it could not be written."""
        if len(_MAGIC) + _DIGEST_BYTES + len(binary) > ENTRY_BYTES_MAX:
            return False
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._directory, prefix=".", suffix=_SUFFIX)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(binary).digest() + binary)
                os.replace(name, self._path(key))
            except OSError:
                os.unlink(name)
                raise
            self._drop_oldest()
        except OSError:
            return False
        return True

    @contextmanager
    def building(self, key: str) -> Iterator[None]:
        """Hold the key's lock, so that of several processes that start together one compiles and the others read.

        Advice only: without a lock file, or after LOCK_WAIT_S, the caller goes ahead.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path(key).with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield
            return
        try:
            give_up = time.monotonic() + LOCK_WAIT_S
            while time.monotonic() < give_up:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        assert key.isalnum(), f"a key is a hex digest, not {key!r}"
        return self._directory / f"{key}{_SUFFIX}"

    def _drop_oldest(self) -> None:
        # Files of writers still at work start with a dot; one left by a writer that died counts as an entry.
        entries = sorted(self._directory.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
        for path in entries[:-ENTRIES_MAX]:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
