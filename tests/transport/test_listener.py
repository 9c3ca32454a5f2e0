"""Strangers on the raft address: whatever they send costs them their connection and nobody else."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.transport import frame
from rsqlite.transport.frames import HEADER, MAGIC, MORE, pack_piece
from rsqlite.transport.handshake import Hello, parse_address
from tests.transport.conftest import SETTINGS


async def talk(address: str, data: bytes, *, wait_s: float = 5.0) -> bytes:
    """Send bytes and read until the other side closes."""
    host, port = parse_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), wait_s)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def linked(address: str, source: int, target: int) -> Any:
    """A link opened by hand: its reader and writer, after the 101."""
    host, port = parse_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(Hello("c", source, "127.0.0.1:1", target).to_request(address))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return reader, writer


def test_a_stranger_learns_who_the_node_is(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        answer = await talk(a.address, b"GET /raft/v1/identity HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"aiohttp" not in head
        assert json.loads(body) == {"node_id": 1, "cluster_id": "c"}

    play_sockets(scenario)


HELLO = Hello("c", 9, "127.0.0.1:1", 1).to_request("x")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]", 404),
        (b"POST /raft/v1/identity HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"GET /raft/v1/link HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (HELLO.replace(b"rsqlite-raft", b"websocket"), 426),
        (HELLO.replace(b"Protocol: 1", b"Protocol: 2"), 426),
        (HELLO.replace(b"Protocol: 1", b"Protocol: one"), 400),
        (HELLO.replace(b"Node: 9", b"Node: 99999999999999999999"), 400),
        (HELLO.replace(b"Node: 9", b"Node: 1"), 409),
        (HELLO.replace(b"Target: 1", b"Target: 2"), 421),
        (HELLO.replace(b"Cluster: c", b"Cluster: d"), 409),
        (HELLO.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_requests_that_get_no_link(play_sockets: Any, request_bytes: bytes, status: int) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        answer = await talk(a.address, request_bytes)
        assert answer.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status)), answer
        assert b"\r\nServer: rsqlite\r\n" in answer
        for name in (b"Python", b"aiohttp"):
            assert name not in answer
        assert a.received == []
        assert a.closed == []

    play_sockets(scenario)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]",
        b"HELO\r\n\r\n",
    ],
)
def test_who_takes_the_raft_address_for_another_is_told(
    play_sockets: Any, request_bytes: bytes
) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        answer = await talk(a.address, request_bytes)
        _, _, body = answer.partition(b"\r\n\r\n")
        assert body.startswith(b"this is the raft address of an rsqlite node")
        assert body.endswith(b"-http-addr\n")

    play_sockets(scenario)


@pytest.mark.slow
def test_strangers_that_say_nothing_are_put_out(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        host, port = parse_address(a.address)
        silent = [await asyncio.open_connection(host, port) for _ in range(3)]
        silent[1][1].write(b"GET /raft/v1/li")
        for reader, _ in silent:
            assert await asyncio.wait_for(_to_the_end(reader), 5) == b""
        for _, writer in silent:
            writer.close()

    play_sockets(scenario)


PART = b"part of an image" * (1 << 20)
"""More than the kernel takes at once."""


async def _ask_for_a_part(world: Any) -> tuple[Any, asyncio.StreamReader, asyncio.StreamWriter]:
    a = await world.peer(1)
    a.parts["x/0"] = PART
    host, port = parse_address(a.address)
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 16)
    writer.write(b"GET /raft/v1/image/x/0 HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return a, reader, writer


@pytest.mark.slow
def test_who_takes_a_part_of_an_image_slowly_gets_all_of_it(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        _, reader, writer = await _ask_for_a_part(world)
        began, taken = time.monotonic(), bytearray()
        while piece := await reader.read(1 << 18):
            taken += piece
            # It takes several times as long as a stranger may be silent.
            slow = time.monotonic() - began < 4 * world.settings.peer_handshake_timeout
            await world.pause(0.01 if slow else 0)
        assert bytes(taken) == PART
        writer.close()

    play_sockets(scenario)


@pytest.mark.slow
def test_who_takes_nothing_of_a_part_is_put_out(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a, reader, writer = await _ask_for_a_part(world)
        await world.until(lambda: not a.network._listener._web.connections)
        assert len(await _to_the_end(reader)) < len(PART)
        writer.close()

    settings = dataclasses.replace(SETTINGS, image_part_timeout=0.4)
    play_sockets(scenario, settings)


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.slow
def test_connections_are_counted_and_links_survive_a_crowd(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        host, port = parse_address(a.address)
        crowd = [await asyncio.open_connection(host, port) for _ in range(20)]
        # Eight are allowed, one of them is a link: the others are shown the door at once.
        refused = [reader for reader, _ in crowd[8:]]
        for reader in refused:
            assert await asyncio.wait_for(_to_the_end(reader), 5) == b""
        assert b.network.send(1, frame(5, b"still here"))
        await world.until(lambda: a.received == [(2, 5, b"still here")])
        for _, writer in crowd:
            writer.close()
        # When the crowd is gone there is room again.
        await world.until(lambda: len(a.network._listener._web.connections) == 1)
        assert (await talk(a.address, b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 404")

    play_sockets(scenario)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00" * 50,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        HEADER.pack(MAGIC, 0, 0xFFFF_FFFF, 0),
        HEADER.pack(MAGIC, 0, 5, 12345) + b"hello",
        HEADER.pack(MAGIC, 99, 5, 0) + b"hello",
        pack_piece(b"x", MORE),
        pack_piece(b"x" * 1_000_000, MORE) * 4,
        b"\xff" * 100_000,
    ],
)
def test_bytes_that_are_no_frames_end_that_link_only(play_sockets: Any, stream: bytes) -> None:
    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        reader, writer = await linked(a.address, 9, 1)
        writer.write(pack_piece(b"\x05ok", 0) + stream)
        assert await asyncio.wait_for(_to_the_end(reader), 5) in (b"", pack_piece(b"\x00", 2))
        writer.close()
        await world.until(lambda: a.closed == [9])
        assert a.received == [(9, 5, b"ok")]
        assert b.network.send(1, frame(5, b""))
        await world.until(lambda: len(a.received) == 2)

    play_sockets(scenario, CAPPED)


CAPPED = Settings(
    raft_addr="127.0.0.1:0", peer_frame_bytes_max=2_000_000, peer_queue_bytes_max=4_000_000
)


def test_random_bytes_harm_nobody(play_sockets: Any) -> None:
    """Before the handshake and after it: the node goes on, and no connection is left behind."""

    async def scenario(world: Any) -> None:
        a, b = await world.joined(1, 2)
        dice = random.Random(11)
        for _ in range(20):
            await talk(a.address, dice.randbytes(dice.randrange(1, 3000)) + b"\r\n\r\n\r\n\r\n")
        for number in range(20):
            reader, writer = await linked(a.address, 100 + number, 1)
            writer.write(dice.randbytes(dice.randrange(12, 3000)))
            await asyncio.wait_for(_to_the_end(reader), 5)
            writer.close()
        await world.until(lambda: len(a.network._listener._web.connections) == 1)
        assert a.received == []
        assert b.network.send(1, frame(5, b"fine"))
        await world.until(lambda: a.received == [(2, 5, b"fine")])

    play_sockets(scenario)


@pytest.mark.slow
def test_bytes_sent_before_the_101_cannot_be_frames(play_sockets: Any) -> None:
    """aiohttp may have read them already: they are lost, and what follows is no frame."""

    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        host, port = parse_address(a.address)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(HELLO + pack_piece(b"\x05early", 0)[:7])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(pack_piece(b"\x05early", 0)[7:])
        await asyncio.wait_for(_to_the_end(reader), 5)
        writer.close()
        assert a.received == []

    play_sockets(scenario)


def test_a_second_link_of_the_same_node_replaces_the_first(play_sockets: Any) -> None:
    """Its first one broke, though we never heard: it would not have dialled again otherwise."""

    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        reader, writer = await linked(a.address, 9, 1)
        _, second = await linked(a.address, 9, 1)
        await asyncio.wait_for(_to_the_end(reader), 5)
        await world.until(lambda: a.closed == [9])
        second.write(pack_piece(b"\x05new", 0))
        await world.until(lambda: a.received == [(9, 5, b"new")])
        second.close()
        await world.until(lambda: a.closed == [9, 9])
        writer.close()

    play_sockets(scenario)


def test_the_address_in_use_is_an_os_error(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        with pytest.raises(OSError, match="address already in use"):
            await _start_another(world, a.address)

    play_sockets(scenario)


async def _start_another(world: Any, address: str) -> None:
    other = await world.peer(2)
    await world.stop(other)
    try:
        await world.start(other, address)
    finally:
        await other.network.stop()


def test_localhost_is_every_address_of_that_name_with_one_port(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        await world.stop(a)
        await world.start(a, "localhost:0")
        host, port = parse_address(a.address)
        assert host == "localhost"
        assert port != 0
        answer = await talk(f"127.0.0.1:{port}", b"GET /raft/v1/identity HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 200 ")

    play_sockets(scenario)


def test_what_strangers_send_is_not_logged(
    play_sockets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A port scan must not fill a disk with tracebacks."""

    async def scenario(world: Any) -> None:
        a = await world.peer(1)
        for data in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"):
            await talk(a.address, data)
        # A question that breaks off in its body. The answers to others say that it was seen.
        asks = b"GET /raft/v1/identity HTTP/1.1\r\nHost: x\r\n\r\n"
        _, writer = await asyncio.open_connection(*parse_address(a.address))
        writer.write(b"POST /raft/v1/ask HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await talk(a.address, asks)
        writer.transport.abort()
        await talk(a.address, asks)

    play_sockets(scenario)
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []
