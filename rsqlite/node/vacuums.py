"""VACUUM of the whole cluster: the leader asks one member after the other, itself last (design 3).

Rewriting the database at one index on all nodes would stop all of them, and need twice the disk
everywhere at once. Nothing of this is in the log: what a database holds stays as it is, and where
it fails all stays as it was. A leader that loses its leadership asks no further.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from rsqlite.errors import (
    Fate,
    LeadershipLost,
    NoLeader,
    Overloaded,
    RsqliteError,
    TimedOut,
    Unavailable,
)
from rsqlite.node.membership import refusal_of
from rsqlite.node.questions import ask_member
from rsqlite.node.vacuum import Progress, Step
from rsqlite.raft.types import Member
from rsqlite.request import Answer, Failure, Outcome, Request, Write
from rsqlite.statemachine.generations import noted_compact

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

ASK_PAUSE_S = 0.25
"""Pause between two questions how far a member is."""
SILENCES_MAX = 20
"""So many questions in a row without an answer, and the next member has its turn."""
SLACK_S = 60.0
"""What is waited by default beyond the time that the members may take."""


class NodeVacuum(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it on one member. `step`: done, failed, or silent."""

    label: str
    step: str
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def is_done(self) -> bool:
        return self.step == Step.DONE


class VacuumReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it on all members, in the order of their turns."""

    nodes: tuple[NodeVacuum, ...]

    @property
    def is_complete(self) -> bool:
        """Every database was written anew."""
        return all(node.is_done for node in self.nodes)


_STATEMENT = re.compile(r"\s*VACUUM(\s+main)?\s*;?\s*", re.IGNORECASE)

Vacuumed = Callable[[VacuumReport | None, RsqliteError | None], None]


def is_vacuum(request: Request) -> bool:
    """Is it the statement VACUUM, alone? It is no transaction's, and no node carries it out by
    itself; as SQL among others, or INTO a file, it is refused."""
    return len(request.sqls) == 1 and _STATEMENT.fullmatch(request.sqls[0]) is not None


def answer_to(report: VacuumReport | None, error: RsqliteError | None) -> Answer:
    """What a client is told who sent VACUUM as SQL."""
    if report is None:
        return error or Unavailable("no report")
    left = [f"{node.label}: {node.error or node.step}" for node in report.nodes if not node.is_done]
    if left:
        return Outcome([Failure(f"VACUUM failed on {'; '.join(left)}")])
    return Outcome([Write(0, 0)])


class Round:
    """One VACUUM, as its leader keeps it."""

    def __init__(self, token: str, term: int, members: list[Member]) -> None:
        self.token = token
        self.term = term
        self.left = members
        """Whose turn it is, then those after it."""
        self.ended: list[NodeVacuum] = []
        self.waiting: list[tuple[float, Vacuumed]] = []
        self.next_question = 0.0
        self.silences = 0


class Vacuums:
    """Those of a cluster, on the node that leads it. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._round: Round | None = None
        self._count = 0
        self._next_own: float | None = None
        """When the leader begins one by itself, in seconds since 1970; None: not looked at yet."""

    def __repr__(self) -> str:
        return f"<Vacuums left={0 if self._round is None else len(self._round.left)}>"

    def submit(self, done: Vacuumed, timeout_s: float = 0.0) -> None:
        """Have all databases written anew, or wait with others for the end of it; `done` is called
        once. At the end of the time the VACUUM goes on without who asked."""
        engine = self._engine
        all_of_them = engine.settings.vacuum_timeout * len(engine.members) + SLACK_S
        timeout_s = timeout_s or all_of_them
        if engine.is_leader:
            self._join(done, timeout_s)
            return
        leader = engine.leader
        if leader is None:
            done(None, NoLeader())
            return

        def answered(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            refusal = None if value is None else refusal_of(value)
            if refusal is not None:
                done(None, refusal)
                return
            try:
                done(msgspec.convert(value, type=VacuumReport), None)
            except msgspec.ValidationError:
                text = f"the leader at {leader.raft_addr} did not answer: {error}"
                done(None, Unavailable(text, fate=Fate.UNKNOWN))

        engine.network.ask(
            leader.raft_addr,
            {"vacuum": "all", "timeout_s": timeout_s},
            answered,
            timeout_s=timeout_s + engine.settings.peer_connect_timeout,
        )

    def asked(
        self, question: Mapping[str, Any], answer: Callable[[Mapping[str, object]], None]
    ) -> None:
        """A question of another node: for a VACUUM of all (`"all"`), or how far this node is with
        the one of a token, which begins it."""
        engine = self._engine
        what, timeout_s = question.get("vacuum"), question.get("timeout_s", 0.0)
        if not isinstance(what, str) or not isinstance(timeout_s, int | float):
            answer({"error": "RequestError", "text": "a question that no node asks"})
        elif what != "all":
            if engine.vacuum.progress.token != what:
                engine.vacuum.begin(what)
            answer(msgspec.to_builtins(engine.vacuum.progress))
        elif not engine.is_leader:
            answer({"error": "Unavailable", "text": "not the leader", "fate": "NOT_APPLIED"})
        else:

            def vacuumed(report: VacuumReport | None, error: RsqliteError | None) -> None:
                if report is not None:
                    answer(msgspec.to_builtins(report))
                else:
                    fate = Fate.UNKNOWN if error is None else error.fate
                    answer({"error": "Unavailable", "text": str(error), "fate": fate.name})

            self._join(vacuumed, float(timeout_s))

    def stop(self, error: RsqliteError) -> None:
        """Answer everybody."""
        one, self._round = self._round, None
        for _, done in () if one is None else one.waiting:
            done(None, error)

    def sweep(self, now: float) -> None:
        """Ask whose turn it is, answer whoever waits, begin one when it is time."""
        engine = self._engine
        one = self._round
        if one is not None:
            self._carry_on(one, now)
        elif engine.settings.auto_vacuum_int and engine.is_leader and self._is_due():
            self._begin()

    def _is_due(self) -> bool:
        wall = self._engine.loop.wall()
        if self._next_own is None or wall >= self._next_own:
            # Another leader may have begun one since.
            last = noted_compact(self._engine.machine.path)
            if last is not None:
                self._next_own = last + self._interval
            elif self._next_own is None:
                self._next_own = wall + self._interval
        return wall >= self._next_own

    @property
    def _interval(self) -> float:
        return self._engine.settings.auto_vacuum_int

    def _join(self, done: Vacuumed, timeout_s: float) -> None:
        one = self._round or self._begin()
        if len(one.waiting) >= self._engine.settings.maintenance_waiting_max:
            done(None, Overloaded("too many wait for the end of this VACUUM"))
        else:
            one.waiting.append((self._engine.loop.monotonic() + timeout_s, done))

    def _begin(self) -> Round:
        engine = self._engine
        assert engine.core is not None
        self._count += 1
        term = engine.core.current_term
        own = engine.node_id
        members = sorted(engine.members, key=lambda one: (one.node_id == own, one.label))
        self._round = Round(f"{term}-{own}-{self._count}", term, members)
        log.info("VACUUM of all nodes begins", extra={"nodes": [one.label for one in members]})
        return self._round

    def _carry_on(self, one: Round, now: float) -> None:
        engine = self._engine
        core = engine.core
        if core is None or not engine.is_leader or core.current_term != one.term:
            text = "another node leads now, and the VACUUM ended halfway: ask again"
            self.stop(LeadershipLost(text, fate=Fate.UNKNOWN))
            return
        for waiting in [each for each in one.waiting if each[0] <= now]:
            one.waiting.remove(waiting)
            waiting[1](None, TimedOut("the VACUUM takes longer, and goes on", fate=Fate.UNKNOWN))
        # Those that have left are left out; those that have moved are asked where they are now.
        members = {member.node_id: member for member in engine.members}
        one.left = [members[left.node_id] for left in one.left if left.node_id in members]
        if not one.left:
            self._end(one)
        elif now >= one.next_question:
            one.next_question = now + ASK_PAUSE_S
            self._ask(one, one.left[0])

    def _ask(self, one: Round, member: Member) -> None:
        engine = self._engine

        def answered(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            if self._round is not one or not one.left or one.left[0].node_id != member.node_id:
                return
            try:
                progress = msgspec.convert(value, type=Progress)
            except msgspec.ValidationError:
                one.silences += 1
                if one.silences >= SILENCES_MAX:
                    text = str(error) if value is None else str(value.get("text", "no answer"))
                    self._next(one, NodeVacuum(label=member.label, step="silent", error=text))
                return
            one.silences = 0
            if progress.is_final and progress.token == one.token:
                self._next(
                    one,
                    NodeVacuum(
                        label=member.label,
                        step=progress.step.value,
                        bytes_before=progress.bytes_before,
                        bytes_after=progress.bytes_after,
                        seconds=progress.seconds,
                        error=progress.error,
                    ),
                )

        if member.node_id == engine.node_id:
            if engine.vacuum.progress.token != one.token:
                engine.vacuum.begin(one.token)
            answered(msgspec.to_builtins(engine.vacuum.progress), None)
        else:
            ask_member(engine, member, {"vacuum": one.token}, answered)

    def _next(self, one: Round, ended: NodeVacuum) -> None:
        one.ended.append(ended)
        one.silences = 0
        one.next_question = 0.0
        del one.left[0]

    def _end(self, one: Round) -> None:
        self._round = None
        self._next_own = self._engine.loop.wall() + self._interval
        report = VacuumReport(nodes=tuple(one.ended))
        level = logging.INFO if report.is_complete else logging.WARNING
        steps = {node.label: node.step for node in report.nodes}
        log.log(level, "VACUUM of all nodes ended", extra={"nodes": steps})
        for _, done in one.waiting:
            done(report, None)
