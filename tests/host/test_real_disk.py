"""The disk of this machine, beyond what the nodes' tests do with it."""

import errno
import os
import re
from pathlib import Path

import pytest

from meshnode.real_disk import PlainDisk, RealFile


def cached_bytes(path: Path) -> int:
    """How much of a file, from its beginning on, can be read without asking the medium."""
    with path.open("rb", buffering=0) as file:
        try:
            return os.preadv(file.fileno(), [bytearray(path.stat().st_size)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            pytest.skip("the file system does not say what it has cached")


@pytest.mark.parametrize("room", [0, 1 << 16])
def test_a_cache_that_is_dropped_has_nothing_of_the_file_which_is_as_it_was(tmp_path: Path, room: int) -> None:
    path = tmp_path / "file"
    file = PlainDisk(str(tmp_path)).open("file", create=True)
    file.reserve(room)
    file.append(b"x" * 10_000)
    assert cached_bytes(path) >= 10_000
    file.drop_cache()
    assert cached_bytes(path) == 0
    assert file.size() == 10_000
    assert file.read(0, 20_000) == b"x" * 10_000
    file.append(b"y")
    assert file.read(9_999, 10) == b"xy"
    file.close()


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file = RealFile(str(path), create=False, read_only=True)
    with pytest.raises(OSError, match=re.escape(f"'{path}'")) as caught:
        file.append(b"more")
    assert caught.value.errno == errno.EBADF
    file.close()
