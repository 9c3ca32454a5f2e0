"""Group commit: collect, speculate, propose, answer (design 4).

One batch is outstanding at a time; while it replicates the next one collects, without a timer. The
write slot is a fair queue: requests run in the order they came. A request's life:

    queued → speculated → proposed as (term, index) → committed: the outcome is true, answered
                                                    → leadership lost: the log decides
           → no effect: answered once a ReadIndex round confirms that what it saw was true

After leadership is lost a proposed request is answered by what the log holds at its index: another
term there means certainly not applied, the same means applied; until then it waits, and at its
deadline its fate is unknown.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable

from rsqlite.config import Settings
from rsqlite.errors import (
    MAYBE,
    DiskFull,
    Fate,
    LeadershipLost,
    NotLeader,
    Overloaded,
    RsqliteError,
    Stopped,
    TimedOut,
)
from rsqlite.node.driver import Driver
from rsqlite.node.gathering import LOOK_INTERVAL_S, Gathering
from rsqlite.ports import Loop
from rsqlite.raft.types import Configuration, Entry, EntryId, Index, Role
from rsqlite.request import Answer, Done, Outcome, Request
from rsqlite.statemachine import results
from rsqlite.statemachine.machine import Batch, StateMachine

log = logging.getLogger(__name__)

Committed = Callable[[Index, BaseException | None], None]


class Waiting:
    """A request, whom to answer, and until when."""

    __slots__ = ("deadline", "done", "request")

    def __init__(self, request: Request, done: Done, deadline: float) -> None:
        self.request = request
        self.done = done
        self.deadline = deadline


class Proposed:
    """A batch whose entry is in the log."""

    __slots__ = ("entry_id", "is_long", "outcomes", "waiting")

    def __init__(
        self, entry_id: EntryId, waiting: list[Waiting], outcomes: list[Answer], *, is_long: bool
    ) -> None:
        self.entry_id = entry_id
        self.is_long = is_long
        self.waiting = waiting
        self.outcomes = outcomes


class Writer:
    """Owns the leader's write slot. `resubmit` takes requests that were certainly not applied and
    may be sent to the next leader."""

    def __init__(
        self,
        *,
        machine: StateMachine,
        loop: Loop,
        settings: Settings,
        resubmit: Callable[[Request, Done, float], None],
        on_failed: Callable[[BaseException], None],
        check_room: Callable[[int], RsqliteError | None],
        is_behind: Callable[[], bool],
    ) -> None:
        """`is_behind` says that committed commands are not applied yet, for want of room."""
        self._machine = machine
        self._loop = loop
        self._settings = settings
        self._resubmit = resubmit
        self._on_failed = on_failed
        self._check_room = check_room
        self._is_behind = is_behind
        self._driver: Driver | None = None
        self._on_slot_free: Callable[[], None] = lambda: None
        self._read_index: Callable[[Callable[[bool], None]], None] | None = None
        self._queue: deque[Waiting] = deque()
        self._long: deque[Waiting] = deque()
        self._running_long: list[Waiting] = []
        self._proposed: Proposed | None = None
        self._commit_due: tuple[Proposed, Configuration | None, Committed] | None = None
        """A COMMIT that waits for its client's answer to leave."""
        self.is_ahead_of_file = False
        """A write has been answered whose COMMIT has not ended: threads beside the loop, which
        look at the file alone, do not see it yet."""
        self._orphans: dict[Index, Proposed] = {}
        self._suspects = 0
        """So many at the front of the queue run each in a batch of its own: one of them raised."""
        self._is_scheduled = False
        self._is_rolling_back = False
        self._is_reclaiming = False
        self._is_reclaim_due = False
        self._is_stopped = False
        self.is_held = False
        """No batch is begun."""
        self._gathering = Gathering(settings.batch_gather_max)
        self._is_gather_armed = False
        self._generation = itertools.count(1)
        self._slot = 0
        self.batches = 0
        self.requests = 0
        self.rollbacks = 0

    def __repr__(self) -> str:
        return f"<Writer queued={len(self._queue)} proposed={self.entry_id}>"

    def wire(
        self,
        driver: Driver,
        confirm: Callable[[Callable[[bool], None]], None],
        on_slot_free: Callable[[], None],
    ) -> None:
        """Tell the writer of the parts that are made after it."""
        self._driver = driver
        self._read_index = confirm
        self._on_slot_free = on_slot_free

    def use(self, machine: StateMachine) -> None:
        """Go on with this database, which is as far as the one before it."""
        self._machine = machine

    @property
    def entry_id(self) -> EntryId | None:
        """The entry whose effects the open transaction holds, once it is proposed."""
        return None if self._proposed is None else self._proposed.entry_id

    @property
    def holds_slot(self) -> bool:
        """True while nobody else may write: a speculation is open or being taken back, or the WAL
        file is being cut."""
        return (
            self._proposed is not None
            or bool(self._running_long)
            or self._is_rolling_back
            or self._is_reclaiming
        )

    @property
    def waiting(self) -> int:
        """Requests not yet run."""
        return len(self._queue) + len(self._long)

    def submit(self, request: Request, done: Done, deadline: float) -> None:
        """Queue a request; `Overloaded` at once when the queue is full."""
        if self.waiting >= self._settings.write_queue_max:
            done(Overloaded("too many writes are waiting"))
            return
        (self._long if request.is_long else self._queue).append(Waiting(request, done, deadline))
        if self._proposed is None and not self._is_scheduled:
            if self._gathering.goal > len(self._queue):
                return  # more are on their way; `_arm_gather` watches the time
            self.schedule()

    def schedule(self) -> None:
        """Run a batch in the next turn, so that all requests read in this one share it."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._gathering.end(len(self._queue))
        driver = self._driver
        if driver is None or self._is_stopped or self.holds_slot or not driver.core.is_ready:
            return
        if self.is_held:
            return  # whoever holds it calls `schedule` in the end
        if driver.core.is_transferring:
            return  # for the next leader; or for us, if it is given up: `sweep` looks
        if not self._queue and not self._long:
            return
        if self._is_reclaim_due and self._reclaim():
            return
        refusal = self._check_room(0)
        if refusal is not None:
            self._refuse_all(refusal)
        elif self._is_behind():
            return  # `sweep` looks again
        elif self._long:
            self._run_long(self._long.popleft())
        else:
            self._run_batch(self._take())

    def _take(self) -> list[Waiting]:
        """The next requests in order, as many as the bounds of a batch allow."""
        now = self._loop.monotonic()
        taken: list[Waiting] = []
        statements = 0
        queue = self._queue
        requests_max = 1 if self._suspects else self._settings.batch_requests_max
        self._suspects = max(0, self._suspects - 1)
        while queue and len(taken) < requests_max:
            size = len(queue[0].request.sqls)
            if taken and statements + size > self._settings.batch_statements_max:
                break
            waiting = queue.popleft()
            if waiting.deadline <= now:
                waiting.done(TimedOut("the write waited too long", fate=Fate.NOT_APPLIED))
                continue
            statements += size
            taken.append(waiting)
        self._gathering.statements = statements
        return taken

    def _run_batch(self, taken: list[Waiting]) -> None:
        if not taken:
            return
        try:
            batch = self._machine.speculate([waiting.request for waiting in taken])
        except Exception as error:  # noqa: BLE001 - told apart there
            self._could_not_run(error, taken)
            return
        self._sort_out(batch, taken)

    def _run_long(self, waiting: Waiting) -> None:
        self._running_long = [waiting]
        slot = self._slot = next(self._generation)

        def done(batch: Batch | None, error: BaseException | None) -> None:
            if slot != self._slot:
                return  # leadership was lost meanwhile; `lose` has answered
            self._running_long = []
            if error is not None or batch is None:
                self._could_not_run(error or Stopped("no batch"), [waiting])
            else:
                self._sort_out(batch, [waiting], is_long=True)
            if not self.holds_slot:
                self._on_slot_free()  # what was committed meanwhile is applied

        self._machine.speculate_long(waiting.request, done)

    def _sort_out(self, batch: Batch, taken: list[Waiting], *, is_long: bool = False) -> None:
        """Put back what the batch did not take, propose what took effect, confirm the rest."""
        ran: list[Waiting] = []
        outcomes: list[Answer] = []
        long = set(batch.over_budget)
        put_back: list[Waiting] = []
        for position, (waiting, outcome) in enumerate(zip(taken, batch.outcomes, strict=True)):
            if position in long:
                waiting.request.is_long = True  # for the next leader, too
                self._long.append(waiting)
            elif outcome is None:
                put_back.append(waiting)
            else:
                ran.append(waiting)
                outcomes.append(outcome)
        self._queue.extendleft(reversed(put_back))
        self.batches += 1
        self.requests += len(ran)
        if batch.data is None:
            for outcome in outcomes:
                if type(outcome) is Outcome:
                    outcome.index = self._machine.applied_index
            self._confirm(ran, outcomes)
            self._next()
        else:
            self._propose(batch.data, ran, outcomes, is_long)

    def _propose(
        self, data: bytes, ran: list[Waiting], outcomes: list[Answer], is_long: bool
    ) -> None:
        assert self._driver is not None
        core = self._driver.core
        no_room = self._check_room(len(data))
        if no_room is not None:
            self._roll_back()
            for waiting in ran:
                waiting.done(no_room)
            return
        # The entry's index is known before it is sent, so the batch is in place when the commit
        # comes back, even from within the same pump.
        entry_id = core.propose(data)
        if entry_id is None:
            self._roll_back()
            if core.is_transferring:
                (self._long if is_long else self._queue).extendleft(reversed(ran))
                return
            refusal: RsqliteError = NotLeader(leader_id=core.leader_id)
            if core.role is Role.LEADER:
                refusal = Overloaded("too much is waiting to be committed")
            for waiting in ran:
                waiting.done(refusal)
            return
        self._proposed = Proposed(entry_id, ran, outcomes, is_long=is_long)
        self._driver.is_write_alone = len(ran) == 1 and not self._queue
        self._driver.pump()

    def commit(
        self,
        configuration: Configuration | None,
        done: Committed,
    ) -> None:
        """The entry of the open batch is committed. If more clients wait, COMMIT, launch the next
        batch, and only then write the answers (performance.md 10: 25 % at 64 clients). If all who
        are there are in this batch, they have their answers first, and COMMIT runs while they
        think, before anything that they send is read."""
        proposed = self._proposed
        assert proposed is not None
        count, queued = len(proposed.waiting), len(self._queue)
        gathers = self._gathering.is_worth_it(count, queued)
        is_early = gathers or (count == 1 and not queued)
        if not is_early or proposed.is_long or self._long:
            self._commit(proposed, configuration, done)
            return
        self._commit_due = proposed, configuration, done
        self.is_ahead_of_file = True
        # Before the answers, which may queue callbacks that read.
        self._loop.call_soon(self.commit_now)
        answered = Proposed(proposed.entry_id, proposed.waiting, proposed.outcomes, is_long=False)
        proposed.waiting, proposed.outcomes = [], []
        if gathers:
            self._gathering.begin(self._loop.monotonic(), count + queued)
        self._answer_batch(answered)
        if gathers and not self._is_gather_armed:
            self._arm_gather()

    def commit_now(self) -> None:
        """COMMIT what was put off for its client's answer, if something is."""
        if self._commit_due is None:
            return
        due, self._commit_due = self._commit_due, None
        try:
            self._commit(*due)
        except Exception as error:  # noqa: BLE001 - whose request comes next is not to blame for it
            self._on_failed(error)

    def _commit(
        self,
        proposed: Proposed,
        configuration: Configuration | None,
        done: Committed,
    ) -> None:
        def committed(error: BaseException | None) -> None:
            self._proposed = None
            self.is_ahead_of_file = False
            # Leadership may have been lost while a long COMMIT ran: it is answered here all the
            # same, so the log need not decide.
            self._forget_orphan(proposed)
            if isinstance(error, DiskFull):
                # It is committed, so the answers are true; it is applied when there is room.
                done(proposed.entry_id.index, error)
                self._answer_batch(proposed)
                return
            if error is not None:
                for waiting in proposed.waiting:
                    waiting.done(LeadershipLost(f"the node failed at COMMIT{MAYBE}"))
                done(proposed.entry_id.index, error)
                return
            done(proposed.entry_id.index, None)
            if self._gathering.goal <= len(self._queue):
                self._run()
            if proposed.waiting:
                # In the turn after the next: uvloop sends at the end of a turn, and what goes to
                # the peers must not wait until dozens of answers are written.
                self._loop.call_soon(self._loop.call_soon, self._answer_batch, proposed)

        self._machine.commit(proposed.entry_id, configuration, committed)

    def _arm_gather(self) -> None:
        """Run the next batch when its time is over, if it is not full enough before. One timer
        does for many batches: it would be taken back for nearly each."""
        self._is_gather_armed = False
        if not self._gathering.goal:
            return
        left_s = self._gathering.left_s(self._loop.monotonic())
        if left_s > 0.0:
            self._is_gather_armed = True
            self._loop.call_later(max(left_s, LOOK_INTERVAL_S), self._arm_gather)
        else:
            self._next()

    def settle(self, entries: Iterable[Entry]) -> None:
        """Entries that were applied through the log decide the fate of what a lost leadership
        left open."""
        if not self._orphans:
            return
        for entry in entries:
            orphan = self._orphans.pop(entry.index, None)
            if orphan is None:
                continue
            if orphan.entry_id.term == entry.term:
                self._answer_batch(orphan)
            else:
                _refuse_batch(orphan)

    def _forget_orphan(self, proposed: Proposed) -> None:
        """The place of this one in the log is its own: what had been proposed there in an earlier
        term is in no log any more."""
        orphan = self._orphans.pop(proposed.entry_id.index, None)
        if orphan is not None and orphan is not proposed:
            _refuse_batch(orphan)

    def lose(self) -> None:
        """Leadership is gone: roll back the speculation before anything else is applied. What is
        proposed waits for the log; what is not goes to the next leader."""
        self.commit_now()
        proposed, self._proposed = self._proposed, None
        if proposed is not None:
            self._forget_orphan(proposed)
            self._orphans[proposed.entry_id.index] = proposed
        begun, self._running_long = self._running_long, []
        self._slot = next(self._generation)
        if proposed is not None or begun:
            self._roll_back()
        again = [*begun, *self._long, *self._queue]
        self._long.clear()
        self._queue.clear()
        for waiting in again:
            self._loop.call_soon(self._resubmit, waiting.request, waiting.done, waiting.deadline)

    def _roll_back(self) -> None:
        self.rollbacks += 1
        self._is_rolling_back = True
        self._machine.rollback(self._rolled_back)

    def _rolled_back(self) -> None:
        self._is_rolling_back = False
        # First of all: who waits may be refused for the very space that this gives back.
        if not self._reclaim():
            self._loop.call_soon(self._slot_freed)

    def _reclaim(self) -> bool:
        """Begin to cut the WAL file, if it has grown much too long: that takes the write slot."""
        self._is_reclaim_due = False
        if not (self._is_stopped or self.is_held or self.holds_slot):
            self._is_reclaiming = self._machine.reclaim(self._reclaimed)
        return self._is_reclaiming

    def _reclaimed(self) -> None:
        self._is_reclaiming = False
        self._slot_freed()

    def _slot_freed(self) -> None:
        self._on_slot_free()
        self._next()

    def _next(self) -> None:
        if self._queue or self._long:
            self.schedule()

    def _confirm(self, ran: list[Waiting], outcomes: list[Answer]) -> None:
        """Nothing took effect, but the answers depend on state: they leave only when what they saw
        is known to be committed and current (design 4)."""
        if not ran:
            return
        assert self._read_index is not None

        def confirmed(is_confirmed: bool) -> None:
            for waiting, outcome in zip(ran, outcomes, strict=True):
                if is_confirmed:
                    waiting.done(outcome)
                else:
                    self._resubmit(waiting.request, waiting.done, waiting.deadline)

        self._read_index(confirmed)

    def _could_not_run(self, error: BaseException, taken: list[Waiting]) -> None:
        """The speculation raised, and took itself back. What is no fault of the node's, nor a
        broken promise, is a mistake in our code that these requests have found, or no memory: the
        node goes on, and they are answered like all others."""
        error = results.node_fault(error) or error
        if isinstance(error, RsqliteError | AssertionError) or not isinstance(error, Exception):
            self._fail_slot(error, taken)
            return
        log.error("a batch could not be run", exc_info=error, extra={"requests": len(taken)})
        if len(taken) > 1:
            self._suspects = len(taken)
            self._queue.extendleft(reversed(taken))
            self._next()
            return
        answer = RsqliteError("the request could not be run; the log of the leader says why")
        for waiting in taken:
            waiting.done(answer)
        self._next()

    def _fail_slot(self, error: BaseException, taken: list[Waiting]) -> None:
        answer = error if isinstance(error, RsqliteError) else Stopped(str(error))
        for waiting in taken:
            waiting.done(answer)
        self._on_failed(error)

    def _refuse_all(self, refusal: RsqliteError) -> None:
        refused = [*self._long, *self._queue]
        self._long.clear()
        self._queue.clear()
        for waiting in refused:
            waiting.done(refusal)

    def _answer_batch(self, proposed: Proposed) -> None:
        index = proposed.entry_id.index
        for waiting, outcome in zip(proposed.waiting, proposed.outcomes, strict=True):
            if type(outcome) is Outcome:
                outcome.index = index
                outcome.is_logged = True
            waiting.done(outcome)

    def sweep(self, now: float) -> None:
        """Answer what is over its deadline. A request that is proposed keeps its place in the log:
        only its client stops waiting, told that the fate is unknown."""
        for proposed in (self._proposed, *self._orphans.values()):
            if proposed is None:
                continue
            for waiting in proposed.waiting:
                if waiting.deadline <= now:
                    done, waiting.done = waiting.done, _nobody
                    done(TimedOut(f"not committed in time{MAYBE}", fate=Fate.UNKNOWN))
        for index, orphan in list(self._orphans.items()):
            if all(waiting.done is _nobody for waiting in orphan.waiting):
                del self._orphans[index]
        for queue in (self._queue, self._long):
            late = [waiting for waiting in queue if waiting.deadline <= now]
            for waiting in late:
                queue.remove(waiting)
                waiting.done(TimedOut("the write waited too long"))
        # It holds the slot of all others.
        if any(waiting.deadline <= now for waiting in self._running_long):
            self.end_long(TimedOut("the write took too long"))
        self._next()
        # At the next moment at which nothing is open: under load that is not now.
        self._is_reclaim_due = True
        if not self.holds_slot:
            self._reclaim()

    def end_long(self, answer: RsqliteError) -> None:
        """Take back the long statement that runs, if one does: it was not applied."""
        ended, self._running_long = self._running_long, []
        if ended:
            self._slot = next(self._generation)
            self._roll_back()
        for waiting in ended:
            waiting.done(answer)

    def stop(self, refusal: RsqliteError | None = None) -> None:
        """Answer everybody: what is not proposed was not applied."""
        self._is_stopped = True
        self._commit_due = None  # the next start applies it
        self._refuse_all(refusal or Stopped("the node is stopping"))
        for proposed in (self._proposed, *self._orphans.values()):
            if proposed is not None:
                for waiting in proposed.waiting:
                    done, waiting.done = waiting.done, _nobody
                    done(LeadershipLost(f"the node is stopping{MAYBE}", fate=Fate.UNKNOWN))
        running, self._running_long = self._running_long, []
        self._slot = next(self._generation)  # its end is nobody's any more
        for waiting in running:
            waiting.done(Stopped("the node is stopping"))


def _refuse_batch(orphan: Proposed) -> None:
    for waiting in orphan.waiting:
        waiting.done(LeadershipLost(fate=Fate.NOT_APPLIED))


def _nobody(_: Answer) -> None:
    """Stands in for a client that has been answered already."""
