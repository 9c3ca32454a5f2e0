"""The log from the leader to everybody: the rules of raft.md section 2, one by one."""

from __future__ import annotations

import dataclasses

import pytest

from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.progress import ProgressState
from rsqlite.raft.types import DividedHistory, EntryKind, InvariantViolation, Role
from tests.raft.cluster import SETTINGS, Cluster, configuration, entries
from tests.raft.lone import Lone


def leading(*terms: int, **options: object) -> Lone:
    node = Lone(*terms, **options)  # type: ignore[arg-type]
    node.lead()
    return node


def accept(node: Lone, match: int, source: int = 2, round_: int = 0) -> AppendEntriesReply:
    return AppendEntriesReply(source, 1, node.core.current_term, True, match, round=round_)


def test_rule_14_only_entries_of_the_present_term_are_counted() -> None:
    node = leading(1, 1, voters=(1, 2, 3))
    node.step(accept(node, 2))
    assert node.core.commit_index == 0
    node.step(accept(node, 3))
    assert node.core.commit_index == 3


def test_rule_16_a_follower_commits_only_what_the_message_proved() -> None:
    # Its own entries 2 and 3 may be of a branch that lost.
    node = Lone(1, 2, 2, term=3)
    node.step(node.append(prev=(1, 1), term=3, commit=3))
    assert node.core.commit_index == 1


def test_rule_16_a_heartbeat_carries_at_most_what_the_follower_has() -> None:
    node = leading()
    node.core.propose(b"a")
    node.step_and_sync(accept(node, 2, source=3))
    node.left.clear()
    node.tick(3)
    assert {m.target: m.commit_index for m in node.take(Heartbeat)} == {2: 0, 3: 2}


def test_rule_16_a_heartbeat_beyond_the_log_commits_nothing() -> None:
    node = Lone(1, 1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 5))
    assert node.core.commit_index == 0
    assert node.take(HeartbeatReply)


def test_rule_17_a_late_shorter_append_does_not_shorten_the_log() -> None:
    node = Lone(term=1)
    node.step_and_sync(node.append(1, 1, 1, 1))
    node.step_and_sync(node.append(1, prev=(1, 1)))
    assert node.core.last_index == 4
    node.step_and_sync(node.append(prev=(2, 1), term=1))
    assert node.core.last_index == 4


def test_rule_17_only_a_real_conflict_truncates_and_from_there() -> None:
    node = Lone(1, 1, 2, 2, term=2)
    node.step(node.append(1, 3, prev=(1, 1)))
    (work,) = node.log.pending
    assert work.truncate_from == 3
    assert [(e.term, e.index) for e in work.entries] == [(3, 3)]
    assert [e.term for e in node.log.view] == [1, 1, 3]


def test_rule_18_a_conflict_with_a_committed_entry_stops_the_process() -> None:
    node = Lone(1, 1, term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 2))
    assert node.core.commit_index == 2
    with pytest.raises(DividedHistory, match="committed entry 2"):
        node.step(node.append(3, prev=(1, 1)))


@pytest.mark.parametrize("prev", [(2, 2), (1, 2)])
def test_rule_18_so_does_one_just_before_what_is_sent(prev: tuple[int, int]) -> None:
    """A leader that took our commit index for a match sends nothing below it any more."""
    node = Lone(1, 1, term=2)
    node.step_and_sync(Heartbeat(2, 1, 2, 2))
    with pytest.raises(DividedHistory, match=f"committed entry {prev[0]}"):
        node.step(node.append(prev=prev))


def test_rule_18_a_database_ahead_of_its_log_does_not_start() -> None:
    node = Lone(1, 1)
    node.database.applied += entries(1, 1, 1)
    with pytest.raises(InvariantViolation, match="ahead of the log"):
        node.start()


def test_rule_19_an_append_from_below_the_commit_is_no_conflict() -> None:
    node = Lone(1, 1, 1, term=1, applied=3)
    node.log.first_index = 3  # entries 1 and 2 were cut away
    reply = AppendEntriesReply(1, 2, 1, True, 3)
    node.step_and_sync(node.append(1, prev=(1, 1)))
    assert node.take(AppendEntriesReply)[-1] == reply
    # What reaches over the commit is taken.
    node.step_and_sync(node.append(1, 1, 1, prev=(1, 1)))
    assert node.core.last_index == 4
    assert node.take(AppendEntriesReply)[-1].match_index == 4


