"""/db/* over the wire, on both HTTP paths."""

from __future__ import annotations

from typing import Any

import pytest

from rsqlite.raft.types import Member, NodeId
from rsqlite.request import ReadLevel, Request, RequestKind
from tests.server.conftest import Bench, Start
from tests.server.fake_node import QUERY_WRITES, FakeNode

CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)"


async def test_a_first_create_table_answers_an_empty_object(bench: Bench) -> None:
    got = await bench.post("/db/execute", [CREATE])
    assert (got.status, got.body) == (200, b'{"results":[{}]}')
    assert got.headers["content-type"] == "application/json; charset=utf-8"


async def test_an_insert_answers_its_numbers_and_its_index(bench: Bench) -> None:
    await bench.post("/db/execute", [CREATE])
    got = await bench.post("/db/execute", [["INSERT INTO t(name) VALUES(?)", "fiona"]])
    assert got.body == b'{"results":[{"last_insert_id":1,"rows_affected":1}]}'
    assert got.headers["rsqlite-index"] == "2"
    assert got.headers["x-rqlite-served-by"] == bench.server.address
    assert got.headers["x-rqlite-version"] == "v0.1.0"
    assert got.headers["access-control-allow-methods"] == "OPTIONS, GET, POST"
    assert got.headers["access-control-allow-headers"] == "Content-Type"
    assert "access-control-allow-origin" not in got.headers
    got = await bench.post("/db/query", ["SELECT * FROM t"])
    assert got.body == (
        b'{"results":[{"columns":["id","name"],"types":["integer","text"],"values":[[1,"fiona"]]}]}'
    )
    got = await bench.post("/db/request", ["SELECT id FROM t", "DROP TABLE t"])
    assert [list(item) for item in got.json["results"]] == [
        ["columns", "types", "values"],
        ["last_insert_id", "rows_affected"],
    ]


async def test_queries_by_get(bench: Bench) -> None:
    got = await bench.get("/db/query?q=SELECT+1%2B1+AS+n&pretty")
    assert got.json == {"results": [{"columns": ["n"], "types": ["integer"], "values": [[2]]}]}
    assert b'\n    "results"' in got.body
    got = await bench.get("/db/query?q=SELECT%20%27" + "x" * 100_000 + "%27")
    assert len(got.json["results"][0]["values"][0][0]) == 100_000
    got = await bench.get("/db/query")
    assert (got.status, got.text) == (400, "query parameter not set\n")


async def test_a_query_may_not_write(bench: Bench) -> None:
    got = await bench.post("/db/query", [CREATE])
    assert got.json == {"results": [{"error": QUERY_WRITES}]}


async def test_text_bodies_are_one_statement(bench: Bench) -> None:
    got = await bench.post("/db/execute", CREATE.encode(), Content_Type="text/plain;charset=x")
    assert got.body == b'{"results":[{}]}'
    got = await bench.post("/db/query", b"SELECT 1 AS a", Content_Type="text/plain")
    assert got.json["results"][0]["values"] == [[1]]
    got = await bench.post("/db/request", b"SELECT 1 AS a", Content_Type="text/plain")
    assert (got.status, got.text) == (400, "invalid JSON body\n")


async def test_bodies_need_no_content_type(bench: Bench) -> None:
    got = await bench.post("/db/query", b'["SELECT 1 AS a"]')
    assert got.json["results"][0]["values"] == [[1]]


async def test_empty_statements_have_no_result(bench: Bench) -> None:
    assert (await bench.post("/db/execute", [""])).body == b'{"results":[]}'
    assert (await bench.post("/db/query", [" ", "SELECT 1"])).body.count(b"columns") == 1


async def test_every_flag_reaches_the_request(bench: Bench) -> None:
    query = (
        "?transaction&level=linearizable&freshness=1s&freshness_strict&min_index=5&timeout=2s"
        "&linearizable_timeout=3s&db_timeout=4s&qualify_columns&timings"
    )
    await bench.post(f"/db/request{query}", ["SELECT 1"])
    expected = Request(
        RequestKind.MIXED,
        ["SELECT 1"],
        [None],
        transaction=True,
        level=ReadLevel.LINEARIZABLE,
        freshness_s=1.0,
        freshness_strict=True,
        min_index=5,
        timeout_s=2.0,
        linearizable_timeout_s=3.0,
        db_timeout_s=4.0,
        qualify_columns=True,
        timings=True,
    )
    assert bench.node.requests == [expected]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("transaction", "transaction"),
        ("level=none", "level"),
        ("freshness=1s", "freshness_s"),
        ("min_index=1", "min_index"),
        ("timeout=1s", "timeout_s"),
        ("linearizable_timeout=1s", "linearizable_timeout_s"),
        ("db_timeout=1s", "db_timeout_s"),
        ("qualify_columns", "qualify_columns"),
        ("timings", "timings"),
    ],
)
async def test_each_flag_alone_reaches_the_request(bench: Bench, query: str, field: str) -> None:
    await bench.post(f"/db/query?{query}", ["SELECT 1"])
    (request,) = bench.node.requests
    assert getattr(request, field) != getattr(Request(RequestKind.QUERY, [], []), field)


async def test_timings(bench: Bench) -> None:
    got = await bench.post("/db/execute?timings=false", [CREATE, "SELEC"])
    body = got.json
    assert list(body) == ["results", "time"]
    assert body["time"] > 0
    assert all(item["time"] > 0 for item in body["results"])


