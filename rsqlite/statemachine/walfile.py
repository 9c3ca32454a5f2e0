"""SQLite's WAL as bytes (fileformat2.html 4), for who looks at it without SQLite.

A header of 32 bytes, then frames: a header of 24 bytes and a page. The salts in the header change
whenever the WAL begins anew, and stand in each of its frames; the checksum of a frame is of all
before it. What is committed ends at the last frame that commits before the first that fails.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

HEADER = struct.Struct(">8I")
HEADER_BYTES = HEADER.size
SALTS = slice(16, 24)
"""Where they stand in the header."""
FRAME = struct.Struct(">6I")
FRAME_HEADER_BYTES = FRAME.size
FRAME_SALTS = slice(8, 16)
"""Where they stand in the header of a frame."""

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


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """The running checksum over `data`, whose length is a multiple of eight."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
