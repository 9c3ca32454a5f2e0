"""Messages as frames, and back: hand-packed heads, entries as raw bytes.

A frame is one byte of kind and a payload; the layouts are listed in `rsqlite/transport/__init__`.
`decode_message` raises ValueError for whatever `encode_message` cannot have written; what it
returns is well formed, not true: who sent it, and whether its term is sane, is checked above.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Final

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

Buffer = bytes | memoryview

# Kinds are on the wire: never reuse one. 0 is the links' own sign of life (`connection.py`).
REQUEST_VOTE: Final = 1
REQUEST_VOTE_REPLY: Final = 2
APPEND_ENTRIES: Final = 3
APPEND_ENTRIES_REPLY: Final = 4
HEARTBEAT: Final = 5
HEARTBEAT_REPLY: Final = 6
TIMEOUT_NOW: Final = 7
READ_INDEX: Final = 8
READ_INDEX_REPLY: Final = 9
INSTALL_SNAPSHOT: Final = 16
CALL: Final = 32
ANSWER: Final = 33

# AppendEntries with entries are large. An empty one waits with them all the same: it names the
# entry before it, and overtaking that entry it would be refused.
_BULK = frozenset((APPEND_ENTRIES, CALL, ANSWER))

_FLAG_1 = 1
_FLAG_2 = 2
_ROOM = 3
_CANNOT_LEAD = 4
"""Two parts of one byte."""

# kind, source, target, term, …
_VOTE = Struct(">BQQQQQB")
_VOTE_REPLY = Struct(">BQQQB")
_APPEND = Struct(">BQQQQQQQI")
_APPEND_REPLY = Struct(">BQQQQQQQB")
_HEARTBEAT = Struct(">BQQQQQ")
_HEARTBEAT_REPLY = Struct(">BQQQQBQ")
_TIMEOUT = Struct(">BQQQ")
_READ = Struct(">BQQQQ")
_READ_REPLY = Struct(">BQQQQQB")
_INSTALL = Struct(">BQQQQQ")
_CALL = Struct(">BQ")

# The head of an entry: term, kind, length of its data. Its index is prev_log_index + its position:
# a message cannot even say that entries are not contiguous.
_ENTRY = Struct(">QBI")
_APPEND_ONE = Struct(_APPEND.format + _ENTRY.format[1:])

_KINDS = {int(kind): kind for kind in EntryKind}


def frame(kind: int, payload: Buffer) -> bytes:
    """What `Network.send` takes."""
    return bytes((kind,)) + payload


def is_urgent(frame: bytes) -> bool:
    """Whether this frame may overtake what waits: everything but entries and forwarded requests."""
    return frame[0] not in _BULK


def encode_call(kind: int, call_id: int, payload: Buffer) -> bytes:
    """A CALL or an ANSWER of node/forwarding: its number, and bytes that are opaque here."""
    return _CALL.pack(kind, call_id) + payload


def decode_call(payload: Buffer) -> tuple[int, Buffer]:
    """The number and the bytes of a CALL or ANSWER (without its kind)."""
    if len(payload) < 8:
        raise ValueError(f"a call of {len(payload)} bytes has no number")
    return int.from_bytes(payload[:8], "big"), payload[8:]


def encode_message(message: Message) -> bytes:
    """The frame that carries `message`. ValueError for more entries than a peer would take."""
    return _ENCODERS[type(message)](message)


def decode_message(kind: int, payload: Buffer) -> Message:
    """The message in a frame of this kind; ValueError if that is none, in words for a log."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ValueError(f"frames of kind {kind} are no messages")
    try:
        return decoder(payload)
    except StructError as error:
        raise ValueError(f"a message of kind {kind}: {error}") from None


def _encode_append(m: AppendEntries) -> bytes:
    entries = m.entries
    count = len(entries)
    if count == 1:
        term, _, kind, data = entries[0]
        return (
            _APPEND_ONE.pack(
                APPEND_ENTRIES,
                m.source,
                m.target,
                m.term,
                m.prev_log_index,
                m.prev_log_term,
                m.commit_index,
                m.round,
                1,
                term,
                kind,
                len(data),
            )
            + data
        )
    if count > PEER_ENTRIES_MAX:
        raise ValueError(f"{count} entries in a message, at most {PEER_ENTRIES_MAX}")
    head = _APPEND.pack(
        APPEND_ENTRIES,
        m.source,
        m.target,
        m.term,
        m.prev_log_index,
        m.prev_log_term,
        m.commit_index,
        m.round,
        count,
    )
    pack = _ENTRY.pack
    heads = [pack(term, kind, len(data)) for term, _, kind, data in entries]
    return b"".join((head, *heads, *[entry.data for entry in entries]))


_APPEND_HEAD = Struct(">QQQQQQQI")  # as _APPEND, the kind taken off


