"""What the driver must do, and in which order: the only way out of the core.

`poll()` hands out one immutable `Output` at a time. What may leave before an fsync is data here,
not convention: messages in `send` may leave at once, those in `AppendWork.replies` only after that
work is durable.
"""

from __future__ import annotations

from dataclasses import dataclass

from rsqlite.raft.messages import InstallSnapshot, Message
from rsqlite.raft.types import Entry, HardState, Index, SoftState


@dataclass(frozen=True, slots=True)
class AppendWork:
    """One step of the log, durable as a whole before `core.appended(token)` is called.

    Works are carried out in the order given. First the suffix from `truncate_from` goes (None:
    nothing goes), then `entries` are appended, `hard_state` (None: unchanged) is stored no later
    than the entries are, then everything is synced. `replies` may leave only after that.
    """

    token: int
    truncate_from: Index | None
    entries: tuple[Entry, ...]
    hard_state: HardState | None
    replies: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class ReadState:
    """A read of `context` may run once `applied >= index`; None: it cannot be confirmed."""

    context: int
    index: Index | None


@dataclass(frozen=True, slots=True)
class Output:
    """Everything that became due since the last poll. Empty fields mean nothing to do.

    `committed` holds entries that are committed and durable on this node, in index order, each
    exactly once; the driver tells `core.applied(index)` when their effects are in the database.
    """

    soft_state: SoftState | None = None
    append: AppendWork | None = None
    send: tuple[Message, ...] = ()
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadState, ...] = ()
    image: InstallSnapshot | None = None
    """An image that the leader offers, because entries that this node needs are gone there. Once it
    is installed, the core is made anew from the log and the database, as at a start."""
