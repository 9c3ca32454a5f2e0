"""Damaged pages are named without SQLite: in the file, not where the WAL has a newer version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from rsqlite.statemachine.pages import damaged_pages
from rsqlite.statemachine.vfs import RESERVED_BYTES, load_checksum_vfs
from rsqlite.statemachine.walfile import read_wal
from tests.statemachine.lab import Lab

PAGE = 4096


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, disk_reserve_bytes=0)
    lab.do("CREATE TABLE t(a)", *[("INSERT INTO t VALUES(?)", "x" * 3000) for _ in range(50)])
    yield lab
    lab.close()


@pytest.fixture
def path(lab: Lab, tmp_path: Path) -> Path:
    """Of a database without a WAL: a checkpoint has moved everything into the file."""
    lab.leader.close()
    return tmp_path / "leader" / "1" / "main.db"


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("offset", [18, 31, 60, PAGE - 1, PAGE, 30 * PAGE + 7, 54 * PAGE - 1])
def test_one_flipped_bit_names_its_page(path: Path, offset: int) -> None:
    assert list(damaged_pages(str(path))) == []
    flip(path, offset)
    page = offset // PAGE + 1
    at = (page - 1) * PAGE
    assert list(damaged_pages(str(path))) == [
        f"{path}: page {page} (at byte {at}) fails its checksum"
    ]


@pytest.mark.parametrize(
    ("offset", "words"),
    [(5, "page 1 (at byte 0)"), (17, "page 1 (at byte 0)"), (20, "no room for checksums")],
)
def test_a_damaged_header_is_found(path: Path, offset: int, words: str) -> None:
    flip(path, offset)
    assert words in next(damaged_pages(str(path)))


def test_every_damaged_page_is_named(path: Path) -> None:
    for page in (3, 9, 40):
        flip(path, (page - 1) * PAGE + 50)
    found = list(damaged_pages(str(path)))
    assert [one.split()[2] for one in found] == ["3", "9", "40"]


def test_a_file_that_ends_too_early_is_found(path: Path) -> None:
    os.truncate(path, 20 * PAGE + 100)
    (found,) = damaged_pages(str(path))
    assert found == f"{path}: it ends at byte {20 * PAGE + 100}, in page 21 of 54"


def test_a_page_with_a_newer_version_in_the_wal_is_not_read_from_the_file(tmp_path: Path) -> None:
    source = apsw.Connection(str(tmp_path / "source.db"), vfs=load_checksum_vfs())
    source.reserve_bytes(reserve=RESERVED_BYTES)
    for sql in (
        "PRAGMA journal_mode = wal",
        "CREATE TABLE t(a)",
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20)"
        " SELECT printf('%3000d', i) FROM n",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "UPDATE t SET a = printf('%3000d', 0) WHERE rowid = 10",
    ):
        source.execute(sql)
    path = tmp_path / "main.db"
    for suffix in ("", "-wal"):
        path.with_name(path.name + suffix).write_bytes(
            (tmp_path / f"source.db{suffix}").read_bytes()
        )
    source.close()
    with open(f"{path}-wal", "rb") as wal:
        image = read_wal(wal.fileno())
    (newer,) = image.offsets
    flip(path, (newer - 1) * PAGE + 50)
    assert list(damaged_pages(str(path))) == []
    flip(path, newer * PAGE + 50)
    assert [one.split()[2] for one in damaged_pages(str(path))] == [str(newer + 1)]
