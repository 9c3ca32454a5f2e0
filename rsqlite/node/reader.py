"""Brings each read to the freshness it asks for, then runs it (design 10).

none          here and now, if the copy is not older than `freshness_s` allows
weak          on the leader (the node forwards it when it does not lead)
linearizable  on any node: ask the leader for an index, wait until it is applied here
strong        as linearizable; the no-op of the leader's term is committed first in either case
`min_index`   at any level: wait until the index is applied here

All reads that arrive in one turn of the loop share one ReadIndex round.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from rsqlite.config import Settings
from rsqlite.errors import Fate, NoLeader, Overloaded, RsqliteError, StaleRead, Stopped, TimedOut
from rsqlite.node.driver import Driver
from rsqlite.ports import Loop
from rsqlite.raft.output import ReadState
from rsqlite.raft.types import Index, Role
from rsqlite.request import Done, ReadLevel, Request
from rsqlite.statemachine.machine import StateMachine

Confirmed = Callable[[Index | None], None]


class Reader:
    """Waits for indices and runs reads on the read-only connections."""

    def __init__(self, *, machine: StateMachine, loop: Loop, settings: Settings) -> None:
        self._machine = machine
        self._loop = loop
        self._settings = settings
        self._driver: Driver | None = None
        self._contexts = itertools.count(1)
        self._next_round: list[tuple[float, Confirmed]] = []
        self._is_scheduled = False
        self._rounds: dict[int, list[tuple[float, Confirmed]]] = {}
        self._by_index: list[tuple[Index, int, float, Callable[[RsqliteError | None], None]]] = []
        self._order = itertools.count()
        self._behind: tuple[Index, float] | None = None
        """An index not yet applied here, and since when it is known to be committed."""
        self._on_waiting: Callable[[], None] = lambda: None
        self._readable_index: Callable[[], Index] = lambda: self._machine.applied_index
        self._unconfirmed = 0
        """Reads that wait for a confirmation, in a round or between two."""
        self.fault: RsqliteError | None = None
        self.reads = 0
        self.rounds = 0

    def __repr__(self) -> str:
        return f"<Reader rounds={len(self._rounds)} waiting={len(self._by_index)}>"

    def wire(
        self,
        driver: Driver,
        on_waiting: Callable[[], None],
        readable_index: Callable[[], Index],
    ) -> None:
        """Tell the reader of the parts that are made after it. `on_waiting` is called when somebody
        begins to wait for an index; up to `readable_index` a read finds all effects."""
        self._driver = driver
        self._on_waiting = on_waiting
        self._readable_index = readable_index

    def use(self, machine: StateMachine) -> None:
        """Go on with this database, which is as far as the one before it."""
        self._machine = machine

    @property
    def is_waiting_for_index(self) -> bool:
        """Does anybody wait for something to be applied?"""
        return bool(self._by_index)

    @property
    def waiting(self) -> int:
        """Reads that wait for a confirmation or for an index."""
        return self._unconfirmed + len(self._by_index)

    def submit(self, request: Request, done: Done, deadline: float) -> None:
        """Run a read at its level; AUTO and a forwarded WEAK are the node's to resolve."""
        if self.fault is not None:
            done(self.fault)
            return
        self.reads += 1
        level = request.level
        if level >= ReadLevel.LINEARIZABLE:
            self._submit_linearizable(request, done, deadline)
            return
        if level is ReadLevel.NONE and request.freshness_s > 0 and self._is_stale(request):
            done(StaleRead())
            return
        if request.min_index > self._readable_index():
            self._when_applied(request, Index(request.min_index), done, deadline)
            return
        self._machine.query(request, done)

    def confirm(self, answer: Callable[[bool], None]) -> None:
        """Ask whether this node still leads: True once a round that began after this call is
        acknowledged by a majority."""
        deadline = self._loop.monotonic() + self._settings.linearizable_timeout
        self._unconfirmed += 1

        def answered(index: Index | None) -> None:
            self._unconfirmed -= 1
            answer(index is not None)

        self._ask(deadline, answered)

    def confirmed(self, reads: tuple[ReadState, ...]) -> None:
        """The core's answers to `read_index`."""
        for read in reads:
            for _, answer in self._rounds.pop(read.context, ()):
                answer(read.index)

    def when_applied(self, index: int, deadline: float, then: Callable[[], None]) -> None:
        """Call `then` once `index` is applied here, at the deadline at the latest; at once, where
        nobody will see to it any more."""
        if self.fault is not None or index <= self._readable_index():
            then()
            return
        self._wait(Index(index), deadline, lambda error: then())

    def applied(self, index: Index) -> None:
        """Wake the reads that waited for `index` or less."""
        waiting = self._by_index
        while waiting and waiting[0][0] <= index:
            heapq.heappop(waiting)[3](None)

    def _submit_linearizable(self, request: Request, done: Done, deadline: float) -> None:
        if self.waiting_exceeds_bound():
            done(Overloaded("too many reads are waiting"))
            return
        patience = request.linearizable_timeout_s or self._settings.linearizable_timeout
        now = self._loop.monotonic()
        deadline = min(deadline, now + patience)
        leader_deadline = min(deadline, now + self._settings.leader_wait)

        def answer(index: Index | None) -> None:
            now = self._loop.monotonic()
            if index is None and self.fault is None and now < leader_deadline:
                # No leader could confirm: an election may be under way. Ask again soon.
                pause = self._settings.raft_heartbeat
                self._loop.call_later(pause, self._ask, deadline, answer)
                return
            self._unconfirmed -= 1
            if self.fault is not None:
                done(self.fault)
            elif index is None:
                done(NoLeader())
            elif (wanted := max(index, Index(request.min_index))) <= self._readable_index():
                self._machine.query(request, done)
            else:
                self._when_applied(request, wanted, done, deadline)

        self._unconfirmed += 1
        self._ask(deadline, answer)

    def waiting_exceeds_bound(self) -> bool:
        """True when no further read may wait."""
        return self.waiting >= self._settings.read_queue_max

    def _ask(self, deadline: float, answer: Confirmed) -> None:
        if self.fault is not None:
            answer(None)
            return
        self._next_round.append((deadline, answer))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._launch)

    def _launch(self) -> None:
        self._is_scheduled = False
        group, self._next_round = self._next_round, []
        if self._driver is None:
            for _, answer in group:
                answer(None)
            return
        context = next(self._contexts)
        self._rounds[context] = group
        self.rounds += 1
        self._driver.read_index(context)

    def _when_applied(self, request: Request, index: Index, done: Done, deadline: float) -> None:
        if self.waiting_exceeds_bound():
            done(Overloaded("too many reads are waiting"))
            return

        def reached(error: RsqliteError | None) -> None:
            if error is not None:
                done(error)
            else:
                self._machine.query(request, done)

        self._wait(index, deadline, reached)

    def _wait(
        self, index: Index, deadline: float, then: Callable[[RsqliteError | None], None]
    ) -> None:
        heapq.heappush(self._by_index, (index, next(self._order), deadline, then))
        self._on_waiting()

    def _is_stale(self, request: Request) -> bool:
        """rqlite's rule: never on the leader; else by the time since the leader was heard, and
        with `freshness_strict` also by how long this copy has been behind what it knows."""
        driver = self._driver
        if driver is None:
            return True
        if driver.core.role is Role.LEADER:
            return False
        now = self._loop.monotonic()
        if driver.core.leader_id is None or now - driver.leader_contact_s > request.freshness_s:
            return True
        if not request.freshness_strict or self._behind is None:
            return False
        index, since = self._behind
        return self._machine.applied_index < index and now - since > request.freshness_s

    def sweep(self, now: float) -> None:
        """Answer reads over their deadline; note since when this copy is behind."""
        driver = self._driver
        applied_index = self._machine.applied_index
        if self._behind is not None and self._behind[0] <= applied_index:
            self._behind = None
        if self._behind is None and driver is not None and driver.core.commit_index > applied_index:
            self._behind = driver.core.commit_index, now
        for context, group in list(self._rounds.items()):
            late = [answer for deadline, answer in group if deadline <= now]
            if late:
                self._rounds[context] = [one for one in group if one[0] > now]
                for answer in late:
                    answer(None)
        if any(item[2] <= now for item in self._by_index):
            late_items = [item for item in self._by_index if item[2] <= now]
            self._by_index = [item for item in self._by_index if item[2] > now]
            heapq.heapify(self._by_index)
            for item in late_items:
                item[3](TimedOut("timeout waiting for the index", fate=Fate.NOT_APPLIED))

    def stop(self, error: RsqliteError | None = None) -> None:
        """Answer everybody who waits, and all who come later."""
        self.fault = error or Stopped("the node is stopping")
        waiting, self._by_index = self._by_index, []
        for item in waiting:
            item[3](self.fault)
        rounds, self._rounds = self._rounds, {}
        late, self._next_round = self._next_round, []
        for group in [*rounds.values(), late]:
            for _, answer in group:
                answer(None)
