"""Statements and parameters from bodies."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.errors import RequestError, RequestTooLarge
from rsqlite.server.body import json_statements, plain_value, text_statement


def parse(body: Any) -> tuple[list[str], list[Any]]:
    return json_statements(body if isinstance(body, bytes) else orjson.dumps(body), 100)


def test_strings_and_arrays_may_be_mixed() -> None:
    assert parse(["a", ["b"], ["c", 1, "x", None, 2.5], ["d", {"n": 1}, {"m": 2}]]) == (
        ["a", "b", "c", "d"],
        [None, None, [1, "x", None, 2.5], {"n": 1, "m": 2}],
    )


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ("x'0aff'", b"\x0a\xff"),
        (" X'0AFF'\n", b"\x0a\xff"),
        ("x''", b""),
        ("x'0af'", "x'0af'"),
        ("x'zz'", "x'zz'"),
        ("'", "'"),
        ("x'", "x'"),
        ("it's'", "it's'"),
        (True, 1),
        (False, 0),
        ([0, 255], b"\x00\xff"),
        ([], b""),
        (2**63 - 1, 2**63 - 1),
        (2**63, float(2**63)),
        (-(2**63), -(2**63)),
        (1.0, 1.0),
        (None, None),
    ],
)
def test_what_a_parameter_becomes(given_value: Any, expected: Any) -> None:
    (found,) = parse([["SELECT ?", given_value]])[1][0]
    assert (found, type(found)) == (expected, type(expected))
    # A bulk body goes another way to the same values.
    for rows in parse([["SELECT ?", given_value]] * 20)[1]:
        assert (rows, type(rows[0])) == ([expected], type(expected))


def test_integers_beyond_64_bits_are_real() -> None:
    assert parse(b'[["SELECT ?", 123456789012345678901234567890]]')[1] == [[1.2345678901234568e29]]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "invalid JSON body"),
        (b"[", "invalid JSON body"),
        (b"\xff", "invalid JSON body"),
        (b'["\\ud800"]', "invalid JSON body"),
        (b'[["SELECT ?", 1e999]]', "invalid JSON body"),
        (b"[" * 5000, "invalid JSON body"),
        (b"[]", "no statements"),
        (b"{}", "invalid request"),
        (b'"SELECT 1"', "invalid request"),
        (b"[1]", "invalid request"),
        (b"[[]]", "invalid request"),
        (b"[[1]]", "invalid request"),
        (b"[null]", "invalid request"),
        (b"[" * 1000 + b"]" * 1000, "invalid request"),
        (b'[["a", {"b": {}}]]', "unsupported type"),
        (b'[["a", [[1]]]]', "unsupported type: an array must hold integers from 0 to 255"),
        (b'[["a", [true]]]', "unsupported type: an array must hold integers from 0 to 255"),
        (b'[["a", [256]]]', "invalid number: an array must hold integers from 0 to 255"),
        (b'[["a", [-1]]]', "invalid number: an array must hold integers from 0 to 255"),
        (
            b'[["a", 1, {"b": 1}]]',
            "positional and named parameters cannot be mixed in one statement",
        ),
    ],
)
def test_what_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(body)
    assert str(caught.value) == text


def test_too_many_statements() -> None:
    with pytest.raises(RequestTooLarge, match="101 statements, at most 100"):
        parse(["SELECT 1"] * 101)


def test_bytes_after_the_array_are_ignored() -> None:
    assert parse('["é"] ] garbage é'.encode()) == (["é"], [None])


def test_text_bodies() -> None:
    assert text_statement("SELECT 'é'".encode()) == (["SELECT 'é'"], [None])
    with pytest.raises(RequestError, match="not valid UTF-8 at byte 2"):
        text_statement(b"ab\xff")


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.sampled_from("xX'0aF \\u00e9{[\"t"), max_size=8),
    st.lists(st.integers(0, 255), max_size=3),
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.lists(values, max_size=4), min_size=8, max_size=20))
def test_bulk_bodies_are_read_like_single_ones(rows: list[list[Any]]) -> None:
    body = [["INSERT", *row] for row in rows]
    sqls, parameters = parse(body)
    assert sqls == ["INSERT"] * len(rows)
    singles = [parse([statement])[1][0] for statement in body]
    assert parameters == singles
    assert [[type(v) for v in p or ()] for p in parameters] == [
        [type(v) for v in p or ()] for p in singles
    ]
    assert singles == [[plain_value(v) for v in row] or None for row in rows]


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        json_statements(data, 10)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - either way is right
