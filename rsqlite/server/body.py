"""The body of a request: statements and their parameters in columns (rqlite.md 2.3).

A body is a JSON array whose items are SQL strings or arrays of an SQL string and its parameters.
Nesting needs no scan of its own: orjson stops at 1,024 levels, and whatever is nested deeper than
this grammar (four levels) is refused here by its type.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson

from rsqlite.errors import RequestError, RequestTooLarge

Columns = tuple[list[str], list[Any]]
"""SQL texts, and for each its positional list, named dictionary or None."""

INVALID_JSON = "invalid JSON body"
INVALID_REQUEST = "invalid request"
NO_STATEMENTS = "no statements"

_INTEGER_MAX = 2**63 - 1
_BULK_FROM = 8
_PLAIN = frozenset((str, float, int, type(None)))
_DIGITS_ONLY = bytes(ord("0") if chr(i).isdecimal() and i < 128 else ord(" ") for i in range(256))
_LONG_DIGITS = b"0" * len(str(2**63))
_HEX_ENDS = frozenset("' \t\n\v\f\r\x85\xa0")
"""The quote, and white space that is trimmed first."""
_LISTS = {list}
_STRINGS = {str}
_FIRST = itemgetter(0)
_TRAILING = "unexpected content after document"


def text_statement(body: bytes) -> Columns:
    """The one statement of a text/plain body."""
    try:
        return [body.decode("utf-8")], [None]
    except UnicodeDecodeError as error:
        raise RequestError(f"the SQL is not valid UTF-8 at byte {error.start}") from error


def json_statements(
    body: bytes, statements_max: int, convert: Callable[[list[Any]], Any] | None = None
) -> Columns:
    """The statements of a JSON body. `convert` makes parameters of what follows the SQL in a
    statement's array; without it, plain JSON values are taken as rqlite takes them."""
    items = checked_items(body, statements_max)
    if convert is None:
        if len(items) >= _BULK_FROM:
            columns = _bulk_statements(items, body)
            if columns is not None:
                return columns
        convert = plain_parameters
    sqls: list[str] = []
    parameters: list[Any] = []
    for item in items:
        if type(item) is list and item:
            sql = item[0]
            parameters.append(convert(item[1:]) if len(item) > 1 else None)
        else:
            sql = item
            parameters.append(None)
        if type(sql) is not str:
            raise RequestError(INVALID_REQUEST)
        sqls.append(sql)
    return sqls, parameters


def checked_items(body: bytes, count_max: int) -> list[Any]:
    """The array in a body, which is not empty."""
    items = _loads(body)
    if type(items) is not list:
        raise RequestError(INVALID_REQUEST)
    if not items:
        raise RequestError(NO_STATEMENTS)
    if len(items) > count_max:
        raise RequestTooLarge(f"{len(items)} statements, at most {count_max} are accepted")
    return items


def _bulk_statements(items: list[Any], body: bytes) -> Columns | None:
    """The statements of a large body whose parameters need no conversion, or None.

    Looking at each parameter of a bulk insert in turn costs four times what orjson takes. Whether
    there is something to convert shows more cheaply: by the set of all types, by quotes (x'hex')
    and by a run of digits that could be an integer beyond 64 bits. A string that looks like one of
    these only loses the short way.
    """
    if set(map(type, items)) != _LISTS or not all(items):
        return None
    kinds = set(map(type, chain.from_iterable(items)))
    if not kinds <= _PLAIN:
        return None
    if b"'" in body and (b"x'" in body or b"X'" in body):
        return None
    if b"\\" in body and b"\\u" in body:
        return None
    if int in kinds and _LONG_DIGITS in body.translate(_DIGITS_ONLY):
        return None
    if set(map(type, map(_FIRST, items))) != _STRINGS:
        return None
    # What is left of each item is its parameters: a copy of all would take twice as long.
    sqls = [item.pop(0) for item in items]
    return sqls, items if all(items) else [item or None for item in items]


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not error.msg.startswith(_TRAILING):
            raise RequestError(INVALID_JSON) from error
        position = error.pos
    # rqlite stops reading at the end of the first value. The position counts characters.
    return orjson.loads(body.decode("utf-8")[:position])


def plain_parameters(values: list[Any]) -> list[Any] | dict[str, Any]:
    """Parameters from plain JSON values: scalars, arrays of 0 to 255 (BLOBs), and objects, whose
    members are named parameters."""
    converted = []
    for value in values:
        kind = type(value)
        if kind is str:
            # Most strings do not end like x'hex'.
            if value[-1:] in _HEX_ENDS:
                value = _hex_or_text(value)
        elif kind is dict:
            return merge_named(values, plain_value)
        elif kind is not float and value is not None:
            value = plain_value(value)
        converted.append(value)
    return converted


def merge_named(values: list[Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    """The members of all objects in `values` as one dictionary of named parameters."""
    named: dict[str, Any] = {}
    for value in values:
        if type(value) is not dict:
            raise RequestError("positional and named parameters cannot be mixed in one statement")
        for name, member in value.items():
            named[name] = convert(member)
    return named


def plain_value(value: Any) -> Any:
    """The SQL value of one JSON value."""
    kind = type(value)
    if kind is str:
        return _hex_or_text(value)
    if kind is int:
        # JSON integers that do not fit become REAL, as in rqlite; orjson leaves those that fit
        # 64 bits without a sign.
        return value if value <= _INTEGER_MAX else float(value)
    if kind is float or value is None:
        return value
    if kind is bool:
        return int(value)
    if kind is list:
        return _blob(value)
    raise RequestError("unsupported type")


def _hex_or_text(text: str) -> str | bytes:
    trimmed = text.strip()
    if len(trimmed) < 3 or trimmed[:2] not in ("x'", "X'") or trimmed[-1] != "'":
        return text
    try:
        return unhexlify(trimmed[2:-1])
    except ValueError:
        # Not hexadecimal after all: it stays text, as in rqlite.
        return text


def _blob(values: list[Any]) -> bytes:
    if any(type(value) is not int for value in values):
        raise RequestError("unsupported type: an array must hold integers from 0 to 255")
    try:
        return bytes(values)
    except ValueError as error:
        raise RequestError("invalid number: an array must hold integers from 0 to 255") from error
