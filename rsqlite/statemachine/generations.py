"""Generations: each database that is installed has a folder of its own, and CURRENT names one.

`install` moves a finished image in, step by step, each durable before the next (design 3):

1. the image becomes `<root>/<n>/main.db`, and `<root>/<n>/installed` says as of which entry it is;
2. CURRENT is replaced: from here on the new database counts, with its applied index;
3. whoever called resets the log behind that entry. After a crash in between, `installed` tells the
   next start that the log is to be reset, and not that it was lost;
4. folders that CURRENT does not name are removed, at the next start at the latest.
"""

from __future__ import annotations

import os
import shutil

import msgspec

from rsqlite.errors import DamagedFile, DiskFault
from rsqlite.statemachine import schema

INSTALLED = "installed"


class Installed(msgspec.Struct, frozen=True):
    """The last entry that an installed database held when it came."""

    last_index: int
    last_term: int


def install(root: str, image: str, installed: Installed) -> str:
    """Steps 1 and 2: make the file `image`, which is on the same volume, synced and nobody's, the
    database in use; the path of the database. DiskFault when the disk refuses."""
    try:
        number = max(_numbers(root), default=0) + 1
        folder = os.path.join(root, str(number))
        os.mkdir(folder, 0o700)
        os.replace(image, os.path.join(folder, schema.DATABASE))
        _write(os.path.join(folder, INSTALLED), msgspec.json.encode(installed))
        schema.sync_directory(folder)
        schema.sync_directory(os.path.dirname(image))
        schema.sync_directory(root)
        schema.set_current(root, number)
    except OSError as error:
        raise DiskFault(f"cannot install an image in {root}: {error}") from error
    return os.path.join(folder, schema.DATABASE)


def installed_of(database: str) -> Installed | None:
    """What is written beside the database at this path; None for one that began here."""
    path = os.path.join(os.path.dirname(database), INSTALLED)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(1024), type=Installed)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error


def remove_others(database: str) -> None:
    """Remove the folders of all databases but this one, which is in use."""
    folder = os.path.dirname(database)
    root = os.path.dirname(folder)
    try:
        for number in _numbers(root):
            if str(number) != os.path.basename(folder):
                shutil.rmtree(os.path.join(root, str(number)))
        schema.sync_directory(root)
    except OSError as error:
        raise DiskFault(f"cannot remove an old database in {root}: {error}") from error


def _numbers(root: str) -> list[int]:
    return [int(name) for name in os.listdir(root) if name.isascii() and name.isdigit()]


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
