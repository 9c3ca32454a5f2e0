"""Where a target leads to."""

from __future__ import annotations

import re
from math import nan
from pathlib import Path
from typing import Any

import pytest
from rsqlite_client.dsn import DEFAULT_TIMEOUT_S, URL_VARIABLE, Options, options_of
from rsqlite_client.errors import NotSupportedError, ProgrammingError
from rsqlite_client.proto import ReadLevel


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("http://h1:4001", Options(("h1:4001",))),
        ("http://h1,h2:5/", Options(("h1:4001", "h2:5"))),
        ("http://h1,h1:4001", Options(("h1:4001",))),
        ("http://[::1]:7,[::2]", Options(("[::1]:7", "[::2]:4001"))),
        (["h1:1", "http://h2:2,h3:3", "h1:1"], Options(("h1:1", "h2:2", "h3:3"))),
        (
            "http://h1?read=none&freshness=250ms&timeout=1.5",
            Options(("h1:4001",), "", 1.5, ReadLevel.NONE, 0.25),
        ),
        ("http://h1?timeout=2m", Options(("h1:4001",), timeout_s=120.0)),
        (":memory:", Options(path=":memory:")),
        ("data/one", Options(path="data/one")),
        (Path("data"), Options(path="data")),
    ],
)
def test_targets(target: Any, options: Options) -> None:
    assert options_of(target, environment={}) == options
    assert options_of(None, environment={URL_VARIABLE: "http://h1"}).hosts == ("h1:4001",)


def test_arguments_win_over_the_url() -> None:
    options = options_of(
        "http://h1?timeout=1&read=none", timeout=7, read="strong", freshness="2s", environment={}
    )
    assert options == Options(("h1:4001",), "", 7.0, ReadLevel.STRONG, 2.0)
    assert options_of("x", environment={}).timeout_s == DEFAULT_TIMEOUT_S


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (None, "connect to what"),
        ("", "pass its path"),
        ("file:x.db?mode=ro", "pass its path"),
        ("h1:4001", "write http://h1:4001"),
        ("h1:4001,h2:4001", "write http://h1:4001,h2:4001"),
        ("https://h1", "https is not there yet"),
        ("ftp://h1", "is no http:// URL"),
        ("http://user:pw@h1", "authentication is not there yet"),
        ("http://h1/path", "more than hosts and options"),
        ("http://h1#x", "more than hosts and options"),
        ("http://", "is no host"),
        ("http://h1:0", "is no host"),
        ("http://h1:65536", "is no host"),
        ("http://h1:x", "is no host"),
        ("http://h1,,h2", "is no host"),
        ("http://h1?level=none", "unknown option 'level'"),
        ("http://h1?read=fresh", "no read level 'fresh'"),
        ("http://h1?timeout=soon", "'soon' is no duration"),
        ("http://h1?timeout=0", "timeout must be above 0"),
        ("http://h1?timeout=1000h", "is over 2592000 s"),
        ([], "no hosts"),
        (["h 1"], "is no host"),
    ],
)
def test_what_is_wrong_is_said(target: Any, text: str) -> None:
    with pytest.raises((ProgrammingError, NotSupportedError), match=re.escape(text)):
        options_of(target, environment={})


def test_arguments_are_checked() -> None:
    for arguments in ({"timeout": -1}, {"timeout": 1e12}, {"freshness": "x"}, {"timeout": nan}):
        with pytest.raises(ProgrammingError):
            options_of("http://h1", environment={}, **arguments)
    for target in (5, b"http://h1"):
        with pytest.raises(TypeError, match="cannot connect to"):
            options_of(target, environment={})
