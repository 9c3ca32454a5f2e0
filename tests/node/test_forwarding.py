"""Requests to the leader: sent again only when they were certainly not applied."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

from rsqlite.config import MIB, Settings
from rsqlite.errors import (
    Fate,
    LeadershipLost,
    NoLeader,
    NotLeader,
    Overloaded,
    RequestTooLarge,
    RsqliteError,
    StaleRead,
    Stopped,
    TimedOut,
    Unavailable,
)
from rsqlite.node.forwarding import FIRST_ID_BITS, Forwarding
from rsqlite.ports import Done as PortDone
from rsqlite.raft.types import Member, NodeId
from rsqlite.request import Answer, Done, Outcome, Request, RequestKind, Rows, Write
from rsqlite.testing.loop import ManualLoop
from rsqlite.transport.codec import CALL, decode_call


def execute(sql: str = "INSERT INTO t VALUES(1)") -> Request:
    return Request(RequestKind.EXECUTE, [sql], [None])


def query() -> Request:
    return Request(RequestKind.QUERY, ["SELECT 1"], [None])


class Wire:
    """Two or more forwarding ends on one loop; frames wait in `frames` until delivered."""

    def __init__(self, **settings: float) -> None:
        self.loop = ManualLoop()
        self.random = random.Random(1)
        self.settings = Settings(**settings)
        self.ends: dict[int, End] = {}
        self.frames: list[tuple[int, int, bytes]] = []
        self.down: set[int] = set()
        self.leader: Member | None = None

    def end(self, number: int) -> End:
        self.ends[number] = End(self, number)
        return self.ends[number]

    def lead(self, number: int) -> None:
        self.leader = Member(NodeId(number), f"n{number}", f"raft{number}", f"http{number}")

    def deliver(self) -> None:
        frames, self.frames = self.frames, []
        for source, target, frame in frames:
            call_id, payload = decode_call(frame[1:])
            forwarding = self.ends[target].forwarding
            receive = forwarding.called if frame[0] == CALL else forwarding.answered
            receive(source, call_id, payload)
        self.loop.run()

    def exchange(self) -> None:
        while self.frames or any(end.held for end in self.ends.values()):
            self.deliver()
            for end in self.ends.values():
                held, end.held = end.held, []
                for _, then in held:
                    then()


class End:
    """One node's forwarding, with what it served and the answers it got."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.served: list[Request] = []
        self.told: list[int] = []
        self.held: list[tuple[int, Callable[[], None]]] = []
        self.answers: list[Answer] = []
        self.room = wire.settings.peer_frame_bytes_max
        """The longest frame for which there is room."""
        self.answer_with: Callable[[Request], Answer] = lambda request: Outcome(
            [Write(7, 1)], index=42, is_logged=True
        )
        self.forwarding = Forwarding(
            network=self,
            loop=wire.loop,
            settings=wire.settings,
            leader=lambda: wire.leader,
            submit=self.serve,
            serve=self.serve,
            is_leader=lambda: wire.leader is not None and wire.leader.node_id == number,
            tell_commit=lambda: self.told.append(len(wire.frames)),
            when_applied=lambda index, deadline, then: self.held.append((index, then)),
            first_id=wire.random.getrandbits(FIRST_ID_BITS),
        )

    def serve(self, request: Request, done: Done) -> None:
        self.served.append(request)
        done(self.answer_with(request))

    def submit(self, request: Request, timeout_s: float = 30.0) -> None:
        self.forwarding.submit(request, self.answers.append, self.wire.loop.monotonic() + timeout_s)

    def send(
        self, target: int, frame: bytes, *, urgent: bool = False, patient: bool = False
    ) -> bool:
        if target in self.wire.down or len(frame) > self.room:
            return False
        self.wire.frames.append((self.number, target, frame))
        return True

    def connect(self, addresses: Mapping[int, str]) -> None: ...

    def identify(self, address: str, done: PortDone[Mapping[str, object]]) -> None: ...


