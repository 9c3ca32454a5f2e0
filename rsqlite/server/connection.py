"""aiohttp's connection and server classes with deadlines, and the replies of both paths as bytes.

One sweep over all connections, a few times in the shortest deadline, finds those that are late:
no timer is set or cancelled per request. A connection remembers when its present state began, in
the coarse clock of the sweep (`HttpServerCore.now`), so deadlines are kept to within a sweep.

States, and what ends them when they last too long:
- idle: no request under way. Closed without a word; sooner when connections are scarce.
- head: some bytes of a request's head are there. 408, closed.
- body: the head is complete, the body is not. 408, closed (the plain path does it in `app.py`).
- busy: the request runs. Its deadline is the node's.
- answer: the client does not take its answer. Aborted; sooner, if it takes nothing at all, when
  the answers that clients leave untaken have reached their bound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.log import server_logger
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from rsqlite.config import Settings
from rsqlite.server.answers import (
    ERROR,
    INDEX,
    JSON_TYPE,
    SERVED_BY,
    WRITE,
    Headers,
    Reply,
    retry_after,
    text_reply,
)
from rsqlite.server.limits import ByteBudget, HttpCounters
from rsqlite.server.service import NodeService

SERVER = "rsqlite"
MALFORMED_TEXT = "malformed HTTP request"
HEAD_LATE_TEXT = "the request's head took too long"
BODY_LATE_TEXT = "the request's body took too long"
INTERNAL_TEXT = "internal error"
OVERLOAD_TEXT = "too many bytes of requests under way"
UNTAKEN_TEXT = "too many bytes of answers that clients have not taken"
CROWDED_TEXT = "too many connections"

FIELD_BYTES_MAX = 8190
FIELDS_MAX = 128
_CROWDED_FROM = 7 / 8
"""Share of connections_max from which idle connections are kept only briefly."""
_OVERLOAD_RETRY_S = 1.0
_SWEEPS_PER_DEADLINE = 4
_SWEEP_S_MAX = 1.0
_KEEPALIVE_S = 10.0**9
"""aiohttp's own idle timer knows nothing of the short cut; the sweep does its work."""


def overload_reply() -> Reply:
    """The answer to a body that finds too many bytes under way; the rest of it is not read."""
    return text_reply(503, OVERLOAD_TEXT, _overloaded(_OVERLOAD_RETRY_S), close=True)


def untaken_reply() -> Reply:
    """The answer to a read while its rows would only wait behind those of other reads."""
    return text_reply(503, UNTAKEN_TEXT, _overloaded(_OVERLOAD_RETRY_S))


def _overloaded(retry_s: float) -> Headers:
    return ((ERROR, "overloaded"), retry_after(retry_s))


class Wording:
    """The headers that every answer has, and replies as bytes or as aiohttp responses."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._common = [
            ("X-RQLITE-VERSION", version),
            ("Access-Control-Allow-Methods", "OPTIONS, GET, POST"),
            ("Access-Control-Allow-Headers", "Content-Type"),
        ]
        if settings.http_allow_origin:
            self._common.append(("Access-Control-Allow-Origin", settings.http_allow_origin))
        self._common.append(("Server", SERVER))
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in self._common).encode()
        self._second = 0
        self._stamp = b""

    def stamp(self) -> bytes:
        """The fixed headers and the date, as bytes; made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._stamp = self._fixed + f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._stamp

    def prefix(self, served_by: str) -> bytes:
        """How an answer with JSON and an index begins, up to the index."""
        start = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON_TYPE}\r\n{SERVED_BY}: {served_by}\r\n"
        return start.encode() + self.stamp() + f"{INDEX}: ".encode()

    def response(self, reply: Reply) -> web.Response:
        """The reply for aiohttp to send."""
        headers = CIMultiDict(self._common)
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        headers.extend(reply.headers)
        if reply.close:
            # Said in words too: aiohttp leaves it out where it takes the request for HTTP/1.0,
            # as it does with what it cannot parse.
            headers["Connection"] = "close"
        response = BareResponse(status=reply.status, headers=headers, body=reply.body)
        if reply.close:
            response.force_close()
        return response

    def raw(self, reply: Reply) -> bytes:
        """The reply as it goes over the wire."""
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"]
        if reply.content_type:
            lines.append(f"Content-Type: {reply.content_type}\r\n")
        lines.extend(f"{name}: {value}\r\n" for name, value in reply.headers)
        if reply.close:
            lines.append("Connection: close\r\n")
        lines.append(f"Content-Length: {len(reply.body)}\r\n")
        start = "".join(lines).encode("latin-1", "replace")
        return start + self.stamp() + b"\r\n" + reply.body


