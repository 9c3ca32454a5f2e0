"""The floors that figures are compared with, measured on the same machine in the same run.

echo       A plain aiohttp `web.Application` in a process of its own, on uvloop when installed, with
           the access log off: JSON in, the same JSON out. What HTTP costs before any work is done.
fdatasync  Append 200 bytes to a growing file and `fdatasync` it, one after the other, on the disk
           that holds the data. What one durable write costs before any replication.
sqlite     Rows inserted in one transaction through APSW, with the pragmas of the state machine.
           What SQL costs before any durability.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import apsw
import orjson
from aiohttp import web

from bench.generator import Measurement, Source, loop_factory, measure, percentile
from bench.workloads import echoes

RECORD_BYTES = 200
SQLITE_ROWS = 200_000
START_TIMEOUT = 10.0


async def echo(request: web.Request) -> web.Response:
    value = orjson.loads(await request.read())
    return web.Response(body=orjson.dumps(value), content_type="application/json")


async def serve_echo(listener: socket.socket) -> None:
    """Serve until the parent closes our standard input."""
    application = web.Application()
    application.router.add_post("/echo", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024).start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


class EchoServer:
    """The echo floor's process, for the length of a `with` block."""

    def __enter__(self) -> EchoServer:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # The listening socket is made here and inherited, so there is no moment at which the
        # address is known and a connection refused.
        with listener:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.floors", str(listener.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                cwd=Path(__file__).resolve().parent.parent,
            )
            # Its first answer comes when Python has started; that is not to be measured.
            host, port = listener.getsockname()
            first = http.client.HTTPConnection(host, port, timeout=START_TIMEOUT)
        with contextlib.closing(first):
            first.request("POST", "/echo", b"[]")
            first.getresponse().read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def measure(
        self,
        *,
        clients: int,
        seconds: float,
        warmup: float,
        requests: int | None = None,
        source: Source | None = None,
    ) -> Measurement:
        """By default with the body of the insert workload."""
        return measure(
            url=self.url,
            source=source or echoes(self.url),
            clients=clients,
            seconds=seconds,
            warmup=warmup,
            requests=requests,
            server_pids=(self._process.pid,),
        )


def fdatasync_ms(directory: Path, *, seconds: float, record_bytes: int = RECORD_BYTES) -> float:
    """Median milliseconds of an append with `fdatasync` to a growing file."""
    path = directory / "floor.log"
    record = os.urandom(record_bytes)
    times = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            os.write(file, record)
            os.fdatasync(file)
            times.append(time.perf_counter() - begin)
    finally:
        os.close(file)
        path.unlink()
    return percentile(sorted(times), 0.5) * 1e3


def sqlite_rows_per_second(directory: Path, *, rows: int = SQLITE_ROWS) -> float:
    """Rows per second of one transaction, BEGIN to COMMIT, through a reused cursor."""
    path = directory / "floor.db"
    connection = apsw.Connection(str(path))
    try:
        assert connection.pragma("journal_mode", "WAL") == "wal"
        connection.pragma("synchronous", "NORMAL")
        connection.pragma("wal_autocheckpoint", 0)
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
        values = [(f"row {n:010d} abcdefghij",) for n in range(rows)]
        execute = cursor.execute
        begin = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        for value in values:
            execute("INSERT INTO t(v) VALUES(?)", value)
        execute("COMMIT")
        return rows / (time.perf_counter() - begin)
    finally:
        connection.close()
        for leftover in directory.glob("floor.db*"):
            leftover.unlink()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory) as main_runner:
        main_runner.run(serve_echo(socket.socket(fileno=int(sys.argv[1]))))
