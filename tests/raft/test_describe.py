"""The text of traces and golden files."""

from __future__ import annotations

import typing

import pytest

from rsqlite.raft import describe, messages
from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.output import AppendWork, Output, ReadState
from rsqlite.raft.types import Entry, EntryKind, HardState, Role, SoftState
from tests.raft.cluster import configuration
from tests.raft.lone import Lone

NOOP = Entry(3, 8, EntryKind.NOOP, b"")
COMMAND = Entry(2, 7, EntryKind.COMMAND, b"set x")

TEXTS = [
    (RequestVote(1, 2, 3, 4, 2), "1>2 RequestVote term=3 last=4@2"),
    (RequestVote(1, 2, 3, 4, 2, True), "1>2 RequestVote term=3 last=4@2 pre"),
    (RequestVote(1, 2, 3, 4, 2, False, True), "1>2 RequestVote term=3 last=4@2 transfer"),
    (RequestVoteReply(1, 2, 3, True), "1>2 RequestVoteReply term=3 granted"),
    (RequestVoteReply(1, 2, 3, False, True), "1>2 RequestVoteReply term=3 refused pre"),
    (
        AppendEntries(1, 2, 3, 6, 2, (COMMAND, NOOP), 5, 9),
        "1>2 AppendEntries term=3 prev=6@2 [7@2 'set x', 8@3 noop] commit=5 round=9",
    ),
    (AppendEntriesReply(1, 2, 3, True, 8), "1>2 AppendEntriesReply term=3 match=8"),
    (
        AppendEntriesReply(1, 2, 3, False, 8, 4, 1),
        "1>2 AppendEntriesReply term=3 refused=8 hint=4@1",
    ),
    (Heartbeat(1, 2, 3, 5), "1>2 Heartbeat term=3 commit=5"),
    (HeartbeatReply(1, 2, 3, 7), "1>2 HeartbeatReply term=3 round=7"),
    (TimeoutNow(1, 2, 3), "1>2 TimeoutNow term=3"),
    (ReadIndex(1, 2, 3, 6), "1>2 ReadIndex term=3 context=6"),
    (ReadIndexReply(1, 2, 3, 6, 8), "1>2 ReadIndexReply term=3 context=6 index=8"),
    (InstallSnapshot(1, 2, 3, 9, 2, b"where"), "1>2 InstallSnapshot term=3 last=9@2"),
    (ReadIndexReply(1, 2, 3, 6, None), "1>2 ReadIndexReply term=3 context=6 index=none"),
]


@pytest.mark.parametrize(("message", "text"), TEXTS)
def test_a_message_is_one_line(message: messages.Message, text: str) -> None:
    assert describe.message_text(message) == text


def test_every_message_has_its_text() -> None:
    assert {type(message) for message, _ in TEXTS} == set(typing.get_args(messages.Message))


def test_a_long_command_is_cut() -> None:
    text = describe.entry_text(Entry(1, 1, EntryKind.COMMAND, b"x" * 1000))
    assert len(text) < 60


def test_a_configuration_names_its_halves() -> None:
    joint = configuration([1, 2], outgoing=[2, 3], learners=[4])
    entry = Entry(1, 5, EntryKind.CONFIGURATION, joint.to_bytes())
    assert describe.entry_text(entry) == "5@1 voters 1,2 outgoing 2,3 learners 4"
    assert describe.configuration_text(configuration([])) == "voters -"


def test_an_output_is_a_line_for_each_thing_to_do() -> None:
    output = Output(
        SoftState(Role.LEADER, 3, 1),
        AppendWork(4, 7, (NOOP,), HardState(3, None), (HeartbeatReply(1, 2, 3),)),
        (Heartbeat(1, 2, 3, 5),),
        (COMMAND,),
        (ReadState(1, 7), ReadState(2, None)),
    )
    assert describe.output_lines(output) == [
        "becomes leader in term 3, follows 1",
        "work 4: truncate from 7, append [8@3 noop], term=3 vote=-",
        "  then 1>2 HeartbeatReply term=3",
        "sends 1>2 Heartbeat term=3 commit=5",
        "commits 7@2 'set x'",
        "read 1 at 7",
        "read 2 cannot be confirmed",
    ]
    assert describe.output_lines(Output()) == []
    assert describe.work_text(AppendWork(1, None, (), None, ())) == "work 1: nothing"


def test_a_node_is_a_line_and_one_for_each_follower() -> None:
    node = Lone(1, term=1)
    assert describe.raft_lines(node.core) == [
        "1 follower term=1 vote=- follows=nobody last=1 durable=1 commit=0 applied=0 (voters 1,2,3)"
    ]
    node.lead()
    assert describe.raft_lines(node.core)[1:] == [
        "  2 probe match=0 next=2 inflight=0",
        "  3 probe match=0 next=2 inflight=0",
    ]
