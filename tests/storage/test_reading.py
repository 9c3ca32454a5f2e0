"""Old entries from disk: whole, verified, as many as fit."""

from __future__ import annotations

import errno

import pytest

from rsqlite.errors import DamagedFile, DiskFault
from rsqlite.raft.types import Index
from rsqlite.storage.reading import READ_BYTES_MIN
from rsqlite.storage.segment import PAGE_BYTES
from tests.storage.rig import DIRECTORY, Rig, entries, entry


def rig_with(*sizes: int) -> Rig:
    rig = Rig(segment_bytes=1 << 22)
    rig.open()
    rig.append([entry(n + 1, 1, bytes([n]) * size) for n, size in enumerate(sizes)], term=1)
    return rig


@pytest.mark.parametrize("size", [0, 1, 5000, READ_BYTES_MIN - 41, READ_BYTES_MIN, 300_000])
def test_entries_of_any_size_are_read_across_windows(size: int) -> None:
    rig = rig_with(size, 10, size, size, 0, size)
    want = [entry(n + 1, 1, bytes([n]) * s) for n, s in enumerate((size, 10, size, size, 0, size))]
    for bytes_max in (0, size, 2 * size + 10, 1 << 30):
        got = rig.log.entries(Index(1), Index(7), bytes_max)
        assert got == want[: len(got)]
    assert len(got) == 6


def test_few_entries_cost_one_read() -> None:
    rig = rig_with(*[100] * 50)
    rig.log.entries(Index(1), Index(2), 1000)
    rig.disk.trace = trace = []
    assert len(rig.log.entries(Index(3), Index(50), 2000)) == 20
    assert trace == ["pread 0000000000000001.log"]


def test_void_records_between_entries_are_passed_over() -> None:
    rig = rig_with(10, 10, 10)
    rig.append([entry(2, 2, b"new")], truncate_from=2, term=2)
    rig.append([entry(3, 2, b"newer")])
    assert [one.data for one in rig.content()] == [bytes(10), b"new", b"newer"]


def test_only_a_few_segments_are_kept_open() -> None:
    rig = Rig(log_readers_max=2)
    rig.open()
    rig.append(entries(1, 100), term=1)
    for _ in range(2):
        assert rig.content() == list(entries(1, 100))
        assert len(rig.log._readers) == 2


def test_a_read_error_is_a_fault_and_not_an_empty_answer() -> None:
    rig = rig_with(10, 10)
    rig.content()
    rig.disk.fail_nth_call(1, errno.EIO)
    with pytest.raises(DiskFault, match="cannot read the log"):
        rig.content()


def test_every_byte_of_a_record_is_verified_when_it_is_read() -> None:
    rig = rig_with(50)
    want = rig.content()
    path = f"{DIRECTORY}/0000000000000001.log"
    for bit in range(PAGE_BYTES * 8, (PAGE_BYTES + 90) * 8):
        rig.disk.flip_bit(path, bit)
        with pytest.raises(DamagedFile, match=r"0001\.log at byte 4096"):
            rig.content()
        rig.disk.flip_bit(path, bit)
    assert rig.content() == want


def test_a_damaged_header_is_found_when_the_segment_is_opened() -> None:
    rig = rig_with(50)
    rig.disk.flip_bit(f"{DIRECTORY}/0000000000000001.log", 200)
    with pytest.raises(DamagedFile, match="the header fails its checksum"):
        rig.content()
