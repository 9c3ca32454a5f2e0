"""A Network in memory, on virtual time, that loses, delays, reorders, duplicates and cuts one way.

`Switchboard` is the world between the nodes; `switchboard.network(...)` makes the `Network` of one
of them, with the callbacks of `transport.PeerNetwork`. Handshakes obey the same rules, links break
and are dialled again with the same pauses, and both run the contract tests in `tests/transport`.
Equal seeds give equal runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from rsqlite.config import Settings
from rsqlite.ports import Done, Handle
from rsqlite.testing.lanes import Lane, Weather
from rsqlite.testing.loop import ManualLoop
from rsqlite.transport.handshake import Hello, refusal
from rsqlite.transport.peer import Backoff, LinkStatus


class Switchboard:
    """All nodes of a test, and the weather between them."""

    def __init__(
        self,
        loop: ManualLoop,
        random: random.Random,
        *,
        settings: Settings | None = None,
        weather: Weather | None = None,
    ) -> None:
        self.loop = loop
        self.random = random
        self.settings = settings or Settings()
        self.weather = weather or Weather()
        self.nodes: dict[str, MemoryNetwork] = {}
        """Who listens where: running nodes by address."""
        self._cuts: set[tuple[int, int]] = set()
        self.delivered = 0

    def network(
        self,
        *,
        node_id: int,
        address: str,
        identity: Callable[[], Mapping[str, object]],
        cluster_id: Callable[[], str | None],
        accept_cluster: Callable[[str, int], bool],
        receive: Callable[[int, int, bytes | memoryview], None],
        opened: Callable[[int], None],
        closed: Callable[[int], None],
    ) -> MemoryNetwork:
        """The network of one node; `start` it."""
        return MemoryNetwork(
            self,
            node_id=node_id,
            address=address,
            identity=identity,
            cluster_id=cluster_id,
            accept_cluster=accept_cluster,
            receive=receive,
            opened=opened,
            closed=closed,
        )

    def cut(self, source: int, target: int) -> None:
        """Nothing gets from `source` to `target` any more; the other direction is as it was."""
        self._cuts.add((source, target))

    def heal(self, source: int | None = None, target: int | None = None) -> None:
        """Undo cuts: all, those from `source`, those to `target`, or exactly one."""
        self._cuts = {
            (one, other)
            for one, other in self._cuts
            if source not in (None, one) or target not in (None, other)
        }

    def is_cut(self, source: int, target: int) -> bool:
        return (source, target) in self._cuts

    def is_apart(self, one: int, other: int) -> bool:
        """Whether at least one direction between them is cut."""
        return (one, other) in self._cuts or (other, one) in self._cuts

    def delay(self) -> float:
        """How long the next frame takes."""
        return self.random.uniform(self.weather.delay_min_s, self.weather.delay_max_s)


class MemoryNetwork:
    """`ports.Network` of one node of a `Switchboard`."""

    def __init__(
        self,
        board: Switchboard,
        *,
        node_id: int,
        address: str,
        identity: Callable[[], Mapping[str, object]],
        cluster_id: Callable[[], str | None],
        accept_cluster: Callable[[str, int], bool],
        receive: Callable[[int, int, bytes | memoryview], None],
        opened: Callable[[int], None],
        closed: Callable[[int], None],
    ) -> None:
        self.board = board
        self.node_id = node_id
        self.address = address
        self.identity = identity
        self.cluster_id = cluster_id
        self.accept_cluster = accept_cluster
        self.receive = receive
        self.opened = opened
        self._closed = closed
        self.is_running = False
        self._members: dict[int, str] = {}
        self._links: dict[int, MemoryLink] = {}
        self.inbound: dict[int, MemoryLink] = {}
        """The open links of others to this node."""

    def start(self) -> None:
        """Listen. AssertionError if somebody else listens at the address."""
        assert self.address not in self.board.nodes, f"{self.address} is taken"
        self.board.nodes[self.address] = self
        self.is_running = True
        self._reconcile()

    def stop(self) -> None:
        """End all links, as a closing or killed process does: the others hear of it."""
        if not self.is_running:
            return
        self.is_running = False
        del self.board.nodes[self.address]
        for link in self._links.values():
            link.close()
        self._links.clear()
        inbound, self.inbound = self.inbound, {}
        for link in inbound.values():
            link.left_by_target()

    # ports.Network

    def connect(self, addresses: Mapping[int, str]) -> None:
        self._members = {one: at for one, at in addresses.items() if one != self.node_id}
        if self.is_running:
            self._reconcile()

    def send(self, target: int, frame: bytes, *, urgent: bool = False) -> bool:
        link = self._links.get(target)
        lane = None if link is None else link.forth
        if lane is None:
            inbound = self.inbound.get(target)
            lane = None if inbound is None else inbound.back
        if lane is not None and lane.send(frame, urgent):
            return True
        if link is not None:
            link.dropped += 1
        return False

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        board = self.board

        def ask() -> None:
            node = board.nodes.get(address)
            if not self.is_running:
                return
            if node is None:
                done(None, ConnectionRefusedError(f"nobody listens at {address}"))
            elif board.is_apart(self.node_id, node.node_id):
                done(None, TimeoutError("no answer in time"))
            else:
                done(dict(node.identity()), None)

        board.loop.call_later(board.delay() + board.delay(), ask)

    def links(self) -> tuple[LinkStatus, ...]:
        return tuple(
            link.status(is_heard=node_id in self.inbound)
            for node_id, link in sorted(self._links.items())
        )

    # Between the networks

    def accept(self, link: MemoryLink) -> str:
        """Take a link; the answer is why not, or empty."""
        refused = refusal(
            link.hello(),
            node_id=self.node_id,
            cluster_id=self.cluster_id(),
            accept_cluster=self.accept_cluster,
        )
        if refused is not None:
            return refused.reason
        source = link.origin.node_id
        if source in self.inbound:
            self.board.loop.call_soon(self.tell_closed, source)
        self.inbound[source] = link
        self.board.loop.call_soon(self._greet, source)
        return ""

    def inbound_ended(self, link: MemoryLink) -> None:
        """An accepted link is gone."""
        source = link.origin.node_id
        if self.inbound.get(source) is link:
            del self.inbound[source]
            self.tell_closed(source)

    def tell_closed(self, node_id: int) -> None:
        """A link with this node broke."""
        if self.is_running:
            self._closed(node_id)

    def _reconcile(self) -> None:
        for node_id, link in tuple(self._links.items()):
            if self._members.get(node_id) != link.address:
                del self._links[node_id]
                link.close()
        for node_id, address in sorted(self._members.items()):
            if node_id not in self._links:
                self._links[node_id] = link = MemoryLink(self, node_id, address)
                link.dial()

    def _greet(self, source: int) -> None:
        link = self._links.get(source)
        if link is not None:
            link.hurry()


class MemoryLink:
    """One node's link to another: dialled, open, broken, dialled again."""

    def __init__(self, origin: MemoryNetwork, node_id: int, address: str) -> None:
        self.origin = origin
        self.address = address
        self.forth: Lane | None = None
        """The lanes of the link while it is open."""
        self.back: Lane | None = None
        self.dropped = 0
        self._node_id = node_id
        self._board = origin.board
        self._settings = settings = origin.board.settings
        self._backoff = Backoff(
            settings.peer_backoff_min, settings.peer_backoff_max, origin.board.random
        )
        self._target: MemoryNetwork | None = None
        self._is_dialling = False
        self._is_closed = False
        self._timer: Handle | None = None
        self._pulse: Handle | None = None
        self._heard: float | None = None
        self._opened = 0
        self._error = "not tried yet"

    def hello(self) -> Hello:
        """What the origin says of itself."""
        cluster_id = self.origin.cluster_id()
        assert cluster_id is not None, "a node without a cluster dials nobody"
        return Hello(cluster_id, self.origin.node_id, self.origin.address, self._node_id)

    def dial(self) -> None:
        """Start an attempt, unless one is under way or the link is open."""
        if self._is_closed or self._is_dialling or self._target is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self.origin.cluster_id() is None:
            self._failed("this node belongs to no cluster yet")
            return
        self._is_dialling = True
        self._timer = self._board.loop.call_later(self._board.delay() * 2, self._arrive)

    def hurry(self) -> None:
        """The peer was seen alive: forget the pauses."""
        self._backoff.reset()
        self.dial()

    def close(self) -> None:
        """End it for good; the target hears of it, this side does not."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        target = self._end("closed here")
        if target is not None:
            is_cut = self._board.is_cut(self.origin.node_id, target.node_id)
            delay = self._settings.peer_stall_timeout if is_cut else self._board.delay()
            self._board.loop.call_later(delay, target.inbound_ended, self)

    def left_by_target(self) -> None:
        """The target went away. If the word of it gets lost in a cut, the pulse will tell."""
        target = self._target
        if target is not None and not self._board.is_cut(target.node_id, self.origin.node_id):
            self._board.loop.call_later(
                self._board.delay(), self._broken, self.forth, "closed by the peer"
            )

    def status(self, *, is_heard: bool) -> LinkStatus:
        """A picture of it."""
        heard = self._heard
        return LinkStatus(
            node_id=self._node_id,
            address=self.address,
            is_connected=self.forth is not None,
            is_heard=is_heard,
            contact_age_s=None if heard is None else self._board.loop.monotonic() - heard,
            waiting_bytes=0 if self.forth is None else self.forth.waiting_bytes,
            dropped=self.dropped,
            opened=self._opened,
            error="" if self.forth is not None else self._error,
        )

    def _arrive(self) -> None:
        """The handshake reaches whoever listens at the address."""
        board = self._board
        node = board.nodes.get(self.address)
        if node is None:
            self._failed(f"nobody listens at {self.address}")
        elif board.is_apart(self.origin.node_id, node.node_id):
            self._timer = board.loop.call_later(
                self._settings.peer_connect_timeout, self._failed, "no answer in time"
            )
        elif error := node.accept(self):
            self._failed(error)
        else:
            self._open(node)

    def _open(self, target: MemoryNetwork) -> None:
        board, origin = self._board, self.origin
        self._is_dialling = False
        self._target = target
        self._opened += 1
        self._backoff.reset()
        here, there = origin.node_id, target.node_id
        forth = Lane(board, here, there, lambda frame: self._receive(forth, target, here, frame))
        back = Lane(board, there, here, lambda frame: self._receive(forth, origin, there, frame))
        self.forth, self.back = forth, back
        self._heard = board.loop.monotonic()
        self._pulse = board.loop.call_later(self._settings.peer_pulse, self._beat, self._heard)
        board.loop.call_soon(self._tell_opened, forth)

    def _tell_opened(self, forth: Lane) -> None:
        if self.forth is forth:
            self.origin.opened(self._node_id)

    def _receive(self, forth: Lane, node: MemoryNetwork, source: int, frame: bytes) -> None:
        """A frame reaches `node`, at either end."""
        target = self._target
        # A target that was stopped, or that took a newer link, reads nothing from this one.
        if target is None or target.inbound.get(self.origin.node_id) is not self:
            return
        self._board.delivered += 1
        try:
            node.receive(source, frame[0], frame[1:])
        except ValueError as error:
            # As the real one: whoever gets bytes that are no message ends that link.
            target.inbound_ended(self)
            self._broken(forth, str(error))

    def _beat(self, alive_at: float) -> None:
        """A cut in either direction is noticed after the stall timeout, as by signs of life."""
        now = self._board.loop.monotonic()
        target, forth = self._target, self.forth
        assert target is not None
        if not self._board.is_apart(self.origin.node_id, self._node_id):
            if target.inbound.get(self.origin.node_id) is not self:
                self._broken(forth, "closed by the peer")
                return
            alive_at = self._heard = now
        elif now - alive_at > self._settings.peer_stall_timeout:
            target.inbound_ended(self)
            self._broken(forth, f"nothing heard for {now - alive_at:.1f} s")
            return
        self._pulse = self._board.loop.call_later(self._settings.peer_pulse, self._beat, alive_at)

    def _broken(self, forth: Lane | None, reason: str) -> None:
        if self.forth is forth and self._end(reason) is not None:
            self._failed(reason)
            self.origin.tell_closed(self._node_id)

    def _end(self, reason: str) -> MemoryNetwork | None:
        """Forget the connection, what is in flight included; the answer is whom it led to."""
        target, self._target = self._target, None
        for lane in (self.forth, self.back):
            if lane is not None:
                lane.is_open = False
        self.forth = self.back = None
        self._error = reason
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None
        return target

    def _failed(self, reason: str) -> None:
        """Dial again after a pause."""
        self._is_dialling = False
        self._error = reason
        if not self._is_closed:
            self._timer = self._board.loop.call_later(self._backoff.pause(), self.dial)
