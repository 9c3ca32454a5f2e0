"""The test suites of clients written for rqlite, run against a follower of three nodes.

Fetched at test time, by name, version and hash, unpacked beside the test, and changed in nothing
but the port: they are written for a server on port 4001. Where the package index cannot be
reached the tests are skipped, and say so.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.testing.cluster import ProcessCluster
from tests.conformance.fetching import (
    FETCH_TIMEOUT_S,
    HERE,
    SUITE_TIMEOUT_S,
    fetch,
    passed,
    pip,
    replace,
    run_suite,
)

CONSTRAINTS = HERE.parent.parent / "constraints.txt"
NEEDS_PYTHON_3_13 = (
    "tests/test_sync_thread_lock_sqlalchemy.py::TestSyncThreadLockSQLAlchemyEngineLockConfiguration"
    "::test_connection_with_threading_lock_has_lock"
)
"""Takes `threading.Lock` for a class, which it is from that version on."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(FETCH_TIMEOUT_S + SUITE_TIMEOUT_S)]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked suites, and `needs` with what they import."""
    folder = tmp_path_factory.mktemp("suites")
    fetch(folder, "suites.txt")
    pip("install", "--target", folder / "needs", "-r", HERE / "needs.txt", "-c", CONSTRAINTS)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with ProcessCluster(3, tmp_path_factory.mktemp("conformance")) as running:
        yield running


def test_rqdb_passes_its_own_tests_where_they_need_no_backup(
    fetched: Path, cluster: ProcessCluster
) -> None:
    suite = fetched / "rqdb-1.6.5"
    leader, (follower, other) = cluster.leader(), cluster.followers()
    # Its test of leader discovery wants to find the leader among the addresses it was given; it
    # starts with any of them.
    hosts = [cluster.nodes[one].http_addr for one in (follower, leader, other)]
    replace(suite / "tests", r"(?m)^HOSTS = .*$", f"HOSTS = {hosts!r}")
    # The source distribution lacks this file, which only puts src on the path.
    (suite / "tests" / "helper.py").touch()
    line = run_suite(fetched, suite, suite / "src", ["tests", "-k", "not backup"])
    assert passed(line) == 46, line


def test_rqdb_passes_with_a_follower_as_its_only_node(
    fetched: Path, cluster: ProcessCluster
) -> None:
    suite = fetched / "rqdb-1.6.5"
    hosts = [cluster.nodes[cluster.followers()[0]].http_addr]
    replace(suite / "tests", r"(?m)^HOSTS = .*$", f"HOSTS = {hosts!r}")
    (suite / "tests" / "helper.py").touch()
    words = ["tests", "-k", "not backup and not discover_leader"]
    assert passed(run_suite(fetched, suite, suite / "src", words)) == 44


def test_tangled_pyrqlite_passes_its_own_tests_that_need_no_redis(
    fetched: Path, cluster: ProcessCluster
) -> None:
    suite = fetched / "tangled_pyrqlite-0.1.9"
    port = cluster.nodes[cluster.followers()[0]].http_port
    shutil.copy(HERE / "fixtures_for_tangled.py", suite / "tests" / "conftest.py")
    for folder in ("rqlite", "tests"):
        replace(suite / folder, r"\b4001\b", str(port))
    files = sorted(str(one) for one in (suite / "tests").glob("test_*.py"))
    words = [one for one in files if not re.search("redis|valkey", one)]
    expected = 211
    if sys.version_info < (3, 13):
        words += ["--deselect", NEEDS_PYTHON_3_13]
        expected = 210
    assert passed(run_suite(fetched, suite, suite, words)) == expected
