"""Results as rqlite's JSON has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rsqlite.errors import Fate
from rsqlite.request import Failure, Outcome, Result, Rows, Write
from rsqlite.server.compact import Unrepresentable
from rsqlite.server.flags import parse_flags
from rsqlite.server.results import encode_outcome


def encode(*results: Result, query: str = "", **outcome: Any) -> str:
    text = encode_outcome(Outcome(list(results), **outcome), parse_flags(query), 0.25)
    return text.decode()


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (Write(0, 0), "{}"),
        (Write(1, 0), '{"last_insert_id":1}'),
        (Write(0, 2), '{"rows_affected":2}'),
        (Write(-1, 2), '{"last_insert_id":-1,"rows_affected":2}'),
    ],
)
def test_zeros_are_left_out_of_a_write(write: Write, text: str) -> None:
    assert encode(write) == f'{{"results":[{text}]}}'
    assert encode(write, write) == f'{{"results":[{text},{text}]}}'
    assert encode(write, query="raft_index") == f'{{"results":[{text}]}}'


def test_no_results_are_an_empty_array() -> None:
    assert encode() == '{"results":[]}'


def test_the_order_of_the_envelope() -> None:
    write = Write(1, 1, time_s=0.5)
    assert encode(write, query="timings&raft_index", index=9, is_logged=True) == (
        '{"results":[{"last_insert_id":1,"rows_affected":1,"time":0.5}],"time":0.25,"raft_index":9}'
    )
    assert encode(write, query="raft_index", index=9) == (
        '{"results":[{"last_insert_id":1,"rows_affected":1}]}'
    )


def test_values_are_left_out_without_rows() -> None:
    rows = Rows(["a", "b"], ["INTEGER", None], [])
    assert encode(rows) == '{"results":[{"columns":["a","b"],"types":["integer",""]}]}'
    assert encode(rows, query="associative") == (
        '{"results":[{"types":{"a":"integer","b":""},"rows":[]}]}'
    )


def test_types_of_expressions_come_from_the_first_row() -> None:
    rows = Rows(list("abcde"), [None, None, None, None, "VARCHAR(3)"], [(1, 1.5, "x", None, None)])
    assert encode(rows) == (
        '{"results":[{"columns":["a","b","c","d","e"],'
        '"types":["integer","real","text","","varchar(3)"],"values":[[1,1.5,"x",null,null]]}]}'
    )


def test_go_escapes_html_and_line_separators() -> None:
    rows = Rows(["<&>"], ["TEXT"], [("<b>&\u2028\u2029é\u2014",)])
    assert encode(rows) == (
        '{"results":[{"columns":["\\u003c\\u0026\\u003e"],"types":["text"],'
        '"values":[["\\u003cb\\u003e\\u0026\\u2028\\u2029é\u2014"]]}]}'
    )


def test_pretty_has_four_spaces() -> None:
    rows = Rows(["a"], ["TEXT"], [("<é",)])
    text = encode(rows, Write(0, 0), query="pretty")
    assert text.startswith('{\n    "results": [\n        {\n            "columns": [\n')
    assert "\\u003cé" in text
    assert "        {}\n" in text
    assert json.loads(text) == json.loads(encode(rows, Write(0, 0)))


def test_booleans_and_dates_by_declared_type() -> None:
    rows = Rows(
        ["b", "d", "t", "x"],
        ["BOOLEAN", "DateTime", "timestamp", "BOOL"],
        [(1, "2024-01-02 03:04:05", 0, 1), (0, "never", 1.5, 1), (-1, None, "2024-01-02", 1)],
    )
    assert json.loads(encode(rows))["results"][0]["values"] == [
        [True, "2024-01-02T03:04:05Z", "1970-01-01T00:00:00Z", 1],
        [False, "0001-01-01T00:00:00Z", 1.5, 1],
        [False, None, "2024-01-02T00:00:00Z", 1],
    ]


def test_blobs_are_base64_or_arrays_by_declared_type() -> None:
    rows = Rows(["b", "n"], ["BLOB", "INTEGER"], [(b"\x00\xff", 1), (b"", 2)])
    assert '"values":[["AP8=",1],["",2]]' in encode(rows)
    assert '"values":[[[0,255],1],[[],2]]' in encode(rows, query="blob_array")
    assert '"rows":[{"b":"AP8=","n":1},{"b":"","n":2}]' in encode(rows, query="associative")


def test_blobs_in_columns_of_text_become_strings() -> None:
    cells = (b"A\xff\xe2\x82", b"abc", b"x", b"\x00")
    rows = Rows(["e", "t", "v", "b"], [None, "TEXT", "VARCHAR(9)", "BLOB"], [cells])
    item = json.loads(encode(rows))["results"][0]
    assert item["values"] == [["A\ufffd\ufffd\ufffd", "abc", "x", "AA=="]]
    assert item["types"] == ["text", "text", "varchar(9)", "blob"]
    assert json.loads(encode(rows, query="associative&blob_array"))["results"][0]["rows"] == [
        {"b": [0], "e": "A\ufffd\ufffd\ufffd", "t": "abc", "v": "x"}
    ]


def test_associative_keys_are_sorted_and_the_last_of_a_name_wins() -> None:
    rows = Rows(["b", "a", "b"], ["TEXT", "INTEGER", "REAL"], [("x", 1, 2.5)])
    assert encode(rows, query="associative") == (
        '{"results":[{"types":{"a":"integer","b":"real"},"rows":[{"a":1,"b":2.5}]}]}'
    )
    one = Rows(["a"], ["INTEGER"], [(1,), (2,)])
    assert encode(one, query="associative") == (
        '{"results":[{"types":{"a":"integer"},"rows":[{"a":1},{"a":2}]}]}'
    )


def test_associative_writes_and_errors() -> None:
    write = Write(3, 1, time_s=0.5)
    assert encode(write, query="associative&timings") == (
        '{"results":[{"last_insert_id":3,"rows_affected":1,"time":0.5,"rows":null}],"time":0.25}'
    )
    assert encode(Failure("no"), query="associative") == '{"results":[{"error":"no"}]}'
    assert encode(Failure("no", is_read=True), query="associative") == (
        '{"results":[{"rows":[],"error":"no"}]}'
    )
    assert encode(Failure("no <table>"), Write(0, 0)) == (
        '{"results":[{"error":"no \\u003ctable\\u003e"},{}]}'
    )


def test_an_infinite_real_cannot_be_sent() -> None:
    rows = Rows(["a"], [None], [(None,), (float("-inf"),)])
    with pytest.raises(Unrepresentable, match="unsupported value") as caught:
        encode(rows)
    assert caught.value.fate is Fate.APPLIED
    assert '"value":null' in encode(rows, query="typed")
    assert "null" in encode(Rows(["a"], [None], [(None,)]))


def test_text_that_is_not_utf8_cannot_be_sent() -> None:
    with pytest.raises(Unrepresentable, match="not valid UTF-8"):
        encode(Rows(["a"], [None], [("\udcff",)]))


def test_64_bit_integers_are_exact() -> None:
    rows = Rows(["a"], ["INTEGER"], [(2**63 - 1,), (-(2**63),)])
    assert "[[9223372036854775807],[-9223372036854775808]]" in encode(rows)
