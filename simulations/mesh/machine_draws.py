"""Draws what happens to disks and clocks."""

from simulations.cores.faults import FOREVER, ClockRate, Crash
from simulations.disk import DiskFaults
from simulations.faults import BadDevice, BadDisk, Drift, Mixup, NewDisk, OldImage, Outside, WallJump
from simulations.mesh.drawing import Draw, Drawing


def _full_disks(draw: Drawing) -> dict[str, object]:
    faults = DiskFaults(capacity_bytes=draw.rng.randint(0, 20_000))
    return {"bad_disks": tuple(BadDisk(draw.node(), faults, at_s, draw.span(at_s, 8.0)) for at_s in draw.times(2))}


def _slow_disks(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    faults = DiskFaults(slow_sync_rate=rng.choice((0.05, 0.5)), slow_sync_factor=rng.choice((20.0, 200.0, 1000.0)))
    return _waited_for(draw, faults)


def _stuck_disks(draw: Drawing) -> dict[str, object]:
    return _waited_for(draw, DiskFaults(stuck_sync_rate=draw.rng.choice((0.02, 0.2, 1.0))))


def _waited_for(draw: Drawing, faults: DiskFaults) -> dict[str, object]:
    """One disk, or several at a time, as where they share what is below them."""
    bad = []
    for at_s in draw.times(2):
        for_s = draw.span(at_s, 10.0)
        nodes = sorted(draw.group()) if draw.rng.random() < 0.5 else [draw.node()]
        bad += [BadDisk(node, faults, at_s, for_s) for node in nodes]
    return {"bad_disks": tuple(bad)}


def _torn_disks(draw: Drawing) -> dict[str, object]:
    """Power cuts on file systems that write in order, or that write parts of sectors: no excuse for any node."""
    rng = draw.rng
    bad, crashes = [], []
    for at_s in draw.times(4):
        node, for_s = draw.node(), draw.span(at_s, 4.0)
        faults = DiskFaults(in_order=rng.random() < 0.5, torn_sector_rate=rng.choice((0.0, 0.5, 1.0)))
        bad.append(BadDisk(node, faults, at_s, for_s))
        crashes.append(Crash(node, round(at_s + for_s * rng.random(), 3), draw.span(at_s + for_s, 4.0), 0, power=True))
    return {"bad_disks": tuple(bad), "crashes": tuple(crashes)}


def _failing_disks(draw: Drawing) -> dict[str, object]:
    faults = DiskFaults(sync_error_rate=draw.rng.choice((0.01, 0.2, 1.0)), read_error_rate=draw.rng.choice((0.0, 0.05)))
    return {"bad_disks": tuple(BadDisk(draw.victim, faults, at_s, draw.span(at_s, 8.0)) for at_s in draw.times(2))}


def _rotten(draw: Drawing, node: int) -> dict[str, tuple[BadDisk | Crash, ...]]:
    rng = draw.rng
    faults = DiskFaults(
        bit_rot_rate=rng.choice((0.0, 0.2)),
        read_bit_rot_rate=rng.choice((0.0, 0.0, 0.2)),
        torn_sector_rate=rng.choice((0.0, 0.5)),
        stale_rate=rng.choice((0.0, 0.05)),
        misdirected_rate=rng.choice((0.0, 0.05)),
    )
    (at_s,) = draw.times(1)
    again_s = round(min(at_s + rng.uniform(0.0, 10.0), 0.85 * draw.duration_s), 3)
    return {
        "bad_disks": (BadDisk(node, faults, at_s, draw.last_s - at_s),),
        "crashes": (Crash(node, again_s, 1.0, 0, power=True),),
    }


def _rotten_disks(draw: Drawing) -> dict[str, object]:
    return {**_rotten(draw, draw.victim)}


def _no_atlas(draw: Drawing) -> dict[str, object]:
    """As above, on any node: see `Plan.atlas`."""
    drawn = [_rotten(draw, node) for node in sorted(draw.group())]
    return {name: tuple(fault for faults in drawn for fault in faults[name]) for name in ("bad_disks", "crashes")}


def _new_disks(draw: Drawing) -> dict[str, object]:
    (at_s,) = draw.times(1)
    return {"new_disks": (NewDisk(draw.victim, at_s, draw.span(at_s, 5.0)),)}


def _mixups(draw: Drawing) -> dict[str, object]:
    pair = draw.sound_pair()
    (at_s,) = draw.times(1)
    return {} if pair is None else {"mixups": (Mixup(*pair, at_s, draw.span(at_s, 12.0)),)}


def _old_images(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    pair = draw.sound_pair()
    if pair is None:
        return {}
    node, other = pair if rng.random() < 0.5 else (pair[0], pair[0])
    taken_at_s = round(rng.uniform(0.0, 0.4 * draw.duration_s), 3)
    at_s = round(rng.uniform(taken_at_s + 0.1 * draw.duration_s, 0.7 * draw.duration_s), 3)
    for_s = draw.span(at_s, 15.0)
    again_s = round(0.3 * rng.random() ** 2, 3) if rng.random() < 0.5 else FOREVER
    return {"old_images": (OldImage(node, other, taken_at_s, at_s, for_s, again_s),)}


def _clocks(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    return {
        "clocks": tuple(ClockRate(node, round(rng.uniform(0.8, 1.25), 3)) for node in range(draw.nodes)),
        "wall_jumps": tuple(
            WallJump(draw.node(), rng.choice((-1e5, -10.0, 10.0, 1e5)), at_s) for at_s in draw.times(3)
        ),
    }


def _drifts(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    return {
        "drifts": tuple(
            Drift(draw.node(), round(rng.uniform(0.6, 1.8), 3), at_s, draw.span(at_s, 10.0)) for at_s in draw.times(6)
        )
    }


def _bad_devices(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    return {"bad_devices": tuple(BadDevice(draw.node(), rng.randint(0, 20), at_s) for at_s in draw.times(3))}


def _outside(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    return {"outside": Outside(late=rng.choice((0.02, 0.1, 0.3)), late_s=rng.choice((1.0, 5.0, 20.0)))}


MACHINE_KINDS: dict[str, Draw] = {
    "full-disks": _full_disks,
    "slow-disks": _slow_disks,
    "stuck-disks": _stuck_disks,
    "torn-disks": _torn_disks,
    "failing-disks": _failing_disks,
    "rotten-disks": _rotten_disks,
    "no-atlas": _no_atlas,
    "new-disks": _new_disks,
    "mixups": _mixups,
    "old-images": _old_images,
    "clocks": _clocks,
    "drifts": _drifts,
    "bad-devices": _bad_devices,
    "outside": _outside,
}
"""By the names under which they are asked for."""

DESTROYING = frozenset({"failing-disks", "rotten-disks", "new-disks"})
"""Kinds that may cost a node what it had synced."""
