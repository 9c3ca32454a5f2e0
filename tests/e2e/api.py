"""The HTTP API as the clients of an acceptance run use it: what is known of each request's fate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp

from tests.e2e.history import Outcome

REQUEST_TIMEOUT_S = 5.0
FATES = {"applied": Outcome.OK, "not-applied": Outcome.FAIL, "unknown": Outcome.INFO}


@dataclass(frozen=True, slots=True)
class Answer:
    """`results` is None when there are none: the request failed as a whole."""

    outcome: Outcome
    results: list[dict[str, Any]] | None = None
    index: int = 0
    error: str = ""
    served_by: str = ""

    @property
    def sql_errors(self) -> list[str]:
        return [one["error"] for one in self.results or [] if "error" in one]


@dataclass(slots=True)
class Api:
    """The nodes of a cluster by their position."""

    urls: Sequence[str]
    session: aiohttp.ClientSession = field(init=False)
    _silent_until: dict[int, float] = field(default_factory=dict)

    async def __aenter__(self) -> Api:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.session.close()

    def is_silent(self, node: int) -> bool:
        """It let a request wait in vain a moment ago."""
        return time.monotonic() < self._silent_until.get(node, 0.0)

    def _noted(self, node: int, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            self._silent_until[node] = time.monotonic() + REQUEST_TIMEOUT_S

    async def write(self, node: int, path: str, statements: Sequence[Any]) -> Answer:
        """A request that writes. Its outcome is what the answer says; without an answer it is
        known only if the connection was never made."""
        try:
            async with self.session.post(self.urls[node] + path, json=statements) as response:
                content = await response.read()
                return write_answer(response.status, response.headers, content)
        except aiohttp.ClientConnectorError as error:
            return Answer(Outcome.FAIL, error=str(error))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._noted(node, error)
            return Answer(Outcome.INFO, error=repr(error))

    async def read(self, node: int, query: str, sql: str, *parameters: Any) -> list[Any] | None:
        """The rows, or None when the node could not answer."""
        url = f"{self.urls[node]}/db/query?{query}"
        try:
            async with self.session.post(url, json=[[sql, *parameters]]) as response:
                content = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._noted(node, error)
            return None
        parsed = parse(content) if response.status == 200 else None
        if parsed is None or "error" in parsed:
            return None
        (result,) = parsed["results"]
        if "error" in result:
            return None
        rows: list[Any] = result.get("values", [])
        return rows


def write_answer(status: int, headers: Any, content: bytes) -> Answer:
    """The outcome of a write: what `Rsqlite-Write` says, or success; unknown if neither does."""
    parsed = parse(content) if status == 200 else None
    index = int(headers.get("Rsqlite-Index", 0))
    served_by = headers.get("X-RQLITE-SERVED-BY", "")
    if parsed is not None and "error" not in parsed:
        return Answer(Outcome.OK, parsed["results"], index, served_by=served_by)
    fate = FATES.get(headers.get("Rsqlite-Write", ""), Outcome.INFO)
    error = content.decode(errors="replace")[:300]
    return Answer(fate, None, index, f"{status}: {error}", served_by)


def parse(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(content)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "results" in parsed else None
