"""The raft address: who we are for everybody, and links for the nodes of our cluster.

aiohttp reads the requests; a granted link leaves it by `set_protocol` in the turn that writes the
101. Until then a connection is a stranger's: counted, limited in time, and good for one request.
Who takes a part of an image has more time for it: as much as whoever fetches one waits.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar, cast

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from rsqlite.config import PEER_HANDSHAKE_BYTES_MAX, Settings
from rsqlite.transport.connection import FrameConnection
from rsqlite.transport.handshake import (
    ASK_PATH,
    IDENTITY_PATH,
    IMAGE_PATH,
    LINK_PATH,
    PROTOCOL_VERSION,
    UPGRADE,
    Hello,
    Refusal,
    acceptance,
    format_address,
    parse_address,
)

SERVER = "rsqlite"
"""Without a version: what runs here concerns nobody who is no member."""
STRANGER_TEXT = (
    "this is the raft address of an rsqlite node, for other nodes; clients find the HTTP API at"
    " its -http-addr"
)

Asked = Callable[[Mapping[str, object], Callable[[Mapping[str, object]], None]], None]
"""Called with a question, which is anybody's, and with whom to give the answer, once."""

Served = Callable[[str, Callable[[bytes | None], None]], None]
"""Called with the name of a part of an image, and with whom to give its bytes, or None."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Listener:
    """Accepts connections from `start` to `stop`.

    `admit(hello)` decides about a link; then `attach(hello, ended)` gives the connection that takes
    the transport over, and that calls `ended()` when it is gone.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        identity: Callable[[], Mapping[str, object]],
        asked: Asked,
        served: Served,
        admit: Callable[[Hello], Refusal | None],
        attach: Callable[[Hello, Callable[[], None]], FrameConnection],
        node_id: int,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._asked = asked
        self._served_part = served
        self._admit = admit
        self._attach = attach
        self._node_id = node_id
        self._servers: list[asyncio.Server] = []
        self._web: _Requests | None = None
        self._strangers: dict[asyncio.BaseProtocol, float] = {}  # since when they are here
        self._served: set[asyncio.BaseProtocol] = set()
        """Links, and questions that wait for their answer: no strangers."""
        self._takers: set[asyncio.BaseProtocol] = set()
        """Those to whom a part of an image is being sent, which takes its time."""

    async def start(self) -> str:
        """Listen; the answer is the address, with the port that the system chose if 0 was asked.
        OSError if it cannot be had."""
        self._web = _Requests(self._serve, logger=logger, access_log=None)
        return await self._bind()

    async def stop(self) -> None:
        """Stop listening and end what is not a link; the links end with their connections."""
        for server in self._servers:
            server.close()
        if self._web is not None:
            self._web.pre_shutdown()
            await self._web.shutdown(self._settings.peer_connect_timeout)

    def sweep(self, now: float) -> None:
        """Called once per `peer_pulse`: strangers that have said nothing for too long go, and who
        does not take what is sent."""
        assert self._web is not None
        settings = self._settings
        waiting = [one for one in self._web.connections if one not in self._served]
        self._strangers = {one: self._strangers.get(one, now) for one in waiting}
        self._takers.intersection_update(waiting)
        for one in waiting:
            is_taker = one in self._takers
            bound = settings.image_part_timeout if is_taker else settings.peer_handshake_timeout
            if now - self._strangers[one] > bound and one.transport is not None:
                one.transport.abort()

    async def _bind(self) -> str:
        """Listen on every address that the host name has, with one port for all of them.

        `localhost` is often two addresses, of which one does not exist (containers without IPv6):
        that one is left out, if another can be had.
        """
        host, port = parse_address(self._settings.raft_addr)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        missing: OSError | None = None
        for address in dict.fromkeys(str(info[4][0]) for info in found):
            try:
                server = await loop.create_server(self._accept, address, port)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                self._servers.append(server)
                port = port or server.sockets[0].getsockname()[1]
        if missing is not None and not self._servers:
            raise missing
        return format_address(host, port)

    def _accept(self) -> asyncio.BaseProtocol:
        assert self._web is not None
        if len(self._web.connections) >= self._settings.peer_connections_max:
            return _Refused()
        return self._web()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        if request.path.startswith(IMAGE_PATH) and request.method == "GET":
            return await self._serve_part(request)
        method = _METHODS.get(request.path)
        if method is None:
            return _refusal(404, STRANGER_TEXT)
        if request.method != method:
            response = _refusal(405, STRANGER_TEXT)
            response.headers["Allow"] = method
            return response
        if request.path == LINK_PATH:
            return await self._serve_link(request)
        if request.path == ASK_PATH:
            return await self._serve_question(request)
        return _json(self._identity())

    async def _serve_part(self, request: web.BaseRequest) -> web.Response:
        name = request.path.removeprefix(IMAGE_PATH)
        part = await self._told(request, partial(self._served_part, name))
        if part is None:
            return _refusal(404, "there is no such image here")
        response = web.Response(body=part, headers={"Server": SERVER})
        response.force_close()
        self._takers.add(request.protocol)
        return response

    async def _serve_question(self, request: web.BaseRequest) -> web.Response:
        if (request.content_length or 0) > PEER_HANDSHAKE_BYTES_MAX:
            return _refusal(413, "the question is too long")
        try:
            question = orjson.loads(await request.read())
        except ConnectionError:
            return _refusal(400, "the question was cut off")  # nobody reads it
        except ValueError as error:
            return _refusal(400, f"the question is no JSON: {error}")
        if not isinstance(question, dict):
            return _refusal(400, "a question is a JSON object")
        return _json(await self._told(request, partial(self._asked, question)))

    async def _told(
        self, request: web.BaseRequest, ask: Callable[[Callable[[T], None]], None]
    ) -> T:
        """What `ask` tells; whoever waits for it is no stranger."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # Whoever asked may have gone, and its handler with it.
        ask(lambda it: None if answer.done() else answer.set_result(it))
        handler = request.protocol
        self._served.add(handler)
        try:
            return await answer
        finally:
            self._served.discard(handler)

    async def _serve_link(self, request: web.BaseRequest) -> web.Response:
        refusal, hello = self._decide(request)
        if hello is None or refusal is not None:
            assert refusal is not None
            response = _refusal(refusal.status, refusal.reason)
            if refusal.status == 426:
                response.headers["Upgrade"] = UPGRADE
            return response
        await self._hand_over(request, hello)
        # Nobody reads it: the connection is gone. aiohttp wants an answer all the same.
        return web.Response()

    def _decide(self, request: web.BaseRequest) -> tuple[Refusal | None, Hello | None]:
        if request.headers.get("Upgrade", "").lower() != UPGRADE:
            return Refusal(426, f"this address speaks {UPGRADE} version {PROTOCOL_VERSION}"), None
        if request.can_read_body:
            return Refusal(400, "a link is asked for without a body"), None
        try:
            hello = Hello.from_headers(request.headers)
        except ValueError as error:
            return Refusal(400, str(error)), None
        return self._admit(hello), hello

    async def _hand_over(self, request: web.BaseRequest, hello: Hello) -> None:
        """Give the transport to frames; returns when the connection has ended."""
        transport, handler = request.transport, request.protocol
        if transport is None:
            return
        gone = asyncio.get_running_loop().create_future()

        def ended() -> None:
            self._served.discard(handler)
            # aiohttp counts the connection until it hears of its end, which now comes to us.
            handler.connection_lost(None)
            if not gone.done():
                gone.set_result(None)

        connection = self._attach(hello, ended)
        self._served.add(handler)
        transport.write(acceptance(self._node_id, hello.cluster_id))
        transport.set_protocol(connection)
        connection.connection_made(transport)
        # Shielded: should aiohttp cancel this handler, the link ends by its own rules.
        await asyncio.shield(gone)


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the base class.
        cast("asyncio.Transport", transport).abort()


class _Requests(web.Server):
    """Makes the connections that begin with a request."""

    def __call__(self) -> RequestHandler:
        return _Stranger(self, loop=self._loop, **self._kwargs)


class _Stranger(RequestHandler):
    """A connection that is no link yet."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, which is not logged: what strangers send is no reason to
        fill a log. An error of ours is."""
        if status < 500:
            return _refusal(status, STRANGER_TEXT)
        self.log_exception("error in the answer to %s", request.path, exc_info=exc)
        return _refusal(status, "internal error")


_METHODS = {IDENTITY_PATH: "GET", LINK_PATH: "GET", ASK_PATH: "POST"}


def _json(value: Mapping[str, object]) -> web.Response:
    response = web.Response(
        body=orjson.dumps(dict(value)),
        content_type="application/json",
        headers={"Server": SERVER},
    )
    response.force_close()
    return response


def _refusal(status: int, reason: str) -> web.Response:
    response = web.Response(status=status, text=reason + "\n", headers={"Server": SERVER})
    response.force_close()
    return response
