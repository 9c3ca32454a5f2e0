"""SQLite's file system, with page checksums and with the entry's time as its clock.

Every connection goes through `cksmvfs` (SQLite's own, from APSW's extra modules): with eight
reserved bytes in each page it stores a checksum there and reports a page that fails it as
SQLITE_IOERR_DATA instead of handing it out. Connections that write put a `ClockVfs` above it, so
that `CURRENT_TIMESTAMP`, `datetime('now')`, DEFAULTs, triggers and views see the time of the
request that is carried out. The clock belongs to one owner: all connections of a VFS share it, so
each writing connection has a VFS name of its own.

Only `xCurrentTimeInt64` is Python here. Files are opened by the base VFS itself and their methods
are C: measured, an INSERT costs the same through plain `unix`, `cksmvfs` and `ClockVfs` (0.55 µs).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import threading
from typing import Any

import apsw
import apsw.sqlite_extra

from rsqlite.errors import DiskFault

CHECKSUM_VFS = "cksmvfs"
RESERVED_BYTES = 8
"""What `cksmvfs` needs at the end of each page, set before the first page is written."""

JULIAN_UNIX_MS = 210_866_760_000_000
"""SQLite counts milliseconds from noon of 24 November 4714 BC; this many later 1970 begins."""

_READ_METHOD = 2
_SYNC_METHOD = 5
_SIZE_METHOD = 6
"""Places in `sqlite3_io_methods`, after a version of the same size as a pointer."""
_SYNC_DATA = 0x02 | 0x10
"""SQLITE_SYNC_NORMAL and SQLITE_SYNC_DATAONLY."""

_DESCRIPTORS = "/proc/self/fd"

_names = itertools.count(1)
_load_lock = threading.Lock()


class ClockVfs(apsw.VFS):
    """A file system whose clock stands where `set_time` put it."""

    def __init__(self) -> None:
        self.name = f"rsqlite-{os.getpid()}-{next(_names)}"
        self.now = JULIAN_UNIX_MS
        super().__init__(self.name, load_checksum_vfs())

    def set_time(self, time_ms: int) -> None:
        """Make this the time of all SQL that runs from now on, in milliseconds since 1970."""
        self.now = time_ms + JULIAN_UNIX_MS

    def xCurrentTimeInt64(self) -> int:  # noqa: N802 - SQLite's name
        return self.now


def load_checksum_vfs() -> str:
    """The name of the VFS with page checksums, which is loaded into the process on first use."""
    with _load_lock:
        if CHECKSUM_VFS not in apsw.vfs_names():
            default = apsw.vfs_names()[0]
            scratch = apsw.Connection(":memory:")
            try:
                apsw.sqlite_extra.load(scratch, "cksumvfs")
            finally:
                scratch.close()
            # Loading makes it the default of the whole process. Other users of SQLite in it have
            # not asked for that.
            apsw.set_default_vfs(default)
    return CHECKSUM_VFS


def reserve_wal(path: str, size: int) -> None:
    """Give the WAL of the database at `path`, which SQLite has open in this process, its blocks up
    to `size`: what is committed then finds room in it also when the volume is full. Linux only.

    SQLite's own descriptor is used, as that of `OpenFile`.
    """
    wal = os.path.realpath(f"{path}-wal")
    with contextlib.suppress(OSError):  # no /proc, or no such thing on this file system, or no room
        for name in os.listdir(_DESCRIPTORS):
            with contextlib.suppress(FileNotFoundError):  # the listing's own one
                if os.readlink(os.path.join(_DESCRIPTORS, name)) == wal:
                    os.posix_fallocate(int(name), 0, size)
                    return


class OpenFile:
    """The file that a connection of SQLite's has open, used without the interpreter held: APSW's
    own `VFSFile` stops every other thread for as long as the disk takes. Not to be used once the
    connection is closed.

    Nobody else may open the file: if this process opened it and closed it again, all of SQLite's
    locks on it would be gone (POSIX).
    """

    def __init__(self, connection: apsw.Connection, *, is_wal: bool = False) -> None:
        """The database, or its WAL, which is open once something was read."""
        pointer = ctypes.c_void_p()
        which = apsw.SQLITE_FCNTL_JOURNAL_POINTER if is_wal else apsw.SQLITE_FCNTL_FILE_POINTER
        connection.file_control("main", which, ctypes.addressof(pointer))
        assert pointer.value is not None
        methods = ctypes.c_void_p.from_address(pointer.value).value
        assert methods is not None
        self.name = f"{connection.filename}-wal" if is_wal else connection.filename
        self._file = pointer
        self._methods = methods

    def read(self, length: int, offset: int) -> bytes:
        """At most `length` bytes at `offset`; fewer only at the end of the file."""
        buffer = ctypes.create_string_buffer(length)
        types = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
        code = self._call(_READ_METHOD, types, buffer, length, offset)
        if code == apsw.SQLITE_IOERR_SHORT_READ:
            length = min(length, max(0, self.size() - offset))
        elif code != apsw.SQLITE_OK:
            raise DiskFault(f"{self.name} cannot be read: SQLite answers {code}")
        return buffer.raw[:length]

    def size(self) -> int:
        """Its length in bytes."""
        size = ctypes.c_int64()
        code = self._call(_SIZE_METHOD, (ctypes.c_void_p,), ctypes.byref(size))
        if code != apsw.SQLITE_OK:
            raise DiskFault(f"{self.name} cannot be asked for its size: SQLite answers {code}")
        return size.value

    def sync(self) -> None:
        """Return when everything that was written to it is on the disk."""
        code = self._call(_SYNC_METHOD, (ctypes.c_int,), _SYNC_DATA)
        if code != apsw.SQLITE_OK:
            raise DiskFault(f"{self.name} cannot be synced: SQLite answers {code}")

    def _call(self, place: int, types: tuple[Any, ...], *arguments: Any) -> int:
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *types)
        method = kind.from_address(self._methods + place * ctypes.sizeof(ctypes.c_void_p))
        try:
            return int(method(self._file, *arguments))
        except SystemError as error:
            # A file of APSW's leaves an exception beside the code that it returns.
            if isinstance(error.__cause__, apsw.Error):
                return getattr(error.__cause__, "extendedresult", apsw.SQLITE_IOERR)
            raise
