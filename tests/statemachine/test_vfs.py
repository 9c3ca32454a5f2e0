"""The entry's time as SQLite's clock, over page checksums."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from rsqlite.errors import DiskFault
from rsqlite.statemachine.vfs import (
    CHECKSUM_VFS,
    RESERVED_BYTES,
    ClockVfs,
    OpenFile,
    load_checksum_vfs,
)
from tests.statemachine.lab import Lab, WatchedVfs, ask


def test_now_is_what_the_owner_says(tmp_path: Path) -> None:
    vfs = ClockVfs()
    connection = apsw.Connection(str(tmp_path / "x.db"), vfs=vfs.name)
    vfs.set_time(1_700_000_000_123)
    query = "SELECT strftime('%s %f', 'now'), CURRENT_TIMESTAMP, unixepoch()"
    expected = [("1700000000 20.123", "2023-11-14 22:13:20", 1_700_000_000)]
    assert connection.execute(query).fetchall() == expected
    connection.close()


def test_each_writing_connection_has_a_clock_of_its_own(tmp_path: Path) -> None:
    first, second = ClockVfs(), ClockVfs()
    one = apsw.Connection(str(tmp_path / "x.db"), vfs=first.name)
    other = apsw.Connection(str(tmp_path / "x.db"), vfs=second.name)
    first.set_time(1_000)
    second.set_time(2_000)
    assert one.execute("SELECT unixepoch()").fetchall() == [(1,)]
    assert other.execute("SELECT unixepoch()").fetchall() == [(2,)]
    one.close()
    other.close()


def test_now_is_still_refused_in_an_index(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)", "INSERT INTO t VALUES(1)")
    (result,) = lab.do("CREATE INDEX i ON t(datetime('now'))")
    assert "non-deterministic" in result.message  # type: ignore[union-attr]


def test_defaults_triggers_and_views_see_the_entrys_time(lab: Lab) -> None:
    lab.do(
        "CREATE TABLE t(a, at DEFAULT CURRENT_TIMESTAMP, j DEFAULT (julianday('now')))",
        "CREATE TABLE log(at)",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES(datetime('now')); END",
        "CREATE VIEW w AS SELECT datetime() AS at",
    )
    lab.loop.advance(3600)
    lab.do("INSERT INTO t(a) VALUES(1)", "INSERT INTO log SELECT at FROM w")
    stamp = "2023-11-14 23:13:20"
    assert lab.rows("SELECT at FROM t UNION ALL SELECT at FROM log") == [(stamp,)] * 3


def test_localtime_is_utc(lab: Lab) -> None:
    (result,) = lab.do("SELECT datetime(0, 'unixepoch', 'localtime')")
    assert result.rows == [("1970-01-01 00:00:00",)]  # type: ignore[union-attr]


def test_loading_the_checksums_leaves_the_default_vfs_alone() -> None:
    load_checksum_vfs()
    assert CHECKSUM_VFS in apsw.vfs_names()
    assert apsw.vfs_names()[0] != CHECKSUM_VFS


def test_a_flipped_bit_is_noticed(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)", *[("INSERT INTO t VALUES(?)", "x" * 3000) for _ in range(50)])
    lab.leader.close()
    path = lab.directory / "leader" / "1" / "main.db"
    data = bytearray(path.read_bytes())
    page = len(data) // 4096 - 5
    data[page * 4096 + 2000] ^= 1
    path.write_bytes(data)
    lab.leader = lab.open("leader")
    answer = lab.query(ask("SELECT sum(length(a)) FROM t"))
    assert "damaged" in str(answer)


@pytest.mark.parametrize("name", ["leader", "replica"])
def test_every_page_has_room_for_its_checksum(lab: Lab, name: str) -> None:
    machine = getattr(lab, name)
    assert machine._writer.connection.reserve_bytes() == RESERVED_BYTES


def test_the_database_file_is_synced_through_the_file_that_sqlite_has_open(tmp_path: Path) -> None:
    vfs = WatchedVfs()
    connection = apsw.Connection(str(tmp_path / "x.db"), vfs=vfs.name)
    connection.execute("CREATE TABLE t(a)")
    vfs.synced.clear()
    OpenFile(connection).sync()
    assert vfs.synced == ["x.db"]
    connection.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the open file in /proc")
@pytest.mark.parametrize("has_files_of_apsw", [False, True])
def test_a_sync_that_fails_is_a_fault_of_the_disk(tmp_path: Path, has_files_of_apsw: bool) -> None:
    """A file of APSW's, as a writing connection has, leaves an exception beside the code."""
    path = tmp_path / "x.db"
    watched = WatchedVfs()
    name = watched.name if has_files_of_apsw else load_checksum_vfs()
    connection = apsw.Connection(str(path), vfs=name)
    connection.execute("CREATE TABLE t(a)")
    open_files = list(Path("/proc/self/fd").iterdir())
    (file,) = (int(one.name) for one in open_files if one.resolve() == path.resolve())
    reading, writing = os.pipe()
    os.dup2(reading, file)  # a pipe cannot be synced
    with pytest.raises(DiskFault, match="cannot be synced"):
        OpenFile(connection).sync()
    connection.close()
    os.close(reading)
    os.close(writing)


def test_an_open_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("CREATE TABLE t(a)")
    for is_wal, name in ((False, path), (True, f"{path}-wal")):
        with open(name, "rb") as other:
            data = other.read()
        file = OpenFile(connection, is_wal=is_wal)
        assert file.size() == len(data) >= 4096
        assert file.read(100, 0) == data[:100]
        assert file.read(1000, len(data) - 10) == data[-10:]
        assert file.read(10, len(data)) == file.read(10, len(data) + 1) == b""
    connection.close()
