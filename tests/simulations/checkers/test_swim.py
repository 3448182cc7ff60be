"""The SWIM checker and its bounds: silent on real cores, loud on beliefs that must not be."""

from dataclasses import replace

import pytest

from meshnode.identity import Address, Boot, NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.messages import Member, State, first_incarnation
from simulations.checkers.swim import SwimChecker, View
from simulations.checkers.swim_bounds import SwimBounds, swim_bounds
from simulations.cores.swim_world import SwimWorld
from tests.simulations.checkers.violations import Clock, first_violation, violates

BOUNDS = SwimBounds(detection_s=10.0, spread_s=5.0, healing_s=30.0)


def member(number: int, *, boot: int = 1, raised: int = 0, state: State = State.ALIVE) -> Member:
    incarnation = first_incarnation(Boot(boot)) + raised
    return Member(NodeId(number), f"n{number}", Address("10.0.0.1", number), Boot(boot), incarnation, state)


def view(observer: int, *others: Member) -> View:
    members = {other.node_id: other for other in others}
    return View(NodeId(observer), {NodeId(observer): member(observer)} | members)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def checker(clock: Clock) -> SwimChecker:
    """Three nodes that run."""
    found = SwimChecker(SwimConfig(), bounds=BOUNDS, clock=clock)
    for number in (1, 2, 3):
        found.started(member(number))
    return found


def test_an_incarnation_that_its_subject_never_claimed_is_found(checker: SwimChecker) -> None:
    checker.believes(NodeId(1), member(2))
    with violates("swim-incarnation", match="1 holds n2 at .* which claimed"):
        checker.believes(NodeId(1), member(2, raised=1))
    checker.claimed(member(2, raised=1))
    checker.believes(NodeId(1), member(2, raised=1))
    with violates("swim-incarnation"):
        checker.look(view(1, member(9)))


def test_a_life_that_does_not_begin_above_the_last_one_is_found(checker: SwimChecker) -> None:
    checker.claimed(member(2, raised=5))
    with violates("swim-life-supersedes", match="n2 says"):
        checker.claimed(member(2, raised=4))
    checker.crashed(NodeId(2))
    with violates("swim-life-supersedes", match="n2 starts at"):
        checker.started(member(2, raised=5))
    checker.started(member(2, boot=2))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (member(2, state=State.SUSPECT), member(2)),
        (member(2, state=State.DEAD), member(2, state=State.SUSPECT)),
        (member(2, raised=1), member(2, state=State.DEAD)),
    ],
)
def test_a_belief_that_gives_way_to_a_weaker_one_is_found(checker: SwimChecker, before: Member, after: Member) -> None:
    checker.claimed(member(2, raised=1))
    checker.believes(NodeId(1), before)
    with violates("swim-precedence"):
        checker.believes(NodeId(1), after)
    checker.believes(NodeId(3), after)
    checker.believes(NodeId(1), member(2, raised=1, state=State.SUSPECT))


def test_what_an_observer_may_have_forgotten_it_may_believe_anew(checker: SwimChecker, clock: Clock) -> None:
    checker.believes(NodeId(1), member(2, state=State.DEAD))
    clock.now_s = SwimConfig().dead_retention_s
    checker.believes(NodeId(1), member(2))
    checker.believes(NodeId(3), member(2, state=State.SUSPECT))
    checker.crashed(NodeId(3))
    checker.started(member(3, boot=2))
    checker.believes(NodeId(3), member(2))


def test_a_crash_that_nobody_or_not_everybody_notices_in_time_is_found(checker: SwimChecker, clock: Clock) -> None:
    checker.crashed(NodeId(3))
    nobody = [view(1, member(2), member(3)), view(2, member(1), member(3))]
    somebody = [nobody[0], view(2, member(1), member(3, state=State.DEAD))]
    clock.now_s = 10.0
    checker.check(nobody)
    clock.now_s = 10.1
    checker.check(somebody)
    with violates("swim-detection-bound", match=r"3 crashed 10\.100 s ago and all hold it live"):
        checker.check(nobody)
    clock.now_s = 15.1
    with violates("swim-spread-bound", match=r"1 of 2 still hold it live; the bound is 15\.000"):
        checker.check(somebody)
    checker.check([view(1, member(2)), somebody[1]])


