"""A server over a fake node, and a client that sees bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
import pytest

from rsqlite.config import Settings
from rsqlite.server.app import HttpServer
from tests.server.fake_node import FakeNode


class Got(NamedTuple):
    """An answer as it came over the wire. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Got:
    """The next answer of a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head[:-4].decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value
    length = int(headers.get("content-length", 0))
    body = await reader.readexactly(length) if has_body else b""
    return Got(int(lines[0].split()[1]), headers, body)


class Bench:
    """A started server, its node, and how to talk to it."""

    def __init__(self, server: HttpServer, node: FakeNode) -> None:
        self.server = server
        self.node = node
        self.host, port = server.address.rsplit(":", 1)
        self.port = int(port)
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port, **options)
        self.writers.append(writer)
        return reader, writer

    async def send(self, data: bytes, *, has_body: bool = True) -> Got:
        """One connection, these bytes, the first answer."""
        reader, writer = await self.connect()
        writer.write(data)
        try:
            return await read_answer(reader, has_body=has_body)
        finally:
            writer.close()

    async def call(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Got:
        """A plain request; a body that is not bytes is sent as JSON."""
        return await self.send(message(method, target, body, headers), has_body=method != "HEAD")

    async def post(self, target: str, body: Any, **headers: str) -> Got:
        return await self.call("POST", target, body, headers)

    async def get(self, target: str, **headers: str) -> Got:
        return await self.call("GET", target, None, headers)


def message(
    method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    data: bytes = b""
    if body is not None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        lines.append(f"Content-Length: {len(data)}")
        if not isinstance(body, bytes):
            lines.append("Content-Type: application/json")
    lines.extend(f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items())
    head = "\r\n".join(lines)
    return head.encode() + b"\r\n\r\n" + data


async def until(condition: Callable[[], object], within_s: float = 3.0) -> None:
    """Wait until `condition()` holds; fail when it does not come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while not condition():
        assert loop.time() < end, "the condition did not come"
        await pause(0.002)


async def pause(seconds: float) -> None:
    """Let time pass, for tests that are about time."""
    await asyncio.sleep(seconds)


Start = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers: `await start(node, **settings)`. All are stopped after the test."""
    benches: list[Bench] = []

    async def start(node: FakeNode | None = None, **settings: Any) -> Bench:
        values = replace(Settings(http_addr="127.0.0.1:0", shutdown_timeout=1.0), **settings)
        server = HttpServer()
        node = node or FakeNode()
        await server.start(node, values)
        benches.append(Bench(server, node))
        return benches[-1]

    yield start
    for bench in benches:
        for writer in bench.writers:
            writer.close()
        await bench.server.stop()
        core = bench.server.core
        assert core.budget.used == core.untaken.used == 0, "bytes were taken and not given back"


@pytest.fixture(params=["on", "off"])
async def bench(request: pytest.FixtureRequest, start: Start) -> Bench:
    """A server with the short cut, and one without: both must behave alike."""
    return await start(http_shortcut=request.param)
