"""Relays before the raft addresses of nodes, which can break what is fetched through them.

A node that is started with `-raft-adv-addr` of a relay is reached by the others through it. What a
relay carries is left alone, until `cut` is called: then the next image that is fetched goes wrong
once. All relays of a run share a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Literal, Self, get_args

from rsqlite.testing.process import HOST
from rsqlite.transport.handshake import IMAGE_PATH

Cut = Literal["reset", "reset all", "stall", "refuse"]
"""What goes wrong: the connection of the chunk is reset; all connections are, the links between
nodes as well; nothing more comes, without a word; all are reset, and refused for a while."""
CUTS: tuple[Cut, ...] = get_args(Cut)

PIECE_BYTES = 1 << 16
REFUSES_S = 2.0
START_S = 10.0


class Relays:
    """Their thread. Also a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._relays: list[Relay] = []
        self._thread = threading.Thread(target=self._run, name="relays", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self._relays:
            self.call(relay.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def before(self, port: int) -> Relay:
        """A relay before this port of this machine."""
        relay = Relay(port, self._loop)
        self.call(relay.listen())
        self._relays.append(relay)
        return relay

    def call(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something in the thread, and wait for it."""
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(START_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class Relay:
    """One address. `cut` may be called from any thread."""

    def __init__(self, target_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.target_port = target_port
        self.port = 0
        self.image_bytes = 0
        """Carried so far, of all images."""
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._armed: tuple[Cut, int, Callable[[], None]] | None = None
        self._refuses_until = 0.0

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    async def listen(self) -> None:
        """Begin to relay."""
        self._server = await asyncio.start_server(self._accepted, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Relay nothing any more."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, cut: Cut, after_bytes: int) -> threading.Event:
        """Let that go wrong when so many more bytes of images have passed; set when it has."""
        happened = threading.Event()
        self._armed = (cut, self.image_bytes + after_bytes, happened.set)
        return happened

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._loop.time() < self._refuses_until:
            _reset(writer)
            return
        first = await reader.read(PIECE_BYTES)
        is_image = first.startswith(b"GET " + IMAGE_PATH.encode())
        try:
            answers, target = await asyncio.open_connection(HOST, self.target_port)
        except OSError:
            _reset(writer)  # as the node itself would
            return
        both = {writer, target}
        self._writers |= both
        try:
            target.write(first)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, target))
                group.create_task(self._carry_back(answers, writer, is_image))
        except* OSError:
            pass  # one side broke, and so does the other
        finally:
            self._writers -= both
            for one in both:
                one.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _carry_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_image: bool
    ) -> None:
        while data := await reader.read(PIECE_BYTES):
            if is_image:
                self.image_bytes += len(data)
                if self._armed is not None and self.image_bytes >= self._armed[1]:
                    await self._break(writer)
            writer.write(data)
            await writer.drain()
        writer.close()  # a node that has answered waits for nothing more

    async def _break(self, writer: asyncio.StreamWriter) -> None:
        assert self._armed is not None
        cut, _, tell = self._armed
        self._armed = None
        tell()
        if cut == "stall":
            await asyncio.Event().wait()  # until the connection's other half ends, or the run
        if cut == "refuse":
            self._refuses_until = self._loop.time() + REFUSES_S
        for one in [writer] if cut == "reset" else list(self._writers):
            _reset(one)
        raise ConnectionResetError(cut)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, as a host that crashed would."""
    transport_socket = writer.get_extra_info("socket")
    if transport_socket is not None:
        with contextlib.suppress(OSError):
            transport_socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
    writer.transport.abort()
