"""The shell for event loops: carries out what a `Session` asks for, over aiohttp."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import Any

import aiohttp
from yarl import URL

from rsqlite_client.http_sync import ANSWER_BYTES_MAX, CONNECT_TIMEOUT_S
from rsqlite_client.proto import Command, Result
from rsqlite_client.session import (
    LIFE_S,
    LIFE_TARGET,
    SILENCE_S,
    Answer,
    Event,
    Lost,
    Pause,
    Send,
    Session,
)

_HEADERS = {"Content-Type": "application/json"}
_LEFT_OUT = ("User-Agent", "Accept", "Accept-Encoding")
_URLS_MAX = 128


@lru_cache(maxsize=_URLS_MAX)
def _url(host: str, target: str) -> URL:
    """Made once for each target: they repeat, and taking a URL apart costs more than the rest."""
    return URL(f"http://{host}{target}", encoded=True)


class AsyncHttpChannel:
    """What an asynchronous connection runs its commands on."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._http: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<AsyncHttpChannel {self.session!r}>"

    async def run(self, command: Command) -> Result:
        """Carry out one command; raises what it ends with."""
        steps = self.session.run(command, time.monotonic())
        step = next(steps)
        while True:
            event: Event
            if isinstance(step, Send):
                event = await self._send(step)
            else:
                assert isinstance(step, Pause)
                await asyncio.sleep(step.seconds)
                event = time.monotonic()
            try:
                step = steps.send(event)
            except StopIteration as stop:
                result: Result = stop.value
                return result

    async def close(self) -> None:
        """Close all connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers=_HEADERS, skip_auto_headers=_LEFT_OUT, auto_decompress=False
            )
        return self._http

    async def _send(self, send: Send) -> Answer | Lost:
        http = self._client()
        timeout = aiohttp.ClientTimeout(total=send.patience_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with (
                _Doubt(http, send) as doubt,
                http.post(
                    _url(send.host, send.target),
                    data=send.body,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response,
            ):
                doubt.settle()
                body = await _body(response)
                return Answer(response.status, response.headers.get, body, time.monotonic())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Lost(str(error), False, False, time.monotonic())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Some of it may have left; aiohttp does not tell.
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            return Lost(reason or type(error).__name__, True, True, time.monotonic())


class _Doubt:
    """TimeoutError in its block as soon as the host of what is harmless answers nothing at all,
    until `settle`."""

    def __init__(self, http: aiohttp.ClientSession, send: Send) -> None:
        self._http = http
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._question: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> _Doubt:
        await self._scope.__aenter__()
        if self._send.is_harmless:
            self._timer = self._loop.call_later(SILENCE_S, self._ask)
        return self

    async def __aexit__(self, *caught: Any) -> None:
        self.settle()
        await self._scope.__aexit__(*caught)

    def settle(self) -> None:
        """It has begun to answer. A slow link may be too full of that for another question."""
        for one in (self._timer, self._question):
            if one is not None:
                one.cancel()

    def _ask(self) -> None:
        self._question = self._loop.create_task(self._is_alive())

    async def _is_alive(self) -> None:
        timeout = aiohttp.ClientTimeout(total=LIFE_S)
        try:
            async with self._http.get(_url(self._send.host, LIFE_TARGET), timeout=timeout):
                self._timer = self._loop.call_later(SILENCE_S, self._ask)
        except (aiohttp.ClientError, OSError, TimeoutError):
            self._scope.reschedule(self._loop.time())


async def _body(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is None:
        raise aiohttp.ClientPayloadError("an answer without a length")
    if length > ANSWER_BYTES_MAX:
        raise aiohttp.ClientPayloadError("the answer is too long")
    return await response.read()
