"""`StateMachine`: the database of one node, as the driver sees it.

Everything runs on the loop, except long writes, reads over their budget and checkpoints. At most
one transaction is open on the writing connection: a speculation (from `speculate` to `commit` or
`rollback`) or an application (inside `apply`).
"""

from __future__ import annotations

import logging
import math
import random as random_module
from collections.abc import Callable, Sequence
from typing import Self

import apsw

from rsqlite.config import Settings
from rsqlite.errors import (
    DiskFull,
    Fate,
    InvariantViolation,
    LeadershipLost,
    NodeFault,
    RsqliteError,
)
from rsqlite.ports import Done, Loop
from rsqlite.raft.types import Configuration, Entry, EntryId, Index, Term
from rsqlite.request import Failure, Outcome, Request
from rsqlite.statemachine import functions, results, schema
from rsqlite.statemachine.apply import Application, Decoded
from rsqlite.statemachine.backfill import check_wal
from rsqlite.statemachine.background import Background
from rsqlite.statemachine.batch import Batch
from rsqlite.statemachine.checkpoint import Checkpointer
from rsqlite.statemachine.clock import ClockWatch
from rsqlite.statemachine.compact import copy_compactly
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.content import Content, hash_content
from rsqlite.statemachine.database import load
from rsqlite.statemachine.digest import Recorder
from rsqlite.statemachine.fingerprint import BEHAVIOUR, behaviour_of, fingerprint
from rsqlite.statemachine.lull import Lull
from rsqlite.statemachine.opening import (
    PAGE_BYTES,
    open_error,
    prepare_close,
    provide_temporary_room,
)
from rsqlite.statemachine.overruled import OVERRULED_MAX
from rsqlite.statemachine.reader import Readers
from rsqlite.statemachine.session import restore_session
from rsqlite.statemachine.speculation import Speculation
from rsqlite.statemachine.statistics import Statistics
from rsqlite.statemachine.walfile import renew_wal

log = logging.getLogger(__name__)

Finished = Callable[[BaseException | None], None]