def _decode_append(payload: Buffer) -> AppendEntries:
    source, target, term, prev_index, prev_term, commit, round_, count = _APPEND_HEAD.unpack_from(
        payload
    )
    # One test for four numbers: SQLite, where they end up, has 63 bits for each.
    if (term | prev_index | prev_term | commit) >> 63:
        raise ValueError("a term or index over 2^63 - 1")
    start = _APPEND_HEAD.size
    entries: tuple[Entry, ...] = ()
    if count == 0:
        if len(payload) != start:
            raise ValueError("bytes after the last entry")
    elif count == 1:
        entry_term, kind, length = _ENTRY.unpack_from(payload, start)
        start += _ENTRY.size
        if len(payload) - start != length:
            raise ValueError(f"an entry of {length} bytes in {len(payload) - start}")
        if entry_term >> 63 or prev_index + 1 >> 63:
            raise ValueError("a term or index over 2^63 - 1")
        data = bytes(payload[start:])
        entries = (Entry(entry_term, Index(prev_index + 1), _entry_kind(kind), data),)
    else:
        entries = _decode_entries(payload, start, count, prev_index)
    return AppendEntries(source, target, term, prev_index, prev_term, entries, commit, round_)


def _decode_entries(payload: Buffer, start: int, count: int, prev_index: int) -> tuple[Entry, ...]:
    """`count` heads in a row, then the data of all. Nothing is built before the sizes agree."""
    if count > PEER_ENTRIES_MAX:
        raise ValueError(f"{count} entries in a message, at most {PEER_ENTRIES_MAX}")
    position = start + count * _ENTRY.size
    if position > len(payload):
        raise ValueError(f"{count} entries do not fit in {len(payload)} bytes")
    if prev_index + count >> 63:
        raise ValueError("a term or index over 2^63 - 1")
    heads = list(_ENTRY.iter_unpack(payload[start:position]))
    total = sum([head[2] for head in heads])
    if len(payload) - position != total:
        raise ValueError(f"entries of {total} bytes in {len(payload) - position}")
    entries = []
    index = prev_index
    for term, kind, length in heads:
        if term >> 63:
            raise ValueError("a term or index over 2^63 - 1")
        index += 1
        end = position + length
        entries.append(Entry(term, Index(index), _entry_kind(kind), bytes(payload[position:end])))
        position = end
    return tuple(entries)


def _entry_kind(number: int) -> EntryKind:
    kind = _KINDS.get(number)
    if kind is None:
        raise ValueError(f"entry kind {number} is unknown")
    return kind


def _encode_append_reply(m: AppendEntriesReply) -> bytes:
    return _APPEND_REPLY.pack(
        APPEND_ENTRIES_REPLY,
        m.source,
        m.target,
        m.term,
        m.match_index,
        m.hint_index,
        m.hint_term,
        m.round,
        m.success,
    )


_APPEND_REPLY_BODY = Struct(">QQQQQQQB")


def _decode_append_reply(payload: Buffer) -> AppendEntriesReply:
    source, target, term, match, hint_index, hint_term, round_, flags = _APPEND_REPLY_BODY.unpack(
        payload
    )
    _check(term | match | hint_index | hint_term, flags, _FLAG_1)
    return AppendEntriesReply(
        source, target, term, flags == 1, match, hint_index, hint_term, round_
    )


def _encode_vote(m: RequestVote) -> bytes:
    flags = m.pre_vote * _FLAG_1 | m.transfer * _FLAG_2
    return _VOTE.pack(
        REQUEST_VOTE, m.source, m.target, m.term, m.last_log_index, m.last_log_term, flags
    )


_VOTE_BODY = Struct(">QQQQQB")


def _decode_vote(payload: Buffer) -> RequestVote:
    source, target, term, last_index, last_term, flags = _VOTE_BODY.unpack(payload)
    _check(term | last_index | last_term, flags, _FLAG_1 | _FLAG_2)
    return RequestVote(
        source, target, term, last_index, last_term, bool(flags & _FLAG_1), bool(flags & _FLAG_2)
    )


def _encode_vote_reply(m: RequestVoteReply) -> bytes:
    flags = m.granted * _FLAG_1 | m.pre_vote * _FLAG_2
    return _VOTE_REPLY.pack(REQUEST_VOTE_REPLY, m.source, m.target, m.term, flags)


_VOTE_REPLY_BODY = Struct(">QQQB")


def _decode_vote_reply(payload: Buffer) -> RequestVoteReply:
    source, target, term, flags = _VOTE_REPLY_BODY.unpack(payload)
    _check(term, flags, _FLAG_1 | _FLAG_2)
    return RequestVoteReply(source, target, term, bool(flags & _FLAG_1), bool(flags & _FLAG_2))


def _encode_heartbeat(m: Heartbeat) -> bytes:
    return _HEARTBEAT.pack(HEARTBEAT, m.source, m.target, m.term, m.commit_index, m.round)


