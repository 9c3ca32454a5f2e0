"""Converters and text factories get what those of sqlite3 get."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsqlite_client import converting
from rsqlite_client.converting import (
    as_bytes,
    column_names,
    converted,
    converters_of,
    register_converter,
)

NAMES = [
    "x",
    "x [foo]",
    "x[foo]",
    "x  [foo]",
    "[foo]",
    "x [foo] y",
    "x [bar",
    "x [bar] [foo]",
    "x [bar [foo]",
    "a] [b",
    "x []",
    "x [FOO]",
]
DECLTYPES = ["foo", "FOO(3)", "foo bar", "fool", "", "[foo]"]


def mark(value: bytes) -> Any:
    return ("converted", value)


@pytest.fixture
def converters(monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Both modules with the same converters, and a connection of sqlite3."""
    monkeypatch.setattr(converting, "_converters", {})
    for name in ("foo", ""):
        register_converter(name, mark)
        sqlite3.register_converter(name, mark)
    yield sqlite3.connect(":memory:")
    for name in ("FOO", ""):
        del sqlite3.converters[name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("detect_types", [0, 1, 2, 3])
def test_columns_are_read_as_sqlite3_does(
    converters: sqlite3.Connection, detect_types: int
) -> None:
    connection = sqlite3.connect(":memory:", detect_types=detect_types)
    try:
        for number, declared in enumerate(DECLTYPES):
            connection.execute(f'CREATE TABLE t{number}(c "{declared}")')
            connection.execute(f"INSERT INTO t{number} VALUES(7)")
            for name in NAMES:
                cursor = connection.execute(f'SELECT c AS "{name}", NULL FROM t{number}')
                found = converters_of([name, "NULL"], [declared, None], detect_types)
                assert cursor.description[0][0] == column_names([name], detect_types)[0]
                assert cursor.fetchall() == converted([(7, None)], found, str), (name, declared)
    finally:
        connection.close()
        converters.close()


@given(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        st.binary(),
    )
)
def test_a_value_becomes_the_bytes_that_sqlite_makes_of_it(value: Any) -> None:
    found = as_bytes(value)
    if type(value) is float and value != float(f"{value:.15g}"):
        # SQLite of before 3.43 has 15 digits and drops the others.
        assert float(found) == value
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        (wanted,) = connection.execute("SELECT CAST(? AS BLOB)", (value,)).fetchone()
    assert found == wanted


def test_text_factories() -> None:
    rows = [("a", 1, b"\0", None)]
    none = [None] * 4
    assert converted(rows, none, str) == rows
    assert converted(rows, none, bytes) == [(b"a", 1, b"\0", None)]
    assert converted(rows, none, lambda text: (text,)) == [((b"a",), 1, b"\0", None)]
