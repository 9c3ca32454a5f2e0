"""Which error ends `rsqlited` with which code."""

from __future__ import annotations

import errno

import pytest

from rsqlite.cli.exits import AddressUnusable, Exit, UnsuitableSqlite, exit_for
from rsqlite.errors import (
    DamagedFile,
    DiskFault,
    ForeignDirectory,
    InvariantViolation,
    NodeFault,
    RequestError,
)
from rsqlite.raft.types import DividedHistory


def locked() -> ForeignDirectory:
    error = ForeignDirectory("in use")
    error.__cause__ = BlockingIOError()
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AddressUnusable("x"), Exit.ADDRESS),
        (OSError(errno.EADDRINUSE, "in use"), Exit.ADDRESS),
        (locked(), Exit.LOCKED),
        (ForeignDirectory("x"), Exit.FOREIGN),
        (DamagedFile("x"), Exit.DAMAGED),
        (DiskFault("x"), Exit.DISK),
        (OSError(errno.ENOSPC, "full"), Exit.DISK),
        (OSError(errno.EROFS, "read-only"), Exit.DISK),
        (NodeFault("x"), Exit.DISK),
        (UnsuitableSqlite("x"), Exit.SQLITE),
        (RequestError("x"), Exit.CLUSTER),
        (DividedHistory("x"), Exit.DIVIDED),
        (InvariantViolation("x"), Exit.INTERNAL),
        (RuntimeError("x"), Exit.INTERNAL),
        (OSError(errno.EBADF, "bad"), Exit.INTERNAL),
    ],
)
def test_an_error_has_its_code(error: BaseException, code: Exit) -> None:
    assert exit_for(error) is code


def test_codes_are_small_and_say_what_they_mean() -> None:
    for code in Exit:
        assert 0 <= code <= 130
        assert code.__doc__
