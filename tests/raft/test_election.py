"""Who leads: the rules of raft.md section 2 on terms, votes and leases, one by one."""

from __future__ import annotations

import pytest

from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    ReadIndex,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.state import RELUCTANCE_TIMEOUTS, RaftState
from rsqlite.raft.types import TERM_STEP, Configuration, HardState, Role
from tests.raft.cluster import Cluster, configuration
from tests.raft.lone import Lone, request_vote

ELECTION = 10  # of SETTINGS


def test_rule_1_a_vote_leaves_only_after_its_fsync() -> None:
    node = Lone()
    node.step(request_vote(4))
    assert node.left == []
    assert node.waiting == [RequestVoteReply(1, 2, 4, True)]
    node.sync()
    assert node.log.hard_state == HardState(4, 2)
    assert node.left == [RequestVoteReply(1, 2, 4, True)]


def test_rule_1_any_reply_of_a_term_waits_until_the_term_is_on_disk() -> None:
    node = Lone()
    node.step(Heartbeat(2, 1, 4, 0))
    assert node.left == []
    node.sync()
    assert node.take(HeartbeatReply) == [HeartbeatReply(1, 2, 4)]
    # From then on heartbeats are answered whatever the disk does (rule 46).
    node.step(node.append(4, term=4))
    node.step(Heartbeat(2, 1, 4, 0))
    assert node.take(HeartbeatReply) == [HeartbeatReply(1, 2, 4)]


def test_rule_1_a_candidate_counts_itself_when_its_vote_is_on_disk() -> None:
    node = Lone(voters=(1,))
    node.core.campaign()
    node.poll()
    assert node.core.role is Role.CANDIDATE
    node.sync_one()
    assert node.core.role is Role.LEADER


def test_rule_1_a_request_for_votes_waits_for_the_disk_too() -> None:
    node = Lone()
    node.core.campaign()
    node.step(RequestVoteReply(2, 1, 1, True, True))
    assert node.core.role is Role.CANDIDATE
    assert not [m for m in node.left if isinstance(m, RequestVote) and not m.pre_vote]
    node.sync()
    assert len([m for m in node.left if isinstance(m, RequestVote) and not m.pre_vote]) == 2


def test_rule_2_term_and_vote_are_one_record() -> None:
    node = Lone(term=3, vote=1)
    node.step(request_vote(5))
    (work,) = node.log.pending
    assert work.hard_state == HardState(5, 2)


def test_rule_3_a_term_is_stored_no_later_than_its_entries() -> None:
    node = Lone(1, term=1)
    node.step(node.append(7, prev=(1, 1)))
    (work,) = node.log.pending
    assert (work.hard_state, len(work.entries)) == (HardState(7, None), 1)


def test_rule_4_the_same_candidate_is_granted_again() -> None:
    node = Lone()
    node.step_and_sync(request_vote(4))
    node.take(RequestVoteReply)
    node.step_and_sync(request_vote(4))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 2, 4, True)]
    node.step_and_sync(request_vote(4, source=3))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 3, 4, False)]


def test_rule_4_a_vote_outlives_a_crash() -> None:
    node = Lone()
    node.step_and_sync(request_vote(4))
    node.crash()
    node.start()
    node.step_and_sync(request_vote(4, source=3))
    assert node.take(RequestVoteReply)[-1].granted is False


def test_rule_5_a_repeated_reply_is_one_vote() -> None:
    node = Lone(voters=(1, 2, 3, 4, 5))
    node.core.campaign()
    reply = RequestVoteReply(2, 1, 1, True, True)
    node.step(reply, reply, reply)
    assert node.core.role is Role.PRE_CANDIDATE
    # The first answer counts.
    node.step(RequestVoteReply(3, 1, 0, False, True), RequestVoteReply(3, 1, 1, True, True))
    assert node.core.role is Role.PRE_CANDIDATE


def test_rule_6_a_vote_of_another_term_elects_nobody() -> None:
    node = Lone(term=3)
    node.core.campaign()
    node.step(RequestVoteReply(2, 1, 4, True, True))
    node.sync()
    assert (node.core.role, node.core.current_term) == (Role.CANDIDATE, 4)
    node.step(RequestVoteReply(3, 1, 3, True), RequestVoteReply(3, 1, 4, True, True))
    assert node.core.role is Role.CANDIDATE


