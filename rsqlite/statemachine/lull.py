"""A pause between long reads, in which a checkpoint passes.

A checkpoint gets no further than the oldest read that is under way, and the WAL begins anew only
when nobody reads from it. One long read holds that up for its own time at the most; reads that
overlap do so for ever, and WAL and log, which is not cut meanwhile, would fill the volume.

So once they have kept a checkpoint from being complete, each moment in which none of them is under
way is used to try another. When no such moment has been of use for `checkpoint_held_max`, one is
made: long reads that come wait until those under way have ended and a checkpoint has been tried
without them, however it went. Each waits for as long as it would have waited elsewhere or run, then
it is refused. Reads on the loop are not concerned. Those beside it, in threads of the program, are
led to the loop meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rsqlite.config import Settings
from rsqlite.errors import Overloaded, RsqliteError, Stopped
from rsqlite.ports import Handle, Loop


class _Held(NamedTuple):
    start: Callable[[], None]
    refuse: Callable[[RsqliteError], None]
    timer: Handle


class Lull:
    """Knows when one is due, and has the long reads that wait for its end."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._held: dict[int, _Held] = {}
        self._taken = 0
        self._under_way = 0
        """Reads that run in a thread, or wait for one."""
        self._held_up_since = math.inf
        """When they first kept a checkpoint from being complete; none was since."""
        self._is_alone = False
        """None of them was under way since the last checkpoint began."""
        self.beside: set[object] = set()
        """Reads that run in threads of the program, which put them in and take them out."""
        self._is_of_use: Callable[[], bool] = lambda: False
        self._maintain: Callable[[], None] = self.end
        self._is_resting = False
        """None is under way but those beside, and a checkpoint is due."""
        self._next_turn: Handle | None = None

    def wire(self, is_of_use: Callable[[], bool], maintain: Callable[[], None]) -> None:
        """Tell it of the parts that are made after it: could a checkpoint pass if nothing read in a
        thread? And what is to be called again and again meanwhile: COMMITs need not come."""
        self._is_of_use = is_of_use
        self._maintain = maintain

    def __len__(self) -> int:
        """Reads that wait."""
        return len(self._held)

    # For the reads

    def takes(
        self, start: Callable[[], None], refuse: Callable[[RsqliteError], None], wait_s: float
    ) -> bool:
        """Does a long read that comes now have to wait? Then one of the two is called later."""
        if not self._held and not self._is_due():
            return False
        number = self._taken = self._taken + 1
        timer = self._loop.call_later(wait_s, self._too_late, number)
        self._held[number] = _Held(start, refuse, timer)
        self._look()
        return True

    def began(self) -> None:
        """One is under way."""
        self._under_way += 1
        self._is_resting = self._is_alone = False

    def ended(self) -> None:
        """It is no more."""
        self._under_way -= 1
        self._look()

    def close(self) -> None:
        """Refuse all who wait; there will be no more checkpoint."""
        self._is_resting = False
        self._held_up_since = math.inf
        for one in self._take_all():
            one.refuse(Stopped("the node is stopping"))

    @property
    def sends_to_loop(self) -> bool:
        """May no read begin beside the loop now? Asked in the threads of those: one that begins at
        the very moment of a checkpoint has it tried again."""
        if self._held_up_since == math.inf:
            return False
        return bool(self._held) or self.is_here or self._is_due()

    # For the checkpoints

    @property
    def is_here(self) -> bool:
        """Nothing reads in a thread, and a checkpoint is due, however short the WAL is."""
        return self._is_resting and not self.beside

    def begins(self) -> None:
        """A checkpoint, or its second step, begins."""
        self._is_alone = not (self._under_way or self.beside)

    def passed(self) -> None:
        """It was complete."""
        self._held_up_since = math.inf
        self.end()

    def missed(self) -> None:
        """It was not complete. With no long read under way that was not for want of a lull:
        somebody else reads, or the volume is full."""
        if self._is_alone and not self.beside:
            self._held_up_since = math.inf
            self.end()
        else:
            self._held_up_since = min(self._held_up_since, self._loop.monotonic())
            self._look()  # they may have ended since

    def end(self) -> None:
        """Let those read that wait."""
        self._is_resting = False
        for one in self._take_all():
            one.start()

    def _is_due(self) -> bool:
        held_s = self._loop.monotonic() - self._held_up_since
        return held_s >= self._settings.checkpoint_held_max and self._is_of_use()

    def _look(self) -> None:
        is_due = bool(self._held) or self._held_up_since < math.inf
        if is_due and not self._under_way and not self._is_resting:
            self._is_resting = True
            self._carry_on_in(0.0)

    def _carry_on(self) -> None:
        if self._is_resting:
            self._maintain()
            self._carry_on_in(self._settings.tick)

    def _carry_on_in(self, pause_s: float) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._next_turn = self._loop.call_later(pause_s, self._carry_on)

    def _take_all(self) -> list[_Held]:
        held, self._held = list(self._held.values()), {}
        for one in held:
            one.timer.cancel()
        return held

    def _too_late(self, number: int) -> None:
        text = "long reads have kept the WAL from being emptied, and this one waited too long"
        self._held.pop(number).refuse(Overloaded(f"{text} for those before it to end"))
