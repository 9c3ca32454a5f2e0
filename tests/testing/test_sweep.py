"""Calls to the disk that fail, one after the other; all of them are tried by `make sweep`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from rsqlite.errors import DiskFault
from rsqlite.testing.frail import Call, FrailFile
from rsqlite.testing.sweep import KINDS, SCENARIOS, main, play, points
from rsqlite.testing.workload import Wrong


def test_the_same_calls_are_made_each_time(tmp_path: Path) -> None:
    first, second = (play("join", None, 0, tmp_path) for _ in range(2))
    assert first == second
    assert set(first) > {Call.WRITE, Call.SYNC, Call.NAME}


def test_every_kind_has_its_points_in_the_calls_that_it_is_about(tmp_path: Path) -> None:
    made = play("write", None, 0, tmp_path)
    found = list(points("write", KINDS, root=tmp_path))
    assert len([call for kind, call in found if kind == "die"]) == made.total()
    assert len([call for kind, call in found if kind == "failed sync"]) == made[Call.SYNC]
    assert {kind for kind, _ in points("write", KINDS, 10**6, tmp_path)} == set(KINDS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_call_fails_nothing_is_lost(name: str, tmp_path: Path) -> None:
    """Some of them; the command tries all."""
    for kind, call in points(name, KINDS, 100, tmp_path):
        play(name, KINDS[kind], call, tmp_path)


def test_a_log_that_is_not_synced_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrailFile, "sync", lambda file: None)
    with pytest.raises(Wrong):
        play_all("write", "lose power", tmp_path)


def test_an_error_of_the_system_that_nobody_expects_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unprepared(*_: object) -> DiskFault:
        return OSError("no fault of the node's")  # type: ignore[return-value]

    monkeypatch.setattr("rsqlite.statemachine.schema.disk_fault", unprepared)
    with pytest.raises(OSError, match="no fault"):
        play_all("start", "EIO", tmp_path)


def play_all(name: str, kind: str, root: Path) -> None:
    for _, call in points(name, {kind: KINDS[kind]}, root=root):
        play(name, KINDS[kind], call, root)


def test_the_command_tells_what_it_tried_and_what_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "sweep.md"
    words = f"--scenario write --kind die --kind tear --stride 9 --seeds 2 --results {table}"
    done = CliRunner().invoke(main, words.split())
    assert done.exit_code == 0, done.output
    assert "wrong: 0" in table.read_text()
    (row,) = (line for line in table.read_text().splitlines() if line.startswith("| write"))
    assert all(int(cell) > 1 for cell in row.split("|")[2:4])
    monkeypatch.setattr(FrailFile, "sync", lambda file: None)
    words = ["--scenario", "write", "--kind", "lose power", "--call", "9"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert f'--seed 1 {words[0]} "write" --kind "lose power" --call 9: ' in done.output