def test_rule_20_success_reports_what_the_message_covered() -> None:
    node = Lone(1, 1, 2, 2, 2, term=2)
    node.step_and_sync(node.append(1, prev=(1, 1), term=3))
    assert node.take(AppendEntriesReply)[-1].match_index == 2


def test_rule_20_success_waits_until_what_it_covers_is_durable() -> None:
    node = Lone(term=1)
    node.step(node.append(1))
    assert node.take(AppendEntriesReply) == []
    node.step(node.append(prev=(1, 1), term=1))
    assert node.take(AppendEntriesReply) == [], "nothing of index 1 is on disk"
    node.sync()
    assert [m.match_index for m in node.take(AppendEntriesReply)] == [1, 1]
    # What is durable already is acknowledged at once, even while other work is under way.
    node.step(node.append(1, prev=(1, 1)))
    node.step(node.append(prev=(1, 1), term=1))
    assert [m.match_index for m in node.take(AppendEntriesReply)] == [1]


def test_rule_21_stale_refusals_change_nothing() -> None:
    node = leading()
    node.step(accept(node, 1))
    for data in (b"a", b"b"):
        node.core.propose(data)
        node.poll()
    node.step(accept(node, 2))
    node.left.clear()
    node.step(AppendEntriesReply(2, 1, 1, False, 1, 0, 0))
    view = node.core.progress()[0]
    assert (view.state, view.match_index, view.next_index) == (ProgressState.REPLICATE, 2, 4)
    assert node.left == []
    node.step(accept(node, 1))
    assert node.core.progress()[0].match_index == 2


def test_rule_22_a_truncation_travels_with_the_entries_that_replace_it() -> None:
    node = Lone(1, 2, 2, term=2)
    node.step(node.append(3, prev=(1, 1)))
    (work,) = node.log.pending
    assert (work.truncate_from, [e.index for e in work.entries]) == (2, [2])
    # From this moment the core answers for the new entry, not for what the disk still holds.
    assert node.core._state.log.term(2) == 3
    assert node.core._state.log.term(3) is None
    assert node.core.durable_index == 1


def test_rule_23_a_leader_never_touches_its_own_entries() -> None:
    node = leading(1)
    with pytest.raises(InvariantViolation, match="never truncates"):
        node.core._state.truncate(2)
    # An append of its own term from somebody else cannot be, and is not believed.
    node.step(node.append(2, prev=(1, 1), term=2))
    assert node.core.role is Role.LEADER
    assert node.core.last_index == 2


def test_rule_23_the_leader_counts_itself_only_when_durable() -> None:
    node = leading(voters=(1, 2, 3, 4, 5))
    node.core.propose(b"a")
    node.poll()
    node.step(accept(node, 2, 2), accept(node, 2, 3))
    assert node.core.commit_index == 1
    node.sync()
    assert node.core.commit_index == 2


def test_the_leader_sends_before_its_own_disk_has_written() -> None:
    node = leading()
    node.step(accept(node, 1), accept(node, 1, 3))
    node.left.clear()
    node.core.propose(b"a")
    output = node.core.poll()
    assert output is not None
    assert output.append is not None
    assert len(output.append.entries) == 1
    assert {m.target for m in output.send} == {2, 3}


def test_proposals_of_one_turn_share_a_work_and_a_message() -> None:
    node = leading()
    node.step(accept(node, 1), accept(node, 1, 3))
    node.left.clear()
    ids = [node.core.propose(data) for data in (b"a", b"b", b"c")]
    node.poll()
    assert ids == [(1, 2), (1, 3), (1, 4)]
    assert len(node.log.pending) == 1
    assert [len(m.entries) for m in node.take(AppendEntries)] == [3, 3]


def test_committed_by_others_before_the_own_disk_is_handed_over_after_it() -> None:
    node = leading()
    node.core.propose(b"a")
    node.poll()
    node.step(accept(node, 2), accept(node, 2, 3))
    assert node.core.commit_index == 2
    assert [e.index for e in node.handed] == [1]
    node.sync()
    assert [e.index for e in node.handed] == [1, 2]


