"""Fixtures of the whole suite."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on trio."""
    return "trio"
