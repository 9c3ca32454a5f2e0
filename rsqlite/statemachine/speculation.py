"""The leader's open transaction: run the waiting requests first, replicate what took effect.

Requests of strangers share one SQLite transaction, and nobody may notice: each gets what it would
have got alone, in a connection of its own with autocommit (or, with `transaction`, between BEGIN
and COMMIT). A *unit* is what would have committed alone: a statement, or a request with
`transaction`. Three things make a batch run again from BEGIN, with the same time and seeds:

- a statement ended the whole transaction (OR ROLLBACK, RAISE(ROLLBACK), an interrupt, a full disk):
  the others run again, its outcome is kept (`Culprit`);
- something can only be undone by a savepoint (an error in mid-statement, a deferred foreign key, a
  reserved rowid, an answer that is too large): *careful mode*, a savepoint for each unit
  (`Careful`);
- a request is over the budget of the loop (steps, time, the length of a value): the others run
  again, it is reported in `Batch.over_budget` and runs alone in a thread (`OverBudget`).

What is run again sees the same state as before, so what was found out about a culprit stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.errors import Fate, RequestTooLarge, RsqliteError, TimedOut, Unavailable
from rsqlite.request import Failure, Outcome, Request, Write
from rsqlite.statemachine import command as commands
from rsqlite.statemachine import results
from rsqlite.statemachine.attempt import Attempt
from rsqlite.statemachine.batch import Batch, Careful, Culprit, OverBudget, TooLarge
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.digest import Recorder
from rsqlite.statemachine.request_run import RequestRun
from rsqlite.statemachine.session import (
    Session,
    apply_session,
    defer_foreign_keys,
    restore_session,
)
from rsqlite.statemachine.shapes import Kind, Shape

_RUN_REQUESTS_MAX = 32
"""Requests run together before somebody looks at the clock."""


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
        self._recorder = recorder
        self._requests = requests
        self._settings = settings
        self.time_ms = time_ms
        self._seed = seed
        self.is_long = is_long
        self._monotonic = monotonic
        self._started = monotonic()
        self._batch = Batch(len(requests))
        self._taken = range(len(requests))
        self._skipped: set[int] = set()
        """Requests that go to a thread."""
        self._attempt = Attempt(writer, recorder, settings, is_long=is_long, monotonic=monotonic)

    @property
    def session(self) -> Session:
        """The settings that are in force until the transaction ends."""
        return self._attempt.session

    @property
    def changes_schema(self) -> bool:
        """Readers must compile anew after COMMIT."""
        return self._attempt.has_ddl or self._attempt.has_analyze

    @property
    def statement_count(self) -> int:
        """Statements in the entry."""
        return self._attempt.journal.mark()

    # The loop around the attempts

    def run(self) -> Batch:
        """Leaves the transaction open if `data` is not None. NodeFault: this node cannot go on."""
        self._choose_session()
        while True:
            try:
                self._run_once()
                self._finish()
                return self._batch
            except Careful:
                assert not self._attempt.is_careful, "careful mode asked for itself"
                self._attempt.is_careful = True
            except Culprit as culprit:
                if self._has_lasted_too_long(culprit):
                    self._refuse_all(TimedOut("the write took too long", fate=Fate.NOT_APPLIED))
                    return self._batch
                self._remember(culprit)
            except OverBudget as over:
                self._skipped.add(over.position)
            except TooLarge:
                if not self._shrink():
                    self.abandon()
                    return self._batch
            except BaseException:
                self.abandon()
                raise
            self.abandon()
            if self._skipped and self._has_lasted():
                # The loop has waited long enough: the others take the next batch, all of them.
                self._batch.outcomes = [None] * len(self._requests)
                self._batch.over_budget = sorted(self._skipped)
                return self._batch

    def abandon(self) -> None:
        """Roll back, and bring the connection to where it was before the batch."""
        writer, attempt = self._writer, self._attempt
        self._recorder.discard()
        writer.rollback()
        if attempt.has_analyze:
            writer.reload_statistics()
        if attempt.has_ddl or attempt.has_analyze:
            writer.shapes.forget()
        restore_session(writer, attempt.session)

    def _remember(self, culprit: Culprit) -> None:
        attempt, position = self._attempt, culprit.key[0]
        reruns = len(attempt.culprits) + len(attempt.outcomes)
        if not self.is_long and (
            reruns >= self._settings.speculate_reruns_max or self._has_lasted()
        ):
            # Every further rerun would be paid by the others: they go on, it goes alone.
            self._skipped.add(position)
        elif culprit.outcome is not None:
            attempt.outcomes[position] = culprit.outcome
        else:
            attempt.culprits[culprit.key] = culprit
            attempt.culprit_requests.add(position)

    def _has_lasted_too_long(self, culprit: Culprit) -> bool:
        """In a thread only time bounds the attempts; one that ended for lack of it is run once
        more, for what came before."""
        seconds = self._settings.write_time_max
        return (
            self.is_long and not culprit.is_overdue and self._monotonic() - self._started > seconds
        )

    def _shrink(self) -> bool:
        """The entry is too large: half the requests, or the only one is refused."""
        count = len(self._taken)
        if count > 1:
            self._taken = range(count // 2)
            return True
        self._batch.outcomes = [None] * len(self._requests)
        self._batch.outcomes[0] = RequestTooLarge(
            f"the request makes an entry of more than {self._settings.entry_bytes_max} bytes"
            " (entry-bytes-max)"
        )
        return False

    def _choose_session(self) -> None:
        """A request that begins with session settings is a batch of its own."""
        found = self._leading_settings(self._requests[0])
        if found:
            attempt = self._attempt
            attempt.session = tuple(sorted(found.items()))
            attempt.enforces_keys = bool(found.get("foreign_keys", self._settings.fk))
            self._taken = range(1)

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

    def _run_once(self) -> None:
        writer, attempt = self._writer, self._attempt
        attempt.begin()
        self._batch.outcomes = [None] * len(self._requests)
        apply_session(writer, attempt.session)
        writer.begin()
        defer_foreign_keys(writer, attempt.session)
        writer.vfs.set_time(self.time_ms)
        writer.entropy.lead(self._seed)
        writer.has_reserved_rowid = False
        writer.watch_rowids(True)
        self._recorder.begin_leading(attempt.journal)
        writer.limit_values(not self.is_long)
        try:
            start = 0 if attempt.is_careful or self.is_long else self._plainly()
            for position in self._taken[start:]:
                if self._closes_at(position):
                    return
                self._one(position)
        finally:
            writer.limit_values(False)

    def _closes_at(self, position: int) -> bool:
        """Has the loop waited long enough for this batch? Requests from here on take the next. One
        with a time of its own is alone in its batch: run again it might end otherwise, and what
        others found behind it would not be true any more."""
        if self.is_long or not position:
            return False
        requests = self._requests
        is_timed = requests[0].db_timeout_s or requests[position].db_timeout_s
        if not (is_timed or self._has_lasted()):
            return False
        self._taken = range(position)
        return True

    def _has_lasted(self) -> bool:
        return self._monotonic() - self._started >= self._settings.write_loop_time_max

    def _plainly(self) -> int:
        """The hot path: single statements that need nothing special, those of one text together.
        Answers how far it came: a schema with virtual tables or deferred foreign keys needs a look
        at each."""
        attempt, writer, requests = self._attempt, self._writer, self._requests
        outcomes = self._batch.outcomes
        writer.budget(self._settings.write_steps_max, None)
        writer.loop_ends = self._started + self._settings.write_loop_time_max
        writer.is_late = False
        ticks = writer.ticks_left
        position = end = 0
        values: list[Any] = []
        rest: Iterator[Any] = iter(())
        while position < len(self._taken) and attempt.is_hot:
            if self._closes_at(position):
                break
            if position == end:
                values = self._alike(position)
                rest = iter(values)
                end = position + len(values)
            ran = None
            if values:
                writer.deadline = None
                ran = attempt.run_plain(requests[position].sqls[0], rest, ticks=ticks)
            if ran is None:
                self._one(position)
                position = end = position + 1
                continue
            shape, changes, rowids, error = ran
            if rowids:
                start = len(values) - (end - position)
                attempt.journal.add(
                    shape.text, values[start : start + len(rowids)], changes, rowids
                )
                attempt.journal.counts.extend([1] * len(rowids))
                for rowid, count in zip(rowids, changes, strict=True):
                    outcomes[position] = Outcome([Write(rowid, count)], 0, True)
                    position += 1
            if error is not None:
                failure = attempt.failed(error, (position, 0, 0), shape, is_unit=True)
                outcomes[position] = Outcome([failure])
                position += 1
        return position

    def _alike(self, start: int) -> list[Any]:
        """The parameters of the single statement at `start`, and of the requests after it that
        have the same text; none when something about it is special."""
        attempt, skipped = self._attempt, self._skipped
        culprits, known = attempt.culprit_requests, attempt.outcomes
        is_special = bool(skipped or culprits or known)
        found: list[Any] = []
        text = ""
        for position in self._taken[start : start + _RUN_REQUESTS_MAX]:
            request = self._requests[position]
            sqls = request.sqls
            if len(sqls) != 1 or request.db_timeout_s or request.timings:
                break
            if is_special and (position in skipped or position in culprits or position in known):
                break
            if found and sqls[0] != text:
                break
            text = sqls[0]
            found.append(request.parameters[0])
        return found

    def _one(self, position: int) -> None:
        """A request that is not hot."""
        attempt = self._attempt
        if position in self._skipped:
            return
        request = self._requests[position]
        outcome = attempt.outcomes.get(position)
        if outcome is None:
            if not self.is_long and len(request.sqls) > self._settings.write_statements_max:
                self._skipped.add(position)
                return
            if not attempt.session and self._begins_with_setting(request):
                return
            outcome = RequestRun(attempt, position, request).run()
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
        writer, attempt, batch = self._writer, self._attempt, self._batch
        batch.over_budget = sorted(self._skipped)
        if not attempt.journal.changes:
            self.abandon()
            return
        is_slow = self._monotonic() - self._started > self._settings.write_loop_time_max / 2
        flags = commands.FLAG_LONG if self.is_long or is_slow else 0
        if attempt.has_analyze:
            flags |= commands.FLAG_STATISTICS
            writer.raise_schema_version()
        if attempt.enforces_keys:
            flags |= commands.FLAG_FOREIGN_KEYS
        digest_from, digest = self._recorder.end_leading()
        entry = attempt.journal.command(
            version=writer.behaviour,
            flags=flags,
            time_ms=self.time_ms,
            settings=attempt.session,
            digest_from=digest_from,
            digest=digest,
        )
        data = _encode(entry)
        if len(data) > self._settings.entry_bytes_max:
            raise TooLarge
        try:
            # A full disk is found here, before the log has the entry, and not at COMMIT.
            attempt.connection.cache_flush()
        except apsw.FullError:
            self._refuse_all(Unavailable("disk full: nothing was written"))
        except apsw.Error as error:
            raise results.commit_fault(error) from error
        else:
            batch.data = data

    def _refuse_all(self, error: RsqliteError) -> None:
        self.abandon()
        for position in self._taken:
            self._batch.outcomes[position] = error


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
    """Subclasses that SQLite took for their base (a str enum, an IntEnum), as that base."""
    for base in (bool, int, float):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, str):
        return str.__str__(value)
    return bytes(value) if value is not None else None


__all__ = ["Batch", "Shape", "Speculation"]
