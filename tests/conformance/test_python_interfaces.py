"""The suites that others wrote for PEP 249 and for aiosqlite, run against the client.

What is left out is named here with its reason; all of it is left out by name, so that a test that
is new in a suite is run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rsqlite.testing.process import ProcessNode
from tests.conformance.fetching import (
    FETCH_TIMEOUT_S,
    HERE,
    SUITE_TIMEOUT_S,
    fetch,
    passed,
    replace,
    run_suite,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(FETCH_TIMEOUT_S + SUITE_TIMEOUT_S)]

AS_IN_SQLITE3 = {
    "test_description": "sqlite3 gives no type codes, and programs compare descriptions with it",
    "test_fetchone": "a fetch before execute is lenient, which ORMs rely on",
    "test_fetchmany": "the same",
    "test_fetchall": "the same",
    "test_non_idempotent_close": "closing twice is allowed",
}
NEED_A_SESSION = ["test_connection_properties"]
NEED_THE_DATABASE_IN_PROCESS = [
    "test_create_function",
    "test_create_function_deterministic",
    "test_enable_load_extension",
    "test_set_authorizer_deny_drops",
    "test_set_authorizer_exception_propagation",
    "test_set_progress_handler",
    "test_set_trace_callback",
]
NEED_BACKUPS = ["test_backup_aiosqlite", "test_backup_sqlite", "test_iterdump"]
ABOUT_ITS_THREAD = [
    "test_close_blocking_until_transaction_queue_empty",
    "test_connect_base_exception",
    "test_multi_loop_usage",  # while the loop that the connection belongs to is blocked
    "test_stop_after_event_loop_closed",
    "test_stop_without_close",
]
TAKE_ANY_OBJECT_FOR_A_PATH = ["test_connection_locations"]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    fetch(folder, "python_suites.txt")
    return folder


def deselected(names: list[str]) -> list[str]:
    return ["-k", " and ".join(f"not ({name} and not {name}_)" for name in names)]


def test_the_dbapi_compliance_suite(
    fetched: Path, rsqlite_node: ProcessNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = fetched / "dbapi-compliance-1.15.0"
    shutil.copy(HERE / "compliance_of_rsqlite.py", suite / "test_compliance.py")
    monkeypatch.setenv("SUITE_URL", rsqlite_node.url)
    words = ["test_compliance.py", *deselected(list(AS_IN_SQLITE3))]
    # sqlite3 itself passes 24 of the others; the five objects for types are ours.
    assert passed(run_suite(fetched, suite, suite, words)) == 24 + 5 + 2


def test_the_smoke_tests_of_aiosqlite(fetched: Path) -> None:
    suite = fetched / "aiosqlite-0.22.1"
    replace(
        suite / "aiosqlite" / "tests", r"(?m)^import aiosqlite$", "import rsqlite.aio as aiosqlite"
    )
    left_out = [
        *NEED_A_SESSION,
        *NEED_THE_DATABASE_IN_PROCESS,
        *NEED_BACKUPS,
        *ABOUT_ITS_THREAD,
        *TAKE_ANY_OBJECT_FOR_A_PATH,
    ]
    words = ["aiosqlite/tests/smoke.py", *deselected(left_out)]
    assert passed(run_suite(fetched, suite, suite, words)) == 13
