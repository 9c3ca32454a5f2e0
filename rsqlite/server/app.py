"""The HTTP server: routes, the plain path of a request, start and stop.

Routes match as rqlite's do, most of them by prefix (rqlite.md 2), which aiohttp's router does not
offer; so the table is our own and requests come from aiohttp's low-level server. A handler gets a
`Call` and returns a `Reply`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from rsqlite.config import Settings
from rsqlite.errors import RequestError
from rsqlite.node.changes import Wish
from rsqlite.node.upgrade import Abandon
from rsqlite.request import Answer, Request, RequestKind
from rsqlite.server import admin_api, cluster_api
from rsqlite.server.answers import Reply, text_reply
from rsqlite.server.connection import (
    HttpServerCore,
    Wording,
    untaken_reply,
)
from rsqlite.server.flags import Flags, parse_flags, unescape
from rsqlite.server.intake import Reservation, read_body
from rsqlite.server.limits import HttpCounters
from rsqlite.server.rqlite_api import Plan, split_target
from rsqlite.server.service import NodeService
from rsqlite.server.shortcut import connection_server

_BACKLOG = 1024
_CONSOLE_TEXT = "rsqlite has no web console: use the rsqlite shell or the HTTP API"


@dataclass(frozen=True, slots=True)
class Call:
    """A request on the plain path. `target` is its path and query as they were sent."""

    server: HttpServer
    request: web.BaseRequest
    target: str
    flags: Flags


Handler = Callable[[Call], Awaitable[Reply]]


class HttpServer:
    """Serves one node over HTTP from `start` to `stop`."""

    def __init__(self) -> None:
        self.address = ""
        """`host:port` that is listened on, with the real port where 0 was asked for."""
        self.advertised = ""
        """`host:port` that clients are told."""
        self.node: NodeService
        self.settings: Settings
        self._core: HttpServerCore | None = None
        self._server: asyncio.Server | None = None
        self._started_wall = 0.0

    @property
    def core(self) -> HttpServerCore:
        assert self._core is not None, "the server is not started"
        return self._core

    @property
    def counters(self) -> HttpCounters:
        return self.core.counters

    @property
    def open_connections(self) -> int:
        return len(self.core.open)

    @property
    def uptime_s(self) -> float:
        return time.time() - self._started_wall

    async def start(self, node: NodeService, settings: Settings) -> None:
        """Listen on `settings.http_addr`. OSError, as the system words it, if that fails."""
        host, port = split_address(settings.http_addr)
        self.node = node
        self.settings = settings
        wording = Wording(settings, f"v{node.status().version}")
        core = connection_server(settings)(self._handle, settings=settings, wording=wording)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(core, host or None, port, backlog=_BACKLOG)
        bound = server.sockets[0].getsockname()
        self.address = join_address(bound[0], bound[1])
        told = settings.http_adv_addr or settings.http_addr
        told_host, told_port = split_address(told)
        self.advertised = told if told_port else join_address(told_host, bound[1])
        core.node, core.advertised = node, self.advertised
        self._core, self._server = core, server
        self._started_wall = time.time()
        core.start_sweeping()

    async def stop(self) -> None:
        """Stop listening, let requests under way end within `shutdown_timeout`, close the rest."""
        if self._server is None:
            return
        core, server = self.core, self._server
        self._server = None
        server.close()
        core.pre_shutdown()
        await core.shutdown(self.settings.shutdown_timeout)
        await core.wait_closed(self.settings.shutdown_timeout)
        core.stop_sweeping()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """aiohttp's door: find the reply and see it out, or until the client stops reading."""
        core = self.core
        core.counters.requests += 1
        reply = await self._reply(request)
        if reply.status >= 400:
            core.counters.failures += 1
        response = core.wording.response(reply)
        size = len(reply.body)
        core.untaken.force(size)
        try:
            await response.prepare(request)
            await response.write_eof()
            protocol = request.protocol
            if protocol.writing_paused:
                # Without this a client that never reads could pipeline answers into memory. The
                # sweep aborts the connection after `answer_timeout`, which ends the wait.
                await protocol._drain_helper()
        except ConnectionError:
            # The client has gone; aiohttp finds the same when it finishes the response.
            response.force_close()
        finally:
            core.untaken.give(size)
        return response

    async def _reply(self, request: web.BaseRequest) -> Reply:
        if request.method == "OPTIONS":
            return Reply(200)
        path, query = target_of(request)
        try:
            # Before routing, as in rqlite: a bad value is a 400 on every endpoint.
            flags = parse_flags(query)
            route = find_route(unescape(path))
        except RequestError as error:
            return text_reply(400, str(error))
        if route is None:
            return Reply(404)
        handler = route.handlers.get(request.method)
        if handler is None:
            return Reply(405, headers=(("Allow", ", ".join(route.handlers)),))
        target = f"{path}?{query}" if query else path
        return await handler(Call(self, request, target, flags))


async def database(call: Call, kind: RequestKind) -> Reply:
    """/db/execute, /db/query, /db/request."""
    server, request = call.server, call.request
    core = server.core
    plan = Plan(
        kind,
        call.flags,
        content_type=request.headers.get("Content-Type", ""),
        settings=server.settings,
        target=call.target,
        is_get=request.method == "GET",
    )
    refusal = plan.refusal()
    if refusal is not None:
        return refusal
    core.counters.count(kind)
    reservation = Reservation(server)
    try:
        body = await read_body(server, request, reservation)
        if isinstance(body, Reply):
            return plan.marked(body)
        if not plan.is_write and core.untaken.is_full:
            core.counters.overloads += 1
            return untaken_reply()
        started = time.perf_counter()
        begun = plan.begin(body, server.node)
        if isinstance(begun, Reply):
            return begun
        answer = await _submit(server.node, begun)
        if core.untaken.is_full and plan.may_be_dropped(answer):
            core.counters.overloads += 1
            return plan.marked(untaken_reply())
        return plan.reply(answer, server.advertised, time.perf_counter() - started)
    finally:
        reservation.give()


