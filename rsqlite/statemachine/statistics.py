"""What a state machine tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts since the start, and sizes now."""

    database_bytes: int
    wal_bytes: int
    checkpoints: int
    checkpointed_index: int
    entries_applied: int
    entries_committed: int
    statements: int
    digests: int
    reads_in_threads: int
    long_writes: int
