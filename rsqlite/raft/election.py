"""Who leads: campaigns, votes, pre-votes, the check of the quorum, and handing leadership over.

Only `become_*` change the role. Always on: pre-vote (thesis 9.6), check-quorum (6.2), refusal of
votes while the leader is heard (4.2.3), and a no-op on election (6.4). While an upgrade is declared
(`types.Upgrade`), a voter that it has reached waits longer, and hands over to one that it has not.
"""

from __future__ import annotations

from rsqlite.raft import confirmation, replication
from rsqlite.raft.membership import is_voter, replicas
from rsqlite.raft.messages import ReadIndexReply, RequestVote, RequestVoteReply, TimeoutNow
from rsqlite.raft.output import ReadState
from rsqlite.raft.progress import Progress
from rsqlite.raft.quorum import VoteResult, quorum_votes
from rsqlite.raft.state import RELUCTANCE_TIMEOUTS, RaftState
from rsqlite.raft.types import EntryKind, Index, NodeId, Role, Room, Term, require

LAG_ENTRIES = 256
"""Committed entries that a follower has not applied, of which it says how many they are with its
heartbeats. Fewer are no reason to prefer another one; of more, their magnitude counts."""

# -- roles ----------------------------------------------------------------------------------------


def become_follower(state: RaftState, term: Term, leader_id: NodeId | None) -> None:
    """From any role: a newer term, the term's leader heard, a campaign or the leadership lost."""
    was_leader = state.role is Role.LEADER
    # A term that begins carries no vote; in the same term the vote stays (paper 5.2).
    state.set_vote(term, state.voted_for if term == state.current_term else None)
    state.role = Role.FOLLOWER
    if leader_id != state.leader_id or leader_id is None:
        state.fail_forwarded_reads()
    state.leader_id = leader_id
    _reset(state)
    if was_leader:
        _end_leadership(state)


def become_pre_candidate(state: RaftState) -> None:
    """Ask whether a campaign could be won, before it disturbs anybody: no term, no vote."""
    require(state.role is not Role.LEADER, "a leader does not campaign")
    require(state.is_promotable, "not promotable")
    state.role = Role.PRE_CANDIDATE
    state.leader_id = None
    state.fail_forwarded_reads()
    _reset(state)
    state.votes[state.node_id] = True
    _request_votes(state, pre_vote=True)
    _tally(state)


def become_candidate(state: RaftState, *, is_transfer: bool = False) -> None:
    """Campaign in a new term. The own vote counts once it is on disk (raft.md rule 1)."""
    require(state.role is not Role.LEADER, "a leader does not campaign")
    require(state.is_promotable, "not promotable")
    state.set_vote(Term(state.current_term + 1), state.node_id)
    state.role = Role.CANDIDATE
    state.leader_id = None
    state.fail_forwarded_reads()
    _reset(state)
    state.is_transfer_campaign = is_transfer
    _request_votes(state, pre_vote=False)


def become_leader(state: RaftState) -> None:
    """A quorum voted: announce it with an entry of this term (thesis 6.4, raft.md rule 15)."""
    require(state.role is Role.CANDIDATE, "only a candidate is elected")
    require(quorum_votes(state.configuration, state.votes) is VoteResult.WON, "not elected")
    state.role = Role.LEADER
    state.leader_id = state.node_id
    _reset(state)
    state.heartbeat_elapsed = state.quorum_checks = 0
    next_index = Index(state.log.last_index + 1)
    state.progress = {
        node_id: Progress(next_index)
        for node_id in sorted(replicas(state.configuration))
        if node_id != state.node_id
    }
    state.term_start_index = next_index
    replication.append_as_leader(state, EntryKind.NOOP, b"")


def _reset(state: RaftState) -> None:
    """Every change of role begins a new timeout (raft.md rule 12)."""
    state.election_elapsed = 0
    state.is_leader_closed = False
    state.is_transfer_campaign = False
    state.votes.clear()
    state.draw_election_ticks()


def _end_leadership(state: RaftState) -> None:
    """Reads that wait cannot be confirmed any more; what was proposed, the log will decide."""
    for source, context in state.leader_reads.drain():
        if source is None:
            state.read_states.append(ReadState(context, None))
        else:
            state.send_when_durable(
                ReadIndexReply(state.node_id, source, state.current_term, context, None)
            )
    state.progress.clear()
    state.departing.clear()
    state.uncommitted.clear()
    state.uncommitted_bytes = 0
    state.transfer_target = None


# -- campaigns ------------------------------------------------------------------------------------


