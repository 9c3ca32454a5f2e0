"""Statements as a program gives them, copied and checked before anything keeps them.

What runs here and what the log carries to the others must be the same values, and a write may run
for minutes in a thread: so nothing of the caller's is kept that it could change meanwhile, and only
values that SQLite, the log and the links hold alike come in. HTTP has none of these questions: its
parameters are made of bytes, by `server/body.py`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from rsqlite.errors import RequestError
from rsqlite.request import Parameters, SqlValue

Given = Mapping[str, object] | Iterable[object] | None
"""Parameters of one statement: named, positional, or none."""

Statements = Iterable[str | Sequence[Any]]
"""Each an SQL text, or a sequence of a text and its parameters (`Given`)."""

Columns = tuple[list[str], list[Parameters]]
"""SQL texts, and the parameters of each."""

_FORM = "a statement is SQL, or a tuple of SQL and one list, tuple or mapping of parameters"
_VALUES = "a parameter is int, float, str, bytes or None"
_PLAIN = frozenset((str, float, int, bytes, type(None)))
_SEQUENCES = (list, tuple)
_COPIES: dict[type, Callable[[Any], Any]] = {
    list: list.copy,
    tuple: list,
    dict: dict.copy,
    type(None): lambda none: None,
}
_CONTAINERS = _COPIES.keys()
_TEXTS = (str, bytes, bytearray, memoryview)
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1


def columns(statements: Statements) -> Columns:
    """The statements in columns, as `Request` keeps them. RequestError names what is wrong."""
    if isinstance(statements, _TEXTS):
        raise RequestError(f"statements are given as a list; {_FORM}")
    sqls: list[str] = []
    given: list[Any] = []
    for statement in statements:
        if isinstance(statement, str):
            sqls.append(statement)
            given.append(None)
        elif isinstance(statement, _SEQUENCES) and 1 <= len(statement) <= 2:
            sqls.append(statement[0])
            given.append(statement[1] if len(statement) == 2 else None)
        else:
            raise RequestError(f"statement {len(sqls) + 1} is no statement: {_FORM}")
    if not set(map(type, sqls)) <= {str} or not _is_unicode(sqls):
        sqls = [_sql(sql, number) for number, sql in enumerate(sqls, 1)]
    parameters = _plain(given)
    if parameters is None:
        count = len(given)
        parameters = [_parameters(one, number, count) for number, one in enumerate(given, 1)]
    return sqls, parameters


def _plain(given: list[Any]) -> list[Parameters] | None:
    """Copies, when nothing in them needs a look of its own, or None. The set of all types tells
    that of thousands of statements at a small part of the price."""
    kinds = set(map(type, given))
    if not kinds <= _CONTAINERS:
        return None
    copies: list[Any] = [_COPIES[type(one)](one) for one in given]
    values = copies
    if type(None) in kinds:
        values = [one for one in values if one is not None]
    names: list[Any] = []
    if dict in kinds:
        named = [one for one in values if type(one) is dict]
        names = list(chain.from_iterable(named))
        if not set(map(type, names)) <= {str}:
            return None
        values = [one.values() if type(one) is dict else one for one in values]
    values = list(chain.from_iterable(values))
    kinds = set(map(type, values))
    if not kinds <= _PLAIN:
        return None
    if int in kinds and not _are_64_bits([value for value in values if type(value) is int]):
        return None
    if str in kinds:
        names += [value for value in values if type(value) is str]
    return copies if _is_unicode(names) else None


def _are_64_bits(values: list[int]) -> bool:
    try:
        array("q", values)
    except OverflowError:
        return False
    return True


def _is_unicode(texts: list[str]) -> bool:
    """Can all of them be UTF-8? Lone surrogates cannot."""
    try:
        for text in texts:
            if not text.isascii():
                text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _sql(sql: object, number: int) -> str:
    if not isinstance(sql, str):
        raise RequestError(f"the SQL of statement {number} is of type {_type(sql)}: {_FORM}")
    return _text(sql, f"the SQL of statement {number}")


def _parameters(given: object, number: int, count: int) -> Parameters:
    """A copy that is a list, a dictionary or None, of plain values."""
    where = f" of statement {number}" if count > 1 else ""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {
            _name(name, where): _value(value, f"parameter {name!r}{where}")
            for name, value in dict(given).items()
        }
    if isinstance(given, (*_TEXTS, set, frozenset)) or not isinstance(given, Iterable):
        raise RequestError(
            f"the parameters{where} are of type {_type(given)}: pass them in a list, a tuple or a "
            "mapping"
        )
    return [_value(value, f"parameter {place}{where}") for place, value in enumerate(given, 1)]


def _name(name: object, where: str) -> str:
    if not isinstance(name, str):
        raise RequestError(f"the name {name!r} of a parameter{where} is no str")
    return _text(name, f"the name {name!r} of a parameter{where}")


def _value(value: object, what: str) -> SqlValue:
    """The plain value that SQLite would store for `value`."""
    if value is None or type(value) is float or type(value) is bytes:
        return value
    if isinstance(value, str):
        return _text(value, what)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _blob(value, what)
    # Also numbers that are no int but stand for one, such as those of numpy.
    if isinstance(value, int) or hasattr(type(value), "__index__"):
        return _integer(value, what)
    raise RequestError(f"{what} is of type {_type(value)}: {_VALUES}")


def _integer(value: Any, what: str) -> int:
    number = int.__index__(value if isinstance(value, int) else type(value).__index__(value))
    if not _INTEGER_MIN <= number <= _INTEGER_MAX:
        raise RequestError(f"{what} is an integer of more than 64 bits")
    return number


def _text(value: str, what: str) -> str:
    text = str.__str__(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{what} cannot be UTF-8: a lone surrogate at character {error.start + 1}"
        ) from error
    return text


def _blob(value: bytes | bytearray | memoryview, what: str) -> bytes:
    try:
        return bytes(memoryview(value))
    except ValueError as error:
        raise RequestError(f"{what} is a memoryview without its bytes: {error}") from error


def _type(value: object) -> str:
    return type(value).__name__
