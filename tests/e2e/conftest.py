"""Clusters of real processes for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rsqlite.testing.cluster import ProcessCluster

StartCluster = Callable[..., ProcessCluster]


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Makes a cluster of so many nodes, with these flags, and starts it unless told not to."""
    with ExitStack() as stack:

        def make(count: int = 3, *options: str, is_started: bool = True) -> ProcessCluster:
            directory = tmp_path / f"cluster-{count}"
            cluster = ProcessCluster(count, directory, options)
            stack.callback(show_logs, cluster)
            stack.callback(cluster.close)
            if is_started:
                cluster.start()
            return cluster

        yield make


def show_logs(cluster: ProcessCluster) -> None:
    """What the nodes printed, which pytest shows for a test that failed."""
    for node in cluster.nodes:
        print(node.log_tail(60))