def campaign(state: RaftState) -> None:
    """The timeout passed, or the host asks. A node that may not campaign only forgets its leader:
    it would else go on to name one that is gone."""
    if state.is_promotable:
        become_pre_candidate(state)
    elif state.role is not Role.FOLLOWER or state.leader_id is not None:
        become_follower(state, state.current_term, None)
    else:
        state.election_elapsed = 0


def _request_votes(state: RaftState, *, pre_vote: bool) -> None:
    configuration = state.configuration
    term = Term(state.current_term + 1) if pre_vote else state.current_term
    for voter in sorted(configuration.voters | configuration.outgoing):
        if voter == state.node_id:
            continue
        message = RequestVote(
            state.node_id,
            voter,
            term,
            state.log.last_index,
            state.log.last_term,
            pre_vote,
            state.is_transfer_campaign,
        )
        if pre_vote:
            state.send(message)
        else:
            # Also the request waits for the disk. Sent before, a crash could take back the term
            # and entries it speaks of, and a late grant would elect our next life, whose log is
            # shorter, in the same term.
            state.send_when_durable(message, state.log.last_index)


def _tally(state: RaftState) -> None:
    result = quorum_votes(state.configuration, state.votes)
    if result is VoteResult.WON:
        if state.role is Role.PRE_CANDIDATE:
            become_candidate(state)
        else:
            become_leader(state)
    elif result is VoteResult.LOST:
        become_follower(state, state.current_term, None)


def vote_durable(state: RaftState) -> None:
    """Term and vote are on disk: a candidate's own vote counts."""
    if state.role is Role.CANDIDATE and state.node_id not in state.votes:
        state.votes[state.node_id] = True
        _tally(state)


def handle_request_vote(state: RaftState, message: RequestVote) -> None:
    """Vote, or say how a vote would be (paper 5.2, 5.4.1). Our own configuration is not asked: it
    may be older than the candidate's (thesis 4.1, raft.md rules 10, 11)."""
    may_vote = (
        # The reply may have been lost: the same candidate is granted again (raft.md rule 4).
        state.voted_for == message.source
        or (state.voted_for is None and state.leader_id is None)
        or (message.pre_vote and message.term > state.current_term)
    )
    granted = (
        may_vote
        and state.is_admitted
        and state.log.is_up_to_date(message.last_log_index, message.last_log_term)
    )
    if message.pre_vote:
        granted = granted and not _is_rival(state, message)
        refuse_or_grant(state, message, granted=granted)
        return
    if granted:
        if state.role is Role.PRE_CANDIDATE:
            # Our own campaign would only disturb the one we just voted for.
            become_follower(state, state.current_term, None)
        state.set_vote(state.current_term, message.source)
        # Only a vote that is given postpones our own campaign (raft.md rule 12).
        state.election_elapsed = 0
        state.draw_election_ticks()
    refuse_or_grant(state, message, granted=granted)


def _is_rival(state: RaftState, message: RequestVote) -> bool:
    """Whether the asker began a campaign at the same moment as we did, and ours is to go first.

    The followers of a leader that dies see their connections break together. If each granted the
    other a pre-vote, both would campaign, vote for themselves, and wait for the next timeout. Only
    a moment, so that a node that cannot win does not stand in the way of one that can.
    """
    if state.role is not Role.PRE_CANDIDATE:
        return False
    if state.election_elapsed >= state.settings.heartbeat_ticks or state.is_reluctant:
        return False
    ours = (state.log.last_term, state.log.last_index, state.node_id)
    return ours > (message.last_log_term, message.last_log_index, message.source)


def refuse_or_grant(state: RaftState, message: RequestVote, *, granted: bool) -> None:
    """A granted pre-vote echoes the term it asked for, a refusal tells ours (raft.md rule 7)."""
    term = message.term if granted else state.current_term
    state.send_when_durable(
        RequestVoteReply(state.node_id, message.source, term, granted, message.pre_vote)
    )


def handle_vote_reply(state: RaftState, message: RequestVoteReply) -> None:
    """Count a vote for the campaign that is on."""
    expected = Role.PRE_CANDIDATE if message.pre_vote else Role.CANDIDATE
    if state.role is not expected:
        return
    state.votes.setdefault(message.source, message.granted)
    _tally(state)


# -- time -----------------------------------------------------------------------------------------


def tick_follower(state: RaftState, n: int) -> None:
    """Time passed without leadership: ask again, give up, campaign."""
    state.election_elapsed += n
    settings = state.settings
    if len(state.forwarded_reads):
        question, failed = state.forwarded_reads.tick(
            n, settings.heartbeat_ticks, settings.election_ticks
        )
        for context in failed:
            state.read_states.append(ReadState(context, None))
        if question is not None:
            confirmation.send_question(state, question)
    timeout = state.randomized_election_ticks
    if state.election_elapsed >= timeout and state.is_reluctant:
        timeout += RELUCTANCE_TIMEOUTS * settings.election_ticks
    if state.election_elapsed >= timeout:
        campaign(state)


