"""ReadIndex: the rules of raft.md section 2 on reads, one by one."""

from __future__ import annotations

import dataclasses

from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    ReadIndex,
    ReadIndexReply,
)
from rsqlite.raft.output import ReadState
from rsqlite.raft.types import Role
from tests.raft.cluster import SETTINGS, Cluster, configuration
from tests.raft.lone import Lone


def ready(**options: object) -> Lone:
    """A leader whose no-op is committed."""
    node = Lone(**options)  # type: ignore[arg-type]
    node.lead()
    node.step(AppendEntriesReply(2, 1, 1, True, 1), AppendEntriesReply(3, 1, 1, True, 1))
    node.left.clear()
    return node


def following() -> Lone:
    node = Lone(term=1)
    node.step_and_sync(Heartbeat(2, 1, 1, 0))
    node.left.clear()
    return node


def test_rule_40_a_read_before_the_first_commit_of_the_term_waits() -> None:
    node = Lone()
    node.lead()
    node.left.clear()
    node.core.read_index(7)
    node.poll()
    assert (node.read_states, node.left) == ([], [])
    node.step(AppendEntriesReply(2, 1, 1, True, 1))
    # Committed; now a round is due that begins after the read.
    (round_,) = {m.round for m in node.take(Heartbeat)}
    assert node.read_states == []
    node.step(HeartbeatReply(2, 1, 1, round_))
    assert node.read_states == [ReadState(7, 1)]


def test_rule_41_answers_to_rounds_before_the_read_do_not_count() -> None:
    node = ready()
    node.core.read_index(1)
    node.poll()
    (first,) = {m.round for m in node.take(Heartbeat)}
    node.core.read_index(2)
    node.poll()
    assert node.left == [], "one round is out at a time"
    node.step(HeartbeatReply(2, 1, 1, first))
    assert node.read_states == [ReadState(1, 1)]
    (second,) = {m.round for m in node.take(Heartbeat)}
    assert second > first
    node.step(HeartbeatReply(3, 1, 1, first))
    assert len(node.read_states) == 1
    node.step(HeartbeatReply(3, 1, 1, second))
    assert node.read_states[1:] == [ReadState(2, 1)]


def test_rule_41_a_round_from_the_future_is_not_believed() -> None:
    node = ready()
    node.step(HeartbeatReply(2, 1, 1, 99), HeartbeatReply(3, 1, 1, 99))
    node.core.read_index(1)
    node.poll()
    assert node.read_states == []


def test_rule_41_a_follower_does_not_take_an_answer_to_its_previous_life() -> None:
    first, second = following(), following()
    second.core._state.forwarded_reads._question += 1000  # what another random start gives
    for node in (first, second):
        node.core.read_index(1)
        node.poll()
    (old,) = first.take(ReadIndex)
    (new,) = second.take(ReadIndex)
    assert old.context != new.context
    second.step(ReadIndexReply(2, 1, 1, old.context, 5))
    assert second.read_states == []


def test_rule_41_questions_start_at_a_random_number() -> None:
    node = following()
    starts = set()
    for _ in range(3):
        node.crash()
        node.start()
        starts.add(node.core._state.forwarded_reads._question)
    assert len(starts) == 3


def test_rule_43_the_quorum_is_that_of_the_configuration_joint_included() -> None:
    node = ready()
    node.core.propose_configuration(configuration([1, 4, 5]))
    node.poll()
    node.core.read_index(1)
    node.poll()
    round_ = max(m.round for m in node.take(Heartbeat))
    node.step(HeartbeatReply(2, 1, 1, round_), HeartbeatReply(3, 1, 1, round_))
    assert node.read_states == [], "the new half did not answer"
    node.step(HeartbeatReply(4, 1, 1, round_))
    assert node.read_states == [ReadState(1, 1)]


def test_rule_43_alone_is_alone_only_if_the_configuration_says_so_now() -> None:
    node = Lone(initial=configuration([1], learners=[2]))
    node.lead(voters=())
    node.core.read_index(1)
    node.poll()
    assert node.read_states == [ReadState(1, 1)]
    node.core.propose_configuration(configuration([1, 2]))
    node.poll()
    node.core.read_index(2)
    node.poll()
    assert len(node.read_states) == 1


