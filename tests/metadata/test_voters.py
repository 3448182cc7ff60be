"""Who votes: single cases, and meshes in which anything happens."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.messages import Configuration
from consensus.quorum import majority
from consensus.reconfiguration import simple
from meshnode.identity import NodeId
from meshnode.metadata.config import VotersConfig
from meshnode.metadata.voters import STAND_BYS, Action, Peer, Step, next_step, wanted_voters

CONFIG = VotersConfig(replacement_delay_s=30.0, settle_s=60.0)
LOOK_S = 5.0


def step(
    voters: str, learners: str, peers: dict[str, Peer], *, leader: str = "a", target: int = 5, quiet_s: float = math.inf
) -> tuple[Action, str] | None:
    """The next step, with letters for nodes."""
    configuration = Configuration(voters=tuple(map(ord, voters)), learners=tuple(map(ord, learners)))
    known = {NodeId(ord(name)): peer for name, peer in peers.items()}
    found = next_step(configuration, known, leader=NodeId(ord(leader)), target=target, config=CONFIG, quiet_s=quiet_s)
    if found is None:
        return None
    assert found.reason
    return found.action, chr(found.node)


def all_well(names: str, **zones: str) -> dict[str, Peer]:
    return {name: Peer(zone=zones.get(name, "")) for name in names}


GONE = Peer(is_live=False, is_ready=False, for_s=40.0)
AWAY = replace(GONE, for_s=10.0)


@pytest.mark.parametrize(
    ("staying", "target", "wanted"), [(1, 5, 1), (2, 5, 1), (4, 5, 3), (9, 5, 5), (9, 1, 1), (9, 7, 7)]
)
def test_the_number_of_voters_is_odd_and_within_the_target(staying: int, target: int, wanted: int) -> None:
    peers = {NodeId(number): Peer() for number in range(1, staying + 1)} | {NodeId(99): Peer(is_leaving=True)}
    assert wanted_voters(peers, target=target) == wanted


def test_where_all_is_well_nothing_changes() -> None:
    assert step("abcde", "fg", all_well("abcdefgh")) is None


def test_stand_bys_are_taken_in_and_become_voters_two_by_two() -> None:
    assert step("a", "", all_well("abc")) == (Action.TAKE_IN, "b")
    assert step("a", "b", all_well("abc")) == (Action.TAKE_IN, "c")
    assert step("a", "bc", all_well("abc") | {"c": Peer(is_ready=False)}) is None
    assert step("a", "bc", all_well("abc")) == (Action.PROMOTE, "b")
    assert step("ab", "c", all_well("abc")) == (Action.PROMOTE, "c")
    assert step("abc", "", all_well("abc")) is None


def test_two_nodes_have_one_voter() -> None:
    assert step("a", "b", all_well("ab")) is None


def test_a_voter_that_is_gone_for_a_while_is_replaced_and_then_removed() -> None:
    peers = all_well("abcdef")
    assert step("abcde", "f", peers | {"e": AWAY}) is None
    assert step("abcde", "f", peers | {"e": GONE}) == (Action.PROMOTE, "f")
    assert step("abcdef", "", peers | {"e": GONE}) == (Action.REMOVE, "e")


def test_a_failure_never_lowers_the_number_of_voters() -> None:
    assert step("abcde", "", all_well("abcde") | {"d": GONE, "e": GONE}) is None
    assert step("abc", "", all_well("abc") | {"c": GONE}) is None


def test_an_even_number_with_one_that_is_gone_becomes_odd() -> None:
    assert step("abcd", "", all_well("abcde") | {"d": GONE, "e": GONE}) == (Action.REMOVE, "d")


def test_nothing_is_changed_without_a_majority_that_answers() -> None:
    unready = Peer(is_ready=False)
    assert step("abc", "d", all_well("abcd") | {"b": unready, "c": GONE}) is None
    assert step("abcd", "", all_well("abcd") | {"b": unready, "c": unready, "d": GONE}) is None


def test_a_leader_that_leaves_is_replaced_and_hands_over() -> None:
    peers = all_well("abcd") | {"a": Peer(is_leaving=True)}
    assert step("abc", "d", peers) == (Action.HAND_OVER, "b")
    assert step("abc", "d", peers, leader="b") == (Action.PROMOTE, "d")
    assert step("abcd", "", peers, leader="b") == (Action.DEMOTE, "a")
    assert step("bcd", "a", peers, leader="b") is None, "it follows until it has handed everything over"
    del peers["a"]
    assert step("bcd", "a", peers, leader="b") == (Action.REMOVE, "a")
    assert step("a", "b", {"a": Peer(is_leaving=True), "b": Peer()}) == (Action.PROMOTE, "b")
    assert step("ab", "", {"a": Peer(is_leaving=True), "b": Peer()}) == (Action.HAND_OVER, "b")


def test_who_left_lowers_the_number_of_voters() -> None:
    peers = all_well("abcd")
    assert step("abcde", "", peers) == (Action.REMOVE, "e")
    assert step("abcd", "", peers) == (Action.DEMOTE, "b")


def test_a_voter_that_leaves_does_not_wait_for_a_replacement_that_cannot_come() -> None:
    peers = all_well("abcdef") | {"f": GONE}
    assert step("abcde", "", peers | {"e": Peer(is_leaving=True)}) == (Action.DEMOTE, "e")
    assert step("abc", "", all_well("abc") | {"c": Peer(is_leaving=True), "d": GONE}) == (Action.DEMOTE, "c")
    assert step("abc", "", all_well("abc") | {"c": Peer(is_leaving=True, is_live=False), "d": GONE}) == (
        Action.REMOVE,
        "c",
    )
    not_yet = Peer(is_ready=False)
    assert step("abc", "d", all_well("abc") | {"c": Peer(is_leaving=True), "d": not_yet}) is None, "d will be ready"
    assert step("abc", "", all_well("abcd") | {"c": Peer(is_leaving=True)}) == (Action.TAKE_IN, "d")
    del peers["e"]
    assert step("abcde", "", peers) == (Action.REMOVE, "e")


def test_stand_bys_that_are_gone_or_too_many_are_removed() -> None:
    assert step("abc", "de", all_well("abcdef") | {"d": GONE}, target=3) == (Action.REMOVE, "d")
    assert step("abc", "e", all_well("abcdef") | {"d": GONE}, target=3) == (Action.TAKE_IN, "f")
    assert step("abc", "def", all_well("abcdef"), target=3) == (Action.REMOVE, "d")


def test_voters_are_promoted_from_the_zones_that_have_few() -> None:
    zones = {"a": "x", "b": "x", "c": "y", "d": "x", "e": "z"}
    peers = all_well("abcde", **zones) | {"b": replace(GONE, zone="x")}
    assert step("abc", "de", peers, target=3) == (Action.PROMOTE, "e")


def test_a_better_spread_is_reached_by_a_swap_after_a_while() -> None:
    peers = all_well("abcde", a="x", b="x", c="x", d="y", e="z")
    assert step("abc", "de", peers, target=3, quiet_s=10.0) is None
    assert step("abc", "de", peers, target=3) == (Action.PROMOTE, "d")
    assert step("abcd", "e", peers, target=3) == (Action.DEMOTE, "b")
    assert step("acd", "be", peers, target=3) == (Action.PROMOTE, "e")
    assert step("ade", "bc", peers, target=3) is None
    young = {name: replace(peers[name], for_s=5.0) for name in "de"}
    assert step("abc", "de", peers | young, target=3) is None


def test_a_node_that_would_spread_voters_better_is_taken_in_beside_the_stand_bys() -> None:
    peers = all_well("abcdef", a="x", b="x", c="x", d="x", e="x", f="y")
    assert step("abc", "de", peers, target=3) == (Action.TAKE_IN, "f")
    assert step("abc", "def", peers, target=3) == (Action.REMOVE, "d")
    assert step("abc", "ef", peers, target=3) == (Action.PROMOTE, "f")


def test_a_joint_configuration_is_left_alone() -> None:
    joint = Configuration(voters=(1, 2, 3), voters_outgoing=(1, 4, 5))
    assert next_step(joint, {NodeId(1): Peer()}, leader=NodeId(1), target=5, config=CONFIG, quiet_s=math.inf) is None


# ---- meshes in which anything happens


@dataclass
class World:
    """Nodes that come, go and leave, and a group that follows the steps. Members catch up within a look."""

    target: int
    zones: list[str]
    now: float = 0.0
    quiet_since: float = 0.0
    configuration: Configuration = field(default_factory=lambda: Configuration(voters=(1,)))
    leader: int = 1
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = dict.fromkeys(range(1, len(self.zones) + 1), True)
        self.leaving: set[int] = set()
        self.since = dict.fromkeys(self.live, 0.0)
        self.forgotten: set[int] = set()

    def peers(self) -> dict[NodeId, Peer]:
        members = self.configuration.members
        return {
            NodeId(node): Peer(
                zone=self.zones[node - 1],
                is_leaving=node in self.leaving,
                is_live=live,
                is_ready=live and node in members,
                for_s=self.now - self.since[node],
            )
            for node, live in self.live.items()
        }

    def has_quorum(self) -> bool:
        voters = self.configuration.voters
        return sum(self.live.get(node, False) for node in voters) >= majority(len(voters))

    def flip(self, node: int) -> None:
        if node in self.live:
            self.live[node] = not self.live[node]
            self.since[node] = self.now

    def leave(self, node: int) -> None:
        if node in self.live and len(self.live) - len(self.leaving) > 2:
            self.leaving.add(node)

    def forget(self) -> None:
        """Those that want to leave hold nothing after a while; none is let go that leads, or votes alone."""
        for node in sorted(self.leaving - {self.leader}):
            if node not in self.configuration.voters or len(self.configuration.voters) > 1:
                self.leaving.discard(node)
                del self.live[node]

    def look(self) -> bool:
        """One look of the leader; False where nothing is done."""
        self.now += LOOK_S
        voters = self.configuration.voters
        if not self.has_quorum():
            return False
        if not self.live.get(self.leader, False) or self.leader not in voters:
            self.leader = min(node for node in voters if self.live.get(node, False))
        found = next_step(
            self.configuration,
            self.peers(),
            leader=NodeId(self.leader),
            target=self.target,
            config=CONFIG,
            quiet_s=self.now - self.quiet_since,
        )
        if found is None:
            return False
        self.steps.append(found)
        if found.action is Action.HAND_OVER:
            assert found.node in voters
            assert self.live[found.node]
            self.leader = found.node
            return True
        self.configuration = simple(self.configuration, [found.change]).configuration
        self.quiet_since = self.now
        assert self.leader in self.configuration.voters, "a leader is never removed"
        assert self.has_quorum(), f"{found} loses the quorum"
        return True

    def settle(self) -> None:
        """Until nothing has happened for longer than any rule waits."""
        quiet = 0
        for _ in range(600):
            quiet = 0 if self.look() else quiet + 1
            if quiet * LOOK_S > 2 * CONFIG.settle_s:
                return
        raise AssertionError("it never rests")

    def zone_counts(self) -> Counter[str]:
        return Counter(self.zones[node - 1] for node in self.configuration.voters)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["flip", "leave", "forget", "look", "wait"]), st.integers(1, 12)), max_size=40
)
WORLDS = st.builds(
    World,
    target=st.sampled_from([1, 3, 5, 7]),
    zones=st.lists(st.sampled_from(["", "x", "y", "z"]), min_size=1, max_size=12),
)


def happen(world: World, events: list[tuple[str, int]]) -> None:
    for what, number in events:
        match what:
            case "flip":
                world.flip(number)
            case "leave":
                world.leave(number)
            case "forget":
                world.forget()
            case "wait":
                world.now += 10.0 * number
            case _:
                for _ in range(number):
                    world.look()


@settings(max_examples=150, deadline=None)
@given(WORLDS, EVENTS)
def test_whatever_happens_no_change_loses_the_quorum(world: World, events: list[tuple[str, int]]) -> None:
    happen(world, events)  # `World.look` has the assertions


@settings(max_examples=150, deadline=None)
@given(WORLDS, EVENTS)
def test_a_group_with_a_quorum_ends_as_wanted_and_then_rests(world: World, events: list[tuple[str, int]]) -> None:
    happen(world, events)
    if not world.has_quorum():
        return
    begun = len(world.steps)
    world.settle()
    for _ in range(3):
        world.forget()
        world.settle()
    assert len(world.steps) - begun <= 6 * len(world.zones) + 20
    peers, voters = world.peers(), world.configuration.voters
    live = [node for node, peer in peers.items() if peer.is_live and not peer.is_leaving]
    wanted = wanted_voters(peers, target=world.target)
    assert len(voters) % 2
    if len(live) >= wanted:
        assert len(voters) == wanted
        assert set(voters) <= set(live)
        counts = world.zone_counts()
        for node in live:
            if node not in voters:
                assert max(counts.values()) - counts[world.zones[node - 1]] < 2, "a swap would have helped"
    spare = len([node for node in live if node not in voters])
    assert len(world.configuration.learners) == min(STAND_BYS, spare)


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.lists(st.integers(1, 12), min_size=10, max_size=30))
def test_nodes_that_come_and_go_within_the_delay_move_no_voter(world: World, flapping: list[int]) -> None:
    world.settle()
    before, begun = world.configuration.voters, len(world.steps)
    for node in flapping:
        if node != world.leader and len(before) > 2:
            world.flip(node)
            for _ in range(3):  # 15 s, then it is back
                world.look()
            world.flip(node)
            world.look()
    assert world.configuration.voters == before
    assert all(step.action in (Action.TAKE_IN, Action.REMOVE) for step in world.steps[begun:])
