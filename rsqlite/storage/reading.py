"""Old entries from their segment, verified again on the way."""

from __future__ import annotations

from array import array

from rsqlite.errors import DamagedFile
from rsqlite.ports import Disk, DiskFile
from rsqlite.raft.types import Entry, Index, Term
from rsqlite.storage.finding import REJOIN_ADVICE
from rsqlite.storage.record import (
    ENTRY_KINDS,
    HEADER_BYTES,
    RecordHeader,
    header_at,
    is_payload_sound,
)
from rsqlite.storage.segment import PAGE_BYTES, decode_header

READ_BYTES_MIN = 64 * 1024
"""Read at a time at least: one call for many small entries."""

READ_BYTES_MAX = 1024 * 1024
"""Read at a time at most, unless one entry is larger."""


class SegmentReader:
    """An open segment to read entries from, wherever the index says they stand."""

    def __init__(self, path: str, disk: Disk) -> None:
        self._path = path
        self._file: DiskFile = disk.open(path, writable=False)
        try:
            header = decode_header(self._file.pread(PAGE_BYTES, 0))
            if isinstance(header, str):
                raise self._damage(0, header)
        except BaseException:
            self._file.close()
            raise
        self._seed = header.checksum

    def read(self, low: int, offsets: array[int], bytes_max: int) -> list[Entry]:
        """The entries from `low` on that stand at `offsets`, as many as fit, at least one."""
        entries: list[Entry] = []
        window, start = b"", 0
        for n, offset in enumerate(offsets):
            at = offset - start
            if not window or at + HEADER_BYTES > len(window):
                window, start, at = self._window(offset, min(bytes_max, READ_BYTES_MAX)), offset, 0
            header = self._header(window, at, offset)
            bytes_max -= header.length
            if bytes_max < 0 and entries:
                break
            if at + HEADER_BYTES + header.length > len(window):
                window, start, at = self._window(offset, header.length), offset, 0
            if not is_payload_sound(window, at, header):
                raise self._damage(offset, "the payload fails its checksum")
            if header.entry_index != low + n or header.kind not in ENTRY_KINDS:
                raise self._damage(offset, f"entry {low + n} is not where it was written")
            first = at + HEADER_BYTES
            entries.append(
                Entry(
                    Term(header.term),
                    Index(header.entry_index),
                    ENTRY_KINDS[header.kind],
                    window[first : first + header.length],
                )
            )
        return entries

    def close(self) -> None:
        self._file.close()

    def _window(self, offset: int, payload_bytes: int) -> bytes:
        return self._file.pread(max(READ_BYTES_MIN, HEADER_BYTES + payload_bytes), offset)

    def _header(self, window: bytes, at: int, offset: int) -> RecordHeader:
        header = None
        if at + HEADER_BYTES <= len(window):
            header = header_at(window, at, self._seed + offset)
        if header is None:
            raise self._damage(offset, "the header of a record fails its checksum")
        return header

    def _damage(self, offset: int, what: str) -> DamagedFile:
        return DamagedFile(f"{self._path} at byte {offset}: {what}. {REJOIN_ADVICE}")
