"""The test suites of clients written for rqlite, run against a follower of three nodes.

Fetched at test time, by name, version and hash, unpacked beside the test, and changed in nothing
but the port: they are written for a server on port 4001. Where the package index cannot be
reached the tests are skipped, and say so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rsqlite.testing.cluster import ProcessCluster

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent.parent / "constraints.txt"
FETCH_TIMEOUT_S = 120
SUITE_TIMEOUT_S = 240
NEEDS_PYTHON_3_13 = (
    "tests/test_sync_thread_lock_sqlalchemy.py::TestSyncThreadLockSQLAlchemyEngineLockConfiguration"
    "::test_connection_with_threading_lock_has_lock"
)
"""Takes `threading.Lock` for a class, which it is from that version on."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(FETCH_TIMEOUT_S + SUITE_TIMEOUT_S)]


def pip(*words: str | Path) -> None:
    """Run pip; skip the test, with its last words, when it cannot fetch what it should."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    try:
        result = subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"NOT RUN: the package index did not answer in {FETCH_TIMEOUT_S} s")
    assert "DO NOT MATCH THE HASHES" not in result.stderr, result.stderr
    if result.returncode != 0:
        last = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        pytest.skip(f"NOT RUN: the suite cannot be fetched: {last[0]}")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked suites, and `needs` with what they import."""
    folder = tmp_path_factory.mktemp("suites")
    sources = ["--no-binary", "rqdb,tangled-pyrqlite", "--require-hashes"]
    pip("download", "--no-deps", *sources, "-d", folder, "-r", HERE / "suites.txt")
    pip("install", "--target", folder / "needs", "-r", HERE / "needs.txt", "-c", CONSTRAINTS)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with ProcessCluster(3, tmp_path_factory.mktemp("conformance")) as running:
        yield running


def replace(folder: Path, pattern: str, text: str) -> None:
    for path in folder.rglob("*.py"):
        before = path.read_text(encoding="utf-8")
        after = re.sub(pattern, text, before)
        if after != before:
            path.write_text(after, encoding="utf-8")


def run_suite(fetched: Path, suite: Path, import_from: Path, words: Sequence[str]) -> str:
    """Run the suite's own tests in a process of their own; its last line, such as `46 passed`."""
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [import_from, fetched / "needs"]))
    settings = suite / "none.ini"
    settings.write_text("[pytest]\n")
    pytest_words = ["-c", str(settings), "--rootdir", str(suite), "-p", "no:cacheprovider"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_words, "-q", "-W", "ignore", "--tb=short", *words],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SUITE_TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2_000:]
    return result.stdout.strip().splitlines()[-1]


def passed(line: str) -> int:
    found = re.search(r"(\d+) passed", line)
    return int(found[1]) if found else 0


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
