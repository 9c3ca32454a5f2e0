"""Do all nodes hold the same content? Asked by an operator, or as often as a setting says.

The leader appends an entry of the kind CHECK. Whoever comes to it, in its turn among all others,
hashes the content as of that index (`statemachine/content.py`) while it goes on, and asks the
others what they found. A content that a quorum of the voters shares is right: a node with another
one gives its database up, the leader too, and fetches theirs (design 6). Nobody is believed alone.

A database that came as an image is like that of its sender, and would be wrong with it: where the
contents differ it does not count. So its node asks for a check soon, and counts once all voters
were found alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from rsqlite.errors import (
    DamagedDatabase,
    Divergence,
    Fate,
    NoLeader,
    NotLeader,
    Overloaded,
    RsqliteError,
    TimedOut,
    Unavailable,
)
from rsqlite.node.findings import (
    Finding,
    Report,
    Round,
    Verified,
    finding_of,
    node_report,
    shared_content,
)
from rsqlite.node.membership import refusal_of
from rsqlite.node.questions import ask_member
from rsqlite.raft.types import EntryKind, Index, NodeId
from rsqlite.statemachine.content import Content

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

ASK_PAUSE_S = 0.25
"""Pause between two rounds of questions."""
SILENCES_MAX = 8
"""So many questions in a row without an answer, and a node is not waited for any more."""
KEPT_MAX = 4
"""Checks whose result is remembered."""
TELL_S = 4 * ASK_PAUSE_S
"""A node that is found to differ answers the others for so long before it gives its database up."""

LOOK_PAUSE_S = 30.0
LOOK_PAUSE_MAX_S = 3600.0
"""Pause before a node with a copy asks for another check, doubled each time up to the second."""

Begun = Callable[["Index | None", "RsqliteError | None"], None]


class ContentChecks:
    """Those of one node. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own: dict[Index, Finding] = {}
        self._rounds: dict[Index, Round] = {}
        self._next_check = engine.loop.monotonic() + engine.settings.verify_interval
        self._next_look = 0.0
        self._look_pause = LOOK_PAUSE_S
        self._earlier = Index(0)
        self._proposed = Index(0)
        """The last check that this node began, as leader."""
        self._next: list[tuple[float, Begun]] = []
        """Who waits for the next one."""
        self.last: Report | None = None
        """What came of the last check that ended here."""

    def __repr__(self) -> str:
        return f"<ContentChecks {sorted(self._own)} open={sorted(self._rounds)}>"

    def began(self, last_index: Index) -> None:
        """The node begins with this log: nobody waits for checks of an earlier life."""
        self._earlier = last_index
        self._proposed = Index(0)

    def replaced(self) -> None:
        """Another database is here, of which nothing was found yet."""
        self._own.clear()

    def reached(self, index: Index) -> None:
        """From the applier: the database is as of this CHECK entry, and nothing runs on it now."""
        engine = self._engine
        began = engine.loop.monotonic()
        self._next_check = began + engine.settings.verify_interval
        met = engine.driver.commit_index_met if engine.driver else 0
        if index in self._own or index <= max(self._earlier, met):
            return  # the others are done with it, and may have forgotten what they found
        self._own[index] = Finding(state="running")
        while len(self._own) > KEPT_MAX:
            del self._own[min(self._own)]

        def hashed(content: Content | None, error: BaseException | None) -> None:
            seconds = engine.loop.monotonic() - began
            if content is None:
                finding = Finding(state="failed", error=str(error), seconds=seconds)
            else:
                finding = finding_of(content, seconds, is_copy=engine.installer.origin.is_copy)
            if index in self._own:
                self._own[index] = finding
            log.info("content hashed", extra={"index": index, "state": finding.state})

        engine.machine.hash_content(hashed)
        self._round(index)

    def stop(self, error: RsqliteError) -> None:
        """Answer everybody."""
        unbegun, self._next = self._next, []
        for _, begun in unbegun:
            begun(None, error)
        for one in self._rounds.values():
            for _, done in one.waiting:
                done(None, error)
            one.waiting.clear()

    # Asked for

    def verify(self, done: Verified, timeout_s: float = 0.0) -> None:
        """Have a check made, and report what came of it: when every node has answered, or at the
        end of the time with those that have."""
        engine = self._engine
        timeout_s = timeout_s or engine.settings.verify_timeout
        deadline = engine.loop.monotonic() + timeout_s

        def begun(index: Index | None, error: RsqliteError | None) -> None:
            if index is None:
                done(None, error)
            elif len(self._round(index).waiting) >= engine.settings.maintenance_waiting_max:
                done(None, Overloaded("too many wait for this check"))
            else:
                self._round(index).waiting.append((deadline, done))

        if engine.is_leader:
            self._begin(begun, deadline)
            return
        leader = engine.leader
        if leader is None:
            done(None, NoLeader())
            return

        def answered(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            refusal = None if value is None else refusal_of(value)
            index = None if value is None else value.get("index")
            if refusal is not None:
                done(None, refusal)
            elif not isinstance(index, int):
                text = f"the leader at {leader.raft_addr} did not answer: {error}"
                done(None, Unavailable(text, fate=Fate.UNKNOWN))
            else:
                begun(Index(index), None)

        question = {"content": "begin", "timeout_s": timeout_s}
        engine.network.ask(leader.raft_addr, question, answered, timeout_s=timeout_s)

    def asked(
        self, question: Mapping[str, Any], answer: Callable[[Mapping[str, object]], None]
    ) -> None:
        """A question of another node: to begin a check, or what was found at an index."""
        what, timeout_s = question["content"], question.get("timeout_s", 0.0)
        if what == "begin" and isinstance(timeout_s, int | float):

            def begun(index: Index | None, error: RsqliteError | None) -> None:
                refusal = {"error": "Unavailable", "text": str(error), "fate": "NOT_APPLIED"}
                answer(refusal if index is None else {"index": index})

            engine = self._engine
            timeout_s = min(float(timeout_s), engine.settings.verify_timeout)
            self._begin(begun, engine.loop.monotonic() + timeout_s)
        elif type(what) is int:
            answer(msgspec.to_builtins(self._finding(Index(what))))
        else:
            answer({"error": "RequestError", "text": "the index of an entry is a number"})

    def _begin(self, begun: Begun, deadline: float) -> None:
        """Append a CHECK entry, after the check that goes on: a second one at the same time would
        break off what the nodes are at."""
        if not self._engine.is_leader:
            begun(None, NotLeader())
        elif len(self._next) >= self._engine.settings.maintenance_waiting_max:
            begun(None, Overloaded("too many checks are asked for"))
        else:
            self._next.append((deadline, begun))
            self._begin_next()

    def _begin_next(self) -> None:
        """The next check, for all who wait for one, if none goes on."""
        if not self._next or self._is_running:
            return
        waiting, self._next = self._next, []
        index = self._propose() if self._engine.is_leader else None
        error = Unavailable("the leader cannot append an entry now")
        for _, begun in waiting:
            begun(index, None if index is not None else error)

    @property
    def _is_running(self) -> bool:
        """A check has not come to its end, be it of a leader before this one."""
        return bool(self._rounds) or self._proposed > self._engine.machine.applied_index

    def _propose(self) -> Index | None:
        driver = self._engine.driver
        entry_id = None if driver is None else driver.core.propose(b"", EntryKind.CHECK)
        if driver is None or entry_id is None:
            return None
        log.info("the content is checked", extra={"index": entry_id.index})
        self._proposed = entry_id.index
        driver.pump()
        return entry_id.index

    def _finding(self, index: Index) -> Finding:
        own = self._own.get(index)
        if own is not None and own.state == "running" and not self._engine.machine.is_hashing:
            return Finding(state="failed", error="broken off")
        if own is not None:
            return own
        applied = self._engine.machine.applied_index
        is_ahead = index > applied and not self._engine.installer.is_without_database
        return Finding(state="waiting" if is_ahead else "none")

    # Asking the others

    def _round(self, index: Index) -> Round:
        found = self._rounds.get(index)
        if found is None:
            found = self._rounds[index] = Round(index, self._engine.loop.monotonic())
        return found

    def sweep(self, now: float) -> None:
        """Begin a check when it is time, ask the others, answer whoever waits."""
        engine = self._engine
        if engine.settings.verify_interval and now >= self._next_check and engine.is_leader:
            self._next_check = now + engine.settings.verify_interval
            if not self._is_running:
                self._propose()
        for waiting in [each for each in self._next if each[0] <= now or not engine.is_leader]:
            self._next.remove(waiting)
            late = TimedOut("another check took too long", fate=Fate.NOT_APPLIED)
            waiting[1](None, late if engine.is_leader else NotLeader())
        self._begin_next()
        if not engine.installer.origin.is_copy:
            self._next_look, self._look_pause = 0.0, LOOK_PAUSE_S
        elif engine.is_synced and now >= self._next_look:
            self._next_look = now + self._look_pause
            self._look_pause = min(self._look_pause * 2, LOOK_PAUSE_MAX_S)
            self.verify(lambda *_: None)
        for one in list(self._rounds.values()):
            self._carry_on(one, now)

    def _carry_on(self, one: Round, now: float) -> None:
        engine = self._engine
        if engine.core is None or engine.fault is not None:
            return
        one.found[engine.node_id] = self._finding(one.index)
        members = engine.members
        complete = all(self._is_done_with(one, member.node_id) for member in members)
        if complete or now - one.began > engine.settings.verify_timeout:
            self._end(one)
            return
        late = [waiting for waiting in one.waiting if waiting[0] <= now]
        for waiting in late:
            one.waiting.remove(waiting)
            report = self._report(one)
            if any(node.finding is not None for node in report.nodes):
                waiting[1](report, None)
            else:
                waiting[1](None, TimedOut("nobody has come to the check in time"))
        if now >= one.next_question:
            one.next_question = now + ASK_PAUSE_S
            for member in members:
                if member.node_id != engine.node_id and not self._is_final(one, member.node_id):
                    answered = partial(self._answered, one, member.node_id)
                    ask_member(engine, member, {"content": one.index}, answered)

    def _is_final(self, one: Round, node_id: NodeId) -> bool:
        found = one.found.get(node_id)
        return found is not None and found.is_final

    def _is_done_with(self, one: Round, node_id: NodeId) -> bool:
        return self._is_final(one, node_id) or one.silences.get(node_id, 0) >= SILENCES_MAX

    def _answered(
        self,
        one: Round,
        node_id: NodeId,
        value: Mapping[str, Any] | None,
        error: BaseException | None,
    ) -> None:
        try:
            finding = msgspec.convert(value, type=Finding)
        except msgspec.ValidationError:
            one.silences[node_id] = one.silences.get(node_id, 0) + 1
            return
        one.silences[node_id] = 0
        one.found[node_id] = finding
        if self._rounds.get(one.index) is one:
            self._settle(one)

    def _settle(self, one: Round) -> None:
        """Give this node's database up if a quorum shares another content. Not while two releases
        live together: another SQLite may word what it finds differently. Nor if it was removed:
        there is nobody to get another one from."""
        engine = self._engine
        configuration = None if engine.core is None else engine.core.configuration
        if (
            configuration is None
            or configuration.upgrade is not None
            or configuration.member(engine.node_id) is None
        ):
            return
        own = one.found[engine.node_id] = self._finding(one.index)
        chosen = self._chosen(one)
        is_sick = chosen not in (None, own.digest) and own.state == "done"
        if not is_sick or one.is_settled or engine.fault is not None or engine.is_stopping:
            return
        one.is_settled = True
        (report,) = (node for node in self._report(one).nodes if node.node_id == engine.node_id)
        self._end(one)
        tables = f" (tables {', '.join(report.tables)})" if report.tables else ""
        reason = (
            f"content check at index {one.index}: a majority has other content than this"
            f" node{tables}"
        )
        log.error(reason)
        # At once: this process may not live to give it up.
        engine.installer.note(DamagedDatabase(reason), wants_image=True)
        # It serves nothing from now on, and tells the others what it found, while they ask.
        fault = Divergence(reason)
        engine.fail(fault)

        def give_up() -> None:
            if engine.fault is fault and not engine.is_stopping:
                engine.give_up_database(reason)

        engine.loop.call_later(TELL_S, give_up)

    def _end(self, one: Round) -> None:
        self._settle(one)
        if self._rounds.pop(one.index, None) is None:
            return
        self.last = report = self._report(one)
        if report.is_alike(self._engine.node_id):
            self._engine.installer.origin.found_alike(one.index)
        level = logging.INFO if report.agreed else logging.ERROR
        log.log(
            level,
            "content checked",
            extra={
                "index": report.index,
                **{node.label: node.verdict for node in report.nodes},
            },
        )
        for _, done in one.waiting:
            done(report, None)
        one.waiting.clear()

    def _chosen(self, one: Round) -> str | None:
        core = self._engine.core
        assert core is not None
        return shared_content(core.configuration, one.found)

    def _report(self, one: Round) -> Report:
        chosen = self._chosen(one)
        model = next((found for found in one.found.values() if found.digest == chosen), None)
        core = self._engine.core
        voters = frozenset() if core is None else core.configuration.voters
        nodes = tuple(
            node_report(member, one.found.get(member.node_id), model, voters)
            for member in self._engine.members
        )
        return Report(
            index=one.index,
            agreed=chosen is not None and not any(node.verdict == "differs" for node in nodes),
            complete=all(node.verdict != "no answer" for node in nodes),
            nodes=nodes,
        )
