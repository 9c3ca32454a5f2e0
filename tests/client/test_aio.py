"""Asynchronous connections as a program meets them, on a real node."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import rsqlite_client.aio

import rsqlite
from rsqlite.testing.process import ProcessNode


@pytest.fixture
async def db(rsqlite_node: ProcessNode) -> AsyncIterator[rsqlite.aio.Connection]:
    async with rsqlite.aio.connect(rsqlite_node.url) as connection:
        yield connection


@pytest.fixture
async def table(db: rsqlite.aio.Connection) -> rsqlite.aio.Connection:
    await db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE)")
    return db


async def test_what_is_called_is_awaited_or_entered(table: rsqlite.aio.Connection) -> None:
    cursor = await table.execute("INSERT INTO t(b) VALUES(?)", (b"\0\xff",))
    assert (cursor.rowcount, cursor.lastrowid) == (1, 1)
    async with table.execute("SELECT a, b FROM t") as cursor:
        assert await cursor.fetchall() == [(1, b"\0\xff")]
        assert [column[0] for column in cursor.description] == ["a", "b"]
    with pytest.raises(rsqlite.ProgrammingError, match="closed cursor"):
        await cursor.fetchone()
    async with table.cursor() as cursor:
        assert await cursor.execute("SELECT 1") is cursor
    assert await table.execute_insert("INSERT INTO t(b) VALUES(2)") == (2,)
    assert await table.execute_fetchall("SELECT a FROM t WHERE b = ?", (2,)) == [(2,)]


async def test_rows_are_fetched_in_all_ways(db: rsqlite.aio.Connection) -> None:
    cursor = await db.execute("VALUES(1),(2),(3),(4),(5)")
    assert await cursor.fetchone() == (1,)
    assert await cursor.fetchmany() == [(2,)]
    assert await cursor.fetchmany(2) == [(3,), (4,)]
    assert [row async for row in cursor] == [(5,)]
    assert await cursor.fetchone() is None


async def test_many_rows_and_scripts_are_all_or_nothing(table: rsqlite.aio.Connection) -> None:
    cursor = await table.executemany("INSERT INTO t(b) VALUES(?)", [(1,), (2,)])
    assert cursor.rowcount == 2
    await table.executescript("INSERT INTO t(b) VALUES(3); INSERT INTO t(b) VALUES(4)")
    with pytest.raises(rsqlite.IntegrityError):
        await table.executemany("INSERT INTO t(b) VALUES(?)", [(5,), (1,)])
    with pytest.raises(sqlite3.IntegrityError):
        await table.executescript("INSERT INTO t(b) VALUES(5); INSERT INTO t(b) VALUES(1)")
    assert await table.execute_fetchall("SELECT count(*) FROM t") == [(4,)]
    assert table.total_changes == 4


async def test_commands_of_a_connection_keep_their_order(table: rsqlite.aio.Connection) -> None:
    await asyncio.gather(*[_insert(table, number) for number in range(20)])
    assert await table.execute_fetchall("SELECT b FROM t ORDER BY a") == [(n,) for n in range(20)]


async def _insert(db: rsqlite.aio.Connection, number: int) -> None:
    await db.execute("INSERT INTO t(b) VALUES(?)", (number,))


async def test_mistakes(db: rsqlite.aio.Connection) -> None:
    with pytest.raises(rsqlite.OperationalError, match='near "SELEC": syntax error'):
        await db.execute("SELEC ?")
    with pytest.raises(rsqlite.ProgrammingError, match="uses 1, and there are 0 supplied"):
        await db.execute("SELECT ?")
    with pytest.raises(rsqlite.ProgrammingError, match="can only execute DML"):
        await db.executemany("SELECT ?", [(1,)])
    with pytest.raises(rsqlite.NotSupportedError, match="needs an interactive session"):
        await db.execute("BEGIN")
    with pytest.raises(rsqlite.NotSupportedError, match=r"rollback\(\) needs"):
        await db.rollback()
    await db.commit()
    with pytest.raises(rsqlite.NotSupportedError, match="create_function"):
        await db.create_function("f", 0, lambda: 1)
    with pytest.raises(rsqlite.NotSupportedError):
        rsqlite.aio.connect("http://h", isolation_level="IMMEDIATE")


async def test_rows_by_name_and_levels(db: rsqlite.aio.Connection) -> None:
    db.row_factory = sqlite3.Row
    for level in ("none", "weak", "linearizable", "strong", "auto"):
        cursor = await db.execute("SELECT 1 AS a", read=level, freshness="1m")
        row = await cursor.fetchone()
        assert (row["A"], row) == (1, rsqlite.Row(cursor, (1,)))


async def test_what_is_closed_cannot_be_used(rsqlite_node: ProcessNode) -> None:
    db = await rsqlite.aio.connect(rsqlite_node.url)
    cursor = await db.execute("SELECT 1")
    await db.close()
    await db.close()
    calls: list[Any] = [cursor.fetchall, db.cursor, db.commit, lambda: db.execute("SELECT 1")]
    for call in calls:
        with pytest.raises(ValueError, match="Connection closed") as caught:
            await call()
        assert isinstance(caught.value, rsqlite.ProgrammingError)
    assert "closed" in repr(db)


async def test_one_that_is_left_open_is_told(rsqlite_node: ProcessNode) -> None:
    db = await rsqlite.aio.connect(rsqlite_node.url)
    channel = db._channel
    assert channel is not None
    with pytest.warns(ResourceWarning, match="was deleted before being closed"):
        del db
    await channel.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del channel


async def test_without_nodes_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(rsqlite.InterfaceError, match=r"rsqlite\.aio\.connect"):
        await rsqlite_client.aio.connect(tmp_path)
