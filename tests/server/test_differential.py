"""The short cut and the plain path answer the same bytes the same way."""

from __future__ import annotations

import itertools

import orjson
import pytest

from tests.server.conftest import Bench, Got, Start, message, read_answer
from tests.server.fake_node import FakeNode

SETUP = [
    "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, data BLOB, at DATETIME, ok BOOLEAN, x)",
    ["INSERT INTO t VALUES(1,'fiona',x'00ff','2024-01-02 03:04:05.600',1,2.5)"],
    ["INSERT INTO t VALUES(2,'<&>',NULL,'never',0,NULL)"],
]
INSERT = ["INSERT INTO t(name) VALUES(?)", "a"]

BODIES: list[bytes] = [
    orjson.dumps(body)
    for body in (
        [INSERT],
        [INSERT, INSERT],
        ["INSERT INTO t(name) VALUES('é\u2028')"],
        ["SELECT * FROM t", "SELECT 1, 'a', x'41', NULL, 1.5"],
        ["SELECT * FROM t WHERE id = 77"],
        ["INSERT INTO t(name) VALUES('r') RETURNING id, name"],
        ["INSERT INTO t(id) VALUES(1)", INSERT],
        ["SELECT 9e999"],
        ["SELEC"],
        [""],
        ["", "SELECT 1"],
        [["SELECT :a, :b", {"a": 1, "b": [1, 2, 255]}]],
        [["SELECT ?, ?", 1, {"a": 1}]],
        [["SELECT ?", [1, 256]]],
        [["SELECT ?", [1, "a"]]],
        [["SELECT ?", [[1]]]],
        [["SELECT ?", {"a": {"b": 1}}]],
        [["SELECT ?", "x'0aff'"], ["SELECT ?", " X'0aff' "], ["SELECT ?", "x'0af'"]],
        [["SELECT ?", True], ["SELECT ?", None], ["SELECT ?", -1.5]],
        [["SELECT ?", 18446744073709551615], ["SELECT ?", 9223372036854775807]],
        [["SELECT ?", {"type": "integer", "value": "9223372036854775807"}]],
        [["SELECT ?", {"type": "blob", "base64": "AP8"}]],
        [["SELECT ?", {"type": "integer", "value": "9223372036854775808"}]],
        [["SELECT :a", {"a": {"type": "float", "value": 5}}]],
        [],
        {},
        "SELECT 1",
        1,
        None,
        [1],
        [[]],
        [[1]],
        [{}],
        [None],
        [[["SELECT 1"]]],
    )
]
BODIES += [
    b"",
    b" ",
    b"[",
    b'["SELECT 1"',
    b'["SELECT 1"] trailing',
    "[\"SELECT 'é'\"] trailing".encode(),
    b'["SELECT \xff"]',
    b"\xff\xfe",
    b'["SELECT \\ud800"]',
    b'[["SELECT ?", 1e999]]',
    b'[["SELECT ?", NaN]]',
    b'[["SELECT ?", 123456789012345678901234567890]]',
    b'[["SELECT ?", 01]]',
    b'[["SELECT :a", {"a":1,"a":2}]]',
    b"[" * 5000,
    b"[" * 1000 + b"]" * 1000,
    b"SELECT 1",
    b'["SELECT 1"]\x00',
]
QUERIES = [
    "",
    "?pretty",
    "?timings=false",
    "?associative",
    "?blob_array",
    "?typed",
    "?transaction",
    "?raft_index&associative",
    "?level=none&freshness=1m",
    "?typed&pretty",
    "?typed&compact",
    "?typed&compact&many",
    "?min_index=1",
    "?redirect",
]
ROUTES = ["/db/execute", "/db/query", "/db/request"]


