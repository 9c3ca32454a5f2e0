"""A Network in memory, on virtual time, that loses, delays, reorders, duplicates and cuts one way.

`Switchboard` is the world between the nodes; `switchboard.network(...)` makes the `Network` of one
of them, with the callbacks of `transport.PeerNetwork`. Handshakes obey the same rules, links break
and are dialled again with the same pauses, and both run the contract tests in `tests/transport`.
Equal seeds give equal runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeVar

from rsqlite.config import Settings
from rsqlite.ports import Done
from rsqlite.testing.lanes import Weather
from rsqlite.testing.links import MemoryLink
from rsqlite.testing.loop import ManualLoop
from rsqlite.transport.handshake import refusal
from rsqlite.transport.listener import Asked, Served
from rsqlite.transport.peer import LinkStatus

T = TypeVar("T")


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
        asked: Asked,
        served: Served,
        receive: Callable[[int, int, bytes | memoryview], None],
        opened: Callable[[int], None],
        closed: Callable[[int], None],
        is_asleep: Callable[[], bool] = lambda: False,
    ) -> MemoryNetwork:
        """The network of one node; `start` it."""
        return MemoryNetwork(
            self,
            node_id=node_id,
            address=address,
            identity=identity,
            cluster_id=cluster_id,
            accept_cluster=accept_cluster,
            asked=asked,
            served=served,
            receive=receive,
            opened=opened,
            closed=closed,
            is_asleep=is_asleep,
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
        asked: Asked,
        served: Served,
        receive: Callable[[int, int, bytes | memoryview], None],
        opened: Callable[[int], None],
        closed: Callable[[int], None],
        is_asleep: Callable[[], bool],
    ) -> None:
        """`is_asleep`: the process is stopped, and says nothing of itself."""
        self.board = board
        self.node_id = node_id
        self.address = address
        self.identity = identity
        self.cluster_id = cluster_id
        self.accept_cluster = accept_cluster
        self.asked = asked
        self.served = served
        self.receive = receive
        self.opened = opened
        self._closed = closed
        self.is_asleep = is_asleep
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

    def send(
        self, target: int, frame: bytes, *, urgent: bool = False, patient: bool = False
    ) -> bool:
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
        def serve(node: MemoryNetwork, answer: Callable[[Mapping[str, object]], None]) -> None:
            if not node.is_asleep():
                answer(dict(node.identity()))

        self._call(address, done, serve, 2.0)

    def ask(
        self,
        address: str,
        question: Mapping[str, object],
        done: Done[Mapping[str, object]],
        *,
        timeout_s: float,
    ) -> None:
        self._call(address, done, lambda node, answer: node.asked(question, answer), timeout_s)

    def fetch(
        self,
        address: str,
        name: str,
        done: Done[bytes],
        *,
        timeout_s: float,
        heard: Callable[[], None],
    ) -> None:
        def found(part: bytes | None, error: BaseException | None) -> None:
            if error is None and part is None:
                error = LookupError("there is no such image here")
            done(part, error)

        def serve(node: MemoryNetwork, answer: Callable[[bytes | None], None]) -> None:
            node.served(name, lambda part: self._trickle(part, answer, heard))

        self._call(address, found, serve, timeout_s)

    def _trickle(
        self,
        part: bytes | None,
        answer: Callable[[bytes | None], None],
        heard: Callable[[], None],
    ) -> None:
        """Let a part come as fast as the weather allows, and be heard each second meanwhile."""
        board = self.board
        left_s = len(part or b"") / board.weather.bytes_per_s
        if left_s == 0:
            answer(part)
            return
        for second in range(int(left_s)):
            board.loop.call_later(second + 1.0, heard)
        board.loop.call_later(left_s, answer, part)

    def _call(
        self,
        address: str,
        done: Done[T],
        serve: Callable[[MemoryNetwork, Callable[[T], None]], None],
        timeout_s: float,
    ) -> None:
        """There and back; `done` comes once, in time or with an error."""
        board, answers = self.board, [done]

        def finish(value: T | None, error: BaseException | None) -> None:
            if answers and self.is_running:
                answers.pop()(value, error)

        def arrive() -> None:
            node = board.nodes.get(address)
            if node is None:
                finish(None, ConnectionRefusedError(f"nobody listens at {address}"))
            elif not board.is_apart(self.node_id, node.node_id):
                serve(node, lambda it: _back(board, node, self, lambda: finish(it, None)))

        board.loop.call_later(board.delay(), arrive)
        board.loop.call_later(timeout_s, finish, None, TimeoutError("no answer in time"))

    def links(self) -> tuple[LinkStatus, ...]:
        return tuple(
            link.status(is_heard=node_id in self.inbound)
            for node_id, link in sorted(self._links.items())
        )

    # Between the networks

    def accept(self, link: MemoryLink) -> str:
        """Take a link; the answer is why not, or empty."""
        try:
            refused = refusal(
                link.hello(),
                node_id=self.node_id,
                cluster_id=self.cluster_id(),
                accept_cluster=self.accept_cluster,
            )
        except BaseException as error:  # noqa: BLE001 - of this node, and not of the one that dials
            self.board.loop.call_soon(_raise, error)
            return "it ended"
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


def _raise(error: BaseException) -> None:
    raise error


def _back(
    board: Switchboard, source: MemoryNetwork, target: MemoryNetwork, arrive: Callable[[], None]
) -> None:
    """An answer on its way, unless it is cut or its sender ends."""

    def look() -> None:
        if source.is_running and not board.is_apart(source.node_id, target.node_id):
            arrive()

    board.loop.call_later(board.delay(), look)
