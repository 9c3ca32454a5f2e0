"""Reads slowly through all that this node has on its disk, so that damage is found while the others
can still repair it, and not on the day when they are needed.

A round goes through the small files, the log and the pages of the database, in pieces, in a thread
of its own, at no more than `scrub_bytes_per_second`. What is damaged is repaired by what knows it:

- identity, configuration, CURRENT, term and vote, notes: this process, which writes them again;
- a part of the log: the database, which holds what is in it. As soon as a checkpoint has brought
  that into the file for good, the log begins behind the damage (`compaction.py`);
- a page of the database: the others. The database is given up, as if the page had been read
  (`DamagedDatabase`). A node that is alone stops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from rsqlite.config import KIB
from rsqlite.errors import DamagedDatabase, NodeFault, disk_fault
from rsqlite.ports import Done, Handle, Worker
from rsqlite.statemachine import results, schema
from rsqlite.statemachine.generations import installed_of, use_generation, write_installed
from rsqlite.statemachine.livepages import LivePages, PagesRead
from rsqlite.storage.scrub import RecordsRead

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine

log = logging.getLogger(__name__)

PIECE_BYTES = 256 * KIB
"""Read at a time, unless a record of the log is longer."""
FIRST_ROUND_S = 600.0
"""After its start a node has other things to do for so long."""
PROBLEMS_KEPT = 16
RETRY_PAUSE_S = 0.25
"""Pause before something is tried again that could not be done."""

T = TypeVar("T")

Step = Callable[[Done[Any]], None]
"""A piece of a round: begins something whose end is told."""

Steps = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """How far a round is, or what came of the last one."""

    is_running: bool
    part: str
    """What is being read now, or was read when the last round was given up."""
    bytes: int
    seconds: float
    problems: tuple[str, ...]
    """What was damaged; empty: nothing."""
    rounds: int
    """Those that came to their end in this life of the node."""


class Scrub:
    """One node's. `sweep` is called a few times a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._worker: Worker | None = None
        self._is_reading = False
        self._steps: Steps[None] | None = None
        self._timer: Handle | None = None
        self._pages: LivePages | None = None
        self._next_round = engine.loop.monotonic() + min(
            engine.settings.scrub_interval, FIRST_ROUND_S
        )
        self._began = 0.0
        self._status = ScrubStatus(False, "", 0, 0.0, (), 0)

    def __repr__(self) -> str:
        return f"<Scrub running={self._status.is_running} {self._status.part}>"

    @property
    def status(self) -> ScrubStatus:
        """How far it is."""
        if not self._status.is_running:
            return self._status
        seconds = self._engine.loop.monotonic() - self._began
        return replace(self._status, seconds=seconds)

    @property
    def is_reading(self) -> bool:
        """The thread reads, perhaps from a database that is to be closed."""
        return self._is_reading

    def sweep(self, now: float) -> None:
        """Begin a round when it is time."""
        if self._engine.settings.scrub_interval and now >= self._next_round:
            self.begin()

    def begin(self) -> None:
        """Begin a round now, unless one goes on."""
        engine = self._engine
        if self._steps is not None or engine.fault is not None or engine.is_stopping:
            return
        if self._worker is None:
            self._worker = engine.loop.worker("rsqlite-scrub")
        self._began = engine.loop.monotonic()
        self._status = ScrubStatus(True, "", 0, 0.0, (), self._status.rounds)
        log.info("scrub begins")
        self._steps = self._round()
        self._go_on(self._steps, None, None)

    def stop(self) -> None:
        """Give up the round that goes on; the next one begins where this one did."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._steps is not None:
            self._give_up(0.0)
        self._let_go()

    def close(self) -> None:
        """Call when the loop is at rest: waits for the thread."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._is_reading = False
        self._let_go()

    # How a round goes on

    def _go_on(self, steps: Steps[None], value: Any, error: BaseException | None) -> None:
        """Let the round take what its last step came to, and begin the next one."""
        if steps is not self._steps:
            self._let_go()
            return
        before = self._status.bytes
        try:
            step = steps.send(value) if error is None else steps.throw(error)
        except StopIteration:
            self._ended()
            return
        except (NodeFault, OSError, AssertionError) as fault:
            self._give_up(self._engine.settings.scrub_interval)
            is_disk = isinstance(fault, OSError)
            self._engine.fail(disk_fault(f"cannot read: {fault}", fault) if is_disk else fault)
            return
        except Exception as mistake:
            # Of our code, or no memory: nothing is wrong with what was to be read.
            log.error("scrub is given up", exc_info=mistake, extra={"part": self._status.part})
            self._give_up(self._engine.settings.scrub_interval)
            return
        read = self._status.bytes - before
        pause = read / self._engine.settings.scrub_bytes_per_second
        self._timer = self._engine.loop.call_later(pause, self._run, steps, step)

    def _run(self, steps: Steps[None], step: Step) -> None:
        try:
            step(partial(self._go_on, steps))
        except Exception as error:  # noqa: BLE001 - told apart by whom it is told
            self._go_on(steps, None, error)

    def _give_up(self, pause_s: float) -> None:
        """The round ends here; the next one begins after the pause."""
        self._steps = None
        self._next_round = self._engine.loop.monotonic() + pause_s
        self._status = replace(self.status, is_running=False)
        self._let_go()

    def _ended(self) -> None:
        self._steps = None
        self._let_go()
        self._next_round = self._engine.loop.monotonic() + self._engine.settings.scrub_interval
        ended = replace(self.status, is_running=False, part="", rounds=self._status.rounds + 1)
        self._status = ended
        log.info(
            "scrub ended",
            extra={
                "bytes": ended.bytes,
                "seconds": round(ended.seconds, 3),
                "problems": len(ended.problems),
            },
        )

    def _in_thread(self, work: Callable[[], object], done: Done[Any]) -> None:
        assert self._worker is not None
        self._is_reading = True

        def ended(value: object, error: BaseException | None) -> None:
            self._is_reading = False
            done(value, error)

        self._worker.submit(work, ended)

    def _read(self, work: Callable[[], T]) -> Steps[T]:
        """The answer of `work`, which is done in the thread."""
        found: T = yield partial(self._in_thread, work)
        return found

    def _pause(self) -> Steps[None]:
        def begin(done: Done[None]) -> None:
            self._engine.loop.call_later(RETRY_PAUSE_S, done, None, None)

        yield begin

    def _now_at(self, part: str) -> None:
        self._status = replace(self._status, part=part)

    def _count(self, size: int) -> None:
        self._status = replace(self._status, bytes=self._status.bytes + size)

    def _found(self, problem: str) -> None:
        """Remember it; of many the first ones."""
        problems = (*self._status.problems, problem)[:PROBLEMS_KEPT]
        self._status = replace(self._status, problems=problems)

    def _let_go(self) -> None:
        """Close the database's file, unless the thread reads from it."""
        if self._pages is not None and not self._is_reading:
            self._pages.close()
            self._pages = None

    # What a round reads

    def _round(self) -> Steps[None]:
        yield from self._small_files()
        for sequence in self._engine.log.durable_segments():
            yield from self._segment(sequence)
        yield from self._database()

    def _small_files(self) -> Steps[None]:
        engine = self._engine
        directory = engine.directory
        self._now_at("small files")
        yield from self._small_file(directory.identity_problem, directory.renew_identity)
        yield from self._small_file(directory.configuration_problem, directory.renew_configuration)
        if not engine.installer.refuses:
            yield from self._small_file(self._current_problem, self._set_current)
            yield from self._small_file(self._installed_problem, self._write_installed)
        problems: list[str] = yield self._renew_hard_state
        for problem in problems:
            self._found(problem)
            engine.repaired(f"{problem}; it was written again")

    def _small_file(self, problem: Callable[[], str], renew: Callable[[], None]) -> Steps[None]:
        """Look in the thread. Who finds something wrong looks again on the loop, where nobody is
        just about to write it."""
        found = yield from self._read(problem)
        if found and (found := problem()):
            renew()
            self._found(found)
            self._engine.repaired(f"{found}; it was written again")

    def _current_problem(self) -> str:
        engine = self._engine
        if engine.vacuum.replacing:
            return ""  # it is just being written
        root = engine.directory.database_root
        try:
            current = schema.read_current(root)
        except DamagedDatabase as damage:
            return str(damage)
        if current.problem or current.database == engine.machine.path:
            return current.problem
        return f"{root}/{schema.CURRENT} names {current.database}, which is not in use"

    def _set_current(self) -> None:
        use_generation(self._engine.machine.path)

    def _installed_problem(self) -> str:
        path = self._engine.machine.path
        try:
            found = installed_of(path)
        except DamagedDatabase as damage:
            return str(damage)
        is_right = found == self._engine.installer.origin.installed
        return "" if is_right else f"what is noted beside {path} is not what was written there"

    def _write_installed(self) -> None:
        installed = self._engine.installer.origin.installed
        if installed is not None:
            write_installed(self._engine.machine.path, installed)

    def _renew_hard_state(self, done: Done[list[str]]) -> None:
        """Its place among the works of the log's own thread may not be free now."""
        if self._steps is None:
            return
        engine = self._engine
        if not engine.log.renew_hard_state(lambda problems: done(problems, None)):
            engine.loop.call_later(RETRY_PAUSE_S, self._renew_hard_state, done)

    def _segment(self, sequence: int) -> Steps[None]:
        engine = self._engine
        self._now_at(f"log segment {sequence}")
        place = None
        while (work := engine.log.rereading(sequence, place, PIECE_BYTES)) is not None:
            read: RecordsRead = yield from self._read(work)
            self._count(read.size)
            if read.problem and sequence in engine.log.durable_segments():
                self._found(read.problem)
                if engine.compaction.let_go(sequence):
                    engine.repaired(f"{read.problem}; the log will begin behind it")
                    engine.vacuum.cancel("a part of the log is damaged")
            if read.is_end:
                return
            place = read.place

    def _database(self) -> Steps[None]:
        engine = self._engine
        self._now_at("database")
        if engine.installer.refuses:
            return
        page, machine = 1, engine.machine
        while page:
            if machine is not engine.machine:
                page, machine = 1, engine.machine
                self._let_go()
            try:
                read: PagesRead = yield from self._read(
                    partial(self._read_pages, machine.path, page)
                )
            except apsw.Error as error:
                fault = results.node_fault(error)
                if fault is not None:
                    raise fault from error
                yield from self._pause()  # somebody has it locked
                continue
            if machine is engine.machine:
                self._count(read.size)
                for problem in read.problems:
                    self._found(problem)
                    raise DamagedDatabase(problem)
                page = read.following

    def _read_pages(self, path: str, page: int) -> PagesRead:
        """In the thread."""
        if self._pages is None:
            self._pages = LivePages(path)
        return self._pages.verify(page, PIECE_BYTES)
