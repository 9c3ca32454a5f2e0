"""The real disk, the one in memory and the frail one keep the same contract."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from rsqlite.ports import Disk
from rsqlite.storage.disk import RealDisk
from rsqlite.testing.disk import RamDisk
from rsqlite.testing.frail import FrailDisk


def refused(number: int) -> AbstractContextManager[object]:
    """What follows raises the `OSError` of this number."""
    return pytest.raises(OSError, match=rf"\[Errno {number}\]")


DISKS: dict[str, Callable[[], Disk]] = {"real": RealDisk, "ram": RamDisk, "frail": FrailDisk}


@pytest.fixture(params=list(DISKS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    """A disk and an empty directory on it."""
    disk = DISKS[request.param]()
    disk.mkdir(str(tmp_path))
    return disk, str(tmp_path)


def test_a_file_gives_back_what_was_written(place: tuple[Disk, str]) -> None:
    disk, root = place
    file = disk.open(f"{root}/a", create=True)
    assert file.size() == 0
    assert file.pread(10, 0) == b""
    file.pwrite(b"hello", 3)
    assert file.size() == 8
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert file.pread(2, 4) == b"el"
    assert file.pread(2, 8) == b""
    file.pwrite(b"EL", 4)
    file.sync()
    file.truncate(6)
    assert file.pread(100, 0) == b"\0\0\0hEL"
    file.truncate(8)
    assert file.pread(100, 5) == b"L\0\0"
    file.close()
    with refused(errno.EBADF):
        file.pread(1, 0)
    again = disk.open(f"{root}/a", writable=False)
    assert again.pread(3, 3) == b"hEL"
    with refused(errno.EBADF):
        again.pwrite(b"x", 0)
    again.close()


def test_what_is_not_there_cannot_be_opened(place: tuple[Disk, str]) -> None:
    disk, root = place
    for act in (
        lambda: disk.open(f"{root}/a"),
        lambda: disk.open(f"{root}/no/a", create=True),
        lambda: disk.unlink(f"{root}/a"),
        lambda: disk.remove_tree(f"{root}/a"),
        lambda: disk.listdir(f"{root}/no"),
        lambda: disk.rename(f"{root}/a", f"{root}/b"),
        lambda: disk.sync_directory(f"{root}/no"),
    ):
        with pytest.raises(FileNotFoundError):
            act()


def test_names(place: tuple[Disk, str]) -> None:
    disk, root = place
    disk.mkdir(f"{root}/x/y")
    disk.mkdir(f"{root}/x/y")
    for name, data in (("b", b"1"), ("a", b"2")):
        file = disk.open(f"{root}/x/{name}", create=True)
        file.pwrite(data, 0)
        file.close()
    assert disk.listdir(f"{root}/x") == ["a", "b", "y"]
    assert disk.exists(f"{root}/x/y")
    assert not disk.exists(f"{root}/x/z")
    disk.rename(f"{root}/x/a", f"{root}/x/b")
    disk.sync_directory(f"{root}/x")
    assert disk.listdir(f"{root}/x") == ["b", "y"]
    file = disk.open(f"{root}/x/b")
    assert file.pread(9, 0) == b"2"
    # A file that lost its name lives until it is closed.
    disk.unlink(f"{root}/x/b")
    assert file.pread(9, 0) == b"2"
    file.close()
    assert disk.listdir(f"{root}/x") == ["y"]
    disk.open(f"{root}/x/y/z", create=True).close()
    disk.mkdir(f"{root}/x/w/v")
    disk.remove_tree(f"{root}/x/w")
    assert disk.listdir(f"{root}/x") == ["y"]
    with refused(errno.EISDIR):
        disk.open(f"{root}/x/y", create=True)


def test_a_directory_is_not_made_over_a_file(place: tuple[Disk, str]) -> None:
    disk, root = place
    disk.open(f"{root}/a", create=True).close()
    with pytest.raises(NotADirectoryError):
        disk.mkdir(f"{root}/a")


def test_a_lock_is_exclusive_until_released(place: tuple[Disk, str]) -> None:
    disk, root = place
    release = disk.lock(f"{root}/lock")
    with pytest.raises(BlockingIOError):
        disk.lock(f"{root}/lock")
    file = disk.open(f"{root}/lock", writable=False)
    assert file.pread(20, 0).strip().isdigit()
    file.close()
    release()
    disk.lock(f"{root}/lock")()


def test_free_space_is_told(place: tuple[Disk, str]) -> None:
    disk, root = place
    assert disk.free_bytes(root) > 0


def test_a_file_gets_its_part_of_the_volume_at_once_or_not_at_all(
    place: tuple[Disk, str],
) -> None:
    disk, root = place
    file = disk.open(f"{root}/a", create=True)
    file.pwrite(b"here", 0)
    file.allocate(100_000)
    assert file.size() == 100_000
    assert file.pread(8, 0) == b"here\0\0\0\0"
    file.allocate(50)
    assert file.size() == 100_000
    with refused(errno.ENOSPC):
        file.allocate(1 << 42)
    assert file.size() == 100_000
    file.close()


def test_two_paths_of_one_volume_are_told_from_two_of_others(place: tuple[Disk, str]) -> None:
    disk, root = place
    disk.mkdir(f"{root}/x")
    assert disk.volume(root) == disk.volume(f"{root}/x")


def test_nobody_else_can_read_what_is_made(tmp_path: Path) -> None:
    disk = RealDisk()
    umask = os.umask(0)
    try:
        disk.mkdir(f"{tmp_path}/d/e")
        disk.open(f"{tmp_path}/d/e/f", create=True).close()
    finally:
        os.umask(umask)
    assert os.stat(f"{tmp_path}/d").st_mode & 0o777 == 0o700
    assert os.stat(f"{tmp_path}/d/e").st_mode & 0o777 == 0o700
    assert os.stat(f"{tmp_path}/d/e/f").st_mode & 0o777 == 0o600


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    disk = RealDisk()
    target = tmp_path / "precious"
    target.write_bytes(b"do not touch")
    (tmp_path / "link").symlink_to(target)
    for create in (False, True):
        with refused(errno.ELOOP):
            disk.open(f"{tmp_path}/link", create=create)
    with refused(errno.ELOOP):
        disk.lock(f"{tmp_path}/link")
    (tmp_path / "folder").symlink_to(tmp_path)
    with refused(errno.ELOOP):
        disk.mkdir(f"{tmp_path}/folder")
    assert target.read_bytes() == b"do not touch"


def test_short_writes_and_reads_of_the_system_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RealDisk().open(f"{tmp_path}/a", create=True)
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 3), at))
    file.pwrite(b"0123456789", 2)
    assert file.pread(100, 0) == b"\0\x000123456789"
    assert file.pread(5, 1) == b"\x000123"
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="no progress"):
        file.pwrite(b"x", 0)
    file.close()
