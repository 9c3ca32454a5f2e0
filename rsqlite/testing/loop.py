"""A Loop with virtual time and no threads: work runs when the test says so."""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from rsqlite.ports import Done

T = TypeVar("T")


class ManualHandle:
    """A scheduled call; `cancel` keeps it from running."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class ManualWorker:
    """Runs its work on the loop, one piece a turn, in order; `pause` holds it back."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._queue: deque[tuple[Callable[[], Any], Done[Any]]] = deque()
        self.is_paused = False

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        self._queue.append((work, done))
        self._loop.call_later(self._loop.work_delay_s(), self._step)

    def pause(self) -> None:
        """Hold submitted work back, as a stalled disk would."""
        self.is_paused = True

    def resume(self) -> None:
        """Let it run again."""
        self.is_paused = False
        for _ in self._queue:
            self._loop.call_soon(self._step)

    def close(self) -> None:
        while self._queue:
            self._run_one()

    def _step(self) -> None:
        if self._queue and not self.is_paused:
            self._run_one()

    def _run_one(self) -> None:
        work, done = self._queue.popleft()
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - the edge of a thread, as in node/loop.py
            self._loop.call_soon(done, None, error)
        else:
            self._loop.call_soon(done, value, None)


class VirtualLoop(ABC):
    """What follows from `call_later` where nothing runs beside the loop."""

    def work_delay_s(self) -> float:
        """After what time the work begins that a thread would do."""
        return 0.0

    @abstractmethod
    def call_later(
        self, delay_s: float, callback: Callable[..., object], *args: Any
    ) -> ManualHandle: ...

    def call_soon(self, callback: Callable[..., object], *args: Any) -> ManualHandle:
        return self.call_later(0.0, callback, *args)

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        ManualWorker(self).submit(work, done)

    def submit_read(self, work: Callable[[], T], done: Done[T]) -> None:
        ManualWorker(self).submit(work, done)

    def worker(self, name: str) -> ManualWorker:
        return ManualWorker(self)


class ManualLoop(VirtualLoop):
    """`run()` runs what is due now; `advance(s)` moves the clock and runs what becomes due."""

    def __init__(self, *, wall: float = 1_700_000_000.0) -> None:
        self._now = 0.0
        self._wall_offset = wall
        self._order = itertools.count()
        self._heap: list[tuple[float, int, ManualHandle, Callable[..., object], Any]] = []

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall_offset + self._now

    def call_later(
        self, delay_s: float, callback: Callable[..., object], *args: Any
    ) -> ManualHandle:
        handle = ManualHandle()
        due = self._now + max(0.0, delay_s)
        heapq.heappush(self._heap, (due, next(self._order), handle, callback, args))
        return handle

    def run(self, *, steps_max: int = 100_000) -> None:
        """Run everything that is due; AssertionError if it does not come to rest."""
        for _ in range(steps_max):
            if not self._heap or self._heap[0][0] > self._now:
                return
            self._run_first()
        raise AssertionError(f"still busy after {steps_max} steps")

    def step(self) -> None:
        """Run the next thing alone, moving the clock to when it is due."""
        if self._heap:
            self._now = max(self._now, self._heap[0][0])
            self._run_first()

    def run_turn(self) -> None:
        """Run what is due now, and nothing that this itself makes due."""
        due = len([item for item in self._heap if item[0] <= self._now])
        for _ in range(due):
            self._run_first()

    def advance(self, seconds: float) -> None:
        """Move the clock forward, stopping at each moment at which something is due."""
        end = self._now + seconds
        while self._heap and self._heap[0][0] <= end:
            self._now = max(self._now, self._heap[0][0])
            self.run()
        self._now = end

    def _run_first(self) -> None:
        _, _, handle, callback, args = heapq.heappop(self._heap)
        if not handle.is_cancelled:
            callback(*args)


class PausableLoop(VirtualLoop):
    """What one node sees of a `ManualLoop`: it can be stopped for a while, as a process can by
    SIGSTOP, and has a wall clock of its own."""

    def __init__(self, loop: ManualLoop, work_delay_s: Callable[[], float] | None = None) -> None:
        self._loop = loop
        self._work_delay_s = work_delay_s
        self._held: list[tuple[ManualHandle, Callable[..., object], Any]] | None = None
        """What became due since it was stopped; None: it runs."""
        self.wall_offset_s = 0.0

    def work_delay_s(self) -> float:
        return self._work_delay_s() if self._work_delay_s is not None else 0.0

    @property
    def is_paused(self) -> bool:
        return self._held is not None

    def pause(self) -> None:
        """Run nothing until `resume`."""
        if self._held is None:
            self._held = []

    def resume(self) -> None:
        """Run what became due, in order."""
        held, self._held = self._held or [], None
        for handle, callback, args in held:
            self._loop.call_soon(self._due, handle, callback, args)

    def monotonic(self) -> float:
        return self._loop.monotonic()

    def wall(self) -> float:
        return self._loop.wall() + self.wall_offset_s

    def call_later(
        self, delay_s: float, callback: Callable[..., object], *args: Any
    ) -> ManualHandle:
        handle = ManualHandle()
        self._loop.call_later(delay_s, self._due, handle, callback, args)
        return handle

    def from_outside(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The same, for others to call: it comes now, or when the node runs again."""

        def come(*args: Any) -> None:
            self._due(ManualHandle(), callback, args)

        return come

    def _due(self, handle: ManualHandle, callback: Callable[..., object], args: Any) -> None:
        if self._held is not None:
            self._held.append((handle, callback, args))
        elif not handle.is_cancelled:
            callback(*args)
