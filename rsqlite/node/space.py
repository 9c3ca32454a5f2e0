"""What a node does as its volumes fill up, and when they have room again.

Below `disk_reserve_bytes` on the log's or the database's volume the node is short: as a leader it
refuses writes, before anything is in the log, and hands over to a node that has room. What the
leader of the moment sends, it still takes; the reserve is for that. When the log has no room for a
follower's entries either, they are left untaken, as if they had been lost on the way, and its
leader, who is told, sends no more. When the database cannot take a committed entry, applying waits.
Either way the node goes on to vote and to serve reads, and when there is room, with all else. The
ballast, a part of the reserve that is really taken, is given up for that when others have filled
the volume so quickly that nothing else is left.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rsqlite.config import MIB
from rsqlite.errors import DiskFault, Overloaded, RsqliteError, Unavailable, disk_fault
from rsqlite.raft.quorum import VoteResult, quorum_votes
from rsqlite.raft.types import Entry, EntryKind, NodeId, Role, Room
from rsqlite.statemachine.generations import remove_oldest
from rsqlite.storage.ballast import Ballast
from rsqlite.storage.record import record_bytes

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_BYTES = 64 * 1024
"""Of the log's room, for what is no client's: the no-op of a new leader, a configuration. With it a
cluster that is full everywhere can still elect, and serve reads."""
RETRY_BYTES = 4 * MIB
"""Room with which a full database is tried again, unless the reserve is smaller."""
RETRY_PAUSE_S = 1.0
MARGIN = 1 / 8
"""So much over the reserve there must be, as a part of it, before a node is short no more."""


class Space:
    """That of one node. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reserve = engine.settings.disk_reserve_bytes
        self.ballast = Ballast(engine.path, engine.disk, self._reserve)
        self._database_bytes = self._reserve
        """Free on the database's volume when it was last looked at."""
        self._is_majority_full = False
        self._next_hand_over = math.inf
        self._full_at: float | None = None
        """When the database could not take an entry; None: it can, or is to be tried."""
        self._is_waiting = False
        """So it has been, and not everything is applied yet."""
        self.room = Room.AMPLE
        """What others are told."""

    def __repr__(self) -> str:
        return f"<Space {self.room.name} database={self._database_bytes}>"

    @property
    def is_database_full(self) -> bool:
        """Committed entries wait for room."""
        return self._is_waiting

    @property
    def is_short_of_database(self) -> bool:
        """The reserve of the database's volume is touched."""
        return self._database_bytes < self._reserve

    @property
    def is_short_of_log(self) -> bool:
        """The reserve of the log's volume is touched."""
        return self._log_bytes() < self._reserve

    def refusal(self, size: int) -> RsqliteError | None:
        """Why an entry of `size` bytes may not be proposed now: a full disk is found before the log
        holds what it cannot keep."""
        engine = self._engine
        if engine.log.backlog_bytes > engine.settings.log_backlog_bytes_max:
            return Overloaded("the log's disk does not keep up")
        if self.is_short_of_database:
            self._look()  # what a long write had taken may be back
        if self._is_short(size):
            return self.disk_full()
        if self._is_majority_full:
            return Unavailable("disk full: a majority of the nodes has no room for more")
        return None

    def disk_full(self) -> Unavailable:
        """What a client is told of this node."""
        return Unavailable(
            f"disk full: {self._reserve} bytes are kept in reserve (-disk-reserve-bytes)"
        )

    def takes(self, entries: Sequence[Entry]) -> bool:
        """Whether a follower's log has room for what its leader sends. In doubt it must not try: a
        write that fails ends the log."""
        room = self._log_bytes()
        if room >= self._engine.settings.peer_frame_bytes_max:
            return True  # for any message
        size = sum(record_bytes(len(entry.data)) for entry in entries)
        is_clients = any(entry.kind is EntryKind.COMMAND for entry in entries)
        return room - size >= (KEPT_BYTES if is_clients else 0)

    def database_full(self) -> None:
        """From the applier: a committed entry did not fit."""
        if not self._is_waiting:
            log.error("disk full: committed entries wait until the database can take them")
        self._is_waiting = True
        self._full_at = self._engine.loop.monotonic()
        if self._on_disk(self.ballast.release):
            log.warning("the ballast is given up")
            self._full_at -= RETRY_PAUSE_S
            self._database_bytes += self.ballast.size
        elif self._on_disk(self._give_way):
            self._full_at -= RETRY_PAUSE_S

    def sweep(self, now: float) -> None:
        """Look at the volumes, tell the others, and go on if there is room again."""
        engine = self._engine
        self._look()
        if self.is_short_of_database:
            # Nothing but time bounds what it writes into the WAL.
            engine.writer.end_long(self.disk_full())
        self._retry(now)
        room = self._room_now()
        if room is not self.room:
            log.warning("room on the volumes", extra={"was": self.room.name, "now": room.name})
            if self.room is Room.AMPLE:
                # Not before the others have told of theirs: all may have filled up at once.
                self._next_hand_over = now + 3 * engine.settings.raft_heartbeat
            self.room = room
        if engine.core is not None:
            engine.core.room_left(room)
            self._is_majority_full = engine.core.role is Role.LEADER and self._fails_for_room(now)
            self._hand_over(now)
        if room is Room.AMPLE and self._database_bytes >= self._reserve + self.ballast.size:
            self._on_disk(self.ballast.restore)

    def _give_way(self) -> bool:
        """Remove what was set aside first, if that makes room for what is right."""
        gone = remove_oldest(self._engine.directory.quarantine_path, RETRY_BYTES)
        if gone is not None:
            log.warning("what was set aside is removed: its room is needed", extra={"path": gone})
        return gone is not None

    def _look(self) -> None:
        engine = self._engine
        found = self._on_disk(lambda: engine.disk.free_bytes(engine.directory.database_root))
        self._database_bytes = found or 0

    def _on_disk(self, act: Callable[[], T]) -> T | None:
        """What comes of it; None when the disk failed, and so the node."""
        try:
            return act()
        except OSError as error:
            self._engine.fail(disk_fault(f"the disk of {self._engine.path} fails: {error}", error))
            return None

    def _log_bytes(self) -> int:
        try:
            return self._engine.log.free_bytes()
        except DiskFault as fault:
            self._engine.fail(fault)
            return 0

    def _is_short(self, size: int) -> bool:
        log_bytes = self._log_bytes() - self._reserve
        return self.is_database_full or self.is_short_of_database or log_bytes < size

    def _room_now(self) -> Room:
        """Less than half of the reserve in the log is none: a leader has refused writes before that
        if its disk is like ours, so what it has taken then still fits."""
        log_bytes = self._log_bytes()
        if log_bytes < max(self._reserve // 2, KEPT_BYTES):
            return Room.NONE
        margin = 0 if self.room is Room.AMPLE else int(self._reserve * MARGIN)
        if self._is_short(margin) or self._database_bytes < self._reserve + margin:
            return Room.SHORT
        return Room.AMPLE

    def _retry(self, now: float) -> None:
        """Apply what waits, if there is room for some of it."""
        applier = self._engine.applier
        if self._full_at is None:
            if self._is_waiting and not applier.is_behind:
                self._is_waiting = False
                log.info("there was room: what is committed is applied")
        elif now - self._full_at >= RETRY_PAUSE_S and self._database_bytes >= min(
            self._reserve, RETRY_BYTES
        ):
            self._full_at = None
            applier.resume()

    def _fails_for_room(self, now: float) -> bool:
        """Would a write wait in vain, for too many of those that answer have no room?"""
        engine = self._engine
        core, driver = engine.core, engine.driver
        assert core is not None
        assert driver is not None
        heard: dict[NodeId, bool] = {core.node_id: True}
        taking: dict[NodeId, bool] = {core.node_id: True}
        for one in core.progress():
            silence = now - driver.last_contact_s.get(one.node_id, 0.0)
            heard[one.node_id] = silence < engine.settings.raft_election_timeout
            taking[one.node_id] = heard[one.node_id] and one.room is not Room.NONE
        configuration = core.configuration
        return (
            quorum_votes(configuration, heard) is VoteResult.WON
            and quorum_votes(configuration, taking) is not VoteResult.WON
        )

    def _hand_over(self, now: float) -> None:
        """Lead no more, if somebody with room could."""
        engine = self._engine
        core, driver = engine.core, engine.driver
        assert core is not None
        if driver is None or core.role is not Role.LEADER or self.room is Room.AMPLE:
            return
        voters = core.configuration.voters
        if now < self._next_hand_over or not any(
            one.room is Room.AMPLE and one.is_active and one.may_lead and one.node_id in voters
            for one in core.progress()
        ):
            return
        self._next_hand_over = now + 2 * engine.settings.raft_election_timeout
        log.warning("handing over: another node has more room")
        driver.transfer_leadership(None)
