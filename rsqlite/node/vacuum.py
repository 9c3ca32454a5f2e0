"""This node's part in a VACUUM: its database written anew without spare pages, while it serves.

1. A thread writes a compact copy of what is committed (`statemachine/compact.py`) into a generation
   of its own. Reads and writes go on; the log is kept from there on.
2. The copy becomes a second database, which carries out the same entries out of the log, in small
   slices, until it is nearly as far as the one in use, and it is checkpointed.
3. Between two transactions, with nobody writing for some milliseconds, it carries out the rest;
   CURRENT is replaced, and everybody goes on with it. Reads that run end on the old one, which is
   closed and removed after them.

The core hears nothing of all this: leadership stays where it is. A crash before CURRENT is replaced
leaves a folder that the next start removes; after that the copy counts, and the log has what
follows it. Whatever goes wrong with the copy is the end of the copy, not of the node.
"""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from rsqlite.config import MIB
from rsqlite.errors import DiskFull, Divergence, NodeFault
from rsqlite.raft.types import EntryId, Index
from rsqlite.statemachine import compact, schema
from rsqlite.statemachine.background import BrokenOff
from rsqlite.statemachine.generations import (
    begin_generation,
    note_compact,
    remove_generation,
    use_generation,
)
from rsqlite.statemachine.machine import StateMachine

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

SLICE_S = 0.005
"""Time on the loop for entries that the copy carries out in one turn, and the pause after it."""
SLICE_BYTES = 1 * MIB
HOLD_MAX_S = 0.25
"""Writes wait no longer than this for the last step; else it is tried again later."""
HOLD_PAUSE_S, LOOK_S = 1.0, 0.002
"""Pauses: before it is tried again, and between two looks whether nobody writes."""
NEAR_ENTRIES, NEAR_S = 64, HOLD_MAX_S / 2
"""So few entries behind that take so little, and the rest is carried out while writes are held."""


