"""The receiving side of an image: fetched part by part, verified, synced; then handed over whole.

One at a time. What was fetched is kept while the same image is offered, so a transfer that breaks
off goes on where it was. The node serves what it has until the image is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

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
FETCH_TIMEOUT_S = 10.0


class Transfer:
    """Those of one node."""

    def __init__(
        self,
        directory: str,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        has_room: Callable[[int], bool],
        arrived: Callable[[str, Manifest], None],
    ) -> None:
        self._directory = directory
        self._network = network
        self._loop = loop
        self._settings = settings
        self._has_room = has_room
        self._arrived = arrived
        self._offer: Offer | None = None
        self._manifest: Manifest | None = None
        self._number = 0
        self._progress_at = 0.0
        self._began = 0.0
        self._bytes = 0
        self._is_over = False
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
        self._in_thread(self._begin, self._next)

    def _begin(self) -> None:
        """In a thread: how much of it is there already, from before a break?"""
        assert self._manifest is not None
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        name = os.path.basename(self._path)
        for other in os.listdir(self._directory):
            if other != name:
                os.unlink(os.path.join(self._directory, other))
        with open(self._path, "ab"):
            pass
        number = 0
        with open(self._path, "rb") as file:
            for digest in self._manifest.digests:
                chunk = file.read(self._manifest.chunk_size(number))
                if digest_of(chunk) != digest:
                    break
                number += 1
        self._number = number

    def _next(self) -> None:
        """Fetch the next chunk, no sooner than the bound on the rate allows."""
        assert self._manifest is not None
        if self._number == len(self._manifest.digests):
            self._in_thread(self._finish, self._hand_over)
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
        self._in_thread(lambda: self._store(chunk), self._next)

    def _store(self, chunk: bytes) -> None:
        """In a thread."""
        manifest, number = self._manifest, self._number
        assert manifest is not None
        if (
            len(chunk) != manifest.chunk_size(number)
            or digest_of(chunk) != manifest.digests[number]
        ):
            log.warning("a chunk of the image came damaged", extra={"chunk": number})
            return  # it is fetched again
        offset = number * manifest.chunk_bytes
        with open(self._path, "r+b", buffering=0) as file:
            file.seek(offset)
            file.write(chunk)
            if (offset + len(chunk)) // SYNC_BYTES != offset // SYNC_BYTES:
                os.fdatasync(file.fileno())
        self._number = number + 1
        self._bytes += len(chunk)
        self._progress_at = self._loop.monotonic()

    def _finish(self) -> None:
        """In a thread: all of it is there; make that durable, and look whether it is what it was
        said to be."""
        manifest = self._manifest
        assert manifest is not None
        with open(self._path, "r+b", buffering=0) as file:
            file.truncate(manifest.size)
            os.fsync(file.fileno())
        index, term, _ = read_image(self._path)
        if (index, term) != (manifest.last_index, manifest.last_term):
            raise DamagedFile(f"the image is as of entry {index}, not {manifest.last_index}")

    def _hand_over(self) -> None:
        assert self._manifest is not None
        log.info(
            "image is there",
            extra={"bytes": self._manifest.size, "index": self._manifest.last_index},
        )
        self._arrived(self._path, self._manifest)

    def _in_thread(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Disk work beside the loop. What it cannot do is no fault of the node's: the image is not
        its data yet. Another one will be offered."""
        generation = self._generation

        def done(_: None, error: BaseException | None) -> None:
            if generation != self._generation:
                return
            if error is None:
                then()
            else:
                log.warning("the image cannot be stored: %s", error)
                self._give_up()

        self._loop.submit(work, done)

    def _give_up(self) -> None:
        self._generation += 1
        self._offer = self._manifest = None


def _is_name(image_id: str) -> bool:
    """It becomes a part of a file's name."""
    return 0 < len(image_id) <= 64 and image_id.isascii() and image_id.isalnum()
