"""Sections under locks: tokens keep them apart."""

from collections.abc import Callable

from simulations.checkers.locks import LocksChecker, Section
from tests.simulations.checkers.violations import Clock, violates


def checker(*, exclusive: bool = True) -> LocksChecker:
    return LocksChecker(Clock(), exclusive=exclusive)


def held(locks: LocksChecker, token: int, *names: str, lives: Callable[[], bool] = lambda: True) -> Section:
    section = locks.asked(f"holder of {token}", names or ("a",), lives)
    locks.granted(section, token)
    return section


def test_one_section_after_the_other_is_as_it_should_be() -> None:
    locks = checker()
    for token in (3, 7, 9):
        section = held(locks, token, "a", "b")
        assert locks.use(section, "a")
        assert locks.use(section, "b")
        locks.left(section)
    assert (locks.sections, locks.refused) == (3, 0)


def test_two_sections_under_one_token_are_found() -> None:
    locks = checker(exclusive=False)
    one = locks.asked("one", ["a"], lambda: True)
    other = locks.asked("other", ["a"], lambda: True)
    locks.granted(one, 5)
    with violates("locks-token", match=r"other \(token 5\) and one \(token 5\) hold 'a' under one token"):
        locks.granted(other, 5)


def test_names_that_are_not_shared_may_have_one_token() -> None:
    locks = checker()
    held(locks, 5, "a")
    held(locks, 5, "b")


def test_a_token_that_is_not_above_one_that_was_granted_before_it_was_asked_for_is_found() -> None:
    locks = checker(exclusive=False)
    early = locks.asked("early", ["a"], lambda: True)
    held(locks, 5)
    late = locks.asked("late", ["a"], lambda: True)
    locks.granted(early, 4)  # who asked before may be told later
    with violates("locks-order", match="late .token 3. asked for 'a' when token 5 was granted already"):
        locks.granted(late, 3)


def test_a_section_that_begins_while_another_lasts_is_found_where_no_process_is_stopped() -> None:
    locks = checker()
    held(locks, 5)
    with violates("locks-overlap", match=r"holder of 6 .* has 'a' while holder of 5 .* is at it"):
        held(locks, 6)
    held(checker(exclusive=False), 6)


def test_a_section_whose_process_was_killed_is_over() -> None:
    locks = checker()
    lives = True
    held(locks, 5, lives=lambda: lives)
    lives = False
    held(locks, 6)


def test_the_resource_refuses_a_lower_token_once_it_has_seen_a_higher_one() -> None:
    locks = checker(exclusive=False)
    old, new = held(locks, 5), held(locks, 6)
    assert locks.use(old, "a")
    assert locks.use(new, "a")
    assert not locks.use(old, "a")
    assert locks.refused == 1


def test_a_section_that_uses_the_token_of_another_is_found() -> None:
    locks = checker(exclusive=False)
    first, second = held(locks, 5), held(locks, 6)
    assert locks.use(first, "a")
    first.token = second.token
    with violates("locks-interleaved", match="uses 'a' under the token of holder of 6"):
        locks.use(first, "a")
