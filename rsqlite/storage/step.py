"""What the loop's side of the log gives to the thread's side, and what it gets back."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from rsqlite.raft.types import Entry, HardState


class Step(NamedTuple):
    """One change of the log, in the order in which they happen."""

    truncate_from: int | None
    previous_term: int
    """The term of the entry before `truncate_from`; 0 without a truncation."""
    entries: Sequence[Entry]
    hard_state: HardState | None


class Placement(NamedTuple):
    """Where entries came to stand: first a truncation, then these offsets in this segment."""

    truncate_from: int | None
    sequence: int
    offsets: array[int]


class Space(NamedTuple):
    """What is prepared. `ahead` bytes are zero-filled and synced; `is_wanted` asks for `prepare`,
    and `is_urgent` says that the next writes would leave the prepared space."""

    ahead: int
    is_wanted: bool
    is_urgent: bool
