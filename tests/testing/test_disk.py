"""What the disk in memory can do that real ones do on a bad day; its contract as a `Disk` is
tested beside the real one, in tests/storage/test_disk.py."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from rsqlite.testing.disk import SECTOR_BYTES, RamDisk


def refused(number: int) -> AbstractContextManager[object]:
    """What follows raises the `OSError` of this number."""
    return pytest.raises(OSError, match=rf"\[Errno {number}\]")


def ram_file(content: bytes = b"") -> tuple[RamDisk, str]:
    return RamDisk.from_files({"/d/a": content}), "/d/a"


def test_a_power_loss_takes_back_what_was_not_synced() -> None:
    disk, path = ram_file(b"old")
    file = disk.open(path)
    file.pwrite(b"new", 0)
    file.sync()
    file.pwrite(b"NEWER", 0)
    assert disk.files() == {path: b"NEWER"}
    disk.power_loss()
    assert disk.files() == {path: b"new"}
    with refused(errno.EBADF):
        file.pread(1, 0)


def test_a_kill_keeps_what_was_written() -> None:
    disk, path = ram_file(b"old")
    file = disk.open(path)
    file.pwrite(b"new", 0)
    disk.lock("/d/lock")
    disk.kill()
    assert disk.files()[path] == b"new"
    with refused(errno.EBADF):
        file.pwrite(b"x", 0)
    disk.lock("/d/lock")
    disk.power_loss()
    assert disk.files()[path] == b"old"


def test_names_count_once_the_directory_is_synced() -> None:
    disk, path = ram_file(b"old")
    file = disk.open("/d/b", create=True)
    file.pwrite(b"b", 0)
    file.sync()
    disk.rename("/d/b", path)
    disk.power_loss()
    assert disk.files() == {path: b"old"}
    disk.mkdir("/d/sub")
    disk.open("/d/b", create=True)
    disk.sync_directory("/d")
    disk.unlink(path)
    disk.power_loss()
    assert disk.files() == {path: b"old", "/d/b": b""}
    assert disk.exists("/d/sub")


def outcomes(act: Callable[[RamDisk], None], content: bytes, tries: int) -> set[bytes]:
    """What different power losses leave of a file."""
    found = set()
    for seed in range(tries):
        disk, path = ram_file(content)
        act(disk)
        disk.power_loss(random.Random(seed))
        found.add(disk.files()[path])
    return found


def test_a_power_loss_may_keep_any_part_of_a_write_by_sectors() -> None:
    def write(disk: RamDisk) -> None:
        file = disk.open("/d/a")
        file.pwrite(b"x" * SECTOR_BYTES * 3, 0)

    found = outcomes(write, b"o" * SECTOR_BYTES * 3, 300)
    sectors = {tuple(data[n * SECTOR_BYTES] for n in range(3)) for data in found}
    assert len(found) == len(sectors) == 8


def test_a_power_loss_may_keep_the_later_write_and_not_the_earlier() -> None:
    def write(disk: RamDisk) -> None:
        file = disk.open("/d/a")
        file.pwrite(b"1", 0)
        file.pwrite(b"2", SECTOR_BYTES)
        file.pwrite(b"3", 1)

    found = outcomes(write, b"." * SECTOR_BYTES * 2, 300)
    firsts = {(data[:2], data[SECTOR_BYTES : SECTOR_BYTES + 1]) for data in found}
    # Within a sector the later write is never there without the earlier.
    assert firsts == {(a, b) for a in (b"..", b"1.", b"13") for b in (b".", b"2")}


def test_the_nth_call_fails_once_or_from_then_on() -> None:
    disk, path = ram_file(b"old")
    file = disk.open(path)
    disk.fail_nth_call(2, errno.EIO)
    file.pwrite(b"1", 0)
    with refused(errno.EIO):
        file.pwrite(b"2", 0)
    assert disk.failed_call == f"pwrite {path}"
    file.pwrite(b"3", 0)
    disk.fail_nth_call(1, errno.ENOSPC, once=False, short=True)
    for _ in range(2):
        with refused(errno.ENOSPC):
            file.pwrite(b"45", 0)
    disk.stop_failing()
    assert file.pread(3, 0) == b"4ld"


def test_a_failed_sync_loses_what_it_should_have_stored() -> None:
    disk, path = ram_file(b"old")
    file = disk.open(path)
    file.pwrite(b"new", 0)
    disk.fail_nth_call(1, errno.EIO)
    with refused(errno.EIO):
        file.sync()
    assert file.pread(3, 0) == b"new"
    file.sync()
    disk.power_loss()
    assert disk.files() == {path: b"old"}


def test_a_full_disk_takes_what_fits() -> None:
    disk, path = ram_file(b"old")
    disk.capacity = 5
    assert disk.free_bytes("/d") == 2
    file = disk.open(path)
    file.pwrite(b"NEW", 0)
    with refused(errno.ENOSPC):
        file.pwrite(b"1234", 3)
    assert disk.files() == {path: b"NEW12"}


def test_a_flipped_bit_is_there_for_reader_and_store() -> None:
    disk, path = ram_file(b"\0\0")
    disk.flip_bit(path, 9)
    assert disk.files() == {path: b"\0\x02"}
    disk.power_loss()
    assert disk.files() == {path: b"\0\x02"}
