"""Where a bit of a stopped node may flip, and what that bit means.

Every byte of every file belongs to a kind. Of some kinds it can be proved from the files themselves
that no program reads them: their `idle` says why. Everything else must be noticed.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rsqlite.statemachine.schema import find_current_database
from rsqlite.statemachine.walfile import HEADER_BYTES, frame_bytes, read_wal
from rsqlite.storage import hardstate
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.identity import decode_identity
from rsqlite.storage.record import HEADER_BYTES as RECORD_HEADER_BYTES
from rsqlite.storage.record import record_bytes
from rsqlite.storage.segment import (
    BODY,
    PAGE_BYTES,
    Run,
    SegmentHeader,
    decode_header,
    scan_records,
    sequence_of,
)

SQLITE_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """A bit, what it belongs to, and why it is of no meaning; empty: it has one."""

    path: Path
    offset: int
    bit: int
    kind: str
    idle: str = ""

    def __str__(self) -> str:
        return f"{self.path} at byte {self.offset}, bit {self.bit} ({self.kind})"

    def flip(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            (byte,) = os.pread(descriptor, 1, self.offset)
            os.pwrite(descriptor, bytes([byte ^ 1 << self.bit]), self.offset)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes [start, end) of a file that are of one kind."""

    path: Path
    start: int
    end: int
    kind: str
    idle: str = ""


def choose(directory: Path, chance: random.Random) -> Place:
    """A random bit of a random file: first a kind, then a place of that kind, so that a few bytes
    that matter much come as often as the many of the database."""
    kinds: dict[str, list[Range]] = {}
    for one in ranges(directory):
        if one.end > one.start:
            kinds.setdefault(one.kind, []).append(one)
    found = chance.choice(kinds[chance.choice(sorted(kinds))])
    offset, bit = chance.randrange(found.start, found.end), chance.randrange(8)
    idle = found.idle or _white_space(found, offset, bit)
    return Place(found.path, offset, bit, found.kind, idle)


def ranges(directory: Path) -> Iterator[Range]:
    """All bytes of all files of a stopped node."""
    database = Path(find_current_database(str(directory / "db")))
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield from _ranges_of(path, path.relative_to(directory), database)


def _ranges_of(path: Path, name: Path, database: Path) -> Iterator[Range]:
    size = path.stat().st_size
    whole: dict[str, tuple[str, str]] = {
        "lock": ("lock", "says to people who has the directory"),
        "identity.json": ("identity", ""),
        "configuration.json": ("configuration", ""),
        "db/CURRENT": ("CURRENT", ""),
    }
    unread = {
        "quarantine": "was set aside",
        "images": "removed at the start",
        "incoming": "verified when it is gone on with",
        "ballast": "holds room",
    }
    if str(name) in whole:
        kind, idle = whole[str(name)]
        yield Range(path, 0, size, kind, idle)
    elif name.parts[0] in unread:
        yield Range(path, 0, size, name.parts[0], unread[name.parts[0]])
    elif name.parts[0] == "log":
        yield from _log_ranges(path)
    elif path == database:
        yield from _page_ranges(path)
    elif path == Path(f"{database}-wal"):
        yield from _wal_ranges(path)
    elif path == Path(f"{database}-shm"):
        yield Range(path, 0, size, "-shm", "made anew at the start")
    elif path.parent == database.parent and path.name == "installed":
        yield Range(path, 0, size, "installed")
    elif path.parent == database.parent and path.name == "backfill":
        wal = Path(f"{database}-wal")
        is_used = wal.exists() and wal.stat().st_size >= HEADER_BYTES
        yield Range(path, 0, size, "backfill", "" if is_used else "there is no WAL")
    elif path.name == "main.db-wal.damaged":
        yield Range(path, 0, size, "WAL set aside", "was set aside")
    else:
        raise AssertionError(f"what is {path}?")


# The log