class Step(enum.StrEnum):
    """How far it is."""

    NONE = "none"
    COPYING = "copying"
    CATCHING_UP = "catching up"
    CHANGING = "changing"
    DONE = "done"
    FAILED = "failed"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of its part in the VACUUM of this token. Bytes are those of the database
    file, before and after."""

    token: str
    step: Step
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def is_final(self) -> bool:
        return self.step in (Step.DONE, Step.FAILED)


class Vacuum:
    """One node's. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._generation = 0
        """Callbacks of an earlier one are nobody's."""
        self._progress = Progress(token="", step=Step.NONE)
        self._began = self._next_hold = 0.0
        self._path = ""
        self._copy: StateMachine | None = None
        self._is_syncing = False
        self._behind, self._entry_s = 0, 0.0
        self._retired: list[StateMachine] = []
        self.keeps_from: Index | None = None
        """What the log must keep for the copy."""
        self.replacing = ""
        """The database that CURRENT is about to name; writes are held meanwhile."""
        self.replacing_since = 0.0

    def __repr__(self) -> str:
        return f"<Vacuum {self._progress.step.value}>"

    @property
    def progress(self) -> Progress:
        """How far the last one is."""
        if self.is_under_way:
            return msgspec.structs.replace(self._progress, seconds=self._seconds)
        return self._progress

    @property
    def is_under_way(self) -> bool:
        return self._progress.step in (Step.COPYING, Step.CATCHING_UP, Step.CHANGING)

    @property
    def _seconds(self) -> float:
        return round(self._engine.loop.monotonic() - self._began, 3)

    def begin(self, token: str) -> None:
        """Begin, unless one is under way: then that one is this one, too."""
        engine = self._engine
        if self.is_under_way:
            self._progress = msgspec.structs.replace(self._progress, token=token)
            return
        self._began = engine.loop.monotonic()
        has_none = engine.core is None or engine.fault or engine.is_stopping or engine.refuses
        size = 0 if has_none else engine.machine.statistics().database_bytes
        self._progress = Progress(token=token, step=Step.COPYING, bytes_before=size)
        if has_none:
            self._fail("the node has no database to write anew now")
            return
        if engine.compaction.is_damaged:
            self._fail("a part of the log is damaged")
            return
        if not engine.installer.has_room(size):
            self._fail(f"no room for a copy of {size} bytes")
            return
        try:
            self._path = begin_generation(engine.directory.database_root)
        except NodeFault as fault:
            self._fail(str(fault))
            if not isinstance(fault, DiskFull):
                engine.fail(fault)
            return
        self.keeps_from = Index(engine.machine.applied_index + 1)
        self._generation += 1
        log.info("VACUUM begins", extra={"bytes": size})
        engine.machine.copy_compactly(self._path, partial(self._copied, self._generation))

    def cancel(self, reason: str) -> None:
        """Give the copy up, unless it is being taken up already."""
        if self.is_under_way and not self.replacing:
            self._fail(reason)

    def sweep(self, now: float) -> None:
        """Keep the time, the disk and what is left of earlier databases."""
        for old in [one for one in self._retired if one.is_at_rest]:
            self._retired.remove(old)
            self._close(old)
        if not self.is_under_way or self.replacing:
            return
        engine = self._engine
        if engine.fault is not None:
            self._fail("the node has failed")
        elif now - self._began > engine.settings.vacuum_timeout:
            self._fail("it took longer than -vacuum-timeout")
        elif engine.space.is_short_of_database:
            self._fail("the volume is getting full")
        elif self._copy is not None and self._copy.fault is not None:
            self._fail(str(self._copy.fault))
        elif self._progress.step is Step.COPYING and not self._is_syncing:
            self._sync()

    def _sync(self) -> None:
        """What is written is synced as it comes, so that the disk is never flooded."""
        if os.path.exists(self._path):
            self._is_syncing = True
            synced = partial(self._synced, self._generation)
            self._engine.loop.submit(partial(compact.sync, self._path), synced)

    def _synced(self, generation: int, _: None, error: BaseException | None) -> None:
        self._is_syncing = False
        is_ours = generation == self._generation and not isinstance(error, FileNotFoundError)
        if is_ours and isinstance(error, OSError):
            self.cancel(f"the copy cannot be synced: {error}")

    def _copied(self, generation: int, last: EntryId | None, error: BaseException | None) -> None:
        if generation != self._generation:
            return
        if last is None:
            self._fail(str(error))  # damage of the database itself its owner hears of
            return
        if self._is_syncing:
            # Who closes a file takes SQLite's locks on it away: it is opened after that.
            self._later(LOOK_S, partial(self._copied, generation, last, error))
            return
        self._attempt(partial(self._open, last))

    def _open(self, last: EntryId) -> None:
        engine = self._engine
        self.keeps_from = Index(last.index + 1)
        self._copy = engine.machine_class.open_at(
            self._path, loop=engine.loop, settings=engine.settings
        )
        engine.open_parts.append(self._copy)
        self._copy.overruled.update(engine.machine.overruled)
        self._progress = msgspec.structs.replace(self._progress, step=Step.CATCHING_UP)
        log.info("VACUUM: the copy catches up", extra={"index": last.index})
        self._behind = engine.machine.applied_index - last.index
        self._catch_up()

    # Catching up

    def _catch_up(self) -> None:
        """Carry out some entries more, then pause for the loop's sake, unless the way grows."""
        copy, engine = self._copy, self._engine
        assert copy is not None
        behind = engine.machine.applied_index - copy.applied_index
        is_near = behind <= NEAR_ENTRIES and behind * self._entry_s <= NEAR_S
        pause = SLICE_S if behind < self._behind or behind <= NEAR_ENTRIES else 0.0
        self._behind = behind
        if is_near and engine.loop.monotonic() >= self._next_hold:
            self._hold()
        elif behind:
            self._carry_out(pause, self._catch_up)
        else:
            self._later(SLICE_S, self._catch_up)

    def _carry_out(self, pause_s: float, then: Callable[[], None]) -> None:
        """Some of the entries that the database in use has carried out already, then a pause."""
        copy, engine = self._copy, self._engine
        assert copy is not None
        low, high = Index(copy.applied_index + 1), Index(engine.machine.applied_index + 1)
        generation, began = self._generation, engine.loop.monotonic()

        def carried_out(error: BaseException | None) -> None:
            if error is not None:
                raise error
            took_s = engine.loop.monotonic() - began
            self._entry_s = took_s / max(1, copy.applied_index + 1 - low)
            copy.maintain()
            self._later(pause_s, then)

        def done(error: BaseException | None) -> None:
            if generation == self._generation:
                self._attempt(partial(carried_out, error))

        try:
            entries = engine.log.entries(low, high, SLICE_BYTES)
        except NodeFault as fault:
            engine.fail(fault)  # the log of this node, which others need as well
            return
        copy.apply(entries, done, time_max=SLICE_S)

    def _later(self, pause_s: float, then: Callable[[], None]) -> None:
        generation = self._generation

        def go_on() -> None:
            if generation == self._generation:
                self._attempt(then)

        self._engine.loop.call_later(pause_s, go_on)

    def _attempt(self, step: Callable[[], None]) -> None:
        """Whatever goes wrong ends the copy, a mistake of ours too: writes may be held for it."""
        try:
            step()
        except Exception as error:
            if isinstance(error, Divergence):
                log.error("a compact copy computes something else: %s", error)
            elif not isinstance(error, NodeFault):
                log.error("VACUUM cannot go on", exc_info=error)
            self._fail(str(error) or repr(error))

    # The change

    def _hold(self) -> None:
        """It is near. Checkpoint it, then keep everybody from writing."""
        copy, engine = self._copy, self._engine
        assert copy is not None
        if copy.checkpointer.count == 0:
            copy.checkpointer.request()
            copy.maintain()
            self._next_hold = engine.loop.monotonic() + SLICE_S
            self._catch_up()
        elif engine.machine.is_hashing or engine.images.is_making or engine.refuses:
            self._next_hold = engine.loop.monotonic() + HOLD_PAUSE_S
            self._catch_up()
        else:
            self._progress = msgspec.structs.replace(self._progress, step=Step.CHANGING)
            engine.hold_writes()
            self._later(HOLD_MAX_S, self._end_hold)
            self._when_held()

    def _when_held(self) -> None:
        copy, engine = self._copy, self._engine
        assert copy is not None
        if engine.fault is not None:
            # Its database may be the very thing that is wrong, and the copy is like it.
            self._fail("the node has failed")
        elif self._progress.step is not Step.CHANGING:
            self._catch_up()
        elif engine.is_writing:
            self._later(LOOK_S, self._when_held)
        elif copy.applied_index < engine.machine.applied_index:
            self._carry_out(0.0, self._when_held)
        elif not copy.is_at_rest:
            self._later(LOOK_S, self._when_held)
        else:
            self._replace()

    def _end_hold(self) -> None:
        """It took too long: everybody may write. `_when_held` goes on from here."""
        engine = self._engine
        if self._progress.step is Step.CHANGING and not self.replacing:
            self._progress = msgspec.structs.replace(self._progress, step=Step.CATCHING_UP)
            self._next_hold = engine.loop.monotonic() + HOLD_PAUSE_S
            engine.release_writes()

    def _replace(self) -> None:
        path, wall = self._path, self._engine.loop.wall()
        installed = self._engine.installer.origin.installed
        self.replacing, self.replacing_since = path, self._engine.loop.monotonic()

        def work() -> None:
            try:
                note_compact(path, wall, installed)
                use_generation(path)
            except DiskFull as full:
                root = os.path.dirname(os.path.dirname(path))
                if schema.find_current_database(root) == path:
                    raise
                raise BrokenOff(str(full)) from full  # and CURRENT is as it was

        self._engine.loop.submit(work, self._replaced)

    def _replaced(self, _: None, error: BaseException | None) -> None:
        copy, engine = self._copy, self._engine
        assert copy is not None
        if engine.is_stopping:
            return
        if isinstance(error, BrokenOff):
            self.replacing = ""
            self._fail(str(error))
            return
        try:
            if error is not None:
                raise error
            engine.installer.origin.keep(self._path)
            self._retired.append(engine.change_machine(copy))
        except BaseException as caught:  # noqa: BLE001 - the node ends for it
            # Which one the next start will find in use is not known: that start must come.
            engine.fail(caught)
            return
        self._copy, self.keeps_from = None, None
        self._path = self.replacing = ""
        engine.release_writes()
        size = copy.statistics().database_bytes
        self._progress = msgspec.structs.replace(
            self._progress, step=Step.DONE, bytes_after=size, seconds=self._seconds
        )
        log.info("VACUUM ended", extra={"bytes": size, "seconds": self._progress.seconds})

    # Its end

    def _fail(self, reason: str) -> None:
        engine = self._engine
        if self._progress.step is Step.CHANGING:
            engine.release_writes()
        self._generation += 1
        self._progress = msgspec.structs.replace(
            self._progress, step=Step.FAILED, error=reason, seconds=self._seconds
        )
        log.warning("VACUUM failed: %s", reason)
        self.keeps_from = None
        engine.machine.cancel_copy()
        copy, path, self._copy, self._path = self._copy, self._path, None, ""
        if copy is not None:
            copy.retire()
            self._retired.append(copy)
        elif path:
            self._remove(path)

    def _close(self, old: StateMachine) -> None:
        engine = self._engine
        try:
            engine.open_parts.remove(old)
            old.close()
        except NodeFault as fault:
            log.warning("a database that is not needed any more: %s", fault)
        self._remove(old.path)

    def _remove(self, path: str) -> None:
        """In a thread, it takes its time. What cannot be removed now, the next start removes."""
        self._engine.loop.submit(
            lambda: remove_generation(path),
            lambda _, error: None if error is None else log.warning("%s", error),
        )
