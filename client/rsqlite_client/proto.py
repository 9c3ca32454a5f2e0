"""Requests and replies as values, and the bytes they are over HTTP: `typed`, `compact`, `many`.

A `Command` is one text of SQL and how it is meant. `path` and `body` make the request of it, and
`result_of` makes a `Result` of the answer's body, or the exception that it tells of. Nothing here
knows of sockets or time.
"""

from __future__ import annotations

import enum
import json
import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsqlite_client.binding import SqlValue
from rsqlite_client.errors import OperationalError, ProgrammingError, sql_error
from rsqlite_client.statement import Statement


class Form(enum.Enum):
    """What is done with a text."""

    ONE = "one"  # once, with parameters
    MANY = "many"  # once for each row of parameters, all or nothing
    SCRIPT = "script"  # all statements of the text, all or nothing


class ReadLevel(enum.Enum):
    """How fresh a read must be; docs/http.md says what each means."""

    NONE = "none"
    WEAK = "weak"
    LINEARIZABLE = "linearizable"
    STRONG = "strong"
    AUTO = "auto"


def level_of(name: str) -> ReadLevel:
    """The read level of this name."""
    try:
        return ReadLevel(name)
    except ValueError:
        known = ", ".join(level.value for level in ReadLevel)
        raise ProgrammingError(f"there is no read level {name!r}: {known}") from None


class Result:
    """What a statement gave. `columns` is None for one that has none."""

    __slots__ = ("changes", "columns", "decltypes", "is_read", "lastrowid", "rows")

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        decltypes: Sequence[str | None] = (),
        rows: Sequence[tuple[Any, ...]] = (),
        *,
        lastrowid: int = 0,
        changes: int = 0,
        is_read: bool = False,
    ) -> None:
        self.columns = columns
        self.decltypes = decltypes
        self.rows = rows
        self.lastrowid = lastrowid
        self.changes = changes
        self.is_read = is_read

    def __repr__(self) -> str:
        return f"<Result columns={self.columns} rows={len(self.rows)} changes={self.changes}>"


@dataclass(slots=True)
class Command:
    """One call of `execute`, `executemany` or `executescript`, with everything bound."""

    statement: Statement
    form: Form
    rows: Sequence[Sequence[SqlValue]]
    """The parameters; one row unless the form is MANY."""
    level: ReadLevel = ReadLevel.WEAK
    freshness_s: float = 0.0
    texts: Sequence[str] = ()
    """The statements of a SCRIPT."""
    probed: Statement | None = None
    """This one is only compiled: the error that it may end with is all that is of interest."""
    answer: Result | None = None
    """Nobody need be asked."""

    @property
    def is_read(self) -> bool:
        """Asked for as a read: the server refuses to write, so it may be sent again."""
        return self.statement.is_read and self.form is Form.ONE

    @property
    def is_vacuum(self) -> bool:
        """Has every node write its database anew; only what must write may ask for it."""
        return self.statement.first_word == "VACUUM"


_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_loads = json.JSONDecoder().decode
_BARE = frozenset((int, str, type(None)))


def path_of(command: Command) -> str:
    """Where the command goes, with the flags of its form."""
    if command.form is Form.MANY:
        return "/db/request?typed&compact&many"
    if command.form is Form.SCRIPT:
        return "/db/request?typed&compact&transaction"
    if command.is_vacuum:
        return "/db/execute?typed&compact"
    return "/db/query?typed&compact" if command.is_read else "/db/request?typed&compact"


def body_of(command: Command) -> bytes:
    """The request's body."""
    if command.form is Form.SCRIPT:
        return _dumps(command.texts).encode()
    sql = command.statement.text
    if command.form is Form.MANY:
        text = _dumps([sql, *_tagged_rows(command.rows)])
    else:
        (row,) = command.rows
        text = _dumps([[sql, *_tagged(row)]])
    return text.encode()


def _tagged_rows(rows: Sequence[Sequence[SqlValue]]) -> Sequence[Sequence[Any]]:
    kinds = {type(value) for row in rows for value in row}
    return rows if kinds <= _BARE else [_tagged(row) for row in rows]


def _tagged(row: Sequence[SqlValue]) -> Sequence[Any]:
    for value in row:
        if type(value) not in _BARE:
            return [_tag(value) for value in row]
    return row


def _tag(value: SqlValue) -> Any:
    if type(value) is bytes:
        return {"type": "blob", "base64": b64encode(value).decode("ascii")}
    if type(value) is float and math.isinf(value):
        return {"type": "float", "value": "Infinity" if value > 0 else "-Infinity"}
    return value


def result_of(body: bytes) -> Result:
    """The result in an answer's body, or the exception in it."""
    text = body.decode("utf-8")
    items: list[dict[str, Any]] = _loads(text)["results"]
    if len(items) != 1:
        return _total(items)
    item = items[0]
    if "error" in item:
        raise sql_error(item["error"], item["code"], item["name"])
    columns = item.get("columns")
    if columns is None:
        return Result(lastrowid=item["last_insert_id"], changes=item["rows_affected"])
    values = item["values"]
    # A BLOB or an infinity among the values shows by this, which text can hold only escaped.
    rows = list(map(_untagged, values)) if '{"type":' in text else list(map(tuple, values))
    is_read = "last_insert_id" not in item
    return Result(
        columns,
        item["decltypes"],
        rows,
        lastrowid=item.get("last_insert_id", 0),
        changes=item.get("rows_affected", 0),
        is_read=is_read,
    )


def _total(items: list[dict[str, Any]]) -> Result:
    """What the statements of a script did together; the first failure ended them."""
    total = Result()
    for item in items:
        if "error" in item:
            raise sql_error(item["error"], item["code"], item["name"])
        total.changes += item.get("rows_affected", 0)
        total.lastrowid = item.get("last_insert_id", 0) or total.lastrowid
    return total


def top_level_error(body: bytes) -> str | None:
    """The error of a request that failed as a whole and was answered with status 200."""
    if not body.startswith(b'{"results":[],"error":'):
        return None
    error = _loads(body.decode("utf-8", "replace"))["error"]
    return str(error)


def _untagged(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([_untag(cell) if type(cell) is dict else cell for cell in row])


def _untag(cell: dict[str, Any]) -> SqlValue:
    if cell["type"] == "blob":
        text = cell["base64"]
        return b64decode(text + "=" * (-len(text) % 4))
    if cell["type"] == "float":
        return math.inf if cell["value"] == "Infinity" else -math.inf
    raise OperationalError(f"the server answered with a value of unknown type {cell['type']!r}")
