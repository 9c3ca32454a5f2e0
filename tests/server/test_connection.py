"""Deadlines and bounds of connections, with raw sockets, on both HTTP paths."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from rsqlite.config import KIB, Settings
from rsqlite.request import Outcome, Rows
from tests.server.conftest import Bench, Start, message, pause, read_answer, until
from tests.server.fake_node import FakeNode

pytestmark = pytest.mark.slow

HEAD = b"POST /db/query HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n"
BODY = b'["SELECT 1"]'


async def ends(reader: asyncio.StreamReader, within_s: float = 3.0) -> bytes:
    """What comes until the server closes, which it must do in time."""
    async with asyncio.timeout(within_s):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.fixture(params=["on", "off"])
def shortcut(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("sent", [b"P", HEAD[:30], b"GET /nothing HTTP/1.1\r\nHost:"])
async def test_a_head_that_does_not_end_is_a_408(start: Start, shortcut: str, sent: bytes) -> None:
    bench = await start(http_shortcut=shortcut, head_timeout=0.15)
    reader, writer = await bench.connect()
    writer.write(sent)
    answer = await ends(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in answer
    assert bench.server.counters.deadlines_missed == 1


async def test_dribbling_does_not_extend_a_deadline(start: Start, shortcut: str) -> None:
    bench = await start(
        http_shortcut=shortcut, head_timeout=0.2, body_timeout=0.2, linger_timeout=0.1
    )
    for beginning in (b"GET / HTTP/1.1\r\nA: ", HEAD.replace(b"12", b"5000")):
        reader, writer = await bench.connect()
        writer.write(beginning)
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = asyncio.ensure_future(ends(reader))
        while not ended.done():
            assert loop.time() - began < 2.0, "still open"
            writer.write(b" ")
            await asyncio.wait([ended], timeout=0.02)
        # A byte that crosses the closing resets the connection, and the 408 may be lost to it.
        assert (await ended)[:13] in (b"HTTP/1.1 408 ", b"")
    assert bench.server.counters.deadlines_missed == 2
    assert bench.node.requests == []


async def test_a_body_that_does_not_end_is_a_408(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, body_timeout=0.15, linger_timeout=0.1)
    await bench.send(HEAD + BODY)
    for path, fate in (("/db/query", False), ("/db/execute", True)):
        reader, writer = await bench.connect()
        writer.write(HEAD.replace(b"/db/query", path.encode()) + BODY[:5])
        answer = await ends(reader)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert (b"Rsqlite-Write: not-applied" in answer) is fate
    assert len(bench.node.requests) == 1
    assert bench.server.core.budget.used == 0


async def test_idle_connections_are_closed_without_a_word(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, idle_timeout=0.6)
    fresh, _ = await bench.connect()
    used, writer = await bench.connect()
    writer.write(HEAD + BODY)
    assert (await read_answer(used)).status == 200
    assert await ends(fresh) == b""
    assert await ends(used) == b""


async def test_a_busy_connection_is_not_idle(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, idle_timeout=0.1)
    bench.node.is_holding = True
    reader, writer = await bench.connect()
    writer.write(HEAD + BODY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await reader.read(1)
    bench.node.release()
    assert (await read_answer(reader)).status == 200


async def test_a_connection_in_use_outlives_the_idle_timeout(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, idle_timeout=0.3)
    reader, writer = await bench.connect()
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.9
    while loop.time() < end:
        writer.write(HEAD + BODY)
        assert (await read_answer(reader)).status == 200
        await pause(0.05)


async def test_connections_beyond_the_bound_are_told(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, connections_max=2, idle_timeout_crowded=60.0)
    first, first_writer = await bench.connect()
    await bench.connect()
    first_writer.write(HEAD + BODY)
    assert (await read_answer(first)).status == 200
    reader, _ = await bench.connect()
    got = await read_answer(reader)
    assert (got.status, got.text) == (503, "too many connections\n")
    assert got.headers["retry-after"] == "1"
    assert (got.headers["rsqlite-error"], got.headers["rsqlite-write"]) == (
        "overloaded",
        "not-applied",
    )
    assert await ends(reader) == b""
    assert bench.server.counters.connections_refused == 1
    first_writer.write(HEAD + BODY)
    assert (await read_answer(first)).status == 200


async def test_idle_connections_make_room_when_they_crowd(start: Start, shortcut: str) -> None:
    bench = await start(
        http_shortcut=shortcut, connections_max=8, idle_timeout_crowded=0.1, idle_timeout=1.0
    )
    readers = [(await bench.connect())[0] for _ in range(8)]
    for reader in readers:
        assert await ends(reader, 0.9) == b""
    assert (await bench.send(HEAD + BODY)).status == 200


class SlowReader:
    """A client that asks for a large answer and does not read it."""

    def __init__(self, bench: Bench) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        self.bench = bench

    async def ask(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, (self.bench.host, self.bench.port))
        await loop.sock_sendall(self.socket, data)


def large_answer(count: int = 20_000) -> Outcome:
    return Outcome([Rows(["a"], ["TEXT"], [("x" * 1000,)] * count)], 1)


async def test_a_slow_reader_is_cut_off(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, answer_timeout=0.3)
    bench.node.outcome = large_answer()
    slow = SlowReader(bench)
    await slow.ask(HEAD + BODY)
    core = bench.server.core
    await until(lambda: core.untaken.used > 1_000_000)
    assert (await bench.get("/leader")).status == 200, "others are served meanwhile"
    await until(lambda: not core.open and core.untaken.used == 0)
    assert bench.server.counters.deadlines_missed == 1
    slow.socket.close()


async def test_a_slow_reader_cannot_pipeline_answers_into_memory(
    start: Start, shortcut: str
) -> None:
    bench = await start(http_shortcut=shortcut)
    bench.node.outcome = large_answer(3_000)
    slow = SlowReader(bench)
    await slow.ask((HEAD + BODY) * 8)
    await until(lambda: bench.server.core.untaken.used > 1_000_000)
    assert len(bench.node.requests) <= 2
    loop = asyncio.get_running_loop()
    received = 0
    while len(bench.node.requests) < 8:
        received += len(await loop.sock_recv(slow.socket, 2**20))
    slow.socket.close()
    assert received > 15_000_000
    await until(lambda: not bench.server.core.open)


QUERY = b"GET /db/query?q=SELECT%201 HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("asked", [HEAD + BODY, QUERY], ids=["post", "get"])
async def test_untaken_answers_over_the_bound_refuse_reads_and_nothing_else(
    start: Start, shortcut: str, asked: bytes
) -> None:
    bench = await start(http_shortcut=shortcut, answers_bytes_max=30_000_000)
    bench.node.outcome = large_answer()
    core = bench.server.core
    slow = [SlowReader(bench) for _ in range(6)]
    for number, one in enumerate(slow):
        await one.ask(asked)
        await until(lambda number=number: bench.server.counters.queries == number + 1)
    assert 30_000_000 <= core.untaken.used < 30_000_000 + 20_100_000
    assert len(bench.node.requests) == 2, "a read that is refused is not run"
    refused = await bench.send(asked)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["rsqlite-error"] == "overloaded"
    assert "answers" in refused.text
    bench.node.outcome = None
    written = await bench.post("/db/execute", ["CREATE TABLE IF NOT EXISTS t(a)"])
    assert written.status == 200
    assert (await bench.get("/status")).status == 200
    for one in slow:
        one.socket.close()
    await until(lambda: core.untaken.used == 0)
    assert (await bench.send(asked)).status == 200


async def test_reads_that_end_over_the_bound_give_their_rows_back(
    start: Start, shortcut: str
) -> None:
    """They were begun together, so no look at the beginning could have stopped them."""
    bench = await start(http_shortcut=shortcut, answers_bytes_max=30_000_000)
    bench.node.outcome = large_answer()
    bench.node.is_holding = True
    slow = [SlowReader(bench) for _ in range(6)]
    for one in slow:
        await one.ask(HEAD + BODY)
    mixed = asyncio.create_task(bench.post("/db/request", ["SELECT 1"]))
    await until(lambda: len(bench.node.held) == 7)
    bench.node.release()
    answer = await mixed
    assert answer.status == 503
    assert answer.headers["rsqlite-write"] == "not-applied"
    assert bench.server.core.untaken.used < 30_000_000 + 20_100_000
    assert bench.server.counters.overloads == 5
    for one in slow:
        one.socket.close()


async def test_over_the_bound_who_takes_nothing_is_cut_off_and_who_takes_is_not(
    start: Start, shortcut: str
) -> None:
    bench = await start(
        http_shortcut=shortcut,
        answers_bytes_max=30_000_000,
        answer_timeout_crowded=0.3,
        head_timeout=0.2,
    )
    bench.node.outcome = large_answer()
    core = bench.server.core
    alone, taking = SlowReader(bench), SlowReader(bench)
    await taking.ask(HEAD + BODY)
    await until(lambda: core.untaken.used > 1_000_000)
    await pause(0.5)
    assert len(core.open) == 1, "below the bound nobody is hurried"
    loop = asyncio.get_running_loop()
    received = len(await loop.sock_recv(taking.socket, 2**18))
    await alone.ask(HEAD + BODY)
    while not bench.server.counters.deadlines_missed:
        received += len(await loop.sock_recv(taking.socket, 2**18))
        await pause(0.02)
    await until(lambda: len(core.open) == 1)
    received = 0
    while received < 1_000_000:
        received += len(await loop.sock_recv(taking.socket, 2**20))
    for one in (alone, taking):
        one.socket.close()


async def test_bodies_over_the_bound_are_refused_before_they_are_read(
    start: Start, shortcut: str
) -> None:
    bench = await start(http_shortcut=shortcut, body_bytes_max=2 * KIB, linger_timeout=0.1)
    head = b"POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 2049\r\n\r\n"
    got = await bench.send(head)
    assert (got.status, got.text) == (413, "a body may have at most 2048 bytes\n")
    assert got.headers["rsqlite-write"] == "not-applied"
    chunked = b"POST /db/execute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    got = await bench.send(chunked + (b"400\r\n" + b" " * 1024 + b"\r\n") * 3)
    assert got.status == 413
    got = await bench.send(head.replace(b"2049", b"2048") + b" " * (2048 - len(BODY)) + BODY)
    assert got.status == 200
    assert len(bench.node.requests) == 1


async def test_who_sends_all_of_a_refused_body_reads_why(
    start: Start, shortcut: str, caplog: pytest.LogCaptureFixture
) -> None:
    size = 8_000_000  # more than the sockets hold between them, and more than a head may have
    bench = await start(http_shortcut=shortcut, body_bytes_max=2 * KIB, linger_timeout=2.0)
    head = f"POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
    reader, writer = await bench.connect()
    writer.write(head + b" " * size)
    await writer.drain()
    assert (await read_answer(reader)).status == 413
    assert await reader.read() == b"", "one answer, then the end"
    # Nor does the log grow with those who send a part and go.
    for begun in (head, head.replace(str(size).encode(), b"2000")):
        reader, writer = await bench.connect()
        writer.write(begun + b" " * 1000)
        await writer.drain()
        writer.close()
    await until(lambda: not bench.server.core.open)
    assert caplog.records == []


async def test_heads_over_the_bound_are_a_431(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, head_bytes_max=16 * KIB)
    for data in (
        b"GET /db/query?q=" + b"x" * 20_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3_000,
        b"GET / HTTP/1.1\r\nA: " + b"b" * 9_000 + b"\r\n\r\n",
    ):
        assert (await bench.send(data)).status in (400, 431)


async def test_too_many_bytes_under_way_are_a_503(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, bodies_bytes_max=4 * KIB, linger_timeout=0.1)
    padded = b" " * 3000 + BODY
    data = b"POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 3012\r\n\r\n" + padded
    bench.node.is_holding = True
    reader, writer = await bench.connect()
    writer.write(data)
    await until(lambda: bench.node.held)
    got = await bench.send(data)
    assert (got.status, got.text) == (503, "too many bytes of requests under way\n")
    assert (got.headers["retry-after"], got.headers["rsqlite-write"]) == ("1", "not-applied")
    assert got.headers["rsqlite-error"] == "overloaded"
    bench.node.release()
    assert (await read_answer(reader)).status == 200
    assert (await bench.send(data)).status == 200
    assert len(bench.node.requests) == 2
    assert bench.server.counters.overloads == 1


async def test_announced_bytes_take_nothing_from_others(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut, bodies_bytes_max=4 * KIB)
    head = b"POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"
    for _ in range(3):
        _, writer = await bench.connect()
        writer.write(head)
    assert (await bench.send(HEAD + BODY)).status == 200


async def test_a_body_that_outgrows_the_budget_on_its_way_is_a_503(
    start: Start, shortcut: str
) -> None:
    bench = await start(http_shortcut=shortcut, bodies_bytes_max=4 * KIB, linger_timeout=0.1)
    head = b"POST /db/execute HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"
    readers = []
    for _ in range(2):
        reader, writer = await bench.connect()
        writer.write(head + b" " * 10)
        readers.append((reader, writer))
    await until(lambda: bench.server.core.budget.used == 20)
    for _, writer in readers:
        writer.write(b" " * 3000)
    done, pending = await asyncio.wait(
        [asyncio.ensure_future(read_answer(reader)) for reader, _ in readers],
        return_when=asyncio.FIRST_COMPLETED,
    )
    assert [task.result().status for task in done] == [503]
    for task in pending:
        task.cancel()


async def test_expect_continue(bench: Bench) -> None:
    reader, writer = await bench.connect()
    writer.write(HEAD.replace(b"Host", b"Expect: 100-continue\r\nHost"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await read_answer(reader)).status == 200


async def test_a_client_that_leaves_leaves_nothing_behind(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut)
    core, node = bench.server.core, bench.node
    node.is_holding = True
    whole = HEAD + BODY
    for cut in (1, 10, len(HEAD) - 1, len(HEAD), len(HEAD) + 5, len(whole), len(whole) + 20):
        _, writer = await bench.connect()
        writer.write((whole + whole)[:cut])
        await writer.drain()
        await until(lambda: core.open)
        if cut >= len(whole):
            await until(lambda: node.held)
        writer.transport.abort()
        await until(lambda: not core.open)
        if cut >= len(whole):
            assert core.budget.used == len(BODY), "the node still has the body"
        held = len(node.held)
        node.release()
        node.is_holding = True
        assert held == (cut >= len(whole))
        await until(lambda: core.budget.used == 0)
    assert (await asyncio.wait_for(bench.get("/leader"), 2)).status == 200


async def test_others_are_served_beside_slow_ones(start: Start, shortcut: str) -> None:
    bench = await start(http_shortcut=shortcut)
    for sent in (b"", b"P", HEAD, HEAD + b"x"):
        for _ in range(20):
            _, writer = await bench.connect()
            writer.write(sent)
    for _ in range(20):
        assert (await bench.send(message("POST", "/db/query", ["SELECT 1"]))).status == 200


def test_the_bounds_of_the_defaults_fit_together() -> None:
    settings = Settings()
    assert replace(settings).check() == []
    assert settings.bodies_bytes_max >= settings.body_bytes_max
    assert FakeNode().leader is not None
