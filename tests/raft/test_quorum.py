"""Majorities against dumb twins, over every small case and many random ones."""

from __future__ import annotations

import itertools
import random

import pytest

from rsqlite.raft.quorum import (
    INDEX_MAX,
    VoteResult,
    majority_index,
    majority_votes,
    quorum_choice,
    quorum_index,
    quorum_votes,
)
from tests.raft.cluster import configuration


def dumb_majority_index(voters: frozenset[int], acknowledged: dict[int, int]) -> int:
    """The highest index such that more than half have it, found by trying them all."""
    if not voters:
        return INDEX_MAX
    best = 0
    for index in sorted({0, *acknowledged.values()}):
        have = sum(acknowledged.get(voter, 0) >= index for voter in voters)
        if 2 * have > len(voters):
            best = index
    return best


def dumb_majority_votes(voters: frozenset[int], votes: dict[int, bool]) -> VoteResult:
    """Won or lost if that holds whatever the missing voters say; found by trying all they can."""
    if not voters:
        return VoteResult.WON
    missing = [voter for voter in voters if voter not in votes]
    outcomes = set()
    for answers in itertools.product((True, False), repeat=len(missing)):
        whole = {**votes, **dict(zip(missing, answers, strict=True))}
        outcomes.add(2 * sum(whole[voter] for voter in voters) > len(voters))
    if len(outcomes) == 2:
        return VoteResult.PENDING
    return VoteResult.WON if outcomes == {True} else VoteResult.LOST


def test_majority_index_is_that_of_its_twin() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        voters = frozenset(range(1, rng.randint(0, 7) + 1))
        acknowledged = {node: rng.randint(0, 6) for node in range(1, 9) if rng.random() < 0.8}
        assert majority_index(voters, acknowledged) == dumb_majority_index(voters, acknowledged)


def test_majority_votes_are_those_of_their_twin() -> None:
    for size in range(6):
        voters = frozenset(range(1, size + 1))
        for answers in itertools.product((True, False, None), repeat=size):
            votes = {
                node: answer for node, answer in enumerate(answers, start=1) if answer is not None
            }
            assert majority_votes(voters, votes) is dumb_majority_votes(voters, votes)


def test_rule_31_a_joint_configuration_needs_both_halves() -> None:
    rng = random.Random(2)
    for _ in range(3000):
        incoming = frozenset(rng.sample(range(1, 7), rng.randint(1, 5)))
        outgoing = frozenset(rng.sample(range(1, 7), rng.randint(1, 5)))
        joint = configuration(incoming, outgoing=outgoing)
        acknowledged = {node: rng.randint(0, 6) for node in range(1, 7)}
        assert quorum_index(joint, acknowledged) == min(
            dumb_majority_index(incoming, acknowledged),
            dumb_majority_index(outgoing, acknowledged),
        )
        votes = {node: rng.random() < 0.6 for node in range(1, 7) if rng.random() < 0.7}
        halves = {dumb_majority_votes(half, votes) for half in (incoming, outgoing)}
        if VoteResult.LOST in halves:
            expected = VoteResult.LOST
        elif VoteResult.PENDING in halves:
            expected = VoteResult.PENDING
        else:
            expected = VoteResult.WON
        assert quorum_votes(joint, votes) is expected


def test_rule_31_an_empty_half_commits_everything_and_wins() -> None:
    assert majority_index(frozenset(), {1: 5}) == INDEX_MAX
    assert majority_votes(frozenset(), {}) is VoteResult.WON


@pytest.mark.parametrize("stranger", [7, 8])
def test_who_is_no_voter_counts_nowhere(stranger: int) -> None:
    three = configuration([1, 2, 3])
    assert quorum_index(three, {1: 4, stranger: 9}) == 0
    assert quorum_votes(three, {1: True, stranger: True}) is VoteResult.PENDING


def test_what_a_quorum_has_chosen_needs_a_majority_of_both_halves() -> None:
    three = configuration([1, 2, 3])
    assert quorum_choice(three, {1: "a", 2: "b"}) is None
    assert quorum_choice(three, {1: "a", 2: "b", 3: "b"}) == "b"
    assert quorum_choice(three, {1: "a", 2: "b", 7: "b"}) is None
    joint = configuration([1, 2, 3], outgoing=[3, 4, 5])
    assert quorum_choice(joint, {1: "a", 2: "a", 3: "b", 4: "b", 5: "b"}) is None
    assert quorum_choice(joint, {1: "a", 2: "b", 3: "b", 4: "b"}) == "b"
