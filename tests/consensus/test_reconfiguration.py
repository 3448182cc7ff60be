"""Changes of a configuration as pure functions, and their encoding."""

import contextlib
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import ConfigurationRefused, MalformedMessage, Refusal
from consensus.messages import (
    NO_NODE,
    NODE_ID_MAX,
    ChangeKind,
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    EntryKind,
    Transition,
)
from consensus.quorum import majority
from consensus.reconfiguration import (
    Reconfiguration,
    decode_change,
    encode_change,
    enter_joint,
    leave_joint,
    reconfigure,
    simple,
)
from tests.consensus.group import add_learner, add_voter, remove

NODES = st.integers(1, 6)
CHANGES = st.lists(st.builds(ConfChange, st.sampled_from(ChangeKind), st.integers(0, 6)), max_size=5).map(tuple)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    roles = draw(st.dictionaries(NODES, st.booleans(), min_size=1))
    voters = tuple(sorted(node for node, votes in roles.items() if votes))
    return Configuration(voters=voters, learners=tuple(sorted(set(roles) - set(voters))))


def quorums(voters: tuple[int, ...]) -> list[set[int]]:
    return [set(chosen) for chosen in combinations(voters, majority(len(voters)))]


def roles_one_by_one(configuration: Configuration, changes: tuple[ConfChange, ...]) -> dict[int, str]:
    """The twin: a table of who is what."""
    roles = dict.fromkeys(configuration.voters, "voter") | dict.fromkeys(configuration.learners, "learner")
    for change in changes:
        if change.node == NO_NODE or change.kind is ChangeKind.TOUCH:
            continue
        roles.pop(change.node, None)
        if change.kind is not ChangeKind.REMOVE:
            roles[change.node] = "voter" if change.kind is ChangeKind.ADD_VOTER else "learner"
    return roles


def check_sound(configuration: Configuration) -> None:
    for part in (configuration.voters, configuration.voters_outgoing, configuration.learners):
        assert list(part) == sorted(set(part))
    assert not set(configuration.electorate) & set(configuration.learners)
    assert set(configuration.learners_next) <= set(configuration.voters_outgoing)


@given(configurations().filter(lambda one: one.voters), CHANGES)
def test_a_simple_change_keeps_majorities_overlapping(before: Configuration, changes: tuple[ConfChange, ...]) -> None:
    """Thesis 4.1."""
    try:
        after = simple(before, changes).configuration
    except ConfigurationRefused:
        return
    check_sound(after)
    assert all(one & other for one in quorums(before.voters) for other in quorums(after.voters))


def outcome(attempt: Callable[[], Reconfiguration]) -> Configuration | Refusal:
    try:
        return attempt().configuration
    except ConfigurationRefused as refused:
        return refused.refusal


@given(configurations(), CHANGES)
def test_changes_take_effect_one_by_one(before: Configuration, changes: tuple[ConfChange, ...]) -> None:
    roles = roles_one_by_one(before, changes)
    voters = tuple(sorted(node for node, role in roles.items() if role == "voter"))
    learners = tuple(sorted(node for node, role in roles.items() if role == "learner"))
    expected: Configuration | Refusal = Configuration(voters=voters, learners=learners)
    if not voters:
        expected = Refusal.REMOVES_ALL_VOTERS
    elif len(set(voters) ^ set(before.voters)) > 1:
        expected = Refusal.SEVERAL_VOTERS
    assert outcome(lambda: simple(before, changes)) == expected


@given(configurations().filter(lambda one: one.voters), CHANGES)
def test_a_joint_configuration_ends_where_the_changes_lead(
    before: Configuration, changes: tuple[ConfChange, ...]
) -> None:
    """Thesis 4.3."""
    roles = roles_one_by_one(before, changes)
    joint = outcome(lambda: enter_joint(before, changes, auto_leave=True))
    if isinstance(joint, Refusal):
        assert joint is Refusal.REMOVES_ALL_VOTERS
        assert "voter" not in roles.values()
        return
    check_sound(joint)
    assert (joint.voters_outgoing, joint.auto_leave) == (before.voters, True)
    after = leave_joint(joint).configuration
    check_sound(after)
    assert after.voters == tuple(sorted(node for node, role in roles.items() if role == "voter"))
    assert after.learners == tuple(sorted(node for node, role in roles.items() if role == "learner"))