def test_rule_7_a_pre_vote_changes_nothing_at_the_voter() -> None:
    node = Lone(1, term=1)
    elapsed = node.core._state.election_elapsed
    node.step(request_vote(9, (5, 1), pre_vote=True))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 2, 9, True, True)]
    assert (node.core.current_term, node.core.voted_for) == (1, None)
    assert node.core._state.election_elapsed == elapsed
    assert not node.log.pending
    # A shorter log is refused, with the voter's own term.
    node.step(request_vote(9, (0, 0), pre_vote=True))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 2, 1, False, True)]


def test_rule_7_a_refused_pre_vote_of_a_newer_term_makes_the_asker_catch_up() -> None:
    node = Lone()
    node.core.campaign()
    node.step(RequestVoteReply(2, 1, 8, False, True))
    assert (node.core.role, node.core.current_term) == (Role.FOLLOWER, 8)


def test_rule_8_who_asks_or_leads_in_an_older_term_is_answered() -> None:
    node = Lone(1, term=5)
    node.step(
        request_vote(3, (9, 2), pre_vote=True),
        request_vote(3, (9, 2)),
        Heartbeat(3, 1, 4, 0),
        node.append(term=4, source=3),
    )
    assert [(type(m), m.term) for m in node.left] == [
        (RequestVoteReply, 5),
        (RequestVoteReply, 5),
        (HeartbeatReply, 5),
        (AppendEntriesReply, 5),
    ]
    assert not any(getattr(m, "granted", False) or getattr(m, "success", 0) for m in node.left)


@pytest.mark.parametrize("voters", [(1,), (1, 3)])
def test_rule_8_who_was_left_out_when_the_members_were_forced_is_not_answered(
    voters: tuple[int, ...],
) -> None:
    term = TERM_STEP + 4
    node = Lone(1, term, term=term, voters=voters)
    for source in (2, 3):
        node.step(
            request_vote(5, (9, 4), pre_vote=True, source=source),
            request_vote(5, (9, 4), source=source),
            Heartbeat(source, 1, 4, 0),
            node.append(term=4, source=source),
            ReadIndex(source, 1, 4, 7),
        )
    # A member that has not heard of it yet is told, as any other.
    told = {message.target for message in node.left}
    assert told == set(voters) - {1}
    outcasts = [node.core.take_outcast(), node.core.take_outcast()]
    assert outcasts == [max({2, 3} - set(voters)), None]


def test_rule_9_a_transfer_skips_pre_vote_and_leases_and_its_flag_is_used_once() -> None:
    node = Lone(1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    node.step_and_sync(TimeoutNow(2, 1, 1))
    requests = node.take(RequestVote)
    assert {(m.term, m.pre_vote, m.transfer) for m in requests} == {(2, False, True)}
    # Not elected; the next campaign is an ordinary one.
    node.tick(2 * ELECTION)
    assert {(m.pre_vote, m.transfer) for m in node.take(RequestVote)} == {(True, False)}


def test_rule_9_only_the_leader_may_ask_for_a_campaign() -> None:
    node = Lone(1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    node.step(TimeoutNow(3, 1, 1))
    assert node.core.role is Role.FOLLOWER


def test_rule_10_a_learner_votes_when_asked_and_never_campaigns() -> None:
    node = Lone(initial=configuration([2, 3], learners=[1]))
    node.tick(5 * ELECTION)
    node.core.campaign()
    node.poll()
    assert node.core.role is Role.FOLLOWER
    node.step_and_sync(TimeoutNow(2, 1, 0))
    assert node.take(RequestVote) == []
    node.step_and_sync(request_vote(4))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 2, 4, True)]


@pytest.mark.parametrize("initial", [Configuration(), configuration([2, 3])])
def test_rule_11_a_node_outside_its_configuration_takes_entries_and_votes(
    initial: Configuration,
) -> None:
    node = Lone(initial=initial)
    node.step_and_sync(request_vote(4, source=9))
    assert node.take(RequestVoteReply)[0].granted
    node.step_and_sync(node.append(4, 4, source=9))
    assert node.take(AppendEntriesReply)[0].success
    # It does not campaign (rule 13).
    node.tick(5 * ELECTION)
    assert node.core.role is Role.FOLLOWER
    assert node.core.leader_id is None, "a leader that is gone is not named for ever"


