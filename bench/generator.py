"""Load over raw HTTP: N keep-alive connections, one request under way on each, answers checked.

A plain HTTP client costs more per request than the server under test, so it would be the bottleneck
that is measured. This one writes ready-made bytes and reads no more of an answer than it needs:
status, length, and what the workload's `Source` expects in the body. No answer goes unchecked: one
that is not what was asked for ends the run with an error, because a figure that contains wrong
answers is none.

The price of a request here is printed with each result, since the generator shares the machine
with the servers.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

from bench.slices import Mark, Slice
from bench.usage import process_cpu_seconds

ANSWER_TIMEOUT = 20.0
"""Seconds without any answer on any connection after which the run is given up."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""An answer longer than this is a fault of the server, whatever it holds."""
WATCH_INTERVAL = 0.5
COUNT_INTERVAL = 0.02
"""Seconds between two looks whether there are enough answers: cheaper than a look at each."""


class WrongAnswer(Exception):
    """The server's answer is not what the request must get; the run has no result."""


class Source(Protocol):
    """What is sent and what must come back. One source feeds all connections of a run."""

    def next(self) -> tuple[bytes, bytes | int]:
        """The bytes of the next request, and whatever `check` needs to know its answer."""

    def check(self, data: bytes, body: int, expected: bytes | int) -> None:
        """Raise WrongAnswer unless `data[body:]`, of an answer with status 200, is right."""

    def finish(self) -> None:
        """Raise WrongAnswer for what only all answers together show."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run measured. Times in seconds unless the name says otherwise."""

    clients: int
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    generator_cpu_us: float
    """CPU of this process per request."""
    server_cpu_us: float | None
    """CPU of the servers' processes per request, when they are known."""
    acknowledged: int
    """All answers of the run, warm-up and last ones included."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def request_bytes(url: str, path: str, body: bytes) -> bytes:
    """A POST as a client would send it; the same head for every body of one length."""
    return request_head(url, path, len(body)) + body


def request_head(url: str, path: str, length: int) -> bytes:
    parts = urlsplit(url)
    return (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: rsqlite-bench\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def percentile(ordered: list[float], fraction: float) -> float:
    """The value below which `fraction` of the sorted values lie; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] if ordered else 0.0


class Connection(asyncio.Protocol):
    """One client: sends, waits for the whole answer, has it checked, sends the next."""

    __slots__ = ("_expected", "_length_name", "_pieces", "_run", "_sent_at", "_transport", "_want")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.Transport
        self._expected: bytes | int = 0
        self._sent_at = 0.0
        self._pieces: list[bytes] = []
        self._want = 0
        self._length_name = b"\r\nContent-Length: "

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, now: float) -> None:
        request, self._expected = self._run.source.next()
        self._sent_at = now
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._pieces:
            self._pieces.append(data)
            self._want -= len(data)
            if self._want > 0:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        head_end = data.find(b"\r\n\r\n")
        at = data.find(self._length_name, 0, head_end + 2)
        if head_end < 0 or at < 0:
            self._uncommon(data, head_end)
            return
        at += len(self._length_name)
        body = head_end + 4
        missing = body + int(data[at : data.find(b"\r", at)]) - len(data)
        if missing:
            self._wait(data, missing)
        else:
            self._answered(data, body)

    def _answered(self, data: bytes, body: int) -> None:
        run = self._run
        now = time.perf_counter()
        run.record(now - self._sent_at)
        expected, is_last = self._expected, run.is_stopping
        if not is_last:
            # The next one first: how long this process takes to check is no time of the server's.
            self.send(now)
        try:
            if not data.startswith(b"HTTP/1.1 200 "):
                raise WrongAnswer(f"status of {data[:400]!r}")
            run.source.check(data, body, expected)
        except WrongAnswer as error:
            run.fail(error)
            return
        if is_last:
            run.connection_done()

    def _wait(self, data: bytes, missing: int) -> None:
        if missing < 0 or len(data) + missing > ANSWER_BYTES_MAX:
            self._run.fail(WrongAnswer(f"length of {data[:400]!r}"))
            return
        self._pieces.append(data)
        self._want = missing

    def _uncommon(self, data: bytes, head_end: int) -> None:
        """A head in pieces, a length spelled otherwise, or a chunked body."""
        if head_end < 0:
            self._wait(data, 1)
            return
        head = data[: head_end + 2].lower()
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            colon = at + len(b"\r\ncontent-length:")
            blank = len(data[colon:]) - len(data[colon:].lstrip(b" "))
            self._length_name = data[at : colon + blank]
            self.data_received(data)
            return
        if b"\r\ntransfer-encoding: chunked\r\n" not in head:
            self._run.fail(WrongAnswer(f"no length in {data[:400]!r}"))
            return
        joined = join_chunks(data, head_end + 4)
        if joined is None:
            self._wait(data, 1)
        else:
            self._answered(data[: head_end + 4] + joined, head_end + 4)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(exc)

    def close(self) -> None:
        self._transport.abort()


