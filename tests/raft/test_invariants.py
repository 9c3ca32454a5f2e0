"""Every numbered invariant can fail: a check that cannot is no check."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rsqlite.raft import invariants
from rsqlite.raft.messages import AppendEntriesReply
from rsqlite.raft.progress import ProgressState
from rsqlite.raft.state import RaftState
from rsqlite.raft.types import EntryKind, InvariantViolation, Role
from tests.raft.lone import Lone

Damage = Callable[[RaftState], object]


def leader() -> RaftState:
    node = Lone(1, term=1)
    node.lead()
    node.step(AppendEntriesReply(2, 1, 2, True, 2), AppendEntriesReply(3, 1, 2, True, 2))
    node.core.propose(b"abc")
    node.poll()
    return node.core._state


def configuration_without_entry(state: RaftState) -> None:
    tail = state.log._tail
    tail[0] = tail[0]._replace(kind=EntryKind.CONFIGURATION, data=b"{}")


STATES: list[tuple[str, Damage]] = [
    ("1:", lambda s: setattr(s, "applied_index", 3)),
    ("1:", lambda s: setattr(s, "commit_index_handed", 3)),
    ("2:", lambda s: setattr(s, "commit_index", 9)),
    ("3:", lambda s: setattr(s.log, "durable_index", 9)),
    ("4:", lambda s: setattr(s, "uncommitted_bytes", 1)),
    ("4:", lambda s: setattr(s, "unapplied_bytes", 9)),
    ("5:", lambda s: setattr(s, "hard_state_durable", 9)),
    ("6:", lambda s: setattr(s, "current_term", 1)),
    ("7:", lambda s: s.log._tail.append(s.log._tail[-1])),
    ("8:", configuration_without_entry),
    ("9:", lambda s: setattr(s, "leader_id", 2)),
    ("9:", lambda s: setattr(s, "voted_for", 2)),
    ("10:", lambda s: s.votes.update({2: True})),
    ("11:", lambda s: s.forwarded_reads.add(1)),
    ("12:", lambda s: setattr(s, "term_start_index", 1)),
    ("12:", lambda s: setattr(s, "term_start_index", 3)),
    ("13:", lambda s: s.progress.pop(2)),
    ("14:", lambda s: setattr(s.progress[2], "next_index", 2)),
    ("14:", lambda s: setattr(s.progress[2], "next_index", 9)),
    ("15", lambda s: setattr(s.progress[2], "inflight_bytes", 7)),
    ("15:", lambda s: setattr(s.progress[2], "state", ProgressState.PROBE)),
    ("15:", lambda s: setattr(s.progress[2], "inflight", type(s.uncommitted)([(1, 3)]))),
    ("16:", lambda s: setattr(s.progress[2], "acknowledged_round", 5)),
]


def test_a_sound_state_passes() -> None:
    invariants.check_state(leader())


@pytest.mark.parametrize(("number", "damage"), STATES)
def test_a_damaged_state_is_noticed(number: str, damage: Damage) -> None:
    state = leader()
    damage(state)
    with pytest.raises(InvariantViolation, match=number):
        invariants.check_state(state)


def test_followers_have_nothing_of_a_leader() -> None:
    state = Lone(1, term=1).core._state
    invariants.check_state(state)
    state.transfer_target = 2
    with pytest.raises(InvariantViolation, match="10:"):
        invariants.check_state(state)


STEPS: list[tuple[str, dict[str, object]]] = [
    ("17:", {"term": 1}),
    ("17:", {"voted_for": 2}),
    ("18:", {"commit_index": 1}),
    ("18:", {"handed_index": 1}),
    ("18:", {"applied_index": -1}),
    ("18:", {"committed_term": 7}),
    ("19:", {"last": (1, 9)}),
    ("20:", {"match_index": {2: 1}}),
    ("21:", {"round": -1}),
]


@pytest.mark.parametrize(("number", "change"), STEPS)
def test_a_step_back_is_noticed(number: str, change: dict[str, object]) -> None:
    before = invariants.look(leader())
    invariants.check_step(before, before)
    with pytest.raises(InvariantViolation, match=number):
        invariants.check_step(before, before._replace(**change))  # type: ignore[arg-type]


def test_leadership_without_an_entry_of_its_term_is_noticed() -> None:
    after = invariants.look(leader())
    with pytest.raises(InvariantViolation, match="22:"):
        invariants.check_step(
            after._replace(role=Role.CANDIDATE), after._replace(last=after.last._replace(term=1))
        )
