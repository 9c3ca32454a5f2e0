"""The SQL functions that would differ between nodes, made to depend on the entry alone.

`random()` and `randomblob()` draw from a stream that starts anew for each statement. On the leader
its seed is made at the first draw and recorded; on a replica the recorded seed is used, and to draw
without one is a divergence. `total_changes()` counts from the start of the request, not of the
connection. `changes()` and `last_insert_rowid()` are SQLite's own, which triggers need; the engine
brings the connection to a known state before a statement instead (`Counters`).

All are non-deterministic to the planner (no index may hold them) and SQLITE_INNOCUOUS, because with
trusted_schema off a `DEFAULT (random())` is otherwise refused.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

import apsw

_INT64 = 1 << 64
_SIGN = 1 << 63
_BLOCK_BYTES = 512
"""One hash yields 64 values of random(); most statements draw fewer."""


class Entropy:
    """The random stream of the statement that runs. `seed` is None until something is drawn."""

    def __init__(self, blob_bytes_max: int) -> None:
        self.seed: int | None = None
        self.batch_seed: int | None = None
        """None on a replica: seeds then come from the entry."""
        self._blob_bytes_max = blob_bytes_max
        self._streams = 0
        self._opened: int | None = None
        self._material = b""
        self._block = 0
        self._buffer = b""
        self._offset = 0

    def lead(self, batch_seed: int) -> None:
        """Make seeds from `batch_seed` from now on, the same ones in the same order each time."""
        self.batch_seed = batch_seed
        self._streams = 0
        self.seed = None

    def follow(self) -> None:
        """Take seeds from entries from now on."""
        self.batch_seed = None
        self.seed = None

    def open(self, seed: int | None) -> None:
        """Start the stream of a statement: with the recorded seed, or with none."""
        self.seed = seed
        self._opened = None

    def random(self) -> int:
        """As SQLite's `random()`, which avoids the one value whose abs() overflows."""
        value = int.from_bytes(self._take(8), "little")
        signed = value - _INT64 if value & _SIGN else value
        return signed if signed != -_SIGN else 0

    def randomblob(self, length: int | float | str | bytes | None) -> bytes | apsw.zeroblob:
        """As SQLite's `randomblob(n)`: at least one byte."""
        count = max(1, _as_integer(length))
        if count > self._blob_bytes_max:
            # SQLite refuses this by itself, with the code and the text of its own function.
            return apsw.zeroblob(min(count, _SIGN - 1))
        return self._take(count)

    def _take(self, count: int) -> bytes:
        if self.seed is None:
            self.seed = self._new_seed()
            self._opened = None
        if self._opened != self.seed:
            self._opened = self.seed
            self._material = self.seed.to_bytes(8, "little")
            self._block, self._buffer, self._offset = 0, b"", 0
        offset = self._offset
        if offset + count > len(self._buffer):
            material = self._material + self._block.to_bytes(8, "little")
            self._block += 1
            self._buffer = hashlib.shake_128(material).digest(max(count, _BLOCK_BYTES))
            offset = 0
        self._offset = offset + count
        return self._buffer[offset : offset + count]

    def _new_seed(self) -> int:
        if self.batch_seed is None:
            raise apsw.SQLError("random() was not called when the leader ran this statement")
        material = b"%d/%d" % (self.batch_seed, self._streams)
        self._streams += 1
        return int.from_bytes(hashlib.blake2b(material, digest_size=7).digest(), "little")


class Counters:
    """`total_changes()` as a connection of the request's own would have it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.base = 0

    def total_changes(self) -> int:
        return self._connection.total_changes() - self.base

    def start(self, total: int = 0) -> None:
        """From now on `total_changes()` counts from `total`."""
        self.base = self._connection.total_changes() - total


def install(connection: apsw.Connection, entropy: Entropy, counters: Counters) -> None:
    """Make the connection's SQL use them."""
    ours: tuple[tuple[str, Any, int], ...] = (
        ("random", entropy.random, 0),
        ("randomblob", entropy.randomblob, 1),
        ("total_changes", counters.total_changes, 0),
    )
    for name, function, arguments in ours:
        connection.create_scalar_function(name, function, arguments, flags=apsw.SQLITE_INNOCUOUS)


def use_utc() -> None:
    """Make 'localtime' and 'utc' in SQL mean the same on every node. SQLite asks the C library, so
    this is the time zone of the whole process."""
    if time.timezone != 0 or time.daylight:
        os.environ["TZ"] = "UTC0"
        time.tzset()


def _as_integer(value: int | float | str | bytes | None) -> int:
    """As SQLite casts its argument: the longest numeric prefix, 0 for anything else."""
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if abs(value) < _SIGN else (_SIGN - 1 if value > 0 else -_SIGN)
    if value is None:
        return 0
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    text = text.strip()
    end = 1 if text[:1] in ("-", "+") else 0
    while end < len(text) and text[end].isascii() and text[end].isdigit():
        end += 1
    try:
        return int(text[:end])
    except ValueError:
        return 0
