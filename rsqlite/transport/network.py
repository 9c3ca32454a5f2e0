"""PeerNetwork: the real `ports.Network`, and all links of this node.

Each node sends on the link it dialled, or, while there is none, on the one it accepted. So no rule
is needed for two nodes that dial each other at once, and one sender's frames come in one order, but
for the moment in which its own link opens.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TypeVar

import orjson

from rsqlite.config import PEER_HANDSHAKE_BYTES_MAX, PEER_IMAGE_BYTES_MAX, Settings
from rsqlite.ports import Done, Handle, Loop
from rsqlite.transport.connection import FrameConnection
from rsqlite.transport.handshake import (
    ASK_PATH,
    IDENTITY_PATH,
    IMAGE_PATH,
    Hello,
    LinkRefused,
    Refusal,
    exchange,
    nobody,
    refusal,
)
from rsqlite.transport.listener import Asked, Listener, Served
from rsqlite.transport.peer import Link, LinkStatus

T = TypeVar("T")


class PeerNetwork:
    """Links to and from the other nodes. Everything is called, and calls back, on the loop.

    `receive(source, kind, payload)` runs inside `data_received`. `opened(node_id)`: our link to it
    is up. `closed(node_id)`: an established link with it broke, in either direction; one death may
    be told twice, once per link. After `stop` nothing is called any more.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        settings: Settings,
        node_id: int,
        random: random.Random,
        identity: Callable[[], Mapping[str, object]],
        cluster_id: Callable[[], str | None],
        accept_cluster: Callable[[str, int], bool],
        asked: Asked,
        served: Served,
        receive: Callable[[int, int, bytes | memoryview], None],
        opened: Callable[[int], None],
        closed: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._node_id = node_id
        self._random = random
        self._cluster_id = cluster_id
        self._accept_cluster = accept_cluster
        self._receive = receive
        self._opened = opened
        self._closed = closed
        self._listener = Listener(
            settings=settings,
            identity=identity,
            asked=asked,
            served=served,
            admit=self._admit,
            attach=self._attach,
            node_id=node_id,
        )
        self._address = settings.raft_adv_addr or settings.raft_addr
        self._members: dict[int, str] = {}
        self._links: dict[int, Link] = {}
        self._inbound: dict[int, FrameConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # attempts to dial, questions who one is
        self._pulse: Handle | None = None
        self._pulse_due = 0.0
        self._is_running = False

    def __repr__(self) -> str:
        return f"<PeerNetwork of {self._node_id} at {self._address}: {list(self._links.values())}>"

    @property
    def address(self) -> str:
        """Where others reach this node: `raft_adv_addr`, or what the listener is bound to."""
        return self._address

    async def start(self) -> None:
        """Listen, and dial whom `connect` has named. OSError if the address cannot be had."""
        bound = await self._listener.start()
        if not self._settings.raft_adv_addr:
            self._address = bound
        self._is_running = True
        self._schedule_pulse()
        self._reconcile()

    async def stop(self) -> None:
        """Close all links and the listener; nothing is called back from now on."""
        self._is_running = False
        if self._pulse is not None:
            self._pulse.cancel()
        for inbound in tuple(self._inbound.values()):
            inbound.fail("this node is stopping")
        closed = [link.close() for link in self._links.values()]
        self._links.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _gone(closed, self._settings.peer_connect_timeout)
        await self._listener.stop()

    # ports.Network

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Keep a link to each of these nodes, and to no others. This node itself may be named.
        Nodes that are not may link to us, and get what is sent to them on that link."""
        self._members = {one: at for one, at in addresses.items() if one != self._node_id}
        if self._is_running:
            self._reconcile()

    def send(
        self, target: int, frame: bytes, *, urgent: bool = False, patient: bool = False
    ) -> bool:
        """Write or queue a frame; False when it was dropped: no open link, no room in its queue,
        or a frame over `peer_frame_bytes_max`."""
        link = self._links.get(target)
        connection = None if link is None else link.connection
        if connection is None:
            connection = self._inbound_connection(target)
        if connection is not None and connection.send(frame, urgent, patient):
            return True
        if link is not None:
            link.dropped += 1
        return False

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        """Ask the node at `address` who it is. An OSError, TimeoutError, ValueError or LinkRefused
        says that it did not tell. Not called any more after `stop`."""
        request = _head("GET", IDENTITY_PATH, address)
        timeout_s = self._settings.peer_connect_timeout
        self._spawn(self._exchange(address, request, _object, _of_raft(done), timeout_s))

    def ask(
        self,
        address: str,
        question: Mapping[str, object],
        done: Done[Mapping[str, object]],
        *,
        timeout_s: float,
    ) -> None:
        """Put a question to the node at `address`; errors as those of `identify`."""
        body = orjson.dumps(dict(question))
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = _head("POST", ASK_PATH, address, fields) + body
        self._spawn(self._exchange(address, request, _object, _of_raft(done), timeout_s))

    def fetch(
        self,
        address: str,
        name: str,
        done: Done[bytes],
        *,
        timeout_s: float,
        heard: Callable[[], None],
    ) -> None:
        """A part of an image; errors as those of `identify`, and LookupError if it has none."""
        request = _head("GET", IMAGE_PATH + name, address)
        bytes_max = PEER_IMAGE_BYTES_MAX + PEER_HANDSHAKE_BYTES_MAX
        self._spawn(self._exchange(address, request, bytes, done, timeout_s, bytes_max, heard))

    def links(self) -> tuple[LinkStatus, ...]:
        """A picture of every link we keep, by node id."""
        return tuple(
            link.status(inbound=self._inbound_connection(node_id))
            for node_id, link in sorted(self._links.items())
        )

    # Outgoing

    def _reconcile(self) -> None:
        """Open and close links so that they are those that `connect` named."""
        wanted = self._members
        for node_id, link in tuple(self._links.items()):
            if wanted.get(node_id) != link.address:
                link.close()
                del self._links[node_id]
        for node_id, address in sorted(wanted.items()):
            if node_id not in self._links:
                self._links[node_id] = Link(
                    node_id,
                    address,
                    loop=self._loop,
                    settings=self._settings,
                    random=self._random,
                    spawn=self._spawn,
                    hello=self._hello,
                    receive=self._receive,
                    opened=self._opened,
                    closed=self._closed,
                )
                self._links[node_id].dial()

    def _hello(self, target: int) -> Hello | None:
        cluster_id = self._cluster_id()
        if cluster_id is None:
            return None
        return Hello(cluster_id, self._node_id, self._address, target)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # what no one expected goes to the loop's handler, not into oblivion

    async def _exchange(
        self,
        address: str,
        request: bytes,
        decode: Callable[[bytes], T],
        done: Done[T],
        timeout_s: float,
        bytes_max: int = PEER_HANDSHAKE_BYTES_MAX,
        heard: Callable[[], None] = nobody,
    ) -> None:
        try:
            body = await exchange(
                address, request, timeout_s=timeout_s, bytes_max=bytes_max, heard=heard
            )
            answer = decode(body)
        except (OSError, ValueError, LookupError, LinkRefused) as error:
            done(None, error)
        else:
            done(answer, None)

    # Inbound

    def _admit(self, hello: Hello) -> Refusal | None:
        if not self._is_running:
            return Refusal(503, "this node is stopping")
        return refusal(
            hello,
            node_id=self._node_id,
            cluster_id=self._cluster_id(),
            accept_cluster=self._accept_cluster,
        )

    def _attach(self, hello: Hello, ended: Callable[[], None]) -> FrameConnection:
        """The connection for a link that was granted."""
        source = hello.source

        def lost(reason: str) -> None:
            ended()
            self._inbound_ended(source, connection)

        connection = FrameConnection(
            settings=self._settings,
            monotonic=self._loop.monotonic,
            receive=partial(self._receive, source),
            ended=lost,
            is_dialler=False,
        )
        former = self._inbound.get(source)
        self._inbound[source] = connection
        if former is not None:
            # The peer dialled again, so its former connection broke, though we have not heard.
            former.fail("the peer has dialled again")
            self._loop.call_soon(self._tell_closed, source)
        self._loop.call_soon(self._greet, source)
        return connection

    def _greet(self, source: int) -> None:
        """A node has linked to us: it is up, so our link to it need not wait."""
        link = self._links.get(source)
        if link is not None and link.connection is None:
            link.hurry()

    def _inbound_ended(self, source: int, connection: FrameConnection) -> None:
        if self._inbound.get(source) is not connection:
            return  # replaced by a newer one
        del self._inbound[source]
        self._tell_closed(source)

    def _tell_closed(self, source: int) -> None:
        if self._is_running:
            self._closed(source)

    def _inbound_connection(self, node_id: int) -> FrameConnection | None:
        connection = self._inbound.get(node_id)
        return None if connection is None or connection.is_closed else connection

    # The pulse

    def _schedule_pulse(self) -> None:
        self._pulse_due = self._loop.monotonic() + self._settings.peer_pulse
        self._pulse = self._loop.call_later(self._settings.peer_pulse, self._beat)

    def _beat(self) -> None:
        now = self._loop.monotonic()
        # A loop that stood still has not read what came meanwhile: nobody is silent yet.
        is_late = now - self._pulse_due > self._settings.peer_pulse
        for link in self._links.values():
            link.pulse(now, is_late)
        for inbound in self._inbound.values():
            if is_late:
                inbound.forgive(now)
            inbound.pulse(now)
        self._listener.sweep(now)
        self._schedule_pulse()


def _head(method: str, path: str, address: str, fields: str = "") -> bytes:
    """The head of a request for one answer; each of the `fields` ends its line."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n"
    ).encode("ascii", "replace")


def _of_raft(done: Done[T]) -> Done[T]:
    """`done` for what every raft address knows: who does not is something else that speaks HTTP."""

    def told(answer: T | None, error: BaseException | None) -> None:
        if isinstance(error, LookupError):
            error = LinkRefused(
                f"it is no raft address ({error}): others give theirs as -raft-addr"
            )
        done(answer, error)

    return told


def _object(body: bytes) -> Mapping[str, object]:
    answer = orjson.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not that of an rsqlite node")
    return answer


async def _gone(connections: list[FrameConnection | None], timeout_s: float) -> None:
    """Wait until what these closed connections still held has left, or abort them."""
    waiting = []
    for connection in connections:
        if connection is not None:
            future = asyncio.get_running_loop().create_future()
            connection.detach(future.set_result)
            waiting.append(future)
    if waiting:
        await asyncio.wait(waiting, timeout=timeout_s)
    for connection in connections:
        if connection is not None:
            connection.fail("not flushed in time")
