"""The receiving side of an image: fetched part by part, verified, synced; then handed over whole.

One at a time. What was fetched is kept while the same image is offered, so a transfer that breaks
off goes on where it was. The node serves what it has until the image is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from io import FileIO
from typing import TypeVar

import msgspec

from rsqlite.config import MIB, Settings
from rsqlite.errors import DamagedFile
from rsqlite.node.images import Offer
from rsqlite.ports import Loop, Network
from rsqlite.raft.messages import InstallSnapshot
from rsqlite.statemachine.image import (
    STRETCH_CHUNKS,
    Manifest,
    digest_of,
    read_image,
    rest_s,
    write_all,
)

log = logging.getLogger(__name__)

SYNC_BYTES = 8 * MIB
"""Synced so often, so that the disk is never flooded."""
RETRY_PAUSE_S = 0.25
SIGNS_PER_KEEP_TIME = 4
"""Of interest in an image, while what is there of it is looked at."""
BAD_CHUNKS_MAX = 5

T = TypeVar("T")


class Transfer:
    """Those of one node."""

    def __init__(
        self,
        directory: str,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        cluster_id: Callable[[], str | None],
        room_bytes: Callable[[], int],
        give_way: Callable[[int], str | None],
        arrived: Callable[[str, Manifest], None],
    ) -> None:
        """`give_way` removes, in a thread, a piece of what is needed less than an image, and says
        what it was; None: all of it is less than the bytes that are missing."""
        self._directory = directory
        self._network = network
        self._loop = loop
        self._settings = settings
        self._cluster_id = cluster_id
        self._room_bytes = room_bytes
        self._give_way = give_way
        self._arrived = arrived
        self._offer: Offer | None = None
        self._manifest: Manifest | None = None
        self._number = 0
        self._progress_at = 0.0
        self._fetching_since = 0.0
        self._next_fetch = 0.0
        self._bad_chunks = 0
        self._next_sign = 0.0
        self._unfit = ("", 0)
        """The image for which there was no room, and how much it needs."""
        self._is_handed_over = False
        self._is_stopped = False
        self._generation = 0
        self._idle_since = loop.monotonic()
        self._has_leftovers = True
        """There may be parts of an image, of an earlier life at first."""
        self._is_clearing = False

    def __repr__(self) -> str:
        return f"<Transfer of {self._offer} at chunk {self._number}>"

    @property
    def is_under_way(self) -> bool:
        return self._offer is not None

    def stop(self) -> None:
        """Fetch no more."""
        self._is_stopped = True
        self._generation += 1

    def sweep(self, now: float) -> None:
        """Give up a transfer that does not get on: its source may be gone for good. Remove what is
        left of one that nobody has gone on with for a while."""
        is_waited_for = self._offer is not None and not self._is_handed_over
        if is_waited_for and now - self._progress_at > self._settings.image_stall_timeout:
            log.warning("the transfer of an image does not get on", extra={"at": self._number})
            self._give_up()
        is_idle = self._offer is None and now - self._idle_since > self._settings.image_keep_time
        if is_idle and self._has_leftovers:
            self._clear()

    def offered(self, message: InstallSnapshot) -> None:
        """The leader offers an image. Another one than that which is being fetched is taken up
        only when that one does not get on any more."""
        try:
            offer = msgspec.json.decode(message.image, type=Offer)
        except msgspec.DecodeError:
            return
        now = self._loop.monotonic()
        if self._is_stopped or self._is_clearing or not _is_name(offer.image_id):
            return
        if self._offer is not None:
            is_stuck = now - self._progress_at > self._settings.image_stall_timeout
            if offer == self._offer or not (is_stuck or offer.image_id == self._offer.image_id):
                return
        if offer.image_id == self._unfit[0] and self._room_bytes() < self._unfit[1]:
            return
        self._generation += 1
        self._offer, self._manifest, self._number = offer, None, 0
        self._bad_chunks, self._is_handed_over = 0, False
        self._progress_at = self._next_fetch = now
        log.info(
            "image offered",
            extra={"index": message.last_index, "from": offer.address, "image": offer.image_id},
        )
        self._fetch(offer.image_id, self._got_manifest)

    def ended(self) -> None:
        """The image that arrived was installed, or is of no use."""
        self._give_up()

    @property
    def _path(self) -> str:
        assert self._offer is not None
        return os.path.join(self._directory, f"{self._offer.image_id}.part")

    def _fetch(self, name: str, got: Callable[[bytes], None]) -> None:
        offer, generation = self._offer, self._generation
        assert offer is not None
        self._fetching_since = now = self._loop.monotonic()
        self._next_sign = now + self._settings.image_keep_time / SIGNS_PER_KEEP_TIME

        def done(part: bytes | None, error: BaseException | None) -> None:
            if generation != self._generation:
                return
            if part is not None:
                got(part)
            elif isinstance(error, LookupError):
                log.info("the image is gone where it was", extra={"image": offer.image_id})
                self._give_up()
            else:
                self._later(RETRY_PAUSE_S, lambda: self._fetch(name, got))

        def heard() -> None:
            if generation == self._generation:
                self._progress_at = self._loop.monotonic()

        timeout_s = self._settings.image_part_timeout
        self._network.fetch(offer.address, name, done, timeout_s=timeout_s, heard=heard)

    def _got_manifest(self, part: bytes) -> None:
        try:
            manifest = msgspec.json.decode(part, type=Manifest)
            manifest.check()
        except (msgspec.DecodeError, ValueError) as error:
            log.warning("an image without a manifest: %s", error)
            self._give_up()
            return
        self._manifest = manifest
        path = self._path
        self._in_thread(lambda: _prepare(path), self._prepared)

    def _prepared(self, there_bytes: int) -> None:
        assert self._manifest is not None
        missing = self._manifest.size - there_bytes - self._room_bytes()
        if missing <= 0:
            self._look(0, self._begun)
        else:
            self._in_thread(lambda: self._give_way(missing), partial(self._gave_way, there_bytes))

    def _gave_way(self, there_bytes: int, removed: str | None) -> None:
        assert self._offer is not None
        assert self._manifest is not None
        if removed is not None:
            log.warning("removed, to have room for an image", extra={"path": removed})
            self._prepared(there_bytes)
        else:
            log.warning("no room for the image", extra={"bytes": self._manifest.size})
            self._unfit = self._offer.image_id, self._manifest.size - there_bytes
            self._give_up()

    def _look(self, first: int, then: Callable[[int], None]) -> None:
        """How many chunks are there and sound? `first` are known to be. A stretch at a time: to
        look at all of a large image takes longer than anybody waits for a sign of life."""
        path, manifest, began = self._path, self._manifest, self._loop.monotonic()
        assert manifest is not None

        def looked(number: int) -> None:
            self._progress_at = now = self._loop.monotonic()
            self._show_interest(now)
            if number < first + STRETCH_CHUNKS or number == len(manifest.digests):
                then(number)
            else:
                self._later(rest_s(now - began), lambda: self._look(number, then))

        self._in_thread(lambda: _sound_chunks(path, manifest, first), looked)

    def _show_interest(self, now: float) -> None:
        """Fetch something, for an image of which nobody does is let go, and the log behind it."""
        if self._offer is None or now < self._next_sign:
            return
        settings = self._settings
        self._next_sign = now + settings.image_keep_time / SIGNS_PER_KEEP_TIME
        self._network.fetch(
            self._offer.address,
            f"{self._offer.image_id}/0",
            lambda part, error: None,
            timeout_s=settings.image_part_timeout,
            heard=lambda: None,
        )

    def _begun(self, number: int) -> None:
        self._number = number
        self._next()

    def _next(self) -> None:
        """Fetch the next chunk, no sooner than the bound on the rate allows, and after a rest."""
        offer, path, manifest = self._offer, self._path, self._manifest
        assert offer is not None
        assert manifest is not None
        if self._number == len(manifest.digests):
            self._is_handed_over = True
            self._in_thread(lambda: _sync(path, manifest), lambda _: self._look(0, self._whole))
            return
        name = f"{offer.image_id}/{self._number}"
        pause = self._next_fetch - self._loop.monotonic()
        if pause > 0:
            self._later(pause, lambda: self._fetch(name, self._got_chunk))
        else:
            self._fetch(name, self._got_chunk)

    def _whole(self, number: int) -> None:
        """All of it is there and durable. Is it what it was said to be?"""
        path, manifest, cluster_id = self._path, self._manifest, self._cluster_id()
        assert manifest is not None
        if number < len(manifest.digests):
            log.warning("the image is not what was fetched", extra={"chunk": number})
            self._give_up()
        else:
            self._in_thread(lambda: _examine(path, manifest, cluster_id), self._hand_over)

    def _got_chunk(self, chunk: bytes) -> None:
        path, manifest, number = self._path, self._manifest, self._number
        assert manifest is not None
        self._in_thread(lambda: _store(path, manifest, number, chunk), self._stored)

    def _stored(self, is_sound: bool) -> None:
        assert self._manifest is not None
        now, began = self._loop.monotonic(), self._fetching_since
        bound_s = self._manifest.chunk_size(self._number) / self._settings.image_bytes_per_second
        self._next_fetch = max(began + bound_s, now + rest_s(now - began))
        if is_sound:
            self._number += 1
            self._progress_at = now
            self._next()
            return
        self._bad_chunks += 1
        log.warning("a chunk of the image came damaged", extra={"chunk": self._number})
        if self._bad_chunks >= BAD_CHUNKS_MAX:
            self._give_up()
        else:
            self._next()

    def _hand_over(self, _: object) -> None:
        assert self._manifest is not None
        log.info(
            "image is there",
            extra={"bytes": self._manifest.size, "index": self._manifest.last_index},
        )
        self._arrived(self._path, self._manifest)

    def _later(self, pause_s: float, then: Callable[[], None]) -> None:
        """Go on after a pause, unless the transfer was given up meanwhile."""
        generation = self._generation
        self._loop.call_later(pause_s, lambda: then() if generation == self._generation else None)

    def _in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Disk work beside the loop. What it cannot do is no fault of the node's: the image is not
        its data yet. Another one will be offered."""
        generation = self._generation

        def done(found: T | None, error: BaseException | None) -> None:
            if generation != self._generation:
                return
            if error is None:
                then(found)  # type: ignore[arg-type]  # `work` has answered
            else:
                log.warning("the image cannot be stored: %s", error)
                self._give_up()

        self._loop.submit(work, done)

    def _give_up(self) -> None:
        self._generation += 1
        self._offer = self._manifest = None
        self._idle_since = self._loop.monotonic()
        self._has_leftovers = True

    def _clear(self) -> None:
        self._is_clearing = True
        self._has_leftovers = False
        directory = self._directory

        def done(_: None, error: BaseException | None) -> None:
            self._is_clearing = False
            if error is not None:
                log.warning("what is left of an image cannot be removed: %s", error)

        self._loop.submit(lambda: _remove_all(directory), done)


