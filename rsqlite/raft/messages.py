"""A frozen class per RPC and per reply, in the paper's names. The codec lives in `transport/`.

Every message names `source`, `target` and the sender's `term`. `round` is the leader's private,
never reused counter: a reply that echoes round r proves that the follower still accepted this
leader after r was handed out, which is what ReadIndex needs (thesis 6.4; raft.md rule 41).
"""

from __future__ import annotations

from dataclasses import dataclass

from rsqlite.raft.types import Entry, Index, NodeId, Room, Term


@dataclass(frozen=True, slots=True)
class RequestVote:
    """`pre_vote` asks without consequences (thesis 9.6): its `term` is the one the asker would
    campaign in. `transfer` marks a campaign that the leader asked for (thesis 3.10)."""

    source: NodeId
    target: NodeId
    term: Term
    last_log_index: Index
    last_log_term: Term
    pre_vote: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class RequestVoteReply:
    """A granted pre-vote echoes the requested term, a refused one carries the voter's own."""

    source: NodeId
    target: NodeId
    term: Term
    granted: bool
    pre_vote: bool = False


@dataclass(frozen=True, slots=True)
class AppendEntries:
    source: NodeId
    target: NodeId
    term: Term
    prev_log_index: Index
    prev_log_term: Term
    entries: tuple[Entry, ...]
    commit_index: Index
    round: int = 0


@dataclass(frozen=True, slots=True)
class AppendEntriesReply:
    """Success: `match_index` is the last index that this message proved equal, and durable.
    Refusal: `match_index` is the refused prev_log_index; the hint is the follower's last entry
    whose term is at most prev_log_term (conflict search on both sides)."""

    source: NodeId
    target: NodeId
    term: Term
    success: bool
    match_index: Index
    hint_index: Index = Index(0)
    hint_term: Term = Term(0)
    round: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`commit_index` is min(leader's commit, the follower's match index) (raft.md rule 16)."""

    source: NodeId
    target: NodeId
    term: Term
    commit_index: Index
    round: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """`room` is the follower's own, and so is `applied_index`: how far its database is. `may_lead`:
    if it were asked to take over, it would."""

    source: NodeId
    target: NodeId
    term: Term
    round: int = 0
    room: Room = Room.AMPLE
    applied_index: Index = Index(0)
    may_lead: bool = True


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks a follower that has everything to campaign at once (thesis 3.10)."""

    source: NodeId
    target: NodeId
    term: Term


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A follower asks the leader for an index to read at. `context` is the follower's own."""

    source: NodeId
    target: NodeId
    term: Term
    context: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    """`index` is None when the leader cannot confirm (it lost leadership)."""

    source: NodeId
    target: NodeId
    term: Term
    context: int
    index: Index | None


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """The leader offers an image of the database, as of `last_index`, to a follower that needs
    entries which were cut away (paper, Figure 13). The image itself is fetched: `image` says how,
    and means nothing to the core."""

    source: NodeId
    target: NodeId
    term: Term
    last_index: Index
    last_term: Term
    image: bytes


Message = (
    RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | InstallSnapshot
)
