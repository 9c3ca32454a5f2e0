"""What became due: the parts of an `Output`, collected from the state.

These change only what was handed out so far; to ask twice gives nothing the second time.
"""

from __future__ import annotations

from rsqlite.raft.messages import Message
from rsqlite.raft.output import AppendWork
from rsqlite.raft.state import RaftState
from rsqlite.raft.types import Entry, HardState, Index, SoftState


def append_work(state: RaftState) -> AppendWork | None:
    """What the disk must do next, and the messages that wait for it."""
    log = state.log
    is_vote_new = state.hard_state_handed != state.hard_state_version
    if not (is_vote_new or log.has_work):
        if not state.outbox_when_durable:
            return None
        if not log.has_work_under_way:
            # What they waited for was done meanwhile.
            state.outbox += state.outbox_when_durable
            state.outbox_when_durable.clear()
            return None
    state.token += 1
    truncate_from, entries = log.hand_out(state.token)
    state.hard_state_claims.append((state.token, state.hard_state_version))
    hard_state = None
    if is_vote_new:
        hard_state = HardState(state.current_term, state.voted_for)
        state.hard_state_handed = state.hard_state_version
    replies: tuple[Message, ...] = ()
    if state.outbox_when_durable:
        replies = tuple(state.outbox_when_durable)
        state.outbox_when_durable.clear()
    return AppendWork(state.token, truncate_from, entries, hard_state, replies)


def committed(state: RaftState) -> tuple[Entry, ...]:
    """Committed and on our own disk: the database must never be ahead of its own log."""
    limit = min(state.commit_index, state.log.durable_index)
    if limit <= state.commit_index_handed:
        return ()
    budget = state.settings.committed_bytes_max - state.unapplied_bytes
    low = Index(state.commit_index_handed + 1)
    entries = state.log.entries(low, Index(limit + 1), budget)
    size = 0
    for entry in entries:
        size += len(entry.data)
    if size > budget and state.unapplied:
        # Only an entry that is larger than the bound by itself goes over it, and goes alone.
        return ()
    state.commit_index_handed = entries[-1].index
    state.unapplied.append((entries[-1].index, size))
    state.unapplied_bytes += size
    return tuple(entries)


def soft_state(state: RaftState) -> SoftState | None:
    """Role, term and leader, if they are not what was told last."""
    told = state.soft_state_told
    if (
        told.role is state.role
        and told.term == state.current_term
        and told.leader_id == state.leader_id
    ):
        return None
    state.soft_state_told = SoftState(state.role, state.current_term, state.leader_id)
    return state.soft_state_told
