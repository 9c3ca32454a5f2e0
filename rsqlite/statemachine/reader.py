"""Reads on read-only connections: inline while they are short, in a thread when they are not.

A read runs on the loop with a budget of VM steps and of time, and with a small limit on the length
of a value and of its answer; over any of them it is broken off and repeated in a thread, on a
connection of its own. Both see the applied index from the applied row inside the same read
transaction. Reads add up, too: when those of one turn of the loop have taken its time, the others
wait for the next turn, and votes and heartbeats come between.

Where several come in one turn they run together at its end, in one read transaction, and are
answered after it: none of them can have come after something that was acknowledged meanwhile. With
64 clients that is two thirds of the time that they take one by one (`bench`, `read-none-64`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import islice

import apsw

from rsqlite.config import Settings
from rsqlite.errors import Fate, NodeFault, Overloaded, RsqliteError, Stopped, TimedOut
from rsqlite.ports import Loop
from rsqlite.request import Failure, Outcome, Request, Rows
from rsqlite.statemachine import results
from rsqlite.statemachine.lull import Lull
from rsqlite.statemachine.opening import STEPS_PER_TICK, loop_value_bytes
from rsqlite.statemachine.read_connection import Reader
from rsqlite.statemachine.read_run import ReadOverBudget, ReadRun
from rsqlite.statemachine.rows import RowLimits, cell_bytes
from rsqlite.statemachine.shapes import Kind

log = logging.getLogger(__name__)

_INLINE_BYTES = 4 << 20
"""A longer answer is fetched in a thread."""

_LONG_RUNS = 16
"""So often a text whose read was too long goes to a thread at once, before it is tried again."""

_FEW_ROWS = 16
"""As many rows are tried on the quickest way."""

Answer = Outcome | RsqliteError
Done = Callable[[Answer], None]


class _KnownLong(ReadOverBudget):
    """It was the last time."""


class Readers:
    """The reading connections of one database."""

    def __init__(
        self,
        path: str,
        *,
        loop: Loop,
        settings: Settings,
        lull: Lull,
        on_fault: Callable[[NodeFault], None],
    ) -> None:
        self._path = path
        self._lull = lull
        self._on_fault = on_fault
        self._loop = loop
        self._settings = settings
        self._limits = RowLimits(settings.rows_max, settings.result_bytes_max)
        self._inline_limits = RowLimits(
            settings.rows_max, min(settings.result_bytes_max, _INLINE_BYTES)
        )
        self._inline = Reader(path, settings, is_on_loop=True)
        self._inline.clock = loop.monotonic
        self._inline.connection.limit(apsw.SQLITE_LIMIT_LENGTH, loop_value_bytes(settings))
        self._cells_unmeasured = self._inline_limits.bytes_max // loop_value_bytes(settings)
        """So few cannot exceed the bound, because each value is bounded."""
        self._ticks = max(1, settings.read_steps_max // STEPS_PER_TICK)
        self._idle: list[Reader] = []
        self._all: set[Reader] = set()
        self._is_closed = False
        self.generation = 0
        self._known_generation = 0
        self.threaded = 0
        """Reads that went to a thread."""
        self._in_threads = 0
        """Those of them that run or wait for a thread now."""
        self._in_threads_max = settings.read_threads + settings.read_queue_max
        self._is_turn_begun = False
        self._turn_ends = 0.0
        self._turn_reads = 0
        self._crowd = 0
        """As many came in one turn of the loop, lately. Where it is more than one they wait for
        each other: they share a snapshot then, which takes a third less time of all."""
        self._next_turn: deque[tuple[Request, Done, float]] = deque()
        """Reads that wait for the end of this turn of the loop, and when they came."""

    def schema_changed(self) -> None:
        """Forget the shapes: what is known of a text may be wrong from now on."""
        self.generation += 1

    def classify(self, sql: str, ends: float) -> bool | Failure:
        """True when every statement of the text only reads."""
        shapes = self._inline.shapes
        self._refresh(self._inline)
        rest = sql
        while True:
            shape = shapes.judge(rest)
            if isinstance(shape, Failure):
                return shape
            if shape.kind not in (Kind.READ, Kind.EMPTY):
                return False
            if not shape.tail:
                return True
            if self._loop.monotonic() >= ends:
                return False
            rest = shape.tail

    def query(self, request: Request, done: Done) -> None:
        """Run it here, in this turn or in one of the next, or else in a thread."""
        now = self._loop.monotonic()
        if not self._is_turn_begun:
            self._begin_turn(now)
        if self._crowd > 1 or self._next_turn or now >= self._turn_ends:
            if len(self._next_turn) >= self._settings.read_queue_max:
                done(Overloaded("too many reads are waiting"))
            else:
                self._next_turn.append((request, done, now))
            return
        self._turn_reads += 1
        if (answer := self._query(request, done, now, now)) is not None:
            done(answer)

    def _begin_turn(self, now: float) -> None:
        self._is_turn_begun = True
        self._turn_reads = 0
        self._turn_ends = now + self._settings.read_loop_time_max
        self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Give the reads that wait the time of a turn."""
        self._is_turn_begun = False
        if came := self._turn_reads + len(self._next_turn):
            self._crowd = max(came, self._crowd // 2)
        if not self._next_turn or self._is_closed:
            return
        now = self._loop.monotonic()
        self._begin_turn(now)
        answers: deque[tuple[Done, Answer]] = deque()
        try:
            with self._inline.held_snapshot():
                self._run_waiting(now, answers)
        finally:
            self._answer(answers)

    def _run_waiting(self, now: float, answers: deque[tuple[Done, Answer]]) -> None:
        while self._next_turn and now < self._turn_ends:
            request, done, came = self._next_turn.popleft()
            if now - came >= (request.db_timeout_s or self._settings.request_timeout):
                late = TimedOut("the read waited too long", fate=Fate.NOT_APPLIED)
                answers.append((done, late))
            elif (answer := self._query(request, done, now, came)) is not None:
                answers.append((done, answer))
            now = self._loop.monotonic()

    def _answer(self, answers: deque[tuple[Done, Answer]]) -> None:
        try:
            while answers:
                done, answer = answers.popleft()
                done(answer)
        finally:
            if answers:  # one of them raised, which is no reason for the others to wait for ever
                self._loop.call_soon(self._answer, answers)

    def _query(self, request: Request, done: Done, now: float, came: float) -> Answer | None:
        """The answer; None: it runs in a thread, and `done` hears of it."""
        reader = self._inline
        if self._known_generation != self.generation:
            self._refresh(reader)
        reader.ticks_left = self._ticks
        reader.loop_ends = now + self._settings.read_loop_time_max
        try:
            outcome = self._few_rows(reader, request)
            if outcome is None:
                reader.ticks_left = self._ticks
                outcome = self._run(reader, request, is_inline=True)
        except ReadOverBudget as over:
            shape = reader.shapes.get(request.sqls[0])
            if shape is not None and not isinstance(over, _KnownLong):
                shape.long_runs = _LONG_RUNS
            self._in_thread(request, done, came)
            return None
        except RsqliteError as error:
            self._note(error)
            return error
        except Exception as error:
            # As in a thread: our own mistake, or no memory. Our caller has others to answer.
            log.exception("a read failed")
            return NodeFault(f"a read failed: {error!r}")
        return outcome

    def _note(self, error: RsqliteError) -> None:
        """A page that fails its checksum is not this read's trouble alone."""
        if isinstance(error, NodeFault):
            self._on_fault(error)

    def _few_rows(self, reader: Reader, request: Request) -> Outcome | None:
        """The hot path: one known statement whose rows are few. None for all else, errors
        included: a read may simply be run again, by the path that can do everything."""
        shape = reader.shapes.get(request.sqls[0]) if len(request.sqls) == 1 else None
        if (
            shape is None
            or shape.kind is not Kind.READ
            or shape.tail
            or not shape.columns
            or request.timings
            or request.qualify_columns
        ):
            return None
        if shape.long_runs:
            shape.long_runs -= 1
            raise _KnownLong
        try:
            index = reader.open_snapshot()
            try:
                cursor = reader.cursor
                cursor.execute(shape.text, request.parameters[0])
                rows = list(islice(cursor, _FEW_ROWS))
                if len(rows) == _FEW_ROWS:
                    cursor.execute("", can_cache=False)
            finally:
                reader.close_snapshot()
        except apsw.InterruptError:
            raise ReadOverBudget from None
        except Exception:  # noqa: BLE001 - the other path tells what is wrong
            return None
        if len(rows) == _FEW_ROWS or (
            len(rows) * len(shape.columns) > self._cells_unmeasured
            and cell_bytes(rows) > self._inline_limits.bytes_max
        ):
            return None
        return Outcome([Rows(shape.columns, shape.decltypes, rows)], index)

    def _refresh(self, reader: Reader) -> None:
        if reader is self._inline:
            if self._known_generation == self.generation:
                return
            self._known_generation = self.generation
        reader.shapes.forget()

    def _in_thread(self, request: Request, done: Done, came: float) -> None:
        if self._in_threads + len(self._lull) >= self._in_threads_max:
            done(Overloaded("too many long reads are waiting"))
            return
        limit = self._settings.read_time_max
        if request.db_timeout_s:
            limit = min(limit, request.db_timeout_s)
        deadline = came + limit
        patience = min(limit, request.db_timeout_s or self._settings.request_timeout)
        wait_s = came + patience - self._loop.monotonic()
        if not self._lull.takes(lambda: self._start(request, done, deadline), done, wait_s):
            self._start(request, done, deadline)

    def _start(self, request: Request, done: Done, deadline: float) -> None:
        self.threaded += 1
        self._in_threads += 1
        self._lull.began()

        def work() -> tuple[Reader, Outcome | RsqliteError]:
            if self._is_closed:
                raise Stopped("the node is stopping")
            reader = self._borrow()
            if self._is_closed:
                reader.is_cancelled = True  # `close` may not have seen it
            reader.shapes.forget()
            reader.deadline, reader.clock = deadline, self._loop.monotonic
            reader.ticks_left = -1
            try:
                outcome = self._run(reader, request, is_inline=False)
                reader.require_checksums()
                return reader, outcome
            except RsqliteError as error:
                return reader, error

        def finish(
            found: tuple[Reader, Outcome | RsqliteError] | None, error: BaseException | None
        ) -> None:
            self._in_threads -= 1
            self._lull.ended()
            if found is None:
                assert error is not None
                if isinstance(error, Stopped):
                    done(error)
                    return
                if (fault := results.node_fault(error)) is not None:
                    self._on_fault(fault)
                    done(fault)
                    return
                # No result and no fault that we know: our own mistake, or no memory. The client
                # is told, and the loop's handler hears of it.
                done(NodeFault(f"a read failed: {error!r}"))
                raise error
            reader, answer = found
            if self._is_closed:
                reader.close()
            else:
                self._idle.append(reader)
            if isinstance(answer, RsqliteError):
                self._note(answer)
            done(answer)

        self._loop.submit_read(work, finish)

    def _run(self, reader: Reader, request: Request, *, is_inline: bool) -> Outcome:
        limits = self._inline_limits if is_inline else self._limits
        monotonic = self._loop.monotonic
        return ReadRun(reader, request, limits, is_inline=is_inline, monotonic=monotonic).run()

    def _borrow(self) -> Reader:
        try:
            return self._idle.pop()
        except IndexError:
            reader = Reader(self._path, self._settings)
            self._all.add(reader)
            return reader

    def require_checksums(self) -> None:
        """DamagedDatabase when reads on the loop do not verify pages any more."""
        self._inline.require_checksums()

    def page_count(self) -> int:
        """Pages of the database as last committed."""
        return self._inline.page_count()

    @property
    def is_reading(self) -> bool:
        """Reads are under way in threads, or wait for that or for the next turn of the loop."""
        return self._in_threads > 0 or bool(self._next_turn) or len(self._lull) > 0

    def close(self) -> None:
        """Stop the reads under way and close what is idle; the others close when they end."""
        self._is_closed = True
        self._inline.close()
        for reader in list(self._all):  # threads add to it
            reader.is_cancelled = True
        for reader in self._idle:
            reader.close()
        self._idle.clear()
        waiting, self._next_turn = self._next_turn, deque()
        for _, done, _ in waiting:
            done(Stopped("the node is stopping"))
        self._lull.close()
