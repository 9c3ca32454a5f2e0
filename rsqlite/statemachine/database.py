"""What a database says of itself: what has been applied to it, and by whom it was configured."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from rsqlite.raft.types import Configuration, Index, Term
from rsqlite.statemachine import schema
from rsqlite.statemachine.connection import Writer
from rsqlite.statemachine.overruled import OVERRULED


class State(NamedTuple):
    """The committed state of our tables."""

    applied_index: Index
    applied_term: Term
    time_ms: int
    configuration: Configuration
    overruled: dict[int, str]
    """See `Application`."""


def load(writer: Writer, path: str) -> State:
    """Read it; a database without any table is made ours first. ForeignDirectory: it has a format
    that this release does not know."""
    if writer.engine("SELECT count(*) FROM sqlite_schema") == [(0,)]:
        _create(writer)
    found = dict(writer.engine("SELECT name, value FROM _rsqlite_meta"))
    schema.check_format(found.get("format"), path)
    index, term, time_ms = writer.engine(schema.SELECT_APPLIED)[0]
    configuration = schema.configuration_in(found, path)
    overruled = msgspec.json.decode(found.get(OVERRULED, b"{}"), type=dict[int, str])
    return State(Index(index), Term(term), int(time_ms), configuration, overruled)


def _create(writer: Writer) -> None:
    writer.begin()
    for sql in schema.CREATE:
        writer.engine(sql)
    writer.engine(schema.INSERT_APPLIED)
    writer.engine(schema.SET_META, ("format", schema.FORMAT))
    writer.commit()
