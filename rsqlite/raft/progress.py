"""A follower as its leader sees it: probe, replicate, snapshot; and the window of its appends.

Probe: where the logs agree is not known; one append is out at a time. Replicate: it is known, and
appends are sent ahead of their acknowledgements until the window is full. Snapshot: the follower
needs entries that were cut away here; it gets heartbeats only, until an image has brought it up.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from rsqlite.raft.messages import HeartbeatReply
from rsqlite.raft.types import Index, NodeId, Room


class ProgressState(enum.Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class ProgressView:
    """What status pages show of a follower."""

    node_id: NodeId
    state: ProgressState
    match_index: Index
    next_index: Index
    is_active: bool
    inflight_messages: int
    inflight_bytes: int
    room: Room
    applied_index: Index
    may_lead: bool | None


class Progress:
    """`match_index < next_index` always, and `match_index` never goes down within a term
    (raft.md rule 21)."""

    __slots__ = (
        "acknowledged_round",
        "applied_index",
        "inflight",
        "inflight_bytes",
        "is_active",
        "is_paused",
        "is_suspect",
        "is_tried",
        "match_index",
        "may_lead",
        "next_index",
        "oldest_inflight",
        "owed_commit",
        "room",
        "state",
        "told_commit",
    )

    def __init__(self, next_index: Index) -> None:
        self.state = ProgressState.PROBE
        self.match_index = Index(0)
        """The highest entry known to be on the follower's disk."""
        self.next_index = next_index
        """The next entry to send."""
        self.inflight: deque[tuple[Index, int]] = deque()
        """(last index, bytes) of each append that is not acknowledged."""
        self.inflight_bytes = 0
        self.is_paused = False
        """Nothing more goes out before the follower is heard."""
        self.is_active = False
        """Heard since the last check of the quorum."""
        self.is_suspect = False
        """It owes an answer for a heartbeat interval: ask again when it is heard."""
        self.oldest_inflight = Index(0)
        """What was unanswered longest at the last heartbeat."""
        self.told_commit = Index(0)
        """The commit index that the follower has been sent and could use."""
        self.owed_commit = Index(0)
        """A commit index that it is to be told without waiting for the next append."""
        self.acknowledged_round = 0
        """The highest round that the follower echoed."""
        self.applied_index = Index(0)
        """How far it said that its database was, a heartbeat ago."""
        self.room = Room.AMPLE
        """What it said last of its disk."""
        self.may_lead: bool | None = None
        """What it said last of itself."""
        self.is_tried = False
        """It has no room, or claims to have more than we, and was sent something all the same since
        the quorum was checked."""

    def __repr__(self) -> str:
        return (
            f"<Progress {self.state.value} match={self.match_index} next={self.next_index} "
            f"inflight={len(self.inflight)}>"
        )

    def view(self, node_id: NodeId) -> ProgressView:
        return ProgressView(
            node_id=node_id,
            state=self.state,
            match_index=self.match_index,
            next_index=self.next_index,
            is_active=self.is_active,
            inflight_messages=len(self.inflight),
            inflight_bytes=self.inflight_bytes,
            room=self.room,
            applied_index=self.applied_index,
            may_lead=self.may_lead,
        )

    def heard(self, message: HeartbeatReply) -> None:
        """It follows us, and says how it is."""
        self.is_active = True
        self.room, self.applied_index = message.room, message.applied_index
        self.may_lead = message.may_lead

    def become_probe(self) -> None:
        """Forget what was sent ahead; ask again from what is known."""
        self.state = ProgressState.PROBE
        self.next_index = Index(self.match_index + 1)
        self.is_paused = False
        self._clear_inflight()

    def become_replicate(self) -> None:
        """The logs agree up to `match_index`: send ahead."""
        self.state = ProgressState.REPLICATE
        self.next_index = Index(self.match_index + 1)
        self.is_paused = False
        self._clear_inflight()

    def become_snapshot(self) -> None:
        """Entries it needs are gone here. Only heartbeats go until an image has brought it up."""
        self.state = ProgressState.SNAPSHOT
        self.is_paused = True
        self._clear_inflight()

    def sent(self, last_index: Index, size: int, messages_max: int, bytes_max: int) -> None:
        """An append up to `last_index` left. Replicate sends on before it is answered."""
        if self.state is ProgressState.REPLICATE:
            self.next_index = Index(last_index + 1)
            self.inflight.append((last_index, size))
            self.inflight_bytes += size
            self.is_paused = len(self.inflight) >= messages_max or self.inflight_bytes >= bytes_max
        else:
            self.is_paused = True

    def acknowledged(self, match_index: Index) -> bool:
        """The follower has everything up to `match_index` on its disk. Returns whether that is
        news."""
        inflight = self.inflight
        while inflight and inflight[0][0] <= match_index:
            self.inflight_bytes -= inflight.popleft()[1]
            self.is_paused = False
        is_news = match_index > self.match_index
        if is_news:
            self.match_index = match_index
            if match_index >= self.next_index:
                self.next_index = Index(match_index + 1)
        if self.state is ProgressState.PROBE:
            # Any success of this term names a point where the logs agree.
            self.become_replicate()
        return is_news

    def refused(self, refused_index: Index, next_index: Index) -> bool:
        """The follower has no match at `refused_index`; by both sides' hints the search goes on
        at `next_index`. Returns False for a refusal that is too old to mean anything (rule 21)."""
        if self.state is ProgressState.REPLICATE:
            if refused_index <= self.match_index:
                return False
            self.become_probe()
            return True
        if self.state is ProgressState.SNAPSHOT or refused_index != self.next_index - 1:
            return False
        lower = min(refused_index, next_index)
        self.next_index = Index(max(lower, self.match_index + 1))
        self.is_paused = False
        return True

    def _clear_inflight(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0
