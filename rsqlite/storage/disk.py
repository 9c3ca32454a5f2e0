"""The real `Disk`: files of the operating system, opened so that nobody else can read them.

Files are made with mode 0600, directories with 0700, whatever the umask. A file that is a symbolic
link is refused (`ELOOP`): a link in the data directory would let somebody else choose what we
overwrite.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Callable

from rsqlite.storage.kernelsync import KernelSync

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class RealFile:
    """An open file descriptor. Reads and writes carry their offset, so threads may share it."""

    __slots__ = ("_fd", "_path", "_syncs", "_under_way")

    def __init__(self, path: str, flags: int, syncs: KernelSync | None = None) -> None:
        self._path = path
        self._syncs = syncs
        self._under_way = 0
        """Syncs of this file that have begun and not ended."""
        self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)

    def __repr__(self) -> str:
        return f"RealFile({self._path!r}, fd={self._fd})"

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) == length or not data:
            return data
        # A read may stop early, at a signal or at 2 GiB; only the end of the file is the end.
        parts = [data]
        taken = len(data)
        while taken < length:
            data = os.pread(self._fd, length - taken, offset + taken)
            if not data:
                break
            parts.append(data)
            taken += len(data)
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        if written == len(data):
            return
        # A short write is how a file system that fills up begins to say so; the next says why.
        rest = memoryview(data)[written:]
        offset += written
        while rest:
            written = os.pwrite(self._fd, rest, offset)
            if written == 0:
                raise OSError(errno.EIO, "write made no progress", self._path)
            rest = rest[written:]
            offset += written

    def sync(self) -> None:
        if sys.platform == "darwin":
            # fsync on macOS leaves the data in the drive's cache.
            fcntl.fcntl(self._fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._fd)

    def sync_soon(self, ended: Callable[[BaseException | None], None]) -> bool:
        if self._syncs is None:
            return False

        def told(error: BaseException | None) -> None:
            self._under_way -= 1
            ended(error)

        is_begun = self._syncs.submit(self._fd, told)
        self._under_way += is_begun
        return is_begun

    def wait(self) -> None:
        # Those of others are told where they were begun: this file may be a thread's.
        if self._under_way:
            assert self._syncs is not None
            self._syncs.wait()

    def allocate(self, length: int) -> None:
        before = self.size()
        try:
            os.posix_fallocate(self._fd, 0, length)
        except OSError:
            os.ftruncate(self._fd, before)
            raise

    def truncate(self, length: int) -> None:
        os.ftruncate(self._fd, length)

    def close(self) -> None:
        if self._fd >= 0:
            self.wait()
            fd, self._fd = self._fd, -1
            os.close(fd)


class RealDisk:
    """The file system of this machine; with `syncs` its files can sync in the background."""

    def __init__(self, syncs: KernelSync | None = None) -> None:
        self._syncs = syncs

    @property
    def syncs_in_background(self) -> bool:
        return self._syncs is not None

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> RealFile:
        flags = os.O_RDWR if writable else os.O_RDONLY
        return RealFile(path, flags | (os.O_CREAT if create else 0), self._syncs)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: str) -> None:
        """A symbolic link in place of the directory is refused as one in place of a file is."""
        parent = os.path.dirname(path)
        if parent and parent != path and not os.path.isdir(parent):
            self.mkdir(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, DIRECTORY_MODE)
            return
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: str) -> int:
        volume = os.statvfs(path)
        return volume.f_bavail * volume.f_frsize

    def volume(self, path: str) -> int:
        return os.stat(path).st_dev

    def lock(self, path: str) -> Callable[[], None]:
        """The file holds the process id of the owner, for whoever is refused."""
        file = RealFile(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.pwrite(f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            file.close()
            raise

        def unlock() -> None:
            # In words: a child that was forked has the file open as well.
            fcntl.flock(file._fd, fcntl.LOCK_UN)
            file.close()

        return unlock
