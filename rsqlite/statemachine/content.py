"""The content of a database as of one index, as a hash that all replicas must agree on.

What is hashed is what SQL can see, so where a page lies or how a b-tree is shaped does not matter:
the schema's texts, the rows of every table in the order of their keys (of virtual tables by what
they answer, their shadow tables left out), and the database's own numbers. SQLite hashes the rows
itself (`sha3_query` of APSW's extra modules), which leaves the interpreter to others meanwhile.
Planner statistics and our own tables are no content.

`PRAGMA integrity_check` comes with it, on the same snapshot: an index that lacks a row is not seen
by reading tables. What it says counts as part of the content, and is no verdict by itself: rows
that break a CHECK may have been let in with `ignore_check_constraints`, on every node alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import apsw

from rsqlite.statemachine.authorizer import OWN_PREFIX
from rsqlite.statemachine.background import BrokenOff
from rsqlite.statemachine.schema import quoted

PROBLEMS_MAX = 10
"""What `integrity_check` may say at most."""

_PRAGMAS = ("user_version", "application_id", "encoding", "auto_vacuum")
_SCHEMA = (
    "SELECT type, name, tbl_name, sql FROM sqlite_schema"
    f" WHERE substr(lower(name), 1, {len(OWN_PREFIX)}) <> '{OWN_PREFIX}'"
    " AND substr(name, 1, 11) <> 'sqlite_stat'"
    " AND substr(name, 1, 17) <> 'sqlite_autoindex_' ORDER BY type, name, tbl_name"
)
_TABLES = (
    "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'"
    " AND type IN ('table', 'virtual') AND name <> 'sqlite_schema' ORDER BY name"
)
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


class Content(NamedTuple):
    """What was found. `tables` has a hash for each table, to tell where contents differ."""

    digest: str
    tables: dict[str, str]
    problems: list[str]
    """What `PRAGMA integrity_check` found, sorted; empty: nothing."""


def hash_content(connection: apsw.Connection, is_over: Callable[[], bool]) -> Content:
    """The content that this connection sees. In a thread: it takes seconds. Statements end by
    themselves when `is_over` says so; BrokenOff then."""
    return _Hashing(connection, is_over).content()


class _Hashing:
    def __init__(self, connection: apsw.Connection, is_over: Callable[[], bool]) -> None:
        self._connection = connection
        self._is_over = is_over

    def content(self) -> Content:
        tables = {name: self._table(name, kind, wr) for name, kind, wr in self._rows(_TABLES)}
        tables = {name: digest for name, digest in tables.items() if digest}
        numbers = [self._rows(f"PRAGMA {name}") for name in _PRAGMAS]
        check = f"PRAGMA integrity_check({PROBLEMS_MAX})"
        problems = sorted(text for (text,) in self._rows(check) if text != "ok")
        whole = repr((numbers, self._digest(_SCHEMA), sorted(tables.items()), problems))
        return Content(_short(whole.encode()), tables, problems)

    def _table(self, name: str, kind: str, is_without_rowid: int) -> str:
        """Its hash; empty for a table that is no content."""
        lowered = name.lower()
        if lowered.startswith((OWN_PREFIX, "sqlite_stat")):
            return ""
        table = quoted(name)
        if kind == "virtual":
            return self._virtual(table)
        found = self._rows("SELECT name, pk FROM pragma_table_xinfo(?)", name)
        columns = {column.lower() for column, _ in found}
        rowid = next((one for one in _ROWID_NAMES if one not in columns), None)
        if lowered == "sqlite_sequence":
            return self._digest(f"SELECT name, seq FROM {table} ORDER BY name, seq")
        if is_without_rowid:
            keys = sorted((pk, column) for column, pk in found if pk)
            order = ", ".join(quoted(column) for _, column in keys)
            return self._digest(f"SELECT * FROM {table} ORDER BY {order}")
        if rowid is None:
            return self._digest(f"SELECT * FROM {table} NOT INDEXED")  # in the order of its rowids
        return self._digest(f"SELECT {rowid}, * FROM {table} ORDER BY {rowid}")

    def _virtual(self, table: str) -> str:
        """By its rows; by the error that it answers when it has no rowids, or cannot be read."""
        texts = []
        for sql in (f"SELECT rowid, * FROM {table} ORDER BY rowid", f"SELECT * FROM {table}"):
            try:
                return self._digest(sql)
            except apsw.SQLError as error:
                texts.append(str(error))
        return _short(repr(texts).encode())

    def _digest(self, sql: str) -> str:
        ((digest,),) = self._rows("SELECT sha3_query(?, 256)", sql)
        return _short(digest)

    def _rows(self, sql: str, *parameters: str) -> list[Any]:
        found = self._connection.execute(sql, parameters, can_cache=False).fetchall()
        if self._is_over():
            # `sha3_query` does not say that the query within it was interrupted.
            raise BrokenOff("broken off")
        return found


def _short(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
