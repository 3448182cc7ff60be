"""The catalogue fits the code."""

import ast

import pytest

from simulations.cores.swarm import WORLDS
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Edit, Mutant, StaleMutant
from tests.mutants.tree import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_changes_what_the_file_does(mutant: Mutant) -> None:
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        texts[edit.file] = edit.applied(texts.get(edit.file) or (ROOT / edit.file).read_text())
    for file, text in texts.items():
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse((ROOT / file).read_text())), f"{file} is as before"


def test_the_catalogue_is_large_and_its_names_differ() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) > 40
    assert {world for mutant in MUTANTS for world in mutant.worlds} <= {*WORLDS, "placement"}


@pytest.mark.parametrize("text", ["nothing of it", "it and it"])
def test_text_that_is_not_there_exactly_once_is_told(text: str) -> None:
    with pytest.raises(StaleMutant, match=r"a\.py has (0|2) times, and not once: 'it'"):
        Edit("a.py", "it", "that").applied(text.replace("of it", ""))
