"""Images: the database as of one index, as a file that can be sent to another node (design 3).

The database file itself is the image, as a checkpoint left it: whole up to a commit, and nobody
writes into it until the next checkpoint, which is held back while it is copied. Writers go on, into
the WAL. The copy goes through SQLite's own file layer: to open the live file in any other way, and
to close it again, would drop SQLite's locks.

An image is sent in chunks. The manifest has a digest of each, so a transfer that was cut off goes
on where it was, and a chunk that was damaged on the way is fetched again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Any

import apsw
import msgspec

from rsqlite.errors import DamagedFile
from rsqlite.raft.types import Configuration
from rsqlite.statemachine import schema
from rsqlite.statemachine.vfs import load_checksum_vfs

CHUNK_BYTES = 1 << 20
SUFFIX = ".image"

_READ_ONLY = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB


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
    return hashlib.blake2b(chunk, digest_size=16).hexdigest()


def copy_database(path: str, directory: str) -> tuple[str, Manifest]:
    """Copy the database at `path`, into which nobody may write meanwhile, to a new image in
    `directory`: the path of the image, and its manifest. In a thread: it takes seconds."""
    image_id = secrets.token_hex(8)
    target = os.path.join(directory, image_id + SUFFIX)
    digests: list[str] = []
    size = 0
    source = apsw.VFSFile(apsw.vfs_names()[0], path, [_READ_ONLY, 0])
    try:
        size = source.xFileSize()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(target, "wb") as file:
            for offset in range(0, size, CHUNK_BYTES):
                chunk = source.xRead(min(CHUNK_BYTES, size - offset), offset)
                digests.append(digest_of(chunk))
                file.write(chunk)
    except BaseException as error:
        if os.path.exists(target):
            os.unlink(target)
        if isinstance(error, OSError):
            raise ImageUnwritten(f"cannot write the image {target}: {error}") from error
        raise
    finally:
        source.xClose()
    index, term, _ = read_image(target)
    return target, Manifest(image_id, index, term, size, CHUNK_BYTES, digests)


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
    data = meta.get("configuration")
    configuration = Configuration() if data is None else Configuration.from_bytes(data)
    return int(rows[0][0]), int(rows[0][1]), configuration
