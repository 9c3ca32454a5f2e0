"""What all cursors and connections share: commands out of calls, rows out of results. No I/O.

A shell's `execute` is `prepare_…` (which may raise), its channel's `run`, and `take`. All rows of a
result are here once it is taken, so fetching is the same everywhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from rsqlite_client.binding import bind, bind_many
from rsqlite_client.converting import column_names, converted, converters_of
from rsqlite_client.errors import NotSupportedError, ProgrammingError
from rsqlite_client.proto import Command, Form, ReadLevel, Result, level_of
from rsqlite_client.row import Row
from rsqlite_client.statement import Statement, setting_of, statement_of, statements_of

Level = Literal["none", "weak", "linearizable", "strong", "auto"]
RowFactory = Callable[[Any, tuple[Any, ...]], Any]

SESSION_TEXT = (
    "{what} needs an interactive session, which this version does not have: each statement commits"
    " by itself. executemany() and executescript() take effect together or not at all"
)
COUNTER_TEXT = (
    "{name}() would count within this one request: use cursor.lastrowid, cursor.rowcount or"
    " connection.total_changes, as parameters if need be. (Alone in a SELECT, or in a script, it"
    " works.)"
)
SETTING_TEXT = (
    "PRAGMA {name} with a value would hold for this one request, not for the connection, which"
    " needs an interactive session; nodes enforce foreign keys when they are started with -fk"
)


class Mistake(Exception):
    """The call cannot be carried out. sqlite3 compiles a statement before it looks at parameters,
    so what SQLite has to say of it comes first: `probe` asks, and writes nothing."""

    def __init__(self, error: Exception, probe: Command) -> None:
        super().__init__(str(error))
        self.error = error
        self.probe = probe


class ConnectionSettings:
    """How a connection reads and what it makes of rows; its cursors look here."""

    def __init__(
        self,
        *,
        detect_types: int = 0,
        level: ReadLevel = ReadLevel.WEAK,
        freshness_s: float = 0.0,
    ) -> None:
        self.detect_types = detect_types
        self.level = level
        self.freshness_s = freshness_s
        self.row_factory: RowFactory | None = None
        self.text_factory: Callable[[bytes], Any] = str
        self.total_changes = 0
        self.changes = 0
        self.last_insert_rowid = 0


def row_factory_of(factory: Any) -> RowFactory | None:
    """sqlite3.Row wants a cursor of its own module; ours does the same for ours."""
    found: RowFactory | None = Row if factory is sqlite3.Row else factory
    return found


class BaseCursor:
    """The state of one cursor between two calls."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._row_factory = settings.row_factory
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.arraysize = 1
        self.description: tuple[tuple[Any, ...], ...] | Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    @property
    def row_factory(self) -> RowFactory | None:
        """Called with the cursor and each row's tuple; None: the tuple itself."""
        return self._row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        self._row_factory = row_factory_of(factory)

    def _enter(self, sql: object, method: str) -> None:
        """What sqlite3 does first of all."""
        if not isinstance(sql, str):
            raise TypeError(f"{method}() argument 1 must be str, not {type(sql).__name__}")
        self.rowcount = -1

    def _begin(self, sql: str) -> Statement:
        """Forget the last result; the statement of the next."""
        self._rows = iter(())
        self.description = None
        return statement_of(sql)

    def prepare_one(
        self, sql: str, parameters: Any, read: Level | None, freshness_s: float | None
    ) -> Command:
        """The command of `execute`."""
        statement = self._begin(sql)
        self._check_single(statement)
        if statement.counter:
            return self._count(statement)
        try:
            row = bind(statement, parameters)
        except Exception as error:
            raise Mistake(error, self._probe(statement)) from error
        settings = self._settings
        level = settings.level if read is None else level_of(read)
        freshness = settings.freshness_s if freshness_s is None else freshness_s
        return Command(statement, Form.ONE, (row,), level, freshness)

    def _count(self, statement: Statement) -> Command:
        """`SELECT last_insert_rowid()` and the like: the connection knows."""
        name = statement.counter_alone
        if not name:
            raise NotSupportedError(COUNTER_TEXT.format(name=statement.counter))
        value = int(getattr(self._settings, statement.counter))
        answer = Result([name], [None], [(value,)], is_read=True)
        return Command(statement, Form.ONE, ((),), answer=answer)

    def prepare_many(self, sql: str, rows: Iterable[Any]) -> Command:
        """The command of `executemany`; without any rows SQLite only looks at the SQL."""
        source = iter(rows)
        statement = self._begin(sql)
        self._check_single(statement)
        if statement.counter:
            raise NotSupportedError(COUNTER_TEXT.format(name=statement.counter))
        if statement.is_read:
            error = ProgrammingError("executemany() can only execute DML statements.")
            raise Mistake(error, self._probe(statement))
        try:
            bound = bind_many(statement, source)
        except Exception as error:
            raise Mistake(error, self._probe(statement)) from error
        return Command(statement, Form.MANY, bound) if bound else self._probe(statement)

    def prepare_script(self, script: str) -> Command:
        """The command of `executescript`."""
        if not isinstance(script, str):
            raise TypeError(f"executescript() argument must be str, not {type(script).__name__}")
        if "\0" in script:
            raise ValueError("embedded null character")
        if not script.isascii():
            script.encode("utf-8")
        texts = statements_of(script)
        if any(setting_of(text) == ("foreign_keys", True) for text in texts):
            # As in a transaction, it would do nothing.
            raise NotSupportedError(SETTING_TEXT.format(name="foreign_keys"))
        answer = None if texts else Result()
        return Command(Statement(""), Form.SCRIPT, (), texts=texts, answer=answer)

    def _check_single(self, statement: Statement) -> None:
        if statement.has_more:
            error = ProgrammingError("You can only execute one statement at a time.")
            raise Mistake(error, self._probe(statement))
        if statement.is_transactional:
            raise NotSupportedError(SESSION_TEXT.format(what=statement.first_word))
        if statement.setting:
            raise NotSupportedError(SETTING_TEXT.format(name=statement.setting))

    def _probe(self, statement: Statement) -> Command:
        """Has the first statement compiled, and nothing else."""
        text = statement.text[: statement.end]
        if statement.first_word != "EXPLAIN":
            text = f"EXPLAIN {text}"
        explained = Statement(text)
        nothing = (None,) * len(explained.names)
        return Command(explained, Form.ONE, (nothing,), probed=statement)

    def take(self, command: Command, result: Result) -> None:
        """Make the result of a command this cursor's."""
        settings, statement = self._settings, command.statement
        if command.probed is not None:
            self.rowcount = 0 if command.probed.is_dml else -1
            return
        settings.total_changes += result.changes
        if result.lastrowid:
            settings.last_insert_rowid = result.lastrowid
        if command.form is Form.SCRIPT:
            return
        if command.form is Form.MANY:
            self.rowcount = result.changes if statement.is_dml else -1
            settings.changes = result.changes
            return
        if statement.first_word:
            self.lastrowid = settings.last_insert_rowid
        if statement.is_dml:
            self.rowcount = result.changes
        if statement.is_dml or (statement.first_word == "WITH" and not result.is_read):
            settings.changes = result.changes
        columns = result.columns
        if columns is None:
            return
        if result.is_read:
            statement.is_read = True
        self._describe(columns, result)

    def _describe(self, columns: Sequence[str], result: Result) -> None:
        settings = self._settings
        names = columns
        rows: Sequence[tuple[Any, ...]] = result.rows
        if settings.detect_types:
            names = column_names(columns, settings.detect_types)
            converters = converters_of(columns, result.decltypes, settings.detect_types)
            rows = converted(rows, converters, settings.text_factory)
        elif settings.text_factory is not str:
            rows = converted(rows, [None] * len(columns), settings.text_factory)
        self.description = tuple([(name, None, None, None, None, None, None) for name in names])
        self._rows = iter(rows)

    def next_row(self) -> Any:
        """The next row as the row factory makes it; StopIteration at the end."""
        row = next(self._rows)
        return row if self._row_factory is None else self._row_factory(self, row)

    def next_rows(self, count: int | None) -> list[Any]:
        """The next `count` rows, or all that are left."""
        rows: list[Any] = []
        if count is None:
            rows = list(self._rows)
        else:
            while len(rows) < count and (row := next(self._rows, None)) is not None:
                rows.append(row)
        factory = self._row_factory
        return rows if factory is None else [factory(self, row) for row in rows]
