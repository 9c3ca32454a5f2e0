"""`rsqlite check`: is the database of a stopped node whole?"""

from __future__ import annotations

import os
from itertools import islice
from typing import Any

import apsw

from rsqlite.errors import DamagedDatabase, NodeFault
from rsqlite.statemachine import schema
from rsqlite.statemachine.backfill import judge_wal
from rsqlite.statemachine.generations import installed_of, noted_damage, wanted_image
from rsqlite.statemachine.pages import damaged_pages
from rsqlite.statemachine.vfs import load_checksum_vfs

_PROBLEMS_MAX = 100


def check_database(directory: str) -> list[str]:
    """What is wrong with the database under `directory` (`<data>/db`), in words; nothing when all
    is well.

    Verifies the checksum of every page, then what SQLite knows of their structure. Changes nothing:
    the WAL stays as it is.
    """
    try:
        current = schema.read_current(directory)
    except (NodeFault, OSError) as error:
        return [str(error)]
    path = current.database
    notes = [current.problem] if current.problem else []
    try:
        installed_of(path)
    except NodeFault as error:
        notes.append(str(error))
    try:
        given_up = _given_up(directory, path)
    except NodeFault as error:
        given_up = [str(error)]
    # It may have been given up by taking its name away.
    return notes + given_up + (_check(path) if os.path.exists(path) or not given_up else [])


def _given_up(directory: str, path: str) -> list[str]:
    reason = wanted_image(path)
    if reason is not None:
        found = f"{path} is to be had from the other nodes, and not to be made from the log"
    else:
        reason = noted_damage(directory)
        found = f"{path} was given up"
    if reason is None:
        return []
    return [f"{found}: {reason}" if reason else found]


def needs_image(directory: str) -> bool:
    """Must one of the others take the place of the database under `directory`, because this node
    might make the same again from its log? In doubt it must."""
    try:
        return any(wanted_image(path) is not None for path in _candidates(directory))
    except (NodeFault, OSError):
        return True


def _candidates(directory: str) -> list[str]:
    """The database in use, or all of those of which one may be."""
    try:
        return [schema.find_current_database(directory)]
    except DamagedDatabase:
        return [schema.database_of(directory, one) for one in schema.generations_in(directory)]


def _check(path: str) -> list[str]:
    if not os.path.exists(path):
        return [f"{path} is missing"]
    try:
        # With a damaged page SQLite would add "disk I/O error" and nothing more.
        if found := list(islice(damaged_pages(path), _PROBLEMS_MAX)):
            return found
    except OSError as error:
        return [f"{path} cannot be read: {error}"]
    try:
        wal = judge_wal(path)
    except NodeFault as error:
        return [str(error)]
    if wal.is_short:
        return [wal.problem]
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=load_checksum_vfs())
        try:
            return [f"{path}: {problem}" for problem in _problems(connection, path)]
        finally:
            connection.close()
    except apsw.Error as error:
        return [f"{path}: {error}"]


def _problems(connection: apsw.Connection, path: str) -> list[str]:
    found: list[str] = []
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    for step in (_check_state, _check_structure):
        try:
            found += step(connection, path)
        except apsw.Error as error:
            found.append(f"{error} ({type(error).__name__})")
    return found


def _check_state(connection: apsw.Connection, path: str) -> list[str]:
    rows: Any = connection.execute("SELECT name, value FROM _rsqlite_meta").fetchall()
    try:
        schema.check_format(dict(rows).get("format"), path)
    except NodeFault as error:
        return [str(error)]
    applied = connection.execute(schema.SELECT_APPLIED).fetchall()
    return [] if len(applied) == 1 else [f"the applied row is there {len(applied)} times"]


def _check_structure(connection: apsw.Connection, path: str) -> list[str]:
    rows: Any = connection.execute(f"PRAGMA integrity_check({_PROBLEMS_MAX})").fetchall()
    return [str(row[0]) for row in rows if row[0] != "ok"]
