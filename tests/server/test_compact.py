"""Compact answers lose nothing, and many rows are one statement."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.errors import RequestError, RequestTooLarge
from rsqlite.request import Failure, Outcome, Result, Rows, Write
from rsqlite.server.compact import Unrepresentable, encode_compact, many_statements
from rsqlite.server.flags import parse_flags
from rsqlite.server.typed import untag
from tests.server.conftest import Bench


def encode(*results: Result, query: str = "typed&compact", **outcome: Any) -> str:
    return encode_compact(Outcome(list(results), **outcome), parse_flags(query), 0.25).decode()


def test_values_stand_bare_but_blobs_and_infinities() -> None:
    rows = Rows(["a"], ["INT"], [(7,), (2.5,), ("<x>",), (None,), (b"\0\xff",), (-9e999,)])
    item = (
        '{"columns":["a"],"decltypes":["INT"],"values":[[7],[2.5],["<x>"],[null],'
        '[{"type":"blob","base64":"AP8"}],[{"type":"float","value":"-Infinity"}]]'
    )
    assert encode(rows) == f'{{"results":[{item}}}]}}'
    assert encode(rows, Write(1, 2)) == (
        f'{{"results":[{item}}},{{"last_insert_id":1,"rows_affected":2}}]}}'
    )


def test_a_write_that_returns_rows_has_its_counters() -> None:
    rows = Rows(["a"], [None], [(1,)], False, 5, 1)
    assert orjson.loads(encode(rows))["results"] == [
        {
            "columns": ["a"],
            "decltypes": [None],
            "values": [[1]],
            "last_insert_id": 5,
            "rows_affected": 1,
        }
    ]


def test_zeros_are_there_and_errors_have_their_code() -> None:
    failure = Failure("no", 2067, "SQLITE_CONSTRAINT_UNIQUE")
    assert encode(Write(0, 0)) == '{"results":[{"last_insert_id":0,"rows_affected":0}]}'
    assert encode(failure) == (
        '{"results":[{"error":"no","code":2067,"name":"SQLITE_CONSTRAINT_UNIQUE"}]}'
    )
    assert encode() == '{"results":[]}'


def test_other_flags_go_with_it() -> None:
    rows = Rows(["a"], [None], [(1,)], time_s=0.5)
    text = encode(rows, query="typed&compact&timings&raft_index", index=9, is_logged=True)
    assert text == (
        '{"results":[{"columns":["a"],"decltypes":[null],"values":[[1]],"time":0.5}],'
        '"time":0.25,"raft_index":9}'
    )
    assert "\n" in encode(rows, query="typed&compact&pretty")


def test_names_of_columns_are_not_mistaken_for_others() -> None:
    for name in ("a", "b"):
        assert encode(Rows([name], [None], [])) == (
            f'{{"results":[{{"columns":["{name}"],"decltypes":[null],"values":[]}}]}}'
        )


def test_text_that_is_no_unicode_is_told() -> None:
    with pytest.raises(Unrepresentable, match="UTF-8"):
        encode(Rows(["a"], [None], [("\ud800",)]))


def test_many_has_one_total() -> None:
    query = "typed&compact&many"
    assert orjson.loads(encode(Write(4, 1), Write(5, 2), query=query))["results"] == [
        {"last_insert_id": 5, "rows_affected": 3}
    ]
    failure = Failure("no", 1, "SQLITE_ERROR")
    assert orjson.loads(encode(Write(4, 1), failure, query=query))["results"] == [
        {"error": "no", "code": 1, "name": "SQLITE_ERROR", "row": 1}
    ]
    assert orjson.loads(encode(query=query))["results"] == [
        {"last_insert_id": 0, "rows_affected": 0}
    ]


def test_many_rows_of_parameters() -> None:
    body = orjson.dumps(["x", [1, "a"], [2, {"type": "blob", "base64": "AP8"}]])
    assert many_statements(body, 2) == (["x", "x"], [[1, "a"], [2, b"\0\xff"]])
    with pytest.raises(RequestTooLarge, match="3 statements, at most 2"):
        many_statements(body, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"1",
        b"[]",
        b'["x"]',
        b'["x",1]',
        b"[1,[1]]",
        b'["x",[1],2]',
        b'["x",[true]]',
        b'["x",[[1]]]',
        b'["x",[9223372036854775808]]',
        b'["x",[{"a":1}]]',
    ],
)
def test_what_many_refuses(body: bytes) -> None:
    with pytest.raises(RequestError):
        many_statements(body, 10)


async def test_both_need_typed(bench: Bench) -> None:
    for name in ("compact", "many"):
        got = await bench.post(f"/db/execute?{name}", ["x", [1]])
        assert (got.status, got.text) == (400, f"{name} requires typed to be set\n")


async def test_many_over_the_wire_is_all_or_nothing(bench: Bench) -> None:
    await bench.post("/db/execute", ["CREATE TABLE t(i INTEGER PRIMARY KEY, v)"])
    target = "/db/request?typed&compact&many"
    got = await bench.post(target, ["INSERT INTO t VALUES(?,?)", [1, "a"], [2, 2.5]])
    assert got.json == {"results": [{"last_insert_id": 2, "rows_affected": 2}]}
    got = await bench.post(target, ["INSERT INTO t VALUES(?,?)", [3, "a"], [2, 2.5], [4, 0]])
    (failure,) = got.json["results"]
    assert (failure["row"], failure["name"]) == (1, "SQLITE_CONSTRAINT_PRIMARYKEY")
    got = await bench.post("/db/query?typed&compact", ["SELECT * FROM t"])
    assert got.json["results"][0]["values"] == [[1, "a"], [2, 2.5]]
    got = await bench.post(target, ["INSERT INTO t VALUES(?,?)", 1])
    assert (got.status, got.headers["rsqlite-write"]) == (400, "not-applied")


sql_values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


@settings(deadline=None)
@given(st.lists(sql_values))
def test_values_survive_a_round_trip(row: list[Any]) -> None:
    item = orjson.loads(encode(Rows([], [], [tuple(row)])))["results"][0]
    back = [untag(value) for value in item["values"][0]]
    assert [(v, type(v)) for v in back] == [(v, type(v)) for v in row]
