"""One connection, on a transport that the test holds in its hands."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from rsqlite.config import KIB, Settings
from rsqlite.transport.connection import SIGN_OF_LIFE, FrameConnection
from rsqlite.transport.frames import HEADER, MORE, URGENT, FrameReader, pack_piece

SETTINGS = Settings(peer_fragment_bytes=4 * KIB, peer_stall_timeout=4.0, peer_pulse=1.0)
PIECE = 4 * KIB


class Wire(asyncio.Transport):
    """Takes bytes until `room` is used up, then pauses the writer, as a full socket does."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.room = 1 << 40
        self.is_aborted = False
        self.is_shut = False
        self.protocol: FrameConnection | None = None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        self.room -= len(data)
        if self.room <= 0 and self.protocol is not None:
            self.protocol.pause_writing()

    def drain(self, room: int) -> None:
        """The peer reads."""
        assert self.protocol is not None
        self.room = room
        self.protocol.resume_writing()

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_shut = True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == PIECE, "the transport must not hide what urgent frames could overtake"


class End:
    """One end of a connection, with a clock of its own."""

    def __init__(self, *, is_dialler: bool = True, settings: Settings = SETTINGS) -> None:
        self.now = 100.0
        self.received: list[tuple[int, bytes]] = []
        self.ended: list[str] = []
        self.on_receive: Callable[[int], None] = lambda kind: None
        self.wire = Wire()
        self.connection = FrameConnection(
            settings=settings,
            monotonic=lambda: self.now,
            receive=self.receive,
            ended=self.ended.append,
            is_dialler=is_dialler,
        )
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    def receive(self, kind: int, payload: bytes | memoryview) -> None:
        self.received.append((kind, bytes(payload)))
        self.on_receive(kind)

    def frames(self) -> list[bytes]:
        """The whole frames that were written."""
        frames: list[bytes] = []
        reader = FrameReader(
            lambda kind, payload: frames.append(bytes((kind,)) + payload), frame_bytes_max=1 << 30
        )
        reader.feed(b"".join(self.wire.written))
        return frames


def flags(pieces: list[bytes]) -> list[int]:
    return [HEADER.unpack_from(piece)[1] for piece in pieces]


async def test_a_small_frame_is_one_write() -> None:
    end = End()
    assert end.connection.send(b"abc", False)
    assert end.connection.send(b"def", True)
    assert end.wire.written == [pack_piece(b"abc", 0), pack_piece(b"def", URGENT)]


async def test_patient_frames_leave_in_one_write_and_urgent_ones_pass_them() -> None:
    end = End()
    for frame in (b"a", b"b", b"c"):
        assert end.connection.send(frame, False, True)
    assert end.connection.send(b"urgent", True)
    assert end.frames() == [b"urgent"]
    assert end.connection.waiting_bytes == 3 * len(pack_piece(b"a", 0))
    await asyncio.sleep(0)
    assert end.frames() == [b"urgent", b"a", b"b", b"c"]
    assert len(end.wire.written) == 2
    assert end.connection.waiting_bytes == 0


@pytest.mark.parametrize("size", [1, 3 * PIECE])
async def test_patient_frames_keep_their_place_before_others_of_their_class(size: int) -> None:
    end = End()
    assert end.connection.send(b"a", False, True)
    assert end.connection.send(b"b" * size, False)
    assert end.connection.send(b"c", False, True)
    await asyncio.sleep(0)
    assert end.frames() == [b"a", b"b" * size, b"c"]


async def test_patient_frames_wait_for_less_than_a_piece() -> None:
    end = End()
    for _ in range(9):
        assert end.connection.send(b"x" * (PIECE // 4), False, True)
    assert len(end.frames()) == 8
    assert len(end.wire.written) == 2
    await asyncio.sleep(0)
    assert len(end.frames()) == 9


@pytest.mark.parametrize("is_failed", [False, True])
async def test_patient_frames_leave_before_a_close_and_are_dropped_at_a_failure(
    is_failed: bool,
) -> None:
    end = End()
    assert end.connection.send(b"a", False, True)
    if is_failed:
        end.connection.fail("enough")
    else:
        end.connection.close()
    await asyncio.sleep(0)
    assert end.frames() == ([] if is_failed else [b"a"])
    assert end.connection.waiting_bytes == 0
    end.connection.connection_lost(None)


async def test_a_full_transport_gets_nothing_more_and_urgent_frames_go_first() -> None:
    end = End()
    end.wire.room = 1
    for frame in (b"first", b"second", b"third"):
        assert end.connection.send(frame, False)
    assert end.connection.send(b"urgent", True)
    assert end.frames() == [b"first"]
    assert end.connection.waiting_bytes == len(b"secondthirdurgent")
    end.wire.drain(1)
    assert end.frames() == [b"first", b"urgent"]
    end.wire.drain(1000)
    assert end.frames() == [b"first", b"urgent", b"second", b"third"]
    assert end.connection.send(b"fourth", False)
    assert end.frames()[-1] == b"fourth"


async def test_a_large_frame_leaves_in_pieces_and_an_urgent_one_gets_between() -> None:
    end = End()
    end.wire.room = 2 * PIECE
    assert end.connection.send(b"L" * 5 * PIECE, False)
    assert end.connection.send(b"urgent", True)
    end.wire.drain(100 * PIECE)
    assert flags(end.wire.written) == [MORE, MORE, URGENT, MORE, MORE, 0]
    assert end.frames() == [b"urgent", b"L" * 5 * PIECE]


async def test_a_large_frame_lets_the_loop_turn() -> None:
    """A transport that takes everything must not keep the loop busy with one frame."""
    end = End()
    assert end.connection.send(b"L" * 100 * PIECE, False)
    assert 0 < len(end.wire.written) < 10
    # It waits behind the large one, in the next turns.
    assert end.connection.send(b"small", False)
    for _ in range(100):
        await asyncio.sleep(0)
    assert end.frames() == [b"L" * 100 * PIECE, b"small"]


async def test_after_the_end_everything_is_dropped_and_the_reason_is_told_once() -> None:
    end = End()
    end.connection.fail("enough")
    assert end.wire.is_aborted
    assert not end.connection.send(b"abc", True)
    assert end.ended == [], "it is told when the transport says that it is gone"
    end.connection.connection_lost(None)
    assert end.ended == ["enough"]
    end.connection.connection_lost(None)
    assert end.ended == ["enough"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "closed by the peer"), (ConnectionResetError("reset"), "reset")],
)
async def test_the_peer_going_away_is_told(error: Exception | None, reason: str) -> None:
    end = End()
    end.connection.connection_lost(error)
    assert end.ended == [reason]
    assert not end.connection.send(b"abc", False)


