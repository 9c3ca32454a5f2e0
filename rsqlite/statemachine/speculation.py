"""The leader's open transaction: run the waiting requests first, replicate what took effect.

Requests of strangers share one SQLite transaction, and nobody may notice: each gets what it would
have got alone, in a connection of its own with autocommit (or, with `transaction`, between BEGIN
and COMMIT). A *unit* is what would have committed alone: a statement, or a request with
`transaction`. Three things make a batch run again from BEGIN, with the same time and seeds:

- a statement ended the whole transaction (OR ROLLBACK, RAISE(ROLLBACK), an interrupt, a full disk):
  the others run again, its outcome is kept (`_Culprit`);
- something can only be undone by a savepoint (an error in mid-statement, a deferred foreign key, a
  reserved rowid, an answer that is too large): *careful mode*, a savepoint for each unit
  (`_Careful`);
- a request is over the budget of the loop: the others run again, it is reported in
  `Batch.over_budget` and runs alone in a thread.

What is run again sees the same state as before, so what was found out about a culprit stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.errors import NodeFault, RequestTooLarge, RsqliteError, Unavailable
from rsqlite.request import Failure, Outcome, Request, RequestKind, Result, Rows, Write
from rsqlite.statemachine import command as commands
from rsqlite.statemachine import results, schema
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.digest import Recorder
from rsqlite.statemachine.journal import Journal
from rsqlite.statemachine.rows import RowLimits, fetch
from rsqlite.statemachine.shapes import Kind, Shape

Key = tuple[int, int, int]
"""Names a statement: request in the batch, text in the request, statement in the text."""

_FOREIGN_KEY = Failure(
    "FOREIGN KEY constraint failed",
    apsw.SQLITE_CONSTRAINT_FOREIGNKEY,
    "SQLITE_CONSTRAINT_FOREIGNKEY",
)
_RESERVED_ROWID = results.mistake(
    "rowid 9223372036854775807 is reserved: after it SQLite picks rowids that differ between nodes"
)
_TIMED_OUT = Failure("execute timeout", apsw.SQLITE_INTERRUPT, "SQLITE_INTERRUPT")
_CANCELLED = Failure("interrupted", apsw.SQLITE_INTERRUPT, "SQLITE_INTERRUPT")


class Batch:
    """What became of the requests of one `speculate`.

    `outcomes` is aligned with the requests; None: not taken into this batch, give it again in the
    next one. `over_budget` holds the positions of those that must be given to `speculate_long`.
    `data` is the entry to propose; None: nothing took effect, and no transaction is open.
    """

    __slots__ = ("data", "outcomes", "over_budget")

    def __init__(self, count: int) -> None:
        self.outcomes: list[Outcome | RsqliteError | None] = [None] * count
        self.over_budget: list[int] = []
        self.data: bytes | None = None


class _Again(Exception):
    """The batch must be run again."""


class _Careful(_Again):
    """With savepoints."""


class _Culprit(_Again):
    """Without the statement that ended the transaction."""

    def __init__(self, key: Key, failure: Failure, rowid: int, total: int) -> None:
        super().__init__()
        self.key = key
        self.failure = failure
        self.rowid = rowid
        self.total = total
        self.outcome: Outcome | None = None
        """Of the whole request, when it was a `transaction`."""


class _OverBudget(_Again):
    """Without the request that takes too long for the loop."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position


