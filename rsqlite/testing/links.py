"""One node's link to another in memory: dialled, open, broken, dialled again; see `network.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsqlite.ports import Handle
from rsqlite.testing.lanes import Lane
from rsqlite.transport.handshake import Hello
from rsqlite.transport.peer import Backoff, LinkStatus

if TYPE_CHECKING:
    from rsqlite.testing.network import MemoryNetwork


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
