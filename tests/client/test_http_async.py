"""The shell over aiohttp does what the blocking one does when the other side misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rsqlite_client import http_async
from rsqlite_client.errors import AmbiguousResultError, UnavailableError
from rsqlite_client.http_async import AsyncHttpChannel
from rsqlite_client.proto import Command, Form
from rsqlite_client.routing import Routing
from rsqlite_client.session import Session
from rsqlite_client.statement import Statement

from rsqlite.testing.cluster import free_ports
from tests.client.listener import Listener, Visit, frozen_host, slow_host, trickle

WRITTEN = b'{"results":[{"last_insert_id":1,"rows_affected":1}]}'


@asynccontextmanager
async def channel_to(*hosts: str, timeout_s: float = 5.0) -> AsyncIterator[AsyncHttpChannel]:
    channel = AsyncHttpChannel(Session(Routing(hosts), timeout_s))
    try:
        yield channel
    finally:
        await channel.close()


def write(sql: str = "INSERT INTO t VALUES(1)") -> Command:
    return Command(Statement(sql), Form.ONE, ((),))


def serve(visit: Visit) -> None:
    while visit.read():
        visit.answer(WRITTEN, "Rsqlite-Index: 3")


def forget(visit: Visit) -> None:
    visit.read()
    visit.reset()


async def test_a_connection_is_kept() -> None:
    with Listener(serve) as one:
        async with channel_to(one.host) as channel:
            for _ in range(3):
                assert (await channel.run(write())).lastrowid == 1
            assert channel.session.last_index == 3
            assert one.host in repr(channel)
        heads = {request.partition(b"\r\n\r\n")[0] for request in one.requests}
        assert len(heads) == 1, "heads repeat byte for byte"


@pytest.mark.parametrize("how", ["close", "reset", "cut", "endless", "nonsense"])
async def test_a_write_without_an_answer_is_ambiguous_and_sent_once(how: str) -> None:
    def fail(visit: Visit) -> None:
        visit.read()
        match how:
            case "reset":
                visit.reset()
            case "cut":
                visit.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            case "endless":
                visit.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n{")
            case "nonsense":
                visit.sock.sendall(b"\0\1\2\r\n\r\n")

    with Listener(fail) as one:
        async with channel_to(one.host) as channel:
            with pytest.raises(AmbiguousResultError):
                await channel.run(write())
        assert len(one.requests) == 1


async def test_a_read_without_an_answer_is_asked_again() -> None:
    with Listener(forget, serve) as one:
        async with channel_to(one.host) as channel:
            await channel.run(write("SELECT 1"))
        assert len(one.requests) == 2


async def test_a_read_is_given_up_when_its_host_answers_nothing_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_async, "SILENCE_S", 0.05)
    monkeypatch.setattr(http_async, "LIFE_S", 0.1)
    with frozen_host() as paused, Listener(serve) as other:
        async with channel_to(paused, other.host, timeout_s=30.0) as channel:
            began = time.monotonic()
            assert (await channel.run(write("SELECT 1"))).lastrowid == 1
            assert time.monotonic() - began < 25.0, "long before its timeout"


async def test_a_write_is_not_given_up_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_async, "SILENCE_S", 0.01)
    monkeypatch.setattr(http_async, "LIFE_S", 0.01)
    monkeypatch.setattr("rsqlite_client.session.GRACE_S", 0.05)
    with frozen_host() as paused, Listener(serve) as other:
        async with channel_to(paused, other.host, timeout_s=0.2) as channel:
            with pytest.raises(AmbiguousResultError, match="no answer in time"):
                await channel.run(write())
        assert other.requests == []


async def test_a_host_that_lives_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_async, "SILENCE_S", 0.05)
    with slow_host(WRITTEN, questions=2) as host:
        async with channel_to(host, timeout_s=20.0) as channel:
            assert (await channel.run(write("SELECT 1"))).lastrowid == 1


async def test_an_answer_that_is_arriving_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_async, "SILENCE_S", 0.02)
    monkeypatch.setattr(http_async, "LIFE_S", 0.02)
    with Listener(trickle(WRITTEN, 10, 0.02)) as one:
        async with channel_to(one.host, timeout_s=20.0) as channel:
            assert (await channel.run(write("SELECT 1"))).lastrowid == 1


async def test_nobody_there_is_not_applied() -> None:
    async with channel_to(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=0.2) as channel:
        with pytest.raises(UnavailableError, match="Connect call failed"):
            await channel.run(write())


async def test_no_answer_in_time_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsqlite_client.session.GRACE_S", 0.05)
    over = threading.Event()

    def dawdle(visit: Visit) -> None:
        visit.read()
        over.wait(10.0)

    with Listener(dawdle) as one:
        async with channel_to(one.host, timeout_s=0.1) as channel:
            with pytest.raises(AmbiguousResultError, match="no answer in time"):
                await channel.run(write())
        over.set()


async def test_a_long_answer_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_async, "ANSWER_BYTES_MAX", 10)
    with Listener(serve) as one:
        async with channel_to(one.host) as channel:
            with pytest.raises(AmbiguousResultError, match="too long"):
                await channel.run(write())


async def test_a_redirect_is_followed() -> None:
    with Listener(serve) as leader:

        def point(visit: Visit) -> None:
            visit.read()
            visit.answer(b"", f"Location: http://{leader.host}/db/request", status="301 Moved")

        with Listener(point) as one:
            async with channel_to(one.host) as channel:
                assert (await channel.run(write())).lastrowid == 1
                assert channel.session.routing.leader == leader.host