class Speculation:
    """One batch, from BEGIN to the encoded entry."""

    def __init__(
        self,
        writer: Writer,
        recorder: Recorder,
        requests: Sequence[Request],
        *,
        settings: Settings,
        time_ms: int,
        seed: int,
        is_long: bool,
        monotonic: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._connection = writer.connection
        self._recorder = recorder
        self._requests = requests
        self._settings = settings
        self._time_ms = time_ms
        self._seed = seed
        self.is_long = is_long
        self._monotonic = monotonic
        self._limits = RowLimits(settings.rows_max, settings.result_bytes_max)
        self._batch = Batch(len(requests))
        self._taken = range(len(requests))
        self._careful = False
        self._culprits: dict[Key, _Culprit] = {}
        self._culprit_requests: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        """Of transactions that ended everybody's."""
        self._skipped: set[int] = set()
        self.session: tuple[tuple[str, int], ...] = ()
        self.has_ddl = False
        self.has_analyze = False
        self._checks_deferred = settings.fk
        self._begin_attempt()

    # The loop around the attempts

    def run(self) -> Batch:
        """Leaves the transaction open if `data` is not None. NodeFault: this node cannot go on."""
        self._choose_session()
        while True:
            try:
                self._attempt()
                self._finish()
                return self._batch
            except _Careful:
                assert not self._careful, "careful mode asked for itself"
                self._careful = True
            except _Culprit as culprit:
                self._remember(culprit)
            except _OverBudget as over:
                self._skipped.add(over.position)
            except _TooLarge:
                if not self._shrink():
                    self.abandon()
                    return self._batch
            except BaseException:
                self.abandon()
                raise
            self.abandon()

    def abandon(self) -> None:
        """Roll back, and bring the connection to where it was before the batch."""
        writer = self._writer
        self._recorder.discard()
        writer.rollback()
        if self.has_analyze:
            # Statistics live in the connection, outside the transaction.
            writer.reload_statistics()
        if self.has_ddl or self.has_analyze:
            writer.shapes.forget()
        restore_session(writer, self.session)

    @property
    def statement_count(self) -> int:
        """Statements in the entry."""
        return self._journal.mark()

    def _remember(self, culprit: _Culprit) -> None:
        position = culprit.key[0]
        reruns = len(self._culprits) + len(self._outcomes)
        if reruns >= self._settings.speculate_reruns_max and not self.is_long:
            # Every further rerun would be paid by the others: they go on, it goes alone.
            self._skipped.add(position)
            return
        if culprit.outcome is not None:
            self._outcomes[position] = culprit.outcome
        else:
            self._culprits[culprit.key] = culprit
            self._culprit_requests.add(position)

    def _shrink(self) -> bool:
        """The entry is too large: half the requests, or the only one is refused."""
        count = len(self._taken)
        if count > 1:
            self._taken = range(self._taken.start, self._taken.start + count // 2)
            return True
        self._batch.outcomes = [None] * len(self._requests)
        self._batch.outcomes[self._taken.start] = RequestTooLarge(
            f"the request makes an entry of more than {self._settings.entry_bytes_max} bytes"
            " (entry-bytes-max)"
        )
        return False

    def _choose_session(self) -> None:
        """A request that begins with session settings is a batch of its own."""
        session = self._leading_settings(self._requests[0])
        if session:
            self.session = tuple(sorted(session.items()))
            self._taken = range(1)
            self._checks_deferred = bool(session.get("foreign_keys", self._settings.fk))

    def _leading_settings(self, request: Request) -> dict[str, int]:
        found: dict[str, int] = {}
        for sql in request.sqls:
            rest = sql
            while rest:
                shape = self._writer.shapes.judge(rest)
                if isinstance(shape, Failure):
                    return found
                if shape.setting is not None:
                    name, value = shape.setting
                    # Between BEGIN and COMMIT this one does nothing, as in plain SQLite.
                    if not (request.transaction and name == "foreign_keys"):
                        found[name] = value
                elif shape.kind is not Kind.EMPTY:
                    return found
                rest = shape.tail
        return found

    # One attempt

    def _begin_attempt(self) -> None:
        self._journal = Journal()
        self._batch.outcomes = [None] * len(self._requests)
        self.has_ddl = False
        self.has_analyze = False

    def _attempt(self) -> None:
        writer, recorder = self._writer, self._recorder
        self._begin_attempt()
        apply_session(writer, self.session)
        writer.begin()
        defer_foreign_keys(writer, self.session)
        writer.vfs.set_time(self._time_ms)
        writer.entropy.lead(self._seed)
        writer.has_reserved_rowid = False
        writer.watch_rowids(True)
        recorder.begin_leading(self._journal)
        ticks = -1 if self.is_long else self._settings.write_steps_max
        writer.budget(None if self.is_long else ticks, None)
        ticks = writer.ticks_left
        if self._careful or self._checks_deferred or self.is_long:
            for position in self._taken:
                self._one(position)
        else:
            self._plainly(ticks)

    def _plainly(self, ticks: int) -> None:
        """The hot path: single statements that need nothing special, inline."""
        writer, connection, journal = self._writer, self._connection, self._journal
        requests, outcomes, recorder = self._requests, self._batch.outcomes, self._recorder
        entropy = writer.entropy
        shape_of = writer.shapes.get
        execute = writer.cursor.execute
        set_rowid = connection.set_last_insert_rowid
        rowid_of, changes_of = connection.last_insert_rowid, connection.changes
        places, place = journal.places, journal.place
        special = self._skipped | self._culprit_requests | self._outcomes.keys()
        for position in self._taken:
            request = requests[position]
            if len(request.sqls) == 1 and not request.db_timeout_s and position not in special:
                shape = shape_of(request.sqls[0])
                if shape is not None and shape.is_plain:
                    if shape.is_risky:
                        recorder.cover()
                    parameters = request.parameters[0]
                    writer.ticks_left = ticks
                    entropy.seed = None
                    set_rowid(0)
                    try:
                        execute(shape.text, parameters)
                    except Exception as error:  # noqa: BLE001 - told apart in _failed
                        key = (position, 0, 0)
                        failure = self._failed(error, key, shape, is_unit=True)
                        outcomes[position] = Outcome([failure])
                        continue
                    if writer.has_reserved_rowid:
                        raise _Careful
                    changes = changes_of()
                    rowid = rowid_of()
                    if entropy.seed is not None:
                        journal.streams[len(journal.changes)] = entropy.seed
                    text = shape.text
                    journal.texts.append(places[text] if text in places else place(text))
                    journal.parameters.append(parameters)
                    journal.changes.append(changes)
                    journal.rowids.append(rowid)
                    journal.counts.append(1)
                    outcomes[position] = Outcome([Write(rowid, changes)], 0, True)
                    continue
            self._one(position)

    def _one(self, position: int) -> None:
        """A request that is not hot."""
        if position in self._skipped:
            return
        request = self._requests[position]
        known = self._outcomes.get(position)
        if known is not None:
            self._batch.outcomes[position] = known
            return
        if not self.is_long and len(request.sqls) > self._settings.write_statements_max:
            self._skipped.add(position)
            return
        if not self.session and self._begins_with_setting(request):
            return
        runner = RequestRun(self, position, request)
        outcome = runner.run()
        self._batch.outcomes[position] = outcome

    def _begins_with_setting(self, request: Request) -> bool:
        """Then it must wait for a batch of its own, in which it comes first."""
        if not request.sqls:
            return False
        shape = self._writer.shapes.judge(request.sqls[0])
        if isinstance(shape, Failure) or shape.kind not in (Kind.EMPTY, Kind.SETTING):
            return False
        return bool(self._leading_settings(request))

    def _finish(self) -> None:
        """Encode what took effect; with nothing to replicate the transaction ends here."""
        writer, journal, batch = self._writer, self._journal, self._batch
        batch.over_budget = sorted(self._skipped)
        if not journal.changes:
            self.abandon()
            return
        flags = commands.FLAG_LONG if self.is_long else 0
        if self.has_analyze:
            flags |= commands.FLAG_STATISTICS
            raise_schema_version(writer)
        digest_from, digest = self._recorder.end_leading()
        entry = journal.command(
            flags=flags,
            time_ms=self._time_ms,
            settings=self.session,
            digest_from=digest_from,
            digest=digest,
        )
        batch.data = _encode(entry)
        if len(batch.data) > self._settings.entry_bytes_max:
            batch.data = None
            raise _TooLarge
        try:
            # A full disk is found here, before the log has the entry, and not at COMMIT.
            self._connection.cache_flush()
        except apsw.FullError:
            self._refuse_all(Unavailable("the disk of the leader is full: nothing was written"))

    def _refuse_all(self, error: RsqliteError) -> None:
        self.abandon()
        self._batch.data = None
        for position in self._taken:
            self._batch.outcomes[position] = error

    # What a failure means

    def _failed(self, error: BaseException, key: Key, shape: Shape, *, is_unit: bool) -> Failure:
        """The result of a statement that raised in the shared transaction. `is_unit`: it would have
        committed alone. Raises what makes the batch run again."""
        connection = self._connection
        fault = results.node_fault(error)
        if fault is not None:
            raise fault from error
        if not isinstance(error, apsw.Error) and not _is_parameter_error(error):
            raise error
        is_read = shape.kind is Kind.READ
        failure = results.failure(error, is_read=is_read)
        if isinstance(error, apsw.InterruptError):
            failure = self._interrupted(key)
        if not connection.in_transaction:
            raise _Culprit(
                key, failure, connection.last_insert_rowid(), self._writer.counters.total_changes()
            )
        if is_read or not is_unit or results.is_binding_error(error):
            return failure
        if failure.code & 255 == apsw.SQLITE_CONSTRAINT:
            # SQLite undid what it had to: what remains is what autocommit would have kept.
            return failure
        if not self._careful:
            # In autocommit the statement would have been undone as a whole. Here SQLite may have
            # kept the rows before the error: not every statement has a journal of its own.
            raise _Careful
        return failure

    def _interrupted(self, key: Key) -> Failure:
        reason = self._writer.interrupted_by
        if reason == "steps":
            raise _OverBudget(key[0])
        return _TIMED_OUT if reason == "deadline" else _CANCELLED


class _TooLarge(_Again):
    """The entry is over its cap."""


class RequestRun:
    """One request inside the shared transaction, statement by statement.

    `is_clean`: the connection's counters are those that the request's own connection would have.
    `is_broken`: something that is not in the entry moved them, so the next logged statement must
    say where they stand.
    """

    def __init__(self, speculation: Speculation, position: int, request: Request) -> None:
        self._s = speculation
        self._position = position
        self._request = request
        self._writer = speculation._writer
        self._connection = speculation._connection
        self._journal = speculation._journal
        self._results: list[Result] = []
        self._is_transaction = request.transaction
        self._is_leading = True
        self._is_clean = False
        self._is_broken = False
        self._has_ddl = False

    def run(self) -> Outcome:
        """What the client gets; the columns of the entry get what took effect."""
        s, writer, request = self._s, self._writer, self._request
        deadline = None
        if s.is_long or request.db_timeout_s:
            limit = s._settings.write_time_max
            if request.db_timeout_s:
                limit = min(limit, request.db_timeout_s)
            deadline = s._monotonic() + limit
        writer.budget(None if s.is_long else s._settings.write_steps_max, deadline)
        self._connection.set_last_insert_rowid(0)
        writer.counters.start()
        mark = self._journal.mark()
        if self._is_transaction:
            self._run_transaction()
        else:
            self._run_texts()
        count = self._journal.mark() - mark
        if count:
            self._journal.counts.append(count)
        return Outcome(self._results, 0, count > 0)

    def _run_texts(self) -> bool:
        """True when the request is a transaction and a statement failed."""
        s, writer, journal, connection = self._s, self._writer, self._journal, self._connection
        request, results_, recorder = self._request, self._results, self._s._recorder
        entropy = writer.entropy
        shape_of = writer.shapes.get
        execute = writer.cursor.execute
        rowid_of, changes_of = connection.last_insert_rowid, connection.changes
        # A transaction has one savepoint for all; otherwise each unit needs its own when careful.
        is_hot = (
            (not (s._careful or s._checks_deferred) or self._is_transaction)
            and self._position not in s._culprit_requests
            and writer.deadline is None
        )
        last_text, last_place = "", 0
        parameters_of = request.parameters
        for number, sql in enumerate(request.sqls):
            shape = shape_of(sql)
            if shape is not None and shape.is_plain and is_hot and not self._is_broken:
                self._is_leading = False
                if shape.is_risky:
                    recorder.cover()
                parameters = parameters_of[number]
                entropy.seed = None
                text = shape.text
                try:
                    execute(text, parameters)
                except Exception as error:  # noqa: BLE001 - told apart in _failed
                    results_.append(self._failed(error, (self._position, number, 0), shape))
                    if self._is_transaction:
                        return True
                    continue
                if writer.has_reserved_rowid:
                    if not s._careful:
                        raise _Careful
                    writer.has_reserved_rowid = False
                    results_.append(_RESERVED_ROWID)
                    return True
                changes = changes_of()
                rowid = rowid_of()
                if entropy.seed is not None:
                    journal.streams[len(journal.changes)] = entropy.seed
                if text is not last_text:
                    last_text, last_place = text, journal.place(text)
                journal.texts.append(last_place)
                journal.parameters.append(parameters)
                journal.changes.append(changes)
                journal.rowids.append(rowid)
                self._is_clean = True
                results_.append(Write(rowid, changes))
                continue
            result = self._text(number, sql, parameters_of[number])
            if result is not None:
                results_.append(result)
                if self._is_transaction and isinstance(result, Failure):
                    return True
        return False

    def _run_transaction(self) -> None:
        s, writer, journal = self._s, self._writer, self._journal
        mark = journal.mark()
        had_ddl, had_analyze = s.has_ddl, s.has_analyze
        writer.engine("SAVEPOINT rsqlite_request")
        try:
            failed = self._run_texts()
        except _Culprit as culprit:
            culprit.outcome = Outcome([*self._results, culprit.failure])
            raise
        if not failed and s._checks_deferred and self._results and self._has_deferred():
            # COMMIT would have reported it: the last statement's place is where the client looks.
            self._results[-1] = _FOREIGN_KEY
            failed = True
        if failed:
            writer.engine("ROLLBACK TO rsqlite_request")
            journal.cut(mark)
            s._recorder.took_back(mark)
            if s.has_analyze and not had_analyze:
                writer.reload_statistics()
            if self._has_ddl:
                writer.shapes.forget()
            s.has_ddl, s.has_analyze = had_ddl, had_analyze
        writer.engine("RELEASE rsqlite_request")

    def _text(self, number: int, sql: str, parameters: Any) -> Result | None:
        """All statements of one text; the last one's result, or the first failure."""
        rest, piece, result = sql, 0, None
        offset = 0
        while True:
            shape = self._writer.shapes.judge(rest)
            if isinstance(shape, Failure):
                return shape
            if shape.kind is not Kind.EMPTY:
                share = parameters
                if shape.tail and not isinstance(parameters, dict) and parameters is not None:
                    share = parameters[offset : offset + shape.parameter_count]
                    offset += shape.parameter_count
                elif offset:
                    share = parameters[offset:]
                result = self._statement((self._position, number, piece), shape, share)
                if isinstance(result, Failure):
                    return result
            if not shape.tail:
                return result
            rest = shape.tail
            piece += 1

    def _statement(self, key: Key, shape: Shape, parameters: Any) -> Result:
        s, writer = self._s, self._writer
        if shape.kind is Kind.SETTING:
            assert shape.setting is not None
            if self._is_leading or (self._is_transaction and shape.setting[0] == "foreign_keys"):
                self._settle()
                return self._echo()
            return results.refusal(
                f"PRAGMA {shape.setting[0]} holds for the request that carries it"
                " and must come before its other statements"
            )
        self._is_leading = False
        culprit = s._culprits.get(key)
        if culprit is not None:
            self._replay(culprit)
            return culprit.failure
        if writer.is_cancelled:
            return _CANCELLED
        if writer.deadline is not None and s._monotonic() >= writer.deadline:
            return _TIMED_OUT
        if not shape.is_write:
            return self._read(key, shape, parameters)
        is_unit = not self._is_transaction
        if is_unit and (s._careful or s._checks_deferred):
            return self._guarded(key, shape, parameters)
        return self._write(key, shape, parameters)

    def _read(self, key: Key, shape: Shape, parameters: Any) -> Result:
        """A read runs in its place, and leaves nothing in the entry."""
        self._settle()
        writer = self._writer
        writer.entropy.seed = None
        try:
            cursor = writer.cursor.execute(shape.text, parameters, can_cache=False)
            rows = fetch(cursor, self._s._limits)
        except Exception as error:  # noqa: BLE001 - told apart in _failed
            return self._failed(error, key, shape)
        if isinstance(rows, Failure):
            return rows
        if self._request.kind is RequestKind.EXECUTE or not shape.columns:
            return self._echo()
        columns = shape.full_columns if self._request.qualify_columns else shape.columns
        return Rows(list(columns), list(shape.decltypes), rows)

    def _guarded(self, key: Key, shape: Shape, parameters: Any) -> Result:
        """A unit in a savepoint of its own."""
        s, writer, journal = self._s, self._writer, self._journal
        mark = journal.mark()
        had_ddl, had_analyze = s.has_ddl, s.has_analyze
        total = writer.counters.total_changes()
        writer.engine("SAVEPOINT rsqlite_unit")
        result = self._write(key, shape, parameters)
        is_kept = not isinstance(result, Failure) or journal.mark() > mark
        if is_kept and s._checks_deferred and self._has_deferred():
            result, is_kept = _FOREIGN_KEY, False
        if not is_kept:
            writer.engine("ROLLBACK TO rsqlite_unit")
            journal.cut(mark)
            s._recorder.took_back(mark)
            if s.has_analyze and not had_analyze:
                writer.reload_statistics()
            if s.has_ddl and not had_ddl:
                writer.shapes.forget()
            s.has_ddl, s.has_analyze = had_ddl, had_analyze
            # Alone, a unit that fails at its end reports no changes.
            writer.engine(schema.RESET_CHANGES)
            writer.counters.start(total)
            self._is_clean, self._is_broken = True, True
        writer.engine("RELEASE rsqlite_unit")
        return result

    def _write(self, key: Key, shape: Shape, parameters: Any) -> Result:
        s, writer, journal, connection = self._s, self._writer, self._journal, self._connection
        if shape.is_risky:
            s._recorder.cover()
        position = journal.mark()
        if shape.is_sensitive or self._is_broken:
            counters = self._counters()
            if not self._is_clean or writer.shapes.facts.has_virtual:
                writer.restore_counters(*counters)
            journal.resets[position] = counters
        writer.entropy.seed = None
        code = 0
        result: Result
        if shape.is_ddl or shape.is_analyze:
            self._note_schema_change(shape)
        try:
            cursor = writer.cursor.execute(shape.text, parameters, can_cache=shape.kind is Kind.DML)
            rows = fetch(cursor, s._limits) if shape.columns else []
        except Exception as error:  # noqa: BLE001 - told apart in _failed
            failure = self._failed(error, key, shape)
            code = failure.code
            if code & 255 != apsw.SQLITE_CONSTRAINT or not shape.may_fail:
                journal.resets.pop(position, None)
                return failure
            result = failure
        else:
            excess = self._excess(rows)
            if excess is not None:
                journal.resets.pop(position, None)
                return excess
            result = self._answer(shape, rows)
        if writer.entropy.seed is not None:
            journal.streams[position] = writer.entropy.seed
        if code:
            journal.errors[position] = code
        journal.texts.append(journal.place(shape.text))
        journal.parameters.append(parameters)
        journal.changes.append(connection.changes())
        journal.rowids.append(connection.last_insert_rowid())
        self._is_clean, self._is_broken = True, False
        return result

    def _answer(self, shape: Shape, rows: Any) -> Result:
        connection = self._connection
        if not shape.columns:
            return self._echo()
        columns = shape.full_columns if self._request.qualify_columns else shape.columns
        return Rows(
            list(columns),
            list(shape.decltypes),
            rows,
            False,
            connection.last_insert_rowid(),
            connection.changes(),
        )

    def _excess(self, rows: Any) -> Failure | None:
        """What a statement that succeeded is refused for; in plain mode only a rerun undoes it."""
        found: Failure | None = None
        if self._writer.has_reserved_rowid:
            found = _RESERVED_ROWID
        elif isinstance(rows, Failure):
            found = rows
        if found is None:
            return None
        if not self._s._careful:
            raise _Careful
        self._writer.has_reserved_rowid = False
        return found

    def _note_schema_change(self, shape: Shape) -> None:
        s = self._s
        s.has_ddl = s.has_ddl or shape.is_ddl
        s.has_analyze = s.has_analyze or shape.is_analyze
        self._has_ddl = self._has_ddl or shape.is_ddl
        s._recorder.schema_changes()
        self._writer.shapes.forget()

    def _failed(self, error: BaseException, key: Key, shape: Shape) -> Failure:
        failure = self._s._failed(error, key, shape, is_unit=not self._is_transaction)
        if shape.is_write and self._connection.changes() == 0:
            # It ran, and set the counters: a replica that never runs it must be told.
            self._is_clean, self._is_broken = True, True
        return failure

    def _counters(self) -> tuple[int, int, int]:
        """changes(), last_insert_rowid() and total_changes() as the client has them."""
        connection = self._connection
        changes = connection.changes() if self._is_clean else 0
        total = self._writer.counters.total_changes()
        return changes, connection.last_insert_rowid(), total

    def _settle(self) -> None:
        """Bring the connection's counters to what the request's own connection would have."""
        if not self._is_clean:
            self._writer.engine(schema.RESET_CHANGES)
            self._is_clean = True

    def _replay(self, culprit: _Culprit) -> None:
        """Leave the counters as the statement left them that is not run again."""
        self._writer.restore_counters(0, culprit.rowid, culprit.total)
        self._is_clean, self._is_broken = True, True

    def _echo(self) -> Write:
        return Write(self._connection.last_insert_rowid(), self._connection.changes())

    def _has_deferred(self) -> bool:
        return self._connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0] != 0


_BASELINE = {
    "recursive_triggers": 0,
    "ignore_check_constraints": 0,
    "legacy_alter_table": 0,
    "case_sensitive_like": 0,
}


def apply_session(writer: Writer, session: Sequence[tuple[str, int]]) -> None:
    """Session settings, before BEGIN: inside a transaction some of them do nothing."""
    for name, value in session:
        if name != "defer_foreign_keys":
            writer.engine(f"PRAGMA {name} = {int(value)}")
    if session:
        writer.shapes.forget()


def defer_foreign_keys(writer: Writer, session: Sequence[tuple[str, int]]) -> None:
    """The one setting that ends with its transaction, so it comes after BEGIN."""
    for name, value in session:
        if name == "defer_foreign_keys":
            writer.engine(f"PRAGMA defer_foreign_keys = {int(value)}")


def restore_session(writer: Writer, session: Sequence[tuple[str, int]]) -> None:
    """After COMMIT or ROLLBACK: as the connection was opened."""
    for name, _ in session:
        if name == "foreign_keys":
            writer.engine(f"PRAGMA foreign_keys = {int(writer.settings.fk)}")
        elif name == "defer_foreign_keys":
            writer.engine("PRAGMA defer_foreign_keys = 0")
        else:
            writer.engine(f"PRAGMA {name} = {_BASELINE[name]}")
    if session:
        writer.shapes.forget()


def raise_schema_version(writer: Writer) -> None:
    """Make all other connections read the statistics that ANALYZE has written."""
    for sql in schema.RAISE_SCHEMA_VERSION:
        writer.engine(sql)


def _encode(entry: commands.Command) -> bytes:
    try:
        return commands.encode(entry)
    except TypeError:
        entry.parameters = [_plain_parameters(parameters) for parameters in entry.parameters]
        return commands.encode(entry)


def _plain_parameters(parameters: Any) -> Any:
    if isinstance(parameters, dict):
        return {str(name): _plain(value) for name, value in parameters.items()}
    return None if parameters is None else [_plain(value) for value in parameters]


def _plain(value: Any) -> Any:
    """Subclasses that SQLite took as their base (a str enum, an IntEnum), as that base."""
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value) if base is not str else str.__str__(value)
    return bytes(value) if value is not None else None


def _is_parameter_error(error: BaseException) -> bool:
    return isinstance(error, TypeError | OverflowError | UnicodeError | KeyError | ValueError)


__all__ = ["Batch", "NodeFault", "RequestRun", "Speculation"]
