"""What stands beside a database, and what is done with one that is given up.

Installing and the steps of it are tested with whole nodes in tests/node/test_images.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsqlite.config import QUARANTINED_MAX
from rsqlite.errors import DamagedDatabase, DiskFault, DiskFull
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


@pytest.mark.parametrize("wants_image", [False, True])
@pytest.mark.parametrize("fails", ["_write", "_touch"])
def test_to_give_a_database_up_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, wants_image: bool
) -> None:
    root, quarantine = tmp_path / "db", tmp_path / "quarantine"
    path = database(root)
    with monkeypatch.context() as patch:
        patch.setattr(generations, fails, full)
        generations.note_damage(path, "page 7 is damaged", wants_image=wants_image)
    assert generations.noted_damage(str(root)) is not None
    assert (generations.wanted_image(path) is not None) == wants_image
    generations.set_aside(str(root), str(quarantine))
    path = schema.find_current_database(str(root))
    assert generations.noted_damage(str(root)) is None
    assert (generations.wanted_image(path) is not None) == wants_image


def full(path: str, *arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_where_it_cannot_be_said_nobody_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as if the disk were full: with room a start would use what nobody must use."""
    path = database(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(generations, "_touch", full)
        patch.setattr(os, "rename", full)
        with pytest.raises(DiskFault, match="page 7 is damaged") as found:
            generations.note_damage(path, "page 7 is damaged")
    assert not isinstance(found.value, DiskFull)
    (tmp_path / "1" / "damaged").mkdir()
    with pytest.raises(DiskFault, match="cannot be read"):
        generations.noted_damage(str(tmp_path))


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


def test_the_oldest_gives_way_where_all_that_was_set_aside_is_enough(tmp_path: Path) -> None:
    for name in ("2", "10"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "main.db").write_bytes(os.urandom(8192))
    assert generations.remove_oldest(str(tmp_path), 3 * 8192) is None
    assert len(list(tmp_path.iterdir())) == 2
    assert generations.remove_oldest(str(tmp_path), 2 * 8192) == str(tmp_path / "2")
    assert [one.name for one in tmp_path.iterdir()] == ["10"]
    assert generations.remove_oldest(str(tmp_path / "none"), 0) is None


@pytest.mark.parametrize("names", [("3",), ("3", "4")])
@pytest.mark.parametrize("step", range(10))
def test_what_is_set_aside_is_kept_whenever_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], step: int
) -> None:
    root, quarantine = tmp_path / "db", tmp_path / "quarantine"
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "main.db").write_text(name, encoding="ascii")
    left = step

    def die_at(call: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            call(*arguments)

        return called

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        for name in ("rename", "replace", "mkdir", "unlink"):
            patched.setattr(os, name, die_at(getattr(os, name)))
        generations.set_aside(str(root), str(quarantine))
    generations.finish_setting_aside(str(root), str(quarantine))
    assert generations.finish_setting_aside(str(root), str(quarantine)) is None
    with contextlib.suppress(DamagedDatabase):
        generations.remove_others(schema.current_database(str(root)))
    kept = sorted(path.read_text() for path in tmp_path.rglob("main.db"))
    assert kept == list(names)


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


def test_a_doubt_is_noted_cleared_and_for_a_while_not_raised_again(tmp_path: Path) -> None:
    root, path = str(tmp_path), database(tmp_path)
    assert generations.noted_doubt(root) is None
    generations.note_doubt(path, "malformed", 1000.0)
    assert (generations.noted_doubt(root), generations.noted_damage(root)) == ("malformed", None)
    generations.clear_doubt(path, 1010.0)
    assert generations.noted_doubt(root) is None
    generations.note_doubt(path, "malformed", 1010.0 + generations.DOUBT_PERIOD_S)
    assert generations.noted_doubt(root) == "malformed"
    generations.clear_doubt(path, 5000.0)
    generations.note_doubt(path, "malformed", 5001.0)
    assert generations.noted_doubt(root) is None
    assert generations.noted_damage(root) == "malformed, again"


def test_without_room_for_a_doubt_the_database_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = database(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(generations, "_touch", full)
        generations.note_doubt(path, "malformed", 1000.0)
    assert generations.noted_damage(str(tmp_path)) is not None
