"""The shell for event loops: carries out what a `Session` asks for, over aiohttp."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache

import aiohttp
from yarl import URL

from rsqlite_client.http_sync import ANSWER_BYTES_MAX, CONNECT_TIMEOUT_S
from rsqlite_client.proto import Command, Result
from rsqlite_client.session import Answer, Event, Lost, Pause, Send, Session

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
        timeout = aiohttp.ClientTimeout(total=send.patience_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._client().post(
                _url(send.host, send.target),
                data=send.body,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await _body(response)
                return Answer(response.status, response.headers.get, body, time.monotonic())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Lost(str(error), False, False, time.monotonic())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # Some of it may have left; aiohttp does not tell.
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            return Lost(reason or type(error).__name__, True, True, time.monotonic())


async def _body(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is None:
        raise aiohttp.ClientPayloadError("an answer without a length")
    if length > ANSWER_BYTES_MAX:
        raise aiohttp.ClientPayloadError("the answer is too long")
    return await response.read()
