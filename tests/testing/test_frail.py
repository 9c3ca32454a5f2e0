"""The disk that loses what was not synced, and in whose calls a process may die."""

from __future__ import annotations

import errno
import itertools
import random
from pathlib import Path

import pytest

from rsqlite.testing.frail import AllIsLost, Died, Fault, FrailDisk


def written(disk: FrailDisk, path: Path, data: bytes) -> None:
    file = disk.open(str(path), create=True)
    file.pwrite(data, 0)
    file.sync()
    file.close()


def test_a_power_loss_takes_back_what_was_not_synced(tmp_path: Path) -> None:
    disk, path = FrailDisk(), tmp_path / "log"
    written(disk, path, b"synced")
    file = disk.open(str(path))
    file.pwrite(b"SY", 0)
    file.truncate(3)
    file.pwrite(b" and longer", 3)
    file.close()
    assert path.read_bytes() == b"SYn and longer"
    disk.kill()
    assert disk.revive(AllIsLost()) == 3
    assert path.read_bytes() == b"synced"


def test_with_power_everything_stays(tmp_path: Path) -> None:
    disk, path = FrailDisk(), tmp_path / "log"
    file = disk.open(str(path), create=True)
    file.pwrite(b"written", 0)
    file.close()
    disk.kill()
    assert disk.revive() == 0
    assert path.read_bytes() == b"written"
    assert disk.revive(AllIsLost()) == 0, "it is as good as synced for the next life"


def test_what_is_lost_is_all_or_the_later_part_or_any(tmp_path: Path) -> None:
    found = set()
    for seed in range(200):
        disk, path = FrailDisk(), tmp_path / f"log{seed}"
        written(disk, path, b"...")
        file = disk.open(str(path))
        for at in range(3):
            file.pwrite(b"x", at)
        file.close()
        disk.kill()
        disk.revive(random.Random(seed))
        found.add(path.read_bytes())
    assert found == {bytes(each) for each in itertools.product(b".x", repeat=3)}


def test_a_renamed_file_keeps_what_it_may_lose(tmp_path: Path) -> None:
    disk = FrailDisk()
    disk.mkdir(str(tmp_path / "a"))
    file = disk.open(str(tmp_path / "a" / "log"), create=True)
    file.pwrite(b"unsynced", 0)
    file.close()
    disk.rename(str(tmp_path / "a"), str(tmp_path / "b"))
    disk.kill()
    disk.revive(AllIsLost())
    assert (tmp_path / "b" / "log").read_bytes() == b""


def test_a_process_dies_in_the_midst_of_a_call_and_does_nothing_more(tmp_path: Path) -> None:
    disk, path = FrailDisk(), tmp_path / "log"
    file = disk.open(str(path), create=True)
    disk.inject(Fault(2))
    file.pwrite(b"first", 0)
    with pytest.raises(Died):
        file.sync()
    file.pwrite(b"later", 0)
    file.close()
    assert disk.is_dead
    assert path.read_bytes() == b"first"
    disk.revive(AllIsLost())
    assert path.read_bytes() == b""
    written(disk, path, b"another life")
    assert path.read_bytes() == b"another life"


def test_a_call_fails_once(tmp_path: Path) -> None:
    disk = FrailDisk()
    file = disk.open(str(tmp_path / "log"), create=True)
    disk.inject(Fault(1, "fail"))
    with pytest.raises(OSError, match=r"Input/output") as failed:
        file.pwrite(b"lost", 0)
    assert failed.value.errno == errno.EIO
    file.pwrite(b"kept", 0)
    file.close()
    assert (tmp_path / "log").read_bytes() == b"kept"


def test_room_is_what_a_test_says(tmp_path: Path) -> None:
    disk = FrailDisk()
    disk.free["log"] = 7
    assert disk.free_bytes(str(tmp_path / "log")) == 7
    disk.spare()
    assert disk.free_bytes(str(tmp_path)) > 7


def test_who_is_left_of_an_earlier_life_writes_nothing(tmp_path: Path) -> None:
    disk, path = FrailDisk(), tmp_path / "log"
    file = disk.open(str(path), create=True)
    disk.kill()
    disk.revive()
    file.pwrite(b"late", 0)
    file.close()
    assert path.read_bytes() == b""