async def _submit(node: NodeService, request: Request) -> Answer:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def done(answer: Answer) -> None:
        # The waiting task may have been cancelled by a stop.
        if not future.done():
            future.set_result(answer)

    node.submit(request, done)
    return await future


async def _execute(call: Call) -> Reply:
    return await database(call, RequestKind.EXECUTE)


async def _query(call: Call) -> Reply:
    return await database(call, RequestKind.QUERY)


async def _mixed(call: Call) -> Reply:
    return await database(call, RequestKind.MIXED)


async def _status(call: Call) -> Reply:
    return admin_api.status(call.server, call.flags)


async def _nodes(call: Call) -> Reply:
    return admin_api.nodes(call.server, call.flags)


async def _leader(call: Call) -> Reply:
    return admin_api.leader(call.server, call.flags)


async def _readyz(call: Call) -> Reply:
    async def submit(request: Request) -> Answer:
        return await _submit(call.server.node, request)

    return await admin_api.readyz(call.server, call.flags, submit)


async def _variables(call: Call) -> Reply:
    return admin_api.variables(call.server, call.flags)


async def _change(call: Call, word: Callable[[bytes], Wish]) -> Reply:
    reservation = Reservation(call.server)
    try:
        body = await read_body(call.server, call.request, reservation)
        if isinstance(body, Reply):
            return body
        wish = word(body)
    except RequestError as error:
        return text_reply(400, str(error))
    finally:
        reservation.give()
    return await cluster_api.change(call.server.node, wish, call.flags, call.target)


async def _remove(call: Call) -> Reply:
    return await _change(call, cluster_api.removal)


async def _transfer(call: Call) -> Reply:
    content_type = call.request.headers.get("Content-Type", "")
    return await _change(call, lambda body: cluster_api.transfer(body, content_type))


async def _declare(call: Call) -> Reply:
    return await _change(call, cluster_api.declaration)


async def _abandon(call: Call) -> Reply:
    return await _change(call, lambda body: Abandon())


async def _upgrade(call: Call) -> Reply:
    return cluster_api.upgrade(call.server.node, call.flags)


async def _snapshot(call: Call) -> Reply:
    return await cluster_api.snapshot(call.server.node, call.flags)


async def _verify(call: Call) -> Reply:
    return await cluster_api.verify(call.server.node, call.flags)


async def _vacuum(call: Call) -> Reply:
    return await cluster_api.vacuum(call.server.node, call.flags)


async def _scrub(call: Call) -> Reply:
    return cluster_api.scrub(call.server.node, call.flags, begins=True)


async def _scrub_status(call: Call) -> Reply:
    return cluster_api.scrub(call.server.node, call.flags, begins=False)


async def _last_check(call: Call) -> Reply:
    return cluster_api.last_check(call.server.node, call.flags)


async def _no_console(call: Call) -> Reply:
    return text_reply(404, _CONSOLE_TEXT)


async def _not_supported(call: Call) -> Reply:
    return text_reply(
        501, f"{call.request.method} {call.target.partition('?')[0]} is not supported"
    )


@dataclass(frozen=True, slots=True)
class Route:
    """A path, or the beginning of one, and a handler for each method."""

    path: str
    handlers: dict[str, Handler]
    is_prefix: bool = True


ROUTES = (
    Route("/db/execute", {"POST": _execute}),
    Route("/db/query", {"GET": _query, "POST": _query}),
    Route("/db/request", {"POST": _mixed}),
    Route("/status", {"GET": _status}),
    Route("/nodes", {"GET": _nodes}),
    Route("/leader", {"GET": _leader, "POST": _transfer}, is_prefix=False),
    Route("/readyz", {"GET": _readyz}),
    Route("/debug/vars", {"GET": _variables}, is_prefix=False),
    Route("/", {"GET": _no_console, "HEAD": _no_console}, is_prefix=False),
    Route("/console", {"GET": _no_console, "HEAD": _no_console}),
    # What rqlite's clients may ask for and this does not have, told apart from a mistyped path.
    Route("/db/backup", {"GET": _not_supported}),
    Route("/db/load", {"POST": _not_supported}),
    Route("/db/sql", {"GET": _not_supported, "POST": _not_supported}),
    Route("/boot", {"POST": _not_supported}, is_prefix=False),
    Route("/snapshot", {"POST": _snapshot}, is_prefix=False),
    Route("/verify", {"GET": _last_check, "POST": _verify}, is_prefix=False),
    Route("/vacuum", {"POST": _vacuum}, is_prefix=False),
    Route("/upgrade", {"GET": _upgrade, "POST": _declare, "DELETE": _abandon}, is_prefix=False),
    Route("/scrub", {"GET": _scrub_status, "POST": _scrub}, is_prefix=False),
    Route("/reap", {"POST": _not_supported}, is_prefix=False),
    Route("/remove", {"DELETE": _remove}),
)


def find_route(path: str) -> Route | None:
    """The route of a path without escapes."""
    for route in ROUTES:
        if path == route.path or (route.is_prefix and path.startswith(route.path)):
            return route
    return None


def target_of(request: web.BaseRequest) -> tuple[str, str]:
    """Path and query as they were sent; of `http://host/path?query` what follows the host."""
    target = request.raw_path
    if not target.startswith("/"):
        url = request.url
        return url.raw_path, url.raw_query_string
    return split_target(target)


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets, may be empty) and port of `host:port`; ValueError if it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not an address such as localhost:4001")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
