"""`typed` on /db/*: values that lose nothing on the way through JSON.

Values are tagged as in libSQL's SQL over HTTP:

    {"type":"null"}
    {"type":"integer","value":"-7"}      decimal digits in a string
    {"type":"float","value":2.5}
    {"type":"text","value":"..."}
    {"type":"blob","base64":"AP8"}       standard alphabet, without padding in answers

Request bodies: a JSON array of statements as always. What follows the SQL in a statement's array is
either tagged values, one for each positional parameter, or objects of named parameters (names
without `:`, `@` or `$`) whose members are tagged values: `["INSERT INTO t VALUES(:a)", {"a":
{"type":"integer","value":"1"}}]`. An object is a tagged value when its `type` is a string. An
integer may also be given as a JSON number; a float must be a JSON number and stays REAL when it is
integral, or the word "Infinity" or "-Infinity"; base64 may be padded or not. What JSON holds
without loss may come without a tag: null, a string (TEXT, whatever it looks like), a number without
a fraction (INTEGER) and one with (REAL). Anything else is a 400.

Answers: the envelope is that of the plain form; each item of `results` is one of

    {"last_insert_id":n,"rows_affected":n}                       a statement without columns
    {"columns":[...],"decltypes":[...],"values":[[...]]}         a read
    {"columns":...,"decltypes":...,"values":...,"last_insert_id":n,"rows_affected":n}    RETURNING
    {"error":"...","code":n,"name":"SQLITE_..."}                 SQLite's extended code and its name

with `"time":f` at the end when `timings` is given. All members are always there: no zero is left
out. `decltypes` are as declared, null for an expression; dates and booleans are not converted; an
infinite REAL is `{"type":"float","value":null}`. `associative` and `blob_array` have no effect.
What `compact` and `many` add: `compact.py`.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Any

from rsqlite.errors import RequestError
from rsqlite.request import Failure, Result, Rows, Write
from rsqlite.server.body import merge_named

_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1
_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}
_NULL = {"type": "null"}


def typed_parameters(values: list[Any]) -> list[Any] | dict[str, Any]:
    """Parameters from tagged values, or from objects of them."""
    if any(type(value) is dict and type(value.get("type")) is not str for value in values):
        return merge_named(values, untag)
    return [untag(value) for value in values]


def untag(value: Any) -> Any:
    """The SQL value of one tagged value, or of one that needs no tag."""
    kind = type(value)
    if kind is str or kind is float or value is None:
        return value
    if kind is int:
        return _integer(value)
    if kind is not dict:
        raise RequestError("unsupported type: a typed parameter is a scalar or a tagged value")
    tag = value.get("type")
    content = value.get("base64" if tag == "blob" else "value")
    if tag == "null":
        return None
    if tag == "integer":
        return _integer(content)
    if tag == "float" and type(content) in (float, int):
        # JSON numbers are finite: orjson has refused the others, and an integer has 64 bits.
        return float(content)
    if tag == "float" and type(content) is str and content in _INFINITIES:
        return _INFINITIES[content]
    if tag == "text" and type(content) is str:
        return content
    if tag == "blob" and type(content) is str:
        return _blob(content)
    raise RequestError("unsupported type: not a tagged value of null, integer, float, text or blob")


def _integer(content: Any) -> int:
    if type(content) is str and _INTEGER.fullmatch(content):
        content = int(content)
    if type(content) is not int or not _INTEGER_MIN <= content <= _INTEGER_MAX:
        raise RequestError("invalid number: a typed integer must be decimal digits within 64 bits")
    return content


def _blob(content: str) -> bytes:
    bare = content.rstrip("=")
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (Base64Error, ValueError) as error:
        raise RequestError("invalid base64 in a typed blob") from error


def tag_blob(value: bytes) -> dict[str, Any]:
    return {"type": "blob", "base64": b64encode(value).rstrip(b"=").decode("ascii")}


def _tag(value: Any) -> dict[str, Any]:
    """The rare kinds; text and integers are tagged where the rows are walked."""
    if value is None:
        return _NULL
    kind = type(value)
    if kind is float:
        return {"type": "float", "value": value if math.isfinite(value) else None}
    if kind is bytes:
        return tag_blob(value)
    assert kind is bool, kind
    return {"type": "integer", "value": str(int(value))}


def _tagged(rows: list[Any]) -> list[list[dict[str, Any]]]:
    return [
        [
            {"type": "text", "value": value}
            if type(value) is str
            else {"type": "integer", "value": str(value)}
            if type(value) is int
            else _tag(value)
            for value in row
        ]
        for row in rows
    ]


def typed_item(result: Result, *, timings: bool) -> dict[str, Any]:
    """The item of `results` for one statement, in the form of this module's docstring."""
    match result:
        case Write(last_insert_rowid=rowid, changes=changes):
            item: dict[str, Any] = {"last_insert_id": rowid, "rows_affected": changes}
        case Rows():
            item = {
                "columns": result.columns,
                "decltypes": result.decltypes,
                "values": _tagged(result.rows),
            }
            if not result.is_read:
                item["last_insert_id"] = result.last_insert_rowid
                item["rows_affected"] = result.changes
        case Failure(message=message, code=code, name=name):
            item = {"error": message, "code": code, "name": name}
    if timings:
        item["time"] = result.time_s
    return item
