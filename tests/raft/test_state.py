"""The fields of a node, and the few ways to change them."""

from __future__ import annotations

import dataclasses

import pytest

from rsqlite.raft.state import CoreSettings, RaftState
from rsqlite.raft.types import EntryKind, HardState, InvariantViolation
from tests.raft.cluster import configuration
from tests.raft.lone import Lone


def state(*terms: int, **options: object) -> RaftState:
    return Lone(*terms, **options).core._state  # type: ignore[arg-type]


def test_terms_never_go_down_and_a_vote_is_given_once() -> None:
    one = state(term=5)
    one.set_vote(5, 2)
    one.set_vote(5, 2)
    assert one.hard_state_version == 1
    with pytest.raises(InvariantViolation, match="second vote"):
        one.set_vote(5, 3)
    with pytest.raises(InvariantViolation, match="term 4 after 5"):
        one.set_vote(4, None)
    one.set_vote(6, 3)
    assert (one.current_term, one.voted_for) == (6, 3)


def test_the_commit_index_goes_up_only_and_stays_in_the_log() -> None:
    one = state(1, 1, 1)
    one.commit_to(2)
    one.commit_to(1)
    assert one.commit_index == 2
    with pytest.raises(InvariantViolation, match="commit 4 over 3"):
        one.commit_to(4)


def test_a_log_of_a_newer_term_than_the_hard_state_does_not_start() -> None:
    with pytest.raises(InvariantViolation, match="of term 3"):
        state(1, 3, term=2)


def test_a_lease_lasts_an_election_timeout_after_the_leader_was_heard() -> None:
    one = state()
    assert not one.is_in_lease
    one.leader_id = 2
    assert one.is_in_lease
    one.election_elapsed = one.settings.election_ticks
    assert not one.is_in_lease


def test_a_restart_keeps_term_vote_and_log_and_forgets_the_rest() -> None:
    node = Lone(1, 2, term=4, vote=3)
    one = node.core._state
    assert (one.current_term, one.voted_for, one.log.last_index) == (4, 3, 2)
    assert (one.commit_index, one.leader_id) == (0, None)
    assert one.is_hard_state_durable
    assert node.log.hard_state == HardState(4, 3)


def test_configurations_in_the_log_above_the_database_are_found_at_start() -> None:
    node = Lone(1, 1, 1)
    first, second = configuration([1, 2]), configuration([1, 2, 3, 4])
    for index, one in ((2, first), (3, second)):
        node.log.view[index - 1] = node.log.view[index - 1]._replace(
            kind=EntryKind.CONFIGURATION, data=one.to_bytes()
        )
    node.start()
    assert node.core.configuration == second
    node.core._state.truncate(3)
    assert node.core.configuration == first
    node.core._state.truncate(2)
    assert node.core.configuration == configuration([1, 2, 3])


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(InvariantViolation):
        dataclasses.replace(CoreSettings(), heartbeat_ticks=20)
    with pytest.raises(InvariantViolation):
        dataclasses.replace(CoreSettings(), inflight_messages_max=0)
