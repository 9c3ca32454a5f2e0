"""Exit codes of `rsqlited`, and which error ends it with which. The one table: docs and tests are
checked against it."""

from __future__ import annotations

import enum
import errno

from rsqlite.errors import (
    DamagedFile,
    DiskFault,
    ForeignDirectory,
    NodeFault,
    RemovedFromCluster,
    RequestError,
)
from rsqlite.raft.types import DividedHistory


class Exit(enum.IntEnum):
    """Why the process ended. The text of a member says what to do."""

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.__doc__ = meaning
        return member

    OK = 0, "stopped cleanly, as asked"
    INTERNAL = 1, "a fault of rsqlite itself; please report it with the last log lines"
    USAGE = 2, "wrong flags, environment or config file; every mistake is listed"
    ADDRESS = 3, "an address cannot be listened on: in use, not of this machine, or not permitted"
    LOCKED = 4, "another process uses the data directory"
    FOREIGN = 5, "the data directory belongs to another node, cluster, program or newer format"
    DAMAGED = 6, "a file of the data directory is damaged; `rsqlite check DIR` says where"
    DISK = 7, "the disk cannot be written or read: full, read-only, not permitted or failing"
    SQLITE = 8, "SQLite is too old, or was built without what is needed"
    CLUSTER = 9, "no cluster can be formed or found with these settings"
    REMOVED = 10, "this node was removed from its cluster; start it anew with an empty directory"
    DIVIDED = 11, "the cluster went on in two parts; keep one, empty the directories of the other"
    ABORTED = 130, "a second signal ended it before the clean stop was over"


class AddressUnusable(Exception):
    """A listener cannot be opened; the text names the address and the flag."""


class UnsuitableSqlite(Exception):
    """The SQLite that was found cannot be used; the text names what is needed."""


DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EDQUOT}
    | {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.EEXIST}
)
ADDRESS_ERRORS = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})


def exit_for(error: BaseException) -> Exit:
    """The exit code that a fault of the node, or an error of its start, stands for."""
    match error:
        case ForeignDirectory() if isinstance(error.__cause__, BlockingIOError):
            return Exit.LOCKED
        case ForeignDirectory():
            return Exit.FOREIGN
        case RemovedFromCluster():
            return Exit.REMOVED
        case DividedHistory():
            return Exit.DIVIDED
        case DamagedFile():
            return Exit.DAMAGED
        case DiskFault():
            return Exit.DISK
        case AddressUnusable():
            return Exit.ADDRESS
        case UnsuitableSqlite():
            return Exit.SQLITE
        case OSError() if error.errno in ADDRESS_ERRORS:
            return Exit.ADDRESS
        case OSError() if error.errno in DISK_ERRORS:
            return Exit.DISK
        case RequestError():
            return Exit.CLUSTER
        case NodeFault():
            return Exit.DISK
        case _:
            return Exit.INTERNAL
