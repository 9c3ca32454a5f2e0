"""Generations: each database that is installed has a folder of its own, and CURRENT names one.

`install` moves a finished image in, step by step, each durable before the next (design 3):

1. the image becomes `<root>/<n>/main.db`, and `<root>/<n>/installed` says as of which entry it is;
2. CURRENT is replaced: from here on the new database counts, with its applied index;
3. whoever called resets the log behind that entry. After a crash in between, `installed` tells the
   next start that the log is to be reset, and not that it was lost;
4. folders that CURRENT does not name are removed, at the next start at the latest.
"""

from __future__ import annotations

import contextlib
import os
import shutil

import msgspec

from rsqlite.config import QUARANTINED_MAX
from rsqlite.errors import DamagedDatabase, DiskFault, InvariantViolation, disk_fault
from rsqlite.statemachine import schema

INSTALLED = "installed"
DAMAGED = "damaged"
DOUBTED = "doubted"
CLEARED = "cleared"
DOUBT_PERIOD_S = 3600.0
"""A database that was found sound is not doubted again so soon: then it is damaged."""
WANTS_IMAGE = "wants-image"
COMPACT = "compact"
SETS_ASIDE = "sets-aside"
"""In the folder of a database: the numbers of those that go to quarantine when it is in use."""
STAT_BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the blocks of the file system are."""


class Installed(msgspec.Struct, frozen=True):
    """The last entry that an installed database held when it came."""

    last_index: int
    last_term: int
    is_copy: bool = True
    """It may have the faults of the one that it was made from: no check of the contents has found
    it like all others since."""

    def found_alike(self) -> Installed:
        """The same, and no copy any more."""
        return Installed(self.last_index, self.last_term, is_copy=False)

    def is_of(self, other: Installed) -> bool:
        """Do both name the same entry?"""
        return (self.last_index, self.last_term) == (other.last_index, other.last_term)


def install(root: str, image: str, installed: Installed) -> str:
    """Steps 1 and 2: make the file `image`, which is on the same volume, synced and nobody's, the
    database in use; the path of the database. DiskFault when the disk refuses."""
    try:
        number = max(schema.generations_in(root), default=0) + 1
        folder = os.path.join(root, str(number))
        os.mkdir(folder, 0o700)
        os.replace(image, os.path.join(folder, schema.DATABASE))
        write_installed(os.path.join(folder, schema.DATABASE), installed)
        schema.sync_directory(folder)
        schema.sync_directory(os.path.dirname(image))
        schema.sync_directory(root)
        schema.set_current(root, number)
    except OSError as error:
        raise disk_fault(f"cannot install an image in {root}: {error}", error) from error
    return os.path.join(folder, schema.DATABASE)


def begin_generation(root: str) -> str:
    """Make the folder of another generation, which is not in use until `use_generation`; the path
    of the database that is to be there. What a crash leaves of it `remove_others` takes away."""
    try:
        folder = os.path.join(root, str(max(schema.generations_in(root), default=0) + 1))
        os.mkdir(folder, 0o700)
        schema.sync_directory(root)
    except OSError as error:
        raise disk_fault(f"cannot make a generation in {root}: {error}", error) from error
    return os.path.join(folder, schema.DATABASE)


def use_generation(database: str) -> None:
    """Make the database at this path, which is synced, the one in use from the next start on."""
    folder = os.path.dirname(database)
    try:
        schema.set_current(os.path.dirname(folder), int(os.path.basename(folder)))
    except OSError as error:
        raise disk_fault(f"cannot change to {database}: {error}", error) from error


def remove_generation(database: str) -> None:
    """Remove the folder of a database that nobody uses, if it is there."""
    folder = os.path.dirname(database)
    root = os.path.dirname(folder)
    if schema.find_current_database(root) == database:
        raise InvariantViolation(f"{database} is the database in use")
    try:
        _remove_tree(folder)
        schema.sync_directory(root)
    except OSError as error:
        raise disk_fault(f"cannot remove {folder}: {error}", error) from error


def note_compact(database: str, wall: float, installed: Installed | None = None) -> None:
    """Write beside the database when it was made compact, in seconds since 1970, and what the one
    that it was made of held when that one came."""
    folder = os.path.dirname(database)
    if installed is not None:
        write_installed(database, installed)
    try:
        _write(os.path.join(folder, COMPACT), f"{wall:.0f}\n".encode())
        schema.sync_directory(folder)
    except OSError as error:
        raise disk_fault(f"cannot write beside {database}: {error}", error) from error


def noted_compact(database: str) -> float | None:
    """When the database was made compact; None if it never was, or nobody can tell."""
    return _noted_time(database, COMPACT)


def _noted_time(database: str, name: str) -> float | None:
    try:
        with open(os.path.join(os.path.dirname(database), name), "rb") as file:
            return float(file.read(32))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise disk_fault(f"cannot read beside {database}: {error}", error) from error


def write_installed(database: str, installed: Installed) -> None:
    """Write beside the database what it held when it came. The caller syncs the folder."""
    path = os.path.join(os.path.dirname(database), INSTALLED)
    try:
        schema.replace_note(path, msgspec.json.encode(installed).decode())
    except OSError as error:
        raise disk_fault(f"cannot write {path}: {error}", error) from error


def installed_of(database: str) -> Installed | None:
    """What is written beside the database at this path; None for one that began here.
    DamagedDatabase when that cannot be believed: a wrong index would cost the log."""
    path = os.path.join(os.path.dirname(database), INSTALLED)
    try:
        with open(path, "rb") as file:
            data = file.read(1024)
        # The first release wrote no checksum.
        text = data if data.endswith(b"}") else schema.decode_note(data)
        return msgspec.json.decode(text, type=Installed)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskFault(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise DamagedDatabase(f"{path} is damaged: {error}") from error


def note_damage(database: str, reason: str, *, wants_image: bool = False) -> None:
    """Write beside the database that it must not be used any more, and why. `wants_image`: only one
    of the others may take its place, for this node might compute the same again from its log.

    On a full volume as well: it is the name of the note that counts, or else another name of the
    database. DiskFault when nothing helps, and the next start would use it.
    """
    folder = os.path.dirname(database)
    names = [WANTS_IMAGE, DAMAGED] if wants_image else [DAMAGED]
    try:
        try:
            for name in names:
                _touch(os.path.join(folder, name))
        except OSError:
            os.rename(database, f"{database}.{names[0]}")
        schema.sync_directory(folder)
    except OSError as error:
        raise DiskFault(f"cannot note beside {database} that {reason}: {error}") from error
    with contextlib.suppress(OSError):  # the reason is only for people
        for name in names:
            _write(os.path.join(folder, name), reason.encode())


def noted_damage(root: str) -> str | None:
    """Why the database in use under `root` must not be used; None if nothing is said."""
    database = schema.find_current_database(root)
    if os.path.exists(f"{database}.{WANTS_IMAGE}"):
        return ""
    return _noted(database, DAMAGED)


def note_doubt(database: str, reason: str, wall: float) -> None:
    """Write beside the database that it must be read through before it is used again, and why; or
    that it must not be used, if it was found sound a short while ago."""
    cleared = _noted_time(database, CLEARED)
    if cleared is not None and abs(wall - cleared) < DOUBT_PERIOD_S:
        note_damage(database, f"{reason}, again")
        return
    path = os.path.join(os.path.dirname(database), DOUBTED)
    try:
        _touch(path)
        schema.sync_directory(os.path.dirname(path))
    except OSError:
        note_damage(database, reason)  # that may be said by a name alone
        return
    with contextlib.suppress(OSError):  # the reason is only for people
        _write(path, reason.encode())


def noted_doubt(root: str) -> str | None:
    """Why the database in use under `root` is in doubt; None if it is not."""
    return _noted(schema.find_current_database(root), DOUBTED)


def clear_doubt(database: str, wall: float) -> None:
    """It was read through, and is sound. Durable when this returns."""
    folder = os.path.dirname(database)
    try:
        _write(os.path.join(folder, CLEARED), f"{wall:.0f}\n".encode())
        os.unlink(os.path.join(folder, DOUBTED))
        schema.sync_directory(folder)
    except OSError as error:
        raise disk_fault(f"cannot write beside {database}: {error}", error) from error


def wanted_image(database: str) -> str | None:
    """Why an image must take the place of this database, which is an empty one; None if nothing is
    said."""
    return _noted(database, WANTS_IMAGE)


def _noted(database: str, name: str) -> str | None:
    path = os.path.join(os.path.dirname(database), name)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except FileNotFoundError:
        return "" if os.path.exists(f"{database}.{name}") else None
    except OSError as error:
        raise DiskFault(f"{path} cannot be read: {error}") from error


def set_aside(root: str, quarantine: str) -> str:
    """Move the database in use, or all where that is not known, to `quarantine`, where the newest
    few are kept, and begin a generation without one, which wants an image if this one did; where it
    went."""
    try:
        numbers = schema.generations_in(root)
        try:
            folders = [os.path.dirname(schema.find_current_database(root))]
        except DamagedDatabase:
            folders = [os.path.join(root, str(one)) for one in numbers]
        number = max(numbers, default=0) + 1
        begun = os.path.join(root, str(number))
        os.mkdir(begun, 0o700)
        for folder in folders:
            reason = _noted(os.path.join(folder, schema.DATABASE), WANTS_IMAGE)
            if reason is not None:
                _write(os.path.join(begun, WANTS_IMAGE), reason.encode())
        _write(os.path.join(begun, SETS_ASIDE), " ".join(map(os.path.basename, folders)).encode())
        schema.sync_directory(begun)
        schema.set_current(root, number)
        return _move_aside(folders, quarantine, begun)
    except OSError as error:
        raise disk_fault(f"cannot set the database in {root} aside: {error}", error) from error


def finish_setting_aside(root: str, quarantine: str) -> str | None:
    """Complete what a crash ended in the midst of `set_aside`; where it went. None: nothing did."""
    try:
        begun = os.path.dirname(schema.find_current_database(root))
        with open(os.path.join(begun, SETS_ASIDE), encoding="ascii", errors="replace") as file:
            names = file.read(4096).split()
        folders = [os.path.join(root, name) for name in names if name.isdigit()]
        place = _move_aside(folders, quarantine, begun)
    except (FileNotFoundError, DamagedDatabase):
        return None
    except OSError as error:
        raise disk_fault(f"cannot set the database in {root} aside: {error}", error) from error
    return place if os.path.exists(place) else None


def _move_aside(folders: list[str], quarantine: str, begun: str) -> str:
    """Move those that are still there to the next place in quarantine, which it answers."""
    os.makedirs(quarantine, mode=0o700, exist_ok=True)
    kept = schema.generations_in(quarantine)
    target = os.path.join(quarantine, str(max(kept, default=0) + 1))
    left = [folder for folder in folders if os.path.exists(folder)]
    if left:
        for old in kept[: max(0, len(kept) - QUARANTINED_MAX + 1)]:
            shutil.rmtree(os.path.join(quarantine, str(old)))
        if len(folders) > 1:
            os.mkdir(target, 0o700)
    for folder in left:
        place = target if len(folders) == 1 else os.path.join(target, os.path.basename(folder))
        os.rename(folder, place)
    schema.sync_directory(quarantine)
    schema.sync_directory(os.path.dirname(begun))
    os.unlink(os.path.join(begun, SETS_ASIDE))
    schema.sync_directory(begun)
    return target


def remove_oldest(quarantine: str, missing: int) -> str | None:
    """Remove what was set aside first; what it was. None, and nothing was removed, if all that was
    set aside would not free the bytes that are missing."""
    folders = [os.path.join(quarantine, str(one)) for one in schema.generations_in(quarantine)]
    if not folders or sum(map(_disk_bytes, folders)) < missing:
        return None
    folder = folders[0]
    shutil.rmtree(folder)
    # Blocks are free for others only when the file system's journal says so.
    schema.sync_directory(quarantine)
    return folder


def _disk_bytes(folder: str) -> int:
    """What the files in it take of the disk."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(path).st_blocks * STAT_BLOCK_BYTES for path in paths)


def remove_others(database: str) -> None:
    """Remove the folders of all databases but this one, which is in use."""
    folder = os.path.dirname(database)
    root = os.path.dirname(folder)
    try:
        for number in schema.generations_in(root):
            if str(number) != os.path.basename(folder):
                _remove_tree(os.path.join(root, str(number)))
        schema.sync_directory(root)
    except OSError as error:
        raise disk_fault(f"cannot remove an old database in {root}: {error}", error) from error


def _remove_tree(folder: str) -> None:
    """A thread may be removing the same folder: what is gone is gone."""
    while os.path.exists(folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _touch(path: str) -> None:
    with open(path, "ab"):
        pass


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
