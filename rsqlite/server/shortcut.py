"""The short cut: requests whose head was seen before skip aiohttp's per-request machinery.

Clients repeat their heads byte for byte. A head that is new is parsed by aiohttp's own C parser,
and remembered with its `Plan` if it is plain: HTTP/1.1 that stays open, one of the /db/ paths, a
body of known length, nothing to negotiate. After that a request is a search for the blank line,
one look into a dictionary, `plan.begin`, `node.submit`, and one `transport.write` of prepared
bytes. Any other head hands its connection to aiohttp, with every byte, for good; so no HTTP is
parsed by hand and both ways give the same answers (`tests/server/test_differential.py`).

A connection serves one request at a time, as aiohttp does. What arrives meanwhile is held, up to
`pipeline_bytes_max`; then reading pauses. It also pauses while the client does not take its answer.

This leans on `aiohttp.web_protocol.RequestHandler`, which aiohttp does not promise to keep: the
version is pinned, and `-http-shortcut off` does without.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from rsqlite.config import Settings
from rsqlite.errors import RequestError
from rsqlite.request import Answer, Outcome, Request
from rsqlite.server.answers import Reply, text_reply
from rsqlite.server.connection import (
    BODY_LATE_TEXT,
    FIELD_BYTES_MAX,
    FIELDS_MAX,
    INTERNAL_TEXT,
    Connection,
    HttpServerCore,
    overload_reply,
    untaken_reply,
)
from rsqlite.server.flags import parse_flags, unescape
from rsqlite.server.rqlite_api import Plan, find_database_path, split_target

_END = b"\r\n\r\n"
_HEAD_BYTES_MAX = 4096
"""Longer heads are served by aiohttp: a memory of many of them would be large."""
_NEGOTIATED = ("Expect", "Transfer-Encoding", "Content-Encoding", "Upgrade")
_DIGITS_MAX = 15
_PARSER_BUFFER = 2**16


class Head:
    """What is known of a head: how to read what follows it and how to answer."""

    __slots__ = ("length", "plan")

    def __init__(self, plan: Plan, length: int) -> None:
        self.plan = plan
        self.length = length


class ShortcutServer(HttpServerCore):
    """The server core with a memory of heads. The oldest is forgotten when it is full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, connection_class=ShortcutConnection, **kwargs)
        self.heads: dict[bytes, Head] = {}
        # The parser wants a connection to pause; of a head alone there is nothing to pause.
        self._no_connection = BaseProtocol(self._loop)

    def learn(self, data: bytes) -> Head | None:
        """Remember the head `data` if it is plain; None for one that aiohttp must serve."""
        if len(data) > _HEAD_BYTES_MAX:
            return None
        parser = HttpRequestParser(
            self._no_connection,
            self._loop,
            _PARSER_BUFFER,
            max_line_size=self.settings.head_bytes_max,
            max_field_size=FIELD_BYTES_MAX,
            max_headers=FIELDS_MAX,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
        )
        try:
            messages, _, _ = parser.feed_data(data)
            head = self._plain(messages[0][0]) if len(messages) == 1 else None
        except (HttpProcessingError, RequestError):
            return None
        if head is not None:
            if len(self.heads) >= self.settings.shortcut_heads_max:
                del self.heads[next(iter(self.heads))]
            self.heads[data] = head
        return head

    def _plain(self, message: RawRequestMessage) -> Head | None:
        headers = message.headers
        if (
            message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or message.chunked
            or message.compression
            or not message.path.startswith("/")
            or any(name in headers for name in _NEGOTIATED)
        ):
            return None
        path, query = split_target(message.path)
        kind = find_database_path(unescape(path), message.method)
        lengths = headers.getall("Content-Length", ())
        if kind is None or len(lengths) > 1:
            return None
        digits = lengths[0] if lengths else "0"
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX):
            return None
        length = int(digits)
        is_get = message.method == "GET"
        if length > self.settings.body_bytes_max or (is_get and length):
            return None
        plan = Plan(
            kind,
            parse_flags(query),
            content_type=headers.get("Content-Type", ""),
            settings=self.settings,
            target=f"{path}?{query}" if query else path,
            is_get=is_get,
        )
        return Head(plan, length) if plan.refusal() is None else None


