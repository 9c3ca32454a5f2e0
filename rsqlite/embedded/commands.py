"""The client's commands as a node's requests, and a node's answers as the client's results.

Loaded with the first node, for it needs what nodes need.
"""

from __future__ import annotations

from typing import Any

from rsqlite_client.errors import (
    AMBIGUOUS_ADVICE,
    AmbiguousResultError,
    AppliedError,
    DataError,
    OperationalError,
    sql_error,
)
from rsqlite_client.local import NotApplied, Reply
from rsqlite_client.proto import Command, Form, Result

from rsqlite.errors import Fate, NodeFault, RequestError, RequestTooLarge, RsqliteError, Stopped
from rsqlite.request import Failure, Outcome, ReadLevel, Request, RequestKind, Rows

_LEVELS = {level.name.lower(): level for level in ReadLevel}


def request_of(command: Command) -> Request:
    """A command as nodes have it."""
    if command.form is Form.SCRIPT:
        sqls = list(command.texts)
        return Request(RequestKind.MIXED, sqls, [None] * len(sqls), transaction=True)
    parameters: list[Any] = [list(row) for row in command.rows]
    sqls = [command.statement.text] * len(parameters)
    if command.form is Form.MANY:
        return Request(RequestKind.MIXED, sqls, parameters, transaction=True)
    kind = RequestKind.QUERY if command.is_read else RequestKind.MIXED
    if command.is_vacuum:
        kind = RequestKind.EXECUTE
    return Request(
        kind,
        sqls,
        parameters,
        level=_LEVELS[command.level.value],
        freshness_s=command.freshness_s,
    )


def reply_of(outcome: Outcome, command: Command) -> Reply:
    """What a node answered, as the client has it."""
    results = outcome.results
    for result in results:
        if isinstance(result, Failure):
            return sql_error(result.message, result.code, result.name)
    if command.form is Form.ONE and len(results) == 1:
        (only,) = results
        if isinstance(only, Rows):
            return Result(
                only.columns,
                only.decltypes,
                only.rows,
                lastrowid=only.last_insert_rowid,
                changes=only.changes,
                is_read=only.is_read,
            )
    total = Result()
    for result in results:
        assert not isinstance(result, Failure)
        total.changes += result.changes
        total.lastrowid = result.last_insert_rowid or total.lastrowid
    return total


def error_of(error: RsqliteError, command: Command) -> Exception:
    """Why a node could not do it, as the client says it."""
    text = str(error)
    if error.fate is Fate.APPLIED:
        return AppliedError(f"the write was applied, but its result cannot be given: {text}")
    if error.fate is Fate.UNKNOWN and not command.is_read:
        return AmbiguousResultError(f"{text}; {AMBIGUOUS_ADVICE}")
    if isinstance(error, RequestTooLarge):
        return DataError(text)
    if isinstance(error, RequestError | Stopped | NodeFault):
        return OperationalError(text)
    return NotApplied(text)