async def test_what_waits_is_forgotten_with_the_connection() -> None:
    end = End()
    end.wire.room = 1
    end.connection.send(b"x", False)
    end.connection.send(b"y" * PIECE, False)
    end.connection.connection_lost(None)
    assert end.connection.waiting_bytes == 0


async def test_garbage_ends_the_connection_and_raises_nothing() -> None:
    end = End()
    end.connection.data_received(pack_piece(b"\x05ok", 0) + b"\x00" * 40)
    assert end.received == [(5, b"ok")]
    assert end.wire.is_aborted
    end.connection.data_received(pack_piece(b"\x05late", 0))
    assert end.received == [(5, b"ok")]
    end.connection.connection_lost(None)
    assert end.ended == ["bytes that are no frame"]


async def test_a_payload_that_is_refused_ends_the_connection() -> None:
    end = End()

    def refuse(kind: int) -> None:
        raise ValueError("not for me")

    end.on_receive = refuse
    end.connection.data_received(pack_piece(b"\x05a", 0) + pack_piece(b"\x05b", 0))
    assert end.received == [(5, b"a")]
    end.connection.connection_lost(None)
    assert end.ended == ["not for me"]


async def test_our_own_mistakes_are_not_taken_for_the_peers() -> None:
    end = End()

    def fail(kind: int) -> None:
        raise AssertionError("a broken promise")

    end.on_receive = fail
    with pytest.raises(AssertionError, match="a broken promise"):
        end.connection.data_received(pack_piece(b"\x05a", 0))


async def test_signs_of_life_are_not_delivered() -> None:
    end = End(is_dialler=False)
    end.connection.data_received(pack_piece(SIGN_OF_LIFE, URGENT))
    assert end.received == []


async def test_the_dialler_speaks_every_pulse_and_the_listener_answers_what_it_heard() -> None:
    dialler, listener = End(), End(is_dialler=False)
    for second in (101.0, 102.0):
        dialler.connection.pulse(second)
    assert dialler.frames() == [SIGN_OF_LIFE, SIGN_OF_LIFE]
    listener.connection.pulse(101.0)
    assert listener.frames() == [], "it heard nothing yet"
    listener.now = 101.5
    listener.connection.data_received(dialler.wire.written[0][:5])
    listener.connection.pulse(102.0)
    assert listener.frames() == [SIGN_OF_LIFE], "any byte counts: a slow link is alive"
    listener.connection.pulse(103.0)
    assert listener.frames() == [SIGN_OF_LIFE]


@pytest.mark.parametrize("is_dialler", [True, False])
async def test_silence_ends_either_side(is_dialler: bool) -> None:
    end = End(is_dialler=is_dialler)
    end.connection.pulse(104.0)
    assert not end.wire.is_aborted
    end.connection.pulse(104.5)
    assert end.wire.is_aborted
    end.connection.connection_lost(None)
    assert end.ended == ["nothing heard for 4.5 s"]


async def test_a_loop_that_stood_still_blames_nobody() -> None:
    end = End()
    end.connection.forgive(200.0)
    end.connection.pulse(200.0)
    assert not end.wire.is_aborted


async def test_close_lets_the_transport_finish_and_detach_keeps_quiet() -> None:
    end = End()
    end.connection.detach()
    end.connection.close()
    assert end.wire.is_shut
    assert not end.wire.is_aborted
    end.connection.fail("taking too long")
    assert end.wire.is_aborted
    end.connection.connection_lost(None)
    assert end.ended == []


async def test_a_stalled_peer_costs_no_more_than_the_queue() -> None:
    settings = dataclasses.replace(SETTINGS, peer_queue_bytes_max=200 * KIB)
    end = End(settings=settings)
    end.wire.room = 0
    sent = 0
    while end.connection.send(b"x" * KIB, False):
        sent += 1
        assert sent < 1000
    assert end.connection.waiting_bytes <= 200 * KIB
    for second in range(101, 104):
        end.connection.pulse(float(second))
    assert end.connection.waiting_bytes <= 200 * KIB
