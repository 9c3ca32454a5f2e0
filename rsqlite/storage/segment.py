"""One segment file: its header, and reading its records in order.

    offset size
         0    8  magic "RSQLSEG1"
         8    4  version (1)
        12    4  flags; 1: the log begins anew here, and segments before this one count no more
        16    8  sequence: 1, 2, 3 …; also the name, `0000000000000001.log`
        24    8  generation: which start of the node made the file
        32    8  node id
        40    8  first index: of the first entry that may stand here
        48    8  term of the entry before it
        56    8  capacity: the size the file may grow to
        64    4  chain value at the end of the segment before (0: there is none)
        68    4  CRC-32 of bytes 0 to 67: the segment's checksum

Zeros follow up to 4096, then records without a gap, then zeros. The checksum begins the chain of
the records and is in the check of each of them: bytes of another segment, node or generation never
pass, so a file may be made from an old one without wiping it.
"""

from __future__ import annotations

import enum
import re
import struct
from array import array
from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

from rsqlite.ports import DiskFile
from rsqlite.storage.record import (
    FIELDS_BYTES,
    HEADER,
    HEADER_BYTES,
    KINDS,
    TRUNCATE,
    header_at,
    is_payload_sound,
    record_bytes,
)

MAGIC = b"RSQLSEG1"
VERSION = 1
SUFFIX = ".log"
PAGE_BYTES = 4096
"""Records begin here: the page of the header is never written twice."""

WINDOW_BYTES = 1024 * 1024
"""Read at a time when a segment is scanned."""

# Looking for these bytes first makes the search for a record in garbage a hundred times faster.
KIND_FIELD = re.compile(b"[%s]\0\0\0" % re.escape(bytes(sorted(KINDS))))

BODY = struct.Struct("<8sIIQQQQQQI")
CHECKSUM = struct.Struct("<I")


class SegmentHeader(NamedTuple):
    """What the first page of a segment says. `checksum` is filled in by `encode_header`."""

    sequence: int
    generation: int
    node_id: int
    first_index: int
    previous_term: int
    capacity: int
    previous_chain: int
    begins_anew: bool = False
    checksum: int = 0


def segment_name(sequence: int) -> str:
    return f"{sequence:016d}{SUFFIX}"


def sequence_of(name: str) -> int | None:
    """The sequence that a file name says, or None if it is no segment's."""
    stem = name.removesuffix(SUFFIX)
    if name.endswith(SUFFIX) and len(stem) == 16 and stem.isascii() and stem.isdigit():
        return int(stem)
    return None


def encode_header(header: SegmentHeader) -> tuple[bytes, SegmentHeader]:
    """The first page of the file, and the header with its checksum."""
    body = BODY.pack(MAGIC, VERSION, int(header.begins_anew), *header[:7])
    checksum = crc32(body)
    page = body + CHECKSUM.pack(checksum)
    return page + bytes(PAGE_BYTES - len(page)), header._replace(checksum=checksum)


def decode_header(page: bytes) -> SegmentHeader | str:
    """The header, or in words why there is none."""
    if len(page) < BODY.size + 4:
        return "the header is cut short"
    magic, version, flags, *fields = BODY.unpack_from(page)
    (checksum,) = CHECKSUM.unpack_from(page, BODY.size)
    if magic != MAGIC:
        return "it does not begin as a log segment does"
    if crc32(page[: BODY.size]) != checksum:
        return "the header fails its checksum"
    if version != VERSION:
        return f"it is of version {version}, and this program knows {VERSION}"
    if flags not in (0, 1):
        return f"it has flags {flags:#x} that this program does not know"
    return SegmentHeader._make((*fields, bool(flags), checksum))


class ScanEnd(NamedTuple):
    """Where reading stopped: at the first place that holds no record that continues the chain."""

    offset: int
    chain: int


class Run(NamedTuple):
    """Sound records in a row: entries of one term, with one index after the other, or one
    truncation. `end` and `chain` are where the last of them ends, and its chain value."""

    is_truncation: bool
    term: int
    first_index: int
    offsets: array[int]
    end: int
    chain: int


Visit = Callable[[Run], None]


