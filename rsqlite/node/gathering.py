"""When to wait a moment for the clients that were just answered, so that they share a batch.

Clients that send their next request as soon as they have an answer fall into two groups that take
turns: while the batch of one replicates, the other waits, and everybody waits for two cycles. A
batch has a fixed price (a sync, two followers, dozens of wake-ups), so it pays to let those who
were just answered catch up with those who wait: with 16 clients on two cores the throughput rose
by half, with 64 by a quarter. It does not pay when clients are slow to return, far away, or few:
then nobody is waited for until it is tried again, first soon, then ever more seldom. A bad moment
of the machine (a checkpoint, a burst of other work) lets several waits in a row fail, so it takes
more than one or two to give up. Batches with much to execute are better overlapped, so they never
wait.
"""

from __future__ import annotations

STATEMENTS_MAX = 512
"""Batches with more are overlapped instead."""
CLIENTS_MAX = 128
"""With more, half of them fill a batch well enough."""
CREDIT_MAX = 16
"""A wait that paid earns one, up to so many; one in vain costs two. With none left nobody waits."""
TRIAL_CREDIT = 2
PAUSE_MIN, PAUSE_MAX = 16, 256
"""Batches without a wait until it is tried again: after the first time, and after many in vain."""
LOOK_INTERVAL_S = 0.000_5
"""Shortest time until it is looked again whether the time is over: a timer may be early."""


class Gathering:
    """Decides; the writer acts. Times are seconds of one monotonic clock."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._credit = CREDIT_MAX
        self._pause = PAUSE_MIN
        self._deadline = 0.0
        self._skipped = 0
        self.goal = 0
        """How many requests to wait for; 0: nothing is being waited for."""
        self.statements = 0
        """Of the last batch."""

    def __repr__(self) -> str:
        return f"<Gathering goal={self.goal} credit={self._credit}>"

    def is_worth_it(self, answered: int, queued: int) -> bool:
        """Whether to wait for the `answered` clients of a batch while `queued` requests wait."""
        clients = answered + queued
        if not 2 <= clients <= CLIENTS_MAX or self.statements > STATEMENTS_MAX:
            return False
        if not self._longest_s or queued >= _goal(clients):
            return False
        if self._credit > 0:
            return True
        self._skipped += 1
        if self._skipped < self._pause:
            return False
        self._skipped = 0
        self._credit = TRIAL_CREDIT
        return True

    def begin(self, now: float, clients: int) -> None:
        """Wait for nearly all of these clients."""
        self.goal = _goal(clients)
        self._deadline = now + self._longest_s

    def left_s(self, now: float) -> float:
        """How long to wait still. If the time is over (0), the wait was in vain."""
        if now < self._deadline:
            return self._deadline - now
        self.goal = 0
        self._credit -= 2
        if self._credit <= 0:
            self._pause = min(PAUSE_MAX, self._pause * 2)
        return 0.0

    def end(self, queued: int) -> None:
        """A batch is begun. If it was waited for and is full, the wait paid."""
        if self.goal:
            if queued >= self.goal:
                self._credit = min(CREDIT_MAX, self._credit + 1)
                if self._credit == CREDIT_MAX:
                    self._pause = PAUSE_MIN
            self.goal = 0


def _goal(clients: int) -> int:
    """Nine of ten: the last ones would cost more than they bring."""
    return clients - clients // 10
