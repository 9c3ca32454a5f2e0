"""Row does what sqlite3.Row does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from rsqlite_client.row import Row

COLUMNS = ("a", "B", "a")


class Described:
    description = tuple((name, None, None, None, None, None, None) for name in COLUMNS)


def ours(values: tuple[Any, ...] = (1, 2, 3)) -> Row:
    return Row(Described(), values)


def theirs() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row: sqlite3.Row = connection.execute("SELECT 1 AS a, 2 AS B, 3 AS a").fetchone()
    connection.close()
    return row


QUESTIONS: list[Callable[[Any], Any]] = [
    lambda row: row["A"],
    lambda row: row["b"],
    lambda row: row["x"],
    lambda row: row[0],
    lambda row: row[True],
    lambda row: row[-1],
    lambda row: row[3],
    lambda row: row[1.0],
    lambda row: row[None],
    lambda row: row[2**80],
    lambda row: row[0:2],
    lambda row: row.keys(),
    lambda row: dict(row),
    lambda row: list(row),
    lambda row: list(reversed(row)),
    len,
    lambda row: row == (1, 2, 3),
    lambda row: 2 in row,
    lambda row: isinstance(row, Sequence),
    lambda row: row < row,
]


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_it_answers_as_sqlite3_row_does(number: int) -> None:
    question = QUESTIONS[number]

    def answer(row: Any) -> Any:
        try:
            return question(row)
        except Exception as error:  # noqa: BLE001 - it is compared
            text = str(error).replace("sqlite3.Row", "Row")
            return type(error), text

    assert answer(ours()) == answer(theirs())


def test_equal_rows_have_equal_names_and_hashes() -> None:
    assert ours() == ours()
    assert hash(ours()) == hash(ours())
    assert ours() != ours((1, 2, 4))


def test_it_is_made_of_a_tuple() -> None:
    with pytest.raises(TypeError, match="must be tuple, not list"):
        Row(Described(), [1])
