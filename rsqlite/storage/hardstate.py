"""Term and vote in two alternating slots, and the durable mark beside them.

The file `hardstate` is six pages of 4096 bytes; each holds one record at its start, then zeros:

    page 0, 1  slot 0 and its copy        page 2, 3  slot 1 and its copy
    page 4     mark 0                     page 5     mark 1

    slot: magic "RSQLHARD", u32 version, u32 has_vote, u64 serial, u64 term, u64 voted_for,
          u64 node_id, u64 generation, u64 first_segment, u32 CRC-32 of all before
    mark: magic "RSQLMARK", u32 version, u32 zero, u64 serial, u64 segment, u64 offset, u64 index,
          u32 chain, u32 CRC-32 of all before

A state with serial n goes into slot n mod 2, both copies in one write, then the file is synced.
The valid slot with the highest serial is the state; a new file has serials 0 and 1, so that no
slot is ever empty. A crash leaves the old slot whole, so a torn slot would mean nothing; but a
*rotten* newest slot would bring an old vote back, and a node that votes twice in a term can lose
everything. The two look alike, hence the copies: one bad copy is harmless, both bad copies of a
slot are damage and the node does not start.

The mark says how far the log was on disk when it was written. It is written after each sync of the
log, without a sync of its own: a hint that is never ahead of the log. Two pages in turn, so that a
torn one leaves the one before. `generation` counts the starts; it goes into segment headers.
`first_segment` is where the log begins: a missing file at its front is seen to be missing.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple
from zlib import crc32

from rsqlite.ports import Disk, DiskFile
from rsqlite.raft.types import HardState, NodeId, Term
from rsqlite.storage.finding import REJOIN_ADVICE, Finding, Severity

NAME = "hardstate"
NEW_NAME = "hardstate.new"
VERSION = 1
PAGE_BYTES = 4096
FILE_BYTES = 6 * PAGE_BYTES

SLOT = struct.Struct("<8sIIQQQQQQ")
MARK = struct.Struct("<8sIIQQQQI")
CHECKSUM = struct.Struct("<I")
SLOT_MAGIC = b"RSQLHARD"
MARK_MAGIC = b"RSQLMARK"


class Mark(NamedTuple):
    """The end of the log that was known to be on disk. `chain` is the chain value there."""

    segment: int
    offset: int
    last_index: int
    chain: int


NO_MARK = Mark(0, 0, 0, 0)


class Slot(NamedTuple):
    """What a slot holds."""

    serial: int
    state: HardState
    node_id: int
    generation: int
    first_segment: int


def encode_slot(slot: Slot) -> bytes:
    """One copy of a slot."""
    voted_for = slot.state.voted_for
    body = SLOT.pack(
        SLOT_MAGIC,
        VERSION,
        voted_for is not None,
        slot.serial,
        slot.state.term,
        voted_for or 0,
        slot.node_id,
        slot.generation,
        slot.first_segment,
    )
    return body + CHECKSUM.pack(crc32(body))


def decode_slot(data: bytes, parity: int) -> Slot | None:
    """The slot in `data`, or None if it is none of this version and parity."""
    body = data[: SLOT.size]
    if len(data) < SLOT.size + 4 or crc32(body) != CHECKSUM.unpack_from(data, SLOT.size)[0]:
        return None
    magic, version, has_vote, serial, term, vote, node, generation, first = SLOT.unpack(body)
    if magic != SLOT_MAGIC or version != VERSION or serial % 2 != parity:
        return None
    state = HardState(Term(term), NodeId(vote) if has_vote else None)
    return Slot(serial, state, node, generation, first)


def encode_mark(serial: int, mark: Mark) -> bytes:
    body = MARK.pack(MARK_MAGIC, VERSION, 0, serial, *mark)
    return body + CHECKSUM.pack(crc32(body))


def decode_mark(data: bytes) -> tuple[int, Mark] | None:
    """The serial and the mark in `data`, or None."""
    body = data[: MARK.size]
    if len(data) < MARK.size + 4 or crc32(body) != CHECKSUM.unpack_from(data, MARK.size)[0]:
        return None
    magic, version, _, serial, segment, offset, index, chain = MARK.unpack(body)
    if magic != MARK_MAGIC or version != VERSION:
        return None
    return serial, Mark(segment, offset, index, chain)


class HardStateContent(NamedTuple):
    """What the file says. `slot` is None when it holds no state that can be believed."""

    slot: Slot | None
    mark: Mark
    mark_serial: int
    findings: tuple[Finding, ...]


def read_hard_state(path: str, file: DiskFile) -> HardStateContent:
    """Read and judge the whole file; changes nothing."""
    findings: list[Finding] = []
    data = file.pread(FILE_BYTES, 0)
    pages = [data[n * PAGE_BYTES : (n + 1) * PAGE_BYTES] for n in range(6)]
    slots: list[Slot] = []
    for parity in (0, 1):
        copies = [decode_slot(page, parity) for page in pages[2 * parity : 2 * parity + 2]]
        valid = [copy for copy in copies if copy is not None]
        if valid:
            slots.append(max(valid, key=lambda slot: slot.serial))
        for number, copy in enumerate(copies):
            offset = (2 * parity + number) * PAGE_BYTES
            if copy is not None:
                continue
            if valid:
                what = "one copy of term and vote is unreadable; the other is used"
                findings.append(Finding(Severity.WARNING, path, offset, what))
            else:
                what = "term and vote are unreadable in both copies of a slot"
                findings.append(Finding(Severity.DAMAGE, path, offset, what, REJOIN_ADVICE))
    slot = max(slots, key=lambda slot: slot.serial) if slots else None
    marks = [decode_mark(page) for page in pages[4:]]
    for number, mark in enumerate(marks):
        if mark is None and any(pages[4 + number]):
            what = "a durable mark is unreadable; it is a hint and will be written again"
            findings.append(Finding(Severity.WARNING, path, (4 + number) * PAGE_BYTES, what))
    serial, newest = max((mark for mark in marks if mark is not None), default=(0, NO_MARK))
    return HardStateContent(slot, newest, serial, tuple(findings))


class HardStateFile:
    """The open file. Used by the log's writer thread once the log is open."""

    def __init__(self, file: DiskFile, slot: Slot, mark_serial: int) -> None:
        self._file = file
        self._mark_serial = mark_serial
        self.slot = slot

    @staticmethod
    def create(directory: str, disk: Disk, node_id: int) -> None:
        """Make the file as of a node that never voted; all of it is there or nothing."""
        path = os.path.join(directory, NEW_NAME)
        file = disk.open(path, create=True)
        try:
            pages = []
            for serial in (0, 1):
                slot = encode_slot(Slot(serial, HardState(), node_id, 0, 1))
                pages += [slot + bytes(PAGE_BYTES - len(slot))] * 2
            file.pwrite(b"".join(pages) + bytes(2 * PAGE_BYTES), 0)
            file.sync()
        finally:
            file.close()
        disk.rename(path, os.path.join(directory, NAME))
        disk.sync_directory(directory)

    def write(
        self,
        state: HardState,
        *,
        generation: int | None = None,
        first_segment: int | None = None,
    ) -> None:
        """Store the state; durable when this returns."""
        old = self.slot
        slot = Slot(
            old.serial + 1,
            state,
            old.node_id,
            old.generation if generation is None else generation,
            old.first_segment if first_segment is None else first_segment,
        )
        data = encode_slot(slot)
        offset = 2 * PAGE_BYTES * (slot.serial % 2)
        self._file.pwrite(data + bytes(PAGE_BYTES - len(data)) + data, offset)
        self._file.sync()
        self.slot = slot

    def problems(self, path: str) -> list[str]:
        """What is wrong with the slots on the disk, which is at `path`."""
        content = read_hard_state(path, self._file)
        found = [
            f"{path} at byte {one.offset}: {one.what}"
            for one in content.findings
            if (one.offset or 0) < 4 * PAGE_BYTES
        ]
        if not found and content.slot != self.slot:
            found.append(f"{path}: term and vote are not what was written last")
        return found

    def renew(self) -> None:
        """Write both slots again."""
        for _ in range(2):
            self.write(self.slot.state)

    def write_mark(self, mark: Mark) -> None:
        """Note how far the log is on disk. Not synced."""
        serial = self._mark_serial = self._mark_serial + 1
        self._file.pwrite(encode_mark(serial, mark), (4 + serial % 2) * PAGE_BYTES)

    def sync(self) -> None:
        """Make the mark durable; done at a start and at a clean stop."""
        self._file.sync()

    def close(self) -> None:
        self._file.close()
