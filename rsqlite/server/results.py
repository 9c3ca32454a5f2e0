"""Results as rqlite's JSON has them (rqlite.md 2.4), with the quirks of its SQLite driver.

The driver decides by the declared type of a column: BOOLEAN integers become true and false, dates
become RFC 3339 (`dates.py`), and a BLOB in a column of text or of no declared type becomes a string
whatever it holds. `types` has the declared types in lower case; for expressions, the kind of the
first row's value. `typed.py` has the form without such losses.
"""

from __future__ import annotations

import codecs
from base64 import b64encode
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from rsqlite.request import Failure, Outcome, Result, Rows, Write
from rsqlite.server import gojson
from rsqlite.server.compact import Unrepresentable, encode_compact, has_infinity
from rsqlite.server.dates import rfc3339_of_integer, rfc3339_of_text
from rsqlite.server.flags import Flags
from rsqlite.server.typed import typed_item

_SHAPES_MAX = 1024
_DATES = frozenset(("date", "datetime", "timestamp"))
_TEXTUAL = ("varchar", "varying character", "nchar", "native character", "nvarchar", "clob")
_WRITES = {Write}
_ONE = {1}
_KINDS = {int: "integer", float: "real", str: "text", bytes: "text", bool: "boolean"}
"""Of a first row's value. A BLOB has become text by then."""


def encode_outcome(outcome: Outcome, flags: Flags, elapsed_s: float) -> bytes:
    """The body of a successful answer. `Unrepresentable` when JSON cannot hold it."""
    results = outcome.results
    if flags.compact or flags.many:
        return encode_compact(outcome, flags, elapsed_s)
    if not (flags.typed or flags.associative or flags.timings or flags.raft_index or flags.pretty):
        if len(results) == 1 and type(results[0]) is Write:
            return b'{"results":[%b]}' % _write_text(results[0])
        if len(results) == 1 and type(results[0]) is Rows:
            quick = _rows_text(results[0])
            if quick is not None:
                return quick
        if set(map(type, results)) == _WRITES:
            return b'{"results":[%b]}' % _writes_text(results)
        items: list[Any] = [_item(result) for result in results]
    elif flags.typed:
        items = [typed_item(result, timings=flags.timings) for result in results]
    else:
        make = _associative_item if flags.associative else _item
        items = [_timed(make(result), result, flags.timings) for result in results]
    envelope: dict[str, Any] = {"results": items}
    if flags.timings:
        envelope["time"] = elapsed_s
    if flags.raft_index and outcome.is_logged:
        envelope["raft_index"] = outcome.index
    text = _dumps(envelope, results, items, flags)
    return gojson.escape_html(gojson.pretty(text) if flags.pretty else text)


class _Head:
    """The part of an answer before its rows, for the lists of names that a statement has."""

    __slots__ = ("columns", "decltypes", "text")

    def __init__(self, result: Rows) -> None:
        # Held, so that no other list can get their identity while this is remembered.
        self.columns = result.columns
        self.decltypes = result.decltypes
        shape = _shape(tuple(result.decltypes))
        self.text: bytes | None = None
        if not shape.converters and not shape.unknown:
            names = orjson.dumps({"columns": result.columns, "types": shape.types})
            self.text = b'{"results":[%b,"values":' % gojson.escape_html(names)[:-1]


_heads: dict[int, _Head] = {}


def _rows_text(result: Rows) -> bytes | None:
    """A whole answer of rows whose values go into JSON as they are; None for any other."""
    head = _heads.get(id(result.columns))
    if head is None or head.columns is not result.columns:
        if len(_heads) >= _SHAPES_MAX:
            _heads.clear()
        head = _heads[id(result.columns)] = _Head(result)
    if head.text is None or head.decltypes is not result.decltypes or not result.rows:
        return None
    try:
        values = orjson.dumps(result.rows)
    except TypeError:
        return None  # BLOBs, or text that is none
    if b"null" in values:
        return None  # which may stand for an infinity
    return b"%b%b}]}" % (head.text, gojson.escape_html(values))


def _write_text(result: Any) -> bytes:
    rowid, changes = result.last_insert_rowid, result.changes
    if rowid:
        if changes:
            return b'{"last_insert_id":%d,"rows_affected":%d}' % (rowid, changes)
        return b'{"last_insert_id":%d}' % rowid
    return b'{"rows_affected":%d}' % changes if changes else b"{}"


def _writes_text(results: list[Any]) -> bytes:
    rowids = [result.last_insert_rowid for result in results]
    if {result.changes for result in results} == _ONE and 0 not in rowids:
        # The items of a bulk insert differ in their rowid alone.
        between = b',"rows_affected":1},{"last_insert_id":'
        numbers = orjson.dumps(rowids)[1:-1].replace(b",", between)
        return b'{"last_insert_id":%b,"rows_affected":1}' % numbers
    return b",".join([_write_text(result) for result in results])


def _item(result: Result) -> dict[str, Any]:
    """The item of one statement: zeros, and `values` without rows, are left out."""
    if type(result) is Write:
        rowid, changes = result.last_insert_rowid, result.changes
        if rowid and changes:
            return {"last_insert_id": rowid, "rows_affected": changes}
        if rowid:
            return {"last_insert_id": rowid}
        return {"rows_affected": changes} if changes else {}
    if type(result) is Rows:
        shape = _shape(tuple(result.decltypes))
        rows = shape.converted(result.rows) if shape.converters else result.rows
        types = shape.types_for(rows)
        if rows:
            return {"columns": result.columns, "types": types, "values": rows}
        return {"columns": result.columns, "types": types}
    assert type(result) is Failure
    return {"error": result.message}


