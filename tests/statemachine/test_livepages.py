"""Damaged pages of a database in use are found, and what is only being written is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import DamagedDatabase
from rsqlite.statemachine.livepages import LivePages
from rsqlite.statemachine.vfs import RESERVED_BYTES, load_checksum_vfs
from tests.statemachine.lab import SERIES, Lab, flip

PAGE = 4096
SLICE = 5 * PAGE


@pytest.fixture
def path(lab: Lab) -> str:
    """Of a database of some pages, all of them in the file; the last ones are used by no table."""
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "CREATE TABLE u(a)")
    for table in "tu":
        lab.do(f"INSERT INTO {table}(a) {SERIES.format(40)} SELECT printf('%3000d', i) FROM c")
    lab.do("DELETE FROM u")
    checkpoint(lab)
    return lab.leader.path


def checkpoint(lab: Lab) -> None:
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    lab.loop.run()
    assert lab.leader.checkpointer.checkpointed_index == lab.leader.applied_index


def damage(path: str) -> list[str]:
    """What is wrong with the whole file."""
    pages = LivePages(path)
    try:
        return problems_of(pages)
    finally:
        pages.close()


def problems_of(pages: LivePages) -> list[str]:
    found: list[str] = []
    page = 1
    while page:
        read = pages.verify(page, SLICE)
        found += read.problems
        page = read.following
    return found


def test_every_page_is_read_once_and_a_sound_file_has_no_problems(path: str) -> None:
    pages = LivePages(path)
    size, page, count = 0, 1, 0
    while page:
        read = pages.verify(page, SLICE)
        assert read.problems == ()
        assert read.size <= SLICE
        assert read.following in (0, page + 5)
        size, page, count = size + read.size, read.following, count + 1
    assert size == pages.size() == Path(path).stat().st_size > 80 * PAGE
    assert count == size // SLICE + 1
    pages.close()


@pytest.mark.parametrize("offset", [31, 60, PAGE - 1, PAGE, 30 * PAGE + 7, -1, -20 * PAGE])
def test_one_flipped_bit_names_its_page_also_one_that_no_table_uses(
    lab: Lab, path: str, offset: int
) -> None:
    offset %= Path(path).stat().st_size
    flip(path, offset)
    page = offset // PAGE + 1
    assert damage(path) == [f"{path}: page {page} (at byte {(page - 1) * PAGE}) fails its checksum"]


@pytest.mark.parametrize("offset", [5, 16, 17, 18, 19, 20])
def test_a_file_that_is_no_database_any_more_is_damaged(path: str, offset: int) -> None:
    flip(path, offset)
    try:
        found = damage(path)
    except DamagedDatabase as fault:
        found = [str(fault)]
    (problem,) = found
    assert path in problem


def test_a_page_that_is_newer_in_the_wal_is_not_read_from_the_file(lab: Lab, path: str) -> None:
    lab.do("UPDATE t SET a = printf('%3000d', 0) WHERE id = 20")
    with open(path + "-wal", "rb") as wal:
        wal.seek(32)
        page = int.from_bytes(wal.read(4), "big")
    assert page > 1
    flip(path, (page - 1) * PAGE + 50)
    assert damage(path) == []
    checkpoint(lab)
    assert damage(path) == [], "the checkpoint has written it"
    flip(path, (page - 1) * PAGE + 50)
    lab.do("UPDATE t SET a = printf('%3000d', 1) WHERE id = 1")
    assert len(damage(path)) == 1, "an older WAL does not count"


class TearingVfs(apsw.VFS):
    """Writes the pages of the database in two halves, and tells between them."""

    def __init__(self) -> None:
        self.name = f"tearing-{id(self)}"
        self.between: Any = None
        self.torn = 0
        super().__init__(self.name, load_checksum_vfs())

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _TearingFile(self, name, flags)


class _TearingFile(apsw.VFSFile):
    def __init__(self, vfs: TearingVfs, name: Any, flags: list[int]) -> None:
        super().__init__(load_checksum_vfs(), name, flags)
        self._vfs = vfs
        self._is_database = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._vfs.between is None or not self._is_database:
            super().xWrite(data, offset)
            return
        data = bytes(data)
        super().xWrite(data[: PAGE // 2], offset)
        self._vfs.torn += 1
        self._vfs.between()
        super().xWrite(data, offset)


def make_database(path: Path, vfs: str) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.set_busy_timeout(10_000)
    connection.reserve_bytes(reserve=RESERVED_BYTES)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
    connection.execute(f"INSERT INTO t(a) {SERIES.format(300)} SELECT randomblob(1000) FROM c")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return connection


@pytest.mark.parametrize("begun", ["before", "meanwhile"])
def test_a_page_that_a_checkpoint_is_writing_is_not_damaged(tmp_path: Path, begun: str) -> None:
    vfs = TearingVfs()
    connection = make_database(tmp_path / "main.db", vfs.name)
    pages = LivePages(str(tmp_path / "main.db")) if begun == "before" else None
    found: list[str] = []

    def look() -> None:
        if pages is not None:
            found.extend(problems_of(pages))
        else:
            found.extend(damage(str(tmp_path / "main.db")))

    for _ in range(3):
        connection.execute("UPDATE t SET a = randomblob(1000) WHERE id % 7 = 0")
        vfs.between = look
        connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
        vfs.between = None
    assert vfs.torn > 100
    assert found == []
    flip(tmp_path / "main.db", 10 * PAGE)
    assert len(damage(str(tmp_path / "main.db"))) == 1
    connection.close()
    if pages is not None:
        pages.close()


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[str]:
    """A database of 20 MB that is written and checkpointed all the time; each page that a
    checkpoint brings into the file is torn for a moment."""
    path = tmp_path / "main.db"
    connection = make_database(path, load_checksum_vfs())
    connection.execute(f"INSERT INTO t(a) {SERIES.format(15_000)} SELECT randomblob(1000) FROM c")
    vfs = TearingVfs()
    vfs.between = lambda: time.sleep(0.000_1)  # gives the interpreter to the others
    connection.execute("CREATE TABLE cold AS SELECT printf('%10000d', 7) AS a")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA synchronous = OFF")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if number % 50 == 0:
                connection.execute("DELETE FROM t WHERE id % 50 = ?", (number // 50 % 50,))
            elif number % 50 == 1:
                connection.execute(
                    f"INSERT INTO t(a) {SERIES.format(100)} SELECT randomblob(1000) FROM c"
                )
            else:
                connection.execute(
                    "UPDATE t SET a = randomblob(1000) WHERE id % 101 = ?", (number % 101,)
                )

    def bring() -> None:
        other = apsw.Connection(str(path), vfs=vfs.name)
        other.execute("PRAGMA synchronous = OFF")
        modes = [apsw.SQLITE_CHECKPOINT_PASSIVE] * 5 + [apsw.SQLITE_CHECKPOINT_TRUNCATE]
        number = 0
        while not stop.is_set():
            number += 1
            try:
                other.wal_checkpoint("main", modes[number % len(modes)])
            except apsw.BusyError:
                continue
        other.close()

    threads = [threading.Thread(target=write), threading.Thread(target=bring)]
    for thread in threads:
        thread.start()
    yield str(path)
    stop.set()
    for thread in threads:
        thread.join()
    connection.close()


@pytest.mark.slow
def test_nothing_is_damaged_while_writers_and_checkpoints_run_hard(
    busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_wrong: list[int] = []
    look_again = LivePages.is_damaged

    def look(pages: LivePages, page: int) -> bool:
        looked_wrong.append(page)
        return look_again(pages, page)

    monkeypatch.setattr(LivePages, "is_damaged", look)
    pages = LivePages(busy)
    while len(looked_wrong) < 30:
        assert problems_of(pages) == []
    assert pages.size() > 3000 * PAGE
    pages.close()


@pytest.mark.slow
def test_damage_is_found_while_writers_and_checkpoints_run_hard(busy: str) -> None:
    other = apsw.Connection(busy, vfs=load_checksum_vfs())
    rows: Any = other.execute("SELECT max(pageno) FROM dbstat WHERE name = 'cold'").fetchall()
    other.close()
    page = int(rows[0][0])
    pages = LivePages(busy)
    while page in pages._pages_in_wal_only():
        assert problems_of(pages) == []
    flip(busy, (page - 1) * PAGE + 100)
    (problem,) = problems_of(pages)
    assert f"page {page} " in problem
    pages.close()