def test_rule_12_the_timeout_is_drawn_anew_between_once_and_twice() -> None:
    node = Lone()
    drawn = set()
    for _ in range(60):
        node.tick(node.core._state.randomized_election_ticks)
        drawn.add(node.core._state.randomized_election_ticks)
    assert drawn == set(range(ELECTION, 2 * ELECTION))


def test_rule_12_only_a_vote_that_is_given_resets_the_timeout() -> None:
    node = Lone(1, 1, term=1)
    node.tick(9)
    node.step(request_vote(2, (9, 1), pre_vote=True))
    node.step(request_vote(1, (0, 0), source=3))
    assert node.core._state.election_elapsed == 9
    node.step(request_vote(1, (9, 1), source=3))
    assert node.core._state.election_elapsed == 0


def test_rule_13_a_voter_left_out_may_campaign_until_that_is_committed() -> None:
    node = Lone(1, term=1)
    smaller = configuration([2, 3]).to_bytes()
    message = node.append(1, prev=(1, 1))
    entry = message.entries[0]._replace(kind=2, data=smaller)
    node.step_and_sync(AppendEntries(2, 1, 1, 1, 1, (entry,), 0))
    assert node.core.configuration == configuration([2, 3])
    node.core.campaign()
    node.poll()
    # It may hold the longest log, and then nobody else can be elected (thesis 4.2.2).
    assert node.core.role is Role.PRE_CANDIDATE
    node.step_and_sync(Heartbeat(2, 1, 1, 2))
    assert node.core.commit_index == 2
    node.core.campaign()
    node.poll()
    assert node.core.role is Role.FOLLOWER


def test_rule_15_a_leader_begins_with_an_entry_of_its_term() -> None:
    node = Lone(1, term=1)
    node.lead()
    assert node.log.view[-1][:2] == (2, 2)
    assert node.log.view[-1].data == b""
    assert not node.core.is_ready


def test_rule_29_votes_are_refused_while_a_leader_is_heard() -> None:
    node = Lone(1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    node.take(HeartbeatReply)
    node.tick(ELECTION - 1)
    node.step(request_vote(7, (9, 6), source=3))
    assert (node.left, node.core.current_term) == ([], 1)
    node.step(request_vote(7, (9, 6), source=3, pre_vote=True))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 3, 1, False, True)]
    node.step_and_sync(request_vote(7, (9, 6), source=3, transfer=True))
    assert node.take(RequestVoteReply) == [RequestVoteReply(1, 3, 7, True)]


def test_rule_29_a_leader_refuses_too_as_long_as_its_quorum_answers() -> None:
    node = Lone()
    node.lead()
    node.step(request_vote(7, (9, 6)))
    assert (node.core.role, node.core.current_term) == (Role.LEADER, 1)


def test_rule_45_a_host_that_slept_loses_its_leadership_before_it_hears_old_answers() -> None:
    node = Lone()
    node.lead()
    node.step(HeartbeatReply(2, 1, 1), HeartbeatReply(3, 1, 1))
    node.core.tick(100)
    node.step(HeartbeatReply(2, 1, 1), HeartbeatReply(3, 1, 1))
    assert node.core.role is Role.FOLLOWER


def test_a_leader_that_no_quorum_answers_steps_down() -> None:
    node = Lone(voters=(1, 2, 3, 4, 5))
    node.lead(voters=(2, 3, 4))
    for _ in range(4):
        node.tick(ELECTION - 1)
        node.step(HeartbeatReply(2, 1, 1), HeartbeatReply(3, 1, 1))
        node.tick(1)
        assert node.core.role is Role.LEADER
    for _ in range(2):
        node.step(HeartbeatReply(2, 1, 1), HeartbeatReply(2, 1, 1))
        node.tick(ELECTION)
    assert node.core.role is Role.FOLLOWER
    assert (node.core.leader_id, node.core.current_term) == (None, 1)


def test_rule_46_a_leader_whose_disk_hangs_steps_down_and_does_not_campaign() -> None:
    node = Lone()
    node.lead()
    node.core.disk_stalled(True)
    node.poll()
    assert node.core.role is Role.FOLLOWER
    node.take(Heartbeat)
    node.tick(4 * ELECTION)
    assert node.left == []
    node.core.disk_stalled(False)
    node.tick(2 * ELECTION)
    assert node.core.role is Role.PRE_CANDIDATE


