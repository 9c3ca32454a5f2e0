"""Our link to one node: dialled again and again, with pauses, until it is closed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial

from rsqlite.config import Settings
from rsqlite.ports import Handle, Loop
from rsqlite.transport.connection import FrameConnection
from rsqlite.transport.handshake import Hello, LinkRefused, check_acceptance, exchange


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What an operator asks about the way to a peer and back."""

    node_id: int
    address: str
    is_connected: bool
    """Our link to it is established; `error` says why not, or why the last one ended."""
    is_heard: bool
    """Its link to us is established."""
    contact_age_s: float | None
    """Seconds since anything came from it, on either link; None: nothing yet."""
    waiting_bytes: int
    """Frames that wait to be written."""
    dropped: int
    """Frames refused for want of a link or of room."""
    opened: int
    """How many times the link was established."""
    error: str


class Backoff:
    """Pauses that double, with jitter, so that nodes which lost the same peer do not march."""

    def __init__(self, minimum: float, maximum: float, random: random.Random) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._random = random
        self._next = minimum

    def reset(self) -> None:
        """The next pause is the shortest."""
        self._next = self._minimum

    def pause(self) -> float:
        """How long to wait now: between half and all of what the failures so far ask for."""
        current = self._next
        self._next = min(2 * current, self._maximum)
        return current * self._random.uniform(0.5, 1.0)


class Link:
    """Keeps one connection to one node open. Frames for a link that is not open are dropped:
    Raft sends again, and would rather send news than find old messages in a queue."""

    def __init__(
        self,
        node_id: int,
        address: str,
        *,
        loop: Loop,
        settings: Settings,
        random: random.Random,
        spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        hello: Callable[[int], Hello | None],
        receive: Callable[[int, int, bytes | memoryview], None],
        opened: Callable[[int], None],
        closed: Callable[[int], None],
    ) -> None:
        self.node_id = node_id
        self.address = address
        self.connection: FrameConnection | None = None
        """The open link."""
        self.dropped = 0
        self._loop = loop
        self._settings = settings
        self._spawn = spawn
        self._hello = hello
        self._receive = receive
        self._opened = opened
        self._closed = closed
        self._backoff = Backoff(settings.peer_backoff_min, settings.peer_backoff_max, random)
        self._dialling: asyncio.Task[None] | None = None
        self._retry: Handle | None = None
        self._is_hurried = False  # the peer was seen alive while we dialled: no pause after it
        self._is_closed = False
        self._error = "not tried yet"
        self._opened_count = 0
        self._heard_at: float | None = None

    def __repr__(self) -> str:
        state = "open" if self.connection else "dialling" if self._dialling else "waiting"
        return f"<Link to {self.node_id} at {self.address}: {state}>"

    def dial(self) -> None:
        """Start an attempt now, unless one is under way or the link is open."""
        self._cancel_retry()
        if self._is_closed or self.connection is not None or self._dialling is not None:
            return
        hello = self._hello(self.node_id)
        if hello is None:
            self._error = "this node belongs to no cluster yet"
            self._wait()
            return
        self._is_hurried = False
        self._dialling = self._spawn(self._dial(hello))

    def hurry(self) -> None:
        """The peer was seen alive: forget the pauses."""
        self._backoff.reset()
        self._is_hurried = True
        self.dial()

    def pulse(self, now: float, is_late: bool) -> None:
        """Once per `peer_pulse`."""
        if self.connection is not None:
            if is_late:
                self.connection.forgive(now)
            self.connection.pulse(now)

    def close(self) -> FrameConnection | None:
        """End it for good, without `closed`. The answer is the connection, if there was one: what
        the transport held still leaves."""
        self._is_closed = True
        self._cancel_retry()
        if self._dialling is not None:
            self._dialling.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.detach()
            connection.close()
        return connection

    def status(self, *, inbound: FrameConnection | None) -> LinkStatus:
        """A picture of it, and of the link the other way."""
        heard = [self._heard_at] if self._heard_at is not None else []
        heard += [one.heard_at for one in (self.connection, inbound) if one is not None]
        connection = self.connection
        return LinkStatus(
            node_id=self.node_id,
            address=self.address,
            is_connected=connection is not None,
            is_heard=inbound is not None,
            contact_age_s=self._loop.monotonic() - max(heard) if heard else None,
            waiting_bytes=0 if connection is None else connection.waiting_bytes,
            dropped=self.dropped,
            opened=self._opened_count,
            error="" if connection is not None else self._error,
        )

    async def _dial(self, hello: Hello) -> None:
        def upgraded(headers: Mapping[str, str]) -> asyncio.Protocol:
            if self._is_closed:
                raise LinkRefused("closed here meanwhile")
            check_acceptance(hello, headers)
            return self._open()

        try:
            await exchange(
                self.address,
                hello.to_request(self.address),
                timeout_s=self._settings.peer_connect_timeout,
                upgraded=upgraded,
            )
        except TimeoutError:
            self._error = "no answer in time"
        except (OSError, LinkRefused, ValueError) as error:
            self._error = str(error)
        finally:
            self._dialling = None
            if self.connection is None and not self._is_closed:
                self._wait()

    def _open(self) -> FrameConnection:
        connection = FrameConnection(
            settings=self._settings,
            monotonic=self._loop.monotonic,
            receive=partial(self._receive, self.node_id),
            ended=lambda reason: self._ended(connection, reason),
            is_dialler=True,
        )
        self.connection = connection
        self._opened_count += 1
        self._backoff.reset()
        # In the next turn: the transport is the connection's own by then, and `opened` may send.
        self._loop.call_soon(self._tell_opened, connection)
        return connection

    def _tell_opened(self, connection: FrameConnection) -> None:
        if self.connection is connection and not connection.is_closed:
            self._opened(self.node_id)

    def _ended(self, connection: FrameConnection, reason: str) -> None:
        assert self.connection is connection
        self._heard_at = connection.heard_at
        self.connection = None
        self._error = reason
        self._wait()
        self._closed(self.node_id)

    def _wait(self) -> None:
        """Dial again after a pause, or at once if the peer was seen alive meanwhile."""
        pause = 0.0 if self._is_hurried else self._backoff.pause()
        self._is_hurried = False
        self._cancel_retry()
        self._retry = self._loop.call_later(pause, self.dial)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
