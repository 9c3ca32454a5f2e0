"""What a program gives is copied, and only values come in that every node holds alike."""

from __future__ import annotations

import enum
from collections import OrderedDict, UserDict, UserString
from collections.abc import Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import apsw
import pytest

from rsqlite.errors import RequestError
from rsqlite.node.statements import columns

SQL = "INSERT INTO t VALUES(?)"


class Number:
    """As numpy's integers: no int, but it stands for one."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Pair(NamedTuple):
    a: int
    b: int


class Word(str, enum.Enum):  # noqa: UP042 - a StrEnum's value is its text
    """Its text and its value differ."""

    def __new__(cls, text: str, number: int) -> Word:
        made = str.__new__(cls, text)
        made._value_ = number  # type: ignore[assignment]
        return made

    ONE = ("one", 1)


class Level(enum.IntEnum):
    HIGH = 3


class Real(float):
    def __float__(self) -> float:
        return 0.0


class Bytes(bytes):
    pass


def given(parameters: Any) -> Any:
    """What becomes of the parameters of one statement."""
    sqls, (copy,) = columns([(SQL, parameters)])
    assert sqls == [SQL]
    return copy


@pytest.mark.parametrize("parameters", [[1, "x"], {"a": 1, "b": "x"}])
def test_nothing_of_the_callers_is_kept(parameters: Any) -> None:
    copy = given(parameters)
    assert copy == parameters
    assert copy is not parameters
    blob = bytearray(b"abc")
    (kept,) = given([blob])
    blob[0] = 0
    assert kept == b"abc"


@pytest.mark.parametrize(
    "parameters",
    [
        {"v": 5},
        MappingProxyType({"v": 5}),
        UserDict(v=5),
        OrderedDict(v=5),
        UserDict({Text("v"): 5}),
    ],
)
def test_every_mapping_is_a_dictionary(parameters: Any) -> None:
    copy = given(parameters)
    assert copy == {"v": 5}
    assert type(copy) is dict
    assert set(map(type, copy)) == {str}


@pytest.mark.parametrize(
    "parameters",
    [
        [7, 8],
        (7, 8),
        range(7, 9),
        (x for x in (7, 8)),
        {"a": 7, "b": 8}.values(),
        Pair(7, 8),
        map(int, "78"),
    ],
)
def test_every_other_iterable_is_a_list(parameters: Any) -> None:
    copy = given(parameters)
    assert copy == [7, 8]
    assert type(copy) is list


@pytest.mark.parametrize("number", [1, 12])
@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (True, 1),
        (Level.HIGH, 3),
        (Number(7), 7),
        (Number(True), 1),
        (Word.ONE, "one"),
        (Text("abc"), "abc"),
        (Real(1.5), 1.5),
        (Bytes(b"ab"), b"ab"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        ("ä\U0001f600\0", "ä\U0001f600\0"),
        (None, None),
    ],
)
def test_a_value_is_one_of_the_five_types(value: object, plain: object, number: int) -> None:
    _, parameters = columns([(SQL, [value])] * number)
    for (copy,) in parameters:
        assert copy == plain
        assert type(copy) is type(plain)
    (named,) = given({"v": value}).values()
    assert (named, type(named)) == (plain, type(plain))


def released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**63, "is an integer of more than 64 bits"),
        (-(2**63) - 1, "is an integer of more than 64 bits"),
        (Number(2**64), "is an integer of more than 64 bits"),
        ("a\ud800", "a lone surrogate at character 2"),
        (apsw.zeroblob(3), "is of type zeroblob: a parameter is int, float, str, bytes or None"),
        (Decimal(1), "is of type Decimal"),
        (1j, "is of type complex"),
        (object(), "is of type object"),
        ([1], "is of type list"),
        ({"a": 1}, "is of type dict"),
        (UserString("x"), "is of type UserString"),
        (released(), "is a memoryview without its bytes"),
    ],
)
def test_any_other_value_is_refused_by_name_and_type(value: object, text: str) -> None:
    with pytest.raises(RequestError, match=f"^parameter 2 .*{text}"):
        given([1, value])
    with pytest.raises(RequestError, match=f"^parameter 'v' .*{text}"):
        given({"a": 1, "v": value})
    with pytest.raises(RequestError, match=f"^parameter 1 of statement 2 .*{text}"):
        columns([(SQL, [1]), (SQL, [value]), (SQL, [3])])


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ("abc", "the parameters are of type str: pass them in a list"),
        (b"abc", "the parameters are of type bytes"),
        (bytearray(b"abc"), "the parameters are of type bytearray"),
        ({1, 2}, "the parameters are of type set"),
        (7, "the parameters are of type int"),
        ({1: 2}, "the name 1 of a parameter is no str"),
        ({"\udfff": 2}, "lone surrogate at character 1"),
    ],
)
def test_what_holds_no_parameters_is_refused(parameters: Any, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        given(parameters)


def test_statements_are_texts_alone_or_with_their_parameters() -> None:
    def made() -> Iterator[Any]:
        yield "SELECT 1"
        yield ("SELECT 2",)
        yield ["SELECT ?", (3,)]
        yield ("SELECT :v", {"v": 4})
        yield Text("SELECT 5 -- \0")

    sqls, parameters = columns(made())
    assert sqls == ["SELECT 1", "SELECT 2", "SELECT ?", "SELECT :v", "SELECT 5 -- \0"]
    assert parameters == [None, None, [3], {"v": 4}, None]
    assert set(map(type, sqls)) == {str}


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        ("SELECT 1", "statements are given as a list"),
        ([()], "statement 1 is no statement"),
        (["SELECT 1", (SQL, 1, 2)], "statement 2 is no statement: a statement is SQL, or a tuple"),
        ([None], "statement 1 is no statement"),
        ([(b"SELECT 1",)], "the SQL of statement 1 is of type bytes"),
        (["SELECT 1", "SELECT '\ud800'"], "the SQL of statement 2 .* surrogate at character 9"),
    ],
)
def test_what_is_no_statement_is_refused(statements: Any, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        columns(statements)
