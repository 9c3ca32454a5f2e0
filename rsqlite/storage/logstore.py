"""The log of one node: appends through a thread with one sync for all that waits, reads at once.

Two sides share the work. The loop's side (this file) knows what the log holds: terms, places, the
recent entries. The thread's side (`writer.py`) owns the files. They meet in a queue: `append`
leaves a work there, the thread takes everything queued with one sync, and the answers come back to
the loop in order.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rsqlite.config import Settings
from rsqlite.errors import DiskFault, InvariantViolation, NodeFault, disk_fault
from rsqlite.ports import Disk, Loop
from rsqlite.raft.types import NO_TERM, Entry, HardState, Index, Term
from rsqlite.storage.cache import ENTRY_OVERHEAD_BYTES, EntryCache
from rsqlite.storage.finding import Finding
from rsqlite.storage.index import PlaceTable, TermRuns
from rsqlite.storage.opening import open_log
from rsqlite.storage.reading import SegmentReader
from rsqlite.storage.scrub import RecordsRead, read_records
from rsqlite.storage.segment import ScanEnd, segment_name
from rsqlite.storage.step import Placement, Space, Step
from rsqlite.storage.writer import LogWriter

logger = logging.getLogger(__name__)

FREE_SPACE_AGE_MAX_S = 0.1
"""How long an answer of the file system about free space is believed."""

Finished = Callable[[BaseException | None], None]


INLINE_BYTES_MAX = 64 * 1024
"""A larger write leaves the loop to the thread, however quick the disk is."""


class _Work:
    """One append under way. `last_index` is what of it is still part of the log."""

    __slots__ = ("done", "last_index", "queued_at", "size", "step")

    def __init__(
        self, step: Step, size: int, last_index: int, queued_at: float, done: Finished
    ) -> None:
        self.step = step
        self.size = size
        self.last_index = last_index
        self.queued_at = queued_at
        self.done = done


class Begun(NamedTuple):
    """A segment that was begun, and the room that there is."""

    sequence: int
    space: Space


class LogStore:
    """Implements `raft.log.LogReader`. Everything here is called on the loop."""

    def __init__(
        self,
        directory: str,
        *,
        disk: Disk,
        loop: Loop,
        settings: Settings,
        node_id: int,
        held: Callable[[], Index],
    ) -> None:
        directory = os.path.abspath(directory)
        self._directory = directory
        self._disk = disk
        self._loop = loop
        self._reserve_bytes = settings.disk_reserve_bytes
        self._segment_bytes = settings.segment_bytes
        self._readers_max = settings.log_readers_max
        opened = open_log(directory, disk, settings, node_id, held)
        for finding in opened.findings:
            logger.warning("%s", finding)
        self.findings: tuple[Finding, ...] = opened.findings
        """What was found and mended when the log was opened."""
        self.left_behind: tuple[Finding, ...] = opened.left_behind
        """What was damaged then, and is no part of the log any more: the database has it."""
        self._terms = opened.terms
        self._places = opened.places
        self._writer: LogWriter = opened.writer
        self.hard_state: HardState = opened.hard_state
        """Term and vote as of the last append, durable or not."""
        self.durable_index = Index(self._terms.last_index)
        """The last index of the log, as it is now, that is on disk."""
        self.backlog_bytes = 0
        """Bytes of entries given to `append` and not on disk yet."""
        self._cache = EntryCache(self._terms.last_index + 1, settings.log_cache_bytes_max)
        self._readers: OrderedDict[int, SegmentReader] = OrderedDict()
        self._queue: deque[_Work] = deque()
        self._under_way: deque[_Work] = deque()
        self._is_flush_waiting = False
        self._flushes_in_thread = 0
        """Given to the thread and not answered. While there is one, nobody else may write."""
        self._is_put_off = False
        self._is_preparing = False
        self._inline_sync_max_s = settings.log_inline_sync_max
        self._sync_s = 0.0
        self._uses_kernel = settings.log_sync == "auto" and disk.syncs_in_background
        self._in_kernel: list[_Work] = []
        self._placements: list[Placement] = []
        self._kernel_began = 0.0
        self._is_mark_due = False
        self._is_closed = False
        self._failure: NodeFault | None = None
        self._space = self._writer.space
        self._free_bytes = 0
        self._free_at = float("-inf")
        self._worker = loop.worker("rsqlite-log")

    @staticmethod
    def open(
        directory: str,
        *,
        disk: Disk,
        loop: Loop,
        settings: Settings,
        node_id: int = 0,
        held: Callable[[], Index] = lambda: Index(0),
    ) -> LogStore:
        """Recover the log in `directory`, or begin one there. Everything in it is then durable.

        `node_id` binds a new log to its node; a log of another one is refused. `held` is asked if
        something is damaged: up to which entry the database has everything for good. If that is
        all that is damaged, the log begins behind it. Raises `DamagedFile`, `ForeignDirectory` or
        `DiskFault`, whose texts say what to do.
        """
        try:
            return LogStore(
                directory, disk=disk, loop=loop, settings=settings, node_id=node_id, held=held
            )
        except OSError as error:
            raise disk_fault(f"cannot open the log in {directory}: {error}", error) from error

    def __repr__(self) -> str:
        return (
            f"LogStore({self._directory!r}, {self.first_index}..{self.last_index},"
            f" durable {self.durable_index}, {self.hard_state}, failure {self._failure!r})"
        )

    # What the core reads

    @property
    def first_index(self) -> Index:
        """1 when the log was never cut; entries below are gone."""
        return Index(self._terms.first_index)

    @property
    def last_index(self) -> Index:
        """What `append` was given so far, durable or not."""
        return Index(self._terms.last_index)

    def term(self, index: Index) -> Term | None:
        """The term of the entry at `index`; None when it was cut away or is not there yet."""
        return NO_TERM if index == 0 else self._terms.term(index)

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """The entries in [low, high), as many as fit `bytes_max` but at least one.

        From memory when they are recent, else from disk, verified. Raises `DamagedFile` or
        `DiskFault` when they cannot be read.
        """
        if low >= high:
            return []
        if low < self._terms.first_index or high > self._terms.last_index + 1:
            raise InvariantViolation(
                f"entries [{low}, {high}) of a log of {self.first_index} to {self.last_index}"
            )
        cached_from = self._cache.first_index
        if low >= cached_from:
            return _cut(self._cache.slice(low, high), bytes_max)
        if self._failure is not None:
            raise self._failure
        taken = self._read(low, min(high, cached_from), bytes_max)
        rest = bytes_max - sum(len(entry.data) for entry in taken)
        if taken[-1].index + 1 == cached_from < high and rest > 0:
            more = _cut(self._cache.slice(cached_from, high), rest)
            if len(more[0].data) <= rest:
                taken += more
        return taken

    # What the driver does

    def append(
        self,
        *,
        truncate_from: Index | None,
        entries: Sequence[Entry],
        hard_state: HardState | None,
        done: Finished,
        may_block: bool = False,
        sends_first: bool = False,
    ) -> None:
        """Change the log, in the order of the calls; visible at once, durable when `done` comes.

        With `may_block` the caller has nothing better to do than to wait: if nothing is under way
        and the disk has been quick, the write and its sync happen here, and `done` comes before
        this returns. That saves two changes of thread (performance.md 10). With `sends_first` that
        is put off by two turns of the loop, in which what was given to sockets leaves.

        `done(None)` comes on the loop, in the order of the appends. After an error of the disk all
        that were under way, and all later ones, get `done(DiskFault)`: nothing is tried twice.
        """
        if self._failure is not None or self._is_closed:
            error = self._failure or DiskFault(f"the log in {self._directory} is closed")
            self._loop.call_soon(done, error)
            return
        if hard_state is not None:
            if hard_state.term < self.hard_state.term:
                raise InvariantViolation(f"term {hard_state} after {self.hard_state}")
            self.hard_state = hard_state
        previous_term = 0
        if truncate_from is not None:
            if truncate_from > self._terms.last_index:
                truncate_from = None
            else:
                previous_term = self._truncate(truncate_from)
        size = self._note(entries) if entries else 0
        step = Step(truncate_from, previous_term, entries, hard_state)
        work = _Work(step, size, self._terms.last_index, self._loop.monotonic(), done)
        self.backlog_bytes += size
        self._under_way.append(work)
        self._queue.append(work)
        # At most one flush waits for the thread while another runs. The thread clears the flag
        # before it empties the queue, so a work that sees the flag set is taken by that flush.
        if self._is_flush_waiting or self._in_kernel or self._is_put_off:
            return
        may_block = may_block and size <= INLINE_BYTES_MAX
        if may_block and sends_first and self._is_quick_and_idle:
            self._is_put_off = True
            self._loop.call_soon(self._loop.call_soon, self._flush_put_off)
        else:
            self._start_flush(may_block)

    @property
    def _is_idle(self) -> bool:
        """Whether nothing that was given before is being written, nor space prepared."""
        is_written = len(self._under_way) == len(self._queue) and not self._flushes_in_thread
        return is_written and not self._is_preparing

    @property
    def _is_quick_and_idle(self) -> bool:
        return self._is_idle and self._sync_s < self._inline_sync_max_s

    def _flush_put_off(self) -> None:
        self._is_put_off = False
        if self._queue:
            self._start_flush(len(self._queue) == 1)

    def _start_flush(self, may_block: bool) -> None:
        """Write what is queued, by the quickest way that is open."""
        if may_block and self._is_quick_and_idle:
            self._flush_here()
            return
        if self._is_idle and self._uses_kernel and self._flush_in_kernel():
            return
        self._is_flush_waiting = True
        self._flushes_in_thread += 1
        self._worker.submit(self._flush, self._flushed_in_thread)

    def _flush_in_kernel(self) -> bool:
        """Write here, and let the kernel sync in the background. False if what is queued needs
        more than that: a new hard state, or space that is not prepared."""
        works = list(self._queue)
        try:
            placements = self._writer.begin([work.step for work in works])
        except OSError as error:
            self._fail(error)
            return True
        if placements is None:
            return False
        self._queue.clear()
        self._in_kernel = works
        self._kernel_began = self._loop.monotonic()
        self._placements = placements
        if not self._writer.sync_soon(self._kernel_synced):
            self._uses_kernel = False
            self._worker.submit(self._writer.sync, lambda _, error: self._kernel_synced(error))
        return True

    def _kernel_synced(self, error: BaseException | None) -> None:
        works, self._in_kernel = self._in_kernel, []
        placements, self._placements = self._placements, []
        self._took(self._loop.monotonic() - self._kernel_began)
        self._writer.end(error)
        if error is not None:
            self._flushed(None, error)
            return
        self._flushed((works, placements, self._writer.space), None)
        self._write_mark_soon()
        if self._queue and not self._is_flush_waiting and not self._in_kernel:
            self._start_flush(False)

    def _flush_here(self) -> None:
        """What the thread would do, while it has nothing to do."""
        try:
            result = self._write_queued()
        except BaseException as error:  # noqa: BLE001 - as at the edge of the thread
            self._flushed(None, error)
        else:
            self._flushed(result, None)
            self._write_mark_soon()

    def _write_mark_soon(self) -> None:
        """After the acknowledgements have left: it waits for the file system's journal at times."""
        if not self._is_mark_due:
            self._is_mark_due = True
            self._loop.call_soon(self._write_mark)

    def _write_mark(self) -> None:
        self._is_mark_due = False
        if self._flushes_in_thread or self._is_closed:
            return  # the thread writes, and ends with a mark of its own
        if self._failure is None:
            try:
                self._writer.write_mark()
            except OSError as error:
                self._fail(error)

    @property
    def oldest_pending_s(self) -> float:
        """Age of the oldest append that is not durable: how long the disk has been silent."""
        if not self._under_way:
            return 0.0
        return self._loop.monotonic() - self._under_way[0].queued_at

    @property
    def failure(self) -> NodeFault | None:
        """Why the log can no longer be written; None while all is well."""
        return self._failure

    @property
    def syncs(self) -> int:
        """How many groups of appends were synced, each with one sync of the segment."""
        return self._writer.syncs

    @property
    def unprepared_syncs(self) -> int:
        """How many of them had to write beyond the zero-filled space."""
        return self._writer.unprepared_syncs

    @property
    def space_error(self) -> OSError | None:
        """Why space could not be prepared the last time; the log goes on while there is some."""
        return self._writer.space_error

    def free_bytes(self) -> int:
        """What the log may still write: free on the volume or prepared, less what waits."""
        now = self._loop.monotonic()
        if now - self._free_at > FREE_SPACE_AGE_MAX_S:
            try:
                self._free_bytes = self._disk.free_bytes(self._directory)
            except OSError as error:
                text = f"cannot ask for the free space of {self._directory}: {error}"
                raise DiskFault(text) from error
            self._free_at = now
        return self._free_bytes + self._space.ahead - self.backlog_bytes

    def has_room(self, size: int) -> bool:
        """Whether entries of `size` bytes can be taken without touching the reserve. Asked before
        a write is proposed, so that a full disk is found before the log holds what it cannot."""
        return self._failure is None and self.free_bytes() - self._reserve_bytes >= size

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being written, prepared or cut."""
        return not (self._under_way or self._is_preparing)

    def index_within(self, bytes_max: int) -> Index:
        """The first index of the newest segments that fit so many bytes, one at least."""
        return Index(self._places.first_of_newest(max(1, bytes_max // self._segment_bytes)))

    def cut(self, keep_from: Index) -> None:
        """Let go of the front of the log, as far as whole segments before `keep_from` reach. What
        is let go must be in the database for good. The files go in the thread."""
        if self._failure is not None or self._is_closed or self._is_preparing or self._in_kernel:
            return  # it is asked again
        first_index, gone = self._places.cut(min(keep_from, self.durable_index + 1))
        if not gone:
            return
        self._terms.cut(first_index)
        for sequence in gone:
            reader = self._readers.pop(sequence, None)
            if reader is not None:
                reader.close()
        first_segment = gone[-1] + 1
        # Its place among the works of the thread; until it is done nobody else writes.
        self._is_preparing = True
        self._worker.submit(lambda: self._cut(first_segment, gone), self._prepared)

    def _cut(self, first_segment: int, gone: list[int]) -> Space:
        self._writer.cut(first_segment, gone)
        return self._writer.space

    def roll(self) -> None:
        """Begin the next segment now, if nothing else is being done: then what was written so far
        can be cut. It is asked again."""
        if self._failure is not None or self._is_closed or self._is_preparing or self._in_kernel:
            return

        def work() -> Begun:
            self._writer.roll()
            return Begun(self._writer.sequence, self._writer.space)

        self._is_preparing = True
        self._worker.submit(work, self._has_begun)

    def _has_begun(self, begun: Begun | None, error: BaseException | None) -> None:
        # Not what is written now: the thread may have come to further segments meanwhile.
        if begun is not None:
            self._places.open_segment(begun.sequence)
        self._prepared(None if begun is None else begun.space, error)

    def first_index_after(self, sequence: int) -> Index | None:
        """Where the log could begin without this segment and those before; None: it could not."""
        first = self._places.first_after(sequence)
        return None if first is None else Index(first)

    # Reading again what is on the disk

    def durable_segments(self) -> list[int]:
        """Those that hold something, in order."""
        newest = self._writer.mark.segment
        return [one for one in self._places.sequences if one <= newest]

    def rereading(
        self, sequence: int, place: ScanEnd | None, bytes_max: int
    ) -> Callable[[], RecordsRead] | None:
        """What is to be done in a thread to verify some bytes of a segment; None when it is no part
        of the log any more."""
        if sequence not in self.durable_segments():
            return None
        mark, path, following = self._writer.mark, self._path(sequence), self._path(sequence + 1)
        end = mark if mark.segment == sequence else following
        return lambda: read_records(self._disk, path, end, place, bytes_max)

    def renew_hard_state(self, done: Callable[[list[str]], None]) -> bool:
        """Read term and vote back from the disk, and write them again if they are not there as they
        should be; `done` gets what was wrong. False: not now."""
        if self._failure is not None or self._is_closed or self._is_preparing or self._in_kernel:
            return False

        def work() -> tuple[list[str], Space]:
            return self._writer.renew_hard_state(), self._writer.space

        def ended(found: tuple[list[str], Space] | None, error: BaseException | None) -> None:
            problems, space = found or ([], None)
            self._prepared(space, error)
            if found is not None:
                done(problems)

        self._is_preparing = True
        self._worker.submit(work, ended)
        return True

    def reset(self, index: Index, term: Term, done: Finished) -> None:
        """Begin anew behind the entry at `index`, which an image holds: nothing that is here counts
        any more. `done` comes when that is durable; nothing may be under way."""
        if self._under_way or self._is_preparing:
            raise InvariantViolation("the log is reset while it is written")
        if term > self.hard_state.term:
            # An entry never stands above the stored term; no vote was given in this one.
            self.hard_state = HardState(term)
        hard_state, gone = self.hard_state, self._places.sequences
        self._terms = TermRuns(index + 1, term)
        self._places = PlaceTable(index + 1)
        self._cache = EntryCache(index + 1, self._cache.bytes_max)
        self.durable_index = index
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._is_preparing = True

        def work() -> Begun:
            self._writer.reset(index, term, hard_state, gone)
            return Begun(self._writer.sequence, self._writer.space)

        def ended(begun: Begun | None, error: BaseException | None) -> None:
            self._has_begun(begun, error)
            done(self._failure)

        self._worker.submit(work, ended)

    def close(self) -> None:
        """Write what was given, then end the thread. The answers still come, on the loop.

        `DiskFault` says that the very last sync failed, which nobody was promised anything of.
        """
        if self._is_closed:
            return
        self._writer.wait()
        if self._is_put_off:
            self._flush_put_off()
        self._writer.wait()
        self._write_mark()
        self._is_closed = True
        self._worker.close()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        try:
            self._writer.close()
        except OSError as error:
            raise DiskFault(f"cannot close the log in {self._directory}: {error}") from error

    # The loop's books

    def _truncate(self, index: Index) -> int:
        """Forget the entries from `index` on; the term of the entry before."""
        if index < self._terms.first_index:
            raise InvariantViolation(f"truncation at {index} of a log from {self.first_index}")
        self._terms.truncate(index)
        self._cache.truncate(index)
        self.durable_index = min(self.durable_index, Index(index - 1))
        for work in self._under_way:
            work.last_index = min(work.last_index, index - 1)
        return self._terms.last_term

    def _note(self, entries: Sequence[Entry]) -> int:
        """Take the entries into the books; the bytes of their data."""
        terms = self._terms
        if entries[-1].term > self.hard_state.term:
            raise InvariantViolation(f"entry of term {entries[-1].term} under {self.hard_state}")
        size = 0
        for term, index, _, data in entries:
            if index != terms.last_index + 1 or term < terms.last_term:
                raise InvariantViolation(
                    f"entry {index} of term {term} after {terms.last_index} of {terms.last_term}"
                )
            terms.append(term, index)
            size += len(data)
        self._cache.append(entries, size)
        return size + len(entries) * ENTRY_OVERHEAD_BYTES

    # The thread, and what comes back from it

    def _flush(self) -> tuple[list[_Work], list[Placement], Space]:
        """In the thread: everything queued, with one sync."""
        self._is_flush_waiting = False
        result = self._write_queued()
        self._writer.write_mark()
        return result

    def _write_queued(self) -> tuple[list[_Work], list[Placement], Space]:
        works: list[_Work] = []
        try:
            while True:
                works.append(self._queue.popleft())
        except IndexError:
            pass
        began = self._loop.monotonic()
        placements = self._writer.write([work.step for work in works])
        self._took(self._loop.monotonic() - began)
        return works, placements, self._writer.space

    def _flushed_in_thread(
        self,
        result: tuple[list[_Work], list[Placement], Space] | None,
        error: BaseException | None,
    ) -> None:
        self._flushes_in_thread -= 1
        self._flushed(result, error)

    def _flushed(
        self,
        result: tuple[list[_Work], list[Placement], Space] | None,
        error: BaseException | None,
    ) -> None:
        if error is not None or result is None:
            self._fail(error)
            return
        if self._failure is not None:
            return  # of the mark, while the kernel synced: all that were under way have heard
        works, placements, space = result
        self._space = space
        for placement in placements:
            self._places.apply(*placement)
        for work in works:
            self._under_way.popleft()
            self.backlog_bytes -= work.size
            self.durable_index = max(self.durable_index, Index(work.last_index))
            work.done(None)
        self._cache.evict(self.durable_index)
        self._prepare_if_due()

    def _took(self, sync_s: float) -> None:
        """Quick to rise, slow to fall: after a stall the loop does not wait for the disk again
        until it has been quick for a while."""
        self._sync_s = max(sync_s, self._sync_s * 0.9)

    def _prepare_if_due(self) -> None:
        """Let the thread prepare space when it is idle, or when it must."""
        space = self._space
        is_due = space.is_urgent or (space.is_wanted and not self._under_way)
        # Never beside a sync of the kernel: it could take the error that belongs to that one.
        if is_due and not self._is_preparing and not self._is_closed and not self._in_kernel:
            self._is_preparing = True
            self._worker.submit(self._prepare, self._prepared)

    def _prepare(self) -> Space:
        self._writer.prepare()
        return self._writer.space

    def _prepared(self, space: Space | None, error: BaseException | None) -> None:
        self._is_preparing = False
        if error is not None or space is None:
            self._fail(error)
            return
        self._space = space
        # On a full volume the next append asks again, not this.
        if self._writer.space_error is None:
            self._prepare_if_due()

    def _fail(self, error: BaseException | None) -> None:
        """The disk failed: everything under way hears it, and nothing is tried again."""
        if self._failure is None:
            text = f"the log in {self._directory} cannot be written: {error}"
            failure = disk_fault(text, error)
            failure.__cause__ = error
            self._failure = failure
        works, self._under_way = self._under_way, deque()
        self._queue.clear()
        self.backlog_bytes = 0
        for work in works:
            work.done(self._failure)

    # Reading old entries

    def _read(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        taken: list[Entry] = []
        try:
            while low < high and (bytes_max > 0 or not taken):
                sequence, end, offsets = self._places.run(low, high)
                more = self._reader(sequence).read(low, offsets, bytes_max)
                if taken and len(more[0].data) > bytes_max:
                    break
                taken += more
                bytes_max -= sum(len(entry.data) for entry in more)
                if taken[-1].index + 1 < end:
                    break
                low = end
        except OSError as error:
            raise DiskFault(f"cannot read the log in {self._directory}: {error}") from error
        return taken

    def _path(self, sequence: int) -> str:
        return os.path.join(self._directory, segment_name(sequence))

    def _reader(self, sequence: int) -> SegmentReader:
        reader = self._readers.get(sequence)
        if reader is not None:
            self._readers.move_to_end(sequence)
            return reader
        reader = self._readers[sequence] = SegmentReader(self._path(sequence), self._disk)
        if len(self._readers) > self._readers_max:
            self._readers.popitem(last=False)[1].close()
        return reader


def _cut(entries: list[Entry], bytes_max: int) -> list[Entry]:
    """The first of the entries that fit, at least one."""
    for n, entry in enumerate(entries):
        bytes_max -= len(entry.data)
        if bytes_max < 0 and n > 0:
            return entries[:n]
    return entries
