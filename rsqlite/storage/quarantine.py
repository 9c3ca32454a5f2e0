"""Setting aside what a node gives up: its identity, its log and its database, all or nothing.

A word in the directory says that it is decided; whoever opens the directory carries it out before
all else, so a crash in between is completed. Each number under `quarantine/` is one such time, and
the newest are kept. A log on a volume of its own stays there, in a `quarantine/` of that volume.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from rsqlite.config import QUARANTINED_MAX
from rsqlite.ports import Disk

QUARANTINE_NAME = "quarantine"
GIVING_UP_NAME = "giving-up.json"
HARMLESS_NAMES = frozenset({"lost+found"})
"""What a fresh directory may hold: the root of a volume has this one."""
OTHER_VOLUME = frozenset({errno.EBUSY, errno.EXDEV})
"""What a rename says of the root of another volume."""


def next_place(directory: str, disk: Disk) -> str:
    """A new folder in the quarantine of a data directory, durable."""
    root = os.path.join(directory, QUARANTINE_NAME)
    disk.mkdir(root)
    place = os.path.join(root, str(max(_numbers(root, disk), default=0) + 1))
    disk.mkdir(place)
    disk.sync_directory(root)
    disk.sync_directory(directory)
    return place


def carry_out_giving_up(directory: str, names: Sequence[str], disk: Disk) -> None:
    """Move these aside, if that is decided. A directory with an identity and without the log of it
    must never be seen: its node would have forgotten its votes."""
    path = os.path.join(directory, GIVING_UP_NAME)
    if not disk.exists(path):
        return
    # That the word is there says enough: the newest place was made for it.
    root = os.path.join(directory, QUARANTINE_NAME)
    disk.mkdir(root)
    numbers = _numbers(root, disk) or [1]
    place = os.path.join(root, str(numbers[-1]))
    disk.mkdir(place)
    for name in names:
        source = os.path.join(directory, name)
        if disk.exists(source):
            _set_aside(source, os.path.join(place, name), str(numbers[-1]), disk)
    disk.sync_directory(place)
    disk.sync_directory(directory)
    disk.unlink(path)
    disk.sync_directory(directory)
    _keep_newest(root, disk)


def _set_aside(source: str, target: str, number: str, disk: Disk) -> None:
    """Move a file or a directory to `target`; of one that is a volume of its own the content, to a
    folder of this number in that volume."""
    try:
        disk.rename(source, target)
    except OSError as error:
        if error.errno not in OTHER_VOLUME:
            raise
        root = os.path.join(source, QUARANTINE_NAME)
        place = os.path.join(root, number)
        disk.mkdir(place)
        disk.sync_directory(root)
        for name in disk.listdir(source):
            if name not in HARMLESS_NAMES | {QUARANTINE_NAME}:
                disk.rename(os.path.join(source, name), os.path.join(place, name))
        disk.sync_directory(place)
        disk.sync_directory(source)
        _keep_newest(root, disk)


def _keep_newest(root: str, disk: Disk) -> None:
    for number in _numbers(root, disk)[:-QUARANTINED_MAX]:
        disk.remove_tree(os.path.join(root, str(number)))
    disk.sync_directory(root)


def _numbers(root: str, disk: Disk) -> list[int]:
    """The places in quarantine, oldest first."""
    return sorted(int(name) for name in disk.listdir(root) if name.isascii() and name.isdigit())
