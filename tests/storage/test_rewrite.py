"""After a disk fault the log is written again, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rsqlite.config import MIB
from rsqlite.errors import DiskFault, DiskFull
from rsqlite.storage.directory import REWRITE_NAME, DataDirectory
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.rewrite import mark, rewrite

SEGMENT = b"\1" * 5000 + bytes(3 * MIB) + b"\2"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("identity.json", "log/1.log", "log/hardstate", "db/1/main.db"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SEGMENT)
    return tmp_path


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is written, and where; syncs at -1."""
    found: list[tuple[str, int]] = []

    def name_of(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        found.append((name_of(descriptor), offset))
        return write(descriptor, data, offset)

    def fsync(descriptor: int) -> None:
        found.append((name_of(descriptor), -1))
        sync(descriptor)

    write: Callable[[int, bytes, int], int] = os.pwrite
    sync: Callable[[int], None] = os.fsync
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_without_a_mark_nothing_is_written(directory: Path, written: list[tuple[str, int]]) -> None:
    assert not rewrite(str(directory))
    assert written == []


def test_the_log_is_written_where_it_was_and_synced_once(
    directory: Path, written: list[tuple[str, int]]
) -> None:
    mark(str(directory))
    assert rewrite(str(directory))
    parts = [0, 3 * MIB, -1]  # between them are zeros: room that is only set apart
    assert written == [(name, at) for name in ("1.log", "hardstate") for at in parts]
    for path in directory.rglob("*"):
        assert path.is_dir() or path.read_bytes() == SEGMENT
    assert not rewrite(str(directory))


@pytest.mark.parametrize("failing", ["", "log"])
def test_one_place_that_takes_the_mark_is_enough(directory: Path, failing: str) -> None:
    (directory / failing / REWRITE_NAME).mkdir()
    mark(str(directory))
    (directory / failing / REWRITE_NAME).rmdir()
    assert rewrite(str(directory))


@pytest.mark.parametrize(("code", "fault"), [(errno.EIO, DiskFault), (errno.ENOSPC, DiskFull)])
def test_while_the_disk_fails_the_mark_stays(
    directory: Path, monkeypatch: pytest.MonkeyPatch, code: int, fault: type[DiskFault]
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    mark(str(directory))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(fault, match="again"):
            rewrite(str(directory))
    assert rewrite(str(directory))


def test_where_no_node_lives_no_mark_is_left(tmp_path: Path) -> None:
    mark(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_who_gave_its_identity_up_is_at_home_beside_a_mark(directory: Path) -> None:
    mark(str(directory))
    (directory / "identity.json").unlink()
    for name in ("log", "db"):  # with which it goes to quarantine
        shutil.rmtree(directory / name)
    DataDirectory.open(str(directory), disk=RealDisk()).close()
