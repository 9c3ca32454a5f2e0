"""Parameters are bound as sqlite3 binds them, with its errors."""

from __future__ import annotations

import sqlite3
from collections import UserDict, UserList, deque
from decimal import Decimal
from typing import Any

import pytest
from rsqlite_client import binding
from rsqlite_client.binding import PrepareProtocol, adapt, bind, bind_many, register_adapter
from rsqlite_client.errors import ProgrammingError
from rsqlite_client.statement import Statement


class Whole(int):
    def __int__(self) -> int:
        return -1


class Words(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"


class Default(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"no {key}"


class Pair:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: Any) -> str:
        if place == 2:
            raise IndexError
        return f"at {place}"


class Failing(Pair):
    def __getitem__(self, place: Any) -> str:
        raise ValueError("no such place")


class Conforming:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __conform__(self, protocol: Any) -> Any:
        return self.value if protocol is sqlite3.PrepareProtocol else "another protocol"


CASES: list[tuple[str, Any]] = [
    ("?", (1,)),
    ("?", [2.5]),
    ("?", ("text",)),
    ("?", (b"bytes",)),
    ("?", (None,)),
    ("?", (True,)),
    ("?", (Whole(7),)),
    ("?", (Words("seven"),)),
    ("?", (float("nan"),)),
    ("?", (float("-inf"),)),
    ("?", (bytearray(b"x"),)),
    ("?", (memoryview(b"xyz"),)),
    ("?", (2**63 - 1,)),
    ("?", (-(2**63),)),
    ("?", (2**63,)),
    ("?", (-(2**63) - 1,)),
    ("?", ("\ud800",)),
    ("?", (object(),)),
    ("?, ?", (1, object())),
    ("?", ()),
    ("?", (1, 2)),
    ("?2", (1, 2)),
    ("?2, ?", (1, 2, 3)),
    ("?", "x"),
    ("?", b"x"),
    ("?", range(1)),
    ("?", UserList([1])),
    ("?", deque([1])),
    ("?, ?", Pair()),
    ("?, ?", Failing()),
    ("?", iter([1])),
    ("?", {1}),
    ("?", None),
    ("?", 5),
    ("?", {"a": 1}),
    ("?1", {"1": "one"}),
    ("?2", {"1": "one", "2": "two"}),
    (":a, @a, $a", {"a": 1}),
    (":a", {"a": 1, "b": object()}),
    (":a", {}),
    (":a", {"A": 1}),
    (":a", Default(b=1)),
    (":a", {"a": object()}),
    (":a", {"a": 2**64}),
    ("?", (Conforming(5),)),
    ("?", (Conforming(None),)),
    ("?", (Conforming(Conforming(5)),)),
    ("1", ()),
    ("1", {}),
    ("1", {"a": 1}),
]


# The first releases of Python 3.12 warn of ?1, too (gh-117995), which has no name.
@pytest.mark.filterwarnings("ignore:Binding . .'[?]:DeprecationWarning")
@pytest.mark.parametrize("number", range(len(CASES)))
def test_as_sqlite3_binds_it(number: int) -> None:
    sql, parameters = CASES[number]
    statement = Statement(f"SELECT {sql}")

    def outcome(answer: Any) -> Any:
        try:
            return [(value, type(value)) for value in answer()]
        except sqlite3.Error as error:
            return type(error).__name__, str(error)
        except Exception as error:  # noqa: BLE001 - it is compared
            return type(error), str(error)

    def ours() -> Any:
        numbers = {name or "?": place for place, name in enumerate(statement.names)}
        bound = bind(statement, parameters)
        wanted = [one.strip() for one in sql.split(",")]
        if wanted == ["?"] * len(wanted):
            return bound
        if wanted == ["1"]:
            return [1]
        return [bound[numbers[name]] for name in wanted if name in numbers]

    def theirs() -> Any:
        connection = sqlite3.connect(":memory:")
        try:
            return connection.execute(statement.text, parameters).fetchone()
        finally:
            connection.close()

    assert outcome(ours) == outcome(theirs)


def test_a_mapping_of_any_kind_has_names() -> None:
    """sqlite3 takes it for a sequence, and fails with KeyError: 0."""
    assert bind(Statement("SELECT :a"), UserDict(a=1)) == [1]


def test_many_rows_are_as_good_as_each() -> None:
    statement = Statement("INSERT INTO t VALUES(?,?)")
    plain = [(1, "é"), [2, None], (3.5, b"x")]
    bound = bind_many(statement, iter(plain))
    assert bound == [tuple(row) for row in plain]
    assert bind_many(statement, [(1, float("nan")), (True, bytearray(b"y"))]) == [
        [1, None],
        [1, b"y"],
    ]
    for bad in ((1,), (1, 2**63), ("\ud800", 1), (1, object()), 7):
        with pytest.raises((ProgrammingError, OverflowError, UnicodeEncodeError)):
            bind_many(statement, [(1, 1), bad])
    named = Statement("INSERT INTO t VALUES(:a,:b)")
    assert bind_many(named, [{"a": 1, "b": 2}]) == [[1, 2]]


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "_adapters", {})


@pytest.mark.usefixtures("adapters")
def test_adapters_are_asked_by_the_exact_type() -> None:
    statement = Statement("SELECT ?")
    register_adapter(Decimal, str)
    assert bind(statement, (Decimal("1.50"),)) == ["1.50"]
    register_adapter(int, lambda value: f"int {value}")
    assert bind(statement, (5,)) == ["int 5"]
    assert bind_many(statement, [(5,)]) == [["int 5"]]
    assert bind(statement, (True,)) == [1]
    register_adapter(float, lambda value: None)
    assert bind(statement, (1.5,)) == [None]
    register_adapter(complex, lambda value: value)
    with pytest.raises(ProgrammingError, match="type 'complex' is not supported"):
        bind(statement, (1j,))


@pytest.mark.usefixtures("adapters")
def test_adapt() -> None:
    register_adapter(Decimal, str)
    assert adapt(Decimal(1)) == "1"
    assert adapt(Conforming(3), PrepareProtocol) == 3
    assert adapt(5, PrepareProtocol, "none") == "none"
    with pytest.raises(ProgrammingError, match="can't adapt"):
        adapt(object())


def test_what_is_bound_is_a_copy() -> None:
    row = [1, 2]
    statement = Statement("SELECT ?, ?")
    one, (many,) = bind(statement, row), bind_many(statement, [row])
    row[0] = 5
    assert (one, many) == ((1, 2), (1, 2))
