"""What the guide to locks shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

from meshnode.coordination import bounds
from meshnode.coordination.lock import TTL_DEFAULT_S
from meshnode.coordination.session import CLOCK_ERROR, RENEWALS_PER_TTL

GUIDE = (Path(__file__).parent.parent / "docs" / "locks.md").read_text()


def test_the_program_prints_what_the_guide_says(tmp_path: Path) -> None:
    program = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL))
    (shown,) = re.findall(r"It prints:\n\n```\n(.*?)```", GUIDE, flags=re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, shown), ran.stderr


def test_the_bounds_of_the_guide_are_those_of_the_code() -> None:
    table = GUIDE.partition("## Bounds")[2].partition("\n## ")[0].replace(",", "")
    kib, mib = 2**10, 2**20
    for number in (
        bounds.LOCK_NAMES_MAX,
        bounds.CLAIMS_MAX,
        bounds.SESSIONS_MAX,
        bounds.PENDING_MAX,
        bounds.KEY_BYTES_MAX,
        bounds.TRANSACTION_STEPS_MAX,
    ):
        assert re.search(rf"\b{number}\b", table), number
    assert f"{bounds.VALUE_BYTES_MAX // kib} KiB" in table
    assert f"{bounds.TRANSACTION_BYTES_MAX // kib} KiB" in table
    assert f"{bounds.STORE_BYTES_MAX // mib} MiB" in table
    assert f"last {bounds.HISTORY_CHANGES_MAX:,} changes are kept, up to {bounds.HISTORY_BYTES_MAX // mib} MiB" in GUIDE
    assert f"({TTL_DEFAULT_S:.0f} s unless given" in GUIDE
    assert (CLOCK_ERROR, RENEWALS_PER_TTL) == (0.1, 3), "a tenth, three times"
