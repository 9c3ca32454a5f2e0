"""What is sent again, what never is, and what is asked of whom: without sockets or time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from rsqlite_client.errors import (
    AmbiguousResultError,
    AppliedError,
    DataError,
    IntegrityError,
    OperationalError,
    UnavailableError,
)
from rsqlite_client.proto import Command, Form, ReadLevel, Result
from rsqlite_client.routing import Routing
from rsqlite_client.session import (
    GRACE_S,
    REDIRECTS_MAX,
    Answer,
    Event,
    Lost,
    Pause,
    Send,
    Session,
    Step,
)
from rsqlite_client.statement import Statement

WRITE = "INSERT INTO t VALUES(1)"
READ = "SELECT 1"
WRITTEN = b'{"results":[{"last_insert_id":1,"rows_affected":1}]}'
ROWS = b'{"results":[{"columns":["1"],"decltypes":[null],"values":[[1]]}]}'


class Play:
    """One command on its way, and the time."""

    def __init__(self, session: Session, command: Command) -> None:
        self.now_s = 100.0
        self.steps: Generator[Step, Event, Result] = session.run(command, self.now_s)
        self.result: Result | None = None
        self.step: Any = next(self.steps)

    def _send(self, event: Event) -> Any:
        try:
            self.step = self.steps.send(event)
        except StopIteration as stop:
            self.result = stop.value
            self.step = None
        return self.step

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> Any:
        found = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        assert isinstance(self.step, Send)
        return self._send(Answer(status, lambda name: found.get(name.lower()), body, self.now_s))

    def lose(self, *, is_sent: bool, is_reachable: bool = True) -> Any:
        return self._send(Lost("gone", is_sent, is_reachable or is_sent, self.now_s))

    def wait(self) -> Any:
        assert isinstance(self.step, Pause)
        self.now_s += self.step.seconds
        return self._send(self.now_s)

    def confirm(self) -> Any:
        """Say that there is a leader, to a session that wants to know before it writes."""
        assert "level=linearizable" in self.step.target
        return self.answer(200, ROWS)

    def not_applied(self, error: str = "no-leader", status: int = 503, text: bytes = b"no") -> Any:
        return self.answer(status, text, rsqlite_write="not-applied", rsqlite_error=error)


def session_of(*hosts: str, timeout_s: float = 10.0) -> Session:
    return Session(Routing(hosts or ("a", "b", "c")), timeout_s)


def command(sql: str, **options: Any) -> Command:
    return Command(Statement(sql), options.pop("form", Form.ONE), ((),), **options)


def play(session: Session, sql: str, **options: Any) -> Play:
    return Play(session, command(sql, **options))


def test_a_write_goes_to_a_node_and_then_to_the_leader_that_it_names() -> None:
    session = session_of()
    one = play(session, WRITE)
    assert one.step == Send(
        "a",
        "/db/request?typed&compact&redirect&timeout=10000ms",
        b'[["INSERT INTO t VALUES(1)"]]',
        10.0 + GRACE_S,
        is_harmless=False,
    )
    one.answer(301, location="http://b/db/request?x")
    assert one.step.host == "b"
    one.answer(200, WRITTEN, rsqlite_index="7")
    assert one.result is not None
    assert (one.result.lastrowid, session.last_index) == (1, 7)
    assert play(session, WRITE).step.host == "b"


def test_who_answers_is_the_leader_from_then_on() -> None:
    session = session_of()
    play(session, WRITE).answer(200, WRITTEN)
    assert session.routing.leader == "a"


@pytest.mark.parametrize("sql", [WRITE, "WITH x AS (SELECT 1) SELECT 1"])
def test_a_write_that_left_and_was_not_answered_is_never_sent_again(sql: str) -> None:
    session = session_of()
    one = play(session, sql)
    with pytest.raises(
        AmbiguousResultError, match="a: gone after the statement was sent"
    ) as caught:
        one.lose(is_sent=True)
    assert "before you repeat it" in str(caught.value)
    assert play(session, sql).step.host == "b", "the next statement asks somebody else"


@pytest.mark.parametrize("form", [Form.MANY, Form.SCRIPT])
def test_many_rows_and_scripts_are_writes_whatever_they_say(form: Form) -> None:
    with pytest.raises(AmbiguousResultError):
        play(session_of(), READ, form=form).lose(is_sent=True)


def test_a_write_that_never_left_goes_to_the_next_host() -> None:
    one = play(session_of(), WRITE)
    one.lose(is_sent=False, is_reachable=False)
    one.confirm()
    assert one.step.host == "b"
    one.answer(200, WRITTEN)
    assert one.result is not None


def test_after_a_loss_a_write_waits_until_a_majority_follows_a_leader() -> None:
    session = session_of("a", "b", timeout_s=10.0)
    with pytest.raises(AmbiguousResultError):
        play(session, WRITE).lose(is_sent=True)
    one = play(session, WRITE)
    assert one.step == Send(
        "b",
        "/db/query?typed&compact&level=linearizable&timeout=2000ms&linearizable_timeout=2000ms",
        b'[["SELECT 1"]]',
        2.0 + GRACE_S,
        is_harmless=True,
    )
    one.answer(503, b"leader not found")
    assert one.step.host == "a"
    one.lose(is_sent=True)
    one.wait()
    one.answer(200, b'{"results":[],"error":"timeout"}')
    assert one.step.host == "a"
    one.confirm()
    assert one.step.target.startswith("/db/request?")
    one.answer(200, WRITTEN)
    assert play(session, WRITE).step.target.startswith("/db/request?"), "all is well again"


def test_a_read_need_not_wait_for_that() -> None:
    session = session_of()
    session.is_shaken = True
    assert play(session, READ).step.target.startswith("/db/query?typed&compact&redirect")


@pytest.mark.parametrize("error", ["overloaded", "stale-read"])
def test_some_errors_say_nothing_about_the_leader(error: str) -> None:
    session = session_of()
    play(session, WRITE).not_applied(error)
    assert not session.is_shaken


def test_a_leader_that_failed_is_leader_no_more() -> None:
    session = session_of()
    session.routing.redirected("c")
    with pytest.raises(AmbiguousResultError):
        play(session, WRITE).answer(503, b"stopping", rsqlite_write="unknown")
    assert session.routing.leader is None


def test_a_read_that_was_lost_is_asked_again() -> None:
    one = play(session_of(), READ)
    one.lose(is_sent=True)
    assert one.step.host == "b"
    one.answer(200, ROWS)
    assert one.result is not None
    assert one.result.rows == [(1,)]


def test_a_text_that_was_seen_to_read_is_a_read() -> None:
    statement = Statement("PRAGMA user_version")
    one = Play(session_of(), Command(statement, Form.ONE, ((),)))
    assert one.step.target.startswith("/db/request?")
    statement.is_read = True
    one = Play(session_of(), Command(statement, Form.ONE, ((),)))
    assert one.step.target.startswith("/db/query?")
    one.lose(is_sent=True)
    assert one.step.host == "b"


def test_the_fate_that_a_node_tells_decides() -> None:
    one = play(session_of(), WRITE)
    one.not_applied()
    one.confirm()
    assert (one.step.host, "redirect" in one.step.target) == ("b", False), "b is to pass it on"
    with pytest.raises(AmbiguousResultError, match="leadership lost"):
        one.answer(
            200,
            b'{"results":[],"error":"leadership lost"}',
            rsqlite_write="unknown",
            rsqlite_error="leadership-lost",
        )
    one = play(session_of(), WRITE)
    with pytest.raises(AppliedError, match="cannot be given: no UTF-8"):
        one.answer(500, b"no UTF-8\n", rsqlite_write="applied", rsqlite_error="unrepresentable")


def test_a_write_that_was_certainly_not_applied_is_sent_again() -> None:
    one = play(session_of(), WRITE)
    one.answer(
        200,
        b'{"results":[],"error":"leadership lost"}',
        rsqlite_write="not-applied",
        rsqlite_error="leadership-lost",
    )
    assert one.step.host == "b"


def test_an_answer_of_something_in_between_tells_nothing_of_a_write() -> None:
    with pytest.raises(AmbiguousResultError, match="Bad Gateway"):
        play(session_of(), WRITE).answer(502, b"Bad Gateway")
    one = play(session_of(), READ)
    one.answer(502, b"Bad Gateway")
    assert one.step.host == "b"
    one = play(session_of(), WRITE)
    with pytest.raises(AmbiguousResultError, match="a answered 504"):
        one.answer(504)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "request-error", OperationalError),
        (413, "request-too-large", DataError),
        (200, "statement-refused", OperationalError),
        (404, "", OperationalError),
        (302, "", OperationalError),
    ],
)
def test_a_mistake_is_not_repeated(status: int, error: str, kind: type[Exception]) -> None:
    body = b'{"results":[],"error":"refused"}' if status == 200 else b"refused\n"
    for sql in (READ, WRITE):
        with pytest.raises(kind, match="refused") as caught:
            play(session_of(), sql).answer(
                status, body, rsqlite_error=error, rsqlite_write="not-applied"
            )
        assert not isinstance(caught.value, UnavailableError | AmbiguousResultError)


def test_what_sqlite_says_is_final() -> None:
    one = play(session_of(), WRITE)
    with pytest.raises(IntegrityError):
        one.answer(200, b'{"results":[{"error":"no","code":19,"name":"SQLITE_CONSTRAINT"}]}')


def test_it_goes_round_with_pauses_until_the_time_is_over() -> None:
    one = play(session_of(timeout_s=2.0), WRITE)
    asked, pauses = [], []

    def go_on() -> None:
        while True:
            if isinstance(one.step, Pause):
                pauses.append(one.step.seconds)
                one.wait()
            else:
                asked.append(one.step)
                one.not_applied(text=b"no leader")

    with pytest.raises(UnavailableError, match=r"within 2 s, and nothing was applied: no leader"):
        go_on()
    assert [send.host for send in asked[:4]] == ["a", "b", "c", "a"]
    assert len(asked) == 3 * (len(pauses) + 1)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert sum(pauses) < 2.0


def test_what_is_left_of_the_time_goes_along() -> None:
    one = play(session_of("a", timeout_s=10.0), WRITE)
    one.now_s += 4.0
    one.not_applied()
    one.wait()
    one.confirm()
    assert one.step.target.endswith("&timeout=5950ms")
    assert one.step.patience_s == pytest.approx(5.95 + GRACE_S)


def test_overload_is_given_the_time_it_asks_for() -> None:
    one = play(session_of(), WRITE)
    one.answer(
        503, b"full", rsqlite_write="not-applied", rsqlite_error="overloaded", retry_after="2"
    )
    assert one.step == Pause(2.0)


def test_nodes_that_point_at_each_other_are_left_alone_for_a_while() -> None:
    one = play(session_of("a", "b"), WRITE)
    for number in range(REDIRECTS_MAX):
        assert one.step.host == "ab"[number % 2]
        one.answer(301, location=f"http://{'ba'[number % 2]}/x")
    one.answer(301, location="http://b/x")
    assert "redirect" not in one.step.target
    one.answer(301)
    assert isinstance(one.step, Pause)


def test_a_leader_out_of_reach_is_asked_through_the_node_that_named_it() -> None:
    one = play(session_of("a"), WRITE)
    one.answer(301, location="http://inside/x")
    assert one.step.host == "inside"
    one.lose(is_sent=False, is_reachable=False)
    one.confirm()
    one.answer(301, location="http://inside/x")
    assert (one.step.host, "redirect" in one.step.target) == ("a", False)
    one.answer(200, WRITTEN)
    assert one.result is not None


def test_reads_say_how_fresh() -> None:
    session = session_of()
    session.last_index = 9

    def target(level: ReadLevel, **options: Any) -> str:
        found: str = play(session, READ, level=level, **options).step.target
        return found.removeprefix("/db/query?typed&compact")

    assert target(ReadLevel.WEAK) == "&redirect&timeout=10000ms"
    assert target(ReadLevel.STRONG) == "&level=strong&redirect&timeout=10000ms"
    assert target(ReadLevel.LINEARIZABLE) == "&level=linearizable&timeout=10000ms"
    assert target(ReadLevel.AUTO) == "&level=auto&timeout=10000ms"
    assert target(ReadLevel.NONE) == "&level=none&min_index=9"
    assert target(ReadLevel.NONE, freshness_s=0.5) == "&level=none&min_index=9&freshness=500ms"


def test_what_may_write_has_no_level() -> None:
    """A node would keep it at level none, and be taken for the leader."""
    session = session_of()
    session.last_index = 9
    one = play(session, WRITE, level=ReadLevel.NONE, freshness_s=1.0)
    assert one.step.target == "/db/request?typed&compact&redirect&timeout=10000ms"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"{}",
        b"[]",
        b"1",
        b'{"results":1}',
        b'{"results":[{}]}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_none_tells_nothing(body: bytes) -> None:
    with pytest.raises(AmbiguousResultError, match="nonsense"):
        play(session_of(), WRITE).answer(200, body)
    one = play(session_of(), READ)
    one.answer(200, body)
    assert one.step.host == "b"


def test_a_read_never_goes_back_behind_what_was_seen() -> None:
    session = session_of()
    play(session, WRITE).answer(200, WRITTEN, rsqlite_index="20")
    one = play(session, READ)
    one.answer(200, ROWS, rsqlite_index="19")
    assert one.result is None
    assert one.step.host == "b"
    one.answer(200, ROWS, rsqlite_index="20")
    assert one.result is not None
    assert session.last_index == 20


def test_an_answer_to_a_write_is_an_answer_whatever_its_index() -> None:
    session = session_of()
    session.last_index = 20
    one = play(session, WRITE)
    one.answer(200, WRITTEN)
    assert one.result is not None
    assert session.last_index == 20


def test_a_stale_copy_makes_way_for_another() -> None:
    one = play(session_of(), READ, level=ReadLevel.NONE, freshness_s=1.0)
    one.answer(200, b'{"results":[],"error":"stale read"}', rsqlite_error="stale-read")
    assert one.step.host == "b"