def _prepare(path: str) -> int:
    """In a thread: make room for it; how many bytes of it are there, from before a break."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _remove_all(directory, but=path)
    with open(path, "ab") as file:
        return file.tell()


def _remove_all(directory: str, *, but: str = "") -> None:
    names = os.listdir(directory) if os.path.isdir(directory) else []
    for name in names:
        other = os.path.join(directory, name)
        if other != but:
            os.unlink(other)


def _sound_chunks(path: str, manifest: Manifest, first: int) -> int:
    """In a thread: the first chunk from `first` on that is not there as it should be; of a stretch,
    or its end."""
    digests = manifest.digests[first : first + STRETCH_CHUNKS]
    with open(path, "rb") as file:
        file.seek(first * manifest.chunk_bytes)
        for number, digest in enumerate(digests, first):
            if digest_of(file.read(manifest.chunk_size(number))) != digest:
                return number
    return first + len(digests)


def _store(path: str, manifest: Manifest, number: int, chunk: bytes) -> bool:
    """In a thread: False when it is not what the manifest says."""
    if digest_of(chunk) != manifest.digests[number]:
        return False
    offset = number * manifest.chunk_bytes
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        write_all(file, chunk)
        if (offset + len(chunk)) // SYNC_BYTES != offset // SYNC_BYTES:
            _make_durable(path, file, os.fdatasync)
    return True


def _sync(path: str, manifest: Manifest) -> None:
    """In a thread: all of it was fetched; make that durable."""
    with open(path, "r+b", buffering=0) as file:
        file.truncate(manifest.size)
        _make_durable(path, file, os.fsync)


def _make_durable(path: str, file: FileIO, sync: Callable[[int], None]) -> None:
    """Of a file whose sync failed nothing is kept: the kernel may call pages clean that never
    reached the disk (ATC'20), and the next sync succeeds."""
    try:
        sync(file.fileno())
    except OSError:
        os.unlink(path)
        raise


def _examine(path: str, manifest: Manifest, cluster_id: str | None) -> None:
    """In a thread: DamagedFile if it is no database, or another one than was said."""
    index, term, configuration = read_image(path)
    if configuration.cluster_id != cluster_id:
        raise DamagedFile(f"the image is of cluster {configuration.cluster_id}")
    if (index, term) != (manifest.last_index, manifest.last_term):
        raise DamagedFile(f"the image is as of entry {index}, not {manifest.last_index}")


def _is_name(image_id: str) -> bool:
    """It becomes a part of a file's name."""
    return 0 < len(image_id) <= 64 and image_id.isascii() and image_id.isalnum()
