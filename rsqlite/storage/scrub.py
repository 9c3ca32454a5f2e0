"""Records that are on the disk, read again piece by piece while others are appended.

A segment is whole up to its end: the one that is written as far as the durable mark says, another
one as far as the header of the next says, which holds the chain value of its last record. What is
behind is free. Nothing that is read here is ever written again, so no lock is needed.
"""

from __future__ import annotations

from typing import NamedTuple

from rsqlite.ports import Disk
from rsqlite.storage.hardstate import Mark
from rsqlite.storage.segment import PAGE_BYTES, Run, ScanEnd, decode_header, scan_records


class RecordsRead(NamedTuple):
    """What one read came to: how many bytes it read, where it ended, whether that was the end of
    the segment, and what is wrong there, with its place in the file, if anything is."""

    size: int
    place: ScanEnd | None
    is_end: bool
    problem: str = ""


def read_records(
    disk: Disk,
    path: str,
    end: Mark | str,
    place: ScanEnd | None,
    bytes_max: int,
) -> RecordsRead:
    """Verify about so many bytes of a segment from `place` on, one record at least. `end` is how
    far it is on the disk, or the path of the next segment. In a thread."""
    try:
        file = disk.open(path, writable=False)
    except FileNotFoundError:
        return RecordsRead(0, None, True, f"{path} is missing")
    last = 0

    def visit(run: Run) -> None:
        nonlocal last
        last = run.first_index + len(run.offsets) - 1

    try:
        header = decode_header(file.pread(PAGE_BYTES, 0))
        if isinstance(header, str):
            return RecordsRead(PAGE_BYTES, None, True, f"{path} at byte 0: {header}")
        begin = place or ScanEnd(PAGE_BYTES, header.checksum)
        stop = begin.offset + max(1, bytes_max)
        if isinstance(end, Mark):
            stop = min(stop, end.offset)
        found = scan_records(file, header, visit, begin=begin, stop=stop)
    finally:
        file.close()
    size = PAGE_BYTES + found.offset - begin.offset
    if isinstance(end, Mark):
        is_end = found.offset >= end.offset
        is_sound = found.chain == end.chain if is_end else found.offset >= stop
    else:
        is_end = found.offset < stop
        is_sound = not is_end or found.chain == _chain_before(disk, end, found.chain)
    if is_sound:
        return RecordsRead(size, found, is_end)
    where = f"the record after that of entry {last}" if last else "a record"
    return RecordsRead(size, found, True, f"{path} at byte {found.offset}: {where} is unreadable")


def _chain_before(disk: Disk, path: str, found: int) -> int:
    """The chain value that the header of a segment names for the one before. If it cannot be read
    that is for its own segment to tell: then what was `found` may stand."""
    try:
        file = disk.open(path, writable=False)
    except FileNotFoundError:
        return found
    try:
        header = decode_header(file.pread(PAGE_BYTES, 0))
    finally:
        file.close()
    return found if isinstance(header, str) else header.previous_chain