class BareResponse(web.Response):
    """A response without the Content-Type that aiohttp invents for an empty body."""

    async def _prepare_headers(self) -> None:
        has_type = "Content-Type" in self._headers
        await super()._prepare_headers()
        if not has_type:
            self._headers.popall("Content-Type", None)


class Connection(RequestHandler):
    """One client's connection, served by aiohttp, with deadlines."""

    __slots__ = ("_core", "_head_bytes", "_since", "_taken_at", "_unsent", "_wire")

    def __init__(self, core: HttpServerCore, **kwargs: Any) -> None:
        super().__init__(core, **kwargs)
        self._core = core
        self._since = core.now
        self._head_bytes = 0
        self._unsent = 0  # bytes of an answer, as the last sweep found them
        self._taken_at = core.now  # when they became fewer
        # aiohttp forgets its transport when it closes it; what is still unsent is then ours.
        self._wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        core = self._core
        # uvloop's transports have the methods, but not the base class.
        transport = cast("asyncio.Transport", transport)
        self._wire = transport
        if len(core.open) >= core.settings.connections_max:
            core.counters.connections_refused += 1
            # Whatever it is that is being sent: nobody reads it.
            headers = ((WRITE, "not-applied"), *_overloaded(1.0))
            reply = text_reply(503, CROWDED_TEXT, headers, close=True)
            transport.write(core.wording.raw(reply))
            transport.close()
            self._force_close = True
            return
        core.counters.connections += 1
        core.open.add(self)
        self._since = core.now
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._core.lost(self)

    def data_received(self, data: bytes) -> None:
        count = self._request_count
        super().data_received(data)
        if self._request_count != count:
            self._since = self._core.now
            self._head_bytes = 0
        elif self._waiter is not None and data:
            # aiohttp waits for a request: these are not the rest of one that was refused.
            if not self._head_bytes:
                self._since = self._core.now
            self._head_bytes += len(data)
            if self._head_bytes > self._core.settings.head_bytes_max:
                self.refuse(text_reply(431, "the request's head is too large", close=True))

    @property
    def is_busy(self) -> bool:
        """True while a request is under way."""
        return self._request_in_progress or bool(self._messages)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self._taken_at = self._core.now

    def abort(self) -> None:
        """Drop the connection with whatever is unsent."""
        if self._wire is not None:
            self._wire.abort()

    def refuse(self, reply: Reply) -> None:
        """Send `reply` between requests and close."""
        if self.transport is not None:
            self.transport.write(self._core.wording.raw(reply))
        self.force_close()

    def expire(self, now: float, idle_s: float) -> None:
        """Called by the sweep: end what has lasted too long."""
        settings = self._core.settings
        age = now - self._since
        if self._paused:
            if age > settings.answer_timeout or self._holds_up(now):
                self._core.counters.deadlines_missed += 1
                self.abort()
        elif self.is_busy:
            self._since = now
            self._head_bytes = 0
        elif self._head_bytes:
            if age > settings.head_timeout:
                self._core.counters.deadlines_missed += 1
                self.refuse(text_reply(408, HEAD_LATE_TEXT, close=True))
        elif age > idle_s:
            self.force_close()

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Not what aiohttp meets when it reads on from a client that has gone."""
        if self.transport is None and isinstance(kwargs.get("exc_info"), RuntimeError):
            return
        super().log_exception(*args, **kwargs)

    def _holds_up(self, now: float) -> bool:
        """Whether others are refused while this client takes nothing of its answer."""
        unsent = 0 if self._wire is None else self._wire.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._taken_at = unsent, now
        core = self._core
        return core.untaken.is_full and now - self._taken_at > core.settings.answer_timeout_crowded

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP (the client's fault: not logged), and to an error of our
        own in a handler (logged with its traceback)."""
        if status == 400:
            if isinstance(exc, LineTooLong):
                reply = text_reply(431, "the request's head is too large", close=True)
            else:
                reply = text_reply(400, MALFORMED_TEXT, close=True)
        else:
            self.log_exception("error in the handler of %s", request.path, exc_info=exc)
            if request.writer.output_size > 0:
                raise ConnectionError("the answer had begun when its handler failed")
            reply = text_reply(status, INTERNAL_TEXT, close=True)
        self._core.counters.failures += 1
        return self._core.wording.response(reply)


