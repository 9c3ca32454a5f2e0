"""Opening a log: refuse what is damaged, mend what a crash may leave, begin a new one.

Order matters, for a crash may come at each step. First the files are read and judged; only a log
without damage is touched, or without what is damaged in it if the database has all of that. Then:

1. names are synced: the file whose creation failed last time may be there in memory only;
2. the hard state is written again under the next generation, and synced;
3. the remains of a torn write are overwritten with zeros, and synced;
4. what is past the durable mark is written again with the bytes just read, and synced. After a
   failed sync the kernel may call pages clean that never reached the disk, so a new process reads
   bytes that a power loss would take back (ATC'20); written again, they are really there;
5. the mark is moved to the end of the log;
6. segments that do not belong to the log any more are removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from rsqlite.config import Settings
from rsqlite.errors import DamagedFile, ForeignDirectory
from rsqlite.ports import Disk, DiskFile
from rsqlite.raft.types import HardState, Index
from rsqlite.storage import hardstate
from rsqlite.storage.directory import make_directory
from rsqlite.storage.finding import Finding
from rsqlite.storage.hardstate import HardStateContent, HardStateFile
from rsqlite.storage.index import PlaceTable, TermRuns
from rsqlite.storage.recovery import LogImage, examine_behind, examine_log
from rsqlite.storage.segment import (
    PAGE_BYTES,
    WINDOW_BYTES,
    ScanEnd,
    SegmentHeader,
    encode_header,
    segment_name,
    sequence_of,
)
from rsqlite.storage.writer import LogWriter


class OpenedLog(NamedTuple):
    """A log that is ready to be written; everything in it is durable."""

    terms: TermRuns
    places: PlaceTable
    hard_state: HardState
    writer: LogWriter
    findings: tuple[Finding, ...]
    left_behind: tuple[Finding, ...]
    """What was damaged, and is no part of the log any more."""


def open_log(
    directory: str, disk: Disk, settings: Settings, node_id: int, held: Callable[[], Index]
) -> OpenedLog:
    """Read, judge and mend the log in `directory`; begin one if there is none. `held` is asked if
    something is damaged: up to which entry the database has everything for good."""
    _begin(directory, disk, node_id)
    image, left_behind = _examine(directory, disk, held)
    assert image.hard is not None
    assert image.hard.slot is not None
    slot = image.hard.slot
    if slot.node_id != node_id:
        raise ForeignDirectory(
            f"the log in {directory} belongs to node {slot.node_id}, not to {node_id};"
            " directories of two nodes were mixed up: put each back in its place"
        )
    file = disk.open(os.path.join(directory, hardstate.NAME))
    hard = HardStateFile(file, slot, image.hard.mark_serial)
    try:
        hard.write(slot.state, generation=slot.generation + 1)
        if image.tail is None:
            _create_first(directory, disk, settings, hard, image)
        else:
            _mend(directory, disk, image, image.hard)
        assert image.tail is not None
        last_term = image.terms.last_term
        writer = LogWriter(
            directory,
            disk,
            settings,
            hard,
            image.tail,
            image.tail_end,
            image.terms.last_index,
            last_term,
        )
        hard.write_mark(writer.mark)
        hard.sync()
        first = next(iter(image.verified), image.tail.sequence)
        if first != hard.slot.first_segment:
            hard.write(slot.state, first_segment=first)
        names = [segment_name(n) for n in _sequences(directory, disk) if n < first]
        for name in names:
            disk.unlink(os.path.join(directory, name))
        if names:
            disk.sync_directory(directory)
    except BaseException:
        file.close()
        raise
    findings = tuple(image.findings)
    return OpenedLog(image.terms, image.places, slot.state, writer, findings, left_behind)


def _examine(
    directory: str, disk: Disk, held: Callable[[], Index]
) -> tuple[LogImage, tuple[Finding, ...]]:
    """What the log holds, and what is to be left behind: damage that is wholly within what the
    database has is not needed here, as if a checkpoint had let it be cut."""
    image = examine_log(directory, disk)
    damage = image.damage
    if damage is None:
        return image, ()
    behind = examine_behind(directory, disk, image)
    if behind is None or behind.terms.first_index - 1 > held():
        raise DamagedFile(str(damage))
    return behind, (damage,)


def _sequences(directory: str, disk: Disk) -> list[int]:
    return sorted(n for n in map(sequence_of, disk.listdir(directory)) if n is not None)


def _begin(directory: str, disk: Disk, node_id: int) -> None:
    """Make a directory and a hard state, if there is nothing that could be a log."""
    make_directory(directory, disk)
    for path in (os.path.dirname(directory), directory):
        disk.sync_directory(path)
    names = disk.listdir(directory)
    if hardstate.NEW_NAME in names:
        # A crash before the rename: the file never counted.
        disk.unlink(os.path.join(directory, hardstate.NEW_NAME))
    if hardstate.NAME not in names and not any(sequence_of(name) for name in names):
        HardStateFile.create(directory, disk, node_id)


def _create_first(
    directory: str, disk: Disk, settings: Settings, hard: HardStateFile, image: LogImage
) -> None:
    slot = hard.slot
    page, header = encode_header(
        SegmentHeader(
            sequence=slot.first_segment,
            generation=slot.generation,
            node_id=slot.node_id,
            first_index=1,
            previous_term=0,
            capacity=settings.segment_bytes,
            previous_chain=0,
        )
    )
    file = disk.open(os.path.join(directory, segment_name(header.sequence)), create=True)
    try:
        file.pwrite(page, 0)
        file.sync()
    finally:
        file.close()
    disk.sync_directory(directory)
    image.places.open_segment(header.sequence)
    image.tail = header
    image.tail_end = ScanEnd(PAGE_BYTES, header.checksum)


def _mend(directory: str, disk: Disk, image: LogImage, content: HardStateContent) -> None:
    """Cut a torn tail; make sure that the rest is on the disk and not only in the cache."""
    assert image.tail is not None
    end = image.tail_end.offset
    mark = content.mark
    start = mark.offset if mark.segment == image.tail.sequence else 0
    file = disk.open(os.path.join(directory, segment_name(image.tail.sequence)))
    try:
        _overwrite_with_zeros(file, end, image.torn_end)
        for offset in range(start, end, WINDOW_BYTES):
            file.pwrite(file.pread(min(WINDOW_BYTES, end - offset), offset), offset)
        file.sync()
    finally:
        file.close()


def _overwrite_with_zeros(file: DiskFile, start: int, end: int) -> None:
    for offset in range(start, end, WINDOW_BYTES):
        file.pwrite(bytes(min(WINDOW_BYTES, end - offset)), offset)
