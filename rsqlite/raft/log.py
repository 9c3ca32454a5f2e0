"""The log as the core sees it: what the disk has, what is on its way there, and conflict search.

Entries below the in-memory tail are read through `LogReader`. The tail holds everything that is
not durable yet, and a small recent window besides, so that followers which keep up never cost a
read. Whatever is at or above the tail's first index is answered from the tail alone: the reader may
still hold a suffix there that was truncated here and whose removal is on its way to the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from rsqlite.raft.types import Entry, Index, Term, require

WINDOW_ENTRIES = 256
"""Durable entries kept in memory. The log's own cache is large; this one saves the call to it."""
WINDOW_BYTES = 1024 * 1024
"""The same in bytes, for large entries."""


class LogReader(Protocol):
    """The log on disk, read by the core. Implemented by `storage.LogStore`."""

    @property
    def first_index(self) -> Index:
        """1 if the log was never cut; entries below are gone."""

    @property
    def last_index(self) -> Index:
        """The last entry that was given to the log, durable or not."""

    def term(self, index: Index) -> Term | None:
        """None when unknown: cut away, or beyond the end. Index 0 has term 0."""

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries from `low` to before `high`, at least one of them if low < high."""


class Log:
    """Stable prefix, unstable tail. `handed_index` is what the disk was given of the tail's end,
    `durable_index` what it is known to hold of the log as it is now."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.last_index: Index = reader.last_index
        self.last_term: Term = reader.term(reader.last_index) or Term(0)
        self.handed_index: Index = self.last_index
        self.durable_index: Index = self.last_index
        self._tail: list[Entry] = []
        self._tail_first: Index = Index(self.last_index + 1)
        self._tail_bytes = 0
        self._truncate_from: Index | None = None
        self._claims: deque[list[int]] = deque()
        """[token, last index] of each work under way: what it will have made durable. A truncation
        lowers them all, so a late completion never speaks for entries that replaced those it wrote,
        not even if the same entries come back meanwhile (the ABA case, raft.md rule 23)."""

    def __repr__(self) -> str:
        return (
            f"<Log last={self.last_index} handed={self.handed_index} durable={self.durable_index} "
            f"tail from {self._tail_first}>"
        )

    @property
    def first_index(self) -> Index:
        return self._reader.first_index

    @property
    def tail(self) -> Sequence[Entry]:
        """What is held in memory, in order."""
        return self._tail

    @property
    def has_work(self) -> bool:
        """Whether there is something that the disk was not told yet."""
        return self.handed_index < self.last_index or self._truncate_from is not None

    @property
    def has_work_under_way(self) -> bool:
        return bool(self._claims)

    def term(self, index: int) -> Term | None:
        """The term of the entry at `index`; None beyond the end, or if it was cut away."""
        if index >= self._tail_first:
            if index > self.last_index:
                return None
            return self._tail[index - self._tail_first].term
        if index == self.last_index:
            return self.last_term
        return self._reader.term(Index(index))

    def entries(self, low: Index, high: Index, bytes_max: int) -> list[Entry]:
        """Entries from `low` to before `high`, as many as `bytes_max` allows, but at least one."""
        if low >= high:
            return []
        if low < self._tail_first:
            return self._reader.entries(low, min(high, self._tail_first), bytes_max)
        offset = low - self._tail_first
        if high == low + 1:
            return [self._tail[offset]]
        found = self._tail[offset : high - self._tail_first]
        total = 0
        for count, entry in enumerate(found):
            total += len(entry.data)
            if total > bytes_max and count:
                return found[:count]
        return found

    def append(self, entry: Entry) -> None:
        """Add one entry at the end."""
        require(entry.index == self.last_index + 1, "a gap before {}", entry.index)
        require(entry.term >= self.last_term, "terms go down at {}", entry.index)
        self._tail.append(entry)
        self._tail_bytes += len(entry.data)
        self.last_index = entry.index
        self.last_term = entry.term

    def truncate(self, first_removed: Index, commit_index: Index) -> None:
        """Take back everything from `first_removed` on."""
        # A committed entry that conflicts means that safety is gone already; to go on would spread
        # the damage (raft.md rule 18).
        require(
            first_removed > commit_index,
            "truncation from {} at or below commit {}",
            first_removed,
            commit_index,
        )
        keep = first_removed - 1
        if first_removed > self._tail_first:
            cut = self._tail[first_removed - self._tail_first :]
            del self._tail[first_removed - self._tail_first :]
            self._tail_bytes -= sum(len(entry.data) for entry in cut)
        else:
            self._tail.clear()
            self._tail_first = first_removed
            self._tail_bytes = 0
        if self.handed_index > keep:
            if self._truncate_from is None or first_removed < self._truncate_from:
                self._truncate_from = first_removed
            self.handed_index = Index(keep)
        self.durable_index = min(self.durable_index, Index(keep))
        for claim in self._claims:
            claim[1] = min(claim[1], keep)
        term = self._tail[-1].term if self._tail else self._reader.term(Index(keep))
        require(term is not None, "no term known at {}", keep)
        self.last_index = Index(keep)
        self.last_term = term or Term(0)

    def hand_out(self, token: int) -> tuple[Index | None, tuple[Entry, ...]]:
        """What work `token` must do to the disk: (truncate from, entries to append)."""
        truncate_from = self._truncate_from
        self._truncate_from = None
        if self.handed_index < self.last_index:
            entries = tuple(self._tail[self.handed_index + 1 - self._tail_first :])
            self.handed_index = self.last_index
        else:
            entries = ()
        self._claims.append([token, self.last_index])
        return truncate_from, entries

    def completed(self, token: int) -> None:
        """Work `token`, and so all before it, is durable."""
        claims = self._claims
        durable = self.durable_index
        while claims and claims[0][0] <= token:
            durable = max(durable, Index(claims.popleft()[1]))
        if durable > self.durable_index:
            self.durable_index = durable
            if len(self._tail) > 2 * WINDOW_ENTRIES or self._tail_bytes > 2 * WINDOW_BYTES:
                self._trim()

    def _trim(self) -> None:
        """Forget what is durable and not recent. Twice the window may gather before, so that the
        cost of moving the rest is spread."""
        count, size = 0, self._tail_bytes
        durable_count = self.durable_index + 1 - self._tail_first
        while count < durable_count and (
            len(self._tail) - count > WINDOW_ENTRIES or size > WINDOW_BYTES
        ):
            size -= len(self._tail[count].data)
            count += 1
        del self._tail[:count]
        self._tail_first = Index(self._tail_first + count)
        self._tail_bytes = size

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Whether a log that ends so is at least as up to date as this one (paper 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_index_at_most(self, index: Index, term: Term) -> Index:
        """The last entry at or before `index` whose term is at most `term` (0 if there is none).

        Terms never go down along a log, so a binary search finds it without reading entries. Both
        sides of a conflict use this, so that a round trip skips whole terms (paper 5.3, end).
        """
        low: int = max(0, self.first_index - 1)
        high: int = min(index, self.last_index)
        if high <= low:
            return Index(max(0, high))
        while low < high:
            middle = (low + high + 1) // 2
            found = self.term(middle)
            if found is not None and found <= term:
                low = middle
            else:
                high = middle - 1
        return Index(low)