class ShortcutConnection(Connection):
    """A connection that is on the short cut until a head turns up that is not plain."""

    __slots__ = (
        "_answer_bytes",
        "_at",
        "_chunks",
        "_collecting",
        "_held",
        "_is_free",
        "_is_plain",
        "_is_pumping",
        "_is_reading_held",
        "_missing",
        "_plan",
        "_reserved",
        "_shortcut",
        "_started",
    )

    def __init__(self, core: ShortcutServer, **kwargs: Any) -> None:
        super().__init__(core, **kwargs)
        self._shortcut = core
        self._is_plain = False  # True: aiohttp has this connection
        self._is_free = True  # True: nothing pending, held, half received or unsent
        self._is_pumping = False
        self._is_reading_held = False
        self._plan: Plan | None = None  # of the request that is pending
        self._held = b""  # received and not looked at, from `_at` on
        self._at = 0
        self._collecting: Head | None = None  # the head whose body is incomplete
        self._chunks: list[bytes] = []
        self._missing = 0
        self._reserved = 0  # bytes of the budget, for the body
        self._answer_bytes = 0  # of an answer that the client is slow to take
        self._started = 0.0

    def data_received(self, data: bytes) -> None:
        if self._is_free:
            if self._force_close or self._close:
                return
            end = data.find(_END) + 4
            head = self._shortcut.heads.get(data[:end])
            self._is_free = False
            if head is not None and head.length == len(data) - end and self._reserve(head.length):
                self._begin(head, data[end:])
            else:
                self._held = data
                self._pump()
        elif self._is_plain:
            super().data_received(data)
        elif not (self._force_close or self._close):
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Take bytes while something is under way."""
        if self._collecting is not None:
            self._collect_more(self._collecting, data)
            return
        self._held = self._held[self._at :] + data if self._held else data
        self._at = 0
        if self._plan is None and not self._paused:
            self._pump()
        elif len(self._held) > self._core.settings.pipeline_bytes_max:
            self._is_reading_held = True
            self._pause_transport_reading()

    def _collect_more(self, head: Head, data: bytes) -> None:
        """Take more of a body, and when it is complete serve it and what came behind it."""
        count = min(len(data), self._missing)
        if not self._core.budget.take(count):
            self._core.counters.overloads += 1
            self.refuse(head.plan.marked(overload_reply()))
            return
        self._reserved += count
        self._chunks.append(data)
        self._missing -= count
        if self._missing:
            return
        whole = b"".join(self._chunks)
        self._chunks = []
        self._collecting = None
        self._held, self._at = whole, head.length
        self._is_pumping = True
        self._begin(head, whole if len(whole) == head.length else whole[: head.length])
        self._is_pumping = False
        self._pump()

    def _pump(self) -> None:
        """Serve the requests that are held, one at a time, as far as they are complete."""
        if self._is_pumping:
            return
        self._is_pumping = True
        while self._plan is None and not (self._paused or self._close or self._force_close):
            held, at = self._held, self._at
            if at == len(held):
                self._held, self._at = b"", 0
                self._is_free = True
                break
            end = held.find(_END, at) + 4
            if end < 4:
                self._wait_for_head()
                break
            self._head_bytes = 0
            data = held[at:end]
            head = self._shortcut.heads.get(data) or self._shortcut.learn(data)
            if head is None or not self._core.budget.has(head.length):
                self._hand_over()
                break
            count = min(head.length, len(held) - end)
            self._reserve(count)
            if count < head.length:
                self._collect(head, end)
                break
            self._at = end + head.length
            self._begin(head, held[end : self._at])
        self._is_pumping = False
        if self._is_reading_held and self._plan is None and not self._paused:
            self._is_reading_held = False
            self._resume_transport_reading()

    def _reserve(self, count: int) -> bool:
        if count and not self._core.budget.take(count):
            return False
        self._reserved = count
        return True

    def _wait_for_head(self) -> None:
        """The held bytes are the beginning of a head; the sweep watches over the rest of it."""
        if not self._head_bytes:
            self._since = self._core.now
        self._head_bytes = len(self._held) - self._at
        if self._head_bytes > _HEAD_BYTES_MAX:
            self._hand_over()

    def _collect(self, head: Head, start: int) -> None:
        """The rest of the body is still to come."""
        self._collecting = head
        self._chunks = [self._held[start:]]
        self._missing = head.length - len(self._chunks[0])
        self._since = self._core.now
        self._held, self._at = b"", 0

    def _hand_over(self) -> None:
        """This connection is aiohttp's from now on, with every byte not served yet."""
        data = self._held[self._at :]
        self._held, self._at = b"", 0
        self._is_plain = True
        self._is_free = False
        super().data_received(data)

    def _begin(self, head: Head, body: bytes) -> None:
        """Submit one request. Its answer may be written before this returns."""
        core = self._shortcut
        plan = head.plan
        self._plan = plan
        self._since = core.now
        # Makes aiohttp's shutdown wait for this request as it does for its own.
        self._request_in_progress = True
        counters = core.counters
        core.requests_count += 1
        counters.requests += 1
        counters.shortcut_requests += 1
        counters.count(plan.kind)
        if plan.flags.timings:
            self._started = time.perf_counter()
        if not plan.is_write and core.untaken.is_full:
            counters.overloads += 1
            self._finish(untaken_reply())
            return
        begun = plan.begin(body, core.node)
        if type(begun) is Request:
            core.node.submit(begun, self._answered)
        else:
            assert type(begun) is Reply
            self._finish(begun)

    def _answered(self, answer: Answer) -> None:
        """The node's answer; the client may have gone meanwhile."""
        if self.transport is None:
            self._finish(None)
            return
        plan, core = self._plan, self._shortcut
        assert plan is not None
        elapsed_s = time.perf_counter() - self._started if plan.flags.timings else 0.0
        reply: Reply | bytes
        if core.untaken.is_full and plan.may_be_dropped(answer):
            core.counters.overloads += 1
            self._finish(plan.marked(untaken_reply()))
            return
        try:
            if type(answer) is Outcome and answer.index and not answer.served_by:
                body = plan.encode(answer, elapsed_s)
                if type(body) is bytes:
                    reply = b"%b%d\r\nContent-Length: %d\r\n\r\n%b" % (
                        core.prefix,
                        answer.index,
                        len(body),
                        body,
                    )
                else:
                    reply = body
            else:
                reply = plan.reply(answer, core.advertised, elapsed_s)
        except Exception:
            # The edge of a request: our caller is the node, which must not pay for a mistake here.
            self.logger.exception("error in the answer to %s", plan.target)
            reply = text_reply(500, INTERNAL_TEXT, close=True)
        self._finish(reply)

    def _finish(self, reply: Reply | bytes | None) -> None:
        """Send the answer, if there is somebody to send it to, and go on with what is held."""
        core = self._shortcut
        self._plan = None
        self._request_in_progress = False
        core.budget.give(self._reserved)
        self._reserved = 0
        transport = self.transport
        if transport is not None and reply is not None:
            if isinstance(reply, bytes):
                data, closes = reply, False
            else:
                data, closes = core.wording.raw(reply), reply.close
                if reply.status >= 400:
                    core.counters.failures += 1
            transport.write(data)
            if self._paused:
                self._answer_bytes = len(data)
                core.untaken.force(len(data))
            if closes or self._close:
                self.force_close()
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if not self._is_pumping:
            if self._held:
                self._pump()
            else:
                self._is_free = not self._paused

    def resume_writing(self) -> None:
        super().resume_writing()
        self._core.untaken.give(self._answer_bytes)
        self._answer_bytes = 0
        if not self._is_plain and self._plan is None and self._collecting is None:
            self._pump()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        budget = self._core.budget
        self._core.untaken.give(self._answer_bytes)
        self._answer_bytes = 0
        if self._plan is None:
            # Else the node still has the body, and gives an answer in any case.
            budget.give(self._reserved)
            self._reserved = 0
        self._held, self._at = b"", 0
        self._chunks = []
        self._collecting = None

    def expire(self, now: float, idle_s: float) -> None:
        if self._collecting is None:
            super().expire(now, idle_s)
        elif now - self._since > self._core.settings.body_timeout:
            self._core.counters.deadlines_missed += 1
            self.refuse(self._collecting.plan.marked(text_reply(408, BODY_LATE_TEXT, close=True)))


def connection_server(settings: Settings) -> type[HttpServerCore]:
    """The server class that `-http-shortcut` asks for."""
    return ShortcutServer if settings.http_shortcut == "on" else HttpServerCore
