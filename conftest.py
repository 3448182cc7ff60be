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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side (``-n 2 --dist loadgroup``), those that start real nodes run one after the other:
    they look at what happens in time. And those on a device, which have directories of their own for binaries: drivers
    have caches behind these, where PoCL 3.1 was seen to abort one of several processes that built the same program."""
    for item in items:
        for group in ("process", "device"):
            if item.get_closest_marker(group) is not None:
                item.add_marker(pytest.mark.xdist_group(group))
