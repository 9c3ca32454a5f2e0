"""What stands beside a database, and what is done with one that is given up.

Installing and the steps of it are tested with whole nodes in tests/node/test_images.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rsqlite.config import QUARANTINED_MAX
from rsqlite.errors import DamagedDatabase
from rsqlite.statemachine import generations, schema
from rsqlite.statemachine.generations import Installed


def database(root: Path) -> str:
    path = schema.current_database(str(root))
    Path(path).write_text("a database", encoding="ascii")
    return path


def test_every_flipped_bit_of_what_was_installed_is_noticed(tmp_path: Path) -> None:
    """A wrong index there would make a start throw away a log that is needed."""
    path = database(tmp_path)
    assert generations.installed_of(path) is None
    generations.write_installed(path, Installed(1234, 5))
    assert generations.installed_of(path) == Installed(1234, 5)
    note = tmp_path / "1" / "installed"
    good = note.read_bytes()
    for bit in range(8 * len(good)):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        note.write_bytes(data)
        with pytest.raises(DamagedDatabase, match="installed is damaged"):
            generations.installed_of(path)
    note.write_bytes(b'{"last_index":1234,"last_term":5}')
    assert generations.installed_of(path) == Installed(1234, 5), "as the first release wrote it"


@pytest.mark.parametrize("reason", ["page 7 is damaged", "", "\udcff"])
def test_a_database_that_was_given_up_is_not_used_whatever_is_left_of_the_reason(
    tmp_path: Path, reason: str
) -> None:
    path = database(tmp_path)
    assert generations.noted_damage(str(tmp_path)) is None
    generations.note_damage(path, "page 7 is damaged")
    assert generations.noted_damage(str(tmp_path)) == "page 7 is damaged"
    (tmp_path / "1" / "damaged").write_bytes(reason.encode(errors="surrogateescape"))
    assert generations.noted_damage(str(tmp_path)) is not None


def test_the_newest_databases_that_were_given_up_are_kept(tmp_path: Path) -> None:
    root, quarantine = tmp_path / "db", tmp_path / "quarantine"
    for number in range(1, 6):
        path = database(root)
        Path(path).write_text(f"number {number}", encoding="ascii")
        place = generations.set_aside(str(root), str(quarantine))
        assert (Path(place) / "main.db").read_text() == f"number {number}"
        assert not Path(schema.find_current_database(str(root))).exists()
    kept = [int(one.name) for one in quarantine.iterdir()]
    assert sorted(kept) == list(range(6 - QUARANTINED_MAX, 6))


def test_where_it_is_not_known_which_one_is_in_use_all_are_set_aside(tmp_path: Path) -> None:
    root, quarantine = tmp_path / "db", tmp_path / "quarantine"
    for number in (3, 4):
        (root / str(number)).mkdir(parents=True)
        (root / str(number) / "main.db").touch()
    with pytest.raises(DamagedDatabase):
        generations.noted_damage(str(root))
    place = generations.set_aside(str(root), str(quarantine))
    assert sorted(one.name for one in Path(place).iterdir()) == ["3", "4"]
    assert schema.current_database(str(root)) == str(root / "5" / "main.db")
    assert generations.noted_damage(str(root)) is None
