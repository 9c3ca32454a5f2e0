"""Moving the WAL into the database file, in two steps, without stopping the writers.

Step one runs in a thread, on a connection of its own: it copies what is there and syncs it. Under
load newer frames come behind meanwhile, so it never empties the WAL; it is repeated until few are
left. Step two, on the loop between a COMMIT and the next BEGIN, copies that rest; then nothing is
left in the WAL that is not in the file, and the next writer starts it from the beginning.

SQLite syncs the database file only at the end of a checkpoint with nothing behind it. Step one has
to do it by itself, or step two would wait on the loop for all that step one has written.

A checkpoint is complete only if all frames were copied (`nLog == nCkpt`); behind an open reader it
returns without an error and without having done so. What it then holds, synced, is the applied
index that was read before it began: so far the log may be cut.

Before frames are brought into the file, how many is written down (`backfill.py`): should a start
find fewer of them in the WAL, the file must not be read together with it.

SQLite starts the WAL from the beginning but leaves its file as long as it ever was, and a long
write that was taken back has made it long without a frame that lives. `reclaim` cuts the file, in
the thread as well; meanwhile nobody may write, so whoever owns the write slot asks for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import apsw

from rsqlite.config import Settings
from rsqlite.errors import DiskFault, DiskFull, NodeFault
from rsqlite.ports import Handle, Worker
from rsqlite.statemachine import results, schema
from rsqlite.statemachine.backfill import Backfill, forget_backfill, note_backfill, noted_backfill
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.image import Copying, ImageUnwritten, Manifest, rest_s
from rsqlite.statemachine.lull import Lull
from rsqlite.statemachine.opening import PAGE_BYTES, configure, expect, prepare_close
from rsqlite.statemachine.vfs import OpenFile, load_checksum_vfs, reserve_wal
from rsqlite.statemachine.walfile import HEADER_BYTES, name_in

FRAME_BYTES = 24 + PAGE_BYTES
"""A page in the WAL, with its header."""


class _Begun(NamedTuple):
    """A checkpoint under way: the name of the WAL, how many of its frames may have been in the
    file before, and how many it had."""

    name: str
    before: int
    frames: int


class Checkpointer:
    """Decides when, and keeps count. All methods run on the loop but `_copy` and `_cut`."""

    def __init__(
        self,
        path: str,
        *,
        worker: Worker,
        clock: Callable[[], float],
        later: Callable[..., Handle],
        writer: Writer,
        settings: Settings,
        lull: Lull,
        fail: Callable[[NodeFault], None],
    ) -> None:
        self._path = path
        self._worker = worker
        self._clock = clock
        self._later = later
        self._writer = writer
        self._settings = settings
        self._lull = lull
        self._fail = fail
        self._connection: apsw.Connection | None = None
        self._backfill = noted_backfill(path)
        self._is_in_thread = False
        self._copying: Copying | None = None
        self._passes = 0
        """Times that step one has gone through this WAL."""
        self._copied_pages = 0
        """How far it came."""
        self._pages_max = settings.checkpoint_wal_bytes // PAGE_BYTES
        self._next_try = self._pages_max
        self._next_reclaim = 0.0
        self._is_requested = False
        self._image_wished_until = -math.inf
        """Until then an image that a read kept from being made is asked for again."""
        self.is_reclaiming = False
        """Nobody may write: the WAL file is being cut."""
        self.count = 0
        """Complete checkpoints."""
        self.checkpointed_index = 0
        """All up to here is in the database file and synced."""

    def request(self) -> None:
        """Make a complete checkpoint as soon as `maintain` is called, however short the WAL is."""
        self._is_requested = True

    def maintain(self) -> None:
        """Call between a COMMIT and the next BEGIN. Starts step one, or does step two."""
        pages = self._writer.wal_pages
        if pages < self._copied_pages:
            # Nothing was behind step one, so it was the whole checkpoint: the WAL is a new one.
            self._completed()
        is_due = pages >= self._next_try or self._is_requested or self._lull.is_here
        if self._is_in_thread or not is_due or self._writer.connection.in_transaction:
            return
        if self._lull.is_here and self._clock() < self._image_wished_until:
            return  # the lull is for `make_image`: its checkpoint would pass at no other time
        self._lull.begins()
        try:
            if self._is_rest_small(self._rest_pages()):
                self._copy_rest()
            else:
                self._begin_copy()
        except (apsw.Error, NodeFault) as error:
            self._failed(error)

    def reclaim(self, done: Callable[[], None]) -> bool:
        """Cut the WAL file if it is much longer than what is still to be copied from it. True: that
        has begun, and nobody may write until `done`. Call now and then, with no transaction open.
        """
        spare_bytes_max = self._settings.wal_spare_bytes_max
        if self._is_in_thread or self._clock() < self._next_reclaim:
            return False
        file_bytes = self._wal_file_bytes()
        if file_bytes <= spare_bytes_max:
            return False
        self._lull.begins()
        try:
            rest = self._rest_pages()
        except apsw.Error as error:
            self._failed(error)
            return False
        if self._is_rest_small(rest):
            self._is_in_thread = self.is_reclaiming = True
            self._worker.submit(self._cut, lambda index, error: self._was_cut(index, error, done))
            return True
        if file_bytes - rest * FRAME_BYTES > spare_bytes_max:
            self._begin_copy()
        return False

    def make_image(
        self,
        directory: str,
        done: Callable[[tuple[str, Manifest] | None, BaseException | None], None],
    ) -> bool:
        """Copy what a checkpoint has brought into the database file to an image in `directory`.
        Until that has ended no other checkpoint is made. False: one is being made now. While long
        reads overlap one only comes of it in a lull: who is told ImageUnwritten asks again."""
        if self._is_in_thread:
            return False
        self._is_in_thread = True
        self._lull.begins()

        def checkpointed(found: tuple[int, int, int] | None, error: BaseException | None) -> None:
            self._copied(found, error)
            if found is None:
                done(None, error)
                return
            _, pages, copied = found
            if copied < pages:
                self._image_wished_until = self._clock() + 2 * self._settings.image_offer_interval
                done(None, ImageUnwritten("a read holds the checkpoint up; it is tried again"))
                return
            self._is_in_thread = True  # still: nobody may write into what is copied now
            self._image_wished_until = -math.inf
            self._lull.passed()  # the copying disturbs no read
            self._copying = Copying(self._path, directory)
            self._copy_on(self._copying, done)

        self._worker.submit(self._copy, checkpointed)
        return True

    @property
    def is_in_thread(self) -> bool:
        """The worker copies, or cuts the WAL."""
        return self._is_in_thread

    def _copy_on(
        self,
        copying: Copying,
        done: Callable[[tuple[str, Manifest] | None, BaseException | None], None],
    ) -> None:
        """Copy the next stretch, and rest."""
        if self._copying is not copying:
            return  # closed meanwhile
        began = self._clock()

        def stepped(found: tuple[str, Manifest] | None, error: BaseException | None) -> None:
            if found is None and error is None:
                self._later(rest_s(self._clock() - began), self._copy_on, copying, done)
                return
            self._copying = None
            self._is_in_thread = False
            if error is not None and not isinstance(error, ImageUnwritten):
                self._failed(error)  # the image's trouble is not the database's
            done(found, error)

        self._worker.submit(copying.step, stepped)

    def reserve(self) -> None:
        """Give the WAL the room that it needs until the next checkpoint, which is a part of the
        reserve. On a volume that is short already it stays as it is."""
        settings = self._settings
        size = min(self._pages_max * FRAME_BYTES, settings.disk_reserve_bytes // 4)
        size = min(size, settings.wal_spare_bytes_max)
        try:
            volume = os.statvfs(self._path)
        except OSError as error:
            raise DiskFault(f"cannot ask for the room beside {self._path}: {error}") from error
        if volume.f_bavail * volume.f_frsize - size >= settings.disk_reserve_bytes:
            reserve_wal(self._path, size)

    def close(self, *, checkpoints: bool) -> None:
        """Call when the worker has ended."""
        if self._copying is not None:
            self._copying.give_up()
            self._copying = None
        if self._connection is not None:
            prepare_close(self._connection, checkpoints=checkpoints)
            self._connection.close()
            self._connection = None

    def note_close(self) -> None:
        """Call when nobody else uses the database any more: who closes it last brings all of the
        WAL into the file."""
        self._begin_backfill(self._writer.connection, syncs=True)

    def _rest_pages(self) -> int:
        """Frames that are in the WAL only. SQLite knows; what we have counted goes wrong when it
        has begun the WAL anew."""
        connection = self._writer.connection
        pages, copied = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
        return pages - copied

    def _is_rest_small(self, pages: int) -> bool:
        """May step two have it? Twice as much after each pass of step one: with a disk that is slow
        for what is being written it would never end."""
        bytes_max = self._settings.checkpoint_rest_bytes << self._passes
        return pages * PAGE_BYTES <= min(bytes_max, self._settings.checkpoint_wal_bytes // 2)

    def _wal_file_bytes(self) -> int:
        """Asked by name: opening the file and closing it again would drop SQLite's locks on it."""
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            self._fail(DiskFault(f"cannot ask for the size of {self._path}-wal: {error}"))
            return 0

    def _begin_copy(self) -> None:
        self._is_in_thread = True
        self._worker.submit(self._copy, self._copied)

    def _own_connection(self) -> apsw.Connection:
        if self._connection is None:
            connection = apsw.Connection(self._path, vfs=load_checksum_vfs())
            configure(connection, self._settings)
            # With synchronous OFF a checkpoint reports success and syncs nothing.
            expect(connection, "synchronous", "NORMAL", 1)
            expect(connection, "wal_autocheckpoint", 0, 0)
            connection.set_busy_timeout(0)
            self._connection = connection
        return self._connection

    def _copy(self) -> tuple[int, int, int]:
        """In the thread: (index read before, pages in the WAL, pages copied). Only if all were
        copied the file is whole without the WAL: of a page that has a newer frame than the last
        one that may be copied, no older frame is copied either (tried: an image was malformed)."""
        connection = self._own_connection()
        index = _applied_index(connection)
        pages, copied = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
        if copied < pages:
            pages, copied = self._bring(connection, syncs=True)
        OpenFile(connection).sync()
        return index, pages, copied

    def _bring(self, connection: apsw.Connection, *, syncs: bool) -> tuple[int, int]:
        """Pages in the WAL, and pages copied. What was committed between the note and SQLite's
        look at the WAL is copied as well, and noted after: SQLite has synced it by then."""
        begun = self._begin_backfill(connection, syncs=syncs)
        pages, copied = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
        if begun is not None:
            is_done = copied == pages and copied >= begun.before
            if is_done or copied > begun.frames:
                self._note_backfill(Backfill(begun.name, copied, is_done=is_done), syncs=False)
        return pages, copied

    def _begin_backfill(self, connection: apsw.Connection, *, syncs: bool) -> _Begun | None:
        """Write down that all frames that are there now may get into the file; None: there are
        none."""
        pages, _ = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
        if pages <= 0:
            return None
        wal = OpenFile(connection, is_wal=True)
        name = name_in(wal.read(HEADER_BYTES, 0))
        before = self._backfill.frames if self._backfill and self._backfill.name == name else 0
        # On the disk before it is said, or a power loss would make damage of it.
        wal.sync()
        self._note_backfill(Backfill(name, pages, is_done=False), syncs=syncs)
        return _Begun(name, before, pages)

    def _note_backfill(self, backfill: Backfill, *, syncs: bool) -> None:
        note_backfill(self._path, backfill, syncs=syncs)
        self._backfill = backfill

    def _copied(self, found: tuple[int, int, int] | None, error: BaseException | None) -> None:
        self._is_in_thread = False
        if error is not None:
            self._failed(error)
            return
        assert found is not None
        index, pages, copied = found
        self._note(index, pages, copied)
        if copied == pages:
            self._passes += 1
            self._copied_pages = pages
            self._next_try = self._pages_max
        else:
            self._put_off(pages)

    def _copy_rest(self) -> None:
        index = int(self._writer.engine(schema.SELECT_INDEX)[0][0])
        # Without a sync of the note: this is the loop, and a power loss is seldom.
        pages, copied = self._bring(self._writer.connection, syncs=False)
        if copied == pages:
            # The next COMMIT begins the WAL anew; until then it has nothing more to copy.
            self._writer.wal_pages = 0
            self._completed()
        else:
            self._put_off(pages)
        self._note(index, pages, copied)

    def _cut(self) -> int:
        """In the thread: the index read before. BusyError while anybody reads from the WAL."""
        connection = self._own_connection()
        index = _applied_index(connection)
        self._begin_backfill(connection, syncs=True)
        connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
        forget_backfill(self._path)
        self._backfill = None
        self.reserve()
        return index

    def _was_cut(
        self, index: int | None, error: BaseException | None, done: Callable[[], None]
    ) -> None:
        self._is_in_thread = self.is_reclaiming = False
        if error is not None:
            self._failed(error)
        else:
            assert index is not None
            self._writer.wal_pages = 0
            self._completed()
            self._note(index, 0, 0)
        done()

    def _completed(self) -> None:
        self.count += 1
        self._is_requested = False
        self._passes = self._copied_pages = 0
        self._next_try = self._pages_max
        self._lull.passed()

    def _put_off(self, pages: int) -> None:
        """Behind a long read it cannot get further now: wait for as much again."""
        self._is_requested = False
        self._next_try = pages + self._pages_max
        self._next_reclaim = self._clock() + self._settings.wal_reclaim_pause
        self._lull.missed()

    def _note(self, index: int, pages: int, copied: int) -> None:
        if copied == pages:
            self.checkpointed_index = max(self.checkpointed_index, index)

    def _failed(self, error: BaseException) -> None:
        fault = results.node_fault(error)
        is_busy = isinstance(error, apsw.BusyError | apsw.LockedError)
        if is_busy or isinstance(error, DiskFull) or results.is_full(error):
            # A long read, or somebody else (a backup tool) is in the WAL, or a file cannot grow:
            # it is tried again, and the WAL still has everything.
            self._put_off(self._writer.wal_pages)
        elif fault is not None:
            self._fail(fault)
        else:
            self._fail(results.commit_fault(error))


def _applied_index(connection: apsw.Connection) -> int:
    rows: Any = connection.execute(schema.SELECT_INDEX).fetchall()
    return int(rows[0][0])
