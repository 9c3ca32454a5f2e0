"""SQLite's codes become the classes that sqlite3 has for them."""

from __future__ import annotations

import sqlite3

import pytest
from rsqlite_client import errors
from rsqlite_client.errors import class_of, sql_error

NAMES = [
    "Warning",
    "Error",
    "InterfaceError",
    "DatabaseError",
    "DataError",
    "OperationalError",
    "IntegrityError",
    "InternalError",
    "ProgrammingError",
    "NotSupportedError",
]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (sqlite3.SQLITE_ERROR, "OperationalError"),
        (sqlite3.SQLITE_BUSY, "OperationalError"),
        (sqlite3.SQLITE_FULL, "OperationalError"),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, "IntegrityError"),
        (sqlite3.SQLITE_MISMATCH, "IntegrityError"),
        (sqlite3.SQLITE_TOOBIG, "DataError"),
        (sqlite3.SQLITE_RANGE, "InterfaceError"),
        (sqlite3.SQLITE_INTERNAL, "InternalError"),
        (sqlite3.SQLITE_AUTH, "DatabaseError"),
        (sqlite3.SQLITE_CORRUPT, "DatabaseError"),
    ],
)
def test_the_class_of_a_code(code: int, name: str) -> None:
    assert class_of(code).__name__ == name
    error = sql_error("text", code, "SQLITE_X")
    assert isinstance(error, getattr(sqlite3, name))
    assert (error.sqlite_errorcode, error.sqlite_errorname, str(error)) == (
        code,
        "SQLITE_X",
        "text",
    )


def test_every_class_is_caught_as_that_of_sqlite3_and_as_ours() -> None:
    for name in NAMES:
        kind = getattr(errors, name)
        assert issubclass(kind, getattr(sqlite3, name))
        if name != "Warning":
            assert issubclass(kind, errors.Error)
    assert issubclass(errors.IntegrityError, errors.DatabaseError)


def test_what_became_of_a_write_is_told() -> None:
    assert errors.UnavailableError.fate == "not applied"
    assert errors.AmbiguousResultError.fate == "unknown"
    assert errors.AppliedError.fate == "applied"
    for kind in (errors.UnavailableError, errors.AmbiguousResultError, errors.AppliedError):
        assert issubclass(kind, sqlite3.OperationalError)