_HEARTBEAT_BODY = Struct(">QQQQQ")


def _decode_heartbeat(payload: Buffer) -> Heartbeat:
    source, target, term, commit, round_ = _HEARTBEAT_BODY.unpack(payload)
    _check(term | commit)
    return Heartbeat(source, target, term, commit, round_)


def _encode_heartbeat_reply(m: HeartbeatReply) -> bytes:
    flags = m.room | (not m.may_lead) * _CANNOT_LEAD
    return _HEARTBEAT_REPLY.pack(
        HEARTBEAT_REPLY, m.source, m.target, m.term, m.round, flags, m.applied_index
    )


_HEARTBEAT_REPLY_BODY = Struct(">QQQQBQ")


def _decode_heartbeat_reply(payload: Buffer) -> HeartbeatReply:
    source, target, term, round_, flags, applied = _HEARTBEAT_REPLY_BODY.unpack(payload)
    _check(term, flags, _ROOM | _CANNOT_LEAD)
    room, may_lead = Room(flags & _ROOM), not flags & _CANNOT_LEAD
    return HeartbeatReply(source, target, term, round_, room, Index(applied), may_lead)


def _encode_timeout_now(m: TimeoutNow) -> bytes:
    return _TIMEOUT.pack(TIMEOUT_NOW, m.source, m.target, m.term)


_TIMEOUT_BODY = Struct(">QQQ")


def _decode_timeout_now(payload: Buffer) -> TimeoutNow:
    source, target, term = _TIMEOUT_BODY.unpack(payload)
    _check(term)
    return TimeoutNow(NodeId(source), NodeId(target), Term(term))


def _encode_read_index(m: ReadIndex) -> bytes:
    return _READ.pack(READ_INDEX, m.source, m.target, m.term, m.context)


_READ_BODY = Struct(">QQQQ")


def _decode_read_index(payload: Buffer) -> ReadIndex:
    source, target, term, context = _READ_BODY.unpack(payload)
    _check(term)
    return ReadIndex(source, target, term, context)


def _encode_read_index_reply(m: ReadIndexReply) -> bytes:
    known = m.index is not None
    return _READ_REPLY.pack(
        READ_INDEX_REPLY, m.source, m.target, m.term, m.context, m.index or 0, known
    )


_READ_REPLY_BODY = Struct(">QQQQQB")


def _decode_read_index_reply(payload: Buffer) -> ReadIndexReply:
    source, target, term, context, index, flags = _READ_REPLY_BODY.unpack(payload)
    _check(term | index, flags, _FLAG_1)
    if not flags and index:
        raise ValueError("an index that is said to be unknown")
    return ReadIndexReply(source, target, term, context, Index(index) if flags else None)


def _encode_install(m: InstallSnapshot) -> bytes:
    head = _INSTALL.pack(INSTALL_SNAPSHOT, m.source, m.target, m.term, m.last_index, m.last_term)
    return head + m.image


_INSTALL_BODY = Struct(">QQQQQ")


def _decode_install(payload: Buffer) -> InstallSnapshot:
    source, target, term, index, last_term = _INSTALL_BODY.unpack_from(payload)
    _check(term | index | last_term)
    image = bytes(payload[_INSTALL_BODY.size :])
    return InstallSnapshot(source, target, term, Index(index), Term(last_term), image)


def _check(numbers: int, flags: int = 0, flags_known: int = 0) -> None:
    """ValueError if one of the numbers (or-ed together) has more than 63 bits, or a flag is new."""
    if numbers >> 63:
        raise ValueError("a term or index over 2^63 - 1")
    if flags & ~flags_known:
        raise ValueError(f"unknown flags {flags:#x}")


_ENCODERS: dict[type, Callable[..., bytes]] = {
    RequestVote: _encode_vote,
    RequestVoteReply: _encode_vote_reply,
    AppendEntries: _encode_append,
    AppendEntriesReply: _encode_append_reply,
    Heartbeat: _encode_heartbeat,
    HeartbeatReply: _encode_heartbeat_reply,
    TimeoutNow: _encode_timeout_now,
    ReadIndex: _encode_read_index,
    ReadIndexReply: _encode_read_index_reply,
    InstallSnapshot: _encode_install,
}

_DECODERS: dict[int, Callable[[Buffer], Message]] = {
    REQUEST_VOTE: _decode_vote,
    REQUEST_VOTE_REPLY: _decode_vote_reply,
    APPEND_ENTRIES: _decode_append,
    APPEND_ENTRIES_REPLY: _decode_append_reply,
    HEARTBEAT: _decode_heartbeat,
    HEARTBEAT_REPLY: _decode_heartbeat_reply,
    TIMEOUT_NOW: _decode_timeout_now,
    READ_INDEX: _decode_read_index,
    READ_INDEX_REPLY: _decode_read_index_reply,
    INSTALL_SNAPSHOT: _decode_install,
}
