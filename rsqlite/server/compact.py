"""`compact` and `many` beside `typed`: what our own client sends, for short and quick bodies.

With `compact` the values of an answer stand bare where JSON holds them without loss; only BLOBs
and infinite REALs are tagged: `[7, 2.5, "text", null, {"type":"blob","base64":"AP8"},
{"type":"float","value":"-Infinity"}]`. Members are those of `typed`, and the text is orjson's.

With `many` a body is one statement and rows of positional parameters: `["INSERT INTO t VALUES(?)",
[1], [2]]`. The statement runs once for each row, all together or not at all, and `results` has one
item: `{"last_insert_id":n,"rows_affected":n}` with the last rowid and the sum of the changes (what
RETURNING gives is left out), or the failure, with `"row":n` for the row that failed.
"""

from __future__ import annotations

import math
from array import array
from itertools import chain
from typing import Any

import orjson

from rsqlite.errors import Fate, RequestError, RsqliteError
from rsqlite.request import Failure, Outcome, Result, Rows, Write
from rsqlite.server import gojson
from rsqlite.server.body import INVALID_REQUEST, Columns, checked_items
from rsqlite.server.flags import Flags
from rsqlite.server.typed import tag_blob, typed_item, untag

_HEADS_MAX = 1024
_BARE = frozenset((str, float, int, type(None)))


class Unrepresentable(RsqliteError):
    """The results hold a value that JSON has no form for; what was written stays written."""

    fate = Fate.APPLIED


def many_statements(body: bytes, statements_max: int) -> Columns:
    """One statement in as many columns as it has rows of parameters."""
    items = checked_items(body, statements_max + 1)
    sql, rows = items[0], items[1:]
    if type(sql) is not str or not rows or set(map(type, rows)) != {list}:
        raise RequestError(INVALID_REQUEST)
    kinds = set(map(type, chain.from_iterable(rows)))
    if not kinds <= _BARE or not _are_64_bits(rows, kinds):
        rows = [[untag(value) for value in row] for row in rows]
    return [sql] * len(rows), rows


def _are_64_bits(rows: list[list[Any]], kinds: set[type]) -> bool:
    """The set of all types tells most at once; looking at each value takes as long as the JSON."""
    if int not in kinds:
        return True
    try:
        array("q", [value for row in rows for value in row if type(value) is int])
    except OverflowError:
        return False
    return True


def encode_compact(outcome: Outcome, flags: Flags, elapsed_s: float) -> bytes:
    """The body of a successful answer. `Unrepresentable` when JSON cannot hold it."""
    results = outcome.results
    if flags.many:
        items: list[Any] = [_total(results, timings=flags.timings)]
    elif not flags.compact:
        items = [typed_item(result, timings=flags.timings) for result in results]
    else:
        if len(results) == 1 and not (flags.timings or flags.raft_index or flags.pretty):
            quick = _one(results[0])
            if quick is not None:
                return quick
        items = [_item(result, flags.timings) for result in results]
    envelope: dict[str, Any] = {"results": items}
    if flags.timings:
        envelope["time"] = elapsed_s
    if flags.raft_index and outcome.is_logged:
        envelope["raft_index"] = outcome.index
    text = dumps(envelope)
    return gojson.pretty(text) if flags.pretty else text


class _Head:
    """The part of an answer before its rows, for the lists of names that a statement has."""

    __slots__ = ("columns", "decltypes", "text")

    def __init__(self, result: Rows) -> None:
        # Held, so that no other list can get their identity while this is remembered.
        self.columns = result.columns
        self.decltypes = result.decltypes
        names = orjson.dumps({"columns": result.columns, "decltypes": result.decltypes})
        self.text = b'{"results":[%b,"values":' % names[:-1]


_heads: dict[int, _Head] = {}


def _one(result: Result) -> bytes | None:
    """The whole answer with this one result; None when it is not one of the common kinds."""
    if type(result) is Write:
        return b'{"results":[{"last_insert_id":%d,"rows_affected":%d}]}' % (
            result.last_insert_rowid,
            result.changes,
        )
    if type(result) is not Rows or not result.is_read:
        return None
    head = _heads.get(id(result.columns))
    if head is None or head.columns is not result.columns:
        if len(_heads) >= _HEADS_MAX:
            _heads.clear()
        head = _heads[id(result.columns)] = _Head(result)
    if head.decltypes is not result.decltypes:
        return None
    return b"%b%b}]}" % (head.text, _values(result))


def _item(result: Result, timings: bool) -> Any:
    """The item of one statement."""
    if type(result) is not Rows:
        return typed_item(result, timings=timings)
    item: dict[str, Any] = {
        "columns": result.columns,
        "decltypes": result.decltypes,
        "values": orjson.Fragment(_values(result)),
    }
    if not result.is_read:
        item["last_insert_id"] = result.last_insert_rowid
        item["rows_affected"] = result.changes
    if timings:
        item["time"] = result.time_s
    return item


def _total(results: list[Result], *, timings: bool) -> dict[str, Any]:
    """What all rows of one statement did together; the first failure ended them."""
    last = results[-1] if results else Write(0, 0)
    if isinstance(last, Failure):
        return {**typed_item(last, timings=timings), "row": len(results) - 1}
    changes = sum(result.changes for result in results if not isinstance(result, Failure))
    time_s = math.fsum(result.time_s for result in results)
    total = Write(last.last_insert_rowid, changes, time_s)
    return typed_item(total, timings=timings)


def _values(result: Rows) -> bytes:
    text = dumps(result.rows)
    # orjson writes infinities as null, so they are looked for only when there is one.
    if b"null" in text and has_infinity([result]):
        return dumps([[_tag_infinity(value) for value in row] for row in result.rows])
    return text


def _tag_infinity(value: Any) -> Any:
    if type(value) is float and math.isinf(value):
        return {"type": "float", "value": "Infinity" if value > 0 else "-Infinity"}
    return value


def dumps(value: Any) -> bytes:
    """Compact JSON; BLOBs are tagged."""
    try:
        return orjson.dumps(value, default=tag_blob)
    except TypeError as error:
        raise Unrepresentable("json: a text in the results is not valid UTF-8") from error


def has_infinity(results: list[Result]) -> bool:
    """Is there an infinite REAL among the values?"""
    for result in results:
        if type(result) is Rows:
            cells = chain.from_iterable(result.rows)
            if any(type(cell) is float and math.isinf(cell) for cell in cells):
                return True
    return False
