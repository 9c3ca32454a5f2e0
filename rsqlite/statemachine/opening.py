"""Opening SQLite: every setting of a connection in one place, each with its reason.

What each PRAGMA answers is checked: APSW runs a string of several statements only to the first row,
so one statement a call, and a setting that silently did not take has cost half the speed before.
"""

from __future__ import annotations

import apsw

from rsqlite.config import Settings
from rsqlite.errors import DamagedDatabase, DiskFull, NodeFault
from rsqlite.statemachine import results

STEPS_PER_TICK = 1_000
"""VM steps between two calls of a progress handler: 1 % of an INSERT's time, and of a hundred
microseconds to a tenth of a second, by the size of the values."""

ENGINE_FLAGS = apsw.SQLITE_PREPARE_PERSISTENT
"""Mark statements of our own, so that the statement cache never hands one to a user."""

OLDEST_SQLITE = 3_051_003
"""Before it a reset of the WAL could race with a checkpoint and lose a commit."""

PAGE_BYTES = 4096
"""SQLite's own default; nobody changes it."""

_SCHEMA_ROW_BYTES = 64 << 10
"""What a row of sqlite_schema has beside its SQL, at most."""

_TEMPORARY_FILE = (
    apsw.SQLITE_OPEN_TEMP_JOURNAL
    | apsw.SQLITE_OPEN_READWRITE
    | apsw.SQLITE_OPEN_CREATE
    | apsw.SQLITE_OPEN_EXCLUSIVE
    | apsw.SQLITE_OPEN_DELETEONCLOSE
)

_DBCONFIG = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),  # no writes to shadow tables, sqlite_schema, the header
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),  # a restored schema may not call what is dangerous
    (apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1),  # plans do not depend on parameters
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 1),  # clients send double-quoted strings
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 1),
    (apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0),  # the setting `fk` decides below
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 1),
    (apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, 0),
    (apsw.SQLITE_DBCONFIG_REVERSE_SCANORDER, 0),
)


def configure(connection: apsw.Connection, settings: Settings, *, is_on_loop: bool = False) -> None:
    """What every connection has in common. Those of the loop cache most: what runs in a thread goes
    over many pages once, or takes its time."""
    for option, value in _DBCONFIG:
        if connection.config(option, value) != value:
            raise NodeFault(f"SQLite did not accept DBCONFIG {option} = {value}")
    for limit, value in _limits(settings):
        connection.limit(limit, value)
    expect(connection, "mmap_size", 0, 0)  # an I/O error in a mapped page is a SIGBUS
    expect(connection, "cell_size_check", 1, 1)
    cached = settings.page_cache_bytes
    kib = (cached if is_on_loop else min(cached, settings.thread_page_cache_bytes)) // 1024
    expect(connection, "cache_size", -kib, -kib)


def prepare_close(connection: apsw.Connection, *, checkpoints: bool) -> None:
    """The last connection that is closed brings the WAL into the file, and syncs. After an error of
    the disk that must not be: a sync that is tried again may succeed without having stored what the
    first one lost, and the WAL, which still has it, would be gone."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(not checkpoints))


def loop_value_bytes(settings: Settings) -> int:
    """The longest value that a statement on the loop may meet; the texts in the schema are some."""
    return min(settings.blob_bytes_max, settings.sql_bytes_max + _SCHEMA_ROW_BYTES)


def _limits(settings: Settings) -> tuple[tuple[int, int], ...]:
    return (
        (apsw.SQLITE_LIMIT_LENGTH, settings.blob_bytes_max),
        (apsw.SQLITE_LIMIT_SQL_LENGTH, settings.sql_bytes_max),
        (apsw.SQLITE_LIMIT_ATTACHED, 1),
        (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
    )


def expect(connection: apsw.Connection, name: str, value: object, answer: object) -> None:
    """Set a PRAGMA and check that it took."""
    connection.execute(f"PRAGMA main.{name} = {value}", can_cache=False).fetchall()
    rows = connection.execute(f"PRAGMA main.{name}", can_cache=False).fetchall()
    # mmap_size answers nothing where a VFS has no mapping at all.
    if rows != [(answer,)] and not (name == "mmap_size" and not rows):
        raise NodeFault(f"SQLite answers {rows!r} to PRAGMA {name}, not {answer!r}")


def require_checksums(connection: apsw.Connection) -> None:
    """DamagedDatabase when page checksums are not verified, after something was read. `cksmvfs`
    looks for them only if the first bytes of the file say that there are some: one flipped bit
    turns them off, and SQLite would take them for content."""
    rows = connection.execute("PRAGMA checksum_verification", can_cache=False).fetchall()
    if rows != [("1",)]:
        raise DamagedDatabase(
            f"{connection.filename}: page 1 (at byte 0) does not say that there are page checksums"
        )


def provide_temporary_room(directory: str) -> bool:
    """Where SQLite finds no directory for temporary files (a container may have a read-only root),
    have it put them into this one, or a client's sort fails; True if that was so.

    Elsewhere they stay where they are: off the volume that the writers need. SQLite has one such
    directory for all of a process, which may be somebody else's, as the environment is: who has
    none loses nothing.
    """
    if finds_temporary_room():
        return False
    connection = apsw.Connection(":memory:")
    try:
        quoted = apsw.format_sql_value(directory)
        connection.execute(f"PRAGMA temp_store_directory = {quoted}").fetchall()
    finally:
        connection.close()
    return True


def finds_temporary_room() -> bool:
    """Can SQLite open a temporary file? It tries its variable, SQLITE_TMPDIR and TMPDIR as of when
    it was loaded, the usual directories, and the current one."""
    try:
        apsw.VFSFile("", None, [_TEMPORARY_FILE, 0]).xClose()
    except apsw.Error as error:
        return not results.lacks_temporary_room(error)
    return True


def require_sqlite() -> None:
    """NodeFault when the SQLite in this process is too old."""
    version = apsw.sqlite_lib_version()
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    if major * 1_000_000 + minor * 1_000 + patch < OLDEST_SQLITE:
        raise NodeFault(f"SQLite {version} is too old: install apsw 3.54 or newer")


def open_error(error: apsw.Error, path: str) -> NodeFault:
    """What stopped a database from being opened."""
    fault = results.node_fault(error)
    if fault is not None:
        return type(fault)(f"{path}: {fault}")
    if results.is_full(error):
        return DiskFull(f"{path} cannot be opened: {error}")
    return DamagedDatabase(f"{path} cannot be opened: {error}")
