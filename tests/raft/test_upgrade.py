"""A declared upgrade, as the core sees it: who takes part, and who leads."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from rsqlite.raft.messages import AppendEntries, RequestVoteReply, TimeoutNow
from rsqlite.raft.state import RELUCTANCE_TIMEOUTS
from rsqlite.raft.types import Configuration, Entry, EntryKind, Role, Upgrade
from tests.raft.cluster import Cluster, configuration
from tests.raft.lone import Lone, request_vote

ELECTION = 10  # of SETTINGS


def declared(*voters: int, ahead: Collection[int] = ()) -> Configuration:
    upgrade = Upgrade("newer", frozenset(ahead))
    return configuration(voters, fingerprint="older", upgrade=upgrade)


def plain(*voters: int, fingerprint: str = "older") -> Configuration:
    return configuration(voters, fingerprint=fingerprint)


def append(
    one: Configuration, index: int = 1, *, term: int = 1, commit: int = 0, prev: int = 0
) -> AppendEntries:
    entry = Entry(term, index, EntryKind.CONFIGURATION, one.to_bytes())
    return AppendEntries(2, 1, term, index - 1, prev, (entry,), commit)


def refuses_votes(node: Lone) -> bool:
    """Both kinds, by whoever has a log as good as its own."""
    term = node.core.current_term + 1
    last = (node.core.last_index, node.core._state.log.last_term)
    node.tick(4 * ELECTION)  # no lease stands against the asker
    node.take(RequestVoteReply)
    node.step_and_sync(request_vote(term, last, source=3, pre_vote=True))
    node.step_and_sync(request_vote(term, last, source=3))
    granted = [reply.granted for reply in node.take(RequestVoteReply)]
    assert len(granted) == 2
    assert granted[0] == granted[1]
    return not granted[0]


def campaigns(node: Lone) -> bool:
    node.core.campaign()
    node.poll()
    return node.core.role is not Role.FOLLOWER


def test_who_computes_sql_otherwise_neither_votes_nor_campaigns() -> None:
    node = Lone(1, term=1, initial=plain(1, 2, 3), fingerprint="newer")
    assert not node.core.is_admitted
    assert refuses_votes(node)
    node.tick(9 * ELECTION)
    assert not campaigns(node)
    # Not even when the leader asks for it.
    node.step_and_sync(node.append(1, prev=(1, 1), term=7))
    node.step_and_sync(TimeoutNow(2, 1, 7))
    assert node.core.role is Role.FOLLOWER


def test_it_appends_and_acknowledges_all_the_same() -> None:
    node = Lone(initial=plain(1, 2, 3), fingerprint="newer")
    node.step_and_sync(node.append(1, 1, commit=2))
    assert (node.core.last_index, node.core.commit_index) == (2, 2)


@pytest.mark.parametrize("fingerprint", ["older", "newer"])
def test_either_side_of_a_declared_upgrade_takes_part(fingerprint: str) -> None:
    node = Lone(1, term=1, initial=declared(1, 2, 3), fingerprint=fingerprint)
    assert node.core.is_admitted
    assert not refuses_votes(node)
    assert campaigns(Lone(initial=declared(1, 2, 3), fingerprint=fingerprint))


def test_a_third_fingerprint_takes_no_part_in_an_upgrade() -> None:
    node = Lone(1, term=1, initial=declared(1, 2, 3), fingerprint="another")
    assert refuses_votes(node)


def test_a_declaration_lets_in_as_soon_as_it_is_in_the_log() -> None:
    """After a power loss of all nobody knows what is committed, and somebody has to be elected."""
    node = Lone(initial=plain(1, 2, 3), fingerprint="newer")
    node.step_and_sync(append(declared(1, 2, 3)))
    assert node.core.is_admitted
    # Taken back by another leader, it lets nobody in.
    node.step_and_sync(node.append(2))
    assert not node.core.is_admitted


def test_the_end_of_an_upgrade_shuts_out_when_it_is_committed_and_not_before() -> None:
    node = Lone(initial=declared(1, 2, 3), fingerprint="older")
    node.step_and_sync(append(plain(1, 2, 3, fingerprint="newer")))
    assert node.core.is_admitted
    node.step_and_sync(node.append(1, prev=(1, 1), commit=1))
    assert not node.core.is_admitted
    assert refuses_votes(node)


def test_a_node_that_is_alone_has_nobody_to_agree_with() -> None:
    node = Lone(initial=plain(1), fingerprint="newer")
    assert node.core.is_admitted
    node.lead()
    # It was alone once; that does not count when others are there.
    node = Lone(initial=plain(1), fingerprint="newer")
    node.step_and_sync(append(plain(1, 2)))
    assert not node.core.is_admitted


def test_an_upgraded_voter_waits_until_the_others_had_their_turn() -> None:
    for _ in range(20):
        node = Lone(initial=declared(1, 2, 3, ahead=[1]), fingerprint="newer")
        node.tick((1 + RELUCTANCE_TIMEOUTS) * ELECTION - 1)
        assert node.core.role is Role.FOLLOWER
        node.tick(ELECTION)
        assert node.core.role is Role.PRE_CANDIDATE, "it must lead if nobody else can"


def test_so_it_does_when_the_connection_of_the_leader_breaks() -> None:
    node = Lone(initial=declared(1, 2, 3, ahead=[1]), fingerprint="newer")
    node.step_and_sync(node.append(1))
    node.core.peer_closed(2)
    node.tick(RELUCTANCE_TIMEOUTS * ELECTION - 1)
    assert node.core.role is Role.FOLLOWER
    node.tick(ELECTION)
    assert node.core.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize(
    ("one", "fingerprint"),
    [
        (declared(1, 2, 3, ahead=[1]), "older"),  # it is the older one itself
        (declared(1, 2, 3, ahead=[2, 3]), "newer"),  # it is the last that is not known as upgraded
        (declared(1, 2, 3, ahead=[1, 2, 3]), "newer"),
        (plain(1, 2, 3), "older"),
    ],
)
def test_nobody_waits_for_voters_that_are_not_there(one: Configuration, fingerprint: str) -> None:
    node = Lone(initial=one, fingerprint=fingerprint)
    assert not node.core.is_reluctant
    node.tick(2 * ELECTION)
    assert node.core.role is Role.PRE_CANDIDATE


def test_leadership_goes_to_the_older_if_they_can_take_it() -> None:
    cluster = Cluster((1, 2, 3, 4), initial=declared(1, 2, 3, 4, ahead=[2]))
    leader = cluster.elect(1)
    leader.propose(b"x")
    cluster.run(cut=[3])
    # Node 2 has most and is upgraded, 3 is behind, 4 is as it should be.
    leader.transfer_leadership(None)
    assert leader._state.transfer_target == 4
    cluster.run()
    assert cluster[4].role is Role.LEADER


def test_leadership_goes_to_an_upgraded_one_if_no_other_has_all() -> None:
    cluster = Cluster((1, 2, 3), initial=declared(1, 2, 3, ahead=[2]))
    leader = cluster.elect(1)
    leader.propose(b"x")
    cluster.run(cut=[3])
    leader.transfer_leadership(None)
    assert leader._state.transfer_target == 2