class HttpServerCore(web.Server):
    """Makes connections and sweeps them. `connection_class` is the plain one or the short cut."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        settings: Settings,
        wording: Wording,
        connection_class: type[Connection] = Connection,
    ) -> None:
        super().__init__(handler)
        self.settings = settings
        self.wording = wording
        self.counters = HttpCounters()
        self.budget = ByteBudget(settings.bodies_bytes_max)
        self.untaken = ByteBudget(settings.answers_bytes_max)
        """Answers that are written, and that their clients do not take as fast."""
        self.open: set[Connection] = set()
        self._closed: asyncio.Future[None] | None = None
        self.node: NodeService
        self.advertised = ""
        self.prefix = b""
        """How the usual answer begins, up to the value of its index; its date is of the sweep."""
        self.now = self._loop.time()
        self._connection_class = connection_class
        self._connection_kwargs: dict[str, Any] = {
            "loop": self._loop,
            "keepalive_timeout": _KEEPALIVE_S,
            "access_log": None,
            "logger": server_logger,
            "max_line_size": settings.head_bytes_max,
            "max_field_size": FIELD_BYTES_MAX,
            "max_headers": FIELDS_MAX,
            "lingering_time": settings.linger_timeout,
            "auto_decompress": False,
        }
        shortest = min(
            settings.head_timeout,
            settings.body_timeout,
            settings.idle_timeout,
            settings.answer_timeout,
        )
        self._sweep_s = min(_SWEEP_S_MAX, shortest / _SWEEPS_PER_DEADLINE)
        self._sweep_handle: asyncio.TimerHandle | None = None

    def __call__(self) -> RequestHandler:
        return self._connection_class(self, **self._connection_kwargs)

    def lost(self, connection: Connection) -> None:
        """`connection` has ended."""
        self.open.discard(connection)
        if not self.open and self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait until all connections have sent what they had to send; abort those that last."""
        if self.open:
            self._closed = self._loop.create_future()
            await asyncio.wait([self._closed], timeout=timeout_s)
        for connection in list(self.open):
            connection.abort()

    def start_sweeping(self) -> None:
        """From now until `stop_sweeping`, connections that are late are ended."""
        self.now = self._loop.time()
        self.prefix = self.wording.prefix(self.advertised)
        self._sweep_handle = self._loop.call_later(self._sweep_s, self._sweep)

    def stop_sweeping(self) -> None:
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
            self._sweep_handle = None

    def _sweep(self) -> None:
        self.now = now = self._loop.time()
        self.prefix = self.wording.prefix(self.advertised)
        settings = self.settings
        is_crowded = len(self.open) >= settings.connections_max * _CROWDED_FROM
        idle_s = settings.idle_timeout
        if is_crowded:
            idle_s = min(idle_s, settings.idle_timeout_crowded)
        for connection in list(self.open):
            connection.expire(now, idle_s)
        self._sweep_handle = self._loop.call_later(self._sweep_s, self._sweep)
