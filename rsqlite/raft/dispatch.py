"""Which message goes where, by its term and by the role of who gets it.

Who must step down because of a message is settled here, before anything else looks at it.
"""

from __future__ import annotations

from rsqlite.raft import confirmation, election, replication
from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.state import RaftState
from rsqlite.raft.types import NodeId, Role, Term, is_forced_between

TERM_MAX = Term(2**62)
"""A term above this is a lie, and would leave no room for elections (raft.md rule 50)."""


def step(state: RaftState, message: Message) -> None:
    """A peer's message arrived. Whatever it says, this does not raise, unless it proves that
    committed entries differ."""
    if message.target != state.node_id or message.source == state.node_id:
        return
    if message.term > state.current_term:
        if not _step_newer(state, message):
            return
    elif message.term < state.current_term:
        _step_older(state, message)
        return
    match message:
        case AppendEntries():
            if _heard_leader(state, message.source):
                replication.handle_append_entries(state, message)
        case AppendEntriesReply():
            if state.role is Role.LEADER:
                replication.handle_append_reply(state, message)
        case Heartbeat():
            if _heard_leader(state, message.source):
                replication.handle_heartbeat(state, message)
        case InstallSnapshot():
            if _heard_leader(state, message.source):
                replication.handle_install_snapshot(state, message)
        case HeartbeatReply():
            if state.role is Role.LEADER:
                replication.handle_heartbeat_reply(state, message)
        case ReadIndex():
            confirmation.read_index(state, message.source, message.context)
        case ReadIndexReply():
            confirmation.handle_read_index_reply(state, message)
        case RequestVote():
            election.handle_request_vote(state, message)
        case RequestVoteReply():
            election.handle_vote_reply(state, message)
        case TimeoutNow():
            if message.source == state.leader_id:
                election.handle_timeout_now(state, message)


def _step_newer(state: RaftState, message: Message) -> bool:
    """A message of a newer term: join that term. Returns whether to dispatch the message."""
    if message.term > TERM_MAX:
        return False
    match message:
        case RequestVote():
            # While a leader is heard nobody is voted for: a server that was cut off or removed
            # must not disturb (thesis 4.2.3, raft.md rule 29). A transfer is wanted.
            if state.is_in_lease and not message.transfer:
                if message.pre_vote:
                    election.refuse_or_grant(state, message, granted=False)
                return False
            if message.pre_vote:
                return True
        case RequestVoteReply(pre_vote=True, granted=True):
            # It echoes the term we asked for (raft.md rule 7); of another campaign, it is old.
            if message.term == state.current_term + 1:
                election.handle_vote_reply(state, message)
            return False
    is_leader = isinstance(message, AppendEntries | Heartbeat | InstallSnapshot)
    leader_id = message.source if is_leader else None
    election.become_follower(state, message.term, leader_id)
    return True


def _step_older(state: RaftState, message: Message) -> None:
    """A message of an older term. Who leads or campaigns there is told of ours: without an
    answer, a node with a newer term and a shorter log would block the group (rule 8).

    Not who was left out when the members were forced, and comes back with an old log: with our term
    such nodes would elect one of them above us, and overwrite what is committed here."""
    source, term = message.source, state.current_term
    if is_forced_between(message.term, term) and state.configuration.member(source) is None:
        state.outcast = source
        return
    match message:
        case AppendEntries():
            state.send_when_durable(
                AppendEntriesReply(state.node_id, source, term, False, message.prev_log_index)
            )
        case Heartbeat() | InstallSnapshot():
            state.send_when_durable(HeartbeatReply(state.node_id, source, term))
        case RequestVote():
            election.refuse_or_grant(state, message, granted=False)
        case ReadIndex():
            state.send_when_durable(
                ReadIndexReply(state.node_id, source, term, message.context, None)
            )


def _heard_leader(state: RaftState, source: NodeId) -> bool:
    """The leader of our term spoke: follow it. False if it cannot be the leader."""
    if state.role is Role.FOLLOWER and state.leader_id == source:
        state.election_elapsed = 0
        if state.is_leader_closed:
            state.is_leader_closed = False
            state.draw_election_ticks()
        return True
    # Two leaders of a term cannot be; the second one is not believed.
    if state.role is Role.LEADER or state.leader_id is not None:
        return False
    election.become_follower(state, state.current_term, source)
    return True
