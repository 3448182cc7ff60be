"""Options and profiles of the whole suite."""

import os

import pytest
from hypothesis import settings

settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--scripts",
        metavar="DIR",
        default=None,
        help="replay the Raft scripts in DIR/quorum, DIR/confchange and DIR/interaction",
    )
