"""One record of the log: 40 bytes of header, the payload, zeros up to a multiple of eight.

    offset size
         0    4  length of the payload
         4    4  kind: an EntryKind, or TRUNCATE
         8    8  term
        16    8  index
        24    4  group: where in the segment the write began that brought this record
        28    4  previous: the chain value of the record before (the first: the segment's checksum)
        32    4  chain: CRC-32 of the payload, begun with the CRC-32 of bytes 0 to 31
        36    4  check: CRC-32 of bytes 0 to 31, begun with chain XOR (segment's checksum + offset)

`check` makes a header believable on its own, at this place of this segment only: a record found
after a hole proves itself, and one that was copied, moved or left over does not. `chain` guards
the payload and, through `previous`, everything before it. `group` tells a tear from damage: all
records of one write are synced together, so a valid record of a *later* group proves that the hole
before it had once been on the disk.

No kind is zero, so zeros are never a record.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from rsqlite.raft.types import EntryKind

FIELDS = struct.Struct("<IIQQII")
CHECKS = struct.Struct("<II")
HEADER = struct.Struct("<IIQQIIII")
HEADER_BYTES = HEADER.size
FIELDS_BYTES = FIELDS.size

TRUNCATE = 0x80
"""The entries from `index` on are void. `term` is that of the entry before; no payload."""

ENTRY_KINDS = {int(kind): kind for kind in EntryKind}
KINDS = frozenset(ENTRY_KINDS) | {TRUNCATE}

PADDING = tuple(bytes(-length % 8) for length in range(8))


class RecordHeader(NamedTuple):
    """The header of a record, as it stands on disk."""

    length: int
    kind: int
    term: int
    entry_index: int
    group: int
    previous: int
    chain: int
    check: int


def record_bytes(length: int) -> int:
    """What a record with a payload of `length` takes on disk."""
    return (HEADER_BYTES + length + 7) & ~7


def encode_record(
    kind: int, term: int, index: int, data: bytes, group: int, previous: int, place: int
) -> tuple[bytes, int]:
    """The header and the chain value. `place` is the segment's checksum plus the offset."""
    fields = FIELDS.pack(len(data), kind, term, index, group, previous)
    chain = crc32(data, crc32(fields))
    return fields + CHECKS.pack(chain, crc32(fields, chain ^ place & 0xFFFFFFFF)), chain


def header_at(buffer: bytes, at: int, place: int) -> RecordHeader | None:
    """The header at `at` in `buffer` if it proves itself, else None."""
    header = RecordHeader._make(HEADER.unpack_from(buffer, at))
    if header.kind not in KINDS:
        return None
    fields = buffer[at : at + FIELDS_BYTES]
    if crc32(fields, header.chain ^ place & 0xFFFFFFFF) != header.check:
        return None
    return header


def is_payload_sound(buffer: bytes, at: int, header: RecordHeader) -> bool:
    """Whether the payload after the header at `at`, all of it in `buffer`, is what was written."""
    fields = buffer[at : at + FIELDS_BYTES]
    start = at + HEADER_BYTES
    payload = memoryview(buffer)[start : start + header.length]
    return len(payload) == header.length and crc32(payload, crc32(fields)) == header.chain