def test_a_leader_that_can_serve_nobody_steps_down_and_campaigns_last() -> None:
    node = Lone()
    node.lead()
    node.core.lead_reluctantly()
    node.poll()
    assert node.core.role is Role.FOLLOWER
    node.take(Heartbeat)
    node.tick((1 + RELUCTANCE_TIMEOUTS) * ELECTION - 1)
    assert node.left == []
    node.tick(ELECTION + 1)
    assert node.core.role is Role.PRE_CANDIDATE, "others may lack what it has"


def test_rule_47_a_link_that_works_one_way_does_not_end_a_leadership() -> None:
    cluster = Cluster([1, 2, 3], seed=1)
    leader = cluster.elect(1)
    for _ in range(100):
        for server in cluster.running:
            server.core.tick()
        for _ in range(3):
            for server in cluster.running:
                cluster.poll(server)
                while server.log.pending:
                    cluster.sync(server)
            messages, cluster.network = cluster.network, []
            for message in messages:
                # Node 3 hears nobody, and everybody hears node 3.
                if message.target != 3:
                    cluster[message.target].step(message)
    assert leader.role is Role.LEADER
    assert leader.current_term == 1


def test_rule_47_a_bridge_between_two_halves_keeps_one_leader() -> None:
    # 1 and 2 cannot reach 4 and 5; 3 reaches everybody.
    cluster = Cluster([1, 2, 3, 4, 5], seed=2)
    leader = cluster.elect(1)
    broken = [{1, 4}, {1, 5}, {2, 4}, {2, 5}]
    for _ in range(150):
        for server in cluster.running:
            server.core.tick()
        for _ in range(3):
            for server in cluster.running:
                cluster.poll(server)
                while server.log.pending:
                    cluster.sync(server)
            messages, cluster.network = cluster.network, []
            for message in messages:
                if {message.source, message.target} not in broken:
                    cluster[message.target].step(message)
    assert (leader.role, leader.current_term) == (Role.LEADER, 1)


