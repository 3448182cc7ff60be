"""Mutants are found end to end, and nothing else is."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import EASY_SEEDS, chosen
from tests.mutants.hunt import FIRST_SEED, BadPatch, hunt, look
from tests.mutants.mutant import Edit, Mutant
from tests.mutants.tree import copy_of_this_tree

EASY = (
    "raft-votes-for-shorter-logs",
    "swim-restart-at-incarnation-0",
    "partitions-seal-overtakes-the-sync",
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree."""
    return copy_of_this_tree(tmp_path_factory.mktemp("clean"))


def patch(new: str) -> Mutant:
    edit = Edit("consensus/quorum.py", "return voters // 2 + 1", new)
    return Mutant(name="patched", wrong="A patch.", edits=(edit,), worlds=("raft",), invariants=("raft-*",))


@pytest.mark.parametrize("name", EASY)
def test_an_easy_mutant_is_found_by_an_invariant_that_may_find_it(name: str, clean: Path) -> None:
    (mutant,) = chosen([name])
    caught = hunt(mutant, clean, levels=(1,), seeds={1: EASY_SEEDS})
    assert caught.is_caught
    assert mutant.expects(caught.invariant), caught.story


def test_the_tree_without_a_mutant_is_clean_on_the_same_seeds(clean: Path) -> None:
    last = FIRST_SEED + EASY_SEEDS - 1
    caught = look(clean, 1, ("raft", "swim", "partitions"), FIRST_SEED, last)
    assert not caught.is_caught, caught.story
    assert caught.seeds == EASY_SEEDS


def test_a_mutant_that_does_no_harm_survives(clean: Path) -> None:
    caught = hunt(patch("return 1 + voters // 2"), clean, levels=(1,), seeds={1: 2})
    assert not caught.is_caught


@pytest.mark.parametrize("new", ["return voters // None", "return voters.half", "return nowhere"])
def test_what_only_a_bad_patch_raises_is_no_catch(new: str, clean: Path) -> None:
    with pytest.raises(BadPatch):
        hunt(patch(new), clean, levels=(1,), seeds={1: 2})
