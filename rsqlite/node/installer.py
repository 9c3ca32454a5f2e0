"""Puts another database in place of this node's: an image, because the log behind is gone, or
because the database itself is lost.

While an image is installed the node is as if it were down. While it has no database to speak of (it
was damaged, or computed something else than the others), it keeps its log, its vote and its place:
it appends, acknowledges and votes, serves nothing, leads only where nobody else can, and asks the
leader for an image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from rsqlite.errors import (
    DamagedDatabase,
    DamagedFile,
    DiskFault,
    DoubtedDatabase,
    RsqliteError,
    Unavailable,
)
from rsqlite.node.asking import Asking
from rsqlite.node.origin import Origin, is_reset
from rsqlite.ports import Disk
from rsqlite.raft.types import Configuration, EntryId, Index, NodeId, Role, Term
from rsqlite.statemachine import schema
from rsqlite.statemachine.check import check_database
from rsqlite.statemachine.generations import (
    Installed,
    clear_doubt,
    finish_setting_aside,
    install,
    note_damage,
    note_doubt,
    noted_damage,
    noted_doubt,
    remove_others,
    set_aside,
    wanted_image,
)
from rsqlite.statemachine.image import Manifest
from rsqlite.statemachine.walfile import is_unwritten
from rsqlite.storage.directory import read_configuration

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

IDLE_LOOK_S = 0.005
"""Pause between two looks whether the log and the database are at rest."""


def has_others(path: str, disk: Disk) -> bool:
    """Does the node in this data directory know of others, that have what it has?"""
    saved = read_configuration(path, disk)
    return saved is not None and len(Configuration.from_bytes(saved.configuration).members) > 1


class Installer:
    """The part of an `Engine` that changes what its `machine` is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unfinished: Installed | None = None
        """A database whose installation is to be completed first."""
        self.origin = Origin(engine)
        self._is_installing = False
        self._lost = ""
        """Why there is no database to speak of; empty: there is one."""
        self._asking = Asking(engine)

    def __repr__(self) -> str:
        return f"<Installer installing={self._is_installing} lost={self._lost!r}>"

    @property
    def is_under_way(self) -> bool:
        """The database is being changed for another one, which takes milliseconds."""
        return self._is_installing

    @property
    def is_without_database(self) -> bool:
        """There is none to read from until an image has come."""
        return bool(self._lost)

    @property
    def refuses(self) -> bool:
        """Nothing can be asked of this node's database now."""
        return self._is_installing or bool(self._lost)

    def refusal(self) -> RsqliteError:
        """What is answered meanwhile."""
        if self._lost:
            return Unavailable(f"this node waits for its database from the others: {self._lost}")
        return Unavailable("an image of the database is being installed")

    # At the start

    def open_database(self) -> None:
        """Open the database. One that is damaged is set aside, if others can give it back."""
        engine = self._engine
        root = engine.directory.database_root
        place = finish_setting_aside(root, engine.directory.quarantine_path)
        if place is not None:
            engine.repaired("a database that was given up is set aside now", place=place)
        try:
            self._look_again(root)
            reason = noted_damage(root)
            if reason is not None:
                raise DamagedDatabase(reason or "it was given up")
            if problem := schema.read_current(root).problem:
                engine.repaired(f"{problem}; it was written again")
            try:
                self._open()
            except DoubtedDatabase as doubt:
                if check_database(root):
                    raise
                log.warning("%s; all of it can be read", doubt)
                self._open()
            self.origin.read()
        except DamagedDatabase as damage:
            if not self._has_others():
                raise
            self._close()
            place = set_aside(root, engine.directory.quarantine_path)
            engine.repaired(f"database set aside: {damage}", place=place)
            self._lost = str(damage)
            self._open()
        machine, entries = engine.machine, engine.log
        installed = self.origin.installed
        if installed is not None and not is_reset(entries, installed):
            self._unfinished = installed
        remove_others(machine.path)
        if self._unfinished is None and machine.applied_index > entries.last_index:
            raise DamagedFile(
                f"the database in {engine.path} holds entries up to {machine.applied_index}, "
                f"its log ends at {entries.last_index}: the log was lost. Move the directory "
                "away and let the node come back empty, under a new identity"
            )
        wanted = wanted_image(machine.path)
        if wanted is not None:
            self._lost = wanted or "the others found it wrong"
        elif machine.applied_index + 1 >= entries.first_index:
            self._lost = ""  # the log has all that is missing
        elif not self._lost:
            self._lost = "its database is older than what is left of its log"
        if self._lost and not has_others(engine.path, engine.disk):
            raise DamagedDatabase(f"{self._lost}; and who has another one is not known here")

    def _look_again(self, root: str) -> None:
        """SQLite called the database damaged when it was last in use; is it?"""
        doubt = noted_doubt(root)
        if doubt is None or noted_damage(root) is not None:
            return
        engine = self._engine
        problems = check_database(root)
        path = schema.find_current_database(root)
        if problems:
            note_damage(path, problems[0])
        else:
            clear_doubt(path, engine.loop.wall())
            engine.repaired("the database was called damaged, and is sound", reason=doubt)

    def held_index(self) -> Index:
        """Up to which entry the database has everything for good; 0 if it cannot be relied on.
        Where the log is damaged, this is asked before the database is opened for use."""
        engine = self._engine
        try:
            root = engine.directory.database_root
            if noted_damage(root) is not None or noted_doubt(root) is not None:
                return Index(0)
            self._open()
            path, index = engine.machine.path, engine.machine.applied_index
            self._close()  # brings all of it into the file, unless there is no room
        except DamagedFile:
            self._close()
            return Index(0)
        return index if is_unwritten(f"{path}-wal") else Index(0)

    def _has_others(self) -> bool:
        """Is there anything to make the database from again?"""
        engine = self._engine
        return engine.log.first_index == 1 or has_others(engine.path, engine.disk)

    def _open(self) -> None:
        engine = self._engine
        engine.machine = engine.machine_class.open(
            engine.directory.database_root, loop=engine.loop, settings=engine.settings
        )
        engine.open_parts.append(engine.machine)

    def _close(self) -> None:
        """Close what `_open` has opened, if it has."""
        parts = self._engine.open_parts
        if isinstance(parts[-1], self._engine.machine_class):
            parts.pop().close()

    def resume(self) -> bool:
        """Complete an installation that a crash ended. True: that has begun, and `Engine.begin` is
        called again."""
        if self._unfinished is None:
            return False
        self._is_installing = True
        self._finish(self._unfinished)
        return True

    @property
    def applied_index(self) -> Index:
        """Where the core begins. Without a database it takes for applied what is not in the log."""
        engine = self._engine
        if self._lost:
            return Index(engine.log.first_index - 1)
        return engine.machine.applied_index

    @property
    def configuration(self) -> Configuration:
        """The one at `applied_index`, or one before it."""
        saved = self._engine.directory.saved_configuration() if self._lost else None
        if saved is not None:
            return Configuration.from_bytes(saved)
        return self._engine.machine.configuration

    def core_started(self) -> None:
        """Without a database this node neither applies nor reads, and is the last to lead."""
        engine = self._engine
        if self._lost:
            assert engine.driver is not None
            engine.driver.lead_reluctantly()
            engine.applier.is_stopped = True
            engine.reader.stop(self.refusal())

    def note(self, fault: BaseException, *, wants_image: bool = False) -> BaseException:
        """The node fails. If it is its database, the next start must not use that one; nor make it
        from the log again, if it `wants_image`. What it ends with: where that cannot be noted, with
        a fault after which nobody starts it again unasked."""
        engine = self._engine
        if not isinstance(fault, DamagedDatabase):
            return fault
        try:
            # One that replaces it now may be in use at the next start.
            for path in filter(None, (engine.machine.path, engine.vacuum.replacing)):
                if isinstance(fault, DoubtedDatabase) and not wants_image:
                    note_doubt(path, str(fault), engine.loop.wall())
                else:
                    note_damage(path, str(fault), wants_image=wants_image)
        except DiskFault as error:
            return error
        return fault

    # Images

    def sweep(self, now: float) -> None:
        """Ask for an image, if this node has no database and none is on its way."""
        engine = self._engine
        if self._lost and not engine.transfer.is_under_way and engine.fault is None:
            self._asking.sweep(now)

    def offer(self, target: NodeId, last: EntryId, image: bytes) -> None:
        """Let the core offer an image to a follower."""
        if self._engine.driver is not None:
            self._engine.driver.offer_image(target, last, image)

    def has_room(self, size: int) -> bool:
        """Whether the volume has room for an image of this size."""
        return self.room_bytes() >= size

    def room_bytes(self) -> int:
        """What the volume has room for, above the reserve."""
        engine = self._engine
        try:
            free = engine.disk.free_bytes(engine.directory.database_root)
        except OSError as error:
            engine.fail(DiskFault(f"cannot ask for the free space of {engine.path}: {error}"))
            return -1
        return free - engine.settings.disk_reserve_bytes

    # Installing one

    def arrived(self, path: str, manifest: Manifest) -> None:
        """An image is here, whole and synced: make it the database, unless the log has brought the
        one that is here as far."""
        engine = self._engine
        core = engine.core
        if core is None or engine.driver is None or engine.fault is not None or engine.is_stopping:
            return
        if self._is_installing:
            return  # it is offered again to the core that is to come
        is_old = core.commit_index >= manifest.last_index and not self._lost
        if is_old or core.role is Role.LEADER or manifest.last_index < engine.log.first_index - 1:
            engine.transfer.ended()
            return
        log.info("installing an image", extra={"index": manifest.last_index})
        installed = Installed(manifest.last_index, manifest.last_term)
        self._pause(lambda: self._install(path, installed))

    def _install(self, path: str, installed: Installed) -> None:
        engine = self._engine
        engine.open_parts.remove(engine.machine)
        engine.machine.close()
        database = install(engine.directory.database_root, path, installed)
        self.origin.came(database, installed)
        self._finish(installed)

    def _pause(self, then: Callable[[], None]) -> None:
        """Stop the core and all that uses the database; `then` is called when nothing does."""
        engine = self._engine
        assert engine.driver is not None
        self._is_installing = True
        engine.vacuum.cancel("another database is installed")
        engine.driver.stop()
        engine.scrub.stop()
        refusal = self.refusal()
        engine.writer.stop(refusal)
        engine.reader.stop(refusal)
        engine.applier.is_stopped = True
        self._when_idle(then)

    def _when_idle(self, then: Callable[[], None]) -> None:
        engine = self._engine
        if engine.is_stopping or engine.fault is not None:
            return
        if (
            engine.applier.is_busy
            or engine.writer.holds_slot
            or engine.images.is_making
            or engine.vacuum.replacing
            or not engine.log.is_idle
        ):
            engine.loop.call_later(IDLE_LOOK_S, self._when_idle, then)
        else:
            engine.or_fail(then)

    def go_on_with(self, index: Index, effects: str) -> None:
        """This replica has stopped before the entry at `index`; a majority computed what it did. Go
        on with that, and from the log, as after a start."""
        engine = self._engine
        engine.fault = None

        def go_on() -> None:
            engine.machine.overrule(index, effects)
            engine.make_machine_parts()
            self._is_installing = False
            engine.transfer.ended()  # an image may have arrived that could not be taken
            engine.begin()

        self._pause(go_on)

    def _finish(self, installed: Installed) -> None:
        """The database is the image's: let the log begin behind it, and this node again."""
        engine = self._engine

        def reset(error: BaseException | None) -> None:
            if engine.is_stopping or engine.fault is not None:
                return  # a stop came between
            if error is not None:
                engine.fail(error)
            else:
                engine.or_fail(use)

        def use() -> None:
            if engine.machine not in engine.open_parts:
                self._open()
                engine.make_machine_parts()
            engine.content.replaced()
            remove_others(engine.machine.path)
            log.info("image installed", extra={"index": installed.last_index})
            self._is_installing = False
            self._unfinished, self._lost = None, ""
            engine.transfer.ended()
            engine.begin()

        if is_reset(self._engine.log, installed):
            reset(None)  # the log goes on from within: it was the database alone that was lost
        else:
            engine.log.reset(Index(installed.last_index), Term(installed.last_term), reset)
