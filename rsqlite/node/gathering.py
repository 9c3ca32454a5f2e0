"""When to wait a moment for the clients that were just answered, so that they share a batch.

Clients that send their next request as soon as they have an answer fall into two groups that take
turns: while the batch of one replicates, the other waits, and everybody waits for two cycles. A
batch has a fixed price (a sync, two followers, dozens of wake-ups), so it pays to let those who
were just answered catch up with those who wait: with 16 clients on two cores the throughput rose
by half. It does not pay when clients are slow to return, far away, or few: then the moment is
shortened, down to nothing, and tried again now and then. Batches with much to execute are better
overlapped, so they never wait.
"""

from __future__ import annotations

STATEMENTS_MAX = 512
"""Batches with more are overlapped instead."""
CLIENTS_MAX = 128
"""With more, half of them fill a batch well enough (measured: 256 lose a tenth by waiting)."""
PROBE_EVERY = 256
"""Batches after which waiting is tried again when it had not paid."""
LOOK_INTERVAL_S = 0.000_1
"""How often to see whether the time is over."""
SHORTEST_S = 0.000_02
"""A shorter wait is none: a turn of the loop takes as long."""


class Gathering:
    """Decides; the writer acts. Times are seconds of one monotonic clock."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._wait_s = longest_s
        self._deadline = 0.0
        self._skipped = 0
        self._is_probe = False
        self.goal = 0
        """How many requests to wait for; 0: nothing is being waited for."""
        self.statements = 0
        """Of the last batch."""

    def __repr__(self) -> str:
        return f"<Gathering goal={self.goal} wait={self._wait_s:.6f}>"

    def is_worth_it(self, answered: int, queued: int) -> bool:
        """Whether to wait for the `answered` clients of a batch while `queued` requests wait."""
        clients = answered + queued
        if not 2 <= clients <= CLIENTS_MAX or self.statements > STATEMENTS_MAX:
            return False
        if self._wait_s >= SHORTEST_S:
            return True
        self._skipped += 1
        if self._skipped < PROBE_EVERY or not self._longest_s:
            return False
        self._skipped = 0
        self._wait_s = self._longest_s
        self._is_probe = True
        return True

    def begin(self, now: float, clients: int) -> None:
        """Wait for most of these clients: the last ones would cost more than they bring."""
        self.goal = max(1, clients - clients // 4)
        self._deadline = now + self._wait_s

    def is_over(self, now: float) -> bool:
        """Whether the time is over. If it is, less time is given the next time."""
        if now < self._deadline:
            return False
        self._wait_s = 0.0 if self._is_probe else self._wait_s / 2
        self._is_probe = False
        self.goal = 0
        return True

    def end(self, queued: int) -> None:
        """A batch is begun. If it was waited for and is full, the wait paid."""
        if self.goal:
            if queued >= self.goal:
                self._wait_s = min(self._longest_s, self._wait_s * 2)
                self._is_probe = False
            self.goal = 0
