"""Where each entry of the log stands and which term it has, in a few bytes per entry.

Two tables, because they change at different moments: terms are known when an entry is given to the
log, places only when it has been written.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from rsqlite.raft.types import Term


class TermRuns:
    """The term of every index, as runs: terms change rarely, so a log of millions is a few runs.

    Covers `[first_index - 1, last_index]`; the entry before the first is known by its term only.
    """

    def __init__(self, first_index: int = 1, previous_term: int = 0) -> None:
        self.first_index = first_index
        self.last_index = first_index - 1
        self._starts = array("Q", [first_index - 1])
        self._terms = array("Q", [previous_term])

    @property
    def last_term(self) -> Term:
        return Term(self._terms[-1])

    def append(self, term: int, index: int, count: int = 1) -> None:
        """The entry after the last, `index`, is of `term`, and so are those after it, so many
        together."""
        if term != self._terms[-1]:
            self._starts.append(index)
            self._terms.append(term)
        self.last_index = index + count - 1

    def truncate(self, index: int) -> None:
        """The entries from `index` on are gone."""
        if index < self.first_index:
            # Only a truncation record after a cut of the log's front reaches below it: nothing of
            # what was there is left, and the entry before is known to whoever truncated.
            raise ValueError(f"truncation at {index} is below the first entry {self.first_index}")
        while self._starts[-1] >= index:
            self._starts.pop()
            self._terms.pop()
        self.last_index = min(self.last_index, index - 1)

    def cut(self, first_index: int) -> None:
        """The entries before `first_index` are gone; the term of the last of them stays known."""
        run = bisect_right(self._starts, first_index - 1) - 1
        del self._starts[:run], self._terms[:run]
        self._starts[0] = first_index - 1
        self.first_index = first_index

    def term(self, index: int) -> Term | None:
        """The term of the entry at `index`, None outside of what is covered."""
        if index > self.last_index or index < self.first_index - 1:
            return None
        if index >= self._starts[-1]:
            return Term(self._terms[-1])
        return Term(self._terms[bisect_right(self._starts, index) - 1])


class PlaceTable:
    """Segment and offset of every entry on disk: four bytes an entry."""

    def __init__(self, first_index: int = 1) -> None:
        self._next = first_index
        self._sequences: list[int] = []
        self._opened: list[int] = []
        """The first entry of each segment when it was opened, as its header says."""
        self._firsts: list[int] = []
        """And as it is now: lower, where entries of segments before were taken back in this one."""
        self._offsets: list[array[int]] = []

    @property
    def sequences(self) -> list[int]:
        """The segments of the log, in order."""
        return self._sequences.copy()

    def first_of_newest(self, count: int) -> int:
        """The first index in the last `count` segments."""
        return self._firsts[-count:][0] if self._firsts else self._next

    def open_segment(self, sequence: int) -> None:
        """What comes now stands in this segment."""
        self._sequences.append(sequence)
        self._opened.append(self._next)
        self._firsts.append(self._next)
        self._offsets.append(array("I"))

    def extend(self, offsets: array[int]) -> None:
        """The next entries stand at these offsets of the newest segment."""
        self._offsets[-1].extend(offsets)
        self._next += len(offsets)

    def apply(self, truncate_from: int | None, sequence: int, offsets: array[int]) -> None:
        """What one write did: a truncation, then entries at `offsets` of segment `sequence`."""
        if truncate_from is not None:
            self.truncate(truncate_from)
        if sequence != self._sequences[-1]:
            self.open_segment(sequence)
        self.extend(offsets)

    def truncate(self, index: int) -> None:
        """Forget the places from `index` on."""
        if index >= self._next:
            return
        self._next = index
        for n in range(len(self._firsts) - 1, -1, -1):
            first = self._firsts[n]
            if first <= index:
                del self._offsets[n][index - first :]
                return
            # Emptied, but its file stays: later segments are chained to it.
            self._firsts[n] = index
            del self._offsets[n][:]

    def first_after(self, sequence: int) -> int | None:
        """The first index of the first segment after this one with which the log could begin; None
        if there is none."""
        for n, one in enumerate(self._sequences):
            if one > sequence and self._firsts[n] == self._opened[n]:
                return self._firsts[n]
        return None

    def cut(self, keep_from: int) -> tuple[int, list[int]]:
        """Forget whole segments without an entry from `keep_from` on: the first index that is left,
        and the sequences that went. One in which entries of a segment before were taken back needs
        that segment to be read, so the log cannot begin with it."""
        for n in range(len(self._firsts) - 1, 0, -1):
            if self._firsts[n] <= keep_from and self._firsts[n] == self._opened[n]:
                gone = self._sequences[:n]
                del self._sequences[:n], self._opened[:n], self._firsts[:n], self._offsets[:n]
                return self._firsts[0], gone
        return self._firsts[0] if self._firsts else self._next, []

    def run(self, index: int, high: int) -> tuple[int, int, array[int]]:
        """Sequence, the entry after the last of its segment below `high`, and their offsets."""
        n = bisect_right(self._firsts, index) - 1
        low = index - self._firsts[n]
        offsets = self._offsets[n][low : high - self._firsts[n]]
        return self._sequences[n], index + len(offsets), offsets
