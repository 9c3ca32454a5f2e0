"""The reading connections: what they see, and for how long."""

from __future__ import annotations

import apsw
import pytest

from rsqlite.statemachine.read_connection import Reader
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


def test_a_snapshot_that_is_held_outlives_the_reads_in_it_and_no_more(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    reader = lab.leader._readers._inline
    with reader.held_snapshot():
        index = reader.open_snapshot()
        reader.close_snapshot()
        assert reader.connection.txn_state() == apsw.SQLITE_TXN_READ
        lab.do("INSERT INTO t VALUES(1)")
        assert reader.open_snapshot() == index
        rows = reader.cursor.execute("SELECT count(*) FROM t").fetchall()
        assert rows == [(0,)], "the index says what was read"
    assert reader.connection.txn_state() == apsw.SQLITE_TXN_NONE
    assert reader.open_snapshot() == lab.leader.applied_index > index
    reader.close_snapshot()