def odd_requests() -> list[bytes]:
    """Several hundred requests, usual, odd and broken."""
    requests = [
        message("POST", route + query, body)
        for route, query, body in itertools.product(ROUTES, QUERIES, BODIES)
    ]
    bodies = [b'["SELECT 1"]', orjson.dumps([INSERT])]
    requests += [
        message("POST", route, body, headers)
        for route in ROUTES
        for body in bodies
        for headers in (
            {"Content-Type": "text/plain"},
            {"Content-Type": "text/plain; charset=utf-8"},
            {"Content-Type": "application/json"},
            {"content-type": "APPLICATION/JSON; charset=UTF-8"},
            {"Connection": "keep-alive"},
            {"Connection": "close"},
            {"Expect": "something"},
            {"Content-Encoding": "gzip"},
            {"Content-Encoding": "identity"},
            {"Upgrade": "websocket", "Connection": "Upgrade"},
            {"X-Long": "x" * 5000},
            {"X-Too-Long": "x" * 9000},
            {"Origin": "http://elsewhere"},
            {"Authorization": "Basic Zm9vOmJhcg=="},
            {"X-Odd": "caf\u00e9"},
        )
    ]
    targets = [
        "/db/query",
        "/db/query?q=",
        "/db/query?q=SELECT%201",
        "/db/query?q=SELECT+1&level=weak",
        "/db/query?q=SELECT+1#frag?x",
        "/db/query?q=%zz",
        "/db/query?q=%ff",
        "/db/query?q=SELECT%201;SELECT%202",
        "/db/query?q=SELECT+1&q=SELECT+2",
        "/db/query?q=SELECT+1&timeout=soon",
        "/db/query?q=SELECT+1&freshness_strict",
        "/db/query?q=SELECT+1&retries=many",
        "/db/query?q=SELECT+1&min_index=-1",
        "/db/queryandmore?q=SELECT+1",
        "/db/%71uery?q=SELECT+1",
        "//db/query?q=SELECT+1",
        "/DB/query?q=SELECT+1",
        "http://host/db/query?q=SELECT+1",
        "*",
        "/db/execute",
        "/db/execute?queue",
        "/db/request?timeout=-1s",
        "/db",
        "/",
        "/console/",
        "/nothing",
        "/leader",
        "/nodes",
        "/readyz",
        "/db/backup",
    ]
    for target in targets:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "get", "BREW"):
            requests.append(message(method, target))
            requests.append(message(method, target, b'["SELECT 1"]'))
    requests += [
        b"GET\r\n\r\n",
        b"\r\n\r\n",
        b"\r\n\r\n" + message("POST", "/db/query", ["SELECT 1"]),
        b"POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nContent-Length: 12\r\n\r\n"
        b'["SELECT 1"]',
        b'POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n["SELECT 1"]',
        b'POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: +12\r\n\r\n["SELECT 1"]',
        b'POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: 1_2\r\n\r\n["SELECT 1"]',
        b"POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n",
        b'POST /db/query HTTP/1.0\r\nContent-Length: 12\r\n\r\n["SELECT 1"]',
        b'POST /db/query HTTP/2.0\r\nContent-Length: 12\r\n\r\n["SELECT 1"]',
        b'POST /db/query HTTP/1.1\nHost: a\nContent-Length: 12\n\n["SELECT 1"]\r\n\r\n',
        b'POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length : 12\r\n\r\n["SELECT 1"]',
        b'POST /db/query HTTP/1.1\r\nHost: a\r\n Content-Length: 12\r\n\r\n["SELECT 1"]',
        b"POST /db/query HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'c\r\n["SELECT 1"]\r\n0\r\n\r\n',
        b"POST /db/query HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nTransfer-Encoding: chunked"
        b'\r\n\r\nc\r\n["SELECT 1"]\r\n0\r\n\r\n',
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /db/query HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /db/query?q=" + b"x" * 300_000 + b" HTTP/1.1\r\n\r\n",
    ]
    return requests


async def seeded(start: Start, shortcut: str) -> Bench:
    bench = await start(FakeNode(), http_shortcut=shortcut, head_timeout=0.2)
    await bench.post("/db/execute", SETUP)
    return bench


def comparable(got: Got, bench: Bench) -> tuple[int, dict[str, str], bytes]:
    """An answer without what may differ: date, port, measured times."""
    headers = {name: value for name, value in got.headers.items() if name != "date"}
    if headers.get("x-rqlite-served-by") == bench.server.address:
        headers["x-rqlite-served-by"] = "here"
    return got.status, headers, got.body


@pytest.mark.slow
async def test_both_paths_answer_alike(start: Start) -> None:
    fast, plain = await seeded(start, "on"), await seeded(start, "off")
    for data in odd_requests():
        is_timed = b"timings" in data or b"/readyz" in data
        has_body = not data.startswith(b"HEAD ")
        answers = [await bench.send(data, has_body=has_body) for bench in (fast, plain)]
        first, second = (
            comparable(got, bench) for got, bench in zip(answers, (fast, plain), strict=True)
        )
        if is_timed:
            first, second = (without_times(one) for one in (first, second))
        assert first == second, data[:300]
        assert first[0] < 500 or first[0] in (501, 503) or b"9e999" in data, data[:300]
    assert len(fast.node.requests) == len(plain.node.requests)
    assert fast.node.requests == plain.node.requests
    assert fast.server.counters.shortcut_requests > len(fast.node.requests) / 2
    assert plain.server.counters.shortcut_requests == 0
    assert fast.server.counters.requests == plain.server.counters.requests


def without_times(
    answer: tuple[int, dict[str, str], bytes],
) -> tuple[int, dict[str, str], object]:
    status, headers, body = answer
    if status != 200 or not body.startswith(b"{"):
        return answer
    value = orjson.loads(body)
    assert value.pop("time", 1) > 0
    for item in value["results"]:
        item.pop("time", None)
    return status, {**headers, "content-length": "?"}, value


@pytest.mark.slow
async def test_both_paths_answer_alike_on_one_connection(start: Start) -> None:
    """Good requests one after the other, each sent when the last was answered, and all at once."""
    fast, plain = await seeded(start, "on"), await seeded(start, "off")
    requests = [
        message("POST", route + query, body)
        for route in ROUTES
        for query in ("", "?associative", "?level=none")
        for body in BODIES
    ]
    seen = []
    for bench in (fast, plain):
        answers = []
        reader, writer = await bench.connect()
        for data in requests:
            writer.write(data)
            answers.append(comparable(await read_answer(reader), bench))
        for first in range(0, len(requests), 40):
            some = requests[first : first + 40]
            writer.write(b"".join(some))
            for _ in some:
                answers.append(comparable(await read_answer(reader), bench))
        seen.append(answers)
    assert seen[0] == seen[1]
