"""Reading the files of a log back: the same eyes for a start and for `rsqlite check`.

`examine_log` changes nothing. It answers what the log holds and what is wrong with it; a start
refuses damage and mends a torn tail (`logstore.py`), a check reports both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rsqlite.ports import Disk
from rsqlite.storage import hardstate
from rsqlite.storage.finding import REJOIN_ADVICE, Finding, Severity
from rsqlite.storage.hardstate import HardStateContent, Mark
from rsqlite.storage.index import PlaceTable, TermRuns
from rsqlite.storage.segment import (
    PAGE_BYTES,
    Rest,
    Run,
    ScanEnd,
    SegmentHeader,
    decode_header,
    examine_rest,
    scan_records,
    segment_name,
    sequence_of,
)


@dataclass(slots=True)
class LogImage:
    """What the files of a log say.

    `tail` is the segment that is written next, `tail_end` where; `torn_end` is where the remains
    of a torn write end (equal: there are none). `verified` holds the segments whose records were
    all read; reading stops at the first damage.
    """

    hard: HardStateContent | None = None
    terms: TermRuns = field(default_factory=TermRuns)
    places: PlaceTable = field(default_factory=PlaceTable)
    tail: SegmentHeader | None = None
    tail_end: ScanEnd = ScanEnd(PAGE_BYTES, 0)
    torn_end: int = 0
    verified: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def damage(self) -> Finding | None:
        """The first finding that keeps a node from starting."""
        for finding in self.findings:
            if finding.severity is Severity.DAMAGE:
                return finding
        return None


def examine_log(directory: str, disk: Disk, *, first_segment: int = 0) -> LogImage:
    """Read everything in a log directory that holds a hard state, or as if the log began with
    `first_segment`."""
    image = LogImage()
    _read_hard_state(directory, disk, image)
    names = disk.listdir(directory)
    sequences = sorted(n for n in map(sequence_of, names) if n is not None)
    if image.damage is not None or image.hard is None or image.hard.slot is None:
        return image
    mark = image.hard.mark
    first_segment = max(first_segment, image.hard.slot.first_segment)
    headers = _read_headers(directory, disk, sequences, image, first_segment)
    for n, header in enumerate(headers):
        following = headers[n + 1] if n + 1 < len(headers) else None
        if image.damage is None:
            _Reader(directory, disk, image, header).read(mark, following)
            image.verified.append(header.sequence)
    if image.damage is None and mark.segment > (image.tail.sequence if image.tail else 0):
        path = os.path.join(directory, segment_name(mark.segment))
        _damage(image, path, None, "the segment is missing, but it was in use")
    return image


def examine_behind(directory: str, disk: Disk, image: LogImage) -> LogImage | None:
    """The same log without what is damaged in `image`, and without all that is before that: from
    the first segment on behind which everything is sound. None if there is none, or if it is not
    the segments that are damaged."""
    first, damage = 0, image.damage
    while damage is not None:
        sequence = sequence_of(os.path.basename(damage.path))
        if sequence is None or sequence < first:
            return None  # term and vote, or the end of the log
        first = sequence + 1
        image = examine_log(directory, disk, first_segment=first)
        damage = image.damage
    state = image.hard.slot.state if image.hard and image.hard.slot else None
    terms = image.terms
    previous_term = terms.term(terms.first_index - 1)
    if image.tail is None or state is None or (previous_term or 0) > state.term:
        return None  # the last: what looked damaged stands beside an old copy of the hard state
    return image


def _damage(image: LogImage, path: str, offset: int | None, what: str) -> None:
    image.findings.append(Finding(Severity.DAMAGE, path, offset, what, REJOIN_ADVICE))


def _read_hard_state(directory: str, disk: Disk, image: LogImage) -> None:
    path = os.path.join(directory, hardstate.NAME)
    if not disk.exists(path):
        _damage(image, path, None, "the file with term and vote is missing")
        return
    file = disk.open(path, writable=False)
    try:
        image.hard = hardstate.read_hard_state(path, file)
    finally:
        file.close()
    image.findings.extend(image.hard.findings)
    if image.hard.slot is None and image.damage is None:
        _damage(image, path, 0, "it holds no term and vote")


def _read_headers(
    directory: str, disk: Disk, sequences: list[int], image: LogImage, first_segment: int
) -> list[SegmentHeader]:
    """The headers of the segments in use from `first_segment` on, in order."""
    assert image.hard is not None
    assert image.hard.slot is not None
    slot = image.hard.slot
    headers: list[SegmentHeader] = []
    expected = first_segment
    for sequence in sequences:
        if sequence < first_segment:
            continue  # cut away, and a crash kept its file
        name = segment_name(sequence)
        path = os.path.join(directory, name)
        file = disk.open(path, writable=False)
        try:
            page = file.pread(PAGE_BYTES, 0)
        finally:
            file.close()
        if not any(page):
            # Made ahead of need, or its first write was lost with the power.
            continue
        header = decode_header(page)
        if isinstance(header, str):
            _damage(image, path, 0, header)
            break
        if header.sequence != sequence:
            _damage(image, path, 0, f"it is segment {header.sequence} under another name")
        elif header.node_id != slot.node_id:
            what = f"it belongs to node {header.node_id}, not to {slot.node_id}"
            _damage(image, path, 0, what)
        elif header.generation > slot.generation:
            what = "it is newer than the term and vote beside it, which must be an old copy"
            _damage(image, path, 0, what)
        elif sequence != expected:
            path = os.path.join(directory, segment_name(expected))
            _damage(image, path, None, "the segment is missing, but a later one is there")
            break
        if header.begins_anew:
            headers.clear()
        headers.append(header)
        expected = sequence + 1
    return headers


class _Reader:
    """Reads one segment into the image."""

    def __init__(self, directory: str, disk: Disk, image: LogImage, header: SegmentHeader) -> None:
        self._path = os.path.join(directory, segment_name(header.sequence))
        self._disk = disk
        self._image = image
        self._header = header
        self._chain_at_mark: int | None = None
        self._mark_offset = -1
        self._state_term = image.hard.slot.state.term if image.hard and image.hard.slot else 0

    def read(self, mark: Mark, following: SegmentHeader | None) -> None:
        """Read the records; `following` is the header of the next segment, if there is one."""
        image, header = self._image, self._header
        if image.tail is None:
            image.terms = TermRuns(header.first_index, header.previous_term)
            image.places = PlaceTable(header.first_index)
        elif (header.first_index, header.previous_term) != (
            image.terms.last_index + 1,
            image.terms.last_term,
        ):
            what = f"it begins at entry {header.first_index} after term {header.previous_term}, not"
            what += f" at {image.terms.last_index + 1} after {image.terms.last_term}"
            _damage(image, self._path, 0, what)
            return
        image.tail = header
        image.places.open_segment(header.sequence)
        if mark.segment == header.sequence:
            self._mark_offset = mark.offset
            if mark.offset == PAGE_BYTES:
                self._chain_at_mark = header.checksum
        file = self._disk.open(self._path, writable=False)
        try:
            end = scan_records(file, header, self._visit, split_at=self._mark_offset)
            image.tail_end, image.torn_end = end, end.offset
            if image.damage is not None:
                return
            if following is not None:
                self._check_sealed(end, following)
                return
            rest = examine_rest(file, header, end.offset)
        finally:
            file.close()
        if self._mark_offset >= 0 and self._chain_at_mark != mark.chain:
            what = f"a record is unreadable that was on disk (the log was synced to {mark.offset})"
            _damage(image, self._path, end.offset, what)
        elif rest.rest is Rest.DAMAGED:
            what = f"a record is unreadable, and a later one at byte {rest.proof} is whole"
            _damage(image, self._path, end.offset, what)
        elif rest.rest is Rest.TORN:
            image.torn_end = rest.end
            what = f"torn write of {rest.end - end.offset} bytes after entry"
            what += f" {image.terms.last_index}; it was never acknowledged"
            advice = "The node cuts it when it starts"
            image.findings.append(Finding(Severity.INFO, self._path, end.offset, what, advice))

    def _check_sealed(self, end: ScanEnd, following: SegmentHeader) -> None:
        """A segment was synced whole before the next one got its header."""
        if end.chain != following.previous_chain:
            what = "a record is unreadable or missing, and a later segment is there"
            _damage(self._image, self._path, end.offset, what)

    def _visit(self, run: Run) -> None:
        image, term, index = self._image, run.term, run.first_index
        terms = image.terms
        if run.end == self._mark_offset:
            self._chain_at_mark = run.chain
        if run.is_truncation:
            if terms.first_index <= index <= terms.last_index and terms.term(index - 1) == term:
                terms.truncate(index)
                image.places.truncate(index)
                return
            what = f"it takes back entry {index} after term {term}"
            what += f", in a log of {terms.first_index} to {terms.last_index}"
        elif index != terms.last_index + 1 or term < terms.last_term:
            what = f"entry {index} of term {term} follows {terms.last_index} of {terms.last_term}"
        elif term > self._state_term:
            what = f"entry {index} is of term {term}, but the stored term is {self._state_term}"
        else:
            terms.append(term, index, len(run.offsets))
            image.places.extend(run.offsets)
            return
        _damage(image, self._path, run.offsets[0], what)
