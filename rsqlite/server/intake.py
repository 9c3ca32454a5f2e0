"""Receiving the body of a request on the plain path: in time, within its bounds, and accounted."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import web

from rsqlite.config import Settings
from rsqlite.server.answers import Reply, text_reply
from rsqlite.server.connection import BODY_LATE_TEXT, HttpServerCore, overload_reply

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Receiver(Protocol):
    """What is needed of the HTTP server."""

    settings: Settings

    @property
    def core(self) -> HttpServerCore: ...


class Reservation:
    """The bytes that one request's body has of the budget."""

    __slots__ = ("_budget", "_count")

    def __init__(self, server: Receiver) -> None:
        self._budget = server.core.budget
        self._count = 0

    def grow_to(self, count: int) -> bool:
        """Have at least `count` bytes; False when they are not left."""
        more = count - self._count
        if more > 0:
            if not self._budget.take(more):
                return False
            self._count = count
        return True

    def give(self) -> None:
        self._budget.give(self._count)
        self._count = 0


async def read_body(
    server: Receiver, request: web.BaseRequest, reservation: Reservation
) -> bytes | Reply:
    """The whole body, or the reply that refuses it; a refused body is not read on, so its
    connection ends."""
    settings = server.settings
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return text_reply(415, "Content-Encoding is not supported", close=True)
    length = request.content_length or 0
    if length > settings.body_bytes_max:
        return _too_large(settings)
    if not server.core.budget.has(length):
        return _overloaded(server)
    if not _continue(request):
        return text_reply(417, "only Expect: 100-continue is supported", close=True)
    chunks: list[bytes] = []
    count = 0
    try:
        async with asyncio.timeout(settings.body_timeout):
            while chunk := await request.content.readany():
                count += len(chunk)
                if count > settings.body_bytes_max:
                    return _too_large(settings)
                if not reservation.grow_to(count):
                    return _overloaded(server)
                chunks.append(chunk)
    except TimeoutError:
        server.core.counters.deadlines_missed += 1
        return text_reply(408, BODY_LATE_TEXT, close=True)
    except (web.RequestPayloadError, ConnectionError):
        # Broken chunks, or the client has gone and nobody reads this.
        return text_reply(400, "the request's body is broken", close=True)
    except RuntimeError:
        if request.transport is not None:
            raise
        # What aiohttp's stream says when the client has gone.
        return text_reply(400, "the request's body is broken", close=True)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _continue(request: web.BaseRequest) -> bool:
    """Tell a client that waits for it to send its body; False if it expects something else."""
    expected = request.headers.get("Expect")
    if expected is None:
        return True
    if expected.lower() != "100-continue":
        return False
    if request.transport is not None:
        request.transport.write(_CONTINUE)
    return True


def _too_large(settings: Settings) -> Reply:
    return text_reply(413, f"a body may have at most {settings.body_bytes_max} bytes", close=True)


def _overloaded(server: Receiver) -> Reply:
    server.core.counters.overloads += 1
    return overload_reply()
