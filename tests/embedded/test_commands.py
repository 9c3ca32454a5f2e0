"""Commands as requests, and answers as results."""

from __future__ import annotations

import pytest
from rsqlite_client.errors import (
    AmbiguousResultError,
    AppliedError,
    DataError,
    IntegrityError,
    OperationalError,
)
from rsqlite_client.local import NotApplied
from rsqlite_client.proto import Command, Form, ReadLevel, Result
from rsqlite_client.statement import Statement

from rsqlite import errors
from rsqlite.embedded.commands import error_of, reply_of, request_of
from rsqlite.errors import Fate
from rsqlite.request import Failure, Outcome, RequestKind, Rows, Write
from rsqlite.request import ReadLevel as NodeLevel

WRITE = Command(Statement("INSERT INTO t VALUES(?)"), Form.ONE, ((1,),))
READ = Command(Statement("SELECT ?"), Form.ONE, ((1,),), ReadLevel.STRONG, 2.0)
MANY = Command(Statement("INSERT INTO t VALUES(?)"), Form.MANY, ((1,), [2]))
SCRIPT = Command(Statement(""), Form.SCRIPT, (), texts=["a", "b"])


def test_requests() -> None:
    request = request_of(READ)
    assert (request.kind, request.sqls, request.parameters) == (
        RequestKind.QUERY,
        ["SELECT ?"],
        [[1]],
    )
    assert (request.level, request.freshness_s) == (NodeLevel.STRONG, 2.0)
    assert not request.transaction
    request = request_of(WRITE)
    assert (request.kind, request.transaction) == (RequestKind.MIXED, False)
    request = request_of(MANY)
    assert (request.sqls, request.parameters) == (["INSERT INTO t VALUES(?)"] * 2, [[1], [2]])
    assert request.transaction
    request = request_of(SCRIPT)
    assert (request.sqls, request.parameters, request.transaction) == (["a", "b"], [None] * 2, True)


def test_results() -> None:
    reply = reply_of(Outcome([Rows(["a"], ["INT"], [(1,)])]), READ)
    assert isinstance(reply, Result)
    assert (reply.columns, reply.decltypes, reply.rows, reply.is_read) == (
        ["a"],
        ["INT"],
        [(1,)],
        True,
    )
    reply = reply_of(Outcome([Rows(["a"], [None], [(1,)], False, 5, 2)]), WRITE)
    assert isinstance(reply, Result)
    assert (reply.rows, reply.lastrowid, reply.changes, reply.is_read) == ([(1,)], 5, 2, False)
    reply = reply_of(Outcome([Write(4, 1), Write(0, 2)]), MANY)
    assert isinstance(reply, Result)
    assert (reply.columns, reply.lastrowid, reply.changes) == (None, 4, 3)
    reply = reply_of(Outcome([]), WRITE)
    assert isinstance(reply, Result)
    assert (reply.columns, reply.changes) == (None, 0)
    reply = reply_of(Outcome([Write(4, 1), Failure("no", 19, "SQLITE_CONSTRAINT")]), SCRIPT)
    assert isinstance(reply, IntegrityError)


@pytest.mark.parametrize(
    ("error", "of_write", "of_read"),
    [
        (errors.NoLeader(), NotApplied, NotApplied),
        (errors.StaleRead(), NotApplied, NotApplied),
        (errors.Overloaded("full"), NotApplied, NotApplied),
        (errors.LeadershipLost(), AmbiguousResultError, NotApplied),
        (errors.TimedOut("late", fate=Fate.APPLIED), AppliedError, AppliedError),
        (errors.RequestTooLarge("large"), DataError, DataError),
        (errors.StatementRefused("no"), OperationalError, OperationalError),
        (errors.Stopped("stopping"), OperationalError, OperationalError),
        (errors.DiskFault("disk"), OperationalError, OperationalError),
    ],
)
def test_errors(error: errors.RsqliteError, of_write: type, of_read: type) -> None:
    assert type(error_of(error, WRITE)) is of_write
    assert type(error_of(error, READ)) is of_read
