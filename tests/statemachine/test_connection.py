"""How SQLite is opened: what each setting answers, and what the engine runs beside users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import Settings
from rsqlite.errors import NodeFault
from rsqlite.statemachine.connection import Reader, Writer
from rsqlite.statemachine.opening import expect, require_sqlite
from tests.statemachine.lab import Lab, ask


@pytest.mark.parametrize(
    ("pragma", "answer"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 1),  # FULL would cost half the speed, and says nothing of it
        ("wal_autocheckpoint", 0),
        ("mmap_size", 0),
        ("cell_size_check", 1),
        ("trusted_schema", 0),
        ("foreign_keys", 0),
        ("busy_timeout", 0),
        ("page_size", 4096),
    ],
)
def test_what_the_writer_answers(lab: Lab, pragma: str, answer: Any) -> None:
    assert lab.leader._writer.engine(f"PRAGMA {pragma}") in ([(answer,)], [])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
        (apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1),
        (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
        (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    ],
)
def test_flags_of_every_connection(lab: Lab, option: int, value: int) -> None:
    for connection in (lab.leader._writer.connection, lab.leader._readers._inline.connection):
        assert connection.config(option, -1) == value


def test_a_pragma_that_did_not_take_stops_the_start() -> None:
    connection = apsw.Connection(":memory:")
    with pytest.raises(NodeFault, match="journal_mode"):
        expect(connection, "journal_mode", "wal", "wal")


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_sqlite()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(NodeFault, match=r"3\.51\.2 is too old"):
        require_sqlite()


def test_the_setting_fk(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "x.db"), Settings(fk=True))
    assert writer.engine("PRAGMA foreign_keys") == [(1,)]
    writer.close()


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
