"""PeerNetwork: the real `ports.Network`, and all links of this node.

Each node sends on the links it dialled and receives on those it accepted: no rule is needed for
two nodes that dial each other at once, and one sender's frames come in one order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from rsqlite.config import Settings
from rsqlite.ports import Done, Handle, Loop
from rsqlite.transport.connection import FrameConnection
from rsqlite.transport.handshake import (
    IDENTITY_PATH,
    PROTOCOL_VERSION,
    Hello,
    LinkRefused,
    exchange,
)
from rsqlite.transport.listener import Listener, Refusal
from rsqlite.transport.peer import Link, LinkStatus


_NO_ADDRESS = "this node has no raft address"


@dataclass(slots=True)
class _Inbound:
    """The link of another node to us, and the address it gave."""

    address: str
    connection: FrameConnection


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
            admit=self._admit,
            attach=self._attach,
            node_id=node_id,
        )
        self._address = settings.raft_adv_addr or settings.raft_addr
        self._members: dict[int, str] = {}
        self._links: dict[int, Link] = {}
        self._inbound: dict[int, _Inbound] = {}
        self._asking: set[asyncio.Task[None]] = set()
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
        for task in tuple(self._asking):
            task.cancel()
        links, self._links = self._links, {}
        await _gone([link.close() for link in links.values()], self._settings.peer_connect_timeout)
        for inbound in tuple(self._inbound.values()):
            inbound.connection.fail("this node is stopping")
        await self._listener.stop()

    # ports.Network

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Keep a link to each of these nodes, and to nobody else but those that are linked to us.
        This node itself may be among them."""
        self._members = {one: at for one, at in addresses.items() if one != self._node_id}
        if self._is_running:
            self._reconcile()

    def send(self, target: int, frame: bytes, *, urgent: bool = False) -> bool:
        """Write or queue a frame; False when it was dropped: no open link, no room in its queue,
        or a frame over `peer_frame_bytes_max`."""
        link = self._links.get(target)
        return link is not None and link.send(frame, urgent)

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        """Ask the node at `address` who it is. An OSError, TimeoutError, ValueError or LinkRefused
        says that it did not tell. Not called any more after `stop`."""
        task = asyncio.get_running_loop().create_task(self._identify(address, done))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def links(self) -> tuple[LinkStatus, ...]:
        """A picture of every link, by node id."""
        return tuple(
            link.status(inbound_heard_at=self._inbound_heard_at(node_id))
            for node_id, link in sorted(self._links.items())
        )

    # Outgoing

    def _reconcile(self) -> None:
        """Open and close links so that they are those to members and to the nodes linked to us."""
        wanted = {one: inbound.address for one, inbound in self._inbound.items()} | self._members
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
                    hello=self._hello,
                    opened=self._opened,
                    closed=self._closed,
                )
            self._links[node_id].dial()

    def _hello(self, target: int) -> Hello | None:
        cluster_id = self._cluster_id()
        if cluster_id is None:
            return None
        return Hello(cluster_id, self._node_id, self._address, target)

    async def _identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        request = (
            f"GET {IDENTITY_PATH} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        ).encode("ascii", "replace")
        try:
            body = await exchange(address, request, timeout_s=self._settings.peer_connect_timeout)
            identity = orjson.loads(body)
            if not isinstance(identity, dict):
                raise ValueError("it does not say who it is")
        except (OSError, ValueError, LinkRefused) as error:
            done(None, error)
        else:
            done(identity, None)

    # Inbound

    def _admit(self, hello: Hello) -> Refusal | None:
        """Whether this node gets its link. 421 and 409 tell the two kinds of mistaken identity
        apart: it means somebody else, or it is not one of us."""
        if hello.version != PROTOCOL_VERSION:
            return Refusal(426, f"protocol {hello.version}, this node speaks {PROTOCOL_VERSION}")
        if hello.target != self._node_id:
            return Refusal(421, f"this is node {self._node_id}, not {hello.target}")
        if hello.source == self._node_id:
            return Refusal(409, f"node id {hello.source} is this node's own: a copied directory?")
        if not self._is_running:
            return Refusal(503, "this node is stopping")
        cluster_id = self._cluster_id()
        if cluster_id is None:
            if not self._accept_cluster(hello.cluster_id, hello.source):
                return Refusal(409, "this node belongs to no cluster, and does not join this one")
        elif cluster_id != hello.cluster_id:
            return Refusal(409, f"this node belongs to cluster {cluster_id}")
        return None

    def _attach(self, hello: Hello, ended: Callable[[], None]) -> FrameConnection:
        """The connection for a link that was granted."""
        source = hello.source
        receive = self._receive

        def received(kind: int, payload: bytes | memoryview) -> None:
            receive(source, kind, payload)

        def lost(reason: str) -> None:
            ended()
            self._inbound_ended(source, connection)

        connection = FrameConnection(
            settings=self._settings,
            monotonic=self._loop.monotonic,
            receive=received,
            ended=lost,
            is_dialler=False,
        )
        former = self._inbound.get(source)
        self._inbound[source] = _Inbound(hello.source_address, connection)
        if former is not None:
            # The peer dialled again, so its former connection broke, though we have not heard.
            former.connection.fail("the peer has dialled again")
            self._loop.call_soon(self._tell_closed, source)
        self._loop.call_soon(self._greet, source)
        return connection

    def _greet(self, source: int) -> None:
        """A node has linked to us: it is up, so our link to it need not wait."""
        if self._is_running and source in self._inbound:
            self._reconcile()
            link = self._links.get(source)
            if link is not None and not link.is_open:
                link.hurry()

    def _inbound_ended(self, source: int, connection: FrameConnection) -> None:
        inbound = self._inbound.get(source)
        if inbound is None or inbound.connection is not connection:
            return  # replaced by a newer one
        del self._inbound[source]
        if self._is_running:
            self._reconcile()
            self._closed(source)

    def _tell_closed(self, source: int) -> None:
        if self._is_running:
            self._closed(source)

    def _inbound_heard_at(self, node_id: int) -> float | None:
        inbound = self._inbound.get(node_id)
        return None if inbound is None else inbound.connection.heard_at

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
                inbound.connection.forgive(now)
            inbound.connection.pulse(now)
        self._listener.sweep(now)
        self._schedule_pulse()


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


class NoNetwork:
    """The network of a node without a raft address: it listens to nobody and reaches nobody."""

    address = ""

    def __init__(self) -> None:
        self._members: dict[int, str] = {}

    async def stop(self) -> None:
        """Nothing to stop."""

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Remember them, to say in `links` why they are out of reach."""
        self._members = dict(addresses)

    def send(self, target: int, frame: bytes, *, urgent: bool = False) -> bool:
        """Always dropped."""
        return False

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        """Nobody can be asked."""
        done(None, ConnectionError(_NO_ADDRESS))

    def links(self) -> tuple[LinkStatus, ...]:
        """All of them closed."""
        return tuple(
            LinkStatus(
                node_id=node_id,
                address=address,
                is_connected=False,
                is_heard=False,
                contact_age_s=None,
                waiting_bytes=0,
                dropped=0,
                opened=0,
                error=_NO_ADDRESS,
            )
            for node_id, address in sorted(self._members.items())
        )
