"""One client's conversation with the cluster, without I/O and without a clock.

`Session.run` is a generator: it yields what to do (`Send`, `Pause`), is sent what came of it
(`Answer`, `Lost`, or the time), and returns the `Result` or raises. The shells do nothing but carry
it out, so that all of them behave alike and a test needs no socket.

The rules:

1. What was certainly not applied (no connection, `Rsqlite-Write: not-applied` of a node that cannot
   now) is sent again, to another host, until the timeout.
2. A write that left and was not answered, or was answered with `unknown`, is never sent again:
   AmbiguousResultError. What the server promises not to write is sent again in any case.
3. Requests for the leader go to the leader, and a node that does not lead says where it is (301).
   Where that does not work, because nobody leads or the leader cannot be reached from here, nodes
   are asked to pass the request on.
4. After any loss a write waits until a node has answered a linearizable read: that needs a leader
   with a majority, so what was lost with the old one is lost once. Without this the next write
   would follow a node's last word to the dead leader, and be ambiguous too.
5. A read that nobody answers for SILENCE_S is given up for another host if its host does not answer
   another question either: it is paused, or cut off. A write has to wait on.
6. A read that saw less than this session has seen already is asked again of somebody else; at level
   none `min_index` has the node wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple
from urllib.parse import urlsplit

from rsqlite_client.errors import (
    AMBIGUOUS_ADVICE,
    AmbiguousResultError,
    AppliedError,
    DataError,
    OperationalError,
    UnavailableError,
)
from rsqlite_client.proto import (
    Command,
    ReadLevel,
    Result,
    body_of,
    path_of,
    result_of,
    top_level_error,
)
from rsqlite_client.routing import Choice, Routing, pause_before_round

GRACE_S = 1.0
"""How much longer a shell waits than the server was told to: its word on the fate is worth it."""
TIMEOUT_MIN_S = 0.05
"""Given to a last attempt."""
INDEX = "Rsqlite-Index"
WRITE = "Rsqlite-Write"
ERROR = "Rsqlite-Error"
_LEADERS = frozenset((ReadLevel.WEAK, ReadLevel.STRONG))
QUESTION_S = 2.0
"""For the question whether there is a leader; nodes wait that long for one (`leader_wait`)."""
SILENCE_S = 2.0
"""A shell that has waited so long for a read asks its host whether it lives, and so on."""
LIFE_S = 1.0
"""Time to answer that: a node does it whatever it is at."""
LIFE_TARGET = "/readyz?noleader"
_QUESTION = b'[["SELECT 1"]]'
_QUESTION_TARGET = "/db/query?typed&compact&level=linearizable"
_CALM = frozenset(("overloaded", "stale-read"))
"""They say nothing about the leader."""
_PATIENT = frozenset(("overloaded",))
"""Errors at which `Retry-After` is respected; an election is over sooner than it says."""
_FINAL = frozenset(("request-error", "statement-refused", "request-too-large", "unrepresentable"))
"""They fail the same way anywhere."""
_BUSY = frozenset((408, 429))
REDIRECTS_MAX = 8
"""Of one command. Nodes may point at each other while they elect a leader."""


class Send(NamedTuple):
    """POST `body` to `target` of `host`; give up after `patience_s`, or, if it `is_harmless`, when
    the host does not live."""

    host: str
    target: str
    body: bytes
    patience_s: float
    is_harmless: bool


class Pause(NamedTuple):
    """Wait so long."""

    seconds: float


class Answer(NamedTuple):
    """An HTTP answer came, whole. `header` finds a header by its name."""

    status: int
    header: Callable[[str], str | None]
    body: bytes
    now_s: float


class Lost(NamedTuple):
    """No answer came. `is_sent` is False only when the request certainly never left whole, and
    `is_reachable` when there was a connection."""

    reason: str
    is_sent: bool
    is_reachable: bool
    now_s: float


Step = Send | Pause
Event = Answer | Lost | float
"""The answer to a Pause is the time."""


class Session:
    """The state that the requests of one connection share."""

    def __init__(self, routing: Routing, timeout_s: float) -> None:
        self.routing = routing
        self.timeout_s = timeout_s
        self.last_index = 0
        """The highest raft index of all answers: what this session has seen."""
        self.is_shaken = False
        """Something went wrong lately: before a write is sent, a node must say that a majority
        follows a leader."""
        self._timeout = f"&timeout={_duration(timeout_s)}"

    def __repr__(self) -> str:
        return f"<Session index={self.last_index} {self.routing!r}>"

    def run(self, command: Command, now_s: float) -> Generator[Step, Event, Result]:
        """Carry out one command."""
        return _Run(self, command, now_s).steps()

    def target(self, command: Command, choice: Choice, left_s: float) -> str:
        """Path and query. They are the same each time while all is well: the server remembers heads
        that repeat."""
        target = path_of(command)
        # What may write goes to the leader in any case, and reads there if it only reads: a node
        # would keep a request at level none, and pass for the leader.
        level = command.level if command.is_read else ReadLevel.WEAK
        is_none = level is ReadLevel.NONE
        if level is not ReadLevel.WEAK:
            target += f"&level={level.value}"
            if is_none and self.last_index:
                target += f"&min_index={self.last_index}"
        if command.freshness_s and command.is_read:
            target += f"&freshness={_duration(command.freshness_s)}"
        if choice.is_direct:
            target += "&redirect"
        if not is_none:
            is_whole = left_s >= self.timeout_s
            target += self._timeout if is_whole else f"&timeout={_duration(left_s)}"
        return target


class _Run:
    """One command on its way."""

    def __init__(self, session: Session, command: Command, now_s: float) -> None:
        self._session = session
        self._command = command
        self._deadline_s = now_s + session.timeout_s
        self._now_s = now_s
        self._failures = 0
        self._redirects = 0
        self._reason = ""
        self._for_leader = not command.is_read or command.level in _LEADERS
        self._avoids_direct = False

    def steps(self) -> Generator[Step, Event, Result]:
        session, routing, command = self._session, self._session.routing, self._command
        body = body_of(command)
        while True:
            asks_first = session.is_shaken and not command.is_read
            if asks_first:
                choice = routing.choose(for_leader=False, in_trouble=True)
                send = self._question(choice)
            else:
                choice = routing.choose(for_leader=self._for_leader, in_trouble=self._in_trouble)
                send = self._request(choice, body)
            event = yield send
            assert isinstance(event, Answer | Lost)
            self._now_s = event.now_s
            if isinstance(event, Lost):
                self._lost(choice, event, is_harmless=asks_first or command.is_read)
            elif asks_first:
                if self._is_led(choice, event):
                    continue
            elif event.status == 200:
                result = self._result(choice, event)
                if result is not None:
                    return result
            elif event.status == 301:
                if self._follow(choice, event):
                    continue
            else:
                text = event.body.decode("utf-8", "replace").strip()
                self._judge(choice, event, text or f"{choice.host} answered {event.status}")
            pause_s = self._pause(event)
            if pause_s:
                now_s = yield Pause(pause_s)
                assert isinstance(now_s, float)
                self._now_s = now_s

    @property
    def _in_trouble(self) -> bool:
        return self._avoids_direct or (self._failures > 0 and self._command.is_read)

    def _left_s(self) -> float:
        return max(self._deadline_s - self._now_s, TIMEOUT_MIN_S)

    def _request(self, choice: Choice, body: bytes) -> Send:
        left_s = self._left_s()
        target = self._session.target(self._command, choice, left_s)
        is_harmless = self._command.is_read
        return Send(choice.host, target, body, left_s + GRACE_S, is_harmless)

    def _question(self, choice: Choice) -> Send:
        """Is there a leader that a majority follows?"""
        left_s = min(self._left_s(), QUESTION_S)
        timeout = _duration(left_s)
        target = f"{_QUESTION_TARGET}&timeout={timeout}&linearizable_timeout={timeout}"
        return Send(choice.host, target, _QUESTION, left_s + GRACE_S, is_harmless=True)

    def _is_led(self, choice: Choice, answer: Answer) -> bool:
        error = top_level_error(answer.body) if answer.status == 200 else f"{answer.status}"
        if error is None:
            self._session.is_shaken = False
            return True
        self._fail(choice, f"no leader is known: {error}")
        return False

    def _result(self, choice: Choice, answer: Answer) -> Result | None:
        """What the answer holds; None when somebody else should be asked."""
        session = self._session
        try:
            error = top_level_error(answer.body)
            result = None if error is not None else result_of(answer.body)
            index = int(answer.header(INDEX) or 0)
        except (ValueError, LookupError, TypeError, RecursionError) as caught:
            # Not of a node, whatever its status: of something in between.
            error, result, index = f"{choice.host} answered nonsense: {caught!r}", None, 0
        if result is None:
            self._judge(choice, answer, error or "no result")
            return None
        if index < session.last_index and result.is_read:
            # Of a leader that is none any more, say.
            self._fail(choice, f"a copy as of {index}, and {session.last_index} was seen")
            return None
        session.last_index = max(index, session.last_index)
        session.routing.served(choice)
        return result

    def _follow(self, choice: Choice, answer: Answer) -> bool:
        """Go where a redirect leads: nothing was done by who sent it. False when it leads nowhere,
        or when there were too many."""
        host = urlsplit(answer.header("Location") or "").netloc
        self._redirects += 1
        if not host or self._redirects > REDIRECTS_MAX:
            self._avoids_direct = True
            self._fail(choice, "nodes do not agree on who leads")
            return False
        if not self._session.routing.redirected(host):
            self._avoids_direct = True
        return True

    def _judge(self, choice: Choice, answer: Answer, text: str) -> None:
        """Raise for what must not be sent again, or would fail again."""
        name = answer.header(ERROR) or ""
        fate = answer.header(WRITE)
        if fate == "applied":
            raise AppliedError(f"the write was applied, but its result cannot be given: {text}")
        if name in _FINAL or (300 <= answer.status < 500 and answer.status not in _BUSY):
            raise DataError(text) if name == "request-too-large" else OperationalError(text)
        if name not in _CALM:
            self._session.is_shaken = True
            self._avoids_direct = True
        self._fail(choice, text)
        if fate != "not-applied" and not self._command.is_read:
            raise AmbiguousResultError(f"{text}; {AMBIGUOUS_ADVICE}")

    def _lost(self, choice: Choice, lost: Lost, *, is_harmless: bool) -> None:
        self._session.is_shaken = True
        self._fail(choice, f"{choice.host}: {lost.reason}", is_reachable=lost.is_reachable)
        if lost.is_sent and not is_harmless:
            raise AmbiguousResultError(
                f"{self._reason} after the statement was sent; {AMBIGUOUS_ADVICE}"
            )

    def _fail(self, choice: Choice, reason: str, *, is_reachable: bool = True) -> None:
        """This host did not serve; another one is next."""
        self._reason = reason
        self._session.routing.failed(choice.host, is_reachable=is_reachable)

    def _pause(self, event: Event) -> float:
        """How long to wait before the next host is asked. UnavailableError when time is over."""
        self._failures += 1
        rounds, rest = divmod(self._failures, self._session.routing.count)
        pause_s = 0.0 if rest else pause_before_round(rounds)
        if isinstance(event, Answer) and event.header(ERROR) in _PATIENT:
            pause_s = max(pause_s, float(event.header("Retry-After") or 1.0))
        if self._now_s + pause_s >= self._deadline_s:
            raise UnavailableError(
                f"no node could do it within {self._session.timeout_s:g} s, and nothing was"
                f" applied: {self._reason}"
            )
        return pause_s


def _duration(seconds: float) -> str:
    """As the server reads it."""
    return f"{max(1, round(seconds * 1000))}ms"
