"""How SQLite is opened: what each setting answers."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import Settings
from rsqlite.errors import DamagedDatabase, DiskFault, DiskFull, DoubtedDatabase, NodeFault
from rsqlite.request import Outcome
from rsqlite.statemachine import opening
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.opening import (
    expect,
    finds_temporary_room,
    open_error,
    provide_temporary_room,
    require_sqlite,
)
from tests.statemachine.lab import QUERY, SERIES, Lab, ask, flip


@pytest.mark.parametrize(
    ("pragma", "answer"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 1),  # FULL would cost half the speed, and says nothing of it
        ("wal_autocheckpoint", 0),
        ("mmap_size", 0),
        ("cell_size_check", 1),
        ("trusted_schema", 0),
        ("foreign_keys", 0),
        ("busy_timeout", 0),
        ("page_size", 4096),
    ],
)
def test_what_the_writer_answers(lab: Lab, pragma: str, answer: Any) -> None:
    assert lab.leader._writer.engine(f"PRAGMA {pragma}") in ([(answer,)], [])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
        (apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1),
        (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
        (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    ],
)
def test_flags_of_every_connection(lab: Lab, option: int, value: int) -> None:
    for connection in (lab.leader._writer.connection, lab.leader._readers._inline.connection):
        assert connection.config(option, -1) == value


def test_a_pragma_that_did_not_take_stops_the_start() -> None:
    connection = apsw.Connection(":memory:")
    with pytest.raises(NodeFault, match="journal_mode"):
        expect(connection, "journal_mode", "wal", "wal")


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_sqlite()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(NodeFault, match=r"3\.51\.2 is too old"):
        require_sqlite()


def test_the_setting_fk(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path / "x.db"), Settings(fk=True))
    assert writer.engine("PRAGMA foreign_keys") == [(1,)]
    writer.close()


@pytest.mark.parametrize("has_wal", [False, True])
def test_a_flipped_bit_in_the_header_never_turns_the_checksums_off(
    tmp_path: Path, has_wal: bool
) -> None:
    """Byte 20 says that there are some: `cksmvfs` believes it, and SQLite would take the place of
    a checksum for content."""
    lab = Lab(tmp_path)
    lab.do(
        "CREATE TABLE t(v)", f"INSERT INTO t {SERIES.format(5)} SELECT hex(zeroblob(9000)) FROM c"
    )
    if has_wal:
        shutil.copytree(tmp_path / "leader", tmp_path / "source")
        lab.close()
    else:
        lab.close()
        shutil.copytree(tmp_path / "leader", tmp_path / "source")
    for bit in (0, 100, *range(8 * 15, 8 * 24), *range(8 * 24, 8 * 100, 31)):
        shutil.copytree(tmp_path / "source", tmp_path / "copy")
        path = tmp_path / "copy" / "1" / "main.db"
        data = bytearray(path.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            machine = lab.open("copy")
        except DamagedDatabase:
            pass
        else:
            for connection in (machine._writer.connection, machine._readers._inline.connection):
                connection.authorizer = None
                rows = connection.execute("PRAGMA checksum_verification").fetchall()
                assert rows == [("1",)], bit
            answer = lab.query(ask("SELECT count(*), sum(length(v)) FROM t", kind=QUERY), machine)
            if isinstance(answer, Outcome):
                assert has_wal, bit
                assert answer.results[0].rows == [(5, 90_000)], bit  # type: ignore[union-attr]
            else:
                assert isinstance(answer, DamagedDatabase), (bit, answer)
            with contextlib.suppress(NodeFault):
                machine.close()
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize("reads", [True, False])
def test_checksums_that_were_turned_off_end_a_running_database(lab: Lab, reads: bool) -> None:
    lab.do("CREATE TABLE t(v)", f"INSERT INTO t {SERIES.format(5)} SELECT i FROM c")
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    lab.loop.run()
    lab.leader.look_at_checksums()
    assert lab.leader.fault is None
    flip(lab.leader.path, 20)
    # The WAL begins anew, and page 1 is read from the file.
    lab.do("UPDATE t SET v = v + 1")
    lab.query(ask("SELECT count(*) FROM t", kind=QUERY))
    if reads:
        # In a thread, by a connection that is made for it.
        long = f"SELECT count(*) FROM t, ({SERIES.format(100_000)} SELECT i FROM c)"
        assert isinstance(lab.query(ask(long, kind=QUERY)), DamagedDatabase)
    else:
        lab.leader.look_at_checksums()
    assert isinstance(lab.leader.fault, DamagedDatabase)


def test_a_database_that_is_closed_is_not_asked_any_more(lab: Lab) -> None:
    """While an image is installed there is none for some milliseconds, and the sweep goes on."""
    lab.leader.close()
    lab.leader.look_at_checksums()
    assert lab.leader.fault is None


def temporary_directory() -> Any:
    """What SQLite was told, for the whole process."""
    connection = apsw.Connection(":memory:")
    try:
        return connection.execute("PRAGMA temp_store_directory").fetchall()
    finally:
        connection.close()


def test_temporary_files_stay_where_they_are_if_there_is_room_for_them(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert finds_temporary_room()
    assert not provide_temporary_room(str(tmp_path))
    assert temporary_directory() == []
    assert os.environ == before


def test_temporary_files_go_beside_the_database_if_there_is_no_other_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own search cannot be made to fail here: the usual directories are there."""
    monkeypatch.setattr(opening, "finds_temporary_room", lambda: False)
    directory = tmp_path / "it's here"
    directory.mkdir()
    before = dict(os.environ)
    try:
        assert provide_temporary_room(str(directory))
        assert temporary_directory() == [(str(directory),)]
        assert os.environ == before, "it is not ours: a program may run this node in itself"
    finally:
        connection = apsw.Connection(":memory:")
        connection.execute("PRAGMA temp_store_directory = ''")
        connection.close()
    assert temporary_directory() == []


@pytest.mark.parametrize(
    ("kind", "code", "fault"),
    [
        (apsw.FullError, apsw.SQLITE_FULL, DiskFull),
        (apsw.IOError, apsw.SQLITE_IOERR_WRITE, DiskFault),
        (apsw.CorruptError, apsw.SQLITE_CORRUPT, DoubtedDatabase),
        (apsw.NotADBError, apsw.SQLITE_NOTADB, DamagedDatabase),
    ],
)
def test_why_a_database_could_not_be_opened(
    kind: type[apsw.Error], code: int, fault: type[NodeFault]
) -> None:
    """One that cannot be made for want of room is not damaged: the node waits for room."""
    error = kind("as SQLite words it")
    vars(error).update(result=code & 255, extendedresult=code)
    found = open_error(error, "main.db")
    assert type(found) is fault
    assert "main.db" in str(found)
