"""Constructors and type objects."""

from __future__ import annotations

import sqlite3

import pytest
from rsqlite_client import pep249


@pytest.mark.parametrize("name", ["DateFromTicks", "TimeFromTicks", "TimestampFromTicks"])
@pytest.mark.parametrize("ticks", [0, 1_000_000_000.5, 1_796_059_831.912635])
def test_ticks_are_read_as_sqlite3_does(name: str, ticks: float) -> None:
    assert getattr(pep249, name)(ticks) == getattr(sqlite3, name)(ticks)


def test_constructors_are_those_of_sqlite3() -> None:
    for name in ("Binary", "Date", "Time", "Timestamp", "complete_statement"):
        assert getattr(pep249, name) is getattr(sqlite3, name)
    for name in ("apilevel", "paramstyle"):
        assert getattr(pep249, name) == getattr(sqlite3, name)


def test_type_objects_know_declared_types() -> None:
    assert pep249.STRING == "varchar(10)"
    assert pep249.NUMBER == "INTEGER"
    assert pep249.DATETIME == " timestamp"
    assert pep249.BINARY != "TEXT"
    assert pep249.ROWID != pep249.NUMBER
    objects = [pep249.STRING, pep249.BINARY, pep249.NUMBER, pep249.DATETIME, pep249.ROWID]
    assert len(set(objects)) == 5
    assert repr(pep249.BINARY) == "<TypeObject ['BLOB']>"
