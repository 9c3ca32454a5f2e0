"""What happens to frames on their way from one node to another, on virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rsqlite.config import Settings
from rsqlite.testing.loop import ManualLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What happens to frames between two nodes. The default is a quiet local network."""

    delay_min_s: float = 0.000_1
    delay_max_s: float = 0.000_1
    loss: float = 0.0
    """Chance that a frame is lost and the link lives. Real links break instead; Raft must bear
    both."""
    duplicate: float = 0.0
    reorder: float = 0.0
    """Chance that a frame may be overtaken by later ones of its class. The port promises order:
    leave it at 0 where that promise is used."""
    bytes_per_s: float = float("inf")
    """Frames that are not urgent wait for each other; urgent ones pass by."""


class Board(Protocol):
    """What a lane needs of the `Switchboard` it is part of."""

    loop: ManualLoop
    random: random.Random
    settings: Settings
    weather: Weather

    def is_cut(self, source: int, target: int) -> bool: ...

    def delay(self) -> float: ...


class Lane:
    """One direction of an open link: frames in flight, in order per class, bounded in bytes."""

    def __init__(
        self, board: Board, source: int, target: int, arrive: Callable[[bytes], None]
    ) -> None:
        self._board = board
        self._source = source
        self._target = target
        self._arrive = arrive
        self._last_due = [0.0, 0.0]
        self.waiting_bytes = 0
        self.is_open = True

    def send(self, frame: bytes, urgent: bool) -> bool:
        """Put it on its way; False when there is no room."""
        board, settings = self._board, self._board.settings
        size = len(frame)
        room = settings.peer_queue_bytes_max - (0 if urgent else settings.peer_fragment_bytes)
        if size > settings.peer_frame_bytes_max or self.waiting_bytes + size > room:
            return False
        self.waiting_bytes += size
        weather = board.weather
        now = board.loop.monotonic()
        due = now + board.delay()
        if not urgent:
            due = max(due, self._last_due[0]) + size / weather.bytes_per_s
        if board.random.random() >= weather.reorder:
            due = self._last_due[urgent] = max(due, self._last_due[urgent])
        is_lost = board.random.random() < weather.loss
        copies = 0 if is_lost else 2 if board.random.random() < weather.duplicate else 1
        board.loop.call_later(due - now, self._land, frame, copies)
        return True

    def _land(self, frame: bytes, copies: int) -> None:
        self.waiting_bytes -= len(frame)
        for _ in range(copies):
            if self.is_open and not self._board.is_cut(self._source, self._target):
                self._arrive(frame)
