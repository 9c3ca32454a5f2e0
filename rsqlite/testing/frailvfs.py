"""SQLite's files on a `FrailDisk`: a power loss takes back what SQLite, too, has not synced.

It stands under `cksmvfs`, for the whole process, while it is `installed`; files of nobody's disk
pass through. Nodes of one process share it and are told apart by the directories of their files.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

from rsqlite.statemachine.vfs import CHECKSUM_VFS, load_checksum_vfs
from rsqlite.testing.frail import Call, FrailDisk, Overwritten, Torn

NAME = "rsqlite-frail"

_CODES = {
    Call.WRITE: apsw.SQLITE_IOERR_WRITE,
    Call.SYNC: apsw.SQLITE_IOERR_FSYNC,
    Call.SIZE: apsw.SQLITE_IOERR_TRUNCATE,
}

DiskOf = Callable[[str], FrailDisk | None]


class FrailVfs(apsw.VFS):
    """`disk_of` tells by the path on whose disk a file is; None: on nobody's."""

    def __init__(self, disk_of: DiskOf) -> None:
        self._disk_of = disk_of
        self._base = apsw.vfs_names()[0]
        super().__init__(NAME, self._base, makedefault=True)

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        disk = None if path is None else self._disk_of(path)
        if path is None or disk is None:
            return apsw.VFSFile(self._base, name, flags)
        return FrailVfsFile(disk, path, self._base, name, flags)


class FrailVfsFile(apsw.VFSFile):
    """An open file of SQLite's."""

    def __init__(
        self,
        disk: FrailDisk,
        path: str,
        base: str,
        name: str | apsw.URIFilename | None,
        flags: list[int],
    ) -> None:
        super().__init__(base, name, flags)
        self._disk = disk
        self._life = disk.life
        self._unsynced = disk.unsynced.setdefault(path, [])

    def _is_carried_out(self, call: Call) -> bool:
        """A call begins: does what is written get anywhere?"""
        try:
            return self._life == self._disk.life and self._disk.called(call)
        except OSError as error:
            raise _as_sqlite(error, call) from error

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        try:
            if self._is_carried_out(Call.WRITE):
                self._write(data, offset)
        except Torn:
            self._write(data[: len(data) // 2], offset)
            raise

    def _write(self, data: bytes, offset: int) -> None:
        size = super().xFileSize()
        length = max(0, min(len(data), size - offset))
        before = super().xRead(length, offset) if length else b""
        self._unsynced.append(Overwritten(offset, before, size, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self._is_carried_out(Call.SIZE):
            size = super().xFileSize()
            before = super().xRead(size - newsize, newsize) if size > newsize else b""
            self._unsynced.append(Overwritten(newsize, before, size, None))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        # No real one: no power is lost but the simulated.
        if self._is_carried_out(Call.SYNC):
            self._unsynced.clear()

    def xLock(self, level: int) -> None:  # noqa: N802
        try:
            super().xLock(level)
        except apsw.IOError as error:
            # A file opened for reading cannot be had alone. SQLite tries it at close, and goes on
            # without; APSW would raise it.
            raise apsw.BusyError(str(error)) from error


def _as_sqlite(error: OSError, call: Call) -> apsw.Error:
    """What SQLite's own files would make of it; APSW raises it again as it is, code and all."""
    is_full = error.errno == errno.ENOSPC
    found = (apsw.FullError if is_full else apsw.IOError)(str(error))
    code = apsw.SQLITE_FULL if is_full else _CODES[call]
    vars(found).update(result=code & 255, extendedresult=code)
    return found


@contextmanager
def installed(disk_of: DiskOf) -> Iterator[None]:
    """SQLite's files are on these disks, until the context ends."""
    if CHECKSUM_VFS in apsw.vfs_names():
        apsw.unregister_vfs(CHECKSUM_VFS)
    before = apsw.vfs_names()[0]
    vfs = FrailVfs(disk_of)
    try:
        load_checksum_vfs()
        yield
    finally:
        apsw.unregister_vfs(CHECKSUM_VFS)
        vfs.unregister()
        apsw.set_default_vfs(before)
