"""The table from errors to answers, over the wire on both paths."""

from __future__ import annotations

import pytest

from rsqlite.errors import (
    DiskFault,
    Fate,
    LeadershipLost,
    NoLeader,
    NotLeader,
    Overloaded,
    RequestError,
    RequestTooLarge,
    RsqliteError,
    StaleRead,
    StatementRefused,
    Stopped,
    TimedOut,
)
from tests.server.conftest import Bench

CASES = [
    (StaleRead(), 200, b'{"results":[],"error":"stale read"}', "not-applied"),
    (
        StatementRefused("no <VACUUM>"),
        200,
        b'{"results":[],"error":"no \\u003cVACUUM\\u003e"}',
        "not-applied",
    ),
    (
        LeadershipLost(),
        200,
        b'{"results":[],"error":"leadership lost while committing log"}',
        "unknown",
    ),
    (TimedOut("late", fate=Fate.UNKNOWN), 200, b'{"results":[],"error":"late"}', "unknown"),
    (TimedOut("late", fate=Fate.APPLIED), 200, b'{"results":[],"error":"late"}', "applied"),
    (RequestTooLarge("too large"), 413, b"too large\n", "not-applied"),
    (RequestError("odd"), 400, b"odd\n", "not-applied"),
    (NoLeader(), 503, b"leader not found\n", "not-applied"),
    (NotLeader(), 503, b"leader not found\n", "not-applied"),
    (Overloaded("full"), 503, b"full\n", "not-applied"),
    (Stopped("stopping", fate=Fate.UNKNOWN), 503, b"stopping\n", "unknown"),
    (DiskFault("disk", fate=Fate.UNKNOWN), 500, b"disk\n", "unknown"),
]


@pytest.mark.parametrize(("error", "status", "body", "fate"), CASES)
async def test_what_an_error_becomes(
    bench: Bench, error: RsqliteError, status: int, body: bytes, fate: str
) -> None:
    bench.node.error = error
    for path in ("/db/execute", "/db/request"):
        got = await bench.post(path, ["SELECT 1"])
        assert (got.status, got.body, got.headers["rsqlite-write"]) == (status, body, fate)
        assert ("retry-after" in got.headers) == (status == 503)
        if status != 200:
            assert got.headers["content-type"] == "text/plain; charset=utf-8"
            assert got.headers["x-content-type-options"] == "nosniff"
    got = await bench.post("/db/query", ["SELECT 1"])
    assert (got.status, got.body) == (status, body)
    assert "rsqlite-write" not in got.headers


async def test_every_failed_answer_names_its_error(bench: Bench) -> None:
    for error, name in (
        (StaleRead(), "stale-read"),
        (NoLeader(), "no-leader"),
        (RequestTooLarge("too large"), "request-too-large"),
        (DiskFault("disk"), "disk-fault"),
    ):
        bench.node.error = error
        for path in ("/db/execute", "/db/query"):
            got = await bench.post(path, ["SELECT 1"])
            assert got.headers["rsqlite-error"] == name
    bench.node.error = None
    assert "rsqlite-error" not in (await bench.post("/db/query", ["SELECT 1"])).headers


async def test_retry_after_is_whole_seconds(bench: Bench) -> None:
    bench.node.error = Overloaded("full")
    for seconds, header in ((0.1, "1"), (2.5, "3"), (None, "1")):
        bench.node.error.retry_after_s = seconds
        got = await bench.post("/db/execute", ["SELECT 1"])
        assert got.headers["retry-after"] == header


async def test_an_answer_that_json_cannot_hold_tells_that_the_write_stands(bench: Bench) -> None:
    await bench.post("/db/execute", ["CREATE TABLE t(x)"])
    got = await bench.post("/db/execute", ["INSERT INTO t VALUES(9e999) RETURNING x"])
    assert (got.status, got.headers["rsqlite-write"]) == (500, "applied")
    assert got.text.startswith("json: unsupported value")
    got = await bench.post("/db/query", ["SELECT count(*) FROM t"])
    assert got.json["results"][0]["values"] == [[1]]
