"""What becomes of a request when the other side misbehaves, on real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from rsqlite_client import http_sync
from rsqlite_client.errors import AmbiguousResultError, UnavailableError
from rsqlite_client.http_sync import CONNECTIONS_MAX, HttpChannel, head_of
from rsqlite_client.proto import Command, Form
from rsqlite_client.routing import Routing
from rsqlite_client.session import Send, Session
from rsqlite_client.statement import Statement

from rsqlite.testing.cluster import free_ports
from tests.client.listener import Listener, Visit, frozen_host, slow_host, trickle

WRITTEN = b'{"results":[{"last_insert_id":1,"rows_affected":1}]}'


@contextmanager
def channel_to(*hosts: str, timeout_s: float = 5.0) -> Iterator[HttpChannel]:
    with closing(HttpChannel(Session(Routing(hosts), timeout_s))) as channel:
        yield channel


def write(sql: str = "INSERT INTO t VALUES(1)") -> Command:
    return Command(Statement(sql), Form.ONE, ((),))


def serve(visit: Visit) -> None:
    while visit.read():
        visit.answer(WRITTEN, "Rsqlite-Index: 3")


def forget(visit: Visit) -> None:
    visit.read()
    visit.reset()


def test_a_connection_is_kept() -> None:
    with Listener(serve) as one, channel_to(one.host) as channel:
        for _ in range(3):
            assert channel.run(write()).lastrowid == 1
        assert channel.session.last_index == 3
        heads = {request.partition(b"\r\n\r\n")[0] for request in one.requests}
        assert len(heads) == 1, "heads repeat byte for byte"
        channel.close()


def test_a_connection_that_was_closed_meanwhile_is_noticed_before_anything_is_sent() -> None:
    closed = threading.Event()

    def serve_one(visit: Visit) -> None:
        visit.read()
        visit.answer(WRITTEN)
        visit.sock.close()
        closed.set()

    with Listener(serve_one, serve) as one, channel_to(one.host) as channel:
        channel.run(write())
        assert closed.wait(5.0)
        assert channel.run(write()).lastrowid == 1
        assert len(one.requests) == 2
        channel.close()


@pytest.mark.parametrize("how", ["close", "reset", "cut", "nonsense"])
def test_a_write_without_an_answer_is_ambiguous_and_sent_once(how: str) -> None:
    def fail(visit: Visit) -> None:
        visit.read()
        match how:
            case "reset":
                visit.reset()
            case "cut":
                visit.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            case "nonsense":
                visit.sock.sendall(b"\0\1\2\r\n\r\n")

    with Listener(fail, serve) as one, channel_to(one.host) as channel:
        with pytest.raises(AmbiguousResultError):
            channel.run(write())
        assert len(one.requests) == 1
        assert channel.run(write("INSERT INTO t VALUES(2)")).lastrowid == 1
        channel.close()


def test_a_read_without_an_answer_is_asked_again() -> None:
    with (
        Listener(forget, serve) as one,
        channel_to(one.host) as channel,
    ):
        channel.run(write("SELECT 1"))
        assert len(one.requests) == 2
        channel.close()


def test_a_read_is_given_up_when_its_host_answers_nothing_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_sync, "SILENCE_S", 0.05)
    monkeypatch.setattr(http_sync, "LIFE_S", 0.1)
    with (
        frozen_host() as paused,
        Listener(serve) as other,
        channel_to(paused, other.host, timeout_s=30.0) as channel,
    ):
        began = time.monotonic()
        assert channel.run(write("SELECT 1")).lastrowid == 1
        assert time.monotonic() - began < 25.0, "long before its timeout"
        channel.close()


def test_a_write_is_not_given_up_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sync, "SILENCE_S", 0.01)
    monkeypatch.setattr(http_sync, "LIFE_S", 0.01)
    monkeypatch.setattr("rsqlite_client.session.GRACE_S", 0.05)
    with (
        frozen_host() as paused,
        Listener(serve) as other,
        channel_to(paused, other.host, timeout_s=0.2) as channel,
    ):
        with pytest.raises(AmbiguousResultError, match="no answer in time"):
            channel.run(write())
        assert other.requests == []


def test_a_host_that_lives_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sync, "SILENCE_S", 0.05)
    with slow_host(WRITTEN, questions=2) as host, channel_to(host, timeout_s=20.0) as channel:
        assert channel.run(write("SELECT 1")).lastrowid == 1


def test_an_answer_that_is_arriving_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sync, "SILENCE_S", 0.02)
    monkeypatch.setattr(http_sync, "LIFE_S", 0.02)
    with (
        Listener(trickle(WRITTEN, 10, 0.02)) as one,
        channel_to(one.host, timeout_s=20.0) as channel,
    ):
        assert channel.run(write("SELECT 1")).lastrowid == 1
        channel.close()


def test_nobody_there_is_not_applied() -> None:
    host = f"127.0.0.1:{free_ports(1)[0]}"
    with (
        channel_to(host, timeout_s=0.2) as channel,
        pytest.raises(UnavailableError, match="refused"),
    ):
        channel.run(write())


def test_no_answer_in_time_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsqlite_client.session.GRACE_S", 0.05)
    over = threading.Event()

    def dawdle(visit: Visit) -> None:
        visit.read()
        over.wait(10.0)

    with Listener(dawdle) as one, channel_to(one.host, timeout_s=0.1) as channel:
        with pytest.raises(AmbiguousResultError, match="no answer in time"):
            channel.run(write())
        over.set()


def test_an_answer_without_end_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sync, "ANSWER_BYTES_MAX", 10)
    with (
        Listener(serve) as one,
        channel_to(one.host) as channel,
        pytest.raises(AmbiguousResultError, match="too long"),
    ):
        channel.run(write())


def test_a_connection_that_the_server_ends_is_not_kept() -> None:
    def serve_one(visit: Visit) -> None:
        visit.read()
        visit.answer(WRITTEN, "Connection: close")

    with Listener(serve_one, serve_one) as one, channel_to(one.host) as channel:
        channel.run(write())
        channel.run(write())
        assert len(one.requests) == 2


def test_a_redirect_is_followed() -> None:
    with Listener(serve) as leader:

        def point(visit: Visit) -> None:
            visit.read()
            visit.answer(b"", f"Location: http://{leader.host}/db/request", status="301 Moved")

        with Listener(point) as one, channel_to(one.host) as channel:
            assert channel.run(write()).lastrowid == 1
            assert channel.session.routing.leader == leader.host
            channel.close()


def test_few_connections_are_kept() -> None:
    count = CONNECTIONS_MAX + 1
    listeners = [Listener(serve) for _ in range(count)]
    for one in listeners:
        one.__enter__()
    with channel_to("unused:1") as channel:
        for one in listeners:
            channel._send(Send(one.host, "/db/request", b"[]", 5.0, False))
        assert list(channel._connections) == [one.host for one in listeners[1:]]
        channel.close()
    for one in listeners:
        one.__exit__(None, None, None)


def test_the_head() -> None:
    assert head_of(Send("h:1", "/x?y", b"[]", 1.0, False)) == (
        b"POST /x?y HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n"
    )
