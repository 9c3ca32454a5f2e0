"""A WAL is read as SQLite reads it."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.statemachine.walfile import (
    HEADER_BYTES,
    frame_bytes,
    is_header_sound,
    name_in,
    read_wal,
)
from tests.statemachine.lab import Lab


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
