"""A `Disk` in memory that can do what real ones do on a bad day.

It remembers what was written and not synced, in files and in directories, and `power_loss` takes
back all of it or, given a random generator, an arbitrary part: whole writes, some sectors of a
write and not others, the later and not the earlier. `kill` ends the process only: everything
written stays. `fail_nth_call`, `flip_bit` and `capacity` do the rest. A sync that was made to fail
loses what it should have stored although reads still show it, as kernels do (ATC'20).

Not for several threads at once; use it with `ManualLoop`.
"""

from __future__ import annotations

import errno as errno_names
import os
import random
from collections import deque
from collections.abc import Callable, Mapping

from rsqlite.ports import Loop

SECTOR_BYTES = 512
"""What a disk writes as a whole: a power loss leaves a sector old or new, never mixed."""


class _File:
    """`content` is what a reader sees, `stored` what a power loss leaves; `unsynced` lies
    between: (offset, data), or (length, None) for a truncation."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.stored = bytearray(content)
        self.unsynced: list[tuple[int, bytes | None]] = []

    def lose_power(self, chance: random.Random | None) -> None:
        if chance is not None and self.unsynced:
            self._keep_some(chance)
        self.content = bytearray(self.stored)
        self.unsynced.clear()

    def _keep_some(self, chance: random.Random) -> None:
        if chance.random() < 0.25 or any(data is None for _, data in self.unsynced):
            for offset, data in self.unsynced[: chance.randint(0, len(self.unsynced))]:
                _apply(self.stored, offset, data)
            return
        # Each sector is at one of the moments it was at in memory, whatever its neighbours are.
        versions: dict[int, list[tuple[int, bytes]]] = {}
        for offset, data in self.unsynced:
            assert data is not None
            start = offset
            while start < offset + len(data):
                sector = start // SECTOR_BYTES
                end = min((sector + 1) * SECTOR_BYTES, offset + len(data))
                versions.setdefault(sector, []).append((start, data[start - offset : end - offset]))
                start = end
        likelihood = chance.choice((0.05, 0.5, 0.95, 1.0))
        for _, pieces in sorted(versions.items()):
            kept = 0
            while kept < len(pieces) and chance.random() < likelihood:
                kept += 1
            for start, piece in pieces[:kept]:
                _apply(self.stored, start, piece)


class _Directory:
    """Names by which nodes are found; changes count after `sync_directory`."""

    def __init__(self) -> None:
        self.names: dict[str, _File | _Directory] = {}
        self.stored: dict[str, _File | _Directory] = {}
        self.unsynced: list[dict[str, _File | _Directory | None]] = []

    def change(self, **names: _File | _Directory | None) -> None:
        """Give or (None) take names, all at once."""
        self.unsynced.append(names)
        _rename(self.names, names)

    def lose_power(self, chance: random.Random | None) -> None:
        if chance is not None:
            # A journal keeps the order of such changes.
            for names in self.unsynced[: chance.randint(0, len(self.unsynced))]:
                _rename(self.stored, names)
        self.unsynced.clear()
        self.names = dict(self.stored)
        for _, node in sorted(self.names.items()):
            node.lose_power(chance)


class RamFile:
    """An open file of a `RamDisk`; dead after `kill` or `power_loss`."""

    def __init__(self, disk: RamDisk, file: _File, path: str, writable: bool) -> None:
        self._disk = disk
        self._file = file
        self._path = path
        self._writable = writable
        self._life = disk.life
        self._begun: deque[tuple[int, Callable[[BaseException | None], None]]] = deque()

    def size(self) -> int:
        return len(self._file.content)

    def pread(self, length: int, offset: int) -> bytes:
        self._call("pread")
        return bytes(memoryview(self._file.content)[offset : offset + length])

    def pwrite(self, data: bytes, offset: int) -> None:
        try:
            self._call("pwrite")
        except OSError:
            if self._disk.is_failing_short:
                self._write(data[: len(data) // 2], offset)
            raise
        room = self._disk.room
        growth = max(0, offset + len(data) - len(self._file.content))
        if growth > room:
            self._write(data[: max(0, len(data) - growth + room)], offset)
            raise _error(errno_names.ENOSPC, self._path)
        self._write(data, offset)

    def sync(self) -> None:
        self._sync(len(self._file.unsynced))

    def sync_soon(self, ended: Callable[[BaseException | None], None]) -> bool:
        loop = self._disk.loop
        if loop is None:
            return False
        self._begun.append((len(self._file.unsynced), ended))
        loop.call_soon(self.wait)
        return True

    def wait(self) -> None:
        while self._begun and self._life == self._disk.life:
            self._end_sync(*self._begun.popleft())

    def _end_sync(self, count: int, ended: Callable[[BaseException | None], None]) -> None:
        try:
            self._sync(count)
        except OSError as error:
            ended(error)
        else:
            ended(None)

    def _sync(self, count: int) -> None:
        """Store the first `count` writes that are not stored yet."""
        file = self._file
        try:
            self._call("sync")
        except OSError:
            file.unsynced.clear()
            raise
        for offset, data in file.unsynced[:count]:
            _apply(file.stored, offset, data)
        del file.unsynced[:count]

    def allocate(self, length: int) -> None:
        self._call("allocate")
        growth = length - len(self._file.content)
        if growth > self._disk.room:
            raise _error(errno_names.ENOSPC, self._path)
        if growth > 0:
            self._write(bytes(growth), length - growth)

    def truncate(self, length: int) -> None:
        self._call("truncate")
        _apply(self._file.content, length, None)
        self._file.unsynced.append((length, None))

    def close(self) -> None:
        self._life = -1

    def _write(self, data: bytes, offset: int) -> None:
        if not self._writable:
            raise _error(errno_names.EBADF, self._path)
        data = bytes(data)
        if data:
            _apply(self._file.content, offset, data)
            self._file.unsynced.append((offset, data))

    def _call(self, name: str) -> None:
        if self._life != self._disk.life:
            raise _error(errno_names.EBADF, self._path)
        self._disk.count_call(name, self._path)


class RamDisk:
    """A file system in memory. `capacity` bounds the bytes of all files together."""

    def __init__(self, *, capacity: int = 1 << 40, loop: Loop | None = None) -> None:
        self.capacity = capacity
        self.loop = loop
        """With a loop, files can sync in the background, in the next turn."""
        self.life = 0
        """Rises when the process that had files open is gone."""
        self.calls = 0
        """Calls made so far, those that failed included."""
        self.trace: list[str] | None = None
        """Set to a list, it gets every call: its name and the name of the file."""
        self.failed_call: str | None = None
        """The first call that `fail_nth_call` made to fail, in words."""
        self.is_failing_short = False
        self.volumes: set[str] = set()
        """Directories where another volume is mounted: no rename moves them, or across them."""
        self._root = _Directory()
        self._locks: set[str] = set()
        self._fail_at = 0
        self._fail_errno = 0
        self._fail_once = True

    @property
    def syncs_in_background(self) -> bool:
        return self.loop is not None

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, capacity: int = 1 << 40) -> RamDisk:
        """A disk that holds these files, all of it stored."""
        disk = cls(capacity=capacity)
        for path, content in files.items():
            parent = os.path.dirname(path)
            disk.mkdir(parent)
            directory = disk._directory(parent)
            directory.names[os.path.basename(path)] = _File(content)
        disk._store_names(disk._root)
        return disk

    # What goes wrong

    def fail_nth_call(self, n: int, number: int, *, once: bool = True, short: bool = False) -> None:
        """The n-th call from now (1: the next) raises `OSError(number)`; not `once`: it and all
        after it. `short` lets half of a failing write through."""
        self._fail_at = self.calls + n
        self._fail_errno = number
        self._fail_once = once
        self.is_failing_short = short
        self.failed_call = None

    def stop_failing(self) -> None:
        """The disk is well again."""
        self._fail_at = 0

    def kill(self) -> None:
        """The process ends: open files and locks are gone, everything written stays."""
        self.life += 1
        self._locks.clear()

    def power_loss(self, keep: random.Random | None = None) -> None:
        """The machine ends: what was not synced is lost, or with `keep` some of it stays."""
        self.kill()
        self._root.lose_power(keep)

    def flip_bit(self, path: str, bit: int) -> None:
        """Change one bit of what is stored, unnoticed."""
        file = self._file(path)
        for content in (file.content, file.stored):
            content[bit // 8] ^= 1 << bit % 8

    def files(self) -> dict[str, bytes]:
        """Everything that a reader would see, by path."""
        found: dict[str, bytes] = {}
        waiting: list[tuple[str, _Directory]] = [("", self._root)]
        while waiting:
            path, directory = waiting.pop()
            for name, node in directory.names.items():
                if isinstance(node, _Directory):
                    waiting.append((f"{path}/{name}", node))
                else:
                    found[f"{path}/{name}"] = bytes(node.content)
        return dict(sorted(found.items()))

    def count_call(self, name: str, path: str) -> None:
        """Count a call, and let it fail if its turn has come."""
        self.calls += 1
        if self.trace is not None:
            self.trace.append(f"{name} {os.path.basename(path)}")
        if not self._fail_at:
            return
        is_due = self.calls == self._fail_at if self._fail_once else self.calls >= self._fail_at
        if is_due:
            self.failed_call = self.failed_call or f"{name} {path}"
            raise _error(self._fail_errno, path)

    @property
    def room(self) -> int:
        """Bytes until the disk is full."""
        return max(0, self.capacity - _size(self._root))

    # The port

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> RamFile:
        self.count_call("open", path)
        parent, name = os.path.split(path)
        directory = self._directory(parent)
        node = directory.names.get(name)
        if node is None:
            if not create:
                raise _error(errno_names.ENOENT, path)
            node = _File()
            directory.change(**{name: node})
        if isinstance(node, _Directory):
            raise _error(errno_names.EISDIR, path)
        return RamFile(self, node, path, writable)

    def exists(self, path: str) -> bool:
        try:
            parent, name = os.path.split(path)
            return name == "" or name in self._directory(parent).names
        except OSError:
            return False

    def listdir(self, path: str) -> list[str]:
        self.count_call("listdir", path)
        return sorted(self._directory(path).names)

    def mkdir(self, path: str) -> None:
        self.count_call("mkdir", path)
        directory = self._root
        for name in _names(path):
            node = directory.names.get(name)
            if node is None:
                node = _Directory()
                directory.change(**{name: node})
            if isinstance(node, _File):
                raise _error(errno_names.ENOTDIR, path)
            directory = node

    def rename(self, source: str, target: str) -> None:
        self.count_call("rename", source)
        if source in self.volumes:
            raise _error(errno_names.EBUSY, source)
        if self.volume(os.path.dirname(source)) != self.volume(os.path.dirname(target)):
            raise _error(errno_names.EXDEV, source)
        source_parent, source_name = os.path.split(source)
        target_parent, target_name = os.path.split(target)
        directory = self._directory(source_parent)
        if source_name not in directory.names:
            raise _error(errno_names.ENOENT, source)
        node = directory.names[source_name]
        if source_parent != target_parent:
            self._directory(target_parent).change(**{target_name: node})
            directory.change(**{source_name: None})
        elif source_name != target_name:
            directory.change(**{source_name: None, target_name: node})

    def unlink(self, path: str) -> None:
        self.count_call("unlink", path)
        self._file(path)
        self._directory(os.path.dirname(path)).change(**{os.path.basename(path): None})

    def remove_tree(self, path: str) -> None:
        self.count_call("remove_tree", path)
        self._directory(path)
        self._directory(os.path.dirname(path)).change(**{os.path.basename(path): None})

    def sync_directory(self, path: str) -> None:
        self.count_call("sync_directory", path)
        directory = self._directory(path)
        directory.stored = dict(directory.names)
        directory.unsynced.clear()

    def free_bytes(self, path: str) -> int:
        return self.room

    def volume(self, path: str) -> str:
        above = [one for one in self.volumes if f"{path}/".startswith(f"{one}/")]
        return max(above, key=len, default="")

    def lock(self, path: str) -> Callable[[], None]:
        if path in self._locks:
            raise BlockingIOError(errno_names.EWOULDBLOCK, "locked", path)
        self.open(path, create=True).pwrite(b"1\n", 0)
        self._locks.add(path)
        life = self.life

        def unlock() -> None:
            if life == self.life:
                self._locks.discard(path)

        return unlock

    def _directory(self, path: str) -> _Directory:
        directory = self._root
        for name in _names(path):
            node = directory.names.get(name)
            if node is None:
                raise _error(errno_names.ENOENT, path)
            if isinstance(node, _File):
                raise _error(errno_names.ENOTDIR, path)
            directory = node
        return directory

    def _file(self, path: str) -> _File:
        parent, name = os.path.split(path)
        node = self._directory(parent).names.get(name)
        if not isinstance(node, _File):
            raise _error(errno_names.ENOENT, path)
        return node

    def _store_names(self, directory: _Directory) -> None:
        directory.stored = dict(directory.names)
        directory.unsynced.clear()
        for node in directory.names.values():
            if isinstance(node, _Directory):
                self._store_names(node)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    """Change a file as a write, or (None) a truncation to `offset`, does."""
    end = offset if data is None else offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[end:]
    else:
        content[offset:end] = data


def _rename(
    names: dict[str, _File | _Directory], changes: Mapping[str, _File | _Directory | None]
) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _size(directory: _Directory) -> int:
    """Bytes of all files below."""
    return sum(
        len(node.content) if isinstance(node, _File) else _size(node)
        for node in directory.names.values()
    )


def _names(path: str) -> list[str]:
    if not path.startswith("/"):
        raise ValueError(f"not an absolute path: {path!r}")
    return [name for name in path.split("/") if name]


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