def test_a_refusal_skips_whole_terms_by_the_hints_of_both_sides() -> None:
    # Figure 7 (f): two round trips for eleven entries of other terms.
    node = leading(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, term=7)
    node.left.clear()
    node.step(AppendEntriesReply(2, 1, 8, False, 10, 10, 3))
    (message,) = node.take(AppendEntries)
    assert (message.prev_log_index, message.prev_log_term) == (3, 1)


def test_the_hint_of_a_follower_is_its_last_entry_of_a_term_not_above() -> None:
    node = Lone(1, 1, 1, 2, 2, 2, 3, 3, 3, term=8)
    node.step(node.append(prev=(8, 2), term=8))
    assert node.take(AppendEntriesReply) == [AppendEntriesReply(1, 2, 8, False, 8, 6, 2)]


def test_a_message_is_bounded_in_bytes_and_the_window_in_both() -> None:
    settings = dataclasses.replace(
        SETTINGS, append_bytes_max=100, inflight_messages_max=3, inflight_bytes_max=250
    )
    node = leading(settings=settings)
    node.step(accept(node, 1), accept(node, 1, 3))
    node.left.clear()
    for _ in range(20):
        node.core.propose(b"x" * 40)
    node.poll()
    to_two = [m for m in node.take(AppendEntries) if m.target == 2]
    assert [len(m.entries) for m in to_two] == [2, 2, 2]
    node.step(accept(node, 3))
    assert [len(m.entries) for m in node.take(AppendEntries)] == [2]
    # An entry over the bound goes alone.
    big = leading(settings=settings)
    big.step(accept(big, 1))
    big.left.clear()
    big.core.propose(b"x" * 1000)
    big.core.propose(b"y")
    big.poll()
    assert [len(m.entries) for m in big.take(AppendEntries) if m.target == 2] == [1]


def test_a_message_is_bounded_in_entries_however_small_they_are() -> None:
    node = leading(
        settings=dataclasses.replace(SETTINGS, append_bytes_max=100, append_entries_max=3)
    )
    node.step(accept(node, 1), accept(node, 1, 3))
    node.left.clear()
    for _ in range(5):
        node.core.propose(b"")
    node.poll()
    assert [len(m.entries) for m in node.take(AppendEntries) if m.target == 2] == [3, 2]


def test_a_claim_beyond_the_log_is_not_used() -> None:
    node = leading()
    node.step(accept(node, 99), AppendEntriesReply(3, 1, 1, True, -5))
    assert node.core.commit_index == 0
    assert node.core.progress()[0].match_index == 0


def test_a_lost_append_is_asked_for_without_sending_it_again_blindly() -> None:
    node = leading()
    node.step(accept(node, 1))
    node.core.propose(b"a" * 50)
    node.poll()
    node.left.clear()
    for _ in range(2):
        node.tick(3)
        node.step(HeartbeatReply(2, 1, 1))
    (question,) = node.take(AppendEntries)
    assert (question.prev_log_index, question.entries) == (2, ())


def test_answers_to_read_rounds_do_not_trigger_questions() -> None:
    node = leading()
    node.step(accept(node, 1))
    node.core.propose(b"a")
    node.poll()
    node.left.clear()
    for _ in range(10):
        node.step(HeartbeatReply(2, 1, 1))
    assert node.take(AppendEntries) == []


def test_a_broken_connection_puts_its_follower_back_to_probe() -> None:
    node = leading()
    node.step(accept(node, 1))
    node.core.propose(b"a")
    node.poll()
    node.left.clear()
    node.core.peer_closed(2)
    node.core.propose(b"b")
    node.poll()
    assert [m for m in node.take(AppendEntries) if m.target == 2] == []
    node.step(HeartbeatReply(2, 1, 1))
    (question,) = node.take(AppendEntries)
    assert (question.prev_log_index, question.entries) == (1, ())
    node.step(accept(node, 1))
    (again,) = node.take(AppendEntries)
    assert [e.data for e in again.entries] == [b"a", b"b"]