def test_while_there_are_faults_or_a_node_has_just_come_nothing_is_due(checker: SwimChecker, clock: Clock) -> None:
    checker.disturb()
    checker.crashed(NodeId(3))
    nobody = [view(1, member(2), member(3)), view(2, member(1), member(3))]
    clock.now_s = 100.0
    checker.check(nobody)
    checker.calm()
    clock.now_s = 105.0
    checker.paused(NodeId(2))
    checker.check(nobody)
    checker.resumed(NodeId(2))
    clock.now_s = 111.0
    checker.check([nobody[1], view(1, member(3, state=State.DEAD))])
    checker.check(nobody)
    clock.now_s = 116.0
    with violates("swim-detection-bound"):
        checker.check(nobody)
    # Who runs again is held live with good reason, whether or not its start was told.
    again = [view(1, member(2), member(3, boot=2)), view(2, member(1), member(3, boot=2))]
    checker.check(again)
    checker.started(member(3, boot=2))
    checker.check(again)
    without = SwimChecker(SwimConfig(), bounds=None, clock=clock)
    without.started(member(1))
    without.crashed(NodeId(2))
    clock.now_s = 500.0
    without.check(nobody)


def test_a_live_node_that_stays_dead_to_somebody_is_found(checker: SwimChecker, clock: Clock) -> None:
    views = [view(1, member(2, state=State.DEAD)), view(2, member(1))]
    clock.now_s = 30.0
    checker.check(views)
    clock.now_s = 30.1
    with violates("swim-live-stays-dead", match=r"1 holds n2 DEAD"):
        checker.check(views)
    left = View(NodeId(2), {NodeId(2): member(2, state=State.LEFT)})
    checker.check([views[0], left])
    checker.left(NodeId(2))
    checker.check(views)


def test_beliefs_need_not_be_remembered(clock: Clock) -> None:
    checker = SwimChecker(SwimConfig(), bounds=None, clock=clock, remember_beliefs=False)
    checker.started(member(2))
    checker.believes(NodeId(1), member(2, state=State.DEAD))
    checker.believes(NodeId(1), member(2))


# ---- the bounds


def test_the_bounds_follow_from_the_settings() -> None:
    config = SwimConfig()
    three = swim_bounds(config, live=2)
    # Two others: at most three periods until a probe begins, one for it to fail, and three seconds of suspicion.
    assert three.detection_s == pytest.approx(3 + 1 + 3, abs=0.1)
    assert three.known_to_all_s == three.detection_s + three.spread_s
    hundred = swim_bounds(config, live=99)
    # ln(10^9) periods, not 197.
    assert hundred.detection_s == pytest.approx(21 + 1 + 6, abs=0.5)
    assert swim_bounds(config, live=99, slowest=0.5).detection_s == pytest.approx(2 * hundred.detection_s, abs=0.1)
    assert swim_bounds(config, live=99, chance=1e-3).detection_s < hundred.detection_s
    # With enough repetitions gossip needs no comparison of lists.
    assert swim_bounds(SwimConfig(retransmit_multiplier=16), live=99).spread_s < 5 < hundred.spread_s
    # With more tombstones of members that are gone, it takes longer to knock at one that lives.
    assert swim_bounds(config, live=5, gone=5).healing_s > swim_bounds(config, live=5, gone=0).healing_s


@pytest.mark.parametrize(
    ("live", "gone", "latency_s", "slowest", "chance"),
    [
        (0, 1, 0.01, 1.0, 0.1),
        (2, -1, 0.01, 1.0, 0.1),
        (2, 0, 0.3, 1.0, 0.1),
        (2, 0, 0.01, 0.0, 0.1),
        (2, 0, 0.0, 1.0, 1.0),
    ],
)
def test_bounds_for_what_has_none_are_refused(
    live: int, gone: int, latency_s: float, slowest: float, chance: float
) -> None:
    with pytest.raises(ValueError, match=r"live|slowest|latency_s"):
        swim_bounds(SwimConfig(), live=live, gone=gone, latency_s=latency_s, slowest=slowest, chance=chance)


