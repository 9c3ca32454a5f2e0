"""Payments keep their books, and rows that do not are found."""

from __future__ import annotations

import random
from typing import Any

import apsw
import pytest

from rsqlite.testing import receipts


def content(connection: apsw.Connection) -> dict[str, list[Any]]:
    tables = ("receipts", "ledger", "copies")
    return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}


@pytest.fixture
def worked() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("PRAGMA foreign_keys = 1;" + ";".join(receipts.SCHEMA))
    chance = random.Random(1)
    for _ in range(60):
        request = receipts.operation(chance)
        connection.execute("BEGIN")
        try:
            for sql, parameters in zip(request.sqls, request.parameters, strict=True):
                connection.execute(sql, parameters)
            connection.execute("COMMIT")
        except apsw.ConstraintError:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return connection


def test_transactions_keep_the_books(worked: apsw.Connection) -> None:
    found = content(worked)
    assert len(found["receipts"]) > 5
    assert found["copies"]
    assert receipts.problem(found, has_keys=True) == ""


@pytest.mark.parametrize("sql", receipts.TAMPERINGS)
def test_a_tampering_changes_what_is_there(worked: apsw.Connection, sql: str) -> None:
    before = content(worked)
    worked.execute("PRAGMA foreign_keys = 0")
    worked.execute(sql)
    assert content(worked) != before


def test_halves_of_a_transaction_are_found(worked: apsw.Connection) -> None:
    worked.execute("UPDATE ledger SET n = n + 1")
    assert "payments were counted" in receipts.problem(content(worked), has_keys=False)


@pytest.mark.parametrize("has_keys", [True, False])
def test_references_to_nothing_are_found_where_they_are_enforced(
    worked: apsw.Connection, has_keys: bool
) -> None:
    worked.execute("PRAGMA foreign_keys = 0")
    worked.execute("INSERT INTO copies(receipt) VALUES(77)")
    assert bool(receipts.problem(content(worked), has_keys=has_keys)) == has_keys
