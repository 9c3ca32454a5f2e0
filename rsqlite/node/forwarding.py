"""Carries requests to the leader over the peer links.

A request whose fate is known to be "not applied" (the other node did not lead, the link was down
before it left) is sent on to the next leader until its deadline. A write that left and was not
answered is never sent again: its fate is unknown, and the client is told so (design 7).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec

from rsqlite import errors
from rsqlite.config import PEER_PIECE_BYTES_MAX, Settings
from rsqlite.errors import (
    MAYBE,
    Fate,
    LeadershipLost,
    NoLeader,
    NotLeader,
    Overloaded,
    RequestTooLarge,
    RsqliteError,
    Stopped,
    TimedOut,
    Unavailable,
)
from rsqlite.ports import Handle, Loop, Network
from rsqlite.raft.types import Member
from rsqlite.request import Answer, Done, Outcome, Request, RequestKind
from rsqlite.transport.codec import ANSWER, CALL, encode_call

FIRST_ID_BITS = 62
"""A number has eight bytes in its frame: as many again are left to count."""


class WireError(msgspec.Struct, array_like=True, tag=2):
    """An error on its way back: the class's name, its text, what became of the write."""

    name: str
    message: str
    fate: str


class WireOutcome(msgspec.Struct, array_like=True, tag=1):
    outcome: Outcome


_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_answer_decoder = msgspec.msgpack.Decoder(WireOutcome | WireError)


class Call:
    """A request under way to a leader, or waiting for one to be known."""

    __slots__ = ("deadline", "done", "is_write", "leader_deadline", "request", "target")

    def __init__(
        self, request: Request, done: Done, deadline: float, leader_deadline: float
    ) -> None:
        self.request = request
        self.done = done
        self.deadline = deadline
        self.leader_deadline = leader_deadline
        self.is_write = request.kind is not RequestKind.QUERY
        self.target: Member | None = None