class Watched:
    """A world of SWIM cores that is held to its bounds."""

    def __init__(self, seed: int, nodes: int, *, bounds: SwimBounds | None = None) -> None:
        self.world = world = SwimWorld(seed, nodes)
        self.bounds = bounds or swim_bounds(world.config, live=nodes - 1)
        self.checker = world.checks = SwimChecker(world.config, bounds=self.bounds, clock=lambda: world.now)
        world.start_all(spread_s=1.0)
        self.watch(5.0)

    def watch(self, seconds: float) -> None:
        until = self.world.now + seconds
        while self.world.now < until:
            self.world.run_for(0.25)
            views = [View(node.node_id, node.running.members) for node in self.world.running]
            for each in views:
                self.checker.look(each)
            self.checker.check(views)


@pytest.mark.parametrize("nodes", [2, 3, 5, 20])
def test_real_cores_keep_every_bound_through_crashes_pauses_and_a_partition(nodes: int) -> None:
    watched = Watched(nodes, nodes)
    world = watched.world
    world.crash(nodes - 1)
    watched.watch(watched.bounds.known_to_all_s + 1.0)
    assert all(world.state(number, nodes - 1) is State.DEAD for number in range(nodes - 1))
    world.start(nodes - 1, [0])
    watched.watch(3.0)
    watched.checker.disturb()
    world.partition(range(nodes // 2), range(nodes // 2, nodes))
    world.pause(0, 8.0)
    watched.watch(33.0)
    world.heal()
    watched.checker.calm()
    watched.watch(watched.bounds.healing_s + 1.0)
    assert world.converged()


def test_real_cores_break_a_bound_that_is_too_tight() -> None:
    watched = Watched(1, 10, bounds=replace(swim_bounds(SwimConfig(), live=9), detection_s=3.0))
    watched.world.crash(4)
    with violates("swim-detection-bound"):
        watched.watch(20.0)


@pytest.mark.parametrize(
    ("mistake", "invariant"),
    [
        ("ignores incarnations", "swim-precedence"),
        ("raises others", "swim-incarnation"),
        ("restarts at 0", "swim-life-supersedes"),
    ],
)
def test_a_core_with_a_mistake_in_it_is_caught(mistake: str, invariant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match mistake:
        case "ignores incarnations":
            monkeypatch.setattr("meshnode.membership.view.supersedes", lambda rumour, held: rumour != held)
        case "raises others":
            monkeypatch.setattr(
                "meshnode.membership.detector.FailureDetector._fail",
                lambda self, sequence, now, effects: self._view.merge(
                    replace(
                        held := self._view.roster.members[self._probes.pop(sequence).target],
                        incarnation=held.incarnation + 1,
                    ),
                    now,
                    effects,
                ),
            )
        case "restarts at 0":
            monkeypatch.setattr(
                "simulations.cores.swim_node.first_incarnation", lambda boot: first_incarnation(Boot(5))
            )
    assert first_violation(trouble, seeds=3) == invariant


def trouble(seed: int) -> None:
    watched = Watched(seed, 6)
    world = watched.world
    world.partition([0, 1], [2, 3, 4, 5])
    watched.watch(10.0)
    world.heal()
    world.crash(3)
    world.start(3, [0])
    watched.watch(30.0)


# ---- what comes before a death, where every change of a belief is told


@pytest.fixture
def told(clock: Clock) -> SwimChecker:
    """As `checker`, told of everything; the clocks run at the rate of virtual time."""
    found = SwimChecker(SwimConfig(), bounds=None, clock=clock, fastest=1.0)
    for number in (1, 2, 3):
        found.started(member(number))
    return found


def suspected(told: SwimChecker) -> None:
    """1 suspects 2 from now on."""
    told.believes(NodeId(1), member(2))
    told.believes(NodeId(1), member(2, state=State.SUSPECT))


def test_a_death_without_a_suspicion_is_found(told: SwimChecker) -> None:
    told.believes(NodeId(1), member(2))
    with violates("swim-time-to-refute", match="held it ALIVE"):
        told.believes(NodeId(1), member(2, state=State.DEAD))


def test_a_death_before_its_time_is_found_and_one_in_time_is_passed_on(told: SwimChecker, clock: Clock) -> None:
    suspected(told)
    clock.now_s = SwimConfig().suspicion_s(1)
    told.believes(NodeId(1), member(2, state=State.DEAD))
    told.believes(NodeId(3), member(2, state=State.DEAD))  # of whom it never knew alive, it needs no suspicion
    told.claimed(member(2, raised=1))
    told.believes(NodeId(1), member(2, raised=1, state=State.SUSPECT))
    clock.now_s += SwimConfig().suspicion_s(1) - 0.1
    with violates("swim-time-to-refute", match=r"after 2\.900 s"):
        told.believes(NodeId(1), member(2, raised=1, state=State.DEAD))


def test_a_death_that_is_believed_because_others_declared_it_is_found(told: SwimChecker, clock: Clock) -> None:
    suspected(told)
    told.believes(NodeId(3), member(2))
    clock.now_s = SwimConfig().suspicion_s(1)
    told.believes(NodeId(1), member(2, state=State.DEAD))
    with violates("swim-time-to-refute", match="3 holds n2 dead at .* ALIVE"):
        told.believes(NodeId(3), member(2, state=State.DEAD))


def test_a_probe_that_began_before_its_target_claimed_to_be_alive_is_found(told: SwimChecker, clock: Clock) -> None:
    told.claimed(member(2, raised=1))
    suspected(told)
    clock.now_s = 1.0
    told.believes(NodeId(1), member(2, raised=1))
    clock.now_s = 1.9
    with violates("swim-time-to-answer", match=r"1 suspects n2 .* 0\.900 s after it claimed"):
        told.suspects(NodeId(1), member(2, raised=1, state=State.SUSPECT))
    clock.now_s = 2.0
    told.suspects(NodeId(1), member(2, raised=1, state=State.SUSPECT))


def test_a_probe_that_counts_the_time_for_which_its_node_stood_still_is_found(told: SwimChecker, clock: Clock) -> None:
    told.believes(NodeId(1), member(2))
    suspect = member(2, state=State.SUSPECT)
    clock.now_s = 10.0
    told.paused(NodeId(1))
    clock.now_s = 12.0
    told.suspects(NodeId(1), suspect)  # nothing says that it noticed
    clock.now_s = 13.0
    for _ in ("before it is told that it goes on", "afterwards"):
        with violates("swim-time-to-answer", match=r"0\.000 s after the observer stood still"):
            told.suspects(NodeId(1), suspect)
        told.resumed(NodeId(1))
    clock.now_s = 14.0
    told.suspects(NodeId(1), suspect)


def test_the_time_for_which_an_observer_stood_still_does_not_count(told: SwimChecker, clock: Clock) -> None:
    suspected(told)
    told.paused(NodeId(1))
    clock.now_s = 10.0
    with violates("swim-time-to-refute", match=r"after 0\.000 s"):
        told.believes(NodeId(1), member(2, state=State.DEAD))


def test_pauses_at_the_same_time_are_one(told: SwimChecker, clock: Clock) -> None:
    suspected(told)
    told.paused(NodeId(1))
    clock.now_s = 1.0
    told.paused(NodeId(1))
    clock.now_s = 8.0
    told.resumed(NodeId(1))
    clock.now_s = 8.0 + SwimConfig().suspicion_s(1)
    told.believes(NodeId(1), member(2, state=State.DEAD))


def test_a_departure_that_its_subject_never_claimed_is_found(told: SwimChecker) -> None:
    with violates("swim-departure"):
        told.believes(NodeId(1), member(2, state=State.LEFT))
    told.claimed(member(3, state=State.LEFT))
    told.believes(NodeId(1), member(3, state=State.LEFT))
