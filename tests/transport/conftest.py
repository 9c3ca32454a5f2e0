"""Worlds to play scenarios in: real sockets on asyncio and uvloop, and memory on virtual time."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import importlib.util
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.node.loop import AsyncioLoop
from rsqlite.testing.loop import ManualLoop
from rsqlite.testing.network import MemoryNetwork, Switchboard
from rsqlite.transport import PeerNetwork

SETTINGS = Settings(
    raft_addr="127.0.0.1:0",
    peer_pulse=0.05,
    peer_stall_timeout=0.3,
    peer_backoff_min=0.01,
    peer_backoff_max=0.1,
    peer_connect_timeout=0.5,
    peer_handshake_timeout=0.2,
    peer_connections_max=8,
    peer_fragment_bytes=64 * 1024,
)


class Peer:
    """One node of a test: its network, and everything it was told."""

    def __init__(self, node_id: int, cluster: str | None, takes_clusters: bool) -> None:
        self.node_id = node_id
        self.cluster = cluster
        self.takes_clusters = takes_clusters
        self.network: Any = None
        self.received: list[tuple[int, int, bytes]] = []
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.refuses: set[int] = set()
        self.parts: dict[str, bytes] = {}
        self.on_receive: Callable[[int, int, bytes], None] | None = None
        self.network_asked: Callable[[Any, Any], None] = lambda question, answer: answer(
            {"node": self.node_id, **question}
        )

    @property
    def address(self) -> str:
        return str(self.network.address)

    def callbacks(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "identity": lambda: {"node_id": self.node_id, "cluster_id": self.cluster},
            "cluster_id": lambda: self.cluster,
            "accept_cluster": self.accept_cluster,
            "asked": lambda question, answer: self.network_asked(question, answer),
            "served": lambda name, answer: answer(self.parts.get(name)),
            "receive": self.receive,
            "opened": self.opened.append,
            "closed": self.closed.append,
        }

    def accept_cluster(self, cluster: str, source: int) -> bool:
        if self.takes_clusters:
            self.cluster = cluster
        return self.takes_clusters

    def receive(self, source: int, kind: int, payload: bytes | memoryview) -> None:
        if kind in self.refuses:
            raise ValueError(f"kind {kind} is refused")
        self.received.append((source, kind, bytes(payload)))
        if self.on_receive is not None:
            self.on_receive(source, kind, bytes(payload))

    def link(self, node_id: int) -> Any:
        """The status of the link to a node, or None."""
        return {one.node_id: one for one in self.network.links()}.get(node_id)

    def is_linked(self, node_id: int) -> bool:
        """Whether the links to it and from it are up."""
        link = self.link(node_id)
        return link is not None and link.is_connected and link.is_heard


class World(abc.ABC):
    """What scenarios may ask of either world."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.peers: list[Peer] = []

    async def peer(
        self, node_id: int, cluster: str | None = "c", *, takes_clusters: bool = False
    ) -> Peer:
        """A started node without links."""
        peer = Peer(node_id, cluster, takes_clusters)
        await self.start(peer)
        self.peers.append(peer)
        return peer

    async def joined(self, *node_ids: int) -> list[Peer]:
        """Nodes that are linked in both directions."""
        peers = [await self.peer(node_id) for node_id in node_ids]
        addresses = {peer.node_id: peer.address for peer in peers}
        for peer in peers:
            peer.network.connect(addresses)
        await self.until(
            lambda: all(a.is_linked(b.node_id) for a in peers for b in peers if a is not b)
        )
        return peers

    @abc.abstractmethod
    async def start(self, peer: Peer, address: str | None = None) -> None:
        """Start its network, at an address it had before if one is given."""

    @abc.abstractmethod
    async def stop(self, peer: Peer) -> None:
        """Stop its network."""

    @abc.abstractmethod
    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until it holds; AssertionError if it takes much too long."""

    @abc.abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time pass, to see that nothing happens."""


class SocketWorld(World):
    """Real sockets on 127.0.0.1."""

    async def start(self, peer: Peer, address: str | None = None) -> None:
        settings = dataclasses.replace(self.settings, raft_addr=address or "127.0.0.1:0")
        self.loop = AsyncioLoop(threads=1)
        peer.network = PeerNetwork(
            loop=self.loop, settings=settings, random=random.Random(1), **peer.callbacks()
        )
        await peer.network.start()

    async def stop(self, peer: Peer) -> None:
        await peer.network.stop()

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {self.peers}"
            await asyncio.sleep(0.001)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class MemoryWorld(World):
    """The fake on virtual time."""

    def __init__(self, settings: Settings = SETTINGS, seed: int = 1) -> None:
        super().__init__(settings)
        self.loop = ManualLoop()
        self.board = Switchboard(self.loop, random.Random(seed), settings=settings)
        self._ports = 0

    async def start(self, peer: Peer, address: str | None = None) -> None:
        self._ports += 1
        peer.network = network = self.board.network(
            address=address or f"memory:{self._ports}", **peer.callbacks()
        )
        assert isinstance(network, MemoryNetwork)
        network.start()

    async def stop(self, peer: Peer) -> None:
        peer.network.stop()

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = self.loop.monotonic() + 20
        while not condition():
            assert self.loop.monotonic() < deadline, "not in time"
            self.loop.advance(0.001)

    async def pause(self, seconds: float) -> None:
        self.loop.advance(seconds)


Play = Callable[..., None]


def _play(kind: str) -> Play:
    if kind == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")

    def play(scenario: Callable[[Any], Awaitable[None]], settings: Settings = SETTINGS) -> None:
        world = MemoryWorld(settings) if kind == "memory" else SocketWorld(settings)

        async def run() -> None:
            complaints: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda loop, context: complaints.append(context)
            )
            try:
                await scenario(world)
            finally:
                for peer in world.peers:
                    await world.stop(peer)
                if isinstance(world, SocketWorld) and world.peers:
                    world.loop.close()
            assert not complaints

        factory = None
        if kind == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run())

    return play


@pytest.fixture(params=["memory", "asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Plays a scenario in each world: what the port promises."""
    return _play(request.param)


@pytest.fixture(params=["asyncio", "uvloop"])
def play_sockets(request: pytest.FixtureRequest) -> Play:
    """Plays a scenario on real sockets, with both loops."""
    return _play(request.param)


@pytest.fixture
def play_memory() -> Play:
    """Plays a scenario on virtual time."""
    return _play("memory")
