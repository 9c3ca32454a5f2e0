"""The thread's side of the log: bytes into segments, one sync, the mark, and space ahead.

Everything here runs in the log's own thread, one call at a time, after the log was opened. An
`OSError` out of `write` means that nothing is known of what is on disk; the caller never calls
again (fsync is not retried: after a failure the kernel may call pages clean that it lost).
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Sequence

from rsqlite.config import Settings
from rsqlite.ports import Disk, DiskFile
from rsqlite.raft.types import HardState
from rsqlite.storage import hardstate
from rsqlite.storage.hardstate import HardStateFile, Mark
from rsqlite.storage.record import PADDING, TRUNCATE, encode_record, record_bytes
from rsqlite.storage.segment import (
    PAGE_BYTES,
    ScanEnd,
    SegmentHeader,
    encode_header,
    segment_name,
)
from rsqlite.storage.step import Placement, Space, Step

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class LogWriter:
    """Owns the open tail segment, the hard state file, and the segment made ahead of need."""

    def __init__(
        self,
        directory: str,
        disk: Disk,
        settings: Settings,
        hard: HardStateFile,
        tail: SegmentHeader,
        end: ScanEnd,
        last_index: int,
        last_term: int,
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._hard = hard
        self._segment_bytes = settings.segment_bytes
        self._step_bytes = settings.log_prepare_step_bytes
        self._reserve_bytes = settings.disk_reserve_bytes
        self._lead_bytes_max = settings.log_prepare_bytes_max
        self._header = tail
        self._file = disk.open(self._path(tail.sequence))
        self._offset, self._chain = end
        # The group that is being put together: [offset, end) of the segment, joined from parts.
        self._end = self._offset
        self._parts: list[bytes] = []
        self._filled = max(self._file.size(), self._offset)
        self._last_index = last_index
        self._last_term = last_term
        self._next_file: DiskFile | None = None
        self._next_filled = 0
        self._written = 0
        self._failure: BaseException | None = None
        self.mark = self._mark_now()
        """How far the log is durable."""
        self._stored_mark = self.mark
        self.syncs = 0
        """How often a sync of a segment was asked for: one for each group of works."""
        self.unprepared_syncs = 0
        """Those that went beyond the zero-filled space and so had to wait for the journal."""
        self.space_error: OSError | None = None
        """Why the last attempt to prepare space failed, until one succeeds."""

    @property
    def sequence(self) -> int:
        """The segment that is written."""
        return self._header.sequence

    @property
    def space(self) -> Space:
        ahead = self._filled - self._offset
        if self._next_file is not None:
            ahead += max(0, self._next_filled - PAGE_BYTES)
        # A quiet log prepares one step; one that has written much, much: a small database does not
        # pay for a whole segment of zeros.
        lead = min(max(self._written, self._step_bytes), self._lead_bytes_max)
        is_possible = (
            self._filled < self._header.capacity or self._next_filled < self._segment_bytes
        )
        is_wanted = is_possible and ahead < lead
        return Space(ahead, is_wanted, is_wanted and ahead < self._step_bytes // 2)

    def write(self, steps: Sequence[Step]) -> list[Placement]:
        """Carry out the steps; everything is durable when this returns. `write_mark` follows, at
        leisure: whoever waits for the disk need not wait for that.

        After an error, of this or of `prepare`, every later call raises it again and touches
        nothing: the thread may be asked once more before the loop has heard.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._write(steps)
        except BaseException as error:
            self._failure = error
            raise

    def _write(self, steps: Sequence[Step]) -> list[Placement]:
        """See `write`.

        The newest hard state goes first and is synced first: an entry of term T must never be on
        disk while term T is not, or a leader of T-1 could overwrite it (raft.md rule 3). A hard
        state ahead of its entries is harmless.
        """
        hard_state = None
        for step in steps:
            if step.hard_state is not None:
                hard_state = step.hard_state
        if hard_state is not None and hard_state != self._hard.slot.state:
            self._hard.write(hard_state)
        placements: list[Placement] = []
        for step in steps:
            self._add_step(step, placements)
        self._flush()
        return placements

    def write_mark(self) -> None:
        """Store `mark`, beside a sync of the kernel if need be. Not synced: where it lags behind, a
        little more of the end counts as possibly torn."""
        if self._failure is None and self.mark is not self._stored_mark:
            self._stored_mark = self.mark
            try:
                self._hard.write_mark(self.mark)
            except BaseException as error:
                self._failure = error
                raise

    def begin(self, steps: Sequence[Step]) -> list[Placement] | None:
        """Write the steps where the file is prepared, without a sync: `sync_soon` or `sync` and
        then `end` must follow, and nothing else before. None: they do not fit such a write."""
        if self._failure is not None:
            raise self._failure
        room = self._filled - self._end
        for step in steps:
            if step.hard_state is not None:
                return None
            if step.truncate_from is not None:
                room -= record_bytes(0)
            for entry in step.entries:
                room -= record_bytes(len(entry.data))
        if room < 0:
            return None
        placements: list[Placement] = []
        try:
            for step in steps:
                self._add_step(step, placements)
            self._file.pwrite(b"".join(self._parts), self._offset)
        except BaseException as error:
            self._failure = error
            raise
        return placements

    def sync_soon(self, ended: Callable[[BaseException | None], None]) -> bool:
        """Begin the sync of what `begin` wrote; False if this disk cannot."""
        return self._file.sync_soon(ended)

    def sync(self) -> None:
        """The same at once, for a disk that cannot begin one and go on."""
        self._file.sync()

    def wait(self) -> None:
        """Return when no `sync_soon` is under way; its end is told first."""
        self._file.wait()

    def end(self, error: BaseException | None) -> None:
        """The sync of what `begin` wrote has ended; `write_mark` follows, as after `write`."""
        if error is not None:
            self._failure = error
            return
        self._noted()

    def _add_step(self, step: Step, placements: list[Placement]) -> None:
        """Add the records of a step to the group, and where its entries will stand."""
        truncate_from = step.truncate_from
        if truncate_from is not None:
            self._add(TRUNCATE, step.previous_term, truncate_from, b"")
            self._last_index = truncate_from - 1
            self._last_term = step.previous_term
        sequence, offsets = self._header.sequence, array("I")
        for term, index, kind, data in step.entries:
            offset = self._add(kind, term, index, data)
            if self._header.sequence != sequence:
                placements.append(Placement(truncate_from, sequence, offsets))
                truncate_from, sequence, offsets = None, self._header.sequence, array("I")
            offsets.append(offset)
            self._last_index = index
            self._last_term = term
        placements.append(Placement(truncate_from, sequence, offsets))

    def _add(self, kind: int, term: int, index: int, data: bytes) -> int:
        """Add a record to the group that is written and synced together; its offset."""
        length = len(data)
        size = record_bytes(length)
        if self._end + size > self._header.capacity:
            self._roll(size)
        offset = self._end
        place = self._header.checksum + offset
        head, self._chain = encode_record(kind, term, index, data, self._offset, self._chain, place)
        self._parts += (head, data, PADDING[length & 7])
        self._end = offset + size
        return offset

    def prepare(self) -> None:
        """Zero-fill and sync one step of space ahead, in this segment or the next.

        Writing into space that was zero-filled and synced changes no metadata, so the sync of a
        record waits for no journal (measured: a third less). Finding the volume full here is not
        a fault of the log: it goes on in the space it has, and says that there is no room.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._prepare()
        except OSError as error:
            self.space_error = error
            if error.errno not in NO_SPACE:
                self._failure = error
                raise
        except BaseException as error:
            self._failure = error
            raise
        else:
            self.space_error = None

    def cut(self, first_segment: int, sequences: Sequence[int]) -> None:
        """The log begins with `first_segment` from now on; remove the files of `sequences`. First
        it is written down that it does: a file that is missing without that word is damage."""
        self._guarded(lambda: self._cut(first_segment, sequences))

    def reset(self, index: int, term: int, hard_state: HardState, sequences: Sequence[int]) -> None:
        """Begin anew behind the entry at `index`, of `term`; nothing of what was there counts."""
        self._guarded(lambda: self._reset(index, term, hard_state, sequences))

    def roll(self) -> None:
        """Go on in the next segment from here on."""
        self._guarded(self._roll_now)

    def renew_hard_state(self) -> list[str]:
        """Read term and vote back; if they are not there as they should be, write them again, for
        they are known here. What was wrong."""
        problems: list[str] = []

        def work() -> None:
            problems.extend(self._hard.problems(os.path.join(self._directory, hardstate.NAME)))
            if problems:
                self._hard.renew()

        self._guarded(work)
        return problems

    def _guarded(self, work: Callable[[], None]) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            work()
        except BaseException as error:
            self._failure = error
            raise

    def _roll_now(self) -> None:
        self._roll(0)
        self._flush()
        self.write_mark()

    def _cut(self, first_segment: int, sequences: Sequence[int]) -> None:
        self._hard.write(self._hard.slot.state, first_segment=first_segment)
        for sequence in sequences:
            self._disk.unlink(self._path(sequence))
        self._disk.sync_directory(self._directory)

    def _reset(
        self, index: int, term: int, hard_state: HardState, sequences: Sequence[int]
    ) -> None:
        if hard_state != self._hard.slot.state:
            self._hard.write(hard_state)
        self._last_index, self._last_term = index, term
        self._roll(0, begins_anew=True)
        self._flush()
        self._cut(self._header.sequence, sequences)
        self.write_mark()

    def close(self) -> None:
        """Close the files; after a failure nothing more is asked of the disk."""
        try:
            if self._failure is None:
                self._hard.sync()
        finally:
            for file in (self._hard, self._file, self._next_file):
                if file is not None:
                    file.close()

    def _path(self, sequence: int) -> str:
        return os.path.join(self._directory, segment_name(sequence))

    def _flush(self) -> None:
        """Write the group at the end of the segment, and sync."""
        if not self._parts:
            return
        if self._end > self._filled:
            self.unprepared_syncs += 1
            self._filled = self._end
        self._file.pwrite(b"".join(self._parts), self._offset)
        self._file.sync()
        self._noted()

    def _mark_now(self) -> Mark:
        return Mark(self._header.sequence, self._offset, self._last_index, self._chain)

    def _noted(self) -> None:
        """The group is on the disk."""
        self.syncs += 1
        self._written += self._end - self._offset
        self._offset = self._end
        self._parts.clear()
        self.mark = self._mark_now()

    def _roll(self, size: int, *, begins_anew: bool = False) -> None:
        """Go on in the next segment, with a record of `size`.

        This one is synced first: a segment that has a successor is whole. The header of the new
        one is written and synced together with its first records.
        """
        self._flush()
        old = self._header
        if self._next_file is None:
            self._create_next()
        assert self._next_file is not None
        page, self._header = encode_header(
            SegmentHeader(
                sequence=old.sequence + 1,
                generation=self._hard.slot.generation,
                node_id=old.node_id,
                first_index=self._last_index + 1,
                previous_term=self._last_term,
                capacity=max(self._segment_bytes, PAGE_BYTES + size),
                previous_chain=self._chain,
                begins_anew=begins_anew,
            )
        )
        self._chain = self._header.checksum
        self._file.close()
        self._file, self._next_file = self._next_file, None
        self._filled, self._next_filled = self._next_filled, 0
        self._parts.append(page)
        self._offset, self._end = 0, PAGE_BYTES

    def _create_next(self) -> None:
        """Make the file of the next segment. Without a header it counts for nothing.

        One that is there from before a crash may hold records whose header was lost: emptied.
        """
        self._next_file = self._disk.open(self._path(self._header.sequence + 1), create=True)
        self._next_file.truncate(0)
        self._disk.sync_directory(self._directory)
        self._next_filled = 0

    def _prepare(self) -> None:
        free = self._disk.free_bytes(self._directory)
        if free < self._step_bytes + self._reserve_bytes:
            text = f"{free} bytes are left, the log wants to prepare {self._step_bytes}"
            raise OSError(errno.ENOSPC, text, self._directory)
        if self._filled < self._header.capacity:
            size = min(self._step_bytes, self._header.capacity - self._filled)
            self._fill(self._file, self._filled, size)
            self._filled += size
            return
        if self._next_file is None:
            self._create_next()
        assert self._next_file is not None
        size = min(self._step_bytes, self._segment_bytes - self._next_filled)
        if size > 0:
            self._fill(self._next_file, self._next_filled, size)
            self._next_filled += size

    def _fill(self, file: DiskFile, offset: int, size: int) -> None:
        try:
            file.pwrite(bytes(size), offset)
        except OSError as error:
            if error.errno in NO_SPACE:
                # Give back the part that fitted: the database may need it to finish a commit.
                file.truncate(offset)
            raise
        file.sync()