def test_a_follower_that_needs_what_was_cut_away_gets_heartbeats_only() -> None:
    node = leading(1, 1, 1, 1, applied=4)
    node.log.first_index = 4
    node.core._state.log._tail.clear()
    node.core._state.log._tail_first = 6
    node.left.clear()
    node.step(AppendEntriesReply(2, 1, 2, False, 4, 1, 1))
    assert node.core.progress()[0].state is ProgressState.SNAPSHOT
    node.tick(6)
    node.step(HeartbeatReply(2, 1, 2))
    assert {type(m) for m in node.left if m.target == 2} == {Heartbeat}
    # An image brought it up to 4: from there on it is asked again.
    node.left.clear()
    node.step(accept(node, 4))
    assert node.core.progress()[0].state is not ProgressState.SNAPSHOT
    (message,) = [m for m in node.take(AppendEntries) if m.target == 2]
    assert message.prev_log_index == 4


def test_too_much_that_is_uncommitted_refuses_proposals_but_never_the_first() -> None:
    settings = dataclasses.replace(SETTINGS, uncommitted_bytes_max=100)
    node = leading(settings=settings)
    assert node.core.propose(b"x" * 500) is not None
    assert node.core.propose(b"y") is None
    assert node.core.uncommitted_bytes == 500
    node.poll()
    node.step_and_sync(accept(node, 2))
    assert node.core.uncommitted_bytes == 0
    assert node.core.propose(b"y") is not None


def test_flush_commit_tells_only_those_that_could_use_it() -> None:
    node = leading()
    node.step_and_sync(accept(node, 1))
    node.left.clear()
    node.core.flush_commit()
    node.poll()
    assert node.take(Heartbeat) == [Heartbeat(1, 2, 1, 1)]
    node.core.flush_commit()
    node.poll()
    assert node.left == []
    Lone().core.flush_commit()


@pytest.mark.parametrize(
    "change",
    [
        {"prev_log_index": -1},
        {"prev_log_term": 9},
        {"entries": ()},
    ],
)
def test_rule_50_what_is_no_piece_of_a_log_is_dropped(change: dict[str, object]) -> None:
    node = Lone(1, term=5)
    good = node.append(2, 3, prev=(1, 1), term=5)
    entry = good.entries[0]
    if change == {"entries": ()}:
        bad = [
            dataclasses.replace(good, entries=(entry._replace(index=7),)),
            dataclasses.replace(good, entries=(entry._replace(term=0),)),
            dataclasses.replace(good, entries=(entry._replace(term=6),)),
            dataclasses.replace(
                good, entries=(entry._replace(kind=EntryKind.CONFIGURATION, data=b"{}"),)
            ),
        ]
    else:
        bad = [dataclasses.replace(good, **change)]  # type: ignore[arg-type]
    for message in bad:
        node.step_and_sync(message)
    assert node.take(AppendEntriesReply) == []
    assert node.core.last_index == 1
    node.step_and_sync(good)
    assert node.core.last_index == 3


# -- membership ----------------------------------------------------------------------------------


def test_rule_24_a_change_waits_for_an_entry_of_this_term_and_for_the_last_change() -> None:
    node = leading()
    target = configuration([1, 2])
    assert node.core.propose_configuration(target) is None
    node.step_and_sync(accept(node, 1))
    assert node.core.propose_configuration(target) == (1, 2)
    assert node.core.configuration.is_joint
    assert node.core.propose_configuration(target) is None
    node.core.transfer_leadership(2)
    assert node.core.propose_configuration(target) is None
    with pytest.raises(ValueError, match="voter"):
        node.core.propose_configuration(configuration([]))


def test_rule_24_a_change_that_is_not_joint_must_be_committed_too() -> None:
    node = leading()
    node.step_and_sync(accept(node, 1))
    assert node.core.propose_configuration(configuration([1, 2, 3], learners=[4]))
    assert not node.core.configuration.is_joint
    assert node.core.propose_configuration(configuration([1, 2, 3], learners=[4, 5])) is None
    node.poll()
    node.step_and_sync(accept(node, 2))
    assert node.core.propose_configuration(configuration([1, 2, 3], learners=[4, 5]))


def test_rule_25_configurations_are_in_force_on_append_and_fall_back_with_the_log() -> None:
    cluster = Cluster([1, 2, 3], spare=[4, 5])
    cluster.elect(1)
    old = cluster[1].configuration
    assert cluster[1].propose_configuration(configuration([1, 2, 3, 4, 5]))
    assert cluster[1].configuration.is_joint
    cluster.run(cut=[2, 3, 4, 5])
    cluster.elect(2, cut=[1, 4, 5])
    assert cluster[2].configuration == old
    cluster.tick(3)
    cluster.run()
    assert cluster[1].configuration == old
    assert cluster[1].role is Role.FOLLOWER


