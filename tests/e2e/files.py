"""The data directories of stopped nodes: verified by `rsqlite check`, compared by SQLite's dbhash.

`dbhash` is SQLite's own tool and hashes content, not layout; it knows nothing of us. It cannot
leave tables out, so it is asked for each user's table by itself; ours (`_rsqlite_…`) hold the
applied index, which is compared as a number, and what belongs to one node.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
from apsw import sqlite_extra

from rsqlite.config import Settings
from rsqlite.node.recovery import latest_configuration
from rsqlite.raft.types import Configuration, Index
from rsqlite.statemachine.schema import find_current_database
from rsqlite.storage.directory import LOG_NAME
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.identity import IDENTITY_NAME, read_identity
from rsqlite.storage.logstore import LogStore
from rsqlite.testing.loop import ManualLoop

CHECK_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Content:
    """What a stopped node's database holds."""

    applied: tuple[tuple[object, ...], ...]
    schema: tuple[tuple[object, ...], ...]
    hashes: tuple[tuple[str, str], ...]


def database_path(directory: Path) -> Path:
    """The database that the node of this data directory would open."""
    path = Path(find_current_database(str(directory / "db")))
    assert path.is_file(), f"{path} is not there"
    return path


def content_of(directory: Path) -> Content:
    """Hashes of all user tables, the schema, and the applied row."""
    path = database_path(directory)
    connection = apsw.Connection(str(path))
    try:
        own = "name GLOB '_rsqlite_*' OR tbl_name GLOB '_rsqlite_*'"
        schema = connection.execute(
            f"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE NOT ({own}) ORDER BY 1, 2"
        ).fetchall()
        applied = connection.execute(f"SELECT * FROM {applied_table(connection)}").fetchall()
    finally:
        connection.close()
    tables = [str(name) for kind, name, _, _ in schema if kind == "table"]
    hashes = tuple((table, dbhash(path, table)) for table in tables)
    return Content(tuple(applied), tuple(schema), hashes)


def applied_table(connection: apsw.Connection) -> str:
    """Our table that holds the applied index."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB '_rsqlite_applied*'"
    ).fetchall()
    assert len(names) == 1, f"one table should hold the applied index: {names}"
    return str(names[0][0])


def dbhash(path: Path, table: str) -> str:
    """SQLite's hash over the rows of one table."""
    # The pattern is LIKE's: our own names have no % and an underscore matches itself as well.
    done = subprocess.run(
        [sqlite_extra.path("sqlite3_dbhash"), "--without-schema", "--like", table, str(path)],
        capture_output=True,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        check=True,
    )
    return done.stdout.split()[0]


def check_directory(directory: Path) -> str:
    """What `rsqlite check` complains about; empty when it is content."""
    done = subprocess.run(
        [sys.executable, "-m", "rsqlite", "check", str(directory)],
        capture_output=True,
        text=True,
        timeout=CHECK_TIMEOUT_S,
        check=False,
    )
    return (
        "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    )


def differences(directories: Sequence[Path]) -> list[str]:
    """What is wrong with the files of stopped nodes that had all applied the same."""
    problems = []
    for directory in directories:
        # First, as dbhash may write: it opens the database as any program does.
        if complaint := check_directory(directory):
            problems.append(f"rsqlite check {directory.name}: {complaint}")
    contents = [content_of(directory) for directory in directories]
    first = contents[0]
    for directory, content in zip(directories[1:], contents[1:], strict=True):
        names = (directories[0].name, directory.name)
        if content.applied != first.applied:
            problems.append(f"applied rows of {names} differ: {first.applied}, {content.applied}")
        if content.schema != first.schema:
            problems.append(f"schemas of {names} differ")
        tables = [
            one[0] for one, other in zip(first.hashes, content.hashes, strict=False) if one != other
        ]
        if tables:
            problems.append(f"tables {', '.join(tables)} of {names} differ")
    return problems


def last_configuration(directory: Path) -> Configuration | None:
    """The last one in the log of a stopped node, committed or not; of a copy, since a log that is
    opened is mended."""
    disk = RealDisk()
    if not ((directory / LOG_NAME).is_dir() and (directory / IDENTITY_NAME).is_file()):
        return None  # it ended before it was anybody
    node_id = read_identity(str(directory), disk).node_id
    with tempfile.TemporaryDirectory() as copy:
        path = os.path.join(copy, LOG_NAME)
        shutil.copytree(directory / LOG_NAME, path)
        log = LogStore.open(
            path, disk=disk, loop=ManualLoop(), settings=Settings(), node_id=node_id
        )
        try:
            found, _ = latest_configuration(log, Configuration(), Index(0))
        finally:
            log.close()
    return found
