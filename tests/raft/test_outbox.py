"""What an output holds, and when."""

from __future__ import annotations

import dataclasses

from rsqlite.raft.messages import AppendEntriesReply, Heartbeat, HeartbeatReply
from tests.raft.cluster import SETTINGS
from tests.raft.lone import Lone


def lagging(**bounds: int) -> Lone:
    """A follower with ten entries of ten bytes that its leader says are committed."""
    node = Lone(term=1, settings=dataclasses.replace(SETTINGS, **bounds))
    message = node.append(*[1] * 10)
    filled = tuple(entry._replace(data=b"x" * 10) for entry in message.entries)
    node.step_and_sync(dataclasses.replace(message, entries=filled, commit_index=10))
    return node


def test_rule_39_committed_entries_are_bounded_until_they_are_applied() -> None:
    node = lagging(committed_bytes_max=35)
    assert [entry.index for entry in node.handed] == [1, 2, 3]
    node.core.applied(2)
    node.poll()
    assert len(node.handed) == 3
    node.core.applied(3)
    node.poll()
    assert [entry.index for entry in node.handed] == [1, 2, 3, 4, 5, 6]
    while node.core.applied_index < 10:
        node.apply_all()
    assert [entry.index for entry in node.handed] == list(range(1, 11))


def test_one_entry_over_the_bound_is_handed_over_alone() -> None:
    node = lagging(committed_bytes_max=1)
    assert [entry.index for entry in node.handed] == [1]
    node.apply_all()
    assert [entry.index for entry in node.handed] == [1, 2]


def test_only_what_is_durable_here_is_handed_over() -> None:
    node = Lone(term=1)
    node.step(node.append(1, 1, commit=2))
    assert node.core.commit_index == 2
    assert node.handed == []
    node.sync()
    assert [entry.index for entry in node.handed] == [1, 2]


def test_a_reply_with_nothing_to_wait_for_leaves_at_once() -> None:
    node = Lone(1, term=1)
    node.step(Heartbeat(2, 1, 1, 0))
    assert node.take(HeartbeatReply)
    assert not node.log.pending


def test_a_reply_waits_behind_works_under_way_without_new_work() -> None:
    node = Lone(term=1)
    node.step(node.append(1))
    node.step(node.append(term=1, prev=(1, 1)))
    first, second = node.log.pending
    assert len(first.entries) == 1
    assert (second.truncate_from, second.entries, second.hard_state) == (None, (), None)
    assert len(second.replies) == 1
    assert first.token < second.token
    node.sync()
    assert len(node.take(AppendEntriesReply)) == 2