def pair(**settings: float) -> tuple[Wire, End, End]:
    wire = Wire(**settings)
    first, second = wire.end(1), wire.end(2)
    wire.lead(1)
    return wire, first, second


def only(answers: list[Answer]) -> Answer:
    assert len(answers) == 1
    return answers[0]


def error(answers: list[Answer]) -> RsqliteError:
    answer = only(answers)
    assert isinstance(answer, RsqliteError)
    return answer


def test_an_outcome_comes_back_and_says_who_served_it() -> None:
    wire, leader, follower = pair()
    follower.submit(execute())
    wire.exchange()
    answer = only(follower.answers)
    assert isinstance(answer, Outcome)
    assert (answer.index, answer.served_by) == (42, "raft1")
    assert [request.sqls for request in leader.served] == [["INSERT INTO t VALUES(1)"]]


def test_an_answer_to_a_write_waits_until_it_is_applied_here() -> None:
    wire, leader, follower = pair()
    for _ in range(3):
        follower.submit(execute())
    wire.deliver()
    wire.loop.run()
    assert len(leader.told) == 1, "the commit index, once for all answers of one turn"
    wire.deliver()
    assert follower.answers == []
    assert [index for index, _ in follower.held] == [42, 42, 42]
    for _, then in follower.held:
        then()
    assert [type(answer) for answer in follower.answers] == [Outcome] * 3
    follower.submit(execute())
    wire.deliver()
    wire.loop.run()
    assert len(leader.told) == 2


def test_the_leader_is_told_how_long_is_left_not_a_moment_of_our_clock() -> None:
    wire, leader, follower = pair()
    wire.loop.advance(1000.0)
    follower.submit(execute(), timeout_s=5.0)
    wire.exchange()
    assert leader.served[0].timeout_s == pytest.approx(5.0)


def test_a_node_that_becomes_the_leader_itself_does_not_begin_to_count_anew() -> None:
    wire, _, follower = pair()
    wire.leader = None
    request = execute()
    request.timeout_s = 5.0
    follower.submit(request, timeout_s=5.0)
    wire.loop.advance(1.5)
    wire.lead(2)
    follower.forwarding.leader_changed()
    (served,) = follower.served
    assert served.timeout_s == pytest.approx(3.5)


def test_a_node_that_becomes_the_leader_after_the_deadline_takes_nothing() -> None:
    wire, _, follower = pair()
    wire.leader = None
    follower.submit(execute(), timeout_s=0.05)
    wire.lead(2)
    wire.loop.advance(1.0)
    assert follower.served == []
    assert isinstance(error(follower.answers), TimedOut)
    assert error(follower.answers).fate is Fate.NOT_APPLIED


@pytest.mark.parametrize(
    "answer", [StaleRead(), TimedOut("late", fate=Fate.UNKNOWN), LeadershipLost()]
)
def test_an_error_comes_back_as_itself_with_its_fate(answer: RsqliteError) -> None:
    wire, leader, follower = pair()
    leader.answer_with = lambda request: answer
    follower.submit(execute())
    wire.exchange()
    got = error(follower.answers)
    assert (type(got), str(got), got.fate) == (type(answer), str(answer), answer.fate)


def test_a_request_waits_for_a_leader_to_be_known() -> None:
    wire, _, follower = pair()
    wire.leader = None
    follower.submit(execute())
    wire.loop.advance(1.0)
    assert follower.answers == []
    wire.lead(1)
    wire.loop.advance(0.2)
    wire.exchange()
    assert isinstance(only(follower.answers), Outcome)


def test_without_a_leader_it_does_not_wait_for_ever() -> None:
    wire, _, follower = pair(leader_wait=0.5)
    wire.leader = None
    follower.submit(execute())
    wire.loop.advance(1.0)
    assert isinstance(error(follower.answers), NoLeader)
    assert error(follower.answers).fate is Fate.NOT_APPLIED


def test_what_the_other_node_did_not_take_goes_to_the_next_leader() -> None:
    wire, leader, follower = pair()
    third = wire.end(3)
    leader.answer_with = lambda request: NotLeader(leader_id=3)
    follower.submit(execute())
    wire.exchange()
    wire.lead(3)
    wire.loop.advance(0.2)
    wire.exchange()
    assert isinstance(only(follower.answers), Outcome)
    assert len(third.served) == 1


