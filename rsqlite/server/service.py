"""What the HTTP server needs of a node, and nothing more; `rsqlite.node.Node` has it."""

from __future__ import annotations

from typing import Protocol

from rsqlite.node.changes import Wish
from rsqlite.node.compaction import Snapshotted
from rsqlite.node.findings import Verified
from rsqlite.node.membership import Granted
from rsqlite.node.status import Status
from rsqlite.node.vacuums import Vacuumed
from rsqlite.raft.types import Member
from rsqlite.request import Done, Request


class NodeService(Protocol):
    """A node, from above. Everything is called on the loop and returns at once."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader(self) -> Member | None:
        """The member that leads as far as this node knows, itself included."""

    def submit(self, request: Request, done: Done) -> None:
        """Run `request` here or on the leader; `done` is called exactly once on the loop, possibly
        before this returns."""

    def change_membership(self, wish: Wish, granted: Granted, timeout_s: float = 0.0) -> None:
        """See to a wish about the membership, here or on the leader; `granted` is called exactly
        once on the loop, with the error if there is one."""

    def snapshot(self, done: Snapshotted, timeout_s: float = 0.0) -> None:
        """Make a checkpoint now, and cut the log behind it."""

    def verify(self, done: Verified, timeout_s: float = 0.0) -> None:
        """Have the contents of all nodes compared; `done` is called exactly once on the loop, with
        a report or an error."""

    def vacuum_all(self, done: Vacuumed, timeout_s: float = 0.0) -> None:
        """Have the databases of all nodes written anew; `done` is called exactly once on the loop,
        with a report or an error."""

    def begin_scrub(self) -> None:
        """Begin to read through all that is on the disk, unless that goes on already; raises an
        error when it cannot be done now."""

    def status(self) -> Status: ...