async def test_raft_index_only_for_what_went_through_the_log(bench: Bench) -> None:
    got = await bench.post("/db/execute?raft_index", [CREATE])
    assert got.body == b'{"results":[{}],"raft_index":1}'
    got = await bench.post("/db/query?raft_index", ["SELECT 1"])
    assert "raft_index" not in got.json
    assert got.headers["rsqlite-index"] == "1"


async def test_queued_writes_are_refused_clearly(bench: Bench) -> None:
    got = await bench.post("/db/execute?queue&wait", [CREATE])
    assert (got.status, got.headers["rsqlite-write"]) == (501, "not-applied")
    assert got.text == "queued writes are not supported: send the request without queue\n"
    assert bench.node.requests == []
    assert (await bench.post("/db/request?queue&wait", [CREATE])).status == 200


async def test_bad_parameters_are_refused_on_every_endpoint(bench: Bench) -> None:
    for method, path in (("POST", "/db/execute"), ("GET", "/status"), ("GET", "/nothing")):
        got = await bench.call(method, f"{path}?timeout=soon", b"[]")
        assert (got.status, got.text) == (400, "timeout is not a valid duration\n")
    assert bench.node.requests == []


async def test_paths_match_by_prefix(bench: Bench) -> None:
    assert (await bench.post("/db/executes/more", [CREATE])).status == 200
    assert (await bench.get("/statusquo")).status == 200
    assert (await bench.get("/leaders")).status == 404


async def test_methods(bench: Bench) -> None:
    for method, path, allow in (
        ("GET", "/db/execute", "POST"),
        ("PUT", "/db/query", "GET, POST"),
        ("HEAD", "/db/query?q=SELECT+1", "GET, POST"),
        ("GET", "/db/request", "POST"),
        ("POST", "/status", "GET"),
    ):
        got = await bench.call(method, path)
        assert (got.status, got.body, got.headers["allow"]) == (405, b"", allow)
    assert bench.node.requests == []


async def test_options_and_cors(start: Start) -> None:
    bench = await start(http_allow_origin="https://app.example")
    got = await bench.call("OPTIONS", "/anything?timeout=soon")
    assert (got.status, got.body) == (200, b"")
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    got = await bench.get("/nothing")
    assert (got.status, got.body) == (404, b"")
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    assert "content-type" not in got.headers


async def test_there_is_no_console(bench: Bench) -> None:
    for path in ("/", "/console", "/console/"):
        got = await bench.get(path)
        assert got.status == 404
        assert "no web console" in got.text


async def test_what_is_not_built_says_so(bench: Bench) -> None:
    for method, path in (
        ("GET", "/db/backup"),
        ("POST", "/db/load"),
    ):
        got = await bench.call(method, path)
        assert (got.status, got.text) == (501, f"{method} {path} is not supported\n")


FOLLOWER_REDIRECTS: list[tuple[str, str, Any, bool]] = [
    ("POST", "/db/execute?redirect", [CREATE], True),
    ("POST", "/db/request?redirect&x=%20", [CREATE], True),
    ("POST", "/db/request?redirect&level=none", ["SELECT 1"], False),
    ("GET", "/db/query?q=SELECT+1&redirect", None, True),
    ("GET", "/db/query?q=SELECT+1&redirect&level=strong", None, True),
    ("GET", "/db/query?q=SELECT+1&redirect&level=none", None, False),
    ("GET", "/db/query?q=SELECT+1&redirect&level=linearizable", None, False),
    ("POST", "/db/execute", [CREATE], False),
]


@pytest.mark.parametrize("shortcut", ["on", "off"])
async def test_redirects_go_to_the_leader_with_path_and_query(start: Start, shortcut: str) -> None:
    bench = await start(FakeNode(leads=False), http_shortcut=shortcut)
    for method, target, body, is_redirected in FOLLOWER_REDIRECTS:
        got = await bench.call(method, target, body)
        if is_redirected:
            assert got.status == 301
            assert got.headers["location"] == f"http://leader.example:4001{target}"
        else:
            assert got.status == 200
    bench.node.leader = None
    got = await bench.post("/db/execute?redirect", [CREATE])
    assert (got.status, got.text) == (503, "leader not found\n")
    assert (got.headers["retry-after"], got.headers["rsqlite-write"]) == ("1", "not-applied")
    bench.node.leader = Member(NodeId(2), "two", "b:4002", "https://b:4001/")
    got = await bench.post("/db/execute?redirect", [CREATE])
    assert got.headers["location"] == "https://b:4001/db/execute?redirect"


@pytest.mark.parametrize("shortcut", ["on", "off"])
async def test_a_forwarded_answer_names_the_node_that_gave_it(start: Start, shortcut: str) -> None:
    bench = await start(FakeNode(leads=False), http_shortcut=shortcut)
    got = await bench.post("/db/execute", [CREATE])
    assert got.headers["x-rqlite-served-by"] == "leader.example:4002"
    assert got.headers["rsqlite-index"] == "1"


async def test_a_redirect_of_a_bad_body_is_still_a_400(start: Start) -> None:
    bench = await start(FakeNode(leads=False))
    assert (await bench.post("/db/execute?redirect", b"[")).status == 400
