"""What a database holds, as a user could see it: for comparing nodes with each other and with
plain SQLite. Virtual tables count by their rows, since their shadow tables depend on transaction
boundaries; the engine's own tables do not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

OWN = "\\_rsqlite\\_%"


def content(connection: apsw.Connection) -> dict[str, list[Any]]:
    """Schema, the two numbers of the file's head, and the rows of every table with their rowids."""
    schema = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        " WHERE name NOT LIKE ?1 ESCAPE '\\' AND tbl_name NOT LIKE ?1 ESCAPE '\\'"
        " ORDER BY type, name",
        (OWN,),
    ).fetchall()
    head = [
        connection.pragma("user_version"),
        connection.pragma("application_id"),
    ]
    found: dict[str, list[Any]] = {"schema": schema, "head": head}
    listed = connection.execute(
        "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'"
        " AND type IN ('table', 'virtual') AND name <> 'sqlite_schema'"
        " AND name NOT LIKE ? ESCAPE '\\' ORDER BY name",
        (OWN,),
    ).fetchall()
    for name, kind, without_rowid in listed:
        found["table " + name] = _rows(connection, name, kind == "virtual", bool(without_rowid))
    return found


def _rows(connection: apsw.Connection, name: str, is_virtual: bool, bare: bool) -> list[Any]:
    if name.startswith("sqlite_stat"):
        # ANALYZE counts the engine's tables too, which shifts the rowids.
        rows = connection.execute(
            f"SELECT * FROM {name} WHERE tbl NOT LIKE ? ESCAPE '\\'", (OWN,)
        ).fetchall()
        return sorted((tuple(map(exact, row)) for row in rows), key=repr)
    quoted = '"' + name.replace('"', '""') + '"'
    columns = "*" if bare else "rowid AS _rowid, *"
    try:
        rows = connection.execute(f"SELECT {columns} FROM {quoted}").fetchall()
    except apsw.SQLError:
        if not is_virtual:
            raise
        # Some virtual tables (fts5vocab) have no rowid.
        rows = connection.execute(f"SELECT * FROM {quoted}").fetchall()
    return sorted((tuple(map(exact, row)) for row in rows), key=repr)


def exact(value: object) -> tuple[str, object]:
    """A value that equals another only if type and bits are: 1 is not 1.0, 0.0 not -0.0."""
    if isinstance(value, float):
        return ("float", value.hex())
    return (type(value).__name__, value)


def difference(
    one: dict[str, list[Any]], other: dict[str, list[Any]], *, without: Iterable[str] = ()
) -> str:
    """Where two contents differ, in words; empty when they do not. The rows of tables `without`
    do not count."""
    ignored = {"table " + name for name in without}
    for key in sorted((one.keys() | other.keys()) - ignored):
        here, there = one.get(key), other.get(key)
        if here == there:
            continue
        if here is None or there is None:
            return f"{key}: only in one of them"
        for left, right in zip(here, there, strict=False):
            if left != right:
                return f"{key}: {str(left)[:300]} against {str(right)[:300]}"
        return f"{key}: {len(here)} rows against {len(there)}"
    return ""
