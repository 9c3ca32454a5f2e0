"""The recent entries in memory: everything not yet on disk, and what fits a bound beyond that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rsqlite.raft.types import Entry

ENTRY_OVERHEAD_BYTES = 200
"""What an entry takes in memory beside its data: a tuple of four, two integers, a bytes header."""


class EntryCache:
    """A run of consecutive entries that ends at the last of the log."""

    def __init__(self, next_index: int, bytes_max: int) -> None:
        self._entries: list[Entry | None] = []
        """None where one was evicted, in front."""
        self._head = 0
        self._first = next_index
        self._bytes = 0
        self.bytes_max = bytes_max

    @property
    def first_index(self) -> int:
        """The first index that is held; the next one of the log when nothing is."""
        return self._first

    @property
    def bytes(self) -> int:
        return self._bytes

    def append(self, entries: Sequence[Entry], size: int) -> None:
        """Add entries whose data is `size` bytes together."""
        self._entries.extend(entries)
        self._bytes += size + len(entries) * ENTRY_OVERHEAD_BYTES

    def truncate(self, index: int) -> None:
        """Drop the entries from `index` on: a cache that kept them would diverge from the log."""
        if index <= self._first:
            self._entries.clear()
            self._head = self._bytes = 0
            self._first = index
            return
        keep = self._head + index - self._first
        for entry in self._entries[keep:]:
            assert entry is not None
            self._bytes -= len(entry.data) + ENTRY_OVERHEAD_BYTES
        del self._entries[keep:]

    def evict(self, durable_index: int) -> None:
        """Forget the oldest that are on disk, until the rest fits the bound."""
        entries, head, first = self._entries, self._head, self._first
        while self._bytes > self.bytes_max and first <= durable_index and head < len(entries):
            entry = entries[head]
            assert entry is not None
            self._bytes -= len(entry.data) + ENTRY_OVERHEAD_BYTES
            entries[head] = None
            head += 1
            first += 1
        self._first = first
        # The list is cut when half of it is gone: a constant price per entry.
        if head * 2 > len(entries):
            del entries[:head]
            head = 0
        self._head = head

    def slice(self, low: int, high: int) -> list[Entry]:
        """The entries in [low, high), all of which must be held."""
        start = self._head - self._first
        return cast("list[Entry]", self._entries[start + low : start + high])

    def get(self, index: int) -> Entry:
        """The entry at `index`, which must be held."""
        return cast(Entry, self._entries[self._head + index - self._first])
