"""A disk under everything at once, as one number: run it twice, anywhere, and compare."""

import contextlib
import hashlib
import random
import sys

from simulations.disk import DiskFaults, SimDisk

FAULTS = DiskFaults(
    torn_sector_rate=0.2,
    bit_rot_rate=0.1,
    read_bit_rot_rate=0.05,
    stale_rate=0.1,
    misdirected_rate=0.1,
    sync_error_rate=0.05,
    read_error_rate=0.05,
    capacity_bytes=20_000,
    slow_sync_rate=0.1,
    stuck_sync_rate=0.01,
    silent=True,
)
PATHS = ("a", "b", "d/a", "d/b", "d/e/c")


def digest(seed: int, steps: int = 1_000) -> str:
    """Of all that can be seen of a disk during random operations and crashes."""
    rng = random.Random(seed)
    seen = hashlib.sha256()
    disk = SimDisk("disk", seed=seed, faults=FAULTS)
    for _ in range(steps):
        with contextlib.suppress(OSError):
            step(disk, rng)
        seen.update(repr((disk.take_elapsed(), disk.used_bytes, sorted(disk.fired.items()))).encode())
        if rng.random() < 0.03:
            disk.crash(power_loss=rng.random() < 0.7)
            for path in PATHS:
                if disk.exists(path):
                    with contextlib.suppress(OSError):
                        file = disk.open(path, create=False)
                        seen.update(file.read(0, file.size()))
    return seen.hexdigest()


def step(disk: SimDisk, rng: random.Random) -> None:
    path = rng.choice(PATHS)
    disk.make_directory("d/e")
    match rng.randrange(8):
        case 0:
            disk.rename(path, rng.choice(PATHS))
        case 1:
            disk.remove(path)
        case 2:
            disk.sync_directory(rng.choice(("", "d", "d/e")))
        case 3:
            file = disk.open(path, create=False)
            file.truncate(rng.randrange(file.size() + 1))
        case _:
            file = disk.open(path, create=True)
            file.append(rng.randbytes(rng.randrange(3_000)))
            if rng.random() < 0.7:
                file.sync()


if __name__ == "__main__":
    sys.stdout.write(digest(int(sys.argv[1])))
