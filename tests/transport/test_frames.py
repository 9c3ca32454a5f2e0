"""Pieces: cut, mixed, put together again, and refused before they cost anything."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.config import KIB, MIB, PEER_PIECE_BYTES_MAX, PEER_PIECE_BYTES_MIN
from rsqlite.transport.frames import (
    HEADER,
    MAGIC,
    MORE,
    URGENT,
    FrameError,
    FrameQueue,
    FrameReader,
    pack_piece,
)

PIECE = PEER_PIECE_BYTES_MIN


class Sink:
    """A reader, and what it delivered."""

    def __init__(self, frame_bytes_max: int = MIB) -> None:
        self.frames: list[bytes] = []
        self.reader = FrameReader(self.take, frame_bytes_max=frame_bytes_max)

    def take(self, kind: int, payload: bytes | memoryview) -> None:
        self.frames.append(bytes((kind,)) + payload)


def queue(queue_bytes_max: int = 10 * MIB, frame_bytes_max: int = MIB) -> FrameQueue:
    return FrameQueue(
        piece_bytes_max=PIECE, frame_bytes_max=frame_bytes_max, queue_bytes_max=queue_bytes_max
    )


def popped(waiting: FrameQueue) -> list[bytes]:
    """All pieces, in the order in which they leave."""
    pieces = []
    while (piece := waiting.pop()) is not None:
        pieces.append(piece)
    return pieces


FRAMES = st.lists(
    st.tuples(st.integers(1, 5 * PIECE), st.integers(0, 255), st.booleans()), max_size=8
)


@pytest.mark.slow
@given(FRAMES, st.data())
@settings(max_examples=80, deadline=None)
def test_frames_survive_any_cut_of_the_stream(frames: list[Any], data: Any) -> None:
    """Whatever the pieces of the stream, each class arrives whole and in order."""
    waiting = queue()
    sent: dict[bool, list[bytes]] = {False: [], True: []}
    stream = b""
    for size, fill, urgent in frames:
        frame = bytes((urgent,)) + bytes((fill,)) * size
        assert waiting.push(frame, urgent)
        sent[urgent].append(frame)
        # A piece may leave between any two frames.
        for _ in range(data.draw(st.integers(0, 2))):
            stream += waiting.pop() or b""
    stream += b"".join(popped(waiting))
    assert waiting.waiting_bytes == 0
    sink = Sink()
    position = 0
    while position < len(stream):
        step = data.draw(st.integers(1, 3 * PIECE))
        sink.reader.feed(stream[position : position + step])
        position += step
    for urgent in (False, True):
        assert [frame for frame in sink.frames if frame[0] == urgent] == sent[urgent]
    assert sink.reader.held_bytes == 0


def test_one_byte_at_a_time() -> None:
    sink = Sink()
    for byte in pack_piece(b"abc", 0) + pack_piece(b"d", URGENT):
        sink.reader.feed(bytes((byte,)))
    assert sink.frames == [b"abc", b"d"]


def test_urgent_pieces_overtake_between_the_pieces_of_a_large_frame() -> None:
    waiting = queue()
    waiting.push(b"L" * 3 * PIECE, False)
    first = waiting.pop()
    waiting.push(b"now", True)
    pieces = [first, *popped(waiting)]
    assert [HEADER.unpack_from(piece)[1] for piece in pieces if piece] == [MORE, URGENT, MORE, 0]
    sink = Sink()
    sink.reader.feed(b"".join(piece for piece in pieces if piece))
    assert sink.frames == [b"now", b"L" * 3 * PIECE]


def test_two_frames_in_pieces_do_not_mix() -> None:
    waiting = queue()
    waiting.push(b"B" * (2 * PIECE + 1), False)
    stream = waiting.pop() or b""
    waiting.push(b"U" * (2 * PIECE + 1), True)
    stream += b"".join(popped(waiting))
    sink = Sink()
    sink.reader.feed(stream)
    assert sink.frames == [b"U" * (2 * PIECE + 1), b"B" * (2 * PIECE + 1)]


def test_the_queue_is_bounded_and_keeps_room_for_urgent_frames() -> None:
    waiting = queue(queue_bytes_max=3 * PIECE)
    assert waiting.push(b"x" * 2 * PIECE, False)
    assert not waiting.push(b"x", False)
    assert waiting.push(b"x" * PIECE, True)
    assert not waiting.push(b"x", True)
    assert waiting.waiting_bytes == 3 * PIECE
    waiting.pop()
    assert waiting.push(b"x", True)


def test_a_frame_that_no_peer_would_take_is_not_queued() -> None:
    waiting = queue(frame_bytes_max=100)
    assert not waiting.push(b"x" * 101, False)
    assert waiting.push(b"x" * 100, False)


def test_a_cleared_queue_starts_afresh() -> None:
    waiting = queue()
    waiting.push(b"x" * 3 * PIECE, False)
    waiting.pop()
    waiting.clear()
    assert waiting.pop() is None
    waiting.push(b"ab", False)
    assert popped(waiting) == [pack_piece(b"ab", 0)]


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        (HEADER.pack(MAGIC + 1, 0, 1, 0), "no frame"),
        (b"GET / HTTP/1.1\r\n", "no frame"),
        (HEADER.pack(MAGIC, 4, 1, 0), "unknown flags 0x4"),
        (HEADER.pack(MAGIC, 0, 0, 0), "a piece of 0 bytes"),
        (HEADER.pack(MAGIC, 0, PEER_PIECE_BYTES_MAX + 1, 0), "a piece of 1048577 bytes"),
        (HEADER.pack(MAGIC, 0, 0xFFFF_FFFF, 0), "a piece of 4294967295 bytes"),
    ],
)
def test_a_bad_header_is_refused_as_soon_as_it_is_there(head: bytes, complaint: str) -> None:
    sink = Sink()
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match=complaint):
            sink.reader.feed(head[:12])
        assert tracemalloc.get_traced_memory()[1] < 64 * KIB
    finally:
        tracemalloc.stop()
    assert sink.frames == []


def test_the_checksum_covers_the_bytes_and_the_flags() -> None:
    good = pack_piece(b"hello", 0)
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            sink = Sink()
            try:
                sink.reader.feed(bytes(bad))
            except FrameError:
                continue
            # A length that got longer waits for bytes that do not come; nothing is delivered.
            assert sink.frames == []


def test_the_pieces_of_a_frame_are_bounded_together() -> None:
    sink = Sink(frame_bytes_max=3 * PIECE)
    sink.reader.feed(pack_piece(b"x" * PIECE, MORE) + pack_piece(b"y" * PIECE, MORE | URGENT))
    assert sink.reader.held_bytes == 2 * PIECE
    sink.reader.feed(pack_piece(b"x" * PIECE, MORE))
    with pytest.raises(FrameError, match="more than"):
        sink.reader.feed(pack_piece(b"x" * PIECE, MORE))
    assert sink.frames == []


def test_tiny_pieces_of_a_large_frame_are_refused() -> None:
    sink = Sink()
    with pytest.raises(FrameError, match="more to come"):
        sink.reader.feed(pack_piece(b"x", MORE))


def test_nothing_is_delivered_after_close() -> None:
    frames: list[int] = []

    def take(kind: int, payload: bytes | memoryview) -> None:
        frames.append(kind)
        reader.close()

    reader = FrameReader(take, frame_bytes_max=MIB)
    reader.feed(pack_piece(b"a", 0) + pack_piece(b"b", 0) + b"rest")
    assert frames == [ord("a")]
    assert reader.held_bytes == 0
    reader.feed(pack_piece(b"c", 0))
    assert frames == [ord("a")]


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_deliver_nothing(data: bytes) -> None:
    sink = Sink()
    try:
        sink.reader.feed(data)
    except FrameError:
        pass
    assert sink.frames == []
    assert sink.reader.held_bytes <= len(data)
