"""What plain SQLite answers: each request on a connection of its own, in autocommit.

`transaction` is BEGIN … COMMIT, with ROLLBACK at the first error. Statements that the engine
refused are left out, since the engine promises that they had no effect. The answers are in the
words of `rsqlite.request`, one result for each text, that of its last SQLite statement.
"""

from __future__ import annotations

import os
from collections.abc import Set
from typing import Any

import apsw
import apsw.ext

from rsqlite.request import Failure, Result, Rows, Write
from tests.statemachine.battery.model import Ask, Sql

SKIPPED = Failure("refused by the engine, so not asked of plain SQLite", code=-1, name="SKIPPED")
SQL_ONLY_SPACE = " \t\r\n\f;"


class Oracle:
    """A database file of plain SQLite, and the clients that come to it one after another."""

    def __init__(self, path: str, *, fk: bool = False) -> None:
        self.path = path
        self._fk = fk
        self.keeper = apsw.Connection(path)
        # WAL, so that a PRAGMA that asks is answered as by the engine; no syncs, for speed alone.
        self.keeper.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Close, and remove the file."""
        self.keeper.close()
        os.unlink(self.path)

    def ask(self, ask: Ask, refused: Set[int] = frozenset()) -> list[Result]:
        """The answers to one client. The statements at the positions `refused` are left out."""
        connection = apsw.Connection(self.path)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            if self._fk:
                connection.execute("PRAGMA foreign_keys = ON")
            return _run(connection, ask, refused)
        finally:
            connection.close()


def _run(connection: apsw.Connection, ask: Ask, refused: Set[int]) -> list[Result]:
    results: list[Result] = []
    if ask.transaction:
        connection.execute("BEGIN")
    for position, sql in enumerate(ask.statements):
        result = SKIPPED if position in refused else run_text(connection, sql)
        if result is None:
            continue
        if ask.kind == "execute" and isinstance(result, Rows) and result.is_read:
            # As rqlite answers a SELECT that is sent to /db/execute: with the counters.
            result = Write(connection.last_insert_rowid(), connection.changes())
        results.append(result)
        if ask.transaction and isinstance(result, Failure):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return results
    if ask.transaction:
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            # The engine reports it in the place of the last statement.
            results[-1:] = [failure(error)]
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return results


def run_text(connection: apsw.Connection, sql: Sql) -> Result | None:
    """Run all SQLite statements of a text; the result of the last, or the first failure; None for
    a text that holds no statement."""
    result: Result | None = None
    text, parameters = sql.text, sql.parameters
    while text.strip(SQL_ONLY_SPACE):
        try:
            info = apsw.ext.query_info(connection, text)
        except apsw.Error as error:
            return failure(error)
        first, rest = info.first_query, info.query_remaining or ""
        if info.is_readonly and not first.strip(SQL_ONLY_SPACE):
            text = rest
            continue
        here: Any = parameters
        if isinstance(parameters, tuple):
            here, parameters = parameters[: info.bindings_count], parameters[info.bindings_count :]
        try:
            rows = connection.execute(first, here).fetchall()
        except apsw.Error as error:
            return failure(error, is_read=info.is_readonly)
        result = _result(connection, info, rows) or result
        text = rest
    return result


def _result(connection: apsw.Connection, info: Any, rows: list[Any]) -> Result | None:
    if not info.description:
        if is_empty(info.first_query):
            return None
        return Write(connection.last_insert_rowid(), connection.changes())
    columns = [one[0] for one in info.description]
    decltypes = [one[1] for one in info.description]
    return Rows(
        columns,
        decltypes,
        rows,
        is_read=info.is_readonly or bool(info.is_explain) or _is_pragma(info.first_query),
        last_insert_rowid=connection.last_insert_rowid(),
        changes=connection.changes(),
    )


def _is_pragma(text: str) -> bool:
    """SQLite counts some PRAGMAs as writes although they only tell."""
    return text.lstrip().upper().startswith("PRAGMA")


def is_empty(text: str) -> bool:
    """Whether a text holds nothing but spaces, semicolons and comments."""
    position = 0
    while position < len(text):
        if text[position] in SQL_ONLY_SPACE:
            position += 1
        elif text.startswith("--", position):
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif text.startswith("/*", position):
            end = text.find("*/", position + 2)
            position = len(text) if end < 0 else end + 2
        else:
            return False
    return True


def failure(error: apsw.Error, *, is_read: bool = False) -> Failure:
    """An error of SQLite as the engine reports it."""
    code = getattr(error, "extendedresult", None) or 1
    names = apsw.mapping_extended_result_codes if code > 255 else apsw.mapping_result_codes
    return Failure(
        str(error), code=code, name=str(names.get(code, "SQLITE_ERROR")), is_read=is_read
    )
