"""The one hierarchy of errors; every error says whose fault it is and what became of the write.

RsqliteError
├── RequestError            the caller's mistake: nothing was done, the text says what to change
│   ├── RequestTooLarge     over a named bound of `config.py`
│   ├── StatementRefused    SQL that may not be replicated, or that needs another endpoint
│   └── SqlError            SQLite refused a statement; carries its code and symbol
├── Unavailable             the world's: this node or cluster cannot do it now
│   ├── NotLeader           ask the leader (named when known)
│   ├── NoLeader            nobody leads at the moment
│   ├── Overloaded          a bounded queue is full; try again after `retry_after_s`
│   ├── StaleRead           the copy here is older than the caller allows
│   ├── TimedOut            the deadline passed; `fate` says what is known of the write
│   ├── LeadershipLost      the leader changed below a request; `fate` says what is known
│   └── Stopped             the node is stopping, or stopped itself after a fault
└── NodeFault               this node's own disk or data failed: the node stops (never retried)
    ├── DiskFault           an I/O error of the operating system
    │   └── DiskFull            no room on the volume: it ends when there is some
    ├── DamagedFile         bytes that fail their check and are no torn tail
    │   └── DamagedDatabase     of the database: it can be had again from the others
    ├── ForeignDirectory    files of another node, cluster or program
    ├── RemovedFromCluster  the other members went on without this node
    └── Divergence          this replica computed something else than the entry says

`InvariantViolation` stands apart: a broken promise of our own code, never of a peer or a user.
"""

from __future__ import annotations

import enum
import errno

MAYBE = ": the write may have been applied"
"""How texts of ours end whose `fate` is unknown; rqlite's own stay as they are."""
MAYBE_CHANGED = ": the change may have been made"
"""The same, of a change of the cluster."""


class Fate(enum.Enum):
    """What became of the write that an error answers."""

    NOT_APPLIED = "not applied"
    APPLIED = "applied"
    UNKNOWN = "unknown"


class RsqliteError(Exception):
    """Base of all errors a caller may see. `fate` tells what became of the write."""

    fate: Fate = Fate.NOT_APPLIED
    retry_after_s: float | None = None

    def __init__(self, message: str, *, fate: Fate | None = None) -> None:
        super().__init__(message)
        if fate is not None:
            self.fate = fate


class RequestError(RsqliteError):
    """The request itself is wrong; sent again unchanged it fails again."""


class RequestTooLarge(RequestError):
    """The request is over a bound that `config.py` names."""


class StatementRefused(RequestError):
    """SQL that cannot be replicated, or that belongs to another endpoint."""


class SqlError(RequestError):
    """SQLite refused or stopped a statement. `code` is its extended result code, `name` the
    symbol, such as SQLITE_CONSTRAINT_UNIQUE."""

    def __init__(self, message: str, *, code: int, name: str) -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class Unavailable(RsqliteError):
    """The node or the cluster cannot serve this now; the same request may succeed later."""

    retry_after_s: float | None = 1.0


class NotLeader(Unavailable):
    """This node does not lead. `leader_id` is the node that does, or None when unknown."""

    def __init__(self, message: str = "not leader", *, leader_id: int | None = None) -> None:
        super().__init__(message)
        self.leader_id = leader_id


class NoLeader(Unavailable):
    """No node is known to lead at the moment."""

    def __init__(self, message: str = "leader not found") -> None:
        super().__init__(message)


class Overloaded(Unavailable):
    """A bounded queue is full; nothing was begun."""


class StaleRead(Unavailable):
    """The copy on this node is older than the request allows."""

    def __init__(self, message: str = "stale read") -> None:
        super().__init__(message)


class TimedOut(Unavailable):
    """The deadline passed before the answer was known."""


class LeadershipLost(Unavailable):
    """Leadership moved while the request was under way."""

    def __init__(
        self,
        message: str = "leadership lost while committing log",
        *,
        fate: Fate = Fate.UNKNOWN,
    ) -> None:
        super().__init__(message, fate=fate)


class Stopped(Unavailable):
    """The node is stopping or has stopped itself."""


class NodeFault(RsqliteError):
    """This node cannot go on; it stops and says why. Others go on without it."""


class DiskFault(NodeFault):
    """The operating system reported an error on one of our files; it is never retried."""


class DiskFull(DiskFault):
    """There is no room on the volume for what must be written. The node goes on when there is."""


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_fault(text: str, error: BaseException | None) -> DiskFault:
    """The fault that an error of the operating system is."""
    is_full = isinstance(error, OSError) and error.errno in NO_SPACE
    return DiskFull(text) if is_full else DiskFault(text)


class DamagedFile(NodeFault):
    """Bytes on disk fail their check and are not a torn tail."""


class DamagedPromises(DamagedFile):
    """The log, the hard state or the identity fails its check: what this node has acknowledged and
    voted is not known. Where others go on without it, it can come back as another node."""


class DamagedDatabase(DamagedFile):
    """The database fails its checks; the log does not, so the others can give it back."""


class DoubtedDatabase(DamagedDatabase):
    """SQLite calls the database damaged, though no page of it has failed its checksum. The same it
    says of a read that the disk refused: whether the file is sound, the next start finds out."""


class ForeignDirectory(NodeFault):
    """The data directory belongs to another node, cluster or program."""


class RemovedFromCluster(NodeFault):
    """The cluster has a committed configuration without this node."""


class Divergence(NodeFault):
    """This replica's result differs from the effects that the entry expects. `effects` names what
    was computed here: replicas that computed the same have the same name for it. `index` is that
    of the entry; 0 where it is not known."""

    def __init__(self, message: str, *, effects: str = "", index: int = 0) -> None:
        super().__init__(message)
        self.effects = effects
        self.index = index


class InvariantViolation(AssertionError):
    """Our own code broke a promise; the process must stop before it does harm."""
