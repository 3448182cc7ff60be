"""Fixtures of the simulator's tests."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command silences all logging, which is for the whole of its process."""
    before = logging.root.manager.disable
    yield
    logging.disable(before)
