"""The body of a request: statements and their parameters in columns (rqlite.md 2.3).

A body is a JSON array whose items are SQL strings or arrays of an SQL string and its parameters.
Nesting needs no scan of its own: orjson stops at 1,024 levels, and whatever is nested deeper than
this grammar (four levels) is refused here by its type.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from typing import Any

import orjson

from rsqlite.errors import RequestError, RequestTooLarge

Columns = tuple[list[str], list[Any]]
"""SQL texts, and for each its positional list, named dictionary or None."""

INVALID_JSON = "invalid JSON body"
INVALID_REQUEST = "invalid request"
NO_STATEMENTS = "no statements"

_INTEGER_MAX = 2**63 - 1
_PLAIN = frozenset((str, float, int, type(None)))
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
    items = _loads(body)
    if type(items) is not list:
        raise RequestError(INVALID_REQUEST)
    if not items:
        raise RequestError(NO_STATEMENTS)
    if len(items) > statements_max:
        raise RequestTooLarge(f"{len(items)} statements, at most {statements_max} are accepted")
    if convert is None:
        convert = plain_parameters
        # Strings that look like x'hex' become BLOBs. A body without these bytes has none, unless
        # an escape hides one; then each string is looked at.
        has_hex = b"x'" in body or b"X'" in body or b"\\u" in body
    else:
        has_hex = True
    sqls: list[str] = []
    parameters: list[Any] = []
    for item in items:
        if type(item) is list and item:
            sql = item[0]
            rest = item[1:]
            if not rest:
                parameters.append(None)
            elif has_hex or not _PLAIN.issuperset(map(type, rest)):
                parameters.append(convert(rest))
            else:
                for value in rest:
                    if type(value) is int and value > _INTEGER_MAX:
                        parameters.append(convert(rest))
                        break
                else:
                    parameters.append(rest)
        else:
            sql = item
            parameters.append(None)
        if type(sql) is not str:
            raise RequestError(INVALID_REQUEST)
        sqls.append(sql)
    return sqls, parameters


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
    if any(type(value) is dict for value in values):
        return merge_named(values, plain_value)
    return [plain_value(value) for value in values]


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
        # The shape is rare and the first test cheap: most strings leave here.
        return value if value.rstrip()[-1:] != "'" else _hex_or_text(value)
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
    if len(trimmed) < 3 or trimmed[0] not in "xX" or trimmed[1] != "'":
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
