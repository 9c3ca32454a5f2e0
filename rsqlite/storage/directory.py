"""The data directory: who owns it, who uses it now, and where its parts are.

lock            held while a node runs; holds its process id
identity.json   who this node is (below), replaced by rename
log/            the log (`logstore.py`); a volume of its own may be mounted here, and on none of the
                others, between which files move
db/             the database (`statemachine`)
images/         an image of it, for others; incoming/: one that is being fetched
ballast         room that is given back when there is no other (`ballast.py`)
configuration.json  the last committed configuration: who can give back what is lost here
quarantine/     what was damaged and set aside, kept for whoever wants to know why
giving-up.json  while identity, log and database are being set aside
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from zlib import crc32

from rsqlite.errors import DamagedFile, DiskFault, ForeignDirectory, disk_fault
from rsqlite.ports import Disk
from rsqlite.storage.ballast import BALLAST_NAME
from rsqlite.storage.finding import REJOIN_ADVICE
from rsqlite.storage.identity import (
    IDENTITY_NAME,
    Identity,
    canonical,
    encode_identity,
    read_identity,
)
from rsqlite.storage.quarantine import (
    GIVING_UP_NAME,
    HARMLESS_NAMES,
    QUARANTINE_NAME,
    carry_out_giving_up,
    next_place,
)

LOCK_NAME = "lock"
IDENTITY_NEW_NAME = "identity.json.new"
LOG_NAME = "log"
REWRITE_NAME = "rewrite"
"""A mark (`rewrite.py`)."""
DATABASE_NAME = "db"
CONFIGURATION_NAME = "configuration.json"
CONFIGURATION_BYTES_MAX = 1024 * 1024
RAFT_NAME = "raft"
"""Where an operator of rqlite puts peers.json (`node/recovery.py`)."""

IMAGES_NAME, INCOMING_NAME = "images", "incoming"
OUR_NAMES = frozenset(
    {LOCK_NAME, IDENTITY_NAME, IDENTITY_NEW_NAME, LOG_NAME, DATABASE_NAME}
    | {IMAGES_NAME, INCOMING_NAME, QUARANTINE_NAME}
    | {CONFIGURATION_NAME, f"{CONFIGURATION_NAME}.new", BALLAST_NAME}
    | {GIVING_UP_NAME, f"{GIVING_UP_NAME}.new", RAFT_NAME, REWRITE_NAME}
)
_GIVEN_UP = (IDENTITY_NAME, LOG_NAME, DATABASE_NAME, RAFT_NAME)
"""What is set aside together, in this order. What an operator wants of the node that was
(peers.json) is not for the one that will be."""


class Saved(NamedTuple):
    """What is kept of the cluster beside the database."""

    configuration: bytes
    """The last committed one."""
    term: int
    """Of what was committed last then."""


class DataDirectory:
    """A data directory in use by this process; nobody else can open it until `close`."""

    def __init__(self, directory: str, disk: Disk, unlock: Callable[[], None]) -> None:
        self._disk = disk
        self._unlock: Callable[[], None] | None = unlock
        self.path = directory
        self.identity = Identity(0, 0, None, "")
        self._configuration: Saved | None = None
        """What is kept of it, as far as this process knows."""
        self.lacks_configuration = False
        """The file that holds it was damaged when this was opened."""

    @staticmethod
    def open(
        directory: str,
        *,
        disk: Disk,
        label: str = "",
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> DataDirectory:
        """Lock the directory, make it if need be, and begin a new incarnation, durably.

        `label`, if given, becomes the label of the node. Raises `ForeignDirectory` when somebody
        else uses it or its content is not ours, `DamagedFile`, `DiskFault`.
        """
        directory = os.path.abspath(directory)
        try:
            return _open(directory, disk, label, random_bits)
        except OSError as error:
            raise disk_fault(
                f"cannot use the data directory {directory}: {error}", error
            ) from error

    def __repr__(self) -> str:
        return f"DataDirectory({self.path!r}, {self.identity})"

    @property
    def log_path(self) -> str:
        return os.path.join(self.path, LOG_NAME)

    @property
    def database_root(self) -> str:
        return os.path.join(self.path, DATABASE_NAME)

    @property
    def configuration_path(self) -> str:
        """Where the configuration is kept."""
        return os.path.join(self.path, CONFIGURATION_NAME)

    @property
    def images_path(self) -> str:
        """Images made here, for others."""
        return os.path.join(self.path, IMAGES_NAME)

    @property
    def incoming_path(self) -> str:
        """An image that is being fetched."""
        return os.path.join(self.path, INCOMING_NAME)

    @property
    def quarantine_path(self) -> str:
        """Databases that were set aside."""
        return os.path.join(self.path, QUARANTINE_NAME)

    def set_cluster(self, cluster_id: str) -> None:
        """Bind the directory to a cluster, for good; durable when this returns."""
        if self.identity.cluster_id == cluster_id:
            return
        if self.identity.cluster_id is not None:
            raise ForeignDirectory(
                f"{self.path} belongs to cluster {self.identity.cluster_id}, not to {cluster_id}:"
                " a node changes its cluster only with an empty directory"
            )
        self._store(replace(self.identity, cluster_id=cluster_id))

    def save_configuration(self, data: bytes, term: int) -> None:
        """Keep the last committed configuration, and the term in which something was committed
        last, beside the database, which may be lost: it says who can give it back. Durable when
        this returns."""
        value: dict[str, object] = {"configuration": data.decode(), "term": term}
        value["checksum"] = f"{crc32(canonical(value)):08x}"
        self._replace(CONFIGURATION_NAME, json.dumps(value, indent=1).encode() + b"\n")
        self._configuration = Saved(data, term)

    def saved_configuration(self) -> bytes | None:
        """What was kept; None if there is none that can be believed."""
        saved = read_configuration(self.path, self._disk)
        return None if saved is None else saved.configuration

    # What this process has written and can write again

    def identity_problem(self) -> str:
        """What is wrong with the identity on the disk, in words; nothing when all is well."""
        path = os.path.join(self.path, IDENTITY_NAME)
        try:
            if read_identity(self.path, self._disk) == self.identity:
                return ""
        except DamagedFile as damage:
            return f"{path} is damaged: {damage.__cause__}"
        except FileNotFoundError:
            return f"{path} is missing"
        return f"{path} is not what was written last"

    def renew_identity(self) -> None:
        """Write it again; durable when this returns."""
        self._store(self.identity)

    def configuration_problem(self) -> str:
        """The same for the configuration that is kept."""
        if read_configuration(self.path, self._disk) == self._configuration:
            return ""
        return f"{self.configuration_path} is damaged"

    def renew_configuration(self) -> None:
        """Write it again; durable when this returns."""
        if self._configuration is not None:
            self.save_configuration(*self._configuration)

    def close(self) -> None:
        """Let others use the directory."""
        if self._unlock is not None:
            self._unlock()
            self._unlock = None

    def _store(self, identity: Identity) -> None:
        self._replace(IDENTITY_NAME, encode_identity(identity))
        self.identity = identity

    def _replace(self, name: str, data: bytes) -> None:
        path = os.path.join(self.path, name)
        try:
            _replace(path, data, self._disk)
        except OSError as error:
            raise disk_fault(f"cannot write {path}: {error}", error) from error


def _replace(path: str, data: bytes, disk: Disk) -> None:
    """Make this the content of a file, all or nothing; durable when this returns."""
    file = disk.open(f"{path}.new", create=True)
    try:
        file.truncate(0)
        file.pwrite(data, 0)
        file.sync()
    finally:
        file.close()
    disk.rename(f"{path}.new", path)
    disk.sync_directory(os.path.dirname(path))


def read_configuration(directory: str, disk: Disk) -> Saved | None:
    """The configuration that was kept in a data directory; None if there is none that can be
    believed."""
    path = os.path.join(directory, CONFIGURATION_NAME)
    try:
        if not disk.exists(path):
            return None
        file = disk.open(path, writable=False)
        try:
            value = json.loads(file.pread(CONFIGURATION_BYTES_MAX, 0))
        finally:
            file.close()
        checksum = value.pop("checksum")
        if f"{crc32(canonical(value)):08x}" != checksum:
            return None
        return Saved(str(value["configuration"]).encode(), int(value.get("term", 0)))
    except OSError as error:
        raise DiskFault(f"cannot read {path}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def give_up_identity(directory: str, disk: Disk, reason: str) -> str:
    """Set identity, log and database aside: who starts here next is another node, which never votes
    under the old id. Where they went. Only the configuration stays, to know whom to join."""
    try:
        unlock = lock_directory(directory, disk)
        try:
            place = decide_giving_up(directory, disk, reason)
            carry_out_giving_up(directory, _GIVEN_UP, disk)
        finally:
            unlock()
    except OSError as error:
        raise disk_fault(f"cannot set the files in {directory} aside: {error}", error) from error
    return place


def decide_giving_up(directory: str, disk: Disk, reason: str) -> str:
    """Have the next start set identity, log and database aside; where they will go. For a node that
    runs, and has the directory locked."""
    try:
        place = next_place(directory, disk)
        _replace(os.path.join(place, "reason"), reason.encode(), disk)
        # From here on it is decided: a start finds this word, and carries it out.
        word = json.dumps({"place": os.path.basename(place)}).encode()
        _replace(os.path.join(directory, GIVING_UP_NAME), word, disk)
    except OSError as error:
        raise disk_fault(f"cannot note in {directory} what is given up: {error}", error) from error
    return place


def _open(
    directory: str, disk: Disk, label: str, random_bits: Callable[[int], int]
) -> DataDirectory:
    is_there = disk.exists(directory)
    if is_there:
        _refuse_foreign(directory, disk)
    else:
        make_directory(directory, disk)
    unlock = lock_directory(directory, disk)
    try:
        carry_out_giving_up(directory, _GIVEN_UP, disk)
        data = DataDirectory(directory, disk, unlock)
        if disk.exists(os.path.join(directory, IDENTITY_NAME)):
            old = read_identity(directory, disk)
            if label and old.label not in ("", label):
                raise ForeignDirectory(
                    f"{directory} belongs to node {old.label!r}, and this is to be {label!r}:"
                    " directories were mixed up, or correct -node-id"
                )
        else:
            # Looked at again under the lock: two nodes may have been started at once.
            _refuse_foreign(directory, disk)
            # Zero means "nobody" in messages and files.
            node_id = random_bits(64)
            while node_id == 0:
                node_id = random_bits(64)
            old = Identity(node_id, 0, None, "")
        for path in (data.log_path, data.database_root):
            disk.mkdir(path)
        disk.sync_directory(directory)
        data._store(
            replace(
                old,
                incarnation=old.incarnation + 1,
                label=label or old.label,
                log_volume=_has_log_volume(data, old, disk),
            )
        )
        data._configuration = read_configuration(directory, disk)
        data.lacks_configuration = data._configuration is None and disk.exists(
            os.path.join(directory, CONFIGURATION_NAME)
        )
    except BaseException:
        unlock()
        raise
    return data


def _has_log_volume(data: DataDirectory, identity: Identity, disk: Disk) -> bool:
    """Whether the log is on a volume of its own. One that was, and is not mounted, must not be
    taken for a log that is lost."""
    if disk.volume(data.database_root) != disk.volume(data.path):
        raise ForeignDirectory(
            f"{data.database_root} is a volume of its own, and files must move between it and"
            f" {data.path}: mount it there; only {data.log_path} may be another one"
        )
    is_volume = disk.volume(data.log_path) != disk.volume(data.path)
    if identity.log_volume and not is_volume and not disk.listdir(data.log_path):
        raise ForeignDirectory(
            f"the log of {data.path} was on a volume of its own, which is not there: mount it at"
            f" {data.log_path}"
        )
    return is_volume


def _refuse_foreign(directory: str, disk: Disk) -> None:
    """Refuse to make a node among files that are not ours, or where one has lost its identity."""
    names = frozenset(disk.listdir(directory)) - HARMLESS_NAMES
    if IDENTITY_NAME in names or GIVING_UP_NAME in names:
        return  # the latter is looked at again when what it says is done
    foreign = sorted(names - OUR_NAMES)
    if foreign:
        raise ForeignDirectory(
            f"{directory} holds files that are not of rsqlite ({', '.join(foreign[:5])}"
            f"{', …' if len(foreign) > 5 else ''}): give an empty directory, or one that is new"
        )
    for name in (LOG_NAME, DATABASE_NAME):
        held = frozenset(disk.listdir(os.path.join(directory, name)) if name in names else ())
        if held - HARMLESS_NAMES - {QUARANTINE_NAME}:
            raise ForeignDirectory(
                f"{directory} holds a {name} but no {IDENTITY_NAME}: whose it is cannot be known."
                f" {REJOIN_ADVICE}"
            )


def lock_directory(directory: str, disk: Disk) -> Callable[[], None]:
    """Lock a data directory or say who has it; the answer releases it."""
    path = os.path.join(directory, LOCK_NAME)
    try:
        return disk.lock(path)
    except BlockingIOError as error:
        owner = _lock_owner(path, disk)
        raise ForeignDirectory(
            f"{directory} is in use by {owner}: stop that node, or give each its own directory"
        ) from error


def _lock_owner(path: str, disk: Disk) -> str:
    """Who holds the lock, in words."""
    file = disk.open(path, writable=False)
    try:
        text = file.pread(32, 0).decode("ascii", "replace").strip()
    finally:
        file.close()
    return f"process {text}" if text.isdigit() else "another process"


def make_directory(path: str, disk: Disk) -> None:
    """Make a directory whose name is durable, and its parents too."""
    if not disk.exists(path):
        parent = os.path.dirname(path)
        make_directory(parent, disk)
        disk.mkdir(path)
        disk.sync_directory(parent)