class Forwarding:
    """Both sides: calls to the leader, and answers to the calls of others."""

    def __init__(
        self,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        leader: Callable[[], Member | None],
        submit: Callable[[Request, Done], None],
        serve: Callable[[Request, Done], None],
        is_leader: Callable[[], bool],
        tell_commit: Callable[[], None],
        when_applied: Callable[[int, float, Callable[[], None]], None],
        first_id: int,
    ) -> None:
        """`first_id`, of `FIRST_ID_BITS` random bits: a leader may still answer the calls of this
        node's previous life, and those numbers must not be given again."""
        self._network = network
        self._loop = loop
        self._settings = settings
        self._leader = leader
        self._submit = submit
        self._serve = serve
        self._is_leader = is_leader
        self._tell_commit = tell_commit
        self._when_applied = when_applied
        # The rest of the longest frame is for the head, and for urgent ones that come between.
        self._bytes_max = settings.peer_frame_bytes_max - PEER_PIECE_BYTES_MAX
        self._ids = itertools.count(first_id)
        self._calls: dict[int, Call] = {}
        self._waiting: list[Call] = []
        self._applying = 0
        """Writes that were answered and wait until they are applied here."""
        self._retry: Handle | None = None
        self._is_telling = False
        self._is_stopped = False
        self.forwarded = 0
        self.served = 0

    def __repr__(self) -> str:
        return (
            f"<Forwarding calls={len(self._calls)} waiting={len(self._waiting)}"
            f" applying={self._applying}>"
        )

    def submit(self, request: Request, done: Done, deadline: float) -> None:
        """Send a request to the leader, now or as soon as one is known."""
        held = len(self._calls) + len(self._waiting) + self._applying
        if held >= self._settings.forward_queue_max:
            done(Overloaded("too many requests are on their way to the leader"))
            return
        now = self._loop.monotonic()
        leader_deadline = min(deadline, now + self._settings.leader_wait)
        self._send(Call(request, done, deadline, leader_deadline))

    def _send(self, call: Call) -> None:
        if self._is_stopped:
            call.done(Stopped("the node is stopping"))
            return
        leader = self._leader()
        now = self._loop.monotonic()
        if call.deadline <= now:
            call.done(TimedOut("the leader did not take the request in time"))
            return
        # Whoever serves it counts from when it came, and by a clock that may not be ours: it is
        # told how long is left, not until when.
        call.request.timeout_s = call.deadline - now
        if self._is_leader():
            self._submit(call.request, call.done)
            return
        if leader is None:
            self._wait(call, now, NoLeader())
            return
        payload = _encoder.encode(call.request)
        if len(payload) > self._bytes_max:
            call.done(
                RequestTooLarge(
                    f"the request takes {len(payload)} bytes between nodes, and at most"
                    f" {self._bytes_max} are forwarded: send it to {_place_of(leader)}"
                )
            )
            return
        call_id = next(self._ids)
        frame = encode_call(CALL, call_id, payload)
        if not self._network.send(leader.node_id, frame, patient=True):
            self._wait(call, now, NotLeader(leader_id=leader.node_id))
            return
        call.target = leader
        self.forwarded += 1
        self._calls[call_id] = call

    def _wait(self, call: Call, now: float, refusal: RsqliteError) -> None:
        """Nobody to send to: an election may be under way. Wait for its end, but not long."""
        if call.leader_deadline <= now:
            call.done(refusal)
            return
        self._waiting.append(call)
        if self._retry is None:
            self._retry = self._loop.call_later(self._settings.raft_heartbeat, self._again)

    def _again(self) -> None:
        self._retry = None
        self.leader_changed()

    def leader_changed(self) -> None:
        """Another leader may be known: send what waited."""
        waiting, self._waiting = self._waiting, []
        leader = self._leader()
        if leader is not None:
            # Reads need not wait for a leader of before, which may be paused or cut off.
            for call_id, call in list(self._calls.items()):
                if not call.is_write and call.target not in (None, leader):
                    waiting.append(self._calls.pop(call_id))
        for call in waiting:
            self._send(call)

    def link_closed(self, node_id: int) -> None:
        """What was under way on a broken link: writes are unknown, reads go again."""
        for call_id, call in list(self._calls.items()):
            if call.target is not None and call.target.node_id == node_id:
                del self._calls[call_id]
                if call.is_write:
                    call.done(LeadershipLost(f"the connection to the leader broke{MAYBE}"))
                else:
                    self._send(call)

    def answered(self, source: int, call_id: int, payload: bytes | memoryview) -> None:
        """An ANSWER frame. ValueError for bytes that are none."""
        call = self._calls.get(call_id)
        if call is None or call.target is None or call.target.node_id != source:
            return  # answered already: its deadline passed
        answer = _decode_answer(payload)
        del self._calls[call_id]
        if isinstance(answer, NotLeader) or (
            isinstance(answer, Stopped) and answer.fate is Fate.NOT_APPLIED
        ):
            leader = self._leader()
            if leader is not None and leader.node_id != source:
                self._send(call)
            else:
                self._wait(call, self._loop.monotonic(), answer)
            return
        if isinstance(answer, Outcome):
            answer.served_by = call.target.raft_addr
            if answer.is_logged:
                self._answer_when_applied(call, answer)
                return
        call.done(answer)

    def _answer_when_applied(self, call: Call, answer: Outcome) -> None:
        """Whoever writes through this node reads the write here, at any level. It counts as under
        way until then, or a node that lags would hold answers without number."""

        def applied() -> None:
            self._applying -= 1
            call.done(answer)

        self._applying += 1
        self._when_applied(answer.index, call.deadline, applied)

    def called(self, source: int, call_id: int, payload: bytes | memoryview) -> None:
        """A CALL frame of another node: run it here if we lead. ValueError for bytes that are
        none."""
        request = _decode_request(payload)
        request.is_forwarded = True
        self.served += 1

        def done(answer: Answer) -> None:
            if isinstance(answer, Outcome) and answer.is_logged and not self._is_telling:
                # The asking node waits until it has applied the write: it must not wait for the
                # next append or for silence to hear that it is committed. Once for all answers of
                # a batch.
                self._is_telling = True
                self._loop.call_soon(self._tell)
            data = _encode_answer(answer)
            if len(data) > self._bytes_max:
                data = _encode_answer(self._too_large(answer, len(data)))
            if not self._network.send(source, encode_call(ANSWER, call_id, data), patient=True):
                # Nobody is left to hear it, or there is no room beside other answers: a short
                # one may fit, and whoever waits is told now what is known.
                refusal = Unavailable(
                    "too many answers are on their way between nodes: ask"
                    f" {_place_of(self._leader())}",
                    fate=_fate_of(answer),
                )
                self._network.send(source, encode_call(ANSWER, call_id, _encode_answer(refusal)))

        self._serve(request, done)

    def _tell(self) -> None:
        self._is_telling = False
        self._tell_commit()

    def _too_large(self, answer: Answer, size: int) -> RequestTooLarge:
        """What is answered instead. The write happened if it was one."""
        text = (
            f"the answer takes {size} bytes between nodes, and at most {self._bytes_max} are"
            f" forwarded: ask {_place_of(self._leader())}"
        )
        fate = _fate_of(answer)
        if fate is Fate.APPLIED:
            text = f"the write was applied, but {text}"
        else:
            text = f"{text}, or read at level linearizable, which any node serves itself"
        return RequestTooLarge(text, fate=fate)

    def sweep(self, now: float) -> None:
        """Answer calls over their deadline."""
        for call_id, call in list(self._calls.items()):
            if call.deadline <= now:
                del self._calls[call_id]
                fate = Fate.UNKNOWN if call.is_write else Fate.NOT_APPLIED
                text = f"the leader did not answer in time{MAYBE if call.is_write else ''}"
                call.done(TimedOut(text, fate=fate))

    def stop(self) -> None:
        """Answer everybody."""
        self._is_stopped = True
        if self._retry is not None:
            self._retry.cancel()
        calls, self._calls = self._calls, {}
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.done(Stopped("the node is stopping"))
        for call in calls.values():
            fate = Fate.UNKNOWN if call.is_write else Fate.NOT_APPLIED
            text = f"the node is stopping{MAYBE if call.is_write else ''}"
            call.done(LeadershipLost(text, fate=fate))


