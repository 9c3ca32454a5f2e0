"""The proxy makes links longer: nothing is early, out of order, lost or changed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bench import proxy
from bench.proxy import Delay, DelayProxy, Lane, patient_loop, put_before
from rsqlite.testing.cluster import ProcessCluster

ROUND_TRIP = 0.04


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def server(answer: Callable[..., Awaitable[None]]) -> AsyncIterator[str]:
    """Its address; `answer(reader, writer)` serves each connection, which is closed after it."""
    ended: list[asyncio.Task[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.append(task)
        await answer(reader, writer)
        writer.close()
        await writer.wait_closed()

    serving = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with serving:
        port = serving.sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    await asyncio.gather(*ended)


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Streams]:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.mark.slow
async def test_an_answer_takes_the_round_trip_at_least() -> None:
    async with server(echo) as target:
        with DelayProxy([target]) as delayed:
            async with connected(delayed.addresses[0]) as (reader, writer):
                for round_trip in (0.0, 0.001, ROUND_TRIP):
                    delayed.set_round_trip(round_trip)
                    begin = time.perf_counter()
                    writer.write(b"ping")
                    assert await reader.readexactly(4) == b"ping"
                    assert time.perf_counter() - begin >= round_trip


@pytest.mark.slow
async def test_bytes_come_whole_and_in_order_while_the_delay_changes() -> None:
    sent = random.Random(1).randbytes(4_000_000)
    async with server(echo) as target:
        with DelayProxy([target]) as delayed:
            async with connected(delayed.addresses[0]) as (reader, writer):

                async def send() -> None:
                    for number, at in enumerate(range(0, len(sent), 40_000)):
                        delayed.set_round_trip((number % 3) * 0.01)
                        writer.write(sent[at : at + 40_000])
                        await writer.drain()
                    writer.write_eof()

                sending = asyncio.create_task(send())
                assert await reader.read(-1) == sent  # and the end comes behind the last byte
                await sending


@pytest.mark.slow
async def test_one_direction_may_end_before_the_other() -> None:
    async def after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read(-1))

    async with server(after_the_end) as target:
        with DelayProxy([target]) as delayed:
            delayed.set_round_trip(ROUND_TRIP)
            async with connected(delayed.addresses[0]) as (reader, writer):
                writer.write(b"yes")
                writer.write_eof()
                assert await reader.read(-1) == b"you said yes"


@pytest.mark.slow
async def test_a_target_that_is_gone_ends_the_connection() -> None:
    async with server(echo) as target:
        pass
    with DelayProxy([target]) as delayed:
        async with connected(delayed.addresses[0]) as (reader, _):
            assert await reader.read(-1) == b""


class Transport(asyncio.Transport):
    """Remembers what was done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reads = True
        self.is_closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


def lanes(delay: Delay) -> tuple[Lane, Transport, Lane, Transport]:
    """Both ends of a connection through the proxy."""
    near, far = Lane(delay), Lane(delay)
    near_transport, far_transport = Transport(), Transport()
    near.connection_made(near_transport)
    far.connection_made(far_transport)
    return near, near_transport, far, far_transport


async def test_no_more_is_read_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "BYTES_MAX", 10)
    near, near_transport, far, far_transport = lanes(Delay())
    near.data_received(b"0123456789")
    assert near_transport.reads
    near.data_received(b"a")
    assert not near_transport.reads, "there is no other end yet, and enough waits for it"
    near.join(far)
    assert far_transport.written == [b"0123456789", b"a"]
    assert near_transport.reads
    far.pause_writing()
    assert not near_transport.reads, "the receiver takes no more"
    far.resume_writing()
    assert near_transport.reads


async def test_a_connection_that_breaks_is_closed_on_the_other_side_behind_its_bytes() -> None:
    near, near_transport, far, far_transport = lanes(Delay())
    near.data_received(b"last words")
    near.connection_lost(ConnectionResetError())
    assert not far_transport.is_closed
    near.join(far)
    assert far_transport.written == [b"last words"]
    assert far_transport.is_closed
    assert not near_transport.is_closed, "it is gone already"


def test_the_loop_waits_to_the_microsecond() -> None:
    """epoll would round half a millisecond up to one: a link of 1 ms would be one of 2 ms."""
    with asyncio.Runner(loop_factory=patient_loop) as runner:
        selector = runner.get_loop()._selector  # type: ignore[attr-defined]
        assert type(selector).__name__ == "SelectSelector"


def test_nodes_are_told_the_addresses_of_the_proxy_only(tmp_path: Any) -> None:
    cluster = ProcessCluster(3, tmp_path)
    put_before(cluster, ["a:1", "b:2", "c:3"])
    for node, address in zip(cluster.nodes, ["a:1", "b:2", "c:3"], strict=True):
        assert node.options[node.options.index("-join") + 1] == "a:1,b:2,c:3"
        assert node.options[node.options.index("-raft-adv-addr") + 1] == address
        assert node.raft_addr not in node.options