def test_a_closed_connection_of_the_leader_starts_a_pre_vote_early() -> None:
    node = Lone(1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    node.core.peer_closed(3)
    node.tick(5)
    assert node.core.role is Role.FOLLOWER
    node.step(Heartbeat(2, 1, 1, 0))
    node.core.peer_closed(2)
    node.tick(4)
    assert node.core.role is Role.PRE_CANDIDATE


def test_a_closed_connection_ends_the_lease_of_that_leader_until_it_is_heard() -> None:
    node = Lone(1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    node.take(HeartbeatReply)
    node.core.peer_closed(2)
    node.step(request_vote(2, (9, 1), source=3, pre_vote=True))
    assert node.take(RequestVoteReply)[0].granted
    node.step(Heartbeat(2, 1, 1, 0))
    node.take(HeartbeatReply)
    node.step(request_vote(2, (9, 1), source=3, pre_vote=True))
    assert not node.take(RequestVoteReply)[0].granted
    node.tick(5)
    assert node.core.role is Role.FOLLOWER


def test_a_pre_candidate_that_votes_gives_up_its_own_campaign() -> None:
    node = Lone(1, term=1)
    node.core.campaign()
    node.step_and_sync(request_vote(1, (5, 1), source=3))
    assert (node.core.role, node.core.voted_for) == (Role.FOLLOWER, 3)


def test_of_two_campaigns_begun_together_one_goes_first() -> None:
    node = Lone(1, voters=(1, 2, 0), term=1)
    node.core.campaign()
    node.step(request_vote(2, (1, 1), source=2, pre_vote=True))
    assert node.take(RequestVoteReply)[-1].granted, "the other has the higher id"
    node.step(request_vote(2, (1, 1), source=0, pre_vote=True))
    assert not node.take(RequestVoteReply)[-1].granted
    # Not for long: it may be the one that cannot win.
    node.tick(3)
    node.step(request_vote(2, (1, 1), source=0, pre_vote=True))
    assert node.take(RequestVoteReply)[-1].granted


def test_a_lost_campaign_ends_at_once() -> None:
    node = Lone()
    node.core.campaign()
    node.step(RequestVoteReply(2, 1, 0, False, True), RequestVoteReply(3, 1, 0, False, True))
    assert node.core.role is Role.FOLLOWER


def test_a_second_leader_of_a_term_is_not_believed() -> None:
    node = Lone(1, term=3)
    node.step_and_sync(Heartbeat(2, 1, 3, 0))
    node.take(HeartbeatReply)
    node.step(Heartbeat(3, 1, 3, 1), node.append(term=3, source=3))
    assert (node.left, node.core.leader_id) == ([], 2)


def test_transfer_goes_to_the_voter_that_has_most() -> None:
    node = Lone(initial=configuration([1, 2, 3], learners=[4]))
    node.lead()
    node.core.propose(b"a")
    node.step_and_sync(
        AppendEntriesReply(3, 1, 1, True, 2),
        AppendEntriesReply(2, 1, 1, True, 1),
        AppendEntriesReply(4, 1, 1, True, 2),
    )
    node.left.clear()
    assert node.core.transfer_leadership(None)
    node.poll()
    assert node.take(TimeoutNow) == [TimeoutNow(1, 3, 1)]
    assert node.core.is_transferring
    assert node.core.propose(b"b") is None


def test_a_leader_that_is_asked_to_hand_over_again_and_again_still_checks_its_quorum() -> None:
    node = Lone(initial=configuration([1, 2, 3]))
    node.lead()
    node.step_and_sync(AppendEntriesReply(2, 1, 1, True, 1), AppendEntriesReply(3, 1, 1, True, 1))
    node.tick(ELECTION)
    assert node.core.quorum_checks == 1
    for target in (2, 3, 2, 3):
        node.core.transfer_leadership(target)
        node.tick(ELECTION // 2)
    assert node.core.role is Role.FOLLOWER


@pytest.mark.parametrize("target", [1, 4, 9])
def test_leadership_goes_to_other_voters_only(target: int) -> None:
    node = Lone(initial=configuration([1, 2, 3], learners=[4]))
    node.lead()
    assert not node.core.transfer_leadership(target)
    assert node.core.propose(b"x") is not None


def test_leadership_goes_to_nobody_who_says_that_it_cannot_lead() -> None:
    node = Lone()
    node.lead()
    node.step_and_sync(
        AppendEntriesReply(2, 1, 1, True, 1),
        HeartbeatReply(2, 1, 1, may_lead=False),
        HeartbeatReply(3, 1, 1),
    )
    assert not node.core.transfer_leadership(2)
    assert node.core.propose(b"x") is not None, "nothing is refused for it"
    node.step(HeartbeatReply(3, 1, 1, may_lead=False))
    assert not node.core.transfer_leadership(None)
    node.step(HeartbeatReply(3, 1, 1))
    assert node.core.transfer_leadership(None)
    node.step_and_sync(AppendEntriesReply(2, 1, 1, True, 2), AppendEntriesReply(3, 1, 1, True, 2))
    assert node.take(TimeoutNow) == [TimeoutNow(1, 3, 1)]


def test_who_would_not_campaign_if_it_were_asked_says_so() -> None:
    node = Lone()
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    assert [one.may_lead for one in node.take(HeartbeatReply)] == [True]
    node.core.disk_stalled(True)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    assert [one.may_lead for one in node.take(HeartbeatReply)] == [False]
    unfit = Lone()
    unfit.core.lead_reluctantly()
    unfit.step_and_sync(Heartbeat(2, 1, 1, 0))
    assert [one.may_lead for one in unfit.take(HeartbeatReply)] == [False]
    other = Lone(initial=configuration([1, 2, 3], fingerprint="f"), fingerprint="g")
    other.step_and_sync(Heartbeat(2, 1, 1, 0))
    assert [one.may_lead for one in other.take(HeartbeatReply)] == [False]


def test_a_node_alone_has_nobody_to_hand_over_to() -> None:
    node = Lone(voters=(1,))
    node.lead(voters=())
    assert not node.core.transfer_leadership(None)
    assert not Lone().core.transfer_leadership(2), "who does not lead has nothing to hand over"


def test_waiting_for_the_target_the_leader_goes_on_sending() -> None:
    node = Lone()
    node.lead()
    node.core.propose(b"a")
    node.poll()
    node.core.transfer_leadership(2)
    node.step(AppendEntriesReply(2, 1, 1, True, 1))
    assert node.take(TimeoutNow) == []
    node.step(AppendEntriesReply(2, 1, 1, True, 2))
    assert node.take(TimeoutNow) == [TimeoutNow(1, 2, 1)]


def test_every_field_of_the_state_has_its_slot() -> None:
    assert not hasattr(Lone().core._state, "__dict__")
    assert "current_term" in RaftState.__slots__
