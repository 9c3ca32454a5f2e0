"""The writing connection: what the engine runs beside users."""

from __future__ import annotations

import apsw
import pytest

from tests.statemachine.lab import Lab


def test_restoring_counters(lab: Lab) -> None:
    writer = lab.leader._writer
    writer.begin()
    for numbers in ((0, 0, 0), (1, 5, 9), (1234, -(2**63), 2000)):
        writer.restore_counters(*numbers)
        connection = writer.connection
        assert (connection.changes(), connection.last_insert_rowid()) == numbers[:2]
        assert writer.counters.total_changes() == numbers[2]
    assert writer.engine("SELECT * FROM _rsqlite_applied") == [(1, 0, 0, 0)]
    writer.rollback()


def test_a_budget_stops_a_statement_and_not_the_engine(lab: Lab) -> None:
    writer = lab.leader._writer
    runaway = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 100000) "
    writer.budget(10_000, None)
    with pytest.raises(apsw.InterruptError):
        writer.cursor.execute(runaway + "SELECT count(*) FROM c").fetchall()
    assert writer.interrupted_by == "steps"
    assert writer.engine(runaway + "SELECT count(*) FROM c") == [(100_000,)]
    writer.is_cancelled = True
    with pytest.raises(apsw.InterruptError):
        writer.cursor.execute(runaway + "SELECT count(*) FROM c").fetchall()
    assert writer.interrupted_by == "cancel"
