"""The time of the log beside this node's own clock.

Time in the log never goes back: a leader whose clock is behind repeats the newest time until its
clock has caught up. One node with a clock far in the future can so make `datetime('now')` of the
whole cluster stand still, and nothing but a log line tells why.
"""

from __future__ import annotations

import logging

from rsqlite.config import Settings
from rsqlite.ports import Loop

log = logging.getLogger(__name__)


class ClockWatch:
    """Says once that the clock here is far behind the log, and once that it is no more."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._wall = loop.wall
        self._lag_max = settings.clock_lag_max
        self._is_behind = False

    def look(self, time_ms: int) -> None:
        """Compare the clock with the newest time applied."""
        lag = time_ms / 1000 - self._wall()
        if (lag > self._lag_max) is self._is_behind:
            return
        self._is_behind = not self._is_behind
        if self._is_behind:
            log.warning(
                "the clock of this node is behind the time of the log: while it leads,"
                " datetime('now') stands still until its clock has caught up."
                " Compare the clocks of all nodes",
                extra={"seconds": round(lag, 1)},
            )
        else:
            log.info("the clock of this node is no longer behind the time of the log")
