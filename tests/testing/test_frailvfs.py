"""SQLite on a disk that can lose its power."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from rsqlite.statemachine.vfs import CHECKSUM_VFS, load_checksum_vfs
from rsqlite.testing import frailvfs
from rsqlite.testing.frail import AllIsLost, Died, Fault, FrailDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FrailDisk]:
    """That of all files below `tmp_path`."""
    one = FrailDisk()
    with frailvfs.installed(lambda path: one if path.startswith(str(tmp_path)) else None):
        yield one


def opened(tmp_path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(tmp_path / "x.db"), vfs=CHECKSUM_VFS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # it would remove the WAL
    return connection


def rows(tmp_path: Path) -> list[tuple[object, ...]]:
    connection = opened(tmp_path)
    try:
        return connection.execute("SELECT a FROM t").fetchall()
    finally:
        connection.close()


def filled(tmp_path: Path, synchronous: str) -> apsw.Connection:
    connection = opened(tmp_path)
    connection.execute("CREATE TABLE t(a)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("INSERT INTO t VALUES(1)")
    return connection


@pytest.mark.parametrize(("synchronous", "left"), [("FULL", [(1,)]), ("NORMAL", [])])
def test_a_power_loss_takes_back_what_was_not_synced(
    tmp_path: Path, disk: FrailDisk, synchronous: str, left: list[tuple[object, ...]]
) -> None:
    connection = filled(tmp_path, synchronous)
    disk.kill()
    connection.close()  # nothing of it arrives
    disk.revive(AllIsLost())
    assert rows(tmp_path) == left


def test_without_a_power_loss_everything_written_stays(tmp_path: Path, disk: FrailDisk) -> None:
    connection = filled(tmp_path, "NORMAL")
    disk.kill()
    connection.close()
    disk.revive()
    assert rows(tmp_path) == [(1,)]


def test_some_of_what_was_not_synced_may_stay_and_is_no_damage(
    tmp_path: Path, disk: FrailDisk
) -> None:
    connection = filled(tmp_path, "NORMAL")
    for number in range(2, 30):
        connection.execute("INSERT INTO t VALUES(?)", (number,))
    disk.kill()
    connection.close()
    disk.revive(random.Random(5))
    found = [row[0] for row in rows(tmp_path)]
    assert found == list(range(1, len(found) + 1))


def test_a_call_that_fails_and_one_in_which_the_process_dies_reach_sqlite(
    tmp_path: Path, disk: FrailDisk
) -> None:
    connection = filled(tmp_path, "NORMAL")
    disk.inject(Fault(1, "fail"))
    with pytest.raises(apsw.IOError):
        connection.execute("INSERT INTO t VALUES(2)")
    disk.inject(Fault(1))
    with pytest.raises(Died):
        connection.execute("INSERT INTO t VALUES(3)")
    connection.close()


def test_files_of_nobody_and_other_times_are_as_ever(tmp_path: Path) -> None:
    with frailvfs.installed(lambda path: None):
        filled(tmp_path, "NORMAL").close()
    assert frailvfs.NAME not in apsw.vfs_names()
    load_checksum_vfs()
    assert rows(tmp_path) == [(1,)]
