"""Draws what goes wrong between machines."""

from simulations.cores.faults import Cut, LinkQuality, Slow
from simulations.faults import Clog, Damage, HalfOpen, Hang, Narrow, Reset, Stranger
from simulations.mesh.drawing import Draw, Drawing


def _links(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    quality = LinkQuality(
        delay_s=rng.choice((0.0002, 0.001, 0.01, 0.05)),
        jitter_s=rng.choice((0.0, 0.001, 0.02, 0.1)),
        loss=rng.choice((0.0, 0.01, 0.1, 0.3)),
        duplicate=rng.choice((0.0, 0.01, 0.2)),
        late=rng.choice((0.0, 0.01, 0.1)),
        late_s=rng.choice((0.05, 0.5, 2.0)),
    )
    return {"quality": quality, "calm_s": draw.last_s}


def _cuts(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    cuts = []
    for at_s in draw.times(3):
        senders = draw.group()
        rest = frozenset(range(draw.nodes)) - senders
        receivers = rest
        if len(rest) > 1 and rng.random() < 0.3:  # a bridge: one node reaches both sides
            receivers = rest - {rng.choice(sorted(rest))}
        flap_s = round(rng.uniform(0.1, 2.0), 3) if rng.random() < 0.3 else 0.0
        for_s = draw.span(at_s, 20.0)
        cuts.append(Cut(senders, receivers, at_s, for_s, both_ways=rng.random() < 0.6, flap_s=flap_s))
    return {"cuts": tuple(cuts)}


def _slow(draw: Drawing) -> dict[str, object]:
    quality = LinkQuality(delay_s=draw.rng.choice((0.05, 0.2, 0.6)), jitter_s=0.1, loss=draw.rng.choice((0.0, 0.1)))
    return {"slow": tuple(Slow(draw.node(), quality, at_s, draw.span(at_s, 15.0)) for at_s in draw.times(2))}


def _clogs(draw: Drawing) -> dict[str, object]:
    return {"clogs": tuple(Clog(draw.node(), draw.node(), at_s, draw.span(at_s, 12.0)) for at_s in draw.times(5))}


def _narrow(draw: Drawing) -> dict[str, object]:
    rate = draw.rng.choice((2_000.0, 20_000.0, 200_000.0))
    return {"narrows": tuple(Narrow(draw.node(), rate, at_s, draw.span(at_s, 12.0)) for at_s in draw.times(2))}


def _damage(draw: Drawing) -> dict[str, object]:
    share = draw.rng.choice((0.002, 0.02, 0.2))
    return {"damages": tuple(Damage(draw.node(), share, at_s, draw.span(at_s, 12.0)) for at_s in draw.times(3))}


def _strangers(draw: Drawing) -> dict[str, object]:
    return {"strangers": tuple(Stranger(draw.node(), at_s) for at_s in draw.times(15))}


def _resets(draw: Drawing) -> dict[str, object]:
    rng = draw.rng
    return {"resets": tuple(Reset(draw.node(), draw.node(), at_s, rng.random() < 0.6) for at_s in draw.times(8))}


def _half_opens(draw: Drawing) -> dict[str, object]:
    return {"half_opens": tuple(HalfOpen(draw.node(), draw.node(), at_s) for at_s in draw.times(5))}


def _hangs(draw: Drawing) -> dict[str, object]:
    return {"hangs": tuple(Hang(draw.node(), at_s, draw.span(at_s, 10.0)) for at_s in draw.times(2))}


LINK_KINDS: dict[str, Draw] = {
    "links": _links,
    "cuts": _cuts,
    "slow": _slow,
    "clogs": _clogs,
    "narrow": _narrow,
    "damage": _damage,
    "strangers": _strangers,
    "resets": _resets,
    "half-opens": _half_opens,
    "hangs": _hangs,
}
"""By the names under which they are asked for."""
