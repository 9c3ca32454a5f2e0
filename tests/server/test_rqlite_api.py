"""/db/* over the wire, on both HTTP paths."""

from __future__ import annotations

from conftest import Bench


async def test_a_first_create_table_answers_an_empty_object(bench: Bench) -> None:
    got = await bench.post("/db/execute", ["CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)"])
    assert (got.status, got.body) == (200, b'{"results":[{}]}')
    assert got.headers["content-type"] == "application/json; charset=utf-8"


async def test_an_insert_answers_its_numbers_and_its_index(bench: Bench) -> None:
    await bench.post("/db/execute", ["CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)"])
    got = await bench.post("/db/execute", [["INSERT INTO t(name) VALUES(?)", "fiona"]])
    assert got.body == b'{"results":[{"last_insert_id":1,"rows_affected":1}]}'
    assert got.headers["rsqlite-index"] == "2"
    assert got.headers["x-rqlite-served-by"] == bench.server.address
    assert got.headers["x-rqlite-version"] == "v0.1.0"
    got = await bench.get("/db/query?q=SELECT+*+FROM+t&pretty")
    assert got.text.startswith('{\n    "results": [\n        {\n            "columns": [')
    got = await bench.post("/db/query", ["SELECT * FROM t"])
    assert got.body == (
        b'{"results":[{"columns":["id","name"],"types":["integer","text"],"values":[[1,"fiona"]]}]}'
    )
