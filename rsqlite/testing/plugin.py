"""Fixtures for the tests of programs that use rsqlite; pytest finds them when rsqlite is installed.

rsqlite_node      a node in a process of its own, empty at the beginning of each test
rsqlite_cluster   makes clusters: `cluster = rsqlite_cluster(3)`

Both give out the classes of `rsqlite.testing.cluster`, whose nodes can be killed, paused, resumed
and restarted. What the nodes printed is shown for a test that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # pytest loads this file in every run, also where nobody uses rsqlite.
    from rsqlite.testing.cluster import ProcessCluster, ProcessNode

    StartCluster = Callable[..., ProcessCluster]

LOG_LINES = 60


@pytest.fixture(scope="session")
def rsqlite_session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """The process behind `rsqlite_node`, one for all tests."""
    from rsqlite.testing.cluster import ProcessCluster

    with ProcessCluster(1, tmp_path_factory.mktemp("rsqlite-node")) as cluster:
        yield cluster


@pytest.fixture
def rsqlite_node(rsqlite_session_cluster: ProcessCluster) -> Iterator[ProcessNode]:
    """A node that runs, with an empty database. Connect to its `url`."""
    (node,) = rsqlite_session_cluster.nodes
    node.revive()
    node.clear()
    yield node
    print(node.log_tail(LOG_LINES))


@pytest.fixture
def rsqlite_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartCluster]:
    """Starts clusters: `rsqlite_cluster(3, "-fk")` gives one of three nodes with this flag, ready
    and empty. Connect to its `url`, which names all nodes. It ends with the test."""
    from rsqlite.testing.cluster import ProcessCluster

    with ExitStack() as stack:

        def start(count: int = 3, *options: str) -> ProcessCluster:
            directory = tmp_path_factory.mktemp(f"rsqlite-cluster-{count}")
            cluster = ProcessCluster(count, directory, options)
            stack.callback(_show_logs, cluster)
            stack.enter_context(cluster)
            return cluster

        yield start


def _show_logs(cluster: ProcessCluster) -> None:
    for node in cluster.nodes:
        print(node.log_tail(LOG_LINES))