def scan_records(
    file: DiskFile,
    header: SegmentHeader,
    visit: Visit,
    *,
    begin: ScanEnd | None = None,
    stop: int | None = None,
    split_at: int = -1,
) -> ScanEnd:
    """Read and verify the records one after the other, from where `begin` says that one was read
    until one begins at `stop` or after it. A run ends at `split_at`, if a record does.

    A start reads hundreds of thousands of them: what can be is told for a run of them at once, and
    the loop holds only what must be asked of each (1.6 µs instead of 2.4).
    """
    size = file.size()
    seed, unpack = header.checksum, HEADER.unpack_from
    offset, chain = begin or (PAGE_BYTES, seed)
    stop = min(size if stop is None else stop, size - HEADER_BYTES + 1)
    window_bytes = max(HEADER_BYTES, min(WINDOW_BYTES, stop - offset))
    window = memoryview(b"")
    start, last_start = offset, -1  # of the window, and of the last header that is whole in it
    run_kind, run_term, following, offsets = 0, -1, -1, array("I")
    while offset < stop:
        at = offset - start
        if at > last_start:
            window = memoryview(file.pread(window_bytes, offset))
            start, at, last_start = offset, 0, len(window) - HEADER_BYTES
            if last_start < 0:
                break
        length, kind, term, index, group, previous, stored, check = unpack(window, at)
        if previous != chain or group > offset or kind not in KINDS:
            break
        if at + length > last_start:
            if offset + HEADER_BYTES + length > size:
                break
            window = memoryview(file.pread(max(window_bytes, HEADER_BYTES + length), offset))
            start, at, last_start = offset, 0, len(window) - HEADER_BYTES
            if length > last_start:
                break
        body = at + HEADER_BYTES
        fields = window[at : at + FIELDS_BYTES]
        if (
            crc32(fields, stored ^ (seed + offset) & 0xFFFFFFFF) != check
            or crc32(window[body : body + length], crc32(fields)) != stored
        ):
            break
        if (
            index != following
            or term != run_term
            or TRUNCATE in (kind, run_kind)
            or (offset == split_at)
        ):
            if offsets:
                first = following - len(offsets)
                visit(Run(run_kind == TRUNCATE, run_term, first, offsets, offset, chain))
            run_kind, run_term, following, offsets = kind, term, index, array("I")
        offsets.append(offset)
        following += 1
        offset += record_bytes(length)
        chain = stored
    if offsets:
        first = following - len(offsets)
        visit(Run(run_kind == TRUNCATE, run_term, first, offsets, offset, chain))
    return ScanEnd(offset, chain)


class Rest(enum.Enum):
    """What follows the last sound record of a segment."""

    ZEROS = "zeros"
    TORN = "torn"
    DAMAGED = "damaged"


class RestOfSegment(NamedTuple):
    """`end` is where the last byte that is not zero ends; `proof` where a later record stands."""

    rest: Rest
    end: int
    proof: int


def examine_rest(file: DiskFile, header: SegmentHeader, offset: int) -> RestOfSegment:
    """Tell an unused rest from a torn write and from damage.

    Records of one write lie next to each other and are synced together, so after a power loss any
    of them may be there without the others. A sound record whose write began after `offset` is the
    proof that what was at `offset` had been synced before: that is damage, never a tear.
    """
    size = file.size()
    end = offset
    position = offset
    while position < size:
        window = file.pread(WINDOW_BYTES, position)
        if not window:
            break
        sound = window.rstrip(b"\0")
        if sound:
            end = position + len(sound)
        position += len(window)
    if end == offset:
        return RestOfSegment(Rest.ZEROS, end, 0)
    data = file.pread(size - offset, offset)
    seed = header.checksum
    for match in KIND_FIELD.finditer(data):
        # The kind stands four bytes into a record, and records stand at multiples of eight.
        at = match.start() - 4
        place = offset + at
        if at < 0 or place % 8 or at + HEADER_BYTES > len(data):
            continue
        length, _, _, _, group, _, _, _ = HEADER.unpack_from(data, at)
        if not offset < group <= place or length > len(data) - at:
            continue
        record = header_at(data, at, seed + place)
        if record is not None and is_payload_sound(data, at, record):
            return RestOfSegment(Rest.DAMAGED, end, place)
    return RestOfSegment(Rest.TORN, end, 0)
