"""Majority and joint majority; pure functions over a handful of ids.

Everything is computed from scratch each time: `n` is tiny, and an incrementally kept sorted vector
has drifted elsewhere and committed without a quorum (raft.md rule 31).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

from rsqlite.raft.types import Configuration, Index, NodeId

T = TypeVar("T")

INDEX_MAX = Index(2**63 - 1)
"""More than any index; what a half without voters commits."""


class VoteResult(enum.Enum):
    """What the votes counted so far amount to."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority_index(voters: frozenset[NodeId], acknowledged: Mapping[NodeId, int]) -> int:
    """The highest number that a majority of `voters` has acknowledged (0 for who did not).

    No voters acknowledge everything: in a joint configuration the other half then decides alone
    (thesis 4.3, raft.md rule 31).
    """
    if not voters:
        return INDEX_MAX
    descending = sorted([acknowledged.get(voter, 0) for voter in voters], reverse=True)
    return descending[len(voters) // 2]


def quorum_index(configuration: Configuration, acknowledged: Mapping[NodeId, int]) -> int:
    """The highest number that a quorum has acknowledged: both halves' majorities if joint."""
    index = majority_index(configuration.voters, acknowledged)
    if configuration.outgoing:
        return min(index, majority_index(configuration.outgoing, acknowledged))
    return index


def majority_votes(voters: frozenset[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Whether `votes` (by voter, so a repeated reply counts once) decide among `voters`."""
    if not voters:
        return VoteResult.WON
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = len(voters) // 2 + 1
    if granted >= needed:
        return VoteResult.WON
    if granted + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def quorum_votes(configuration: Configuration, votes: Mapping[NodeId, bool]) -> VoteResult:
    """Whether `votes` decide: a joint configuration is won in both halves, lost in either."""
    incoming = majority_votes(configuration.voters, votes)
    if not configuration.outgoing:
        return incoming
    outgoing = majority_votes(configuration.outgoing, votes)
    if incoming is outgoing:
        return incoming
    if VoteResult.LOST in (incoming, outgoing):
        return VoteResult.LOST
    return VoteResult.PENDING


def quorum_choice(configuration: Configuration, choices: Mapping[NodeId, T]) -> T | None:
    """The one that a quorum has chosen, None if there is none (yet)."""
    for choice in dict.fromkeys(choices.values()):
        votes = {node_id: one == choice for node_id, one in choices.items()}
        if quorum_votes(configuration, votes) is VoteResult.WON:
            return choice
    return None
