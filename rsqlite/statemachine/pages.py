"""The pages of a stopped database, looked at without SQLite: which of them fail their checksum.

Of a damaged page SQLite says no more than "disk I/O error". Here every page of the file is
verified, also those that no table uses at the moment, but for those that have a newer version in
the WAL: the one in the file is no longer read, and may be torn by a checkpoint that a crash ended.
What is in the WAL has checksums of its own, and ends for SQLite where they do (fileformat2.html 4).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import apsw

from rsqlite.statemachine.livepages import LOCK_BYTE
from rsqlite.statemachine.opening import PAGE_BYTES
from rsqlite.statemachine.vfs import RESERVED_BYTES, load_checksum_vfs
from rsqlite.statemachine.walfile import WalImage, is_page_size, read_wal

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


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


def _damaged_pages(descriptor: int, header: bytes, image: WalImage) -> Iterator[str]:
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        yield "page 1 (at byte 0) does not begin as one of SQLite's"
        return
    if header[20] != RESERVED_BYTES:
        yield "pages have no room for checksums"
        return
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    if not is_page_size(page_bytes):
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
