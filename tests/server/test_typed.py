"""Tagged values lose nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.errors import RequestError
from rsqlite.request import Failure, Rows, Write
from rsqlite.server.typed import typed_item, typed_parameters, untag
from tests.server.conftest import Bench


@pytest.mark.parametrize(
    ("tagged", "value"),
    [
        ({"type": "null"}, None),
        ({"type": "integer", "value": "-7"}, -7),
        ({"type": "integer", "value": 7}, 7),
        ({"type": "integer", "value": "9223372036854775807"}, 2**63 - 1),
        ({"type": "float", "value": 5}, 5.0),
        ({"type": "float", "value": 2.5}, 2.5),
        ({"type": "float", "value": "-Infinity"}, float("-inf")),
        ({"type": "text", "value": "x'00'"}, "x'00'"),
        ({"type": "blob", "base64": "AP8"}, b"\x00\xff"),
        ({"type": "blob", "base64": "AP8="}, b"\x00\xff"),
        ({"type": "blob", "base64": ""}, b""),
        (None, None),
        (7, 7),
        (5.0, 5.0),
        ("x'00'", "x'00'"),
    ],
)
def test_untag(tagged: Any, value: Any) -> None:
    found = untag(tagged)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "tagged",
    [
        True,
        2**63,
        [],
        {},
        {"type": "real", "value": 1.0},
        {"type": "integer", "value": "9223372036854775808"},
        {"type": "integer", "value": 2**63},
        {"type": "integer", "value": "1.0"},
        {"type": "integer", "value": "+1"},
        {"type": "integer", "value": "\u0661"},
        {"type": "integer", "value": True},
        {"type": "integer"},
        {"type": "float", "value": None},
        {"type": "float", "value": "1.0"},
        {"type": "float", "value": "NaN"},
        {"type": "float", "value": True},
        {"type": "text", "value": 1},
        {"type": "text"},
        {"type": "blob", "base64": "A"},
        {"type": "blob", "base64": "A P8"},
        {"type": "blob", "base64": "é"},
        {"type": "blob", "value": "AP8"},
    ],
)
def test_what_is_refused(tagged: Any) -> None:
    with pytest.raises(RequestError):
        untag(tagged)


def test_named_parameters_are_objects_whose_type_is_no_string() -> None:
    one = {"type": "integer", "value": "1"}
    assert typed_parameters([{"a": one}, {"type": one}]) == {"a": 1, "type": 1}
    assert typed_parameters([{}]) == {}
    with pytest.raises(RequestError, match="cannot be mixed"):
        typed_parameters([{"a": one}, 1])


def test_items() -> None:
    assert typed_item(Write(0, 0), timings=False) == {"last_insert_id": 0, "rows_affected": 0}
    assert typed_item(Failure("no", 2067, "SQLITE_CONSTRAINT_UNIQUE"), timings=False) == {
        "error": "no",
        "code": 2067,
        "name": "SQLITE_CONSTRAINT_UNIQUE",
    }
    assert typed_item(Rows(["a"], [None], [], True, time_s=0.5), timings=True) == {
        "columns": ["a"],
        "decltypes": [None],
        "values": [],
        "time": 0.5,
    }


async def test_typed_over_the_wire(bench: Bench) -> None:
    await bench.post("/db/execute", ["CREATE TABLE t(i, d DATETIME, b BOOLEAN)"])
    tagged = [
        {"type": "integer", "value": "9223372036854775807"},
        {"type": "text", "value": "never <"},
        {"type": "blob", "base64": "AP8"},
    ]
    got = await bench.post("/db/execute?typed", [["INSERT INTO t VALUES(?,?,?)", *tagged]])
    assert got.json == {"results": [{"last_insert_id": 1, "rows_affected": 1}]}
    got = await bench.post("/db/query?typed", ["SELECT * FROM t", "SELECT 9e999 AS x"])
    assert got.json["results"] == [
        {
            "columns": ["i", "d", "b"],
            "decltypes": [None, "DATETIME", "BOOLEAN"],
            "values": [tagged],
        },
        {"columns": ["x"], "decltypes": [None], "values": [[{"type": "float", "value": None}]]},
    ]
    got = await bench.post("/db/execute?typed", ["INSERT INTO t VALUES('r', 1, NULL) RETURNING i"])
    assert got.json["results"][0]["last_insert_id"] == 2
    got = await bench.post("/db/execute?typed", [["INSERT INTO t VALUES(?)", True]])
    assert (got.status, got.headers["rsqlite-write"]) == (400, "not-applied")


sql_values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


@settings(deadline=None)
@given(st.lists(sql_values))
def test_values_survive_a_round_trip(row: list[Any]) -> None:
    item = orjson.loads(orjson.dumps(typed_item(Rows([], [], [row]), timings=False)))
    back = [untag(value) for value in item["values"][0]]
    assert [(v, type(v)) for v in back] == [(v, type(v)) for v in row]
