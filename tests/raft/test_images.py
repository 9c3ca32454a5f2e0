"""Images in the core: who is offered one, who takes it up, and who already has what it holds."""

from __future__ import annotations

from typing import Any

from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
)
from rsqlite.raft.progress import ProgressState
from rsqlite.raft.types import EntryId, Role
from tests.raft.lone import Lone


class Offered(Lone):
    """Keeps the offers that the core hands out."""

    def __init__(self, *terms: int, **options: Any) -> None:
        self.offers: list[InstallSnapshot] = []
        super().__init__(*terms, **options)

    def poll(self) -> None:
        while (output := self.core.poll()) is not None:
            self.left += output.send
            self.handed += output.committed
            if output.image is not None:
                self.offers.append(output.image)
            if output.append is not None:
                self.log.append(output.append)
                self.waiting += output.append.replies


def offer(last: tuple[int, int], term: int = 3) -> InstallSnapshot:
    index, last_term = last
    return InstallSnapshot(2, 1, term, index, last_term, b"where")


def behind(cut_to: int) -> Lone:
    """A leader of term 2 whose follower 2 needs entries before `cut_to`."""
    node = Lone(1, 1, 1, 1)
    node.lead()
    node.log.first_index = cut_to
    node.step(AppendEntriesReply(2, 1, 2, False, 4, 0, 0))
    node.take(AppendEntries)
    return node


def state_of(node: Lone, number: int) -> ProgressState:
    return {one.node_id: one.state for one in node.core.progress()}[number]


def test_only_a_follower_whose_entries_are_gone_is_offered_an_image() -> None:
    node = behind(4)
    assert state_of(node, 2) is ProgressState.SNAPSHOT
    for target in (2, 3, 9):
        node.core.offer_image(target, EntryId(1, 4), b"where")
    node.poll()
    assert node.take(InstallSnapshot) == [InstallSnapshot(1, 2, 2, 4, 1, b"where")]


def test_a_follower_that_has_the_image_gets_the_log_behind_it() -> None:
    node = behind(4)
    node.step(AppendEntriesReply(2, 1, 2, True, 4))
    assert state_of(node, 2) is not ProgressState.SNAPSHOT
    (append,) = node.take(AppendEntries)
    assert (append.prev_log_index, [entry.index for entry in append.entries]) == (4, [5])


def test_a_follower_that_is_still_too_far_behind_is_not_helped() -> None:
    # It installed an older image, of another leader, and the log was cut further meanwhile.
    node = behind(5)
    node.step(AppendEntriesReply(2, 1, 2, True, 2))
    assert state_of(node, 2) is ProgressState.SNAPSHOT
    assert node.take(AppendEntries) == []


def test_an_offer_is_handed_out_and_counts_as_a_word_of_the_leader() -> None:
    node = Offered(1, 1)
    node.step(offer((9, 3)))
    assert node.offers == [offer((9, 3))]
    assert (node.core.current_term, node.core.leader_id) == (3, 2)
    assert node.take(AppendEntriesReply) == []


def test_an_offer_of_what_is_committed_is_answered_with_how_far_the_log_is() -> None:
    """raft.md rule 34."""
    node = Offered(1, 1, 1)
    node.step_and_sync(node.append(prev=(3, 1), term=3, commit=3))
    node.take(AppendEntriesReply)
    node.step_and_sync(offer((2, 1)))
    assert node.offers == []
    assert node.take(AppendEntriesReply) == [AppendEntriesReply(1, 2, 3, True, 3)]


def test_an_offer_whose_last_entry_is_here_commits_the_log_up_to_it() -> None:
    """raft.md rule 32: the same entry, so the same log before it; what follows it stays."""
    node = Offered(1, 1, 1, 1)
    node.step_and_sync(offer((3, 1)))
    assert node.offers == []
    assert node.core.commit_index == 3
    assert node.core.last_index == 4
    assert node.take(AppendEntriesReply) == [AppendEntriesReply(1, 2, 3, True, 3)]


def test_an_entry_of_another_term_at_the_same_index_proves_nothing() -> None:
    node = Offered(1, 1, 2)
    node.step_and_sync(offer((3, 1)))
    assert len(node.offers) == 1
    assert node.core.commit_index == 0


def test_an_offer_of_an_old_term_is_refused() -> None:
    """raft.md rule 35."""
    node = Offered(1, 1, term=5)
    node.step_and_sync(offer((9, 3), term=3))
    assert node.offers == []
    assert node.take(HeartbeatReply) == [HeartbeatReply(1, 2, 5)]


def test_who_does_not_lead_offers_nothing() -> None:
    node = behind(4)
    node.step(Heartbeat(3, 1, 7, 0))
    assert node.core.role is Role.FOLLOWER
    node.core.offer_image(2, EntryId(1, 4), b"where")
    node.poll()
    assert node.take(InstallSnapshot) == []