def join_chunks(data: bytes, at: int) -> bytes | None:
    """The body of a chunked answer that starts at `at`; None while it is not complete."""
    pieces: list[bytes] = []
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        size = int(data[at:line_end].partition(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(data) < at:
            return None
        if size == 0:
            return b"".join(pieces)
        pieces.append(data[line_end + 2 : at - 2])


class Run:
    """One measurement: connects, warms up, measures, and lets every request finish.

    The measured time ends after `seconds`, after `requests` answers, or when `stop` is called,
    whatever comes first. `marks` divide it: one at its begin, one at its end, whatever `mark` adds.
    """

    def __init__(
        self,
        *,
        url: str,
        source: Source,
        clients: int,
        warmup: float = 0.0,
        seconds: float = math.inf,
        requests: int | None = None,
        server_pids: tuple[int, ...] = (),
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self.source = source
        self.is_stopping = False
        self._clients, self._warmup = clients, warmup
        self._seconds, self._requests = seconds, requests
        self._server_pids = server_pids
        # An array's append is cheaper than a Python index into a preallocated one, and it grows by
        # an eighth at a time.
        self._latencies = array("d")
        self.record: Callable[[float], None] = self._latencies.append
        self._running = 0
        self._connections: list[Connection] = []
        self.marks: list[Mark] = []
        self._is_finished = False

    async def measure(self) -> Measurement:
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        try:
            for _ in range(self._clients):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port
                )
                self._connections.append(connection)
            self._running = self._clients
            collects = gc.isenabled()
            gc.disable()  # a collection here would be measured as the server's latency
            try:
                for connection in self._connections:
                    connection.send(time.perf_counter())
                loop.call_later(self._warmup, self._open_window)
                loop.call_later(WATCH_INTERVAL, self._watch, 0, 0.0)
                await self._done
            finally:
                if collects:
                    gc.enable()
        finally:
            self._is_finished = True
            for connection in self._connections:
                connection.close()
        self.source.finish()
        return self._result()

    def mark(self) -> Mark:
        """The moment that is now, which divides the measured time."""
        servers = sum(process_cpu_seconds(pid) for pid in self._server_pids)
        now = time.perf_counter()
        self.marks.append(Mark(len(self._latencies), now, time.process_time(), servers))
        return self.marks[-1]

    def between(self, first: Mark, last: Mark) -> Slice:
        """What came between two marks. Sorts, so it is for afterwards."""
        ordered = sorted(self._latencies[first.answers : last.answers])
        return Slice(
            requests=len(ordered),
            seconds=last.at - first.at,
            p50_ms=percentile(ordered, 0.5) * 1e3,
            p99_ms=percentile(ordered, 0.99) * 1e3,
            max_ms=ordered[-1] * 1e3 if ordered else 0.0,
        )

    def stop(self) -> None:
        """End the measured time; no new request is sent."""
        if self.marks and not self.is_stopping:
            self.mark()
        self.is_stopping = True

    def fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
        self.is_stopping = True

    def lost(self, exc: Exception | None) -> None:
        if not self._is_finished:
            self.fail(WrongAnswer(f"the server closed a connection: {exc}"))

    def connection_done(self) -> None:
        self._running -= 1
        if not self._running and not self._done.done():
            self._done.set_result(None)

    def _open_window(self) -> None:
        if self.is_stopping:
            return
        self.mark()
        loop = asyncio.get_running_loop()
        if self._seconds < math.inf:
            loop.call_later(self._seconds, self.stop)
        if self._requests is not None:
            loop.call_later(COUNT_INTERVAL, self._stop_when_enough, self._requests)

    def _stop_when_enough(self, requests: int) -> None:
        if len(self._latencies) - self.marks[0].answers >= requests:
            self.stop()
        elif not self.is_stopping:
            loop = asyncio.get_running_loop()
            loop.call_later(COUNT_INTERVAL, self._stop_when_enough, requests)

    def _watch(self, seen: int, silent: float) -> None:
        """Give up when nothing was answered for long; goes on until the run has ended."""
        if self._done.done():
            return
        count = len(self._latencies)
        silent = silent + WATCH_INTERVAL if count == seen else 0.0
        if silent >= ANSWER_TIMEOUT:
            self.fail(WrongAnswer(f"no answer for {ANSWER_TIMEOUT:.0f} s"))
            return
        asyncio.get_running_loop().call_later(WATCH_INTERVAL, self._watch, count, silent)

    def _result(self) -> Measurement:
        if not self.marks or self.marks[-1].answers == self.marks[0].answers:
            raise WrongAnswer("no answer within the measured time")
        begin, end = self.marks[0], self.marks[-1]
        whole = self.between(begin, end)
        generator_seconds = end.generator_cpu_seconds - begin.generator_cpu_seconds
        server_seconds = end.server_cpu_seconds - begin.server_cpu_seconds
        return Measurement(
            clients=self._clients,
            requests=whole.requests,
            seconds=whole.seconds,
            p50_ms=whole.p50_ms,
            p99_ms=whole.p99_ms,
            max_ms=whole.max_ms,
            generator_cpu_us=generator_seconds / whole.requests * 1e6,
            server_cpu_us=server_seconds / whole.requests * 1e6 if self._server_pids else None,
            acknowledged=len(self._latencies),
        )


def loop_factory() -> asyncio.AbstractEventLoop:
    """uvloop's loop when it is installed; asyncio's otherwise."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def measure(
    *,
    url: str,
    source: Source,
    clients: int,
    warmup: float = 0.0,
    seconds: float = math.inf,
    requests: int | None = None,
    server_pids: tuple[int, ...] = (),
) -> Measurement:
    """Run `source` against `url` with `clients` connections; raises WrongAnswer."""
    run = Run(
        url=url,
        source=source,
        clients=clients,
        warmup=warmup,
        seconds=seconds,
        requests=requests,
        server_pids=server_pids,
    )
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run.measure())
