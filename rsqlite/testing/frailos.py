"""What nodes ask of the system beside their disk's port and SQLite, on a `FrailDisk` as well.

Generations, images and notes are made, moved, synced and removed by calls of `os` from the modules
in `WATCHED`. While this is `installed` each of them counts as a call to the disk of the node whose
file it is about, and may fail, or be the last one. What they wrote is not taken back by a power
loss.
"""

from __future__ import annotations

import builtins
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rsqlite.testing.frail import Call
from rsqlite.testing.frailvfs import DiskOf

WATCHED = ("rsqlite.statemachine.", "rsqlite.node.")
_CALLS: tuple[tuple[Any, str, Call], ...] = (
    (os, "replace", Call.NAME),
    (os, "rename", Call.NAME),
    (os, "unlink", Call.REMOVE),
    (os, "mkdir", Call.NAME),
    (os, "makedirs", Call.NAME),
    (shutil, "rmtree", Call.REMOVE),
    (os, "fsync", Call.SYNC),
    (os, "fdatasync", Call.SYNC),
    (os, "pwrite", Call.WRITE),
    (builtins, "open", Call.NAME),
)


@contextmanager
def installed(disk_of: DiskOf) -> Iterator[None]:
    """Until the context ends."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _CALLS]
    for module, name, call in _CALLS:
        setattr(module, name, _counted(getattr(module, name), call, disk_of))
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def _counted(function: Callable[..., Any], call: Call, disk_of: DiskOf) -> Callable[..., Any]:
    def counted(target: Any, *arguments: Any, **options: Any) -> Any:
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        if not caller.startswith(WATCHED):
            return function(target, *arguments, **options)
        mode = str(arguments[0] if arguments else options.get("mode", "r"))
        if function is _open and not set(mode) & set("wax+"):
            return function(target, *arguments, **options)
        disk = disk_of(os.readlink(f"/proc/self/fd/{target}") if type(target) is int else target)
        if disk is None or disk.called(call):
            return function(target, *arguments, **options)
        # Of a process that has ended: what it would have done may be waited for.
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    return counted


_open = builtins.open
