"""How SQLite is opened: what each setting answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import Settings
from rsqlite.errors import NodeFault
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.opening import expect, require_sqlite
from tests.statemachine.lab import Lab


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
