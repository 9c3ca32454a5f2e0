"""A compact copy: the same content in fewer pages, each with its checksum."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import KIB
from rsqlite.statemachine import compact
from rsqlite.statemachine.background import BrokenOff
from rsqlite.statemachine.pages import damaged_pages
from rsqlite.statemachine.vfs import load_checksum_vfs
from tests.statemachine.lab import SERIES, Lab


@pytest.fixture
def filled(tmp_path: Path) -> Lab:
    """Pages that outgrow the cache, of which every other one is free."""
    lab = Lab(tmp_path, page_cache_bytes=256 * KIB)
    lab.do(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        f"INSERT INTO t(v) {SERIES.format(3000)} SELECT hex(zeroblob(700)) FROM c",
        "DELETE FROM t WHERE id % 2",
    )
    return lab


def copy(lab: Lab, path: str) -> tuple[Any, BaseException | None]:
    found: list[Any] = []
    lab.leader.copy_compactly(path, lambda *answer: found.append(answer))
    lab.loop.run()
    ((last, error),) = found
    return last, error


def test_every_page_of_the_copy_has_its_checksum(filled: Lab, tmp_path: Path) -> None:
    path = str(tmp_path / "copy.db")
    last, error = copy(filled, path)
    assert error is None
    assert last == (filled.leader.applied_term, filled.leader.applied_index)
    assert os.path.getsize(path) > 8 * 256 * KIB
    assert list(damaged_pages(path)) == []
    with open(path, "r+b") as file:
        file.seek(5 * 4096 + 77)
        file.write(b"\xff" * 8)
    assert len(list(damaged_pages(path))) == 1
    filled.close()


def test_the_copy_holds_the_same_rows_under_the_same_numbers(filled: Lab, tmp_path: Path) -> None:
    filled.do("CREATE TABLE bare(v)", "INSERT INTO bare SELECT id FROM t", "DELETE FROM bare")
    filled.do("INSERT INTO bare(rowid, v) VALUES(7, 'a'), (9007199254740993, 'b')")
    path = str(tmp_path / "copy.db")
    copy(filled, path)
    connection = apsw.Connection(path, vfs=load_checksum_vfs())
    assert connection.execute("SELECT rowid, v FROM bare").fetchall() == [
        (7, "a"),
        (9007199254740993, "b"),
    ]
    assert connection.execute("SELECT count(*), min(id), max(id) FROM t").fetchall() == [
        (1500, 2, 3000)
    ]
    connection.close()
    filled.close()


def test_a_file_that_is_there_is_not_written_over(filled: Lab, tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    precious = apsw.Connection(str(path))
    precious.execute("CREATE TABLE precious(v)")
    precious.close()
    before = path.read_bytes()
    last, error = copy(filled, str(path))
    assert last is None
    assert error is not None
    assert path.read_bytes() == before
    assert filled.leader.fault is None
    filled.close()


def test_it_ends_when_it_is_given_up(
    filled: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compact._write_checksums

    def given_up(path: str, is_over: Any) -> None:
        filled.leader.cancel_copy()
        real(path, is_over)

    monkeypatch.setattr(compact, "_write_checksums", given_up)
    last, error = copy(filled, str(tmp_path / "copy.db"))
    assert last is None
    assert isinstance(error, BrokenOff)
    filled.close()


def test_the_schema_has_the_same_rows_in_the_same_order(lab: Lab, tmp_path: Path) -> None:
    lab.do(
        "CREATE TABLE gone(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO gone VALUES(7)",
        "CREATE TABLE a(x)",
        "CREATE INDEX ia ON a(x)",
        "CREATE VIEW v AS SELECT x FROM a",
        "CREATE TABLE b(x UNIQUE)",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
        "CREATE TRIGGER tr AFTER INSERT ON a BEGIN INSERT INTO b VALUES(new.x); END",
        "DROP TABLE gone",
        "INSERT INTO a VALUES(1)",
    )
    path = str(tmp_path / "copy.db")
    _, error = copy(lab, path)
    assert error is None
    assert list(damaged_pages(path)) == []
    connection = apsw.Connection(path, vfs=load_checksum_vfs())
    rows = "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema"
    assert connection.execute(rows).fetchall() == lab.leader._writer.engine(rows)
    assert connection.execute("SELECT * FROM sqlite_sequence").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.execute("INSERT INTO a VALUES(2)")
    assert connection.execute("SELECT x FROM b").fetchall() == [(1,), (2,)]
    connection.close()


@pytest.mark.parametrize("changes", ["never", "before", "after"])
def test_numbers_without_a_table_are_those_of_the_copied_moment(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: str
) -> None:
    lab.do(
        "CREATE TABLE gone(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "DROP TABLE gone",
        "INSERT INTO sqlite_sequence VALUES('other', 7)",
    )

    def then_changed(step: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any) -> Any:
            found = step(*arguments)
            lab.leader._writer.engine("UPDATE sqlite_sequence SET seq = seq + 1")
            return found

        return changed

    step = {"before": "_numbers", "after": "_write_checksums"}.get(changes)
    if step is not None:
        monkeypatch.setattr(compact, step, then_changed(getattr(compact, step)))
    path = str(tmp_path / "copy.db")
    _, error = copy(lab, path)
    assert isinstance(error, BrokenOff) == (changes == "before")
    if error is None:
        connection = apsw.Connection(path, vfs=load_checksum_vfs())
        assert connection.execute("SELECT * FROM sqlite_sequence").fetchall() == [("other", 7)]
        connection.close()
