"""One small mesh for all tests of commands that ask."""

from collections.abc import Iterator

import pytest
import trio

from tests.process.cluster import Cluster

SIZE = 2
"""Enough for one node to answer for another."""


@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A settled mesh."""
    cluster = Cluster(tmp_path_factory.mktemp("mesh"))
    try:
        trio.run(cluster.form, SIZE)
        yield cluster
        ended = [node.name for node in cluster.nodes if not node.is_running]
        assert not ended, f"{ended} ended by themselves\n{cluster.logs()}"
    finally:
        cluster.close()
