"""Query strings as rqlite reads them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.errors import RequestError
from rsqlite.request import ReadLevel
from rsqlite.server.flags import DEFAULT, Flags, parse_flags, unescape


def test_without_a_query_everything_is_default() -> None:
    assert parse_flags("") is DEFAULT
    assert parse_flags("noparse&norwrandom&norwtime&retries=3&bypass&unknown=1") == Flags()


def test_a_flag_is_on_whatever_its_value() -> None:
    flags = parse_flags("timings=false&pretty=no&transaction&associative=")
    assert flags.timings
    assert flags.pretty
    assert flags.transaction
    assert flags.associative
    assert not flags.blob_array


def test_keys_are_case_sensitive_and_the_first_value_wins() -> None:
    flags = parse_flags("Timings&level=none&level=strong&q=a&q=b")
    assert not flags.timings
    assert flags.level is ReadLevel.NONE
    assert flags.q == "a"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("none", ReadLevel.NONE),
        ("weak", ReadLevel.WEAK),
        ("Linearizable", ReadLevel.LINEARIZABLE),
        ("STRONG", ReadLevel.STRONG),
        ("auto", ReadLevel.AUTO),
        ("nonsense", ReadLevel.WEAK),
        ("", ReadLevel.WEAK),
    ],
)
def test_an_unknown_level_is_weak(text: str, level: ReadLevel) -> None:
    assert parse_flags(f"level={text}").level is level


def test_durations_and_indices() -> None:
    flags = parse_flags(
        "freshness=1m&freshness_strict&timeout=2s&db_timeout=250ms&linearizable_timeout=0&min_index=7"
    )
    assert (flags.freshness_s, flags.freshness_strict, flags.timeout_s) == (60.0, True, 2.0)
    assert (flags.db_timeout_s, flags.linearizable_timeout_s, flags.min_index) == (0.25, 0.0, 7)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("timeout=1", "timeout is not a valid duration"),
        ("freshness=", "freshness is not a valid duration"),
        ("db_timeout=-1s", "db_timeout is not a valid duration: it is negative"),
        ("linearizable_timeout=x", "linearizable_timeout is not a valid duration"),
        ("retries=x", "retries is not a valid integer"),
        ("trailing_logs=1.5", "trailing_logs is not a valid integer"),
        ("freshness_strict", "freshness_strict requires freshness to be set"),
        ("q=", "query parameter not set"),
        ("min_index=-1", "min_index is not a valid index"),
        ("min_index=9223372036854775808", "min_index is not a valid index"),
        ("a;b", "invalid semicolon separator in query"),
        ("q=%zz", 'invalid URL escape "%zz"'),
        ("q=%4", 'invalid URL escape "%4"'),
        ("%=", 'invalid URL escape "%"'),
        ("q=%ff", "the URL is not valid UTF-8"),
        ("q=\udcff", "the URL is not valid UTF-8"),
    ],
)
def test_what_is_refused(query: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_flags(query)
    assert str(caught.value) == text


def test_escapes_and_plus() -> None:
    assert parse_flags("q=SELECT+1%2B1%20--%26").q == "SELECT 1+1 --&"
    assert unescape("/db/%71uery+x") == "/db/query+x"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_flags(text)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - either way is right
