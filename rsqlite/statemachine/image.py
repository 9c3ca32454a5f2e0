"""Images: the database as of one index, as a file that can be sent to another node (design 3).

The database file itself is the image, as a checkpoint left it: whole up to a commit, and nobody
writes into it until the next checkpoint, which is held back while it is copied. Writers go on, into
the WAL. The copy goes through SQLite's own file layer: to open the live file in any other way, and
to close it again, would drop SQLite's locks. Every page is verified on the way. It is made in
stretches with a rest after each.

An image is sent in chunks. The manifest has a digest of each, so a transfer that was cut off goes
on where it was, and a chunk that was damaged on the way is fetched again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from io import FileIO
from typing import Any

import apsw
import msgspec

from rsqlite.errors import DamagedDatabase, DamagedFile
from rsqlite.raft.types import Configuration
from rsqlite.statemachine import schema
from rsqlite.statemachine.livepages import LivePages
from rsqlite.statemachine.vfs import load_checksum_vfs

CHUNK_BYTES = 1 << 20
PIECE_BYTES = 1 << 18
STRETCH_CHUNKS = 4
"""Copied, or looked at, without a rest: some milliseconds of work."""
REST_MAX_S = 0.1
SUFFIX = ".image"


class ImageUnwritten(Exception):
    """An image could not be written; the database is as well as before."""


class Manifest(msgspec.Struct, frozen=True):
    """What there is to know of an image. `digests` are BLAKE2b of 16 bytes, in hex, one for each
    chunk of `chunk_bytes`; the last chunk may be shorter."""

    image_id: str
    last_index: int
    last_term: int
    size: int
    chunk_bytes: int
    digests: list[str]

    def chunk_size(self, number: int) -> int:
        """Bytes of chunk `number`, the first being 0."""
        return min(self.chunk_bytes, self.size - number * self.chunk_bytes)

    def check(self) -> None:
        """ValueError for a manifest that contradicts itself."""
        sizes = (self.size > 0, self.chunk_bytes > 0, self.last_index > 0)
        count = -(-self.size // self.chunk_bytes) if all(sizes) else -1
        if count != len(self.digests):
            raise ValueError(f"an image of {self.size} bytes in {len(self.digests)} chunks")


def digest_of(chunk: bytes) -> str:
    """How a manifest names the content of a chunk."""
    hasher = _hasher()
    hasher.update(chunk)
    return hasher.hexdigest()


def rest_s(took_s: float) -> float:
    """How long to rest after a piece of an image that took so long to copy or to fetch: as long.
    A busy machine takes longer for a piece, so the writers are given way to where it is needed; a
    slow network does, too, but is no reason to wait."""
    return min(took_s, REST_MAX_S)


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


class Copying:
    """A copy of the database at `path` to a new image in `directory`, a stretch at a time. Nobody
    may write into the file from the first `step` to the last, or until it is given up."""

    def __init__(self, path: str, directory: str) -> None:
        self._path = path
        self._directory = directory
        self._image_id = secrets.token_hex(8)
        self._target = os.path.join(directory, self._image_id + SUFFIX)
        self._digests: list[str] = []
        self._size = 0
        self._source: LivePages | None = None

    def step(self) -> tuple[str, Manifest] | None:
        """In a thread: copy the next stretch. The path of the image and its manifest when that was
        the last one. After an error it is given up. DamagedDatabase for a page that fails its
        checksum: nobody shall get it from here."""
        try:
            return self._step()
        except BaseException as error:
            self.give_up()
            if isinstance(error, OSError):
                text = f"cannot write the image {self._target}: {error}"
                raise ImageUnwritten(text) from error
            raise

    def give_up(self) -> None:
        """Nothing is left of it."""
        self._close()
        if os.path.exists(self._target):
            os.unlink(self._target)

    def _step(self) -> tuple[str, Manifest] | None:
        if self._source is None:
            self._source = LivePages(self._path)
            self._size = self._source.size()
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(self._target, "xb"):
                pass
        with open(self._target, "ab", buffering=0) as file:
            for _ in range(STRETCH_CHUNKS):
                if len(self._digests) * CHUNK_BYTES >= self._size:
                    break
                self._digests.append(self._copy_chunk(self._source, file))
        if len(self._digests) * CHUNK_BYTES < self._size:
            return None
        self._close()
        index, term, _ = read_image(self._target)
        return self._target, Manifest(
            self._image_id, index, term, self._size, CHUNK_BYTES, self._digests
        )

    def _copy_chunk(self, source: LivePages, file: FileIO) -> str:
        """In pieces that stay in the processor's cache between reading, hashing and writing: half
        the time of whole chunks (measured)."""
        offset = len(self._digests) * CHUNK_BYTES
        end = min(offset + CHUNK_BYTES, self._size)
        hasher = _hasher()
        while offset < end:
            piece = source.read(min(PIECE_BYTES, end - offset), offset)
            for page in source.failing(piece, offset // source.page_bytes + 1):
                if source.is_damaged(page):
                    raise DamagedDatabase(source.name_of(page))
                # The database is well without this page; the image would not be.
                raise ImageUnwritten(f"{source.name_of(page)}, and is newer in the WAL")
            hasher.update(piece)
            write_all(file, piece)
            offset += len(piece)
        return hasher.hexdigest()

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of `data`: a raw file may take less at a time."""
    written = file.write(data)
    while written < len(data):
        written += file.write(data[written:])


def read_image(path: str) -> tuple[int, int, Configuration]:
    """Applied index, applied term and configuration of the image at `path`, which is nobody's
    database. DamagedFile if it is no database of ours."""
    try:
        connection = apsw.Connection(
            f"file:{path}?immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            vfs=load_checksum_vfs(),
        )
        try:
            rows: Any = connection.execute(schema.SELECT_APPLIED).fetchall()
            found: Any = connection.execute("SELECT name, value FROM _rsqlite_meta").fetchall()
        finally:
            connection.close()
    except apsw.Error as error:
        raise DamagedFile(f"{path} is no image of a database: {error}") from error
    meta = dict(found)
    schema.check_format(meta.get("format"), path)
    return int(rows[0][0]), int(rows[0][1]), schema.configuration_in(meta, path)