def test_who_is_refused_late_still_goes_to_the_leader_that_is_known() -> None:
    wire, leader, follower = pair(leader_wait=0.5)
    third = wire.end(3)
    leader.answer_with = lambda request: NotLeader(leader_id=3)
    follower.submit(execute())
    wire.loop.advance(2.0)
    wire.lead(3)
    wire.exchange()
    assert isinstance(only(follower.answers), Outcome)
    assert len(third.served) == 1


def test_a_read_does_not_wait_for_the_leader_of_before() -> None:
    wire, _, follower = pair()
    wire.end(3)
    follower.submit(query())
    follower.submit(execute())
    wire.frames.clear()
    wire.lead(3)
    follower.forwarding.leader_changed()
    wire.exchange()
    assert len(follower.answers) == 1


def test_a_write_that_left_and_was_not_answered_is_never_sent_again() -> None:
    wire, leader, follower = pair()
    follower.submit(execute())
    wire.frames.clear()
    follower.forwarding.link_closed(1)
    wire.lead(1)
    wire.loop.advance(5.0)
    wire.exchange()
    assert error(follower.answers).fate is Fate.UNKNOWN
    assert leader.served == []


def test_a_read_that_was_not_answered_goes_again() -> None:
    wire, _, follower = pair()
    follower.submit(query())
    wire.frames.clear()
    follower.forwarding.link_closed(1)
    wire.exchange()
    assert isinstance(only(follower.answers), Outcome)


def test_a_deadline_leaves_the_fate_of_a_write_unknown_and_a_late_answer_unheard() -> None:
    wire, _, follower = pair()
    follower.submit(execute(), timeout_s=1.0)
    held, wire.frames = wire.frames, []
    wire.loop.advance(2.0)
    follower.forwarding.sweep(wire.loop.monotonic())
    assert error(follower.answers).fate is Fate.UNKNOWN
    wire.frames = held
    wire.exchange()
    assert len(follower.answers) == 1


def test_a_frame_the_network_dropped_was_not_applied_and_goes_again() -> None:
    wire, leader, follower = pair()
    wire.down.add(1)
    follower.submit(execute())
    assert follower.answers == []
    wire.down.clear()
    wire.loop.advance(0.2)
    wire.exchange()
    assert isinstance(only(follower.answers), Outcome)
    assert len(leader.served) == 1


def test_calls_under_way_are_bounded() -> None:
    _, _, follower = pair(forward_queue_max=2)
    for _ in range(3):
        follower.submit(execute())
    assert isinstance(error(follower.answers), Overloaded)


def test_writes_that_are_not_applied_here_yet_count_to_the_bound() -> None:
    wire, _, follower = pair(forward_queue_max=2)
    for _ in range(2):
        follower.submit(execute())
        wire.deliver()
        wire.deliver()
    assert len(follower.held) == 2
    follower.submit(execute())
    assert isinstance(error(follower.answers), Overloaded)
    wire.exchange()
    follower.submit(execute())
    wire.exchange()
    assert [type(answer) for answer in follower.answers] == [Overloaded, Outcome, Outcome, Outcome]


FRAME = 2 * MIB
"""The longest frame in these tests: half of it may be forwarded."""


def test_a_body_of_the_default_bound_is_forwarded() -> None:
    wire, leader, follower = pair()
    settings = Settings()
    follower.submit(execute("x" * (settings.body_bytes_max + 1000)))
    wire.exchange()
    assert isinstance(only(follower.answers), Outcome)
    assert len(leader.served) == 1


def test_a_request_that_is_too_large_is_sent_to_the_leaders_address_by_its_text() -> None:
    wire, leader, follower = pair(peer_frame_bytes_max=FRAME)
    follower.submit(execute("x" * MIB))
    assert leader.served == []
    refusal = error(follower.answers)
    assert isinstance(refusal, RequestTooLarge)
    assert "at most 1048576 are forwarded: send it to the leader itself, at http1" in str(refusal)
    assert refusal.fate is Fate.NOT_APPLIED
    follower.submit(execute("x" * (MIB - 1000)))
    wire.exchange()
    assert isinstance(follower.answers[1], Outcome)


