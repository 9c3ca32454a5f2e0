"""The receiving side of an image: fetched part by part, verified, synced; then handed over whole.

One at a time. What was fetched is kept while the same image is offered, so a transfer that breaks
off goes on where it was. The node serves what it has until the image is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TypeVar

import msgspec

from rsqlite.config import MIB, Settings
from rsqlite.errors import DamagedFile
from rsqlite.node.images import Offer
from rsqlite.ports import Loop, Network
from rsqlite.raft.messages import InstallSnapshot
from rsqlite.statemachine.image import Manifest, digest_of, read_image

log = logging.getLogger(__name__)

SYNC_BYTES = 8 * MIB
"""Synced so often, so that the disk is never flooded."""
RETRY_PAUSE_S = 0.25
FETCH_TIMEOUT_S = 60.0
"""For a chunk: 17 KiB/s will do."""
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
        has_room: Callable[[int], bool],
        arrived: Callable[[str, Manifest], None],
    ) -> None:
        self._directory = directory
        self._network = network
        self._loop = loop
        self._settings = settings
        self._cluster_id = cluster_id
        self._has_room = has_room
        self._arrived = arrived
        self._offer: Offer | None = None
        self._manifest: Manifest | None = None
        self._number = 0
        self._progress_at = 0.0
        self._began = 0.0
        self._bytes = 0
        self._bad_chunks = 0
        self._is_handed_over = False
        self._is_stopped = False
        self._generation = 0

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
        """Give up a transfer that does not get on: its source may be gone for good."""
        is_waited_for = self._offer is not None and not self._is_handed_over
        if is_waited_for and now - self._progress_at > self._settings.image_stall_timeout:
            log.warning("the transfer of an image does not get on", extra={"at": self._number})
            self._give_up()

    def offered(self, message: InstallSnapshot) -> None:
        """The leader offers an image. Another one than that which is being fetched is taken up
        only when that one does not get on any more."""
        try:
            offer = msgspec.json.decode(message.image, type=Offer)
        except msgspec.DecodeError:
            return
        now = self._loop.monotonic()
        if self._is_stopped or not _is_name(offer.image_id):
            return
        if self._offer is not None:
            is_stuck = now - self._progress_at > self._settings.image_stall_timeout
            if offer == self._offer or not (is_stuck or offer.image_id == self._offer.image_id):
                return
        self._generation += 1
        self._offer, self._manifest, self._number = offer, None, 0
        self._bad_chunks, self._is_handed_over = 0, False
        self._progress_at = self._began = now
        self._bytes = 0
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

        def done(part: bytes | None, error: BaseException | None) -> None:
            if generation != self._generation:
                return
            if part is not None:
                got(part)
            elif isinstance(error, LookupError):
                log.info("the image is gone where it was", extra={"image": offer.image_id})
                self._give_up()
            else:
                self._loop.call_later(RETRY_PAUSE_S, again)

        def again() -> None:
            if generation == self._generation:
                self._fetch(name, got)

        self._network.fetch(offer.address, name, done, timeout_s=FETCH_TIMEOUT_S)

    def _got_manifest(self, part: bytes) -> None:
        try:
            manifest = msgspec.json.decode(part, type=Manifest)
            manifest.check()
        except (msgspec.DecodeError, ValueError) as error:
            log.warning("an image without a manifest: %s", error)
            self._give_up()
            return
        if not self._has_room(manifest.size):
            log.warning("no room for the image", extra={"bytes": manifest.size})
            self._give_up()
            return
        self._manifest = manifest
        path = self._path
        self._in_thread(lambda: _begin(path, manifest), self._begun)

    def _begun(self, number: int) -> None:
        self._number = number
        self._next()

    def _next(self) -> None:
        """Fetch the next chunk, no sooner than the bound on the rate allows."""
        assert self._manifest is not None
        if self._number == len(self._manifest.digests):
            path, manifest = self._path, self._manifest
            self._is_handed_over = True
            cluster_id = self._cluster_id()
            self._in_thread(lambda: _finish(path, manifest, cluster_id), self._hand_over)
            return
        due = self._began + self._bytes / self._settings.image_bytes_per_second
        pause = due - self._loop.monotonic()
        generation = self._generation

        def fetch() -> None:
            if generation == self._generation:
                assert self._offer is not None
                self._fetch(f"{self._offer.image_id}/{self._number}", self._got_chunk)

        if pause > 0:
            self._loop.call_later(pause, fetch)
        else:
            fetch()

    def _got_chunk(self, chunk: bytes) -> None:
        path, manifest, number = self._path, self._manifest, self._number
        assert manifest is not None
        self._bytes += len(chunk)
        self._in_thread(lambda: _store(path, manifest, number, chunk), self._stored)

    def _stored(self, is_sound: bool) -> None:
        if is_sound:
            self._number += 1
            self._progress_at = self._loop.monotonic()
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


def _begin(path: str, manifest: Manifest) -> int:
    """In a thread: how many chunks are there already, from before a break?"""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    for other in os.listdir(os.path.dirname(path)):
        if other != os.path.basename(path):
            os.unlink(os.path.join(os.path.dirname(path), other))
    with open(path, "ab"):
        pass
    with open(path, "rb") as file:
        for number, digest in enumerate(manifest.digests):
            if digest_of(file.read(manifest.chunk_size(number))) != digest:
                return number
    return len(manifest.digests)


def _store(path: str, manifest: Manifest, number: int, chunk: bytes) -> bool:
    """In a thread: False when it is not what the manifest says."""
    if digest_of(chunk) != manifest.digests[number]:
        return False
    offset = number * manifest.chunk_bytes
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        file.write(chunk)
        if (offset + len(chunk)) // SYNC_BYTES != offset // SYNC_BYTES:
            os.fdatasync(file.fileno())
    return True


def _finish(path: str, manifest: Manifest, cluster_id: str | None) -> None:
    """In a thread: all of it is there; make that durable, and look whether it is what it was said
    to be."""
    with open(path, "r+b", buffering=0) as file:
        file.truncate(manifest.size)
        os.fsync(file.fileno())
    if _begin(path, manifest) != len(manifest.digests):
        raise DamagedFile("the image is not what was fetched")
    index, term, configuration = read_image(path)
    if configuration.cluster_id != cluster_id:
        raise DamagedFile(f"the image is of cluster {configuration.cluster_id}")
    if (index, term) != (manifest.last_index, manifest.last_term):
        raise DamagedFile(f"the image is as of entry {index}, not {manifest.last_index}")


def _is_name(image_id: str) -> bool:
    """It becomes a part of a file's name."""
    return 0 < len(image_id) <= 64 and image_id.isascii() and image_id.isalnum()
