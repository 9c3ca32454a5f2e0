"""A steady load of inserts, in a process of its own, that writes down when each was acknowledged.

    python tests/e2e/load.py --url http://HOST:PORT --clients 16 [--pause SECONDS] [--first N] OUT

It goes on until its standard input ends, whatever happens: an answer that is no success and a
connection that breaks leave an id of which nothing is known. OUT then holds the ids that were
acknowledged and when (`Acknowledged`). `LoadProcess` is the same from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import cast
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.generator import loop_factory, request_head  # noqa: E402

CREATE = "CREATE TABLE load(id INTEGER PRIMARY KEY, v TEXT)"
FIRST_ID = 1_000_000_000
"""Ids have one width, so that all requests have one length."""
DIAL_PAUSE_S = 0.1
LAST_ANSWERS_S = 35.0
"""A little more than the servers' own deadline for a request."""
WINDOW_S = 1.0


class Load:
    """All connections of one run, each with one request under way."""

    def __init__(self, url: str, *, clients: int, pause_s: float, first: int) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._clients = clients
        self._pause_s = pause_s
        head, tail = b'[["INSERT INTO load(id,v) VALUES(?,?)",', b',"one row of the load"]]'
        self._prefix = request_head(url, "/db/execute", len(head) + 10 + len(tail)) + head
        self._suffix = tail
        self._number = itertools.count(first)
        self._stop = asyncio.Event()
        self.sent = 0
        self.ids = array("q")
        self.times = array("d")
        self.troubles: list[str] = []

    async def run(self) -> None:
        """Until `stop`, and until every request has its answer then."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._client())

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()

    async def _client(self) -> None:
        while not self._stop.is_set():
            try:
                connection = await self._dial()
            except OSError:
                await asyncio.sleep(DIAL_PAUSE_S)
                continue
            connection.send()
            await connection.ended
            connection.close()

    async def _dial(self) -> _Connection:
        loop = asyncio.get_running_loop()
        make = partial(_Connection, self, loop)
        _, connection = await loop.create_connection(make, *self._address)
        return connection

    def request(self) -> tuple[int, bytes] | None:
        """The next id and the request that inserts it; None when it is time to end."""
        if self._stop.is_set():
            return None
        number = next(self._number)
        self.sent += 1
        return number, self._prefix + b"%010d" % number + self._suffix

    def answered(self, number: int, answer: bytes) -> float:
        """Note what became of it; how long to think before the next one."""
        if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b'"rows_affected":1}]}'):
            self.ids.append(number)
            self.times.append(time.time())
        else:
            self.troubles.append(repr(answer[-200:]))
        return self._pause_s

    def write(self, path: Path) -> None:
        """What was acknowledged, for whoever started this process."""
        with path.open("wb") as file:
            file.write(b"%d\n" % len(self.ids))
            self.ids.tofile(file)
            self.times.tofile(file)


class _Connection(asyncio.Protocol):
    """One client. `ended` is resolved when nothing will be sent on it any more."""

    def __init__(self, load: Load, loop: asyncio.AbstractEventLoop) -> None:
        self._load = load
        self._loop = loop
        self._transport: asyncio.Transport
        self._number = 0
        self._data = b""
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self) -> None:
        request = self._load.request()
        if request is None or self.ended.done():
            self._end()
        else:
            self._number, data = request
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        at = self._data.lower().find(b"\r\ncontent-length:", 0, head_end + 2)
        if head_end < 0:
            return
        if at < 0:
            self._load.answered(self._number, self._data)
            self._transport.abort()
            return
        length = int(self._data[at + 17 : self._data.find(b"\r", at + 2)])
        if len(self._data) < head_end + 4 + length:
            return
        answer, self._data = self._data, b""
        pause_s = self._load.answered(self._number, answer)
        if pause_s:
            self._loop.call_later(pause_s, self.send)
        else:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def close(self) -> None:
        self._transport.abort()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a load was told: ids, and the second of the wall clock in which each answer came."""

    ids: array[int]
    times: array[float]

    @staticmethod
    def read(path: Path) -> Acknowledged:
        ids, times = array("q"), array("d")
        with path.open("rb") as file:
            count = int(file.readline())
            ids.fromfile(file, count)
            times.fromfile(file, count)
        return Acknowledged(ids, times)

    def rates(self, begin: float, end: float) -> list[float]:
        """Answers a second in each whole window of one second from `begin` on."""
        return rates(self.times, begin, end)


def rates(times: Sequence[float], begin: float, end: float) -> list[float]:
    """Events a second in each whole window between two moments."""
    counts = [0] * int((end - begin) / WINDOW_S)
    for at in times:
        window = int((at - begin) // WINDOW_S)
        if 0 <= window < len(counts):
            counts[window] += 1
    return [count / WINDOW_S for count in counts]


def median_rate(times: Sequence[float], begin: float, end: float) -> float:
    """The median of the windows; 0 of none."""
    found = rates(times, begin, end)
    return median(found) if found else 0.0


class LoadProcess:
    """The load, run by another process beside this one."""

    def __init__(
        self, url: str, out: Path, *, clients: int, pause_s: float = 0.0, first: int = FIRST_ID
    ) -> None:
        self._out = out
        options = ["--url", url, "--clients", str(clients), "--pause", str(pause_s)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *options, "--first", str(first), str(out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.sent = 0
        self.troubles: list[str] = []
        self.acknowledged = Acknowledged(array("q"), array("d"))

    def stop(self) -> None:
        """End it, and read what it wrote; once."""
        if self._process.returncode is not None:
            return
        output, _ = self._process.communicate(timeout=LAST_ANSWERS_S + 10)
        assert self._process.returncode == 0, f"the load ended with {self._process.returncode}"
        said = json.loads(output)
        self.sent, self.troubles = said["sent"], said["troubles"]
        self.acknowledged = Acknowledged.read(self._out)

    def kill(self) -> None:
        """Whatever it knows is of no use."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def running(load: LoadProcess) -> Iterator[LoadProcess]:
    """No load outlives its block."""
    try:
        yield load
    finally:
        load.kill()


async def run(load: Load, out: Path) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.buffer.read)
    task = asyncio.create_task(load.run())
    await ended
    load.stop()
    async with asyncio.timeout(LAST_ANSWERS_S):
        await task
    load.write(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--url", required=True, help="of one node")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each request")
    parser.add_argument("--first", type=int, default=FIRST_ID, help="the first id to insert")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory) as runner:

        async def both() -> Load:
            load = Load(
                arguments.url,
                clients=arguments.clients,
                pause_s=arguments.pause,
                first=arguments.first,
            )
            await run(load, arguments.out)
            return load

        load = runner.run(both())
    print(json.dumps({"sent": load.sent, "troubles": load.troubles[:10]}))


if __name__ == "__main__":
    main()
