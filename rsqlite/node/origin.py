"""Where the database in use came from: it was made here, or it came as an image."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rsqlite.errors import DamagedDatabase, DiskFull
from rsqlite.raft.types import Index
from rsqlite.statemachine.generations import Installed, installed_of, write_installed
from rsqlite.storage.logstore import LogStore

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)


def is_reset(entries: LogStore, installed: Installed) -> bool:
    """Does the log begin behind an installed database, or hold its last entry?"""
    index = Index(installed.last_index)
    return entries.first_index > index or entries.term(index) == installed.last_term


class Origin:
    """Of one node's database, through all that it has had."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._installed: tuple[str, Installed] | None = None
        """The database that came as an image, and what it held then."""

    def __repr__(self) -> str:
        return f"<Origin {self._installed}>"

    def came(self, database: str, installed: Installed) -> None:
        """The database at this path came as an image."""
        self._installed = database, installed

    @property
    def installed(self) -> Installed | None:
        """What the database in use held when it came; None: it was made here."""
        path, installed = self._installed or ("", None)
        return installed if path == self._engine.machine.path else None

    def keep(self, database: str) -> None:
        """The database at this path takes the place of the one in use, and holds the same."""
        if self.installed is not None:
            self._installed = database, self.installed

    @property
    def is_copy(self) -> bool:
        """The database in use was made by another node, and may be wrong as that one is."""
        return self.installed is not None and self.installed.is_copy

    def found_alike(self, index: Index) -> None:
        """All voters held what this node did, as of this entry: its database stands for itself from
        now on. Not one that came after that."""
        installed = self.installed
        if installed is None or not installed.is_copy or self._engine.vacuum.replacing:
            return
        if installed.last_index > index:
            return
        path, alike = self._engine.machine.path, installed.found_alike()
        try:
            write_installed(path, alike)
        except DiskFull as full:
            log.warning("%s; the next check of the contents will do", full)
            return
        self._installed = path, alike

    def read(self) -> None:
        """Learn what is noted of it. That is needed until the log begins behind it; where log and
        database agree, it can be written again. DamagedDatabase where they do not."""
        engine = self._engine
        machine, entries = engine.machine, engine.log
        held = Installed(machine.applied_index, machine.applied_term)
        try:
            installed = installed_of(machine.path)
            if installed and not installed.is_of(held) and not is_reset(entries, installed):
                # Until the log is reset, nothing is added to what came.
                raise DamagedDatabase(f"{machine.path} is not what is noted beside it: {installed}")
        except DamagedDatabase as damage:
            if entries.term(machine.applied_index) != machine.applied_term:
                raise
            installed = held
            write_installed(machine.path, installed)
            engine.repaired(f"{damage}; it was written again")
        if installed is not None:
            self._installed = machine.path, installed
