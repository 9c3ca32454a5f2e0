"""Added network delay: a process before the raft addresses of nodes that passes bytes on later.

Each byte goes on half a round trip after it came, in both directions and in the order in which it
came. However many are under way (up to BYTES_MAX a direction), so a link gets longer, not narrower:
there is no loss, no jitter and no slow start. Opening a connection takes no longer than without;
what it then carries does.

    python -m bench.proxy FD=HOST:PORT ...

takes listening sockets that it inherits, and on standard input a line for each change: the seconds
of delay each way. It answers each with a line, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

from rsqlite.testing.cluster import ProcessCluster
from rsqlite.testing.process import HOST

BYTES_MAX = 64 * 1024 * 1024
"""Of one direction, waiting for their time or for the receiver; above it nothing more is read. At
25 ms each way that is 2.6 GB/s, more than any link here carries."""
BACKLOG = 64
STOP_TIMEOUT = 10.0


class Ending(enum.Enum):
    """What comes behind the last byte."""

    STREAM = "the other direction may go on"
    CONNECTION = "nothing goes on"


class Delay:
    """Seconds each way, for all connections; may change while bytes are under way."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Lane(asyncio.Protocol):
    """One end of a connection: what it receives goes to the other end, later."""

    def __init__(self, delay: Delay) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._other: Lane | None = None
        # What is to be passed on, and when. The times never fall, whatever becomes of the delay.
        self._waiting: deque[tuple[float, bytes | Ending]] = deque()
        self._waiting_bytes = 0
        self._last_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_receiver_full = False
        self._is_over = False

    def join(self, other: Lane) -> None:
        """Pass on to the other end, and the other way, from now on; also what has come already."""
        self._other, other._other = other, self
        self._pass_on()
        other._pass_on()

    def close(self) -> None:
        """Send what was passed on, and end the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        self._waiting_bytes += len(data)
        self._wait(data)
        self._regulate()

    def eof_received(self) -> bool:
        self._wait(Ending.STREAM)
        return True  # the transport stays open for the other direction

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._wait(Ending.CONNECTION)

    def pause_writing(self) -> None:
        assert self._other is not None, "nothing is written before there is another end"
        self._other._is_receiver_full = True
        self._other._regulate()

    def resume_writing(self) -> None:
        assert self._other is not None
        self._other._is_receiver_full = False
        self._other._regulate()

    def _wait(self, what: bytes | Ending) -> None:
        self._last_due = max(self._last_due, self._loop.time() + self._delay.seconds)
        self._waiting.append((self._last_due, what))
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._waiting and self._other is not None:
            self._timer = self._loop.call_at(self._waiting[0][0], self._pass_on)

    def _pass_on(self) -> None:
        """Everything that is due."""
        self._timer = None
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._deliver(self._waiting.popleft()[1])
        self._regulate()
        self._arm()

    def _deliver(self, what: bytes | Ending) -> None:
        other = self._other
        assert other is not None
        if isinstance(what, bytes):
            self._waiting_bytes -= len(what)
            if other._transport is not None:
                other._transport.write(what)
        elif what is Ending.STREAM and not other._is_over:
            self._is_over = True
            if other._transport is not None:
                other._transport.write_eof()
        else:
            other.close()
            self.close()

    def _regulate(self) -> None:
        """Read only while there is room for what comes."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_receiver_full or self._waiting_bytes > BYTES_MAX:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


async def accept(delay: Delay, listener: socket.socket, host: str, port: int) -> asyncio.Server:
    """Carry every connection that comes in to the target."""
    loop = asyncio.get_running_loop()
    dials: set[asyncio.Task[None]] = set()

    async def dial(lane: Lane) -> None:
        try:
            _, other = await loop.create_connection(lambda: Lane(delay), host, port)
        except OSError:
            lane.close()  # nobody listens there: so whoever dialled us is told in time
        else:
            lane.join(other)

    def accepted() -> Lane:
        lane = Lane(delay)
        task = loop.create_task(dial(lane))
        dials.add(task)
        task.add_done_callback(dials.discard)
        return lane

    return await loop.create_server(accepted, sock=listener, backlog=BACKLOG)


async def serve(arguments: Sequence[str]) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    delay = Delay()
    servers = []
    for argument in arguments:
        number, _, target = argument.partition("=")
        host, _, port = target.rpartition(":")
        listener = socket.socket(fileno=int(number))
        servers.append(await accept(delay, listener, host, int(port)))
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        delay.seconds = float(line)
        print("set", flush=True)
    for server in servers:
        server.close()


def patient_loop() -> asyncio.AbstractEventLoop:
    """A loop that waits to the microsecond: epoll and uvloop round to milliseconds, which is more
    than half a short round trip."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


class DelayProxy:
    """The process, for the length of a `with` block."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets
        self.addresses: list[str] = []
        """Where each of the targets is reached with the delay."""

    def __enter__(self) -> DelayProxy:
        with contextlib.ExitStack() as stack:
            listeners = [
                stack.enter_context(socket.create_server((HOST, 0), backlog=BACKLOG))
                for _ in self._targets
            ]
            self.addresses = [f"{HOST}:{one.getsockname()[1]}" for one in listeners]
            numbers = [one.fileno() for one in listeners]
            pairs = zip(numbers, self._targets, strict=True)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.proxy", *(f"{fd}={to}" for fd, to in pairs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=numbers,
                cwd=Path(__file__).resolve().parent.parent,
            )
        self.set_round_trip(0.0)
        return self

    def set_round_trip(self, seconds: float) -> None:
        """Holds for every byte that comes after this has returned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%r\n" % (seconds / 2))
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"set\n", "the proxy has ended"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()


def put_before(cluster: ProcessCluster, addresses: Sequence[str]) -> None:
    """Have the nodes, not started yet, reach each other by these addresses only."""
    for node, address in zip(cluster.nodes, addresses, strict=True):
        node.options[node.options.index("-join") + 1] = ",".join(addresses)
        node.options += ["-raft-adv-addr", address]


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=patient_loop) as main_runner:
        main_runner.run(serve(sys.argv[1:]))
