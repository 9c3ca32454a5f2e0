"""The pages of a database in use, read from its file beside those that write: which of them fail
their checksum.

SQLite verifies the pages that it reads; these are the others. A page that looks wrong may be none:

- a checkpoint may be writing it at this moment. So it is read again within a read transaction:
  until that ends, no checkpoint brings a page into the file that this transaction would not read
  from the WAL anyway;
- it may be newer in the WAL, in a frame that no checkpoint has brought into the file. Nobody reads
  it from the file then, a crash may have left it torn there, and the next checkpoint writes it.

What is left is damage, also in a page that no table uses. A page of zeros passes: its checksum is
zero. What the kernel holds in memory is read from there, so a disk is asked for what is cold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import apsw

from rsqlite.statemachine import walfile
from rsqlite.statemachine.opening import open_error
from rsqlite.statemachine.vfs import OpenFile, load_checksum_vfs

LOCK_BYTE = 1 << 30
"""The page with this byte is never written."""

_FAILING = (
    "WITH RECURSIVE page(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM page WHERE n + 1 < ?2)"
    " SELECT n FROM page WHERE NOT verify_checksum(substr(?1, n * ?3 + 1, ?3))"
)
"""Which pages of many fail: one statement, during which others have the interpreter."""


class PagesRead(NamedTuple):
    """What one read came to. `following` is the page to go on with; 0: that was the end."""

    following: int
    size: int
    problems: tuple[str, ...]


class LivePages:
    """One database's. Everything runs in a thread; DamagedDatabase or DiskFault when it cannot be
    read at all, `apsw.BusyError` when it cannot be read now."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Not the checksummed file system: it would answer an error instead of the page.
        raw: Any = {"flags": apsw.SQLITE_OPEN_READONLY, "vfs": apsw.vfs_names()[0]}
        self._connection = apsw.Connection(path, **raw)
        self._idle = apsw.Connection(path, **raw)
        """Never in a transaction, in which SQLite tells nothing of checkpoints."""
        self._verifier = apsw.Connection(":memory:", vfs=load_checksum_vfs())
        try:
            # Waits only where the WAL is being opened or recovered, never for a writer.
            self._connection.set_busy_timeout(1_000)
            with self._snapshot():
                self.page_bytes = self._number("PRAGMA page_size")
            self._file = OpenFile(self._connection)
        except BaseException:
            self.close()
            raise

    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size()

    def read(self, length: int, offset: int) -> bytes:
        """Bytes of the file as they are, and fewer only at its end."""
        return self._file.read(length, offset)

    def verify(self, page: int, bytes_max: int) -> PagesRead:
        """Read so many bytes from `page` on, one page at least; what is wrong with them."""
        count = max(1, bytes_max // self.page_bytes)
        data = self.read(count * self.page_bytes, (page - 1) * self.page_bytes)
        problems = tuple(self.problems(data, page))
        is_end = len(data) < count * self.page_bytes
        return PagesRead(0 if is_end else page + count, len(data), problems)

    def problems(self, data: bytes, page: int) -> Iterator[str]:
        """What is wrong with the pages in `data`, of which `page` is the first."""
        for failing in self.failing(data, page):
            if self.is_damaged(failing):
                yield self.name_of(failing)

    def failing(self, data: bytes, page: int) -> list[int]:
        """Those of the pages in `data`, of which `page` is the first, that look wrong."""
        count = len(data) // self.page_bytes
        if not count:
            return []
        rows: Any = self._verifier.execute(_FAILING, (data, count, self.page_bytes)).fetchall()
        return [page + n for (n,) in rows if (page + n - 1) * self.page_bytes != LOCK_BYTE]

    def is_damaged(self, page: int) -> bool:
        """Whether what looked wrong is."""
        offset = (page - 1) * self.page_bytes
        with self._snapshot():
            if page > self._number("PRAGMA page_count"):
                return False
            # In this order: what is brought into the file later is not held against it.
            newer = self._pages_in_wal_only()
            data = self.read(self.page_bytes, offset)
            rows = self._verifier.execute("SELECT verify_checksum(?)", (data,)).fetchall()
            return rows != [(1,)] and page not in newer

    def name_of(self, page: int) -> str:
        """Where it stands, and that it is damaged."""
        offset = (page - 1) * self.page_bytes
        return f"{self._path}: page {page} (at byte {offset}) fails its checksum"

    def close(self) -> None:
        for connection in (self._connection, self._idle, self._verifier):
            connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """A read transaction. Of page 1 SQLite may say itself that it is wrong."""
        connection = self._connection
        try:
            connection.execute("BEGIN")
            self._number("PRAGMA schema_version")
            yield
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise open_error(error, self._path) from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _pages_in_wal_only(self) -> set[int]:
        """Those with a frame that no complete checkpoint has brought into the file, and perhaps
        some that had one not long ago."""
        # SQLite opens the WAL when something is read, and knows nothing of it before.
        self._idle.execute("PRAGMA schema_version").fetchall()
        _, copied = self._idle.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
        wal = OpenFile(self._connection, is_wal=True)
        salts = wal.read(walfile.HEADER_BYTES, 0)[walfile.SALTS]
        frame_bytes = walfile.frame_bytes(self.page_bytes)
        offset, pages = walfile.HEADER_BYTES + copied * frame_bytes, set[int]()
        while True:
            frame = wal.read(walfile.FRAME_HEADER_BYTES, offset)
            if len(frame) < walfile.FRAME_HEADER_BYTES or frame[walfile.FRAME_SALTS] != salts:
                return pages
            pages.add(walfile.FRAME.unpack(frame)[0])
            offset += frame_bytes

    def _number(self, sql: str) -> int:
        rows: Any = self._connection.execute(sql, can_cache=False).fetchall()
        return int(rows[0][0])
