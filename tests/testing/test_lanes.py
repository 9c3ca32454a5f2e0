"""The weather between two nodes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.testing.lanes import Lane, Weather
from rsqlite.testing.loop import ManualLoop

SETTINGS = Settings(
    peer_fragment_bytes=4096, peer_queue_bytes_max=20_000, peer_frame_bytes_max=10_000
)


class Way:
    """A lane from node 1 to node 2, and what arrived when."""

    def __init__(self, seed: int = 1, **weather: Any) -> None:
        self.loop = ManualLoop()
        self.random = random.Random(seed)
        self.settings = SETTINGS
        self.weather = Weather(**weather)
        self.cuts: set[tuple[int, int]] = set()
        self.arrived: list[tuple[float, bytes]] = []
        self.lane = Lane(self, 1, 2, self.arrive)

    def is_cut(self, source: int, target: int) -> bool:
        return (source, target) in self.cuts

    def delay(self) -> float:
        return self.random.uniform(self.weather.delay_min_s, self.weather.delay_max_s)

    def arrive(self, frame: bytes) -> None:
        self.arrived.append((self.loop.monotonic(), frame))

    @property
    def frames(self) -> list[bytes]:
        return [frame for _, frame in self.arrived]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_frames_take_their_time_and_keep_their_order() -> None:
    way = Way(delay_min_s=0.01, delay_max_s=0.05)
    for frame in numbers(50):
        assert way.lane.send(frame, True)
    way.loop.advance(0.009)
    assert way.arrived == []
    way.loop.advance(1.0)
    assert way.frames == numbers(50)
    assert all(0.01 <= at <= 0.0501 for at, _ in way.arrived)


def test_frames_get_lost_twice_delivered_and_out_of_order_as_asked() -> None:
    way = Way(delay_min_s=0.001, delay_max_s=0.02, loss=0.2, duplicate=0.2, reorder=0.5)
    for frame in numbers(500):
        assert way.lane.send(frame, True)
    way.loop.advance(1.0)
    different = set(way.frames)
    assert 350 < len(different) < 450
    assert len(way.frames) > len(different) + 50
    assert [int(frame) for frame in way.frames] != sorted(int(frame) for frame in way.frames)


def test_a_slow_lane_delays_large_frames_and_not_urgent_ones() -> None:
    way = Way(bytes_per_s=10_000)
    assert way.lane.send(b"a" * 5_000, False)
    assert way.lane.send(b"b" * 5_000, False)
    assert way.lane.send(b"urgent", True)
    way.loop.advance(2.0)
    assert [frame[:1] for frame in way.frames] == [b"u", b"a", b"b"]
    assert way.arrived[0][0] < 0.01
    assert way.arrived[2][0] == pytest.approx(1.0, abs=0.01)


def test_bytes_in_flight_are_bounded_with_room_for_urgent_frames() -> None:
    way = Way()
    assert not way.lane.send(b"x" * 10_001, False), "no peer would take it"
    assert way.lane.send(b"x" * 10_000, False)
    assert not way.lane.send(b"x" * 6_000, False)
    assert way.lane.send(b"x" * 6_000, True)
    assert way.lane.waiting_bytes == 16_000
    way.loop.advance(1.0)
    assert way.lane.waiting_bytes == 0
    assert way.lane.send(b"x" * 10_000, False)


def test_nothing_passes_a_cut_or_a_closed_lane() -> None:
    way = Way()
    way.cuts.add((1, 2))
    way.lane.send(b"lost", False)
    way.loop.advance(1.0)
    way.cuts.clear()
    way.lane.send(b"in flight", False)
    way.lane.is_open = False
    way.loop.advance(1.0)
    assert way.arrived == []
    assert way.lane.waiting_bytes == 0