class StateMachine:
    """A SQLite database that carries out entries. `open` makes one."""

    def __init__(
        self, path: str, *, loop: Loop, settings: Settings, random: random_module.Random
    ) -> None:
        functions.use_utc()
        self._loop = loop
        self._settings = settings
        self._random = random
        self.path = path
        """Where the database lies."""
        self._fault: NodeFault | None = None
        self._writer = Writer(path, settings)
        try:
            state = load(self._writer, path)
            self._writer.require_checksums()
            self._worker = loop.worker("rsqlite-sql")
            self._checkpoint_worker = loop.worker("rsqlite-checkpoint")
            self._lull = Lull(loop, settings)
            self._readers = Readers(
                path, loop=loop, settings=settings, lull=self._lull, on_fault=self._fail
            )
        except BaseException:
            self._writer.close()
            raise
        self.applied_index = state.applied_index
        self.applied_term = state.applied_term
        self.configuration = state.configuration
        self.last_time_ms = state.time_ms
        """Time in the log never goes back: the newest of any entry applied."""
        self.overruled = state.overruled
        """What a majority computed (`Divergence.effects`) of entries that say otherwise, by index;
        remembered in the database."""
        self._writer.clock = loop.monotonic
        self._clock_watch = ClockWatch(loop, settings)
        self._recorder = Recorder(self._writer, settings)
        self._checkpointer = Checkpointer(
            path,
            worker=self._checkpoint_worker,
            clock=loop.monotonic,
            later=loop.call_later,
            writer=self._writer,
            settings=settings,
            lull=self._lull,
            fail=self._fail,
        )
        self._lull.wire(self._could_checkpoint, self._maintain_in_lull)
        self._content = self._background("rsqlite-content")
        self._compact = self._background("rsqlite-vacuum")
        self._speculation: Speculation | None = None
        self._is_in_thread = False
        self._rollback_done: Callable[[], None] | None = None
        self._is_closed = False
        self._checkpoints_at_close = True
        self._known_pages = 0
        self._entries_applied = 0
        self._entries_committed = 0
        self._statements = 0
        self._long_writes = 0
        self.fingerprint = fingerprint(self._writer.connection)
        self.newest_behaviour = BEHAVIOUR
        """Entries of a higher one cannot be carried out here."""
        self._checkpointer.reserve()

    @classmethod
    def open(
        cls,
        directory: str,
        *,
        loop: Loop,
        settings: Settings,
        random: random_module.Random | None = None,
    ) -> Self:
        """The database under `directory`, made if there is none. NodeFault says what to do."""
        path = schema.current_database(directory)
        machine = cls.open_at(path, loop=loop, settings=settings, random=random)
        if provide_temporary_room(directory):
            log.warning(
                "no directory for temporary files: they go beside the database",
                extra={"directory": directory},
            )
        return machine

    @classmethod
    def open_at(
        cls,
        path: str,
        *,
        loop: Loop,
        settings: Settings,
        random: random_module.Random | None = None,
    ) -> Self:
        """The database at `path`, whether it is the one in use or not."""
        try:
            if problem := check_wal(path):
                log.warning("%s; the log has what is missing", problem)
            renew_wal(path)
            return cls(
                path, loop=loop, settings=settings, random=random or random_module.SystemRandom()
            )
        except apsw.Error as error:
            raise open_error(error, path) from error

    def _background(self, name: str) -> Background:
        return Background(
            self.path,
            worker=lambda: self._loop.worker(name),
            clock=self._loop.monotonic,
            settings=self._settings,
            fail=self._fail,
        )

    def __repr__(self) -> str:
        return (
            f"<StateMachine {self.path} applied={self.applied_index}"
            f" speculating={self.is_speculating}>"
        )

    # Leading

    @property
    def behaviour(self) -> int:
        """By which rules entries are made now: those of the cluster, as of what is applied. They
        are older than this node's as long as it is ahead in an upgrade."""
        known = self.configuration.fingerprint
        return behaviour_of(known) if known else self.newest_behaviour

    @property
    def is_speculating(self) -> bool:
        """A transaction is open, or being run in a thread."""
        return self._speculation is not None

    def speculate(self, requests: Sequence[Request]) -> Batch:
        """Run the requests in one write transaction, left open if `data` is not None."""
        if not requests:
            return Batch(0)
        try:
            speculation = self._speculate(requests, is_long=False)
            batch = speculation.run()
        except apsw.Error as error:
            self._raise_fault(error)
            raise
        if batch.data is not None:
            self._speculation = speculation
        return batch

    def speculate_long(
        self, request: Request, done: Callable[[Batch | None, BaseException | None], None]
    ) -> None:
        """The same for one request in a thread, without a budget of steps. What fails is told to
        `done` in any case."""
        try:
            speculation = self._speculate([request], is_long=True)
        except Exception as error:  # noqa: BLE001 - whoever waits holds the write slot
            done(None, self._fault_in(error) or error)
            return
        self._speculation = speculation
        self._is_in_thread = True
        self._long_writes += 1

        def finish(batch: Batch | None, error: BaseException | None) -> None:
            self._is_in_thread = False
            if error is not None:
                error = self._fault_in(error) or error  # those who asked may be gone
            if self._rollback_done is not None:
                rolled_back, self._rollback_done = self._rollback_done, None
                self._take_back()
                done(None, error or LeadershipLost(fate=Fate.NOT_APPLIED))
                rolled_back()
                return
            if batch is None or batch.data is None:
                self._speculation = None
            done(batch, error)

        self._worker.submit(speculation.run, finish)

    def _speculate(self, requests: Sequence[Request], *, is_long: bool) -> Speculation:
        self._require_idle()
        writer = self._writer
        writer.is_cancelled = False
        writer.behaviour = self.behaviour
        writer.refresh_facts()
        time_ms = max(self.last_time_ms, int(self._loop.wall() * 1000))
        return Speculation(
            writer,
            self._recorder,
            requests,
            settings=self._settings,
            time_ms=time_ms,
            seed=self._random.getrandbits(64),
            is_long=is_long,
            monotonic=self._loop.monotonic,
        )

    def commit(
        self,
        entry_id: EntryId,
        configuration: Configuration | None = None,
        done: Finished | None = None,
    ) -> None:
        """Make the speculation durable under this id. A NodeFault reaches `done`, or is raised
        when there is none."""
        speculation = self._speculation
        if speculation is None or self._is_in_thread:
            raise InvariantViolation("COMMIT without a finished speculation")
        if entry_id.index <= self.applied_index:
            raise InvariantViolation(f"{entry_id} committed at applied index {self.applied_index}")
        if speculation.changes_schema:
            self._readers.schema_changed()
        if not speculation.is_long:
            error: BaseException | None = None
            try:
                self._write_commit(speculation, entry_id, configuration)
            except BaseException as caught:
                self._not_committed(caught)
                if done is None:
                    raise
                error = caught
            else:
                self._committed(speculation, entry_id, configuration)
            if done is not None:
                done(error)
            return
        self._is_in_thread = True

        def finish(_: None, error: BaseException | None) -> None:
            self._is_in_thread = False
            if error is None:
                self._committed(speculation, entry_id, configuration)
            else:
                self._not_committed(error)
            rolled_back, self._rollback_done = self._rollback_done, None
            if done is not None:
                done(error)
            if rolled_back is not None:
                # Asked for after COMMIT had begun: committed is committed.
                rolled_back()
            if done is None and error is not None:
                raise error

        self._worker.submit(
            lambda: self._write_commit(speculation, entry_id, configuration), finish
        )

    def _write_commit(
        self, speculation: Speculation, entry_id: EntryId, configuration: Configuration | None
    ) -> None:
        writer = self._writer
        try:
            writer.engine(
                schema.UPDATE_APPLIED, (entry_id.index, entry_id.term, speculation.time_ms)
            )
            if configuration is not None:
                writer.engine(schema.SET_META, ("configuration", configuration.to_bytes()))
            writer.commit()
            if speculation.session:
                restore_session(writer, speculation.session)
        except apsw.Error as error:
            raise results.commit_fault(error) from error

    def _committed(
        self, speculation: Speculation, entry_id: EntryId, configuration: Configuration | None
    ) -> None:
        self._speculation = None
        self.applied_index, self.applied_term = entry_id.index, entry_id.term
        self.last_time_ms = speculation.time_ms
        if configuration is not None:
            self.configuration = configuration
        self._entries_committed += 1
        self._statements += speculation.statement_count
        if speculation.changes_schema:
            self._readers.schema_changed()

    def _not_committed(self, error: BaseException) -> None:
        """Without room SQLite has taken the transaction back; the log still has the entry."""
        if isinstance(error, DiskFull):
            self._take_back()

    def rollback(self, done: Callable[[], None]) -> None:
        """Take the speculation back. `done` is called before this returns, unless a thread runs: it
        is stopped first. Where that fails, `fault` says so."""
        if self._is_in_thread:
            # Asked for by a lost leadership, and again by a stop: both hear of the one end.
            before = self._rollback_done
            self._rollback_done = done if before is None else _both(before, done)
            self._writer.is_cancelled = True
            return
        self._take_back()
        done()

    def _take_back(self) -> None:
        speculation, self._speculation = self._speculation, None
        if speculation is None:
            return
        try:
            speculation.abandon()
        except Exception as error:  # noqa: BLE001 - who loses leadership, or stops, goes on
            if self._fault_in(error) is None:
                self._fail(NodeFault(f"a transaction cannot be taken back: {error}"))

    # Following

    def overrule(self, index: Index, effects: str) -> None:
        """A majority computed this of the entry, which says otherwise: it is carried out so, and
        remembered as long as it is one of the newest."""
        self.overruled[index] = effects
        while len(self.overruled) > OVERRULED_MAX:
            del self.overruled[min(self.overruled)]

    def apply(
        self, entries: Sequence[Entry], done: Finished, *, time_max: float = math.inf
    ) -> None:
        """Carry out committed entries, one at least, in a transaction: as many as the loop has
        time for, or as `time_max` allows."""
        self._require_idle()
        try:
            decoded = [Decoded(entry, self.newest_behaviour) for entry in entries]
        except NodeFault as fault:
            done(fault)
            return
        if decoded[0].entry.index != self.applied_index + 1:
            raise InvariantViolation(
                f"entry {decoded[0].entry.index} after applied index {self.applied_index}"
            )
        self._writer.is_cancelled = False
        is_long = any(one.command is not None and one.command.is_long for one in decoded)
        clock = self._loop.monotonic
        time_max = min(time_max, self._settings.write_loop_time_max)
        ends = math.inf if is_long else clock() + time_max
        application = Application(
            self._writer,
            self._recorder,
            self.last_time_ms,
            overruled=self.overruled,
            is_late=lambda: clock() >= ends,
        )
        if not is_long:
            error: BaseException | None = None
            try:
                application.run(decoded)
            except BaseException as caught:  # noqa: BLE001 - no memory, say: whoever waits must hear
                error = caught
            self._applied(application)
            done(error)
            return
        # What readers learn of a text until this has ended may be of either schema.
        self._readers.schema_changed()
        self._is_in_thread = True

        def finish(_: None, error: BaseException | None) -> None:
            self._is_in_thread = False
            self._applied(application)
            rolled_back, self._rollback_done = self._rollback_done, None
            done(error)
            if rolled_back is not None:
                rolled_back()  # a stop waits for the thread

        self._worker.submit(lambda: application.run(decoded), finish)

    def _applied(self, application: Application) -> None:
        self._entries_applied += application.entries
        self._statements += application.statements
        if application.applied is not None:
            index, term, time_ms = application.applied
            self.applied_index, self.applied_term = Index(index), Term(term)
            self.last_time_ms = time_ms
        if application.configuration is not None:
            self.configuration = application.configuration
        if application.schema_changed:
            self._readers.schema_changed()

    # Reading

    def classify(self, sql: str, ends: float = math.inf) -> bool | Failure:
        """True when the text only reads; a Failure when it cannot be compiled or is refused. False
        also when that is not known at `ends`. NodeFault when the database is damaged."""
        try:
            return self._readers.classify(sql, ends)
        except apsw.Error as error:
            self._raise_fault(error)
            raise

    def query(self, request: Request, done: Callable[[Outcome | RsqliteError], None]) -> None:
        """Run a request that only reads, on committed data."""
        self._readers.query(request, done)

    @property
    def may_read_beside(self) -> bool:
        """May a thread of the program read the file now? Not while that would keep a checkpoint
        from passing between long reads."""
        return not self._lull.sends_to_loop

    @property
    def reads_beside(self) -> set[object]:
        """Whoever reads so is in here as long as it does."""
        return self._lull.beside

    # Upkeep

    def maintain(self) -> None:
        """Call after each COMMIT. NodeFault: a checkpoint failed, this node cannot go on."""
        if self._fault is not None:
            raise self._fault
        self._clock_watch.look(self.last_time_ms)
        if self._speculation is None and not self._is_in_thread:
            self._checkpointer.maintain()

    def _could_checkpoint(self) -> bool:
        """Would a checkpoint pass if no request read? Not beside what reads by itself, and not
        while one is made, or an image."""
        is_read = self.is_hashing or self._compact.is_running
        return not (is_read or self._checkpointer.is_in_thread)

    def _maintain_in_lull(self) -> None:
        if self._fault is None and self._checkpoints_at_close:
            self.maintain()
        else:
            self._lull.end()  # there will be no more checkpoint

    def look_at_checksums(self) -> None:
        """Call now and then: fails this database when the connections that serve do not verify
        pages any more. Between two databases, while an image is installed, there is nothing to ask.
        """
        if self._is_closed:
            return
        try:
            self._readers.require_checksums()
            if not self._is_in_thread:
                self._writer.require_checksums()
        except NodeFault as fault:
            self._fail(fault)

    def reclaim(self, done: Callable[[], None]) -> bool:
        """`Checkpointer.reclaim`, unless a transaction is open."""
        is_idle = self._fault is None and self._speculation is None and not self._is_in_thread
        return is_idle and self._checkpointer.reclaim(done)

    def hash_content(self, done: Done[Content]) -> None:
        """Hash what is committed now, beside all else; BrokenOff when that was not done."""
        self._content.begin(hash_content, done, self._settings.verify_timeout)

    @property
    def is_hashing(self) -> bool:
        """The last `hash_content` goes on."""
        return self._content.is_running

    def copy_compactly(self, path: str, done: Done[EntryId]) -> None:
        """Write what is committed now to a new file at `path`, compact and synced; the last entry
        that it holds."""
        copy_compactly(self._compact, path, done, timeout_s=self._settings.vacuum_timeout)

    def cancel_copy(self) -> None:
        """Give up the copy that is being written, if one is."""
        self._compact.cancel()

    @property
    def checkpointer(self) -> Checkpointer:
        """Makes images, and knows how far the log may be cut."""
        return self._checkpointer

    def statistics(self) -> Statistics:
        """A picture of now."""
        return Statistics(
            database_bytes=self._page_count() * PAGE_BYTES,
            wal_bytes=self._writer.wal_pages * PAGE_BYTES,
            checkpoints=self._checkpointer.count,
            checkpointed_index=self._checkpointer.checkpointed_index,
            entries_applied=self._entries_applied,
            entries_committed=self._entries_committed,
            statements=self._statements,
            digests=self._recorder.count,
            reads_in_threads=self._readers.threaded,
            long_writes=self._long_writes,
        )

    def _page_count(self) -> int:
        """As it was when it could be read."""
        try:
            self._known_pages = self._readers.page_count()
        except apsw.Error as error:
            if self._fault_in(error) is None:
                raise
        return self._known_pages

    @property
    def is_at_rest(self) -> bool:
        """No thread uses this database."""
        return not (
            self._is_in_thread
            or self._checkpointer.is_in_thread
            or self._readers.is_reading
            or self.is_hashing
            or self._compact.is_running
        )

    def retire(self) -> None:
        """Another database has taken the place of this one: its reads may end, and nothing of it
        needs to be kept."""
        self._checkpoints_at_close = False

    def leave_wal(self) -> None:
        """Sync nothing more, also not at close: some disk of this node has failed."""
        self._checkpoints_at_close = False

    def close(self) -> None:
        """Roll back what is open and close all connections."""
        if self._is_closed:
            return
        self._is_closed = True
        self._writer.is_cancelled = True
        # What the threads come to nobody hears any more, and it may be a sync that failed.
        is_heard = not (self._is_in_thread or self._checkpointer.is_in_thread)
        self._worker.close()
        self._checkpoint_worker.close()
        self._content.close()
        self._compact.close()
        self._is_in_thread = False
        self._recorder.discard()
        try:
            self._close_connections(self._checkpoints_at_close and self._fault is None and is_heard)
        except apsw.Error as error:
            # On a full disk, say. Everything committed is in the log, and replayed from there.
            raise results.commit_fault(error) from error

    def _close_connections(self, checkpoints: bool) -> None:
        is_noted = False
        try:
            self._readers.close()
            self._checkpointer.close(checkpoints=checkpoints)
            if checkpoints:
                self._writer.rollback()
                self._checkpointer.note_close()
                is_noted = True
        except DiskFull as full:
            log.warning("the WAL stays as it is: %s", full)
        finally:
            prepare_close(self._writer.connection, checkpoints=is_noted)
            self._writer.close()

    @property
    def fault(self) -> NodeFault | None:
        """Why this database must not be used any more: damage, or an error of its disk."""
        return self._fault

    def _require_idle(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._speculation or self._is_in_thread or self._checkpointer.is_reclaiming:
            raise InvariantViolation("the writing connection is in use")

    def _fail(self, fault: NodeFault) -> None:
        self._fault = self._fault or fault

    def _fault_in(self, error: BaseException) -> NodeFault | None:
        """The fault that the error tells of, which is this database's from now on; None if it tells
        of none."""
        fault = results.node_fault(error)
        if fault is not None:
            self._fail(fault)
        return fault

    def _raise_fault(self, error: apsw.Error) -> None:
        if (fault := self._fault_in(error)) is not None:
            raise fault from error


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


__all__ = ["Batch", "StateMachine", "Statistics"]