def _place_of(leader: Member | None) -> str:
    """Where a client finds the leader, in words."""
    if leader is None:
        return "the leader itself"
    if leader.http_addr:
        return f"the leader itself, at {leader.http_addr}"
    return f"the leader itself, the node at {leader.raft_addr}"


def _fate_of(answer: Answer) -> Fate:
    if isinstance(answer, RsqliteError):
        return answer.fate
    return Fate.APPLIED if answer.is_logged else Fate.NOT_APPLIED


def _encode_answer(answer: Answer) -> bytes:
    if isinstance(answer, RsqliteError):
        name = type(answer).__name__
        return _encoder.encode(WireError(name, str(answer), answer.fate.name))
    return _encoder.encode(WireOutcome(answer))


def _decode_request(payload: bytes | memoryview) -> Request:
    try:
        request = _request_decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"a call that is no request: {error}") from error
    if len(request.sqls) != len(request.parameters):
        raise ValueError("a request whose statements and parameters differ in number")
    return request


def _decode_answer(payload: bytes | memoryview) -> Answer:
    try:
        value = _answer_decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"an answer that is none: {error}") from error
    if isinstance(value, WireOutcome):
        return value.outcome
    kind = getattr(errors, value.name, None)
    if not (isinstance(kind, type) and issubclass(kind, RsqliteError)):
        raise ValueError(f"a peer answered with an unknown error {value.name!r}")
    if issubclass(kind, errors.SqlError):
        raise ValueError("a statement's failure is a result, not an answer")
    answer = kind(value.message)
    answer.fate = Fate[value.fate] if value.fate in Fate.__members__ else Fate.UNKNOWN
    return answer
