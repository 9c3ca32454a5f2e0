"""The door of the core: what it takes, what it gives, and that no peer can break it."""

from __future__ import annotations

import random

import pytest

from rsqlite.raft import AppendWork, CoreSettings, LogReader, Output, Raft, ReadState
from rsqlite.raft.dispatch import TERM_MAX
from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.types import Entry, EntryKind, InvariantViolation, Role, SoftState
from tests.raft.cluster import MemoryLog, configuration
from tests.raft.lone import Lone


def test_the_front_door_exports_what_a_driver_needs() -> None:
    log: LogReader = MemoryLog()
    assert log.first_index == 1
    assert {Raft, Output, AppendWork, ReadState, CoreSettings}


def test_a_group_of_one_serves_after_one_election() -> None:
    node = Lone(voters=(1,))
    node.lead(voters=())
    assert not node.core.is_ready
    node.apply_all()
    assert node.core.is_ready
    assert node.core.propose(b"a") == (1, 2)
    node.poll()
    node.sync()
    assert [entry.data for entry in node.handed] == [b"", b"a"]
    assert node.core.progress() == ()


def test_what_a_core_knew_to_be_committed_its_successor_hands_out_at_once() -> None:
    node = Lone(1, 1, 1)
    node.start(committed=2)
    node.poll()
    assert [entry.index for entry in node.handed] == [1, 2]
    node = Lone(1, 1, 1, applied=2)
    node.start(committed=9)  # of a log that was longer
    node.poll()
    assert [entry.index for entry in node.handed] == [3]


def test_nothing_to_do_is_none() -> None:
    node = Lone()
    assert node.core.poll() is None
    node.tick()
    assert node.core.poll() is None


def test_a_change_of_role_term_or_leader_is_told_once() -> None:
    node = Lone()
    node.step(Heartbeat(2, 1, 3, 0))
    node.step(Heartbeat(2, 1, 3, 0))
    node.step(Heartbeat(3, 1, 4, 0))
    assert node.soft_states == [SoftState(Role.FOLLOWER, 3, 2), SoftState(Role.FOLLOWER, 4, 3)]


def test_proposals_are_taken_by_a_leader_only() -> None:
    node = Lone()
    assert node.core.propose(b"a") is None
    node.step(Heartbeat(2, 1, 3, 0))
    assert node.core.propose(b"a") is None
    assert node.core.propose_configuration(configuration([1])) is None


def test_messages_for_others_or_from_ourselves_are_dropped() -> None:
    node = Lone()
    node.step(RequestVote(2, 9, 5, 0, 0), RequestVote(1, 1, 5, 0, 0))
    assert (node.core.current_term, node.left, node.waiting) == (0, [], [])


def test_rule_50_a_term_that_cannot_be_is_ignored() -> None:
    node = Lone()
    node.step(Heartbeat(2, 1, TERM_MAX + 1, 0), RequestVote(2, 1, 2**64 - 1, 9, 9))
    assert node.core.current_term == 0
    assert not node.log.pending


def test_applied_goes_forward_within_what_was_handed_over() -> None:
    node = Lone(voters=(1,))
    node.lead(voters=())
    with pytest.raises(InvariantViolation, match="handed over"):
        node.core.applied(2)
    node.core.applied(1)
    with pytest.raises(InvariantViolation, match="applied 0 after 1"):
        node.core.applied(0)


def test_a_work_that_was_never_handed_out_cannot_be_durable() -> None:
    node = Lone()
    with pytest.raises(InvariantViolation, match="work 1"):
        node.core.appended(1)


def test_a_node_says_what_it_is() -> None:
    node = Lone(1, 1, term=4)
    assert repr(node.core).startswith("<Raft 1 follower term=4 leader=None commit=0 applied=0")
    assert (node.core.node_id, node.core.last_index, node.core.durable_index) == (1, 2, 2)


def _noise(rng: random.Random) -> Message:
    """Any message, with numbers that a sound peer might send and numbers that none would."""

    def number() -> int:
        return rng.choice((-1, 0, 1, 2, 3, 4, 5, 2**40, 2**62, 2**64))

    source, term = rng.randint(1, 4), rng.choice((0, 1, 2, 3, 4, 2**63))
    entry_list = tuple(
        Entry(number(), number(), rng.choice(list(EntryKind)), rng.choice((b"", b"{}", b"x")))
        for _ in range(rng.randrange(3))
    )
    return rng.choice(
        (
            RequestVote(source, 1, term, number(), number(), rng.random() < 0.5),
            RequestVoteReply(source, 1, term, rng.random() < 0.5, rng.random() < 0.5),
            AppendEntries(source, 1, term, number(), number(), entry_list, number(), number()),
            AppendEntriesReply(
                source, 1, term, rng.random() < 0.5, number(), number(), number(), number()
            ),
            Heartbeat(source, 1, term, number(), number()),
            HeartbeatReply(source, 1, term, number()),
            TimeoutNow(source, 1, term),
            ReadIndex(source, 1, term, number()),
            ReadIndexReply(source, 1, term, number(), number()),
        )
    )


def test_no_message_of_a_peer_raises_but_proof_that_committed_entries_differ() -> None:
    violations = []
    for seed in range(40):
        rng = random.Random(seed)
        node = Lone(1, 1, 2, term=2)
        if seed % 2:
            node.lead()
        for _ in range(60):
            try:
                node.step(_noise(rng))
            except InvariantViolation as error:
                violations.append(str(error))
                break
            if rng.random() < 0.3:
                node.tick(rng.randrange(12))
            if rng.random() < 0.5:
                node.sync()
    assert all("committed entry" in one or "below commit" in one for one in violations)
    assert len(violations) < 20, "the runs end before they reach much"
