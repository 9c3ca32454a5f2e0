"""Calls of the system by a node's modules, counted on its disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import DiskFault
from rsqlite.statemachine import schema
from rsqlite.testing import frailos
from rsqlite.testing.frail import Call, Died, Fault, FrailDisk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FrailDisk]:
    """That of all files below `tmp_path`."""
    one = FrailDisk()
    with frailos.installed(lambda path: one if path.startswith(str(tmp_path)) else None):
        yield one


def test_what_a_node_asks_is_counted_and_what_others_ask_is_not(
    disk: FrailDisk, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    os.rename(tmp_path / "mine", tmp_path / "other")
    assert not disk.calls
    schema.set_current(str(tmp_path), 3)
    assert disk.calls == {Call.NAME: 2, Call.SYNC: 2}  # open, fsync, replace, and its folder


def test_a_call_fails_and_the_process_dies_in_one(disk: FrailDisk, tmp_path: Path) -> None:
    disk.inject(Fault(3, "fail"))
    with pytest.raises(DiskFault):
        schema.current_database(str(tmp_path / "db"))
    disk.inject(Fault(2))
    with pytest.raises(Died):
        schema.set_current(str(tmp_path), 3)
    assert (tmp_path / "CURRENT.new").exists()
    with pytest.raises(OSError, match="Input/output"):
        schema.set_current(str(tmp_path), 3)
    disk.revive()
    schema.set_current(str(tmp_path), 3)
    assert schema.read_current(str(tmp_path)).generation == 3


def test_afterwards_all_is_as_before(tmp_path: Path) -> None:
    before = os.fsync, os.replace, open
    with frailos.installed(lambda path: None):
        assert os.fsync is not before[0]
    assert (os.fsync, os.replace, open) == before
