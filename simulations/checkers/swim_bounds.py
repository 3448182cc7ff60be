"""How long membership may take, from its settings: each bound with its derivation.

N live members, each of which holds ``known`` others live; f gossip peers. Every bound holds but with probability
``chance``, in a network without faults, on clocks that run at ``slowest`` times the rate of virtual time or faster.

**Until a probe of a crashed member begins.** Each of the others goes through its known members in shuffled rounds, one
a period. In one round after another, two visits are at most 2·known − 1 periods apart (SWIM 4.3), which bounds it for
certain. Among k periods in a row, a go in one round and k − a in the next, so one prober misses the member with
probability (1 − a/known)(1 − (k − a)/known) ≤ (1 − k/2known)²; N probers, independently, with at most
(1 − k/2known)^2N ≤ e^(−kN/known). That is below ``chance`` from k = ln(1/chance)·known/N on.

**Detection.** Those k periods, one for the probe to fail, and the suspicion: the first suspect's timer ends unless it
is refuted, and a crashed member refutes nothing.

**Spread.** Rumours go to f members a round, and a round takes at most 1.25 gossip intervals. While few know it, each
round multiplies them by 1 + f; when most do, each round leaves e^(−f) of the rest (Pittel, "On spreading a rumor",
1987; Karp et al., "Randomized rumor spreading", 2000): log(N)/log(1 + f) + ln(N/chance)/f rounds, and one to begin
with. But a member repeats a rumour only R = `SwimConfig.transmit_limit` times, so that about N·e^(−R) never hear it; of
a death there are two rumours, the suspicion and the end of it. Where N·e^(−R) exceeds ``chance`` and one round does not
reach everyone anyway (N − 1 ≤ f), some hear of the end alone, and doubt it for a suspicion's time. Where N·e^(−2R) does
too, the comparison of lists is what reaches the last, within one interval of it.

**Healing.** A live member that is held dead hears of it, and refutes, by the first of: its own ping of one who holds it
dead, in at most 2·known − 1 periods; a comparison of lists with someone who knows better, within 1.25 sync intervals;
or, where nobody on one side holds anyone on the other live, a knock at the dead. Each member knocks at one tombstone in
at most 1.25 rejoin intervals; if D tombstones are of members that are really gone, and L members live, none of them
hits a live one with probability (1 − 1/(1 + D))^L at most, in one interval. After it: a suspicion's time for deaths
that are doubted, the spread of the refutations, and the spread of what follows from them.
"""

import math
from dataclasses import dataclass

from meshnode.membership.config import SwimConfig

JITTER = 1.25
"""Intervals of membership are drawn from 0.75 to 1.25 of what is set."""

CHANCE = 1e-9
"""Of a wrong alarm, for each crash: a million runs may have a thousand crashes each."""

CHANCE_SEEN = 1e-7
"""Of a wrong alarm, where a run is looked at once."""


@dataclass(frozen=True, slots=True)
class SwimBounds:
    """The bounds for one mesh; see the docstring of the module.

    Attributes:
        detection_s: from a crash until some live member holds the crashed one dead.
        spread_s: from then until all do.
        healing_s: from the end of all faults until nobody holds a live member dead.
    """

    detection_s: float
    spread_s: float
    healing_s: float

    @property
    def known_to_all_s(self) -> float:
        """From a crash until every live member holds the crashed one dead."""
        return self.detection_s + self.spread_s


def swim_bounds(
    config: SwimConfig,
    *,
    live: int,
    gone: int = 1,
    latency_s: float = 0.01,
    slowest: float = 1.0,
    chance: float = CHANCE,
) -> SwimBounds:
    """Work the bounds out.

    Args:
        config: the same on all nodes.
        live: members that take part.
        gone: members that crashed for good and are remembered, or held live still.
        latency_s: of a datagram, at most; small against the probe timeout.
        slowest: the rate of the slowest clock, at most 1.
        chance: with which a bound may be exceeded.

    Raises:
        ValueError: a value is out of its range, or a round trip takes longer than a probe waits.
    """
    if live < 1 or gone < 0:
        raise ValueError(f"{live} live and {gone} gone members: bounds are for one live member or more")
    if not 0 < slowest <= 1 or not 0 < chance < 1:
        raise ValueError(f"slowest {slowest} and chance {chance}: choose above 0, and at most and below 1")
    if not 0 <= 2 * latency_s < config.probe_timeout_s * slowest:
        raise ValueError(
            f"latency_s {latency_s}: probes of live members succeed only where a round trip takes less than"
            f" probe_timeout_s ({config.probe_timeout_s})"
        )
    period_s = config.probe_interval_s / slowest
    known = max(1, live + gone - 1)
    suspicion_s = config.suspicion_s(live + gone) / slowest
    spread_s = _spread_s(config, live=live, suspicion_s=suspicion_s, slowest=slowest, chance=chance) + latency_s
    waiting = min(2 * known - 1, math.ceil(math.log(1 / chance) * known / live))
    detection_s = (waiting + 1) * period_s + suspicion_s + latency_s
    meeting_s = min((2 * known - 1) * period_s, JITTER * config.sync_interval_s / slowest)
    knocking_s = JITTER * config.rejoin_interval_s / slowest * _knocks(live=live, gone=gone, chance=chance)
    healing_s = max(meeting_s, knocking_s) + suspicion_s + 2 * spread_s + 2 * period_s + 4 * latency_s
    return SwimBounds(detection_s, spread_s, healing_s)


def gossip_bound_s(config: SwimConfig, *, live: int, slowest: float, chance: float) -> float:
    """How long a rumour takes to all whom it reaches by gossip alone; see the docstring of the module."""
    fanout = config.gossip_peers
    rounds = math.log(live) / math.log(1 + fanout) + math.log(live / chance) / fanout + 1
    return math.ceil(rounds) * JITTER * config.gossip_interval_s / slowest


def _spread_s(config: SwimConfig, *, live: int, suspicion_s: float, slowest: float, chance: float) -> float:
    fanout = config.gossip_peers
    gossip_s = gossip_bound_s(config, live=live, slowest=slowest, chance=chance)
    reaches_all_at_once = live - 1 <= fanout
    missed = math.exp(-config.transmit_limit(live))
    if reaches_all_at_once or live * missed <= chance:
        return gossip_s
    if live * missed**2 <= chance:
        return gossip_s + suspicion_s
    return gossip_s + JITTER * config.sync_interval_s / slowest + suspicion_s


def _knocks(*, live: int, gone: int, chance: float) -> int:
    """How many intervals it takes until some live member has knocked at a live one that it holds dead."""
    missed = (gone / (1 + gone)) ** live
    return 1 if missed <= chance else math.ceil(math.log(chance) / math.log(missed))
