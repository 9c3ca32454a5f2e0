"""How dbapi-compliance is pointed at rsqlite. Copied beside it as a test."""

from __future__ import annotations

import os

import dbapi20

import rsqlite

URL = os.environ["SUITE_URL"]


class TestCompliance(dbapi20.DatabaseAPI20Test):
    driver = rsqlite
    connect_args = (URL,)

    def setUp(self) -> None:
        connection = rsqlite.connect(URL)
        for name in ("booze", "barflys"):
            connection.execute(f"DROP TABLE IF EXISTS {self.table_prefix}{name}")
        connection.close()

    def tearDown(self) -> None:
        pass

    def test_nextset(self) -> None:
        assert not hasattr(rsqlite.Cursor, "nextset")

    def test_setoutputsize(self) -> None:
        connection = self._connect()
        connection.cursor().setoutputsize(1000)
        connection.close()
