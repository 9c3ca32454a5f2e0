"""After a disk fault what the kernel remembers of the files does not count."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rsqlite.errors import DiskFault
from rsqlite.storage.reread import MARK, mark, reread


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("identity.json", "log/1.seg", "db/1/main.db", "quarantine/1/main.db"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100_000))
    return tmp_path


def is_remembered(path: Path) -> bool:
    """Can the file be read without its disk?"""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.preadv(descriptor, [bytearray(4096)], 8192, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pytest.skip("this file system cannot tell")
    finally:
        os.close(descriptor)
    return True


def test_without_a_mark_nothing_is_read_anew(directory: Path) -> None:
    assert not reread(str(directory))
    assert is_remembered(directory / "db/1/main.db")


def test_all_files_but_those_set_aside_are_read_anew_once(directory: Path) -> None:
    mark(str(directory))
    assert reread(str(directory))
    found = {path: is_remembered(path) for path in directory.rglob("*") if path.is_file()}
    assert [path.parts[-3:-1] for path, kept in found.items() if kept] == [("quarantine", "1")]
    assert len(found) == 4
    assert not reread(str(directory))


@pytest.mark.parametrize("failing", ["", "log"])
def test_one_place_that_takes_the_mark_is_enough(directory: Path, failing: str) -> None:
    (directory / failing / MARK).mkdir()
    mark(str(directory))
    (directory / failing / MARK).rmdir()
    assert reread(str(directory))


def test_while_the_disk_fails_the_mark_stays(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    mark(str(directory))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(DiskFault, match="anew"):
            reread(str(directory))
    assert reread(str(directory))
