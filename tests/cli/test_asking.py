"""Asking a running node: addresses, answers, and what is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rsqlite.cli.asking import Address, address_of, ask, with_timeout
from rsqlite.errors import RequestError, Unavailable
from rsqlite.server.durations import parse_duration

ANSWERS = {
    "/ok": (200, b'{"a":1}'),
    "/nothing": (204, b""),
    "/wrong": (400, b"what is this\n"),
    "/later": (503, b"leader not found\n"),
    "/moved": (301, b""),
    "/page": (200, b"<html>"),
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(given or body)))
        self.end_headers()
        self.wfile.write(given or body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def address() -> Iterator[Address]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Address("127.0.0.1", server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_are_urls_or_host_and_port() -> None:
    assert address_of("http://localhost:7") == ("localhost", 7)
    assert address_of("localhost:7/") == ("localhost", 7)
    assert address_of("http://[::1]:7") == ("::1", 7)
    assert address_of("db.example") == ("db.example", 4001)
    for wrong in ("https://localhost:7", "http://localhost:7/db", "", "http://h:x", "http://:7"):
        with pytest.raises(RequestError):
            address_of(wrong)
    for wrong in ("http://[::1", "http://[x]:7", "[::1"):
        with pytest.raises(RequestError, match="is not the address of a node"):
            address_of(wrong)


def test_a_time_is_told_as_the_server_reads_it() -> None:
    for seconds in (0.1, 30.0, 1_000_000.0, 2_592_000.0):
        path, _, value = with_timeout("/verify", seconds).partition("?timeout=")
        assert (path, parse_duration(value)) == ("/verify", seconds)


def test_answers_are_json_and_errors_say_whose_fault_they_are(address: Address) -> None:
    assert ask(address, "POST", "/ok", timeout_s=5) == {"a": 1}
    assert ask(address, "POST", "/ok", body={"id": "2"}, timeout_s=5) == {"id": "2"}
    assert ask(address, "POST", "/nothing", timeout_s=5) is None
    with pytest.raises(RequestError, match="what is this"):
        ask(address, "POST", "/wrong", timeout_s=5)
    for path, text in (("/later", "leader not found"), ("/moved", "301"), ("/page", "no node")):
        with pytest.raises(Unavailable, match=text):
            ask(address, "POST", path, timeout_s=5)


def test_nobody_there_is_said() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        ask(Address("127.0.0.1", 1), "POST", "/ok", timeout_s=5)
