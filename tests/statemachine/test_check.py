"""`rsqlite check` on the database of a stopped node."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from rsqlite.statemachine import check_database, generations, needs_image, schema
from rsqlite.statemachine.backfill import Backfill, note_backfill
from rsqlite.statemachine.generations import Installed, write_installed
from rsqlite.statemachine.opening import PAGE_BYTES
from rsqlite.statemachine.walfile import read_wal
from tests.statemachine.lab import Lab


@pytest.fixture
def database(tmp_path: Path) -> Path:
    lab = Lab(tmp_path)
    lab.do("CREATE TABLE t(a)", *[("INSERT INTO t VALUES(?)", "x" * 3000) for _ in range(50)])
    lab.close()
    return tmp_path / "leader"


def test_a_whole_database_has_no_findings_and_is_not_changed(database: Path) -> None:
    path = database / "1" / "main.db"
    before = path.read_bytes()
    assert check_database(str(database)) == []
    assert path.read_bytes() == before


def test_one_flipped_bit_is_found_and_its_page_named(database: Path) -> None:
    path = database / "1" / "main.db"
    data = bytearray(path.read_bytes())
    data[4096 * 27 + 100] ^= 4
    path.write_bytes(data)
    assert check_database(str(database)) == [f"{path}: page 28 (at byte 110592) fails its checksum"]


def test_a_broken_structure_is_found(database: Path) -> None:
    path = database / "1" / "main.db"
    path.write_bytes(path.read_bytes()[: 4096 * 20])
    assert check_database(str(database))


def test_a_missing_applied_row_is_found(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.leader._writer.engine("DELETE FROM _rsqlite_applied")
    lab.close()
    assert any("applied row" in one for one in check_database(str(tmp_path / "leader")))


def test_a_missing_database_is_found(database: Path) -> None:
    (database / "1" / "main.db").unlink()
    assert "missing" in check_database(str(database))[0]


@pytest.mark.parametrize("wants_image", [False, True])
@pytest.mark.parametrize("fails", ["", "_write", "_touch"])
def test_a_database_that_was_given_up_is_told_however_it_was_noted(
    database: Path, monkeypatch: pytest.MonkeyPatch, fails: str, wants_image: bool
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = str(database / "1" / "main.db")
    with monkeypatch.context() as patch:
        if fails:
            patch.setattr(generations, fails, full)
        generations.note_damage(path, "entry 7 differs", wants_image=wants_image)
    (found,) = check_database(str(database))
    assert path in found
    assert "missing" not in found
    assert ("entry 7 differs" in found) == (fails != "_write")
    assert needs_image(str(database)) == wants_image


def test_what_is_to_take_its_place_is_told_while_it_is_waited_for(
    database: Path, tmp_path: Path
) -> None:
    path = str(database / "1" / "main.db")
    generations.note_damage(path, "entry 7 differs", wants_image=True)
    generations.set_aside(str(database), str(tmp_path / "quarantine"))
    (found,) = check_database(str(database))
    assert "entry 7 differs" in found
    assert needs_image(str(database))


def test_where_it_is_not_known_which_one_is_in_use_each_may_need_an_image(database: Path) -> None:
    shutil.copytree(database / "1", database / "2")
    (database / "CURRENT").unlink()
    assert "is not known" in check_database(str(database))[0]
    assert not needs_image(str(database))
    (database / "2" / "wants-image").touch()
    assert needs_image(str(database))


@pytest.mark.parametrize("name", ["CURRENT", "1/installed"])
def test_a_damaged_note_is_found_and_what_it_is_about_looked_at(database: Path, name: str) -> None:
    write_installed(str(database / "1" / "main.db"), Installed(7, 1))
    assert check_database(str(database)) == []
    data = bytearray((database / name).read_bytes())
    data[3] ^= 2
    (database / name).write_bytes(data)
    (found,) = check_database(str(database))
    assert str(database / name) in found
    (database / "1" / "main.db").unlink()
    assert "missing" in check_database(str(database))[-1]


def test_a_strange_format_is_found(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.leader._writer.engine(schema.SET_META, ("format", 99))
    lab.close()
    assert any("format 99" in one for one in check_database(str(tmp_path / "leader")))


@pytest.mark.parametrize("is_done", [True, False])
def test_a_wal_that_lost_what_the_file_may_hold_is_found(tmp_path: Path, is_done: bool) -> None:
    lab = Lab(tmp_path / "lab")
    lab.do("CREATE TABLE t(a)", *[("INSERT INTO t VALUES(?)", "x" * 3000) for _ in range(50)])
    shutil.copytree(tmp_path / "lab" / "leader", tmp_path / "db")
    lab.close()
    wal = tmp_path / "db" / "1" / "main.db-wal"
    assert check_database(str(tmp_path / "db")) == []
    name = wal.read_bytes()[16:24].hex()
    note_backfill(str(wal).removesuffix("-wal"), Backfill(name, 999, is_done), syncs=True)
    before = wal.read_bytes()
    with open(wal, "rb") as file:
        end = max(read_wal(file.fileno()).offsets.values()) + PAGE_BYTES
    (found,) = check_database(str(tmp_path / "db"))
    assert f"{wal} at byte {end}: frame " in found
    assert wal.read_bytes() == before
