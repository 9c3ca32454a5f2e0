"""How much of the log is kept: what the database does not hold for good, and a stretch for others.

Everything up to the last checkpoint is in the synced database file, so the log before it is needed
only by followers that lag. The newest `raft_snap` entries are kept for them, but no more than
`log_keep_bytes`, and whatever a follower needs behind an image that it fetches. Who lags further
gets an image. Whole segments go, so up to a segment more than that is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable

from rsqlite.config import Settings
from rsqlite.raft.types import Index
from rsqlite.storage.logstore import LogStore


class Compaction:
    """One node's. `sweep` is called a few times a second."""

    def __init__(
        self,
        *,
        log: LogStore,
        settings: Settings,
        checkpointed: Callable[[], Index],
        image_needs: Callable[[], Index | None],
    ) -> None:
        self._log = log
        self._settings = settings
        self._checkpointed = checkpointed
        self._image_needs = image_needs
        self._next_look = 0.0
        self.cuts = 0

    def __repr__(self) -> str:
        return f"<Compaction from {self.keeps_from()}>"

    def sweep(self, now: float) -> None:
        """Cut the log if it is time to look, and if something can go."""
        if now >= self._next_look:
            self._next_look = now + self._settings.raft_snap_int
            first_index = self._log.first_index
            self._log.cut(self.keeps_from())
            self.cuts += self._log.first_index != first_index

    def keeps_from(self) -> Index:
        """The first entry that must stay."""
        log, settings = self._log, self._settings
        for_others = max(
            log.last_index - settings.raft_snap + 1, log.index_within(settings.log_keep_bytes)
        )
        bounds = [for_others, self._checkpointed() + 1]
        image = self._image_needs()
        if image is not None:
            bounds.append(image)
        return Index(max(1, min(bounds)))
