"""Rounds: heartbeats, and the reads that they confirm (thesis 6.4).

`reads.py` holds who waits; here is what leaves for them and what the answers mean.
"""

from __future__ import annotations

from rsqlite.raft.messages import Heartbeat, ReadIndex, ReadIndexReply
from rsqlite.raft.output import ReadState
from rsqlite.raft.progress import Progress
from rsqlite.raft.quorum import quorum_index
from rsqlite.raft.state import RaftState
from rsqlite.raft.types import NodeId, Role

# -- the leader ------------------------------------------------------------------------------------


def ask_followers(state: RaftState) -> None:
    """Send a round for the reads that wait, unless one is out already."""
    reads = state.leader_reads
    if reads.is_waiting and not reads.asked_round:
        reads.next_round()
        reads.asked_round = reads.round
        if not confirm_reads(state):
            broadcast_heartbeats(state)


def broadcast_heartbeats(state: RaftState) -> None:
    """Tell everybody that we lead, and how much of what they have is committed."""
    for node_id, progress in state.progress.items():
        send_heartbeat(state, node_id, progress)


def send_heartbeat(state: RaftState, node_id: NodeId, progress: Progress) -> None:
    # Never more than the follower is known to have: beyond its match it may hold something else
    # at the same index (raft.md rule 16).
    commit_index = min(progress.match_index, state.commit_index)
    progress.told_commit = max(progress.told_commit, commit_index)
    state.outbox.append(
        Heartbeat(
            state.node_id, node_id, state.current_term, commit_index, state.leader_reads.round
        )
    )


def acknowledge_round(state: RaftState, progress: Progress, round_: int) -> None:
    """A follower echoed a round: it followed us after that was handed out (raft.md rule 41)."""
    reads = state.leader_reads
    if progress.acknowledged_round < round_ <= reads.round:
        progress.acknowledged_round = round_
        if reads.is_waiting:
            confirm_reads(state)


def confirm_reads(state: RaftState) -> bool:
    """Answer the reads that a quorum of the present configuration confirms (raft.md rule 43).
    Returns whether that leaves none to ask for."""
    reads = state.leader_reads
    rounds = {node_id: progress.acknowledged_round for node_id, progress in state.progress.items()}
    rounds[state.node_id] = reads.round
    for read in reads.confirmed(quorum_index(state.configuration, rounds)):
        if read.source is None:
            state.read_states.append(ReadState(read.context, read.index))
        else:
            state.send_when_durable(
                ReadIndexReply(
                    state.node_id, read.source, state.current_term, read.context, read.index
                )
            )
    return not reads.is_waiting


# -- both sides -----------------------------------------------------------------------------------


def read_index(state: RaftState, source: NodeId | None, context: int) -> None:
    """A read wants an index: ours to confirm if we lead, else the leader's."""
    if state.role is Role.LEADER:
        if state.commit_index < state.term_start_index:
            state.leader_reads.add_early(source, context)
        else:
            state.leader_reads.add(source, context, state.commit_index)
    elif source is not None:
        state.send_when_durable(
            ReadIndexReply(state.node_id, source, state.current_term, context, None)
        )
    elif state.leader_id is None:
        state.read_states.append(ReadState(context, None))
    else:
        state.forwarded_reads.add(context)


def send_question(state: RaftState, question: int) -> None:
    """Ask the leader for an index on behalf of the reads waiting here."""
    if state.leader_id is not None:
        state.send_when_durable(
            ReadIndex(state.node_id, state.leader_id, state.current_term, question)
        )


def handle_read_index_reply(state: RaftState, message: ReadIndexReply) -> None:
    """The leader answered a question."""
    if message.source != state.leader_id:
        return
    for context in state.forwarded_reads.answered(message.context):
        state.read_states.append(ReadState(context, message.index))
