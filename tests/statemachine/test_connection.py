"""The connections: what a reader sees, and what the engine runs beside users."""

from __future__ import annotations

import apsw
import pytest

from rsqlite.statemachine.connection import Reader
from tests.statemachine.lab import Lab, ask


def test_a_reader_cannot_write(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    reader = lab.leader._readers._inline
    reader.guard.is_lifted = True
    with pytest.raises(apsw.ReadOnlyError):
        reader.connection.execute("INSERT INTO t VALUES(1)")
    reader.guard.is_lifted = False


def test_a_reader_never_sees_a_speculation(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.leader.speculate([ask("INSERT INTO t VALUES(1)")])
    assert lab.query(ask("SELECT count(*) FROM t")).results[0].rows == [(0,)]
    lab.leader.rollback(lambda: None)


def test_a_snapshot_ends_when_it_is_closed(lab: Lab) -> None:
    # An open one would keep the WAL from being reset.
    reader = Reader(str(lab.directory / "leader" / "1" / "main.db"), lab.settings)
    assert reader.open_snapshot() == 0
    assert reader.connection.txn_state() == apsw.SQLITE_TXN_READ
    reader.close_snapshot()
    assert reader.connection.txn_state() == apsw.SQLITE_TXN_NONE
    reader.close()


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