@pytest.mark.parametrize("is_logged", [True, False])
def test_an_answer_that_is_too_large_says_what_became_of_the_write_and_whom_to_ask(
    is_logged: bool,
) -> None:
    wire, leader, follower = pair(peer_frame_bytes_max=FRAME)
    leader.answer_with = lambda request: Outcome(
        [Rows(["v"], [None], [("x" * MIB,)])], index=42, is_logged=is_logged
    )
    follower.submit(execute() if is_logged else query())
    wire.exchange()
    refusal = error(follower.answers)
    assert isinstance(refusal, RequestTooLarge)
    assert "ask the leader itself, at http1" in str(refusal)
    assert ("the write was applied, but" in str(refusal)) is is_logged
    assert ("level linearizable" in str(refusal)) is not is_logged
    assert refusal.fate is (Fate.APPLIED if is_logged else Fate.NOT_APPLIED)


def test_an_answer_that_has_no_room_beside_others_is_not_waited_for() -> None:
    wire, leader, follower = pair()
    follower.submit(execute())
    leader.room = 200
    leader.answer_with = lambda request: Outcome(
        [Rows(["v"], [None], [("x" * 1000,)])], index=42, is_logged=True
    )
    wire.exchange()
    refusal = error(follower.answers)
    assert type(refusal) is Unavailable
    assert "ask the leader itself, at http1" in str(refusal)
    assert refusal.fate is Fate.APPLIED


def test_stop_answers_everybody() -> None:
    wire, _, follower = pair()
    follower.submit(execute())
    wire.leader = None
    follower.submit(execute())
    follower.forwarding.stop()
    fates = sorted(
        answer.fate.value for answer in follower.answers if isinstance(answer, RsqliteError)
    )
    assert fates == [Fate.NOT_APPLIED.value, Fate.UNKNOWN.value]
    follower.submit(execute())
    assert isinstance(follower.answers[-1], Stopped)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\x02\xa8SystemExit\xa1x\xa1y", b"\x90"])
def test_bytes_that_are_no_answer_are_refused(payload: bytes) -> None:
    wire, _, follower = pair()
    follower.submit(execute())
    (_, _, frame) = wire.frames.pop()
    with pytest.raises(ValueError, match=r"request|answer|unknown error"):
        follower.forwarding.answered(1, decode_call(frame[1:])[0], payload)
    assert follower.answers == []


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", b"\x93\x09\x90\x90"])
def test_bytes_that_are_no_request_are_refused(payload: bytes) -> None:
    _, leader, _ = pair()
    with pytest.raises(ValueError, match=r"request|answer|unknown error"):
        leader.forwarding.called(2, 1, payload)
    assert leader.served == []


def test_an_answer_from_somebody_else_is_not_taken() -> None:
    wire, leader, follower = pair()
    follower.submit(execute())
    (_, _, frame) = wire.frames.pop()
    call_id, payload = decode_call(frame[1:])
    leader.forwarding.called(2, call_id, payload)
    (_, _, answer) = wire.frames.pop()
    follower.forwarding.answered(3, *decode_call(answer[1:]))
    assert follower.answers == []
    follower.forwarding.answered(1, *decode_call(answer[1:]))
    follower.held[0][1]()
    assert len(follower.answers) == 1


def test_an_answer_to_a_nodes_previous_life_is_none_to_a_call_of_this_one() -> None:
    wire = Wire()
    wire.lead(1)
    wire.end(1)
    before = wire.end(2)
    before.submit(execute())
    call = wire.frames.pop()
    now = wire.end(2)  # it was killed, and started again
    now.submit(execute("INSERT INTO t VALUES(2)"))
    wire.frames = [call]  # the second one is still on its way
    wire.deliver()
    wire.exchange()
    assert not now.answers