def _log_ranges(path: Path) -> Iterator[Range]:
    if path.name == hardstate.NAME:
        yield from _hard_state_ranges(path)
        return
    sequence = sequence_of(path.name)
    assert sequence is not None, path
    file = RealDisk().open(str(path), writable=False)
    try:
        size = file.size()
        header = decode_header(file.pread(PAGE_BYTES, 0))
        if not isinstance(header, SegmentHeader):
            yield Range(path, 0, size, "prepared segment", "nothing was ever written there")
            return
        yield Range(path, 0, BODY.size + 4, "segment header")
        yield Range(path, BODY.size + 4, PAGE_BYTES, "segment padding", "behind the header")
        records: list[tuple[int, int, int]] = []

        def visit(run: Run) -> None:
            for offset in run.offsets:
                length = int.from_bytes(file.pread(4, offset), "little")
                end = offset + record_bytes(length)
                records.append((offset, offset + RECORD_HEADER_BYTES + length, end))

        scanned = scan_records(file, header, visit)
    finally:
        file.close()
    mark = _durable_mark(path.with_name(hardstate.NAME))
    synced = mark.offset if mark.segment == sequence else scanned.offset
    for offset, payload_end, end in records:
        if offset >= synced:
            # The process ended before this was known to be on the disk, so it promised nothing.
            yield Range(path, offset, end, "record behind the mark", "was perhaps never synced")
            continue
        kind = "newest record" if mark.segment == sequence and end == synced else "record"
        yield Range(path, offset, offset + RECORD_HEADER_BYTES, f"{kind} header")
        yield Range(path, offset + RECORD_HEADER_BYTES, payload_end, f"{kind} body")
        yield Range(path, payload_end, end, "record padding", "fills up to eight bytes")
    yield Range(path, scanned.offset, size, "log free space", "behind the last record")


def _durable_mark(path: Path) -> hardstate.Mark:
    file = RealDisk().open(str(path), writable=False)
    try:
        return hardstate.read_hard_state(str(path), file).mark
    finally:
        file.close()


def _hard_state_ranges(path: Path) -> Iterator[Range]:
    used = {n: hardstate.SLOT.size + 4 for n in range(4)} | {
        n: hardstate.MARK.size + 4 for n in (4, 5)
    }
    for page, length in used.items():
        start = page * hardstate.PAGE_BYTES
        kind = "hard state" if page < 4 else "durable mark"
        yield Range(path, start, start + length, kind)
        end = start + hardstate.PAGE_BYTES
        yield Range(path, start + length, end, "hard state padding", "behind a slot")


# The database


def _page_ranges(path: Path) -> Iterator[Range]:
    wal = Path(f"{path}-wal")
    newer: set[int] = set()
    if wal.exists():
        with wal.open("rb") as file:
            newer = set(read_wal(file.fileno()).offsets)
    for number in range(path.stat().st_size // SQLITE_PAGE):
        start, page = number * SQLITE_PAGE, number + 1
        if page in newer:
            # The magic and byte 20 are looked at whatever the WAL holds.
            begin = start
            if page == 1:
                yield Range(path, 0, 16, "database header")
                yield Range(path, 20, 21, "database header")
                begin = 24
            end = start + SQLITE_PAGE
            yield Range(path, begin, end, "page newer in the WAL", "newer in the WAL")
        elif page == 1:
            yield Range(path, 0, 100, "database header")
            yield Range(path, 100, SQLITE_PAGE, "page")
        else:
            yield Range(path, start, start + SQLITE_PAGE, "page")


def _wal_ranges(path: Path) -> Iterator[Range]:
    size = path.stat().st_size
    committed = HEADER_BYTES
    with path.open("rb") as file:
        image = read_wal(file.fileno())
        if image.offsets:
            committed = max(image.offsets.values()) + SQLITE_PAGE
    step = frame_bytes(SQLITE_PAGE)
    if committed == HEADER_BYTES:
        yield Range(path, 0, size, "WAL free space", "nothing is committed in it")
        return
    yield Range(path, 0, HEADER_BYTES, "WAL header")
    for start in range(HEADER_BYTES, committed, step):
        yield Range(path, start, start + step - SQLITE_PAGE, "WAL frame header")
        yield Range(path, start + step - SQLITE_PAGE, start + step, "WAL frame")
    yield Range(path, committed, size, "WAL free space", "behind the last commit")


# Text in which not every byte counts


def _white_space(one: Range, offset: int, bit: int) -> str:
    """Why a flip in JSON changes nothing of what it says; empty: it does."""
    readers: dict[str, Callable[[bytes], object]] = {
        "identity": lambda data: decode_identity(data, "x"),
        "configuration": json.loads,
    }
    if one.kind not in readers:
        return ""
    data = bytearray(one.path.read_bytes())
    before = readers[one.kind](bytes(data))
    data[offset] ^= 1 << bit
    try:
        return "white space" if readers[one.kind](bytes(data)) == before else ""
    except Exception:  # noqa: BLE001 - whatever it raises, it is noticed
        return ""
