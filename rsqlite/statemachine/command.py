"""What an entry of the log carries: the statements that took effect, and what they must do again.

Format, version 1: a msgpack array of columns, one position for each field of `Command` in the order
below. Fields are only ever appended, with a default that means what the absence meant; anything
that changes what a replica does with the old ones gets a new version, which is the behaviour of
`fingerprint.py`. Golden files in `tests/statemachine/golden/` hold one entry of each kind byte by
byte.

Positions count logged statements of the whole entry, from 0. Columns that would say the same for
every statement or request of an ordinary batch are empty, so that a single INSERT stays small.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rsqlite.errors import NodeFault
from rsqlite.statemachine.fingerprint import BEHAVIOUR

KIND_SQL = 1

FLAG_LONG = 1
"""The leader ran this entry in a thread, over the budget of its loop, or it was slow; replicas run
it in a thread."""
FLAG_STATISTICS = 2
"""ANALYZE took part: the schema version is raised, so that other connections read the new
statistics at the same index."""
FLAG_FOREIGN_KEYS = 4
"""Foreign keys were enforced, by the leader's setting `fk` or by a setting of the request."""


class Command(msgspec.Struct, array_like=True, gc=False):
    """One entry. `[]` in a column that may be empty stands for the value named there."""

    version: int = BEHAVIOUR
    kind: int = KIND_SQL
    flags: int = 0
    times: list[int] = []
    """What 'now' is, in milliseconds since 1970, for each request; one value stands for all."""
    keys: list[bytes] = []
    """Idempotency keys, one for each request; empty: no request has one."""
    settings: list[tuple[str, int]] = []
    """Session settings in force from before BEGIN to after COMMIT."""
    counts: list[int] = []
    """Logged statements of each request; empty: one each."""
    sqls: list[str] = []
    """The different texts."""
    texts: list[int] = []
    """For each statement its place in `sqls`; empty: always 0."""
    parameters: list[Any] = []
    """For each statement a list, a dict or nil."""
    changes: list[int] = []
    """Expected: `changes()` after each statement."""
    rowids: list[int] = []
    """Expected: `last_insert_rowid()` after each statement."""
    errors: dict[int, int] = {}
    """Position → extended result code of a statement that failed and had effects all the same."""
    resets: dict[int, tuple[int, int, int]] = {}
    """Position → (`changes()`, `last_insert_rowid()`, `total_changes()`) as they were before that
    statement, where it may show them or replaying the log alone would not bring them about."""
    streams: dict[int, int] = {}
    """Position → seed of the random stream, for statements that drew from it."""
    digest_from: int = -1
    """First position that `digest` covers; -1: the entry has none."""
    digest: bytes = b""
    transactions: list[int] = []
    """Numbers of the requests whose statements, two or more, take effect together or not at all: it
    matters where a majority computes otherwise than the leader did (`overruled.py`)."""

    @property
    def is_long(self) -> bool:
        return bool(self.flags & FLAG_LONG)

    @property
    def statement_count(self) -> int:
        return len(self.changes)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Command)


def encode(command: Command) -> bytes:
    """The bytes of the entry. TypeError for a parameter that is no `SqlValue`."""
    return _encoder.encode(command)


def decode(data: bytes, newest: int = BEHAVIOUR) -> Command:
    """The inverse of `encode`. NodeFault for an entry that this release, which knows versions up to
    `newest`, cannot carry out: to skip it would be to differ from the nodes that can."""
    try:
        command = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise NodeFault(
            f"an entry of the log cannot be read: {error}; {_version_of(data, newest)}"
        ) from error
    if not 1 <= command.version <= newest or command.kind != KIND_SQL:
        raise NodeFault(
            f"an entry of the log has version {command.version} and kind {command.kind};"
            f" this release knows versions up to {newest} and kind {KIND_SQL}: upgrade this node"
        )
    return command


def _version_of(data: bytes, newest: int) -> str:
    try:
        fields = msgspec.msgpack.decode(data)
        return f"it says version {fields[0]!r}, this release knows versions up to {newest}"
    except (msgspec.DecodeError, TypeError, IndexError, KeyError):
        return "it is no entry of any version"
