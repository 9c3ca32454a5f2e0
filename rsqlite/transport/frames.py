"""Frames on a byte stream, without I/O: pieces out, pieces in, caps before any allocation.

A frame that is longer than a piece is sent in several; frames of the other class may come between
them. Layout of a piece: `rsqlite/transport/__init__`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final
from zlib import crc32

from rsqlite.config import PEER_PIECE_BYTES_MAX, PEER_PIECE_BYTES_MIN

HEADER: Final = Struct(">HHII")  # magic, flags, length, crc32 of the bytes, begun with the flags
HEADER_BYTES: Final = HEADER.size
MAGIC: Final = 0x5251  # "RQ"

MORE: Final = 1
"""Another piece of this frame follows in this class."""
URGENT: Final = 2
"""The class of the frame: two frames may be in pieces at a time, one of each class."""

_VIEW_BYTES_MIN: Final = 4096


class FrameError(ValueError):
    """The bytes of a peer are no frames: its connection is of no more use."""


def pack_piece(body: bytes | memoryview, flags: int) -> bytes:
    """The bytes on the wire of one piece."""
    return HEADER.pack(MAGIC, flags, len(body), crc32(body, flags)) + body


class FrameReader:
    """Bytes in as they come, whole frames out, in order.

    `deliver(kind, payload)` is called from within `feed` and may call `close`: nothing is delivered
    after that. A payload stays as it is for as long as the receiver keeps it. Held at most: one
    piece that is not complete, and the pieces of one frame of each class, `frame_bytes_max` for
    both together.
    """

    def __init__(
        self, deliver: Callable[[int, bytes | memoryview], None], *, frame_bytes_max: int
    ) -> None:
        self._deliver = deliver
        self._frame_bytes_max = frame_bytes_max
        self._tail = bytearray()
        self._needed = HEADER_BYTES  # parsing the tail is of no use before it has this many
        self._pieces = [bytearray(), bytearray()]
        self._pieces_bytes = 0
        self._is_closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes of what is not complete yet."""
        return len(self._tail) + self._pieces_bytes

    def close(self) -> None:
        """Deliver nothing more and forget what is there."""
        self._is_closed = True
        self._tail.clear()
        self._pieces = [bytearray(), bytearray()]
        self._pieces_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take bytes from the stream; FrameError if they cannot be frames."""
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._needed:
                return
            data = bytes(tail)
            tail.clear()
        view = memoryview(data)
        position, end = 0, len(data)
        needed = HEADER_BYTES
        while end - position >= HEADER_BYTES and not self._is_closed:
            magic, flags, length, checksum = HEADER.unpack_from(data, position)
            if magic != MAGIC or flags > 3 or not 0 < length <= PEER_PIECE_BYTES_MAX:
                raise FrameError(self._complaint(magic, flags, length))
            start = position + HEADER_BYTES
            if start + length > end:
                needed = HEADER_BYTES + length
                break
            position = start + length
            # A copy of a small piece is cheaper than a view of it; of a large one it is not.
            body = data[start:position] if length < _VIEW_BYTES_MIN else view[start:position]
            if crc32(body, flags) != checksum:
                raise FrameError("a frame's checksum is wrong")
            if flags & MORE or self._pieces_bytes:
                self._collect(flags, body)
            else:
                self._deliver(body[0], body[1:])
        if position < end and not self._is_closed:
            tail += view[position:]
            self._needed = needed

    def _collect(self, flags: int, body: bytes | memoryview) -> None:
        """Keep a piece; with the last one the frame is whole."""
        whole = self._pieces[flags >> 1]
        if not flags & MORE and not whole:
            self._deliver(body[0], body[1:])
            return
        if flags & MORE and len(body) < PEER_PIECE_BYTES_MIN:
            # Each piece costs a little on top of its bytes: tiny ones would get past the cap.
            raise FrameError(f"a piece of {len(body)} bytes with more to come")
        self._pieces_bytes += len(body)
        if self._pieces_bytes > self._frame_bytes_max:
            raise FrameError(f"a frame of more than {self._frame_bytes_max} bytes")
        whole += body
        if not flags & MORE:
            self._pieces_bytes -= len(whole)
            self._pieces[flags >> 1] = bytearray()
            self._deliver(whole[0], memoryview(whole)[1:].toreadonly())

    def _complaint(self, magic: int, flags: int, length: int) -> str:
        if magic != MAGIC:
            return "bytes that are no frame"
        if flags > 3:
            return f"a frame with unknown flags {flags:#x}"
        return f"a piece of {length} bytes, allowed are 1 to {PEER_PIECE_BYTES_MAX}"


class FrameQueue:
    """What waits for a peer, in two classes, bounded in bytes.

    The last piece's worth of the bound is kept for urgent frames: a queue full of entries does not
    lose heartbeats.
    """

    def __init__(self, *, piece_bytes_max: int, frame_bytes_max: int, queue_bytes_max: int) -> None:
        self._piece_bytes_max = piece_bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._bytes_max = (queue_bytes_max - piece_bytes_max, queue_bytes_max)
        self._frames: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._offsets = [0, 0]  # how much of the first frame of each class has left
        self.waiting_bytes = 0

    def push(self, frame: bytes, is_urgent: bool) -> bool:
        """Queue it; False if there is no room, or if no peer would take it."""
        size = len(frame)
        if size > self._frame_bytes_max or self.waiting_bytes + size > self._bytes_max[is_urgent]:
            return False
        self._frames[is_urgent].append(frame)
        self.waiting_bytes += size
        return True

    def pop(self) -> bytes | None:
        """The next piece for the wire, urgent ones first; None when nothing waits."""
        urgency = 1 if self._frames[1] else 0
        frames = self._frames[urgency]
        if not frames:
            return None
        frame = frames[0]
        flags = urgency * URGENT
        start = self._offsets[urgency]
        end = start + self._piece_bytes_max
        if end < len(frame):
            self._offsets[urgency] = end
            self.waiting_bytes -= self._piece_bytes_max
            return pack_piece(memoryview(frame)[start:end], flags | MORE)
        frames.popleft()
        self._offsets[urgency] = 0
        self.waiting_bytes -= len(frame) - start
        return pack_piece(memoryview(frame)[start:] if start else frame, flags)

    def clear(self) -> None:
        """Drop everything."""
        for frames in self._frames:
            frames.clear()
        self._offsets = [0, 0]
        self.waiting_bytes = 0
