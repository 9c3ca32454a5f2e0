"""One established connection between two nodes: frames on an asyncio transport.

Both ends feel its pulse: the dialler gives a sign of life once per `peer_pulse`, the listener
answers once per pulse if it heard anything, and either side ends the connection after
`peer_stall_timeout` of silence. So a peer that vanished without a word, a cut in one direction and
a connection that TCP retries more and more rarely are all noticed, while a link that is merely
slow and moves bytes lives.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast
from zlib import crc32

from rsqlite.config import Settings
from rsqlite.transport.frames import HEADER, MAGIC, URGENT, FrameQueue, FrameReader

SIGN_OF_LIFE: Final = b"\x00"
"""The frame of kind 0, which never leaves the transport."""

# Pieces written in one turn of the loop: a large frame must not keep the loop from reading.
_PIECES_PER_TURN: Final = 4

_HEADER_PACK = HEADER.pack
_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # missing in Python's table


class FrameConnection(asyncio.Protocol):
    """Frames over one transport, from `connection_made` to `ended(reason)`.

    `receive(kind, payload)` is called from `data_received`; its ValueError ends the connection.
    `ended` is called once, on the loop, with the reason in words; never after `detach`.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        monotonic: Callable[[], float],
        receive: Callable[[int, bytes | memoryview], None],
        ended: Callable[[str], None],
        is_dialler: bool,
    ) -> None:
        self._monotonic = monotonic
        self._receive = receive
        self._ended: Callable[[str], None] | None = ended
        self._is_dialler = is_dialler
        self._stall_timeout = settings.peer_stall_timeout
        self._piece_bytes = settings.peer_fragment_bytes
        self._reader = FrameReader(self._deliver, frame_bytes_max=settings.peer_frame_bytes_max)
        self._queue = FrameQueue(
            piece_bytes_max=settings.peer_fragment_bytes,
            frame_bytes_max=settings.peer_frame_bytes_max,
            queue_bytes_max=settings.peer_queue_bytes_max,
        )
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._is_pumping = False  # a turn of `_pump` is scheduled
        self._is_held = True  # frames go through the queue: not open, paused, or others wait
        self._is_closed = False
        self._gathered: list[bytes] = []
        """Pieces that leave at the end of this turn of the loop; less than one piece of bytes."""
        self._gathered_bytes = 0
        self._reason = ""
        self._given_up: asyncio.TimerHandle | None = None
        self._answered_at = 0.0
        self.heard_at = monotonic()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were taken by `send` and not by the operating system."""
        transport = self._transport
        buffered = 0 if transport is None else transport.get_write_buffer_size()
        return self._queue.waiting_bytes + self._gathered_bytes + buffered

    def send(self, frame: bytes, is_urgent: bool, is_patient: bool = False) -> bool:
        """Write it now if nothing waits, else queue it; False when it was dropped. One that is
        patient leaves with all others of this turn of the loop: one write, and one wake-up there.
        """
        size = len(frame)
        if self._is_held or size > self._piece_bytes:
            return self._send_later(frame, is_urgent)
        flags = URGENT if is_urgent else 0
        piece = _HEADER_PACK(MAGIC, flags, size, crc32(frame, flags)) + frame
        if is_patient and not is_urgent:
            self._gather(piece)
            return True
        if self._gathered and not is_urgent:
            self._flush()  # each class keeps its order
        self._write(piece)
        return True

    def pulse(self, now: float) -> None:
        """Called once per `peer_pulse`: give a sign of life, or notice that there is none."""
        if self._is_closed:
            return
        silence = now - self.heard_at
        if silence > self._stall_timeout:
            self.fail(f"nothing heard for {silence:.1f} s")
        elif self._is_dialler or self.heard_at > self._answered_at:
            self._answered_at = now
            self.send(SIGN_OF_LIFE, True)

    def forgive(self, now: float) -> None:
        """Our own loop stood still: what the peer sent meanwhile has yet to be read."""
        self.heard_at = now

    def fail(self, reason: str) -> None:
        """Drop the connection and all that waits, also after `close`; `ended(reason)` follows."""
        self._shut(reason)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what the transport holds, then close. What is still queued is dropped, and all of
        it if the peer does not take it within the stall timeout."""
        if not self._is_closed:
            self._flush()
            self._shut("closed here")
            if self._transport is not None:
                self._transport.close()
                self._given_up = asyncio.get_running_loop().call_later(
                    self._stall_timeout, self._transport.abort
                )

    def detach(self, ended: Callable[[str], None] | None = None) -> None:
        """Call this at the end instead of what was asked for at first."""
        self._ended = ended

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Pausing at one piece keeps the rest in our queue, where urgent frames overtake it.
        self._transport.set_write_buffer_limits(high=self._piece_bytes)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
            _tune(connected, self._piece_bytes)
        self._write = self._transport.write
        self.heard_at = self._answered_at = self._monotonic()
        self._is_held = False

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._monotonic()
        try:
            self._reader.feed(data)
        except ValueError as error:
            # No frames, or no messages in them (`receive` says so): this connection cannot go on,
            # all else can.
            self.fail(str(error))

    def pause_writing(self) -> None:
        self._is_paused = self._is_held = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        self._shut("closed by the peer" if error is None else str(error) or type(error).__name__)
        if self._given_up is not None:
            self._given_up.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self._reason)

    # Inside

    def _deliver(self, kind: int, payload: bytes | memoryview) -> None:
        if kind:
            self._receive(kind, payload)

    def _gather(self, piece: bytes) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(piece)
        self._gathered_bytes += len(piece)
        if self._gathered_bytes >= self._piece_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            pieces, self._gathered, self._gathered_bytes = self._gathered, [], 0
            self._write(b"".join(pieces))

    def _send_later(self, frame: bytes, is_urgent: bool) -> bool:
        self._flush()
        if self._is_closed or self._transport is None or not self._queue.push(frame, is_urgent):
            return False
        self._is_held = True
        if not self._is_paused and not self._is_pumping:
            self._pump()
        return True

    def _pump(self) -> None:
        """Write pieces until the transport has enough, a few per turn of the loop."""
        self._is_pumping = False
        for _ in range(_PIECES_PER_TURN):
            if self._is_paused or self._is_closed:
                return
            piece = self._queue.pop()
            if piece is None:
                self._is_held = False
                return
            self._write(piece)
        if not self._is_paused:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _shut(self, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = self._is_held = True
            self._reason = reason
            self._queue.clear()
            self._gathered, self._gathered_bytes = [], 0
            self._reader.close()


def _tune(connected: socket.socket, unsent_bytes_max: int) -> None:
    """Send small frames at once, and keep the kernel's own queue short.

    A socket takes megabytes on a fast machine, and an urgent frame would stand behind all of it.
    Not every kernel can bound what is not sent yet; there only the first promise holds.
    """
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, unsent_bytes_max)
    except OSError:
        return
