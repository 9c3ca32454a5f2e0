"""The sending side of images: made when a follower needs one, offered, served, removed.

A follower whose next entry was cut away here is in the state `snapshot` (`raft/progress.py`). As
long as there is one, the leader offers it an image that reaches so far that the log can follow on;
the follower fetches it, part by part, whoever leads meanwhile. One image at a time is kept, until
nobody has wanted it for a while; and the log behind it, until nobody has fetched of it for a while:
a follower that cannot take it would have the log grow without bound. One that went out of use with
no chunk of it fetched is offered on by its name alone: to copy the database again would be in vain,
for a follower that has no room asks for nothing, and for that image once it has.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping

import msgspec

from rsqlite.config import Settings
from rsqlite.ports import Loop
from rsqlite.raft.core import Raft
from rsqlite.raft.progress import ProgressState, ProgressView
from rsqlite.raft.types import EntryId, Index, NodeId, Role, Term
from rsqlite.statemachine.image import SUFFIX, Manifest, digest_of
from rsqlite.statemachine.machine import StateMachine

log = logging.getLogger(__name__)

TELL_PAUSE_S = 60.0
"""Between two warnings of the same kind: it is tried several times a second."""


class Offer(msgspec.Struct, frozen=True):
    """Where an image is to be had: what the core carries to the follower unread."""

    image_id: str
    address: str


class Images:
    """Those of one node. `sweep` is called a few times a second."""

    def __init__(
        self,
        directory: str,
        *,
        machine: Callable[[], StateMachine],
        loop: Loop,
        settings: Settings,
        address: str,
        first_index: Callable[[], Index],
        has_room: Callable[[int], bool],
        offer: Callable[[NodeId, EntryId, bytes], None],
    ) -> None:
        self._directory = directory
        self._machine = machine
        self._loop = loop
        self._settings = settings
        self._address = address
        self._first_index = first_index
        self._has_room = has_room
        self._offer = offer
        self._image: tuple[str, Manifest] | None = None
        self._declined: Manifest | None = None
        """Of an image that nobody took, and that is gone. Who asks for it gets another one."""
        self._served: set[int] = set()
        """The chunks of it that were asked for."""
        self._awaited: dict[int, float] = {}
        """The chunks that those who fetch it come to next, since when."""
        self._is_making = False
        self._made_at = 0.0
        self._served_at = -math.inf
        """When a chunk of it was asked for. Who cannot store any asks for the manifest only."""
        self._wanted_at = -settings.image_keep_time
        """When somebody needed one. Right after each check of the quorum no follower is active."""
        self._next_offer = self._next_try = 0.0
        self._told: dict[str, tuple[str, float]] = {}
        """The last warning of each kind, and when."""
        self._is_stopped = False
        self.made = 0
        self.parts_served = 0
        _remove_all(directory)

    def __repr__(self) -> str:
        return f"<Images {self._image and self._image[1].image_id} making={self._is_making}>"

    @property
    def keeps_from(self) -> Index | None:
        """The log must keep its entries from here on, for who fetches the image."""
        if self._image is None or self._is_past(self._fetched_at):
            return None
        return Index(self._image[1].last_index + 1)

    @property
    def is_making(self) -> bool:
        """The checkpoint's thread copies the database."""
        return self._is_making

    def stop(self) -> None:
        """Make and offer no more."""
        self._is_stopped = True

    def sweep(self, now: float, core: Raft) -> None:
        """Offer an image to whoever needs one, if we lead; let go of one that nobody wants."""
        needy: list[ProgressView] = []
        if core.role is Role.LEADER and not core.is_unfit:
            needy = [
                one
                for one in core.progress()
                if one.state is ProgressState.SNAPSHOT and one.is_active
            ]
        if needy:
            self._wanted_at = now
            self._see_declined()
            manifest = self._on_offer(max(one.match_index for one in needy) + 1)
            if manifest is None:
                self._make(now)
            elif now >= self._next_offer:
                self._next_offer = now + self._settings.image_offer_interval
                last = EntryId(Term(manifest.last_term), Index(manifest.last_index))
                text = msgspec.json.encode(Offer(manifest.image_id, self._address))
                for one in needy:
                    self._offer(one.node_id, last, text)
        elif self._is_past(max(self._fetched_at, self._wanted_at)):
            self._remove()

    def asked(self, index_min: object, answer: Callable[[Mapping[str, object]], None]) -> None:
        """A node whose database is lost wants an image, though it needs no entry that is gone; one
        as of `index_min` at least, if it says so: its log begins behind that."""
        now = self._loop.monotonic()
        self._wanted_at = now
        # A leader that begins may not have carried out anything yet.
        needed = max(1, index_min if isinstance(index_min, int) else 0)
        self._see_declined()
        manifest = self._on_offer(needed)
        if manifest is not None:
            answer(
                {
                    "image_id": manifest.image_id,
                    "address": self._address,
                    "last_index": manifest.last_index,
                    "last_term": manifest.last_term,
                }
            )
        elif self._machine().applied_index < needed:
            answer({"error": "Unavailable", "text": "the database here is too old"})
        elif self._is_fetched:
            text = "an older image is being fetched; a newer one is made afterwards"
            answer({"error": "Unavailable", "text": text})
        else:
            self._make(now)
            answer({"error": "Unavailable", "text": "an image is being made"})

    def _on_offer(self, needed: int) -> Manifest | None:
        """What is offered to those who need all up to `needed`; None: an image is to be made."""
        manifest = self._image[1] if self._image and self._is_of_use else self._declined
        return manifest if manifest is not None and manifest.last_index >= needed else None

    def _see_declined(self) -> None:
        """Let go of an image that is of no use any more, and that nobody has begun to fetch."""
        if self._image is not None and not self._is_of_use and not self._served:
            self._declined = self._image[1]
            self._remove()

    @property
    def _fetched_at(self) -> float:
        """When a chunk of it was asked for, or it was made."""
        return max(self._made_at, self._served_at)

    @property
    def _is_fetched(self) -> bool:
        """May somebody have a chunk of it, and wait for more?"""
        latest = max(self._awaited.values(), default=-math.inf)
        silent_s = self._loop.monotonic() - latest
        return self._is_of_use and silent_s <= self._settings.image_part_timeout

    @property
    def _is_of_use(self) -> bool:
        """Is there an image that the log can follow on?"""
        return self._image is not None and self._image[1].last_index + 1 >= self._first_index()

    def _is_past(self, moment: float) -> bool:
        """Is that long ago? What was asked for then may have been on its way for a while."""
        kept_s = self._settings.image_part_timeout + self._settings.image_keep_time
        return self._loop.monotonic() - moment > kept_s

    def serve(self, name: str, answer: Callable[[bytes | None], None]) -> None:
        """The part of this name: `ID` is the manifest, `ID/N` chunk N; None if there is none."""
        image_id, _, number = name.partition("/")
        if self._declined is not None and image_id == self._declined.image_id:
            self._declined = None
        if self._image is None or image_id != self._image[1].image_id:
            answer(None)
            return
        path, manifest = self._image
        self.parts_served += 1
        if not number:
            answer(msgspec.json.encode(manifest))
        elif _is_number(number) and int(number) < len(manifest.digests):
            offset = int(number) * manifest.chunk_bytes
            # Whoever fetches verifies. Asked for again, it may be rotten here.
            is_checked = int(number) in self._served
            self._served_at = self._loop.monotonic()
            self._served.add(int(number))
            self._awaited.pop(int(number), None)
            if int(number) + 1 < len(manifest.digests):
                self._awaited[int(number) + 1] = self._served_at
            digest = manifest.digests[int(number)]

            def read() -> bytes:
                with open(path, "rb", buffering=0) as file:
                    part = os.pread(file.fileno(), manifest.chunk_bytes, offset)
                if is_checked and digest_of(part) != digest:
                    raise OSError(f"{path} is not what was written")
                return part

            def done(part: bytes | None, error: BaseException | None) -> None:
                if error is not None and self._image is not None and self._image[0] == path:
                    log.warning("the image is given up: %s", error)
                    self._remove()  # a new one is made for whoever wants one
                answer(part)

            self._loop.submit(read, done)
        else:
            answer(None)

    def _make(self, now: float) -> None:
        if self._is_making or self._is_stopped or now < self._next_try:
            return
        self._next_try = now + self._settings.image_offer_interval
        self._remove()
        size = self._machine().statistics().database_bytes
        if not self._has_room(size):
            self._warn(now, "room", "no room for an image of the database", bytes=size)
            return

        def made(found: tuple[str, Manifest] | None, error: BaseException | None) -> None:
            self._is_making = False
            if found is None:
                # What is wrong with the database itself its owner has heard of.
                self._warn(now, "making", f"no image could be made: {error}")
                return
            self._image, self._declined = found, None
            self._served.clear()
            self._awaited.clear()
            self._made_at, self._served_at = self._loop.monotonic(), -math.inf
            self._next_offer = 0.0
            self.made += 1
            manifest = found[1]
            log.info("image made", extra={"index": manifest.last_index, "bytes": manifest.size})

        self._is_making = self._machine().checkpointer.make_image(self._directory, made)

    def _warn(self, now: float, kind: str, text: str, **details: object) -> None:
        """Unless the last warning of this kind told the same a short while ago."""
        told, at = self._told.get(kind, ("", -math.inf))
        if text != told or now >= at + TELL_PAUSE_S:
            self._told[kind] = text, now
            log.warning(text, extra=details)

    def _remove(self) -> None:
        if self._image is not None:
            path, self._image = self._image[0], None
            self._loop.submit(lambda: os.unlink(path), lambda _, error: None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _remove_all(directory: str) -> None:
    """Images of an earlier life: nobody knows of them any more."""
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            if name.endswith(SUFFIX):
                os.unlink(os.path.join(directory, name))
