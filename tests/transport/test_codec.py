"""Messages survive the wire; everything else is a ValueError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsqlite.config import PEER_ENTRIES_MAX
from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.types import Entry, EntryKind, Index, NodeId, Room, Term
from rsqlite.transport import codec
from rsqlite.transport.codec import decode_message, encode_message

U64 = st.integers(0, (1 << 64) - 1)
U63 = st.integers(0, (1 << 63) - 1)
# Indices leave room for the entries that follow them.
INDEX = st.integers(0, (1 << 63) - 100)
HEAD: dict[str, Any] = {"source": U64, "target": U64, "term": U63}


@st.composite
def appends(draw: Any) -> AppendEntries:
    previous = draw(INDEX)
    parts = draw(
        st.lists(st.tuples(U63, st.sampled_from(EntryKind), st.binary(max_size=50)), max_size=5)
    )
    entries = tuple(
        Entry(Term(term), Index(previous + 1 + position), kind, data)
        for position, (term, kind, data) in enumerate(parts)
    )
    return AppendEntries(
        source=NodeId(draw(U64)),
        target=NodeId(draw(U64)),
        term=Term(draw(U63)),
        prev_log_index=Index(previous),
        prev_log_term=Term(draw(U63)),
        entries=entries,
        commit_index=Index(draw(U63)),
        round=draw(U64),
    )


MESSAGES = st.one_of(
    appends(),
    st.builds(
        AppendEntriesReply,
        **HEAD,
        success=st.booleans(),
        match_index=U63,
        hint_index=U63,
        hint_term=U63,
        round=U64,
    ),
    st.builds(
        RequestVote,
        **HEAD,
        last_log_index=U63,
        last_log_term=U63,
        pre_vote=st.booleans(),
        transfer=st.booleans(),
    ),
    st.builds(RequestVoteReply, **HEAD, granted=st.booleans(), pre_vote=st.booleans()),
    st.builds(Heartbeat, **HEAD, commit_index=U63, round=U64),
    st.builds(
        HeartbeatReply,
        **HEAD,
        round=U64,
        room=st.sampled_from(Room),
        applied_index=U63,
        may_lead=st.booleans(),
    ),
    st.builds(TimeoutNow, **HEAD),
    st.builds(ReadIndex, **HEAD, context=U64),
    st.builds(
        InstallSnapshot, **HEAD, last_index=U63, last_term=U63, image=st.binary(max_size=300)
    ),
    st.builds(ReadIndexReply, **HEAD, context=U64, index=st.none() | U63),
)

HEARTBEAT = Heartbeat(NodeId(1), NodeId(2), Term(3), Index(4), 5)


def append(*data: bytes) -> AppendEntries:
    """An append of these entries after index 100."""
    entries = tuple(
        Entry(Term(7), Index(101 + position), EntryKind.COMMAND, one)
        for position, one in enumerate(data)
    )
    return AppendEntries(NodeId(1), NodeId(2), Term(7), Index(100), Term(6), entries, Index(99), 8)


@given(MESSAGES)
@settings(max_examples=200, deadline=None)
def test_a_message_survives_the_wire(message: Message) -> None:
    frame = encode_message(message)
    assert decode_message(frame[0], frame[1:]) == message
    decoded = decode_message(frame[0], memoryview(frame)[1:])
    assert decoded == message
    if isinstance(decoded, AppendEntries):
        assert all(type(entry.data) is bytes for entry in decoded.entries)
        assert all(isinstance(entry.kind, EntryKind) for entry in decoded.entries)


@pytest.mark.slow
@given(st.integers(0, 255), st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_arbitrary_bytes_are_a_message_or_a_value_error(kind: int, payload: bytes) -> None:
    try:
        message = decode_message(kind, payload)
    except ValueError:
        return
    assert encode_message(message) == bytes((kind,)) + payload


@pytest.mark.slow
@given(MESSAGES, st.data())
@settings(max_examples=500, deadline=None)
def test_a_changed_message_is_another_message_or_a_value_error(message: Message, data: Any) -> None:
    """There is one way to write a message: whatever is decoded is written back bit by bit."""
    frame = bytearray(encode_message(message))
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip":
            frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del frame[data.draw(st.integers(1, len(frame) - 1)) :]
        case "grow":
            frame += data.draw(st.binary(min_size=1, max_size=30))
    try:
        changed = decode_message(frame[0], bytes(frame[1:]))
    except ValueError:
        return
    assert encode_message(changed) == frame
    assert changed != message


def test_the_bytes_of_a_message_never_change() -> None:
    """Nodes of two releases run side by side during an upgrade."""
    assert encode_message(HEARTBEAT).hex() == (
        "05" + "0000000000000001" + "0000000000000002" + "0000000000000003"
        "0000000000000004" + "0000000000000005"
    )
    head = (
        "03" + "0000000000000001" + "0000000000000002" + "0000000000000007"
        "0000000000000064" + "0000000000000006" + "0000000000000063" + "0000000000000008"
    )
    entry = "0000000000000007" + "01"
    assert encode_message(append()).hex() == head + "00000000"
    assert encode_message(append(b"ab")).hex() == head + "00000001" + entry + "00000002" + "6162"
    assert encode_message(append(b"a", b"bcd")).hex() == (
        head + "00000002" + entry + "00000001" + entry + "00000003" + "61626364"
    )
    reply = AppendEntriesReply(NodeId(1), NodeId(2), Term(3), True, Index(4), Index(5), Term(6), 7)
    assert encode_message(reply).hex() == (
        "04" + "".join(f"{number:016x}" for number in (1, 2, 3, 4, 5, 6, 7)) + "01"
    )
    vote = RequestVote(NodeId(1), NodeId(2), Term(3), Index(4), Term(5), True, True)
    assert encode_message(vote).hex() == (
        "01" + "".join(f"{number:016x}" for number in (1, 2, 3, 4, 5)) + "03"
    )


def test_more_entries_than_a_peer_takes_are_not_sent() -> None:
    entry = Entry(Term(7), Index(101), EntryKind.NOOP, b"")
    message = AppendEntries(
        NodeId(1),
        NodeId(2),
        Term(7),
        Index(100),
        Term(6),
        (entry,) * (PEER_ENTRIES_MAX + 1),
        Index(99),
    )
    with pytest.raises(ValueError, match="65537 entries"):
        encode_message(message)


def test_a_count_of_entries_is_checked_before_any_is_built() -> None:
    """Reliability F33: four bytes must not make a node allocate gigabytes."""
    frame = bytearray(encode_message(append()))
    frame[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="4294967295 entries"):
        decode_message(frame[0], bytes(frame[1:]))
    frame[-4:] = b"\x00\x00\xff\xff"
    with pytest.raises(ValueError, match="do not fit"):
        decode_message(frame[0], bytes(frame[1:]))


@pytest.mark.parametrize("count", [1, 2])
def test_terms_and_indices_have_63_bits(count: int) -> None:
    good = encode_message(append(*[b"x"] * count))
    for offset in (17, 25, 33, 41, 61):  # term, prev_log_index, prev_log_term, commit, entry term
        bad = bytearray(good)
        bad[offset] |= 0x80
        with pytest.raises(ValueError, match="over 2\\^63"):
            decode_message(bad[0], bytes(bad[1:]))
    last = bytearray(good)
    last[25:33] = ((1 << 63) - 1).to_bytes(8, "big")
    with pytest.raises(ValueError, match="over 2\\^63"):
        decode_message(last[0], bytes(last[1:]))


def test_an_unknown_entry_kind_is_refused() -> None:
    for message in (append(b"x"), append(b"x", b"y")):
        frame = bytearray(encode_message(message))
        frame[69] = 9
        with pytest.raises(ValueError, match="entry kind 9"):
            decode_message(frame[0], bytes(frame[1:]))


def test_entries_and_forwarded_requests_wait_and_all_else_is_urgent() -> None:
    assert not codec.is_urgent(encode_message(append(b"x")))
    # An empty append names the entry before it: ahead of that entry it would be refused.
    assert not codec.is_urgent(encode_message(append()))
    assert not codec.is_urgent(codec.encode_call(codec.CALL, 1, b""))
    assert not codec.is_urgent(codec.encode_call(codec.ANSWER, 1, b""))
    assert codec.is_urgent(encode_message(HEARTBEAT))
    assert codec.is_urgent(
        encode_message(AppendEntriesReply(NodeId(1), NodeId(2), Term(3), True, Index(4)))
    )


@given(U64, st.binary(max_size=100))
@settings(deadline=None)
def test_a_call_keeps_its_number_and_its_bytes(call_id: int, payload: bytes) -> None:
    frame = codec.encode_call(codec.CALL, call_id, payload)
    assert frame[0] == codec.CALL
    assert codec.decode_call(frame[1:]) == (call_id, payload)
    number, view = codec.decode_call(memoryview(frame)[1:])
    assert (number, bytes(view)) == (call_id, payload)


def test_a_call_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        codec.decode_call(b"1234567")


def test_calls_are_no_messages() -> None:
    for kind in (0, codec.CALL, codec.ANSWER, 255):
        with pytest.raises(ValueError, match=f"kind {kind}"):
            decode_message(kind, b"x" * 100)
