"""After a disk fault the next start writes again what the log has, before it relies on it.

A page whose write has failed the kernel keeps, and calls clean: a process that starts again reads
it, takes it for durable, and acknowledges what is gone with the power ("Can Applications Recover
from fsync Failures?", ATC 2020). To sync once more would be of no use, for nothing is left to be
written. So who ends with a disk fault leaves a mark, and the next start writes all of the log to
where it was, and syncs that: what is not on the disk gets there. Bytes are not judged here; their
checksums are, by whoever reads them. The database has the log behind it, and needs none of this.

The mark need not be durable: what it is about is not remembered longer than the mark itself.
"""

from __future__ import annotations

import contextlib
import os

from rsqlite.config import MIB
from rsqlite.errors import disk_fault
from rsqlite.storage.directory import LOG_NAME, REWRITE_NAME
from rsqlite.storage.identity import IDENTITY_NAME


def mark(directory: str) -> None:
    """A disk of this data directory has failed. Its log may have one of its own: a mark in one of
    the two places is enough, and where neither takes one there is nothing more to be done. Who has
    no identity yet has acknowledged nothing, and may not be at home here."""
    if not os.path.exists(os.path.join(directory, IDENTITY_NAME)):
        return
    for path in _marks(directory):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def rewrite(directory: str) -> bool:
    """Write the log again, if there is a mark, and take that away. To be called when the directory
    is locked, and before the log is open. DiskFault when the disk still fails."""
    marks = [path for path in _marks(directory) if os.path.exists(path)]
    if not marks:
        return False
    folder = os.path.join(directory, LOG_NAME)
    try:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if path not in marks and os.path.isfile(path):
                _rewrite_file(path)
        for path in marks:
            os.unlink(path)
    except OSError as error:
        raise disk_fault(f"cannot write {folder} again: {error}", error) from error
    return True


def _marks(directory: str) -> list[str]:
    return [os.path.join(directory, folder, REWRITE_NAME) for folder in ("", LOG_NAME)]


def _rewrite_file(path: str) -> None:
    """What was only set apart stays so: there are zeros."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        offset = 0
        while part := os.pread(descriptor, MIB, offset):
            if part.count(0) < len(part):
                os.pwrite(descriptor, part, offset)
            offset += len(part)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
