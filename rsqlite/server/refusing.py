"""What a node says over HTTP while it cannot start: 503 and why, to everything.

Who asks learns the reason from the node itself, as a balancer does from /readyz; nothing else of
the node is running, so it is all that there is to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

import rsqlite
from rsqlite.config import Settings
from rsqlite.server.answers import ERROR, WRITE, retry_after, text_reply
from rsqlite.server.app import split_address
from rsqlite.server.connection import HttpServerCore, Wording

log = logging.getLogger(__name__)

RETRY_S = 5.0
_HEADERS = ((ERROR, "unavailable"), (WRITE, "not-applied"), retry_after(RETRY_S))


@asynccontextmanager
async def refusing(settings: Settings, reason: str) -> AsyncIterator[None]:
    """Listen on `settings.http_addr`, if there is one, and refuse with `reason`. Bodies are not
    read, and each answer ends its connection. If it cannot listen, only the log says why."""
    if not settings.http_addr:
        yield
        return
    wording = Wording(settings, f"v{rsqlite.__version__}")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return wording.response(text_reply(503, reason, _HEADERS, close=True))

    core = HttpServerCore(handle, settings=settings, wording=wording)
    host, port = split_address(settings.http_addr)
    try:
        server = await asyncio.get_running_loop().create_server(core, host or None, port)
    except OSError as error:
        log.warning("cannot say over HTTP that this node waits: %s", error)
        yield
        return
    core.start_sweeping()
    try:
        yield
    finally:
        server.close()
        core.pre_shutdown()
        await core.shutdown(0)
        core.stop_sweeping()
