"""What makes SQL behave as it does here, as one short text: members of a cluster must agree on it.

It covers SQLite's source id and compile options, the limits and flags that this program sets, the
behaviour of `rsqlite.statemachine` itself, and the results of a few expressions that are known to
differ between builds (float text, rounding, collation, dates).

Behaviour is a number: by which rules an entry is made and carried out. It is in front of the
fingerprint, and each entry has its own (`command.Command.version`), so that a replica never has to
guess. A release makes entries by the number that is in the cluster's fingerprint, which is an older
one as long as an upgrade goes on, and carries out those of every number up to its own.
"""

from __future__ import annotations

import functools
import hashlib
import re

import apsw

from rsqlite.config import Settings
from rsqlite.statemachine.opening import configure

BEHAVIOUR = 1
"""Raised whenever a replica of this release would carry out an old entry differently: what is done
differently then asks `Writer.behaviour`, and the old way stays for the entries that are in logs."""

_FORM = re.compile(r"([1-9][0-9]{0,5})-sqlite-[0-9.]{1,20}-[0-9a-f]{24}")

_PROBES = (
    "SELECT 0.1 + 0.2, 1e15 / 3, 1e300 * 1e10, -1e-310, 9007199254740993.0, CAST(1e19 AS INTEGER)",
    "SELECT round(2.5), round(0.285, 2), round(-1.005, 2), printf('%.17g|%g|%e', 0.1, 1e21, 5e-5)",
    "SELECT '1' = 1, 'a' < 'B', 'a' < 'B' COLLATE NOCASE, 'É' LIKE 'é', upper('é'), 1 / 3, -7 % 3",
    "SELECT datetime(0, 'unixepoch'), julianday('2024-02-29'), strftime('%J', 1.5), hex('é')",
    "SELECT sqrt(2), exp(1), sin(1), pow(2, 0.5), json('{\"a\":1.0}'), typeof(1e400)",
)
_LIMITS = (
    apsw.SQLITE_LIMIT_LENGTH,
    apsw.SQLITE_LIMIT_SQL_LENGTH,
    apsw.SQLITE_LIMIT_COLUMN,
    apsw.SQLITE_LIMIT_EXPR_DEPTH,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT,
    apsw.SQLITE_LIMIT_VDBE_OP,
    apsw.SQLITE_LIMIT_FUNCTION_ARG,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH,
)


def fingerprint(connection: apsw.Connection) -> str:
    """The behaviour and the SQLite version in clear, then a hash of the rest."""
    parts = [f"behaviour {BEHAVIOUR}", apsw.sqlite3_sourceid()]
    parts += sorted(option for option in apsw.compile_options if not option.startswith("COMPILER"))
    parts += [f"limit {limit} {connection.limit(limit)}" for limit in _LIMITS]
    for probe in _PROBES:
        parts.append(repr(connection.execute(probe, can_cache=False).fetchall()))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{BEHAVIOUR}-sqlite-{apsw.sqlite_lib_version()}-{digest[:24]}"


def fingerprint_here(settings: Settings) -> str:
    """That of a node which is started by this program, with these settings."""
    connection = apsw.Connection(":memory:")
    try:
        configure(connection, settings)
        return fingerprint(connection)
    finally:
        connection.close()


def is_fingerprint(text: str) -> bool:
    """Whether this can be the fingerprint of some release."""
    return _FORM.fullmatch(text) is not None


@functools.lru_cache(maxsize=8)  # asked for each batch
def behaviour_of(text: str) -> int:
    """The behaviour in a fingerprint; that of the first release for any other text."""
    found = _FORM.fullmatch(text)
    return 1 if found is None else int(found[1])