def test_what_does_not_fit_is_refused() -> None:
    plain, joint = Configuration((1, 2)), Configuration((1,), (1, 2))
    cases: list[tuple[Callable[[], Reconfiguration], Refusal]] = [
        (lambda: simple(joint, ()), Refusal.JOINT),
        (lambda: enter_joint(joint, (), auto_leave=False), Refusal.ALREADY_JOINT),
        (lambda: enter_joint(Configuration(), (), auto_leave=False), Refusal.NO_VOTERS),
        (lambda: enter_joint(plain, (remove(1), remove(2)), auto_leave=False), Refusal.REMOVES_ALL_VOTERS),
        (lambda: leave_joint(plain), Refusal.NOT_JOINT),
    ]
    for attempt, refusal in cases:
        with pytest.raises(ConfigurationRefused) as caught:
            attempt()
        assert caught.value.refusal is refusal


def test_who_is_removed_and_added_again_starts_anew() -> None:
    changed = simple(Configuration((1, 2)), (remove(2), add_voter(2)))
    assert changed == Reconfiguration(Configuration((1, 2)), frozenset({2}))


def test_a_change_takes_the_way_that_it_asks_for() -> None:
    plain = Configuration((1, 2, 3))
    assert reconfigure(plain, remove(3)).configuration == Configuration((1, 2))
    one = (add_learner(3),)
    assert reconfigure(plain, ConfChangeSet(one)).configuration == Configuration((1, 2), learners=(3,))
    implicit = reconfigure(plain, ConfChangeSet(one, Transition.JOINT_IMPLICIT)).configuration
    assert implicit == Configuration((1, 2), (1, 2, 3), (), (3,), True)
    explicit = reconfigure(plain, ConfChangeSet(one, Transition.JOINT_EXPLICIT)).configuration
    assert explicit == Configuration((1, 2), (1, 2, 3), (), (3,), False)
    several = reconfigure(plain, ConfChangeSet((remove(3), add_voter(4)))).configuration
    assert several == Configuration((1, 2, 4), (1, 2, 3), (), (), True)
    assert reconfigure(several, ConfChangeSet()).configuration == Configuration((1, 2, 4))


SINGLES = st.builds(ConfChange, st.sampled_from(ChangeKind), st.integers(0, NODE_ID_MAX), st.binary(max_size=40))
WITHOUT_CONTEXT = st.builds(ConfChange, st.sampled_from(ChangeKind), st.integers(0, NODE_ID_MAX))
SETS = st.builds(
    ConfChangeSet,
    st.lists(WITHOUT_CONTEXT, max_size=4).map(tuple),
    st.sampled_from(Transition),
    st.binary(max_size=40),
)


@given(SINGLES | SETS)
def test_a_change_comes_back_from_its_entry(change: ConfChange | ConfChangeSet) -> None:
    kind, data = encode_change(change)
    assert decode_change(Entry(1, 1, kind, data)) == change


@given(st.sampled_from(EntryKind), st.binary(max_size=40))
def test_bytes_from_outside_raise_one_error_or_mean_just_one_change(kind: EntryKind, data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        change = decode_change(Entry(1, 7, kind, data))
        assert encode_change(change) == (kind, data) or change == ConfChangeSet()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x09" + bytes(8),
        b"\x00" + b"\xff" * 8,
        b"\x00\x00\x01",
        b"\x07\x00\x00",
        b"\x00\x00\x01\x09" + bytes(8),
    ],
)
def test_a_damaged_change_names_its_index(data: bytes) -> None:
    kind = EntryKind.CHANGE_SET if data[:3] in (b"\x00\x00\x01", b"\x07\x00\x00") else EntryKind.CHANGE
    with pytest.raises(MalformedMessage, match="index 7"):
        decode_change(Entry(1, 7, kind, data))
