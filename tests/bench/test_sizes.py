"""Payloads have the size they say, come back whole, and are counted to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.generator import WrongAnswer, measure
from bench.harness import Target, call
from bench.sizes import QUICK_SIZES, SIZES, echo_of, inserts, reads, text_of, verify


@pytest.mark.parametrize("size", SIZES)
def test_requests_carry_so_many_bytes_of_payload(size: int) -> None:
    assert len(text_of(7, size)) == size
    source = inserts("http://a:1", "t", size)
    for number in range(2):
        body = json.loads(source.next()[0].partition(b"\r\n\r\n")[2])
        assert body == [["INSERT INTO t(v) VALUES(?)", text_of(number, size)]]
    assert text_of(0, size).encode() in echo_of("http://a:1", size).next()[0]


def table(server: Any, tmp_path: Path) -> Target:
    call(server.url, "/db/execute", ["CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)"])
    return Target(server.url, None, tmp_path)


def test_reads_bring_back_the_whole_text_or_end_the_run(server: Any, tmp_path: Path) -> None:
    source = reads(table(server, tmp_path), "t", 100_000)
    assert measure(url=server.url, source=source, clients=2, requests=5).requests >= 5
    call(server.url, "/db/execute", ["UPDATE t SET v = substr(v, 2)"])
    with pytest.raises(WrongAnswer):
        measure(url=server.url, source=source, clients=2, requests=5)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE t SET v = substr(v, 1, 99) WHERE id = 3",
        "UPDATE t SET v = replace(v, 'x', 'y') WHERE id = 3",
        "UPDATE t SET v = (SELECT v FROM t WHERE id = 2) WHERE id = 3",
        "DELETE FROM t WHERE id = 3",
    ],
)
def test_a_text_that_is_not_whole_or_not_there_is_noticed(
    server: Any, tmp_path: Path, damage: str
) -> None:
    target = table(server, tmp_path)
    source = inserts(server.url, "t", 100)
    measure(url=server.url, source=source, clients=2, requests=5)
    verify(target, "t", source.rows, 100)
    call(server.url, "/db/execute", [damage])
    with pytest.raises(WrongAnswer):
        verify(target, "t", source.rows, 100)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_short_and_long_texts_are_written_and_read(quick: Callable[..., dict[str, Any]]) -> None:
    rows = quick("sizes")["rows"]
    keys = [(row["operation"], row["payload_bytes"]) for row in rows]
    operations = ("insert-1", "insert-16", "read-none-16")
    assert keys == [(operation, size) for operation in operations for size in QUICK_SIZES]
    assert all(row["ratio"][0] > 0 for row in rows)