def test_rule_25_a_restart_finds_the_configurations_above_the_database_again() -> None:
    cluster = Cluster([1, 2, 3], spare=[4])
    cluster.elect(1)
    cluster[1].propose_configuration(configuration([1, 2, 3, 4]))
    cluster.run()
    server = cluster.servers[1]
    del server.database.applied[1:]
    server.raft = None
    server.start()
    assert server.core.configuration == configuration([1, 2, 3, 4])
    assert server.core.applied_index == 1


def test_rule_27_the_new_configuration_follows_only_a_committed_joint_one() -> None:
    node = leading()
    node.step_and_sync(accept(node, 1), accept(node, 1, 3))
    node.core.propose_configuration(configuration([1, 2, 4]))
    node.poll()
    node.sync()
    # Both halves: of 1, 2, 4 and of 1, 2, 3.
    node.step(accept(node, 2, 3))
    assert node.core.configuration.is_joint
    node.step(accept(node, 2, 2))
    assert node.core.configuration == configuration([1, 2, 4])
    assert node.core.last_index == 3


def test_rule_27_a_commit_below_the_joint_configuration_does_not_end_it() -> None:
    node = leading()
    node.step_and_sync(accept(node, 1))
    node.core.propose(b"a")
    node.core.propose_configuration(configuration([1, 2, 4]))
    node.poll()
    node.step_and_sync(accept(node, 2), accept(node, 2, 4))
    assert node.core.commit_index == 2
    assert node.core.configuration.is_joint
    assert node.core.last_index == 3


def test_rule_28_a_leader_that_removes_itself_goes_when_that_is_committed() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster[1].propose_configuration(configuration([2, 3]))
    # It does not count itself in the new half, which needs both of the others.
    cluster.run(cut=[3])
    assert cluster[1].role is Role.LEADER
    assert cluster[1].configuration.is_joint
    cluster.tick(6)
    assert cluster[1].role is Role.FOLLOWER
    assert [core.node_id for core in cluster.leaders] in ([2], [3])
    assert cluster[1].commit_index >= 3


def test_rule_28_a_leader_handing_over_on_removal_asks_the_one_that_has_everything() -> None:
    node = leading()
    node.step_and_sync(accept(node, 1), accept(node, 1, 3))
    node.core.propose_configuration(configuration([2, 3]))
    node.poll()
    node.sync()
    node.step_and_sync(accept(node, 2), accept(node, 2, 3))
    assert node.core.role is Role.LEADER
    node.left.clear()
    node.step(accept(node, 3), accept(node, 3, 3))
    assert node.core.role is Role.FOLLOWER
    assert len(node.take(TimeoutNow)) == 1


def test_rule_29_who_left_is_told_so_and_then_left_alone() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster[1].propose_configuration(configuration([1, 2]))
    cluster.run()
    cluster.tick(4)
    assert cluster[3].configuration == configuration([1, 2])
    assert cluster[3].commit_index == cluster[1].commit_index
    cluster.tick(40)
    assert [view.node_id for view in cluster[1].progress()] == [2]
    assert cluster[3].role is Role.FOLLOWER
    assert cluster[1].current_term == 1


def test_rule_29_a_member_that_comes_back_while_it_leaves_is_kept() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster[1].propose_configuration(configuration([1, 2]))
    cluster.run()
    cluster[1].propose_configuration(configuration([1, 2, 3]))
    cluster.run()
    cluster.tick(60)
    assert [view.node_id for view in cluster[1].progress()] == [2, 3]
    assert cluster[3].commit_index == cluster[1].commit_index


def test_a_learner_counts_nowhere() -> None:
    node = Lone(initial=configuration([1, 2], learners=[3, 4]))
    node.core.campaign()
    node.poll()
    node.step(RequestVoteReply(3, 1, 1, True, True), RequestVoteReply(4, 1, 1, True, True))
    assert node.core.role is Role.PRE_CANDIDATE
    node.lead(voters=(2,))
    node.step(accept(node, 1, 3), accept(node, 1, 4))
    assert node.core.commit_index == 0
    assert {view.node_id for view in node.core.progress()} == {2, 3, 4}
