"""Whatever is sent as a body: a clean answer, and a database that did not change."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsqlite.config import Settings
from rsqlite.server.app import HttpServer
from tests.server.conftest import Bench, message, read_answer
from tests.server.fake_node import FakeNode

pytestmark = pytest.mark.slow

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["x'00'", "SELECT 1", "SELECT ?", ""]),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON of odd shapes, and broken JSON. No statement in it writes."""
    value: Any = draw(json_values)
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Integers beyond 64 bits and lone surrogates have no JSON of orjson's.
        text = repr(value).encode("utf-8", "surrogatepass")
    how = draw(st.integers(0, 5))
    position = draw(st.integers(0, len(text)))
    if how == 0:
        return text[:position]
    if how == 1:
        return text[:position] + draw(st.binary(max_size=4)) + text[position:]
    if how == 2:
        return b"[" * draw(st.integers(1, 2000)) + text
    return text


class Rig:
    """Two servers, one for each HTTP path, over databases that must stay as they are."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.benches = [self.runner.run(self.start(shortcut)) for shortcut in ("on", "off")]
        self.before = [self.content(bench) for bench in self.benches]

    async def start(self, shortcut: str) -> Bench:
        node, server = FakeNode(), HttpServer()
        node.connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
        await server.start(node, Settings(http_addr="127.0.0.1:0", http_shortcut=shortcut))
        return Bench(server, node)

    @staticmethod
    def content(bench: Bench) -> tuple[Any, ...]:
        connection = bench.node.connection
        rows = connection.execute("SELECT * FROM sqlite_schema UNION ALL SELECT a,0,0,0,0 FROM t")
        return connection.total_changes(), rows.fetchall(), connection.in_transaction

    async def post(self, bench: Bench, target: str, body: bytes) -> int:
        """Two requests on one connection: the odd one, and a good one that must work after it."""
        reader, writer = await bench.connect()
        writer.write(message("POST", target, body))
        got = await read_answer(reader)
        writer.write(message("POST", "/db/query", ["SELECT 1"]))
        assert (await read_answer(reader)).status == 200
        writer.close()
        bench.writers.clear()
        if got.status == 200:
            assert "results" in got.json
        return got.status

    def close(self) -> None:
        for bench in self.benches:
            self.runner.run(bench.server.stop())
            assert bench.server.core.budget.used == 0
        self.runner.close()


@pytest.mark.parametrize(
    "target",
    [
        "/db/execute",
        "/db/query",
        "/db/request",
        "/db/query?typed",
        "/db/request?typed&compact&many",
    ],
)
def test_odd_bodies_get_clean_answers(target: str) -> None:
    rig = Rig()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bodies())
    def check(body: bytes) -> None:
        first, second = (rig.runner.run(rig.post(bench, target, body)) for bench in rig.benches)
        assert first == second
        assert first in (200, 400), body
        for bench, before in zip(rig.benches, rig.before, strict=True):
            assert rig.content(bench) == before

    try:
        check()
    finally:
        rig.close()
