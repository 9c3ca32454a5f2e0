"""Committed entries in order: COMMIT our own speculation, or apply what others proposed.

The core hands over entries that are committed and on this node's disk. If the entry is the one the
writer speculated, its effects are already in the open transaction and COMMIT is all that is left.
Otherwise the entries are executed and compared with what they expect, as many as are there in one
SQLite transaction, in a turn of the loop of its own: an acknowledgement never waits behind them.

A follower gathers them for a few milliseconds as long as nobody waits for them: BEGIN, COMMIT and
the pages that each transaction writes are most of the price of a small entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from rsqlite.config import Settings
from rsqlite.errors import DiskFull, Divergence
from rsqlite.node.writer import Writer
from rsqlite.ports import Handle, Loop
from rsqlite.raft.types import Configuration, Entry, EntryKind, Index
from rsqlite.statemachine.machine import StateMachine


class Applier:
    """Moves the database forward along the log, one step at a time."""

    def __init__(
        self,
        *,
        machine: StateMachine,
        writer: Writer,
        loop: Loop,
        settings: Settings,
        on_applied: Callable[[Index], None],
        on_failed: Callable[[BaseException], None],
        on_check: Callable[[Index], None],
        may_apply: Callable[[], bool],
        on_full: Callable[[], None],
        on_readable: Callable[[Index], None],
    ) -> None:
        """`on_check` is called when the database is as of an entry of the kind CHECK. Who answers
        no to `may_apply` calls `hurry` when that changes. `on_full` is called when the disk has no
        room for a committed entry: nothing is lost, for the log has it, and it is applied after
        `resume`. `on_readable` is called when `readable_index` has passed the applied one."""
        self._machine = machine
        self._writer = writer
        self._loop = loop
        self._entries_max = settings.apply_entries_max
        self._gather_max = settings.apply_gather_max
        self._gather_bytes = settings.apply_gather_bytes
        self._on_applied = on_applied
        self._on_failed = on_failed
        self._on_check = on_check
        self._may_apply = may_apply
        self._on_full = on_full
        self._on_readable = on_readable
        self._queue: deque[Entry] = deque()
        self._is_busy = False
        self._is_scheduled = False
        self._gathered = 0
        self._gather_timer: Handle | None = None
        self._is_full = False
        """The disk had no room for the first entry of the queue."""
        self.divergence: Divergence | None = None
        self.is_stopped = False
        self.is_held = False
        """What others proposed is not applied for the moment."""

    def __repr__(self) -> str:
        return f"<Applier waiting={len(self._queue)} busy={self._is_busy}>"

    def use(self, machine: StateMachine) -> None:
        """Go on with this database, which is as far as the one before it."""
        self._machine = machine

    @property
    def is_busy(self) -> bool:
        """A transaction is open, or a thread is applying."""
        return self._is_busy

    @property
    def is_behind(self) -> bool:
        """Commands that are committed wait here: nobody may speculate on what is before them."""
        return self._is_full or any(entry.kind is EntryKind.COMMAND for entry in self._queue)

    @property
    def readable_index(self) -> Index:
        """Up to which entry a read finds all effects. Entries without a command have none, and wait
        here as long as the write slot is taken, which a long write does for seconds."""
        index = self._machine.applied_index
        if not self._is_busy:
            for entry in self._queue:
                if entry.kind is EntryKind.COMMAND:
                    break
                index = entry.index
        return index

    def resume(self) -> None:
        """There may be room again."""
        self._is_full = False
        self.hurry()

    def committed(self, entries: tuple[Entry, ...], *, is_urgent: bool) -> None:
        """Take entries from the core. Our own speculation is committed at once, because clients
        wait for it; what others proposed is applied in the next turn if `is_urgent`, else soon."""
        self._queue.extend(entries)
        if self._writer.entry_id is not None:
            self.advance()
            return
        for entry in entries:
            self._gathered += len(entry.data)
        if is_urgent or self._gathered >= self._gather_bytes or not self._gather_max:
            self.hurry()
        elif self._gather_timer is None and not self._is_scheduled:
            self._gather_timer = self._loop.call_later(self._gather_max, self.hurry)

    def hurry(self) -> None:
        """Somebody waits: gather no longer."""
        if self._gather_timer is not None:
            self._gather_timer.cancel()
            self._gather_timer = None
        if self._queue and not self._is_scheduled:
            self._is_scheduled = True
            # In the turn after the next: the acknowledgement of what came with this commit index
            # leaves at the end of this one, and must not wait for the apply.
            self._loop.call_soon(self._loop.call_soon, self._scheduled)

    def advance(self) -> None:
        """Go on, if there is something to do and the write slot allows it."""
        while self._queue and not (self._is_busy or self.is_stopped or self._is_scheduled):
            if self.divergence is not None or self._is_full or not self._may_apply():
                return
            if self.is_held and not self._writer.holds_slot:
                return
            if self._writer.holds_slot:
                if not self._commit_own():
                    self._on_readable(self.readable_index)
                    return
            else:
                self._apply_theirs()

    def _scheduled(self) -> None:
        self._is_scheduled = False
        self._gathered = 0
        self.advance()

    def _commit_own(self) -> bool:
        """COMMIT the writer's batch if the queue has reached its entry. Entries without commands
        may stand before it (a configuration): they are covered by the same COMMIT."""
        configuration = None
        for position, entry in enumerate(self._queue):
            if self._writer.entry_id == (entry.term, entry.index):
                own = [self._queue.popleft() for _ in range(position + 1)]
                self._is_busy = True
                self._writer.commit(configuration, partial(self._own_committed, own))
                return True
            if entry.kind is EntryKind.COMMAND:
                # Somebody else's command while our speculation is open: leadership is lost and the
                # rollback is under way; its end calls `advance` again.
                return False
            if entry.kind is EntryKind.CHECK:
                self._on_check(entry.index)  # those before it have no effects that are missing
            elif entry.kind is EntryKind.CONFIGURATION:
                configuration = Configuration.from_bytes(entry.data)
        return False

    def _own_committed(self, own: list[Entry], index: Index, error: BaseException | None) -> None:
        self._is_busy = False
        if isinstance(error, DiskFull):
            self._queue.extendleft(reversed(own))  # to be executed from the log, like another's
            self._fill()
            return
        self._finish(index, error)
        if error is None and self._queue:
            self.hurry()  # COMMIT may have come long after its entry: nobody goes on for us

    def _fill(self) -> None:
        self._is_full = True
        self._on_full()

    def _apply_theirs(self) -> None:
        entries: list[Entry] = []
        while self._queue and len(entries) < self._entries_max:
            entries.append(self._queue.popleft())
            if entries[-1].kind is EntryKind.CHECK:
                break  # what comes later is not to be seen there
        self._is_busy = True

        def done(error: BaseException | None) -> None:
            self._is_busy = False
            index = self._machine.applied_index
            if isinstance(error, DiskFull):
                self._fill()
                error = None  # those before it are applied
            if error is None:
                while entries and entries[-1].index > index:
                    self._queue.appendleft(entries.pop())
                if entries and entries[-1].kind is EntryKind.CHECK:
                    self._on_check(index)
                self._writer.settle(entries)
            self._finish(index, error)
            if error is None:
                if self._queue:
                    self.hurry()  # in another turn: this one has had its time
                self.advance()

        try:
            self._machine.apply(entries, done)
        except Exception as error:  # noqa: BLE001 - the database had failed before, or a promise is broken
            done(error)

    def _finish(self, index: Index, error: BaseException | None) -> None:
        if error is None:
            self._on_applied(index)
            return
        if isinstance(error, Divergence):
            self.divergence = error
        self._on_failed(error)
