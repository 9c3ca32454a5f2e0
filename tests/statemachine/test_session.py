"""Session settings: set for one request on every node, and gone afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from rsqlite.request import Failure, Write
from rsqlite.statemachine.command import decode
from tests.statemachine.lab import Lab, ask


@pytest.fixture(autouse=True)
def tables(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a INTEGER PRIMARY KEY CHECK (a < 100), b)", "CREATE TABLE log(a)")


def settings_now(lab: Lab) -> list[Any]:
    names = ("foreign_keys", "recursive_triggers", "ignore_check_constraints", "legacy_alter_table")
    return [
        machine._writer.engine(f"PRAGMA {name}")[0][0]
        for machine in (lab.leader, lab.replica)
        for name in (*names, "defer_foreign_keys")
    ]


@pytest.mark.parametrize(
    ("pragma", "sql"),
    [
        ("ignore_check_constraints = 1", "INSERT INTO t VALUES(500, 1)"),
        ("recursive_triggers = 1", "REPLACE INTO t VALUES(1, 2)"),
        ("legacy_alter_table = 1", "ALTER TABLE log RENAME TO log2"),
        ("defer_foreign_keys = 1", "INSERT INTO t VALUES(2, 2)"),
        ("case_sensitive_like = 1", "UPDATE t SET b = 5 WHERE b LIKE 'X'"),
    ],
)
def test_a_setting_travels_and_is_restored(lab: Lab, pragma: str, sql: str) -> None:
    lab.do(
        "INSERT INTO t VALUES(1, 'x')",
        "CREATE TRIGGER d AFTER DELETE ON t BEGIN INSERT INTO log VALUES(old.a); END",
    )
    name = pragma.split()[0]
    results = lab.do(f"PRAGMA {pragma}", sql)
    assert not any(isinstance(result, Failure) for result in results)
    assert decode(lab.entries[-1].data).settings == [(name, 1)]
    assert settings_now(lab) == [0] * 10
    lab.rows("SELECT a, b FROM t")


def test_what_they_do(lab: Lab) -> None:
    lab.do("INSERT INTO t VALUES(1, 'x')")
    lab.do("PRAGMA case_sensitive_like = 1", "UPDATE t SET b = 'changed' WHERE b LIKE 'X'")
    assert lab.rows("SELECT b FROM t") == [("x",)]
    lab.do("UPDATE t SET b = 'changed' WHERE b LIKE 'X'")
    assert lab.rows("SELECT b FROM t") == [("changed",)]


def test_a_rollback_restores_them_too(lab: Lab) -> None:
    lab.leader.speculate(
        [ask("PRAGMA ignore_check_constraints = 1", "INSERT INTO t VALUES(500, 1)")]
    )
    lab.leader.rollback(lambda: None)
    assert settings_now(lab) == [0] * 10
    (result,) = lab.do("INSERT INTO t VALUES(500, 1)")
    assert isinstance(result, Failure)


def test_a_request_with_settings_is_a_batch_of_its_own(lab: Lab) -> None:
    requests = [
        ask("INSERT INTO t VALUES(1, 1)"),
        ask("-- first", "PRAGMA ignore_check_constraints = 1", "INSERT INTO t VALUES(500, 1)"),
        ask("INSERT INTO t VALUES(600, 1)"),
    ]
    batch = lab.leader.speculate(requests)
    assert [outcome is None for outcome in batch.outcomes] == [False, True, False]
    lab.finish(batch)
    batch = lab.leader.speculate([requests[1], ask("INSERT INTO t VALUES(700, 1)")])
    assert [outcome is None for outcome in batch.outcomes] == [False, True]
    lab.finish(batch)
    assert lab.rows("SELECT a FROM t") == [(1,), (500,)]


def test_a_setting_alone_does_nothing_and_is_no_error(lab: Lab) -> None:
    assert lab.do("PRAGMA foreign_keys = ON") == [Write(0, 0)]
    assert lab.last is not None
    assert lab.last.data is None


def test_between_begin_and_commit_foreign_keys_does_nothing(lab: Lab) -> None:
    lab.do("CREATE TABLE c(t REFERENCES t)")
    results = lab.do("PRAGMA foreign_keys = ON", "INSERT INTO c VALUES(9)", transaction=True)
    assert results == [Write(0, 0), Write(1, 1)]
