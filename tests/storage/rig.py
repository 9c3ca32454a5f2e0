"""A log on a disk in memory, with a model of what it must hold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rsqlite.config import Settings
from rsqlite.raft.types import Entry, EntryKind, HardState, Index, NodeId, Term
from rsqlite.storage.logstore import LogStore
from rsqlite.testing.disk import RamDisk
from rsqlite.testing.loop import ManualLoop

DIRECTORY = "/data/log"
NODE_ID = 7


def small_settings(**changes: object) -> Settings:
    """Sizes at which a few entries fill a segment and every bound is soon met."""
    values: dict[str, object] = {
        "segment_bytes": 4096 + 1024,
        "log_prepare_step_bytes": 512,
        "log_prepare_bytes_max": 1024,
        "log_cache_bytes_max": 0,
        "log_readers_max": 2,
        "disk_reserve_bytes": 0,
    }
    return Settings(**(values | changes))  # type: ignore[arg-type]


def entry(index: int, term: int = 1, data: bytes | None = None, kind: int = 1) -> Entry:
    payload = b"entry %d of term %d" % (index, term) if data is None else data
    return Entry(Term(term), Index(index), EntryKind(kind), payload)


def entries(low: int, high: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(entry(index, term) for index in range(low, high))


class Rig:
    """One node's log through starts and crashes. `answers` holds what each append was told."""

    def __init__(self, disk: RamDisk | None = None, **changes: object) -> None:
        if disk is None:
            disk = RamDisk()
            disk.mkdir("/data")
            disk.sync_directory("/")
        self.disk = disk
        self.loop = ManualLoop()
        self.settings = small_settings(**changes)
        self.answers: list[tuple[int, BaseException | None]] = []
        self._numbers = itertools.count()

    def open(self, held: int = 0) -> LogStore:
        """`held`: up to which entry the database has everything."""
        self.log = LogStore.open(
            DIRECTORY,
            disk=self.disk,
            loop=self.loop,
            settings=self.settings,
            node_id=NODE_ID,
            held=lambda: Index(held),
        )
        return self.log

    def submit(
        self,
        new: Sequence[Entry] = (),
        *,
        truncate_from: int | None = None,
        term: int | None = None,
        voted_for: int | None = None,
    ) -> int:
        """Give a change to the log; its number in `answers`."""
        number = next(self._numbers)
        vote = None if voted_for is None else NodeId(voted_for)
        self.log.append(
            truncate_from=None if truncate_from is None else Index(truncate_from),
            entries=tuple(new),
            hard_state=None if term is None else HardState(Term(term), vote),
            done=lambda error: self.answers.append((number, error)),
        )
        return number

    def append(
        self,
        new: Sequence[Entry] = (),
        *,
        truncate_from: int | None = None,
        term: int | None = None,
        voted_for: int | None = None,
    ) -> None:
        """Change the log; durable when this returns."""
        number = self.submit(new, truncate_from=truncate_from, term=term, voted_for=voted_for)
        self.loop.run()
        assert self.answers[-1] == (number, None)

    def content(self) -> list[Entry]:
        """Every entry of the log, read back."""
        log = self.log
        return log.entries(log.first_index, Index(log.last_index + 1), 1 << 30)

    def kill(self) -> None:
        """The process ends without a word."""
        self.disk.kill()
        self.loop = ManualLoop()

    def reopen(self) -> LogStore:
        """Kill the process and start it again."""
        self.kill()
        return self.open()
