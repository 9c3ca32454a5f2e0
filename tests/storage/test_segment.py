"""One segment file: header, scan, and telling a tear from damage."""

from __future__ import annotations

from zlib import crc32

import pytest

from rsqlite.storage.record import PADDING, TRUNCATE, encode_record, record_bytes
from rsqlite.storage.segment import (
    PAGE_BYTES,
    WINDOW_BYTES,
    Rest,
    Run,
    SegmentHeader,
    decode_header,
    encode_header,
    examine_rest,
    scan_records,
    segment_name,
    sequence_of,
)
from rsqlite.testing.disk import RamDisk, RamFile

PAGE, HEADER = encode_header(SegmentHeader(3, 2, 7, 100, 5, 1 << 20, 0xABCD))


class Writing:
    """Makes the bytes of a segment."""

    def __init__(self) -> None:
        self.data = bytearray(PAGE)
        self.chain = HEADER.checksum

    def add(
        self, index: int, payload: bytes, group: int | None = None, *, term: int = 6, kind: int = 1
    ) -> int:
        offset = len(self.data)
        group = offset if group is None else group
        place = HEADER.checksum + offset
        head, self.chain = encode_record(kind, term, index, payload, group, self.chain, place)
        self.data += head + payload + PADDING[len(payload) & 7]
        return offset

    def file(self, zeros: int = 0) -> RamFile:
        return RamDisk.from_files({"/a": bytes(self.data) + bytes(zeros)}).open("/a")


def scanned(file: RamFile) -> tuple[list[int], int]:
    """The indexes of the sound records, and where they end."""
    found: list[int] = []
    end = scan_records(
        file, HEADER, lambda run: found.extend(run.first_index + n for n in range(len(run.offsets)))
    )
    return found, end.offset


def test_names_sort_as_sequences_do() -> None:
    assert segment_name(12) == "0000000000000012.log"
    assert sequence_of(segment_name(12)) == 12
    for name in (
        "hardstate",
        "12.log",
        "000000000000001x.log",
        "0000000000000012",
        "½" * 16 + ".log",
    ):
        assert sequence_of(name) is None


def test_a_header_gives_back_what_was_written() -> None:
    assert decode_header(PAGE) == HEADER
    assert len(PAGE) == PAGE_BYTES


def test_every_flipped_bit_of_a_header_is_detected() -> None:
    for bit in range(72 * 8):
        broken = bytearray(PAGE)
        broken[bit // 8] ^= 1 << bit % 8
        assert isinstance(decode_header(bytes(broken)), str)
    assert decode_header(PAGE[:50]) == "the header is cut short"


def test_a_newer_version_says_so() -> None:
    page = bytearray(PAGE)
    page[8] = 2
    page[68:72] = crc32(page[:68]).to_bytes(4, "little")
    assert decode_header(bytes(page)) == "it is of version 2, and this program knows 1"


@pytest.mark.parametrize("size", [0, 1, 1000, WINDOW_BYTES - 4096, WINDOW_BYTES + 5])
def test_records_of_any_size_are_read_across_windows(size: int) -> None:
    writing = Writing()
    for index in range(100, 105):
        writing.add(index, bytes([index]) * size)
        writing.add(index + 1000, b"small")
    file = writing.file(zeros=100)
    found, end = scanned(file)
    assert found == [n for index in range(100, 105) for n in (index, index + 1000)]
    assert end == len(writing.data)
    assert examine_rest(file, HEADER, end).rest is Rest.ZEROS


def test_a_record_of_another_history_does_not_continue_the_chain() -> None:
    """Same segment, place, index and term, but what was before it was different."""
    one, other = Writing(), Writing()
    for writing, payload in ((one, b"one"), (other, b"two")):
        writing.add(100, payload)
        writing.add(101, b"same")
    second = PAGE_BYTES + record_bytes(3)
    spliced = RamDisk.from_files({"/a": bytes(one.data[:second] + other.data[second:])})
    assert scanned(spliced.open("/a")) == ([100], second)


def test_records_are_told_in_runs_of_one_term_and_one_index_after_the_other() -> None:
    writing = Writing()
    offsets = [writing.add(index, b"x") for index in (100, 101, 102)]
    offsets += [writing.add(103, b"x", term=7), writing.add(102, b"", kind=TRUNCATE)]
    offsets += [writing.add(102, b"x", term=7), writing.add(103, b"x", term=7)]
    runs: list[Run] = []
    end = scan_records(writing.file(), HEADER, runs.append, split_at=offsets[1])
    assert [(run.is_truncation, run.term, run.first_index) for run in runs] == [
        (False, 6, 100),
        (False, 6, 101),  # it was to be told where the first ended
        (False, 7, 103),
        (True, 6, 102),
        (False, 7, 102),
    ]
    assert [offset for run in runs for offset in run.offsets] == offsets
    assert [run.end for run in runs] == [*(run.offsets[0] for run in runs[1:]), end.offset]
    assert runs[-1].chain == end.chain == writing.chain


def test_a_length_beyond_the_file_ends_the_scan() -> None:
    writing = Writing()
    writing.add(100, b"x" * 500)
    for keep in (0, 10, 39, 40, 41, 539):
        file = RamDisk.from_files({"/a": bytes(writing.data[: PAGE_BYTES + keep])}).open("/a")
        assert scanned(file) == ([], PAGE_BYTES)


def test_only_a_record_of_a_later_write_proves_damage() -> None:
    for later in (False, True):
        writing = Writing()
        first = writing.add(100, b"x" * 50)
        bad = writing.add(101, b"y" * 50, group=first)
        proof = writing.add(102, b"z" * 50, group=None if later else first)
        writing.data[bad + 45] ^= 1
        file = writing.file(zeros=64)
        assert scanned(file)[1] == bad
        rest = examine_rest(file, HEADER, bad)
        assert rest.rest is (Rest.DAMAGED if later else Rest.TORN)
        assert rest.proof == (proof if later else 0)
        # Padding is zeros, so the last byte that is not is the payload's.
        assert rest.end == proof + 90
