"""How much of the log is kept: what the database does not hold for good, and a stretch for others.

Everything up to the last checkpoint is in the synced database file, so the log before it is needed
only by followers that lag. The newest `raft_snap` entries are kept for them, but no more than
`log_keep_bytes`, and whatever comes behind an image that a follower fetches, unless the volume is
getting full, or behind a compact copy of the database. Who lags further gets an image. Whole
segments go, so up to a segment more than that is on the disk. Where there was no checkpoint for so
many entries or bytes, one is made.

A part of the log that was found damaged goes as soon as all that is in it is in the database for
good: a log that begins behind it is as good as one that was cut there in time, also for elections,
which ask for its end. Until then the damage stays where it is, and a start finds it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from rsqlite.config import Settings
from rsqlite.errors import Fate, Overloaded, RsqliteError, TimedOut
from rsqlite.raft.types import Index
from rsqlite.statemachine.machine import StateMachine
from rsqlite.storage.logstore import LogStore

log = logging.getLogger(__name__)

Snapshotted = Callable[[bool, RsqliteError | None], None]
"""Called once: whether something was done, or why it could not be."""


class Compaction:
    """One node's. `sweep` is called a few times a second."""

    def __init__(
        self,
        *,
        log: LogStore,
        settings: Settings,
        machine: Callable[[], StateMachine],
        images_need: Callable[[], Index | None],
        copy_needs: Callable[[], Index | None],
        configuration_needs: Callable[[], Index | None],
        is_short: Callable[[], bool],
    ) -> None:
        """From where on the log is needed by an image, by a compact copy, and by a configuration
        that could not be saved beside the database; None: there is none. `is_short` says that the
        log's volume is getting full."""
        self._log = log
        self._settings = settings
        self._machine = machine
        self._images_need = images_need
        self._copy_needs = copy_needs
        self._configuration_needs = configuration_needs
        self._is_short = is_short
        self._next_look = 0.0
        self._waiting: list[tuple[Index, float, Snapshotted]] = []
        self.cuts = 0
        self._damaged = 0
        """The newest segment that is damaged; 0: none is."""

    def __repr__(self) -> str:
        return f"<Compaction from {self.keeps_from()}>"

    @property
    def _checkpointed(self) -> Index:
        return Index(self._machine().checkpointer.checkpointed_index)

    def snapshot(self, now: float, timeout_s: float, done: Snapshotted) -> None:
        """Bring all that is applied into the database file, and cut the log behind it."""
        index = self._machine().applied_index
        if index <= self._checkpointed:
            done(False, None)
        elif len(self._waiting) >= self._settings.maintenance_waiting_max:
            done(False, Overloaded("too many snapshots are asked for"))
        else:
            self._waiting.append((index, now + timeout_s, done))
            self._machine().checkpointer.request()

    def sweep(self, now: float) -> None:
        """Cut the log if it is time to look, and if something can go. NodeFault: a checkpoint
        failed."""
        if self._waiting:
            self._wait(now)
        if self._damaged:
            self._let_go()
        if now >= self._next_look:
            self._next_look = now + self._settings.raft_snap_int
            self._keep_up()
            self._cut()

    def _keep_up(self) -> None:
        """Ask for a checkpoint if it is for want of one that the log is longer than it should be:
        entries that change the same pages again and again take little room in the WAL."""
        machine, reached = self._machine(), self._checkpointed
        if reached < machine.applied_index and reached + 1 < self._kept_for_others():
            machine.checkpointer.request()
            machine.maintain()

    def stop(self, error: RsqliteError) -> None:
        """Answer everybody."""
        waiting, self._waiting = self._waiting, []
        for _, _, done in waiting:
            done(False, error)

    def let_go(self, sequence: int) -> bool:
        """Have the log begin behind this segment, which is damaged, as soon as that may be; False
        when that was known."""
        is_new = sequence > self._damaged
        self._damaged = max(self._damaged, sequence)
        return is_new

    @property
    def is_damaged(self) -> bool:
        """A part of the log is damaged, and still there."""
        return self._damaged != 0

    def _let_go(self) -> None:
        entries, machine = self._log, self._machine()
        segments = entries.durable_segments()
        first = entries.first_index_after(self._damaged)
        if segments and segments[0] > self._damaged:
            log.info("the log begins behind what was damaged", extra={"index": entries.first_index})
            self._damaged = 0
        elif first is None:
            entries.roll()  # the newest part is damaged: what comes from now on is in another
        elif first - 1 <= self._checkpointed:
            self._cut_from(first)
        elif first - 1 <= machine.applied_index:
            machine.checkpointer.request()
            machine.maintain()

    def _wait(self, now: float) -> None:
        self._machine().maintain()
        reached = self._checkpointed
        if self._waiting[0][0] <= reached:
            self._cut()
        for waiting in self._waiting.copy():
            index, deadline, done = waiting
            if index <= reached:
                self._waiting.remove(waiting)
                done(True, None)
            elif deadline <= now:
                self._waiting.remove(waiting)
                done(False, TimedOut("a reader held the checkpoint up", fate=Fate.NOT_APPLIED))
        if self._waiting:
            self._machine().checkpointer.request()

    def _cut(self) -> None:
        self._cut_from(self.keeps_from())

    def _cut_from(self, keep_from: Index) -> None:
        first_index = self._log.first_index
        self._log.cut(keep_from)
        self.cuts += self._log.first_index != first_index

    def keeps_from(self) -> Index:
        """The first entry that must stay."""
        bounds = [
            self._kept_for_others(),
            self._checkpointed + 1,
            self._copy_needs(),
            self._configuration_needs(),
        ]
        if not self._is_short():
            bounds.append(self._images_need())
        return Index(max(1, min(bound for bound in bounds if bound is not None)))

    def _kept_for_others(self) -> Index:
        """The first entry that is kept for followers that lag. On a volume that is getting full it
        is the first of the newest segment: who lags further gets an image."""
        log, settings = self._log, self._settings
        if self._is_short():
            return log.index_within(0)
        return Index(
            max(log.last_index - settings.raft_snap + 1, log.index_within(settings.log_keep_bytes))
        )
