"""The pages of a stopped database, looked at without SQLite: which of them fail their checksum.

Of a damaged page SQLite says no more than "disk I/O error". Here every page of the file is
verified, also those that no table uses at the moment, but for those that have a newer version in
the WAL: the one in the file is no longer read, and may be torn by a checkpoint that a crash ended.
What is in the WAL has checksums of its own, and ends for SQLite where they do (fileformat2.html 4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import apsw

from rsqlite.statemachine.livepages import LOCK_BYTE
from rsqlite.statemachine.opening import PAGE_BYTES
from rsqlite.statemachine.vfs import RESERVED_BYTES, load_checksum_vfs

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_WAL_HEADER = struct.Struct(">8I")
_WAL_MAGIC = 0x377F0682
"""The lowest bit says in which byte order the WAL's own checksums are computed."""
_FRAME = struct.Struct(">6I")


@dataclass(slots=True)
class WalImage:
    """What is committed in a WAL: where each page's newest version begins, and how many pages the
    database then has (0: nothing is committed)."""

    offsets: dict[int, int] = field(default_factory=dict)
    page_count: int = 0


def damaged_pages(path: str) -> Iterator[str]:
    """What is wrong with the pages of the database at `path`, in words that name file, page and
    byte. OSError when a file cannot be opened."""
    wal_path = f"{path}-wal"
    image, header = WalImage(), b""
    if os.path.exists(wal_path):
        with open(wal_path, "rb", buffering=0) as wal:
            image = read_wal(wal.fileno())
            if 1 in image.offsets:
                header = os.pread(wal.fileno(), _HEADER_BYTES, image.offsets[1])
    with open(path, "rb", buffering=0) as file:
        header = header or os.pread(file.fileno(), _HEADER_BYTES, 0)
        for problem in _damaged_pages(file.fileno(), header, image):
            yield f"{path}: {problem}"


def read_wal(descriptor: int) -> WalImage:
    """The committed part of a WAL, as SQLite's recovery finds it: up to the last commit before
    the first frame that is not of this WAL."""
    image = WalImage()
    head = os.pread(descriptor, _WAL_HEADER.size, 0)
    if len(head) < _WAL_HEADER.size:
        return image
    magic, _, page_bytes, _, *salts, first, second = _WAL_HEADER.unpack(head)
    order = ">" if magic & 1 else "<"
    sums = _checksum(head[:24], (0, 0), order)
    if magic & ~1 != _WAL_MAGIC or sums != (first, second) or not _is_page_size(page_bytes):
        return image
    pending: dict[int, int] = {}
    offset = _WAL_HEADER.size
    while True:
        frame = os.pread(descriptor, _FRAME.size + page_bytes, offset)
        if len(frame) < _FRAME.size + page_bytes:
            return image
        page, count, *found, first, second = _FRAME.unpack_from(frame)
        sums = _checksum(frame[_FRAME.size :], _checksum(frame[:8], sums, order), order)
        if found != salts or sums != (first, second):
            return image
        pending[page] = offset + _FRAME.size
        offset += len(frame)
        if count:
            image.offsets |= pending
            image.page_count = count
            pending = {}


def _damaged_pages(descriptor: int, header: bytes, image: WalImage) -> Iterator[str]:
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        yield "page 1 (at byte 0) does not begin as one of SQLite's"
        return
    if header[20] != RESERVED_BYTES:
        yield "pages have no room for checksums"
        return
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    if not _is_page_size(page_bytes):
        page_bytes = PAGE_BYTES  # page 1 is damaged, and fails below
    size = os.fstat(descriptor).st_size
    count = image.page_count or int.from_bytes(header[28:32], "big")
    if not image.page_count and size < count * page_bytes:
        yield f"it ends at byte {size}, in page {size // page_bytes + 1} of {count}"
    verifier = apsw.Connection(":memory:", vfs=load_checksum_vfs())
    try:
        for page in range(1, min(count, size // page_bytes) + 1):
            offset = (page - 1) * page_bytes
            if page not in image.offsets and offset != LOCK_BYTE:
                problem = _problem(verifier, descriptor, page_bytes, offset)
                if problem:
                    yield f"page {page} (at byte {offset}) {problem}"
    finally:
        verifier.close()


def _problem(verifier: apsw.Connection, descriptor: int, page_bytes: int, offset: int) -> str:
    """Why the page cannot be used, or nothing."""
    try:
        content = os.pread(descriptor, page_bytes, offset)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    rows = verifier.execute("SELECT verify_checksum(?)", (content,)).fetchall()
    return "" if rows == [(1,)] else "fails its checksum"


def _is_page_size(count: int) -> bool:
    return 512 <= count <= 65_536 and count & (count - 1) == 0


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """The WAL's running checksum over `data`, whose length is a multiple of eight."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
