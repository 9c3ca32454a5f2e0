"""A WAL is read as SQLite reads it."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from rsqlite.errors import DiskFault
from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.statemachine.walfile import (
    FRAMES_AT_A_TIME,
    HEADER_BYTES,
    frame_bytes,
    is_header_sound,
    name_in,
    read_wal,
    renew_wal,
)
from tests.statemachine.lab import Lab

FILL = "INSERT INTO t VALUES(zeroblob(500000))"


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    """A copy of one with 54 pages, some of them more than once."""
    lab = Lab(tmp_path)
    lab.do("CREATE TABLE t(a)", *[("INSERT INTO t VALUES(?)", "x" * 3000) for _ in range(50)])
    for suffix in ("", "-wal"):
        source = tmp_path / "leader" / "1" / f"main.db{suffix}"
        (tmp_path / f"copy{suffix}").write_bytes(source.read_bytes())
    lab.close()
    return tmp_path / "copy-wal"


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def pages_of(path: Path) -> int:
    with open(path, "rb") as file:
        return read_wal(file.fileno()).page_count


def last_page(path: Path) -> int:
    """Where the newest of the pages begins; behind it may be room that was set apart."""
    with open(path, "rb") as file:
        return max(read_wal(file.fileno()).offsets.values())


def test_a_wal_ends_at_its_first_frame_that_fails(wal: Path) -> None:
    assert pages_of(wal) == 54
    flip(wal, last_page(wal) + 10)
    assert 0 < pages_of(wal) < 54
    flip(wal, 12)
    assert pages_of(wal) == 0
    wal.write_bytes(b"")
    assert pages_of(wal) == 0


def test_every_flipped_bit_of_a_header_is_noticed(wal: Path) -> None:
    header = wal.read_bytes()[:HEADER_BYTES]
    assert is_header_sound(header)
    assert name_in(header) == header[16:24].hex()
    for bit in range(8 * HEADER_BYTES):
        data = bytearray(header)
        data[bit // 8] ^= 1 << bit % 8
        assert not is_header_sound(bytes(data))
    assert not is_header_sound(header[:-1])


@pytest.mark.parametrize("frame", [0, 1, 7, 30])
def test_sqlite_finds_as_much(wal: Path, frame: int) -> None:
    flip(wal, HEADER_BYTES + frame * frame_bytes(4096) + 100)
    found = pages_of(wal)
    connection = apsw.Connection(str(wal).removesuffix("-wal"), vfs=load_checksum_vfs())
    rows = connection.execute("PRAGMA page_count").fetchall()
    frames, _ = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
    connection.close()
    assert frames <= frame
    assert rows == [(found or 1,)]


def leave(directory: Path) -> Path:
    """The database of a node that was killed with something in its WAL."""
    lab = Lab(directory, disk_reserve_bytes=0)
    lab.do("CREATE TABLE t(a)", FILL, FILL, FILL)
    lab.leader.leave_wal()
    lab.close()
    return Path(lab.leader.path)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Offset and size of each write, and (-1, 0) for a sync."""
    found: list[tuple[int, int]] = []
    pwrite, fsync = os.pwrite, os.fsync

    def note_write(descriptor: int, data: bytes, offset: int) -> int:
        found.append((offset, len(data)))
        return pwrite(descriptor, data, offset)

    def note_sync(descriptor: int) -> None:
        found.append((-1, 0))
        fsync(descriptor)

    monkeypatch.setattr(os, "pwrite", note_write)
    monkeypatch.setattr(os, "fsync", note_sync)
    return found


def test_every_frame_is_written_again_with_the_same_bytes_and_then_synced(
    tmp_path: Path, written: list[tuple[int, int]]
) -> None:
    path = leave(tmp_path)
    file = path.with_name("main.db-wal")
    before = file.read_bytes()
    # More than is read at a time, and behind it what an earlier and longer WAL has left.
    assert len(before) > FRAMES_AT_A_TIME * 4120
    file.write_bytes(before + bytes(4120) + b"x" * 4120)
    written.clear()
    renew_wal(str(path))
    assert written[-1] == (-1, 0)
    ends = [offset + size for offset, size in written[:-1]]
    assert [offset for offset, _ in written[:-1]] == [0, *ends[:-1]], "one after the other"
    assert ends[-1] == len(before)
    assert file.read_bytes() == before + bytes(4120) + b"x" * 4120
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*) FROM t").fetchall() == [(3,)]
    connection.close()


def test_a_node_does_so_at_its_start(tmp_path: Path, written: list[tuple[int, int]]) -> None:
    leave(tmp_path)
    written.clear()
    lab = Lab(tmp_path, disk_reserve_bytes=0)
    assert written.count((-1, 0)) >= 1
    assert (0, HEADER_BYTES) in written
    lab.close()


@pytest.mark.parametrize("size", [None, 0, 31])
def test_without_a_wal_there_is_nothing_to_do(
    tmp_path: Path, size: int | None, written: list[tuple[int, int]]
) -> None:
    path = tmp_path / "main.db"
    if size is not None:
        path.with_name("main.db-wal").write_bytes(bytes(size))
    renew_wal(str(path))
    assert written == []


def test_a_disk_that_refuses_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFault, match=r"main\.db-wal again"):
        renew_wal(str(path))
