"""Clusters that end with their test, and whose logs are shown when it fails."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from simulations.certificates import Authority
from tests.process.cluster import Cluster

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def clusters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters; all of their processes are gone after the test, and so are their logs unless it failed."""
    made: list[Cluster] = []

    def make(*, partitions: int = 64, authority: Authority | None = None) -> Cluster:
        root = tmp_path / f"mesh{len(made)}"
        root.mkdir()
        cluster = Cluster(root, partitions=partitions, authority=authority)
        made.append(cluster)
        return cluster

    try:
        yield make
    finally:
        for cluster in made:
            cluster.close()
    if request.node.stash.get(FAILED, False):
        for cluster in made:
            print(cluster.logs())  # noqa: T201 - pytest shows it beside the failure


@pytest.fixture
def cluster(clusters: Callable[..., Cluster]) -> Cluster:
    """One mesh, without nodes yet."""
    return clusters()
