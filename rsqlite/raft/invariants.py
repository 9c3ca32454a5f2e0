"""What must hold of one node at all times, numbered; each in words above its check.

`check_state` looks at one moment, `check_step` at two. They read whole logs and are meant for
tests; what is cheap is asserted where it could break, in production too. What must hold between
nodes (election safety, log matching, leader completeness) is checked by the simulators.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from rsqlite.raft.membership import replicas
from rsqlite.raft.progress import ProgressState
from rsqlite.raft.state import RaftState
from rsqlite.raft.types import (
    Configuration,
    EntryId,
    EntryKind,
    Index,
    NodeId,
    Role,
    Term,
    require,
)


class Look(NamedTuple):
    """What `check_step` compares."""

    term: Term
    voted_for: NodeId | None
    role: Role
    commit_index: Index
    handed_index: Index
    applied_index: Index
    last: EntryId
    committed_term: Term | None
    match_index: dict[NodeId, Index]
    round: int


def look(state: RaftState) -> Look:
    """The state as `check_step` needs it."""
    return Look(
        term=state.current_term,
        voted_for=state.voted_for,
        role=state.role,
        commit_index=state.commit_index,
        handed_index=state.commit_index_handed,
        applied_index=state.applied_index,
        last=EntryId(state.log.last_term, state.log.last_index),
        committed_term=state.log.term(state.commit_index),
        match_index={one: progress.match_index for one, progress in state.progress.items()},
        round=state.leader_reads.round,
    )


def check_state(state: RaftState) -> None:
    """All that must hold between two calls."""
    _check_indices(state)
    _check_log(state)
    _check_role(state)
    if state.role is Role.LEADER:
        _check_leader(state)


def _check_indices(state: RaftState) -> None:
    log = state.log
    # 1. Nothing is applied that was not handed over, and nothing handed over that is not both
    #    committed and on this disk (design 3).
    require(state.applied_index <= state.commit_index_handed, "1: {}", state)
    limit = min(state.commit_index, log.durable_index)
    require(state.commit_index_handed <= max(limit, state.applied_index), "1: over {}", limit)
    # 2. What is committed is in the log (raft.md rule 18).
    require(state.commit_index <= log.last_index, "2: {}", log)
    # 3. Durable entries were given to the disk, and those are entries of the log.
    require(log.durable_index <= log.handed_index <= log.last_index, "3: {}", log)
    # 4. The bytes that are counted are those that wait.
    require(state.unapplied_bytes == sum(size for _, size in state.unapplied), "4: unapplied")
    require(state.uncommitted_bytes == sum(size for _, size in state.uncommitted), "4: proposed")
    # 5. The disk has no newer term or vote than memory.
    require(
        state.hard_state_durable <= state.hard_state_handed <= state.hard_state_version, "5: vote"
    )


def _check_log(state: RaftState) -> None:
    log = state.log
    # 6. No entry is of a term that this node has not reached.
    require(log.last_term <= state.current_term, "6: {}", log)
    # 7. Indices go up by one and terms never go down; the tail ends where the log ends.
    tail = log.tail
    for one, next_ in itertools.pairwise(tail):
        require(next_.index == one.index + 1 and next_.term >= one.term, "7: at {}", one.index)
    if tail:
        require((tail[-1].term, tail[-1].index) == (log.last_term, log.last_index), "7: {}", log)
    # 8. The configuration in force is that of the last configuration entry (thesis 4.1).
    for entry in reversed(tail):
        if entry.kind == EntryKind.CONFIGURATION:
            configurations = state.configurations
            require(configurations.index == entry.index, "8: {} not {}", configurations, entry)
            require(configurations.current == Configuration.from_bytes(entry.data), "8: content")
            break


def _check_role(state: RaftState) -> None:
    # 9. Exactly the leader names itself; a campaign is for the own vote of this term.
    is_leader = state.role is Role.LEADER
    require(is_leader == (state.leader_id == state.node_id), "9: leader {}", state.leader_id)
    if state.role in (Role.LEADER, Role.CANDIDATE):
        require(state.voted_for == state.node_id, "9: voted for {}", state.voted_for)
    # 10. Only candidates collect votes, only leaders have followers, reads and transfers.
    if state.role is Role.FOLLOWER or is_leader:
        require(not state.votes, "10: votes")
    if not is_leader:
        require(not state.progress and not state.departing, "10: followers of {}", state.role)
        require(not len(state.leader_reads), "10: reads")
        require(state.transfer_target is None, "10: transfer")
    # 23. Who campaigns or leads computes SQL as a configuration of the cluster says (design 5.2).
    if state.role is not Role.FOLLOWER:
        require(state.is_admitted, "23: {} with fingerprint {}", state.role, state.fingerprint)
    # 11. Reads are forwarded to a leader that is known.
    if state.leader_id is None or is_leader:
        require(not len(state.forwarded_reads), "11: reads for nobody")


def _check_leader(state: RaftState) -> None:
    log = state.log
    # 12. A leader's log holds the no-op that began its term, until it is cut behind that.
    if log.first_index <= state.term_start_index:
        require(log.term(state.term_start_index) == state.current_term, "12: no-op")
    require(log.term(state.term_start_index - 1) != state.current_term, "12: not the first")
    # 13. Everybody of the configuration, and nobody else but those that leave, is sent the log.
    members = replicas(state.configuration) - {state.node_id}
    require(set(state.progress) == members | set(state.departing), "13: {}", state.progress)
    for progress in state.progress.values():
        # 14. Match is below next, and both within the log (raft.md rule 21).
        require(progress.match_index < progress.next_index, "14: {}", progress)
        require(progress.next_index <= log.last_index + 1, "14: {}", progress)
        # 15. The window holds what was sent and not acknowledged, in order; only while sending
        #     ahead.
        indices = [index for index, _ in progress.inflight]
        require(indices == sorted(indices), "15: {}", progress)
        require(progress.inflight_bytes == sum(size for _, size in progress.inflight), "15")
        if indices:
            require(progress.state is ProgressState.REPLICATE, "15: {}", progress)
            require(indices[0] > progress.match_index, "15: {}", progress)
        require(len(indices) <= state.settings.inflight_messages_max, "15: {}", progress)
        # 16. Nobody echoes a round that was not handed out.
        require(progress.acknowledged_round <= state.leader_reads.round, "16: {}", progress)


def check_step(before: Look, after: Look) -> None:
    """All that must hold between one call and the next."""
    # 17. Terms never go down; a vote is given once a term (paper 5.2).
    require(after.term >= before.term, "17: term {} after {}", after.term, before.term)
    if after.term == before.term and before.voted_for is not None:
        require(after.voted_for == before.voted_for, "17: second vote in term {}", after.term)
    # 18. Commit, hand-over and apply never go back (paper 5.3).
    require(after.commit_index >= before.commit_index, "18: commit")
    require(after.handed_index >= before.handed_index, "18: handed over")
    require(after.applied_index >= before.applied_index, "18: applied")
    if after.commit_index == before.commit_index:
        require(after.committed_term == before.committed_term, "18: committed entry changed")
    if before.role is Role.LEADER and after.role is Role.LEADER and after.term == before.term:
        # 19. A leader only appends (paper, Figure 3).
        require(after.last >= before.last, "19: {} after {}", after.last, before.last)
        # 20. What a follower acknowledged stays acknowledged within a term (raft.md rule 21).
        for node_id, match_index in after.match_index.items():
            require(match_index >= before.match_index.get(node_id, 0), "20: {}", node_id)
        # 21. Rounds are never used again (raft.md rule 41).
        require(after.round >= before.round, "21: round")
    # 22. Leadership begins with a term of its own.
    if before.role is not Role.LEADER and after.role is Role.LEADER:
        require(after.last.term == after.term, "22: no entry of term {}", after.term)
