"""The real file system as one bad day has it: a process dies in the midst of a call, the power
goes, a call fails, a volume has no room.

What a node wrote and did not sync is known, and a power loss takes it back, or some of it: the
later part, or any writes and parts of them. What SQLite writes is known as well (`frailvfs.py`);
names and whole trees that are made, moved or removed stay so.
"""

from __future__ import annotations

import enum
import errno
import os
import random
from collections import Counter
from typing import NamedTuple

from rsqlite.storage.disk import RealDisk, RealFile


class Died(BaseException):
    """The process ended in the midst of a call. Nobody catches it but whoever runs the nodes."""


class Torn(Died):
    """It had written the first half."""


SECTOR_BYTES = 512
"""What a disk writes as a whole."""


class Overwritten(NamedTuple):
    """What a write replaced: `before` was at `offset` of a file of `size` bytes. `after` is what
    was written; None: the file was made to end there."""

    offset: int
    before: bytes
    size: int
    after: bytes | None


class CrampedDisk(RealDisk):
    """The real disk, whose volumes have as much room as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.free: dict[str, int] = {}
        """By the last part of the path that is asked for: `log`, `db`."""

    def free_bytes(self, path: str) -> int:
        told = self.free.get(os.path.basename(path))
        return super().free_bytes(path) if told is None else told


class Call(enum.Enum):
    """What a node asks of its disk."""

    WRITE = "write"
    SYNC = "sync"
    NAME = "name"
    """Files and folders made and moved."""
    REMOVE = "remove"
    SIZE = "size"
    """Room set apart, or given back."""


class Fault(NamedTuple):
    """What happens in the call of number `at`, of those in `of` that begin from now on."""

    at: int
    kind: str = "die"
    """"die": the process ends, and the call is not carried out; "tear": it ends in the midst of a
    write; "fail": the call raises `number`."""
    number: int = errno.EIO
    lasts: bool = False
    """All calls after it fail as well, until `spare`."""
    of: frozenset[Call] = frozenset(Call)


class FrailDisk(CrampedDisk):
    """The disk of one node, through all its lives."""

    def __init__(self) -> None:
        super().__init__()
        self.unsynced: dict[str, list[Overwritten]] = {}
        self.is_dead = False
        """Nothing that the node does gets here any more, until `revive`."""
        self.life = 0
        """Counts them: who is left of an earlier one writes nothing."""
        self.calls: Counter[Call] = Counter()
        """All of its lives."""
        self._left = 0
        self._fault: Fault | None = None

    def inject(self, fault: Fault) -> None:
        """Let this happen, in place of what was to happen before."""
        self._left, self._fault = fault.at, fault

    def spare(self) -> None:
        """Take that back, and give room."""
        self._fault = None
        self.free.clear()

    def kill(self) -> None:
        """The process has ended. What lasts, lasts on."""
        self.is_dead = True
        if self._fault is not None and not self._fault.lasts:
            self._fault = None

    def revive(self, power: random.Random | None = None) -> int:
        """Another process begins on this disk; with `power` it had no power meanwhile. How many
        writes were taken back."""
        lost = 0
        for path, writes in self.unsynced.items():
            if power is not None and writes and os.path.exists(path):
                lost += _lose(path, writes, power)
            writes.clear()
        self.is_dead = False
        self.life += 1
        return lost

    def called(self, call: Call) -> bool:
        """A call begins: is it carried out? `Died`, `Torn` or an OSError if not."""
        if self.is_dead:
            return False
        self.calls[call] += 1
        fault = self._fault
        if fault is None or call not in fault.of:
            return True
        self._left -= 1
        if self._left > 0:
            return True
        if not fault.lasts:
            self._fault = None
        if fault.kind == "fail":
            raise OSError(fault.number, os.strerror(fault.number))
        self.is_dead = True
        raise Torn if fault.kind == "tear" and call is Call.WRITE else Died

    # ports.Disk

    @property
    def syncs_in_background(self) -> bool:
        return False

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> RealFile:
        flags = os.O_RDWR if writable else os.O_RDONLY
        return FrailFile(self, path, flags | (os.O_CREAT if create else 0))

    def rename(self, source: str, target: str) -> None:
        if self.called(Call.NAME):
            super().rename(source, target)
            for path in [path for path in self.unsynced if f"{path}/".startswith(f"{source}/")]:
                self.unsynced[target + path[len(source) :]] = self.unsynced.pop(path)

    def unlink(self, path: str) -> None:
        if self.called(Call.REMOVE):
            super().unlink(path)
            self.unsynced.pop(path, None)

    def mkdir(self, path: str) -> None:
        if self.called(Call.NAME):
            super().mkdir(path)

    def remove_tree(self, path: str) -> None:
        if self.called(Call.REMOVE):
            super().remove_tree(path)


class FrailFile(RealFile):
    """An open file of a `FrailDisk`."""

    __slots__ = ("_disk", "_life", "_unsynced")

    def __init__(self, disk: FrailDisk, path: str, flags: int) -> None:
        super().__init__(path, flags)
        self._disk = disk
        self._life = disk.life
        self._unsynced = disk.unsynced.setdefault(path, [])

    def _is_carried_out(self, call: Call) -> bool:
        """A call of the life that opened it begins: is it carried out?"""
        return self._life == self._disk.life and self._disk.called(call)

    def pwrite(self, data: bytes, offset: int) -> None:
        try:
            if self._is_carried_out(Call.WRITE):
                self._write(data, offset)
        except Torn:
            self._write(data[: len(data) // 2], offset)
            raise

    def _write(self, data: bytes, offset: int) -> None:
        self._note(offset, len(data), bytes(data))
        super().pwrite(data, offset)

    def sync(self) -> None:
        # No real one: no power is lost but the simulated.
        if self._is_carried_out(Call.SYNC):
            self._unsynced.clear()

    def allocate(self, length: int) -> None:
        if self._is_carried_out(Call.SIZE):
            self._note(max(self.size(), length), 0)
            super().allocate(length)

    def truncate(self, length: int) -> None:
        if self._is_carried_out(Call.SIZE):
            self._note(length, max(0, self.size() - length))
            super().truncate(length)

    def _note(self, offset: int, length: int, after: bytes | None = None) -> None:
        before = self.pread(length, offset)
        self._unsynced.append(Overwritten(offset, before, self.size(), after))


def _lose(path: str, writes: list[Overwritten], power: random.Random) -> int:
    """Take writes of a file back: all, or the later ones, or any, and parts of others. How many."""
    with open(path, "r+b") as file:
        for one in reversed(writes):
            file.seek(one.offset)
            file.write(one.before)
            file.truncate(one.size)
        way = power.random()
        if way < 0.5:
            return len(writes)
        kept = writes[: power.randint(0, len(writes))]
        if way > 0.75 and all(one.after is not None for one in writes):
            kept = [one for one in writes if power.random() < 0.5]
        for one in kept:
            file.seek(one.offset)
            if one.after is None:
                file.truncate(one.offset)
                continue
            sectors = len(one.after) // SECTOR_BYTES
            is_torn = one is kept[-1] and sectors and power.random() < 0.5
            file.write(
                one.after[: power.randint(0, sectors) * SECTOR_BYTES] if is_torn else one.after
            )
    return len(writes) - len(kept)


class AllIsLost(random.Random):
    """The power loss after which nothing is left of what was not synced."""

    def random(self) -> float:
        return 0.0
