"""The short cut: reads of any size, pipelining, its memory of heads, leaving and stopping."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest

from rsqlite.request import Outcome, Write
from rsqlite.server.shortcut import ShortcutServer
from tests.server.conftest import Bench, Start, message, pause, read_answer, until
from tests.server.fake_node import FakeNode

CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, n)"


def insert(number: int) -> bytes:
    return message("POST", "/db/execute", [["INSERT INTO t(n) VALUES(?)", f"{number:06d}"]])


async def created(start: Start, **settings: object) -> Bench:
    bench = await start(**settings)
    await bench.post("/db/execute", [CREATE])
    return bench


def core_of(bench: Bench) -> ShortcutServer:
    return cast(ShortcutServer, bench.server.core)


async def test_known_heads_take_the_short_cut(start: Start) -> None:
    bench = await created(start)
    reader, writer = await bench.connect()
    for number in range(3):
        writer.write(insert(number))
        got = await read_answer(reader)
        assert got.json["results"][0]["last_insert_id"] == number + 1
    counters = bench.server.counters
    assert (counters.requests, counters.shortcut_requests, counters.executions) == (4, 4, 4)
    assert len(core_of(bench).heads) == 2


@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (20, 200), (5000, 9000)])
async def test_reads_may_fall_anywhere(start: Start, sizes: tuple[int, int]) -> None:
    bench = await created(start)
    chance = random.Random(1)
    count = 30 if sizes[0] > 1 else 3
    data = b"".join(
        insert(number) if number % 3 else message("GET", "/db/query?q=SELECT+1")
        for number in range(count)
    )
    reader, writer = await bench.connect()

    async def send() -> None:
        position = 0
        while position < len(data):
            size = chance.randint(*sizes)
            writer.write(data[position : position + size])
            position += size
            await asyncio.sleep(0)

    sending = asyncio.create_task(send())
    inserted = 0
    for number in range(count):
        (result,) = (await read_answer(reader)).json["results"]
        if number % 3:
            inserted += 1
            assert result["last_insert_id"] == inserted
        else:
            assert result["values"] == [[1]]
    await sending
    assert bench.server.counters.shortcut_requests == count + 1


async def test_answers_leave_in_the_order_of_the_requests(start: Start) -> None:
    bench = await created(start)
    node = bench.node
    node.is_holding = True
    reader, writer = await bench.connect()
    writer.write(b"".join(insert(number) for number in range(5)))
    for number in range(5):
        await until(lambda: node.held)
        assert len(node.held) == 1, "one request of a connection at a time"
        request, done = node.held.popleft()
        assert request.parameters == [[f"{number:06d}"]]
        done(Outcome([], number + 1))
        assert (await read_answer(reader)).headers["rsqlite-index"] == str(number + 1)


async def test_reading_pauses_while_too_much_is_held(start: Start) -> None:
    bench = await created(start, pipeline_bytes_max=4096)
    node, core = bench.node, core_of(bench)
    node.is_holding = True
    reader, writer = await bench.connect()
    count = 20_000
    writer.write(b"".join(insert(number) for number in range(count)))
    await until(lambda: node.held)
    (connection,) = core.open
    await until(lambda: connection._is_reading_held)  # type: ignore[attr-defined]
    await pause(0.05)
    held = len(connection._held)  # type: ignore[attr-defined]
    assert 4096 < held < 600_000, "some reads at most, of 3.4 MB"
    node.release()
    for number in range(count):
        assert (await read_answer(reader)).headers["rsqlite-index"] == str(number + 2)


async def test_what_is_not_plain_goes_to_aiohttp_for_good(start: Start) -> None:
    bench = await created(start)
    reader, writer = await bench.connect()
    writer.write(insert(1) + message("GET", "/leader") + insert(2) + insert(3))
    answers = [await read_answer(reader) for _ in range(4)]
    assert [got.status for got in answers] == [200] * 4
    assert answers[1].json["id"] == "one"
    assert answers[3].json["results"][0]["last_insert_id"] == 3
    counters = bench.server.counters
    assert (counters.requests, counters.shortcut_requests) == (5, 2)


async def test_the_memory_of_heads_is_bounded(start: Start) -> None:
    bench = await created(start, shortcut_heads_max=4)
    for number in range(20):
        assert (await bench.get(f"/db/query?q=SELECT+{number}")).status == 200
    assert len(core_of(bench).heads) == 4
    assert (await bench.get("/db/query?q=SELECT+1" + "+" * 5000)).status == 200
    assert all(len(head) <= 4096 for head in core_of(bench).heads)


async def test_broken_heads_are_not_remembered(start: Start) -> None:
    bench = await start()
    for data in (
        b"POST /db/query HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /db/query?timeout=x HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /db/execute?queue HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /db/query HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /db/query HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"GET /db/execute HTTP/1.1\r\n\r\n",
    ):
        assert (await bench.send(data)).status >= 400
    assert core_of(bench).heads == {}


async def test_requests_behind_a_closing_one_are_not_run(start: Start) -> None:
    bench = await created(start)
    bench.node.outcome = Outcome([cast("Write", "not a result")], 1)
    reader, writer = await bench.connect()
    writer.write(insert(1) + insert(2))
    got = await read_answer(reader)
    assert (got.status, got.headers["connection"]) == (500, "close")
    assert await reader.read() == b""
    assert len(bench.node.requests) == 2, "the CREATE and the first INSERT"


@pytest.mark.parametrize("shortcut", ["on", "off"])
async def test_a_stop_lets_requests_under_way_end(start: Start, shortcut: str) -> None:
    bench = await created(start, http_shortcut=shortcut)
    bench.node.is_holding = True
    idle, _ = await bench.connect()
    reader, writer = await bench.connect()
    writer.write(insert(1) + insert(2))
    await until(lambda: bench.node.held)
    stopping = asyncio.create_task(bench.server.stop())
    assert await idle.read() == b""
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(bench.host, bench.port)
    assert not stopping.done()
    bench.node.release()
    assert (await read_answer(reader)).status == 200
    assert await reader.read() == b"", "what was pipelined behind it is not served"
    await asyncio.wait_for(stopping, 2)
    assert len(bench.node.requests) == 2


@pytest.mark.parametrize("shortcut", ["on", "off"])
async def test_a_stop_does_not_wait_for_ever(start: Start, shortcut: str) -> None:
    bench = await created(start, http_shortcut=shortcut, shutdown_timeout=0.05)
    bench.node.is_holding = True
    reader, writer = await bench.connect()
    writer.write(insert(1))
    await until(lambda: bench.node.held)
    await asyncio.wait_for(bench.server.stop(), 2)
    assert await reader.read() == b""
    bench.node.release()
    assert bench.server.core.open == set()


async def test_the_budget_is_given_back_for_every_way_out(start: Start) -> None:
    bench = await created(start)
    for body in (b"[", b'["SELECT 1"]', b"x" * 100_000):
        await bench.post("/db/query", body)
        assert core_of(bench).budget.used == 0


async def test_a_mistake_in_an_answer_does_not_reach_the_node(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await start(FakeNode())
    bench.node.outcome = Outcome([cast("Write", object())], 1)
    got = await bench.post("/db/query", ["SELECT 1"])
    assert (got.status, got.text) == (500, "internal error\n")
    assert "error in the answer to /db/query" in caplog.text
