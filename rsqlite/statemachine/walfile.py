"""SQLite's WAL as bytes (fileformat2.html 4), for who looks at it without SQLite.

A header of 32 bytes, then frames: a header of 24 bytes and a page. The salts in the header change
whenever the WAL begins anew, and stand in each of its frames; the checksum of a frame is of all
before it. What is committed ends at the last frame that commits before the first that fails.

What an earlier process has left is written again and synced before SQLite opens it (`renew_wal`).
After a sync that failed the kernel may call pages clean that never reached the disk (ATC'20); a new
process finds them in memory, and its next sync succeeds. A checkpoint would then bring pages into
the database file of which the disk has no WAL, and a loss of power in the midst of it would leave a
mixture. Written again, they are really there. The log does so with its end (`storage/opening.py`).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

from rsqlite.errors import disk_fault

HEADER = struct.Struct(">8I")
HEADER_BYTES = HEADER.size
SALTS = slice(16, 24)
"""Where they stand in the header."""
FRAME = struct.Struct(">6I")
FRAME_HEADER_BYTES = FRAME.size
FRAME_SALTS = slice(8, 16)
"""Where they stand in the header of a frame."""

ZEROS_AT_A_TIME = 1 << 18
FRAMES_AT_A_TIME = 256
"""Written again at a time."""

_MAGIC = 0x377F0682
"""The lowest bit says in which byte order the checksums are computed."""


@dataclass(slots=True)
class WalImage:
    """What is committed in a WAL: where each page's newest version begins, and how many pages the
    database then has (0: nothing is committed)."""

    offsets: dict[int, int] = field(default_factory=dict)
    page_count: int = 0


def is_page_size(count: int) -> bool:
    """Whether SQLite has pages of so many bytes."""
    return 512 <= count <= 65_536 and count & (count - 1) == 0


def frame_bytes(page_bytes: int) -> int:
    """What a page takes in the WAL."""
    return FRAME_HEADER_BYTES + page_bytes


def name_in(header: bytes) -> str:
    """The salts, which tell one WAL from the next."""
    return header[SALTS].hex()


def is_header_sound(header: bytes) -> bool:
    """Whether SQLite would believe it."""
    if len(header) < HEADER_BYTES:
        return False
    magic, _, page_bytes, _, _, _, *sums = HEADER.unpack_from(header)
    order = ">" if magic & 1 else "<"
    is_wal = magic & ~1 == _MAGIC and is_page_size(page_bytes)
    return is_wal and _checksum(header[:24], (0, 0), order) == tuple(sums)


def read_wal(descriptor: int) -> WalImage:
    """The committed part of a WAL, as SQLite's recovery finds it."""
    image = WalImage()
    head = os.pread(descriptor, HEADER_BYTES, 0)
    if not is_header_sound(head):
        return image
    magic, _, page_bytes, _, *salts, first, second = HEADER.unpack(head)
    order, sums = ">" if magic & 1 else "<", (first, second)
    pending: dict[int, int] = {}
    offset = HEADER_BYTES
    while True:
        frame = os.pread(descriptor, frame_bytes(page_bytes), offset)
        if len(frame) < frame_bytes(page_bytes):
            return image
        page, count, *found, first, second = FRAME.unpack_from(frame)
        sums = _checksum(frame[FRAME_HEADER_BYTES:], _checksum(frame[:8], sums, order), order)
        if found != salts or sums != (first, second):
            return image
        pending[page] = offset + FRAME_HEADER_BYTES
        offset += len(frame)
        if count:
            image.offsets |= pending
            image.page_count = count
            pending = {}


def is_unwritten(path: str) -> bool:
    """Whether nothing was ever written to the WAL at `path`, which nobody has open: it is not
    there, or has no header, or is room that was set apart. DiskFault when it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < HEADER_BYTES:
                return True
            while part := file.read(ZEROS_AT_A_TIME):
                if part.count(0) < len(part):
                    return False
    except FileNotFoundError:
        return True
    except OSError as error:
        raise disk_fault(f"cannot read {path}: {error}", error) from error
    return True


def renew_wal(database: str) -> None:
    """Write the WAL of a database that nobody has open again, and sync it. A clean stop has left
    none. DiskFault when the disk refuses."""
    path = f"{database}-wal"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_fault(f"cannot open {path}: {error}", error) from error
    try:
        if _write_again(descriptor):
            os.fsync(descriptor)
    except OSError as error:
        raise disk_fault(f"cannot write {path} again: {error}", error) from error
    finally:
        os.close(descriptor)


def _write_again(descriptor: int) -> bool:
    """The header, and the frames up to the first that an earlier WAL has left. Whether there is
    anything. The same bytes go to the same places, so it may end anywhere."""
    header = os.pread(descriptor, HEADER_BYTES, 0)
    if not is_header_sound(header):
        return False
    _write(descriptor, header, 0)
    size, salts = frame_bytes(HEADER.unpack(header)[2]), header[SALTS]
    offset, count = HEADER_BYTES, FRAMES_AT_A_TIME
    while count == FRAMES_AT_A_TIME:
        part = os.pread(descriptor, FRAMES_AT_A_TIME * size, offset)
        count = 0
        while part[count * size + FRAME_SALTS.start : count * size + FRAME_SALTS.stop] == salts:
            count += 1
        count = min(count, len(part) // size)
        _write(descriptor, part[: count * size], offset)
        offset += count * size
    return True


def _write(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """The running checksum over `data`, whose length is a multiple of eight."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