def _associative_item(result: Result) -> dict[str, Any]:
    """The item with rows as objects. Their keys are sorted; of columns with one name the last
    wins."""
    if type(result) is Write:
        return {**_item(result), "rows": None}
    if type(result) is Rows:
        shape = _shape(tuple(result.decltypes))
        rows = shape.converted(result.rows) if shape.converters else result.rows
        types = shape.types_for(rows)
        positions = {name: position for position, name in enumerate(result.columns)}
        names = sorted(positions)
        order = [positions[name] for name in names]
        pick = itemgetter(*order) if len(order) > 1 else None
        return {
            "types": {name: types[positions[name]] for name in names},
            "rows": [
                dict(zip(names, pick(row) if pick else (row[order[0]],), strict=True))
                for row in rows
            ],
        }
    assert type(result) is Failure
    return {"rows": [], "error": result.message} if result.is_read else {"error": result.message}


def _timed(item: dict[str, Any], result: Result, timings: bool) -> dict[str, Any]:
    if timings:
        item["time"] = result.time_s
        if "rows" in item and type(result) is Write:
            # Go puts the embedded result's fields, time included, before `rows`.
            item["rows"] = item.pop("rows")
    return item


class _Shape:
    """What the declared types of a result's columns say, worked out once for each list of them."""

    __slots__ = ("converters", "textual", "types", "unknown")

    def __init__(self, decltypes: tuple[str | None, ...]) -> None:
        self.types = [(declared or "").lower() for declared in decltypes]
        self.unknown = [i for i, declared in enumerate(self.types) if not declared]
        self.textual = [
            i
            for i, declared in enumerate(self.types)
            if declared in ("", "text", "json") or declared.startswith(_TEXTUAL)
        ]
        self.converters: list[tuple[int, Callable[[Any], Any]]] = []
        for position, declared in enumerate(self.types):
            if declared == "boolean":
                self.converters.append((position, _boolean))
            elif declared in _DATES:
                self.converters.append((position, _date))

    def types_for(self, rows: list[Any]) -> list[str]:
        """`types`, with those of expressions taken from the first row."""
        if not self.unknown or not rows:
            return self.types
        types = self.types.copy()
        first = rows[0]
        for position in self.unknown:
            types[position] = _KINDS.get(type(first[position]), "")
        return types

    def converted(self, rows: Iterable[Any]) -> list[Any]:
        """`rows` with booleans and dates as the driver returns them."""
        return _map_columns(rows, self.converters)


@lru_cache(maxsize=_SHAPES_MAX)
def _shape(decltypes: tuple[str | None, ...]) -> _Shape:
    return _Shape(decltypes)


def _map_columns(
    rows: Iterable[Any], converters: list[tuple[int, Callable[[Any], Any]]]
) -> list[Any]:
    mapped = []
    for row in rows:
        cells = list(row)
        for position, convert in converters:
            cells[position] = convert(cells[position])
        mapped.append(cells)
    return mapped


def _boolean(value: Any) -> Any:
    return value > 0 if type(value) is int else value


def _date(value: Any) -> Any:
    if type(value) is str:
        return rfc3339_of_text(value)
    return rfc3339_of_integer(value) if type(value) is int else value


def _dumps(
    envelope: dict[str, Any], results: list[Result], items: list[Any], flags: Flags
) -> bytes:
    try:
        # Bytes among the values end this attempt at the first of them. Most results have none,
        # and looking for them beforehand would cost more than the JSON.
        text = orjson.dumps(envelope)
    except TypeError:
        text = _dumps_with_blobs(envelope, results, items, flags)
    if b"null" in text and not flags.typed and has_infinity(results):
        raise Unrepresentable("json: unsupported value: an infinite REAL (`typed` can carry it)")
    return text


def _dumps_with_blobs(
    envelope: dict[str, Any], results: list[Result], items: list[Any], flags: Flags
) -> bytes:
    for position, result in enumerate(results):
        if type(result) is Rows and not flags.typed:
            textual = [
                column
                for column in _shape(tuple(result.decltypes)).textual
                if bytes in map(type, map(itemgetter(column), result.rows))
            ]
            if textual:
                rows = _map_columns(result.rows, [(column, _mangled) for column in textual])
                changed = Rows(result.columns, result.decltypes, rows, time_s=result.time_s)
                make = _associative_item if flags.associative else _item
                items[position] = _timed(make(changed), changed, flags.timings)
    try:
        return orjson.dumps(envelope, default=list if flags.blob_array else _base64)
    except TypeError as error:
        raise Unrepresentable("json: a text in the results is not valid UTF-8") from error


def _base64(value: Any) -> str:
    if type(value) is not bytes:
        raise TypeError(type(value))
    return b64encode(value).decode("ascii")


def _mangled(value: Any) -> Any:
    return value.decode("utf-8", _GO_REPLACE) if type(value) is bytes else value


def _replace_each(error: UnicodeError) -> tuple[str, int]:
    """One replacement character for each bad byte, as Go does; Python's own handler writes one
    for a whole broken sequence."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


_GO_REPLACE = "rsqlite.server.results"
codecs.register_error(_GO_REPLACE, _replace_each)