def tick_leader(state: RaftState, n: int) -> None:
    """Time passed with leadership: heartbeats, and whether a quorum still answers."""
    state.election_elapsed += n
    state.heartbeat_elapsed += n
    state.transfer_elapsed += n
    if state.transfer_elapsed >= state.settings.election_ticks:
        # A transfer that took so long has failed; clients must be served again (thesis 3.10).
        state.transfer_target = None
    if state.election_elapsed >= state.settings.election_ticks:
        state.election_elapsed = 0
        if not _quorum_is_active(state):
            become_follower(state, state.current_term, None)
            return
        state.quorum_checks += 1
        if state.departing:
            replication.forget_departed(state)
    if state.heartbeat_elapsed >= state.settings.heartbeat_ticks:
        state.heartbeat_elapsed = 0
        replication.heartbeat_due(state)


def _quorum_is_active(state: RaftState) -> bool:
    """Whether a quorum was heard since the last check; begins the next period."""
    active = {node_id: progress.is_active for node_id, progress in state.progress.items()}
    active[state.node_id] = True
    for progress in state.progress.values():
        progress.is_active = progress.is_tried = False
    return quorum_votes(state.configuration, active) is VoteResult.WON


# -- handing over ---------------------------------------------------------------------------------


def transfer(state: RaftState, target: NodeId | None) -> bool:
    """Begin to hand leadership to `target`, or to the voter that has most. Proposals are refused
    until it is done or given up. Returns False if there is nobody to hand it to."""
    if state.role is not Role.LEADER:
        return False
    if target is None:
        target = _most_advanced(state)
    if target not in state.progress or not is_voter(state.configuration, target):
        return False
    if state.progress[target].may_lead is False:
        return False
    if state.transfer_target != target:
        state.transfer_target = target
        state.transfer_elapsed = 0
        replication.finish_transfer(state)
    return True


def _most_advanced(state: RaftState) -> NodeId | None:
    """The voter that has most of our log; of two that have the same, one heard lately. One that is
    to lead before others, if it has all that is committed; else one with room on its disk; else one
    whose database is not far behind its log: it serves nobody before that has come up. Nobody who
    would not take over: nothing would be written until we gave it up."""
    first = state.configuration.older_voters

    def merit(one: NodeId) -> tuple[bool, bool, int, Index, bool]:
        progress = state.progress[one]
        is_ready = progress.is_active and progress.match_index >= state.commit_index
        is_older, has_room = one in first and is_ready, progress.room is Room.AMPLE
        unapplied = max(0, state.commit_index - progress.applied_index)
        lag = (unapplied // LAG_ENTRIES).bit_length()
        return (is_older, has_room, -lag, progress.match_index, progress.is_active)

    voters = (one for one in sorted(state.progress) if is_voter(state.configuration, one))
    willing = (one for one in voters if state.progress[one].may_lead is not False)
    return max(willing, key=merit, default=None)


def handle_timeout_now(state: RaftState, message: TimeoutNow) -> None:
    """The leader hands over: campaign at once. Nobody's lease stands against it (thesis 4.2.3)."""
    if state.role is Role.FOLLOWER and state.is_promotable:
        become_candidate(state, is_transfer=True)


def step_down_if_removed(state: RaftState) -> None:
    """A leader that is no voter any more goes once C_new is committed, and not before: until then
    it is needed to commit it (thesis 4.2.2, raft.md rule 28)."""
    configurations = state.configurations
    if is_voter(configurations.current, state.node_id):
        return
    if configurations.index > state.commit_index:
        return
    replication.flush_commit(state)
    # One that has everything takes over at once; the others need not miss a leader first.
    state.transfer_target = _most_advanced(state)
    replication.finish_transfer(state)
    become_follower(state, state.current_term, None)


def peer_closed(state: RaftState, node_id: NodeId) -> None:
    """The connection of a peer broke, so its process probably did too."""
    if state.role is Role.LEADER:
        progress = state.progress.get(node_id)
        if progress is not None:
            # What was under way is lost; it is asked when it is heard again.
            progress.become_probe()
            progress.is_paused = progress.is_suspect = True
    elif node_id == state.leader_id:
        state.is_leader_closed = True
        soon = state.election_elapsed + 1 + state.random.randrange(_early_ticks(state))
        state.randomized_election_ticks = min(state.randomized_election_ticks, soon)


def _early_ticks(state: RaftState) -> int:
    """Apart enough that the followers of a dead leader rarely campaign in the same tick."""
    return max(2, state.settings.election_ticks // 4)
