"""The one table from what happened to status, body and headers.

`Reply` is what both HTTP paths send; `RAW` bytes and aiohttp's response are made from the same one.
Where rqlite answers a failure with 200 and a top-level `error`, so does this (rqlite.md 2.1); what
a client must react to by going elsewhere or waiting is a 503 with Retry-After. Only /db/* has that
form: elsewhere a 200 means that it was done, and `failure_reply` never gives one.

| error | status | body |
| --- | --- | --- |
| RequestTooLarge | 413 | text |
| StatementRefused | 200 | `{"results":[],"error":...}`; elsewhere as below |
| other RequestError | 400 | text |
| StaleRead, TimedOut, LeadershipLost | 200 | `{"results":[],"error":...}`; elsewhere as below |
| NoLeader, NotLeader | 503 | `leader not found`, Retry-After |
| Overloaded, Stopped, other Unavailable | 503 | text, Retry-After |
| Unrepresentable (an answer JSON cannot hold), NodeFault, anything else | 500 | text |

Every failed answer to /db/execute and /db/request carries `Rsqlite-Write: not-applied`, `applied`
or `unknown`, and every failed answer names its error in `Rsqlite-Error` (`stale-read`,
`leadership-lost`), for clients that decide by it. Text bodies end with a line break and forbid
sniffing, as Go's `http.Error` does it.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import NamedTuple

from rsqlite.errors import (
    Fate,
    LeadershipLost,
    NoLeader,
    NotLeader,
    RequestError,
    RequestTooLarge,
    RsqliteError,
    StaleRead,
    StatementRefused,
    TimedOut,
    Unavailable,
)
from rsqlite.server import gojson

JSON_TYPE = "application/json; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"
SERVED_BY = "X-RQLITE-SERVED-BY"
INDEX = "Rsqlite-Index"
WRITE = "Rsqlite-Write"
ERROR = "Rsqlite-Error"
LEADER_NOT_FOUND = "leader not found"

_FATES = {
    Fate.NOT_APPLIED: "not-applied",
    Fate.APPLIED: "applied",
    Fate.UNKNOWN: "unknown",
}

Headers = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """An answer before it is bytes. `close` ends the connection after it."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Headers = ()
    close: bool = False


def json_reply(body: bytes, headers: Headers = ()) -> Reply:
    """200 with JSON."""
    return Reply(200, body, JSON_TYPE, headers)


def text_reply(status: int, text: str, headers: Headers = (), *, close: bool = False) -> Reply:
    """An error as Go's http.Error sends it."""
    return Reply(
        status,
        text.encode("utf-8", "replace") + b"\n",
        TEXT_TYPE,
        (("X-Content-Type-Options", "nosniff"), *headers),
        close,
    )


def error_reply(error: RsqliteError, *, is_write: bool, is_pretty: bool = False) -> Reply:
    """The answer to a request to /db/* that failed as a whole."""
    if isinstance(error, StatementRefused | StaleRead | TimedOut | LeadershipLost):
        body = gojson.dumps({"results": [], "error": str(error)}, is_pretty=is_pretty)
        return json_reply(body, _headers(error, is_write=is_write))
    return failure_reply(error, is_write=is_write)


def failure_reply(error: RsqliteError, *, is_write: bool) -> Reply:
    """The answer to any other request that failed: its status says so."""
    headers = _headers(error, is_write=is_write)
    if isinstance(error, RequestTooLarge):
        return text_reply(413, str(error), headers)
    if isinstance(error, RequestError):
        return text_reply(400, str(error), headers)
    if isinstance(error, Unavailable):
        text = LEADER_NOT_FOUND if isinstance(error, NoLeader | NotLeader) else str(error)
        return text_reply(503, text, (*headers, retry_after(error.retry_after_s)))
    return text_reply(500, str(error), headers)


def _headers(error: RsqliteError, *, is_write: bool) -> Headers:
    named = (ERROR, _name_of(type(error).__name__))
    return (named, (WRITE, _FATES[error.fate])) if is_write else (named,)


@cache
def _name_of(class_name: str) -> str:
    """StaleRead is stale-read."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", class_name).lower()


def retry_after(seconds: float | None) -> tuple[str, str]:
    """The header; whole seconds, at least one."""
    return ("Retry-After", str(max(1, math.ceil(seconds or 1.0))))
