"""Dates as Go's SQLite driver returns them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.server.dates import ZERO, rfc3339_of_integer, rfc3339_of_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-02", "2024-01-02T00:00:00Z"),
        ("2024-01-02 03:04", "2024-01-02T03:04:00Z"),
        ("2024-01-02T03:04", "2024-01-02T03:04:00Z"),
        ("2024-01-02 03:04:05", "2024-01-02T03:04:05Z"),
        ("2024-01-02 3:04:05", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02 03:04:05.600", "2024-01-02T03:04:05.6Z"),
        ("2024-01-02 03:04:05,6", "2024-01-02T03:04:05.6Z"),
        ("2024-01-02 03:04:05.000", "2024-01-02T03:04:05Z"),
        ("2024-01-02 03:04:05.1234567891", "2024-01-02T03:04:05.123456789Z"),
        ("2024-01-02 03:04:05+02:00", "2024-01-02T03:04:05+02:00"),
        ("2024-01-02T03:04:05.5-07:30", "2024-01-02T03:04:05.5-07:30"),
        ("2024-01-02 03:04:05+00:00", "2024-01-02T03:04:05Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("0000-02-29", "0000-02-29T00:00:00Z"),
    ],
)
def test_text_that_the_driver_parses(text: str, expected: str) -> None:
    assert rfc3339_of_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "never",
        "2023-02-29",
        "2024-13-01",
        "2024-00-01",
        "2024-01-00",
        "2024-01-02 24:00:00",
        "2024-01-02 03:60",
        "2024-01-02 03:04:60",
        "2024-1-2",
        "2024-01-02 03:04+02:00",
        "2024-01-02  03:04",
        " 2024-01-02",
        "2024-01-02 03",
        "٢٠٢٤-01-02",
        "12024-01-02",
    ],
)
def test_other_text_becomes_the_year_one(text: str) -> None:
    assert rfc3339_of_text(text) == ZERO


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (10**12, "33658-09-27T01:46:40Z"),
        (10**12 + 1, "2001-09-09T01:46:40.001Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (-62_135_596_800, "0001-01-01T00:00:00Z"),
    ],
)
def test_integers_are_seconds_or_milliseconds(value: int, expected: str) -> None:
    assert rfc3339_of_integer(value) == expected


@settings(deadline=None)
@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_seconds_agree_with_the_standard_library(value: int) -> None:
    expected = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    assert rfc3339_of_integer(value) == expected


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_any_integer_gives_a_date(value: int) -> None:
    assert rfc3339_of_integer(value).endswith("Z")
