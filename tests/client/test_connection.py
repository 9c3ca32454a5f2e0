"""What a connection refuses, and why."""

from __future__ import annotations

import sqlite3

import pytest
from rsqlite_client.connection import LEGACY_TRANSACTION_CONTROL, BaseConnection, check_isolation
from rsqlite_client.dsn import Options
from rsqlite_client.errors import NotSupportedError
from rsqlite_client.proto import ReadLevel


def test_settings_begin_as_they_were_asked_for() -> None:
    connection = BaseConnection(Options(("h",), level=ReadLevel.STRONG), 3)
    assert connection.read_level == "strong"
    assert connection.row_factory is None
    assert connection.text_factory is str
    assert (connection.total_changes, connection.in_transaction) == (0, False)
    connection.text_factory = bytes
    assert connection.text_factory is bytes


def test_isolation() -> None:
    check_isolation(None, True)
    check_isolation(None, LEGACY_TRANSACTION_CONTROL)
    for level, autocommit in (("", True), ("EXCLUSIVE", True), (None, False), (None, 0)):
        with pytest.raises(NotSupportedError, match="needs an interactive session"):
            check_isolation(level, autocommit)


def test_every_method_of_sqlite3_is_there_or_refused() -> None:
    """Except what a shell brings itself, and what no database of another process can have."""
    shells = {"close", "commit", "rollback", "cursor", "execute", "executemany", "executescript"}
    local = {"getlimit", "setlimit", "getconfig", "setconfig"}
    public = {name for name in dir(sqlite3.Connection) if not name.startswith("_")}
    assert public - set(dir(BaseConnection)) == (shells | local) & public
