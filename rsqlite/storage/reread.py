"""After a disk fault the next start reads what is on the disk, and not what the kernel remembers.

A page whose write has failed the kernel keeps, and calls clean: a process that starts again reads
what it would have been, takes it for durable, and acknowledges it, until it is gone with the power
("Can Applications Recover from fsync Failures?", ATC 2020). So who ends with a disk fault leaves a
mark, and the next start has the pages of all files dropped before it reads any. The mark need not
be durable: what it is about is not remembered longer than the mark itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from rsqlite.errors import disk_fault

MARK = "reread"
LOG = "log"
QUARANTINE = "quarantine"


def mark(directory: str) -> None:
    """A disk of this data directory has failed. Its log may have one of its own: a mark in one of
    the two places is enough, and where neither takes one there is nothing more to be done."""
    for folder in (directory, os.path.join(directory, LOG)):
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.join(folder, MARK), os.O_WRONLY | os.O_CREAT, 0o600))


def reread(directory: str) -> bool:
    """Drop what the kernel remembers of all files, if there is a mark, and take it away. To be
    called before anything is open. DiskFault when the disk still fails."""
    marks = [os.path.join(folder, MARK) for folder in (directory, os.path.join(directory, LOG))]
    marks = [one for one in marks if os.path.exists(one)]
    if not marks:
        return False
    try:
        for path in _files(directory):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)  # what is to be written yet stays else
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        for one in marks:
            os.unlink(one)
    except OSError as error:
        raise disk_fault(f"cannot read {directory} anew: {error}", error) from error
    return True


def _files(directory: str) -> Iterator[str]:
    for folder, folders, names in os.walk(directory):
        if QUARANTINE in folders and folder == directory:
            folders.remove(QUARANTINE)
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield path
