"""Durations as Go has them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.server.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("1s", 1.0),
        ("+1.5s", 1.5),
        ("-250ms", -0.25),
        ("1m30s", 90.0),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        (".5h", 1800.0),
        ("2.m", 120.0),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
    ],
)
def test_what_go_reads(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "s",
        ".s",
        "1x",
        "1 s",
        "1s ",
        "1s2",
        "one",
        "1e3s",
        "\u0661s",
        "300000000h",
        "--1s",
    ],
)
def test_what_go_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (1e-9, "1ns"),
        (1.5e-6, "1.5µs"),
        (0.002, "2ms"),
        (1.0, "1s"),
        (90.25, "1m30.25s"),
        (3600.0, "1h0m0s"),
        (-61.0, "-1m1s"),
    ],
)
def test_what_go_prints(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@settings(deadline=None)
@given(st.floats(min_value=-1e7, max_value=1e7, allow_nan=False))
def test_what_is_printed_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12, abs=1e-9)
