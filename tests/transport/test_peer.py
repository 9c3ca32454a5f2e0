"""Pauses between attempts, and when there are none."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.transport import LinkRefused
from rsqlite.transport.handshake import acceptance
from rsqlite.transport.peer import Backoff

PATIENT = Settings(raft_addr="127.0.0.1:0", peer_backoff_min=30.0, peer_backoff_max=60.0)


def test_pauses_double_up_to_the_longest_and_never_march_in_step() -> None:
    backoff = Backoff(0.05, 1.0, random.Random(7))
    pauses = [backoff.pause() for _ in range(50)]
    for pause, longest in zip(pauses, [0.05, 0.1, 0.2, 0.4, 0.8] + [1.0] * 45, strict=True):
        assert longest / 2 <= pause <= longest
    assert len(set(pauses)) == 50
    backoff.reset()
    assert backoff.pause() <= 0.05


def test_equal_seeds_give_equal_pauses() -> None:
    one, other = (Backoff(0.05, 1.0, random.Random(7)) for _ in range(2))
    assert [one.pause() for _ in range(10)] == [other.pause() for _ in range(10)]


def test_a_link_that_cannot_be_opened_is_tried_at_the_pace_of_its_pauses(
    play_sockets: Any,
) -> None:
    async def scenario(world: Any) -> None:
        attempts: list[float] = []

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            attempts.append(time.monotonic())
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        a = await world.peer(1)
        started = time.monotonic()
        a.network.connect({2: f"127.0.0.1:{port}"})
        await world.until(lambda: len(attempts) >= 4 and not a.link(2).error.startswith("not"))
        # Pauses of at least 5, 10 and 20 ms.
        assert attempts[-1] - started >= 0.035
        assert a.link(2).error == "closed without an answer"
        server.close()

    play_sockets(scenario)


def test_a_node_that_shows_up_is_dialled_without_a_pause(play: Any) -> None:
    """Reliability 1.3: a restarted node is back at once, whatever the pauses had grown to."""

    async def scenario(world: Any) -> None:
        a, b = await world.peer(1), await world.peer(2)
        address = b.address
        await world.stop(b)
        a.network.connect({2: address})
        await world.until(lambda: a.link(2).error not in ("", "not tried yet"))
        await world.start(b, address)
        started = world.loop.monotonic()
        b.network.connect({1: a.address})
        await world.until(lambda: a.is_linked(2) and b.is_linked(1))
        assert world.loop.monotonic() - started < 10

    play(scenario, PATIENT)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (acceptance(3, "c"), "node 3 answers, not 2"),
        (acceptance(2, "d"), "it belongs to cluster d"),
        (acceptance(2, "c").replace(b"rsqlite-raft", b"websocket"), "not that of an rsqlite node"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "hello"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 503 Busy"),
        (b"HTTP/1.1 409 No\r\n\r\n\x1b[31mred\r\nsecond line", "?[31mred"),
        (b"220 smtp.example.com ESMTP\r\n", "220 smtp.example.com ESMTP"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 101 " + b"x" * 100_000, "the answer is too long"),
        (b"\xff" * 100, ""),
    ],
)
def test_who_answers_is_checked_and_shown(play_sockets: Any, answer: bytes, error: str) -> None:
    """Whatever listens there: no link, a line for the operator, and another attempt."""

    async def scenario(world: Any) -> None:
        attempts = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        a = await world.peer(1)
        a.network.connect({2: f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        await world.until(lambda: attempts >= 2)
        assert error in a.link(2).error
        assert a.link(2).error.isprintable()
        assert a.opened == a.closed == []
        server.close()

    play_sockets(scenario)


def test_an_identity_that_is_none_is_an_error(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        bodies = [b"[1]", b"{", b"[" * 60_000, b'{"a": 1}' + b" " * 70_000, b""]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + bodies.pop())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        a = await world.peer(1)
        answers: list[Any] = []
        for count in range(1, len(bodies) + 1):
            a.network.identify(address, lambda value, error: answers.append((value, error)))
            await world.until(lambda count=count: len(answers) == count)
        for nonsense in ("nowhere", "", "host:1\r\nEvil: 1", "exa mple:1"):
            a.network.identify(nonsense, lambda value, error: answers.append((value, error)))
        await world.until(lambda: len(answers) == 9)
        assert all(value is None for value, _ in answers)
        assert all(isinstance(error, (ValueError, LinkRefused)) for _, error in answers)
        server.close()

    play_sockets(scenario)


def test_an_http_address_is_told_to_be_no_raft_address(play_sockets: Any) -> None:
    async def scenario(world: Any) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        a = await world.peer(1)
        errors: list[Any] = []
        a.network.identify(address, lambda value, error: errors.append(error))
        a.network.ask(address, {}, lambda value, error: errors.append(error), timeout_s=5.0)
        await world.until(lambda: len(errors) == 2)
        for error in errors:
            assert isinstance(error, LinkRefused)
            assert "is no raft address" in str(error)
        server.close()

    play_sockets(scenario)
