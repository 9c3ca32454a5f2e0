"""Room that is taken to be given back."""

from __future__ import annotations

import errno

import pytest

from rsqlite.config import MIB
from rsqlite.storage.ballast import BALLAST_BYTES_MAX, Ballast
from rsqlite.testing.disk import RamDisk

PATH = "/srv/data"


def ballast(disk: RamDisk, reserve_bytes: int = 8 * MIB) -> Ballast:
    disk.mkdir(PATH)
    return Ballast(PATH, disk, reserve_bytes)


def test_it_takes_an_eighth_of_the_reserve_and_gives_it_back_once() -> None:
    disk = RamDisk(capacity=10 * MIB)
    one = ballast(disk)
    one.restore()
    one.restore()
    assert disk.room == 9 * MIB
    assert one.release()
    assert disk.room == 10 * MIB
    assert not one.release()
    assert ballast(disk, 1 << 40).size == BALLAST_BYTES_MAX


def test_a_file_that_a_crash_left_without_its_room_gets_it() -> None:
    disk = RamDisk(capacity=10 * MIB)
    one = ballast(disk)
    disk.open(f"{PATH}/ballast", create=True).close()
    one.restore()
    assert disk.room == 9 * MIB
    one.release()
    one.restore()
    assert disk.room == 9 * MIB


def test_without_room_there_is_none_and_nothing_is_left_of_the_attempt() -> None:
    disk = RamDisk(capacity=MIB // 2)
    one = ballast(disk)
    one.restore()
    assert disk.files() == {}
    assert not one.release()


def test_without_a_reserve_there_is_none() -> None:
    disk = RamDisk()
    ballast(disk, 0).restore()
    assert disk.files() == {}


def test_a_disk_that_fails_is_no_full_one() -> None:
    disk = RamDisk()
    one = ballast(disk)
    disk.fail_nth_call(2, errno.EIO)
    with pytest.raises(OSError, match="Errno 5"):
        one.restore()
