"""A file that only takes room, on the database's volume, and gives it back when there is no other:
to apply what is committed, or to start at all, and so to go on serving reads.
"""

from __future__ import annotations

import errno
import os

from rsqlite.config import MIB
from rsqlite.errors import NO_SPACE
from rsqlite.ports import Disk

BALLAST_NAME = "ballast"
BALLAST_BYTES_MAX = 16 * MIB


class Ballast:
    """That of one data directory."""

    def __init__(self, directory: str, disk: Disk, reserve_bytes: int) -> None:
        """An eighth of what is kept in reserve."""
        self._directory = directory
        self._path = os.path.join(directory, BALLAST_NAME)
        self._disk = disk
        self.size = min(reserve_bytes // 8, BALLAST_BYTES_MAX)
        self._is_whole = False
        """The file takes what it should, or did when it was last there: a crash may have left one
        without its room."""

    def __repr__(self) -> str:
        return f"<Ballast {self._path} is there={self.is_there}>"

    @property
    def is_there(self) -> bool:
        return self._disk.exists(self._path)

    def restore(self) -> None:
        """Take the room, if it is not taken. Where there is none, there is no ballast."""
        if not self.size or (self._is_whole and self.is_there):
            return
        file = self._disk.open(self._path, create=True)
        try:
            if file.size() < self.size:
                file.allocate(self.size)
            self._is_whole = True
        except OSError as error:
            self._disk.unlink(self._path)
            if error.errno not in NO_SPACE | {errno.EOPNOTSUPP}:
                raise
        finally:
            file.close()

    def release(self) -> bool:
        """Give the room back. False: there was none to give."""
        if not self.is_there:
            return False
        self._disk.unlink(self._path)
        # Blocks are free for others only when the file system's journal says so.
        self._disk.sync_directory(self._directory)
        return True