def test_an_acknowledged_append_that_left_after_the_read_confirms_it() -> None:
    node = ready()
    node.core.read_index(1)
    node.poll()
    node.left.clear()
    node.core.read_index(2)
    node.core.propose(b"x")
    node.poll()
    (round_,) = {m.round for m in node.take(AppendEntries)}
    node.step(AppendEntriesReply(2, 1, 1, True, 2, round=round_))
    assert [read.context for read in node.read_states] == [1, 2]


def test_a_refused_append_of_this_term_confirms_too() -> None:
    node = ready()
    node.core.read_index(1)
    node.poll()
    round_ = max(m.round for m in node.take(Heartbeat))
    node.step(AppendEntriesReply(2, 1, 1, False, 1, 0, 0, round_))
    assert node.read_states == [ReadState(1, 1)]


def test_a_lost_round_is_repeated_by_the_next_heartbeat() -> None:
    node = ready()
    node.core.read_index(1)
    node.poll()
    node.left.clear()
    node.tick(SETTINGS.heartbeat_ticks)
    (round_,) = {m.round for m in node.take(Heartbeat)}
    node.step(HeartbeatReply(2, 1, 1, round_))
    assert node.read_states == [ReadState(1, 1)]


def test_rule_42_lost_leadership_fails_what_waits_here_and_elsewhere() -> None:
    node = ready()
    node.core.read_index(1)
    node.step(ReadIndex(3, 1, 1, 77))
    node.left.clear()
    node.step_and_sync(Heartbeat(2, 1, 5, 0))
    assert node.read_states == [ReadState(1, None)]
    assert node.take(ReadIndexReply) == [ReadIndexReply(1, 3, 5, 77, None)]


def test_a_follower_asks_its_leader_for_all_that_wait() -> None:
    node = following()
    node.core.read_index(1)
    node.core.read_index(2)
    node.poll()
    (question,) = node.take(ReadIndex)
    assert question.target == 2
    # Only its leader's answer counts.
    node.step(ReadIndexReply(3, 1, 1, question.context, 4))
    assert node.read_states == []
    node.step(ReadIndexReply(2, 1, 1, question.context, 4))
    assert node.read_states == [ReadState(1, 4), ReadState(2, 4)]


def test_a_leader_that_cannot_confirm_says_so() -> None:
    node = following()
    node.core.read_index(1)
    node.poll()
    (question,) = node.take(ReadIndex)
    node.step(ReadIndexReply(2, 1, 1, question.context, None))
    assert node.read_states == [ReadState(1, None)]
    # Nor can a follower that is asked.
    node.step(ReadIndex(3, 1, 1, 5))
    assert node.take(ReadIndexReply) == [ReadIndexReply(1, 3, 1, 5, None)]
    node.step(ReadIndex(3, 1, 0, 6))
    assert node.take(ReadIndexReply) == [ReadIndexReply(1, 3, 1, 6, None)]


def test_without_a_leader_a_read_fails_at_once() -> None:
    node = Lone()
    node.core.read_index(1)
    node.poll()
    assert node.read_states == [ReadState(1, None)]


def test_a_lost_question_is_asked_again_and_given_up() -> None:
    node = following()
    node.core.read_index(1)
    node.poll()
    node.tick(SETTINGS.heartbeat_ticks)
    assert len({m.context for m in node.take(ReadIndex)}) == 1
    for _ in range(3):
        node.step(Heartbeat(2, 1, 1, 0))
        node.tick(SETTINGS.heartbeat_ticks)
    assert node.read_states == [ReadState(1, None)]
    assert node.core.role is Role.FOLLOWER


def test_another_leader_fails_what_was_asked_of_the_old_one() -> None:
    node = following()
    node.core.read_index(1)
    node.poll()
    node.step(Heartbeat(3, 1, 2, 0))
    assert node.read_states == [ReadState(1, None)]


def test_reads_on_all_nodes_see_every_write_acknowledged_before() -> None:
    cluster = Cluster([1, 2, 3], settings=dataclasses.replace(SETTINGS, election_ticks=20))
    leader = cluster.elect(1)
    for number in range(10):
        leader.propose(b"%d" % number)
        cluster.run()
        for server in cluster.running:
            server.core.read_index(number)
        cluster.run()
        assert {s.reads[number] for s in cluster.running} == {leader.commit_index}
