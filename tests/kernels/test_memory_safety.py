"""The kernels under oclgrind, an OpenCL device that checks every access."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.conftest import skip_or_fail


@pytest.mark.device
def test_no_kernel_reads_or_writes_where_it_may_not_nor_races() -> None:
    if shutil.which("oclgrind") is None:
        skip_or_fail("there is no oclgrind; on Debian: apt-get install oclgrind")
    # Not --log FILE: oclgrind 21.10 leaves invalid accesses out of it.
    command = ["oclgrind", "--data-races", "--max-errors", "5", sys.executable, "-m", "tests.kernels.checked_run"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False, cwd=root)
    assert done.stderr == ""
    assert done.stdout == "18 batches agreed on Oclgrind\n"
    assert done.returncode == 0
