"""What blocking and asynchronous connections share: their settings, and what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from rsqlite_client import errors
from rsqlite_client.cursor import (
    SESSION_TEXT,
    ConnectionSettings,
    RowFactory,
    row_factory_of,
)
from rsqlite_client.dsn import Options
from rsqlite_client.errors import NotSupportedError
from rsqlite_client.proto import level_of

LEGACY_TRANSACTION_CONTROL = -1
"""The value of `autocommit` by which sqlite3 says that `isolation_level` decides."""

_FUNCTIONS = (
    "{name}() would exist in this connection only, while SQL runs on every node of the cluster"
)
_LOCAL = "{name}() needs a SQLite database in this process"


def _refused(name: str, text: str) -> Callable[..., NoReturn]:
    def method(self: object, *args: object, **options: object) -> NoReturn:
        raise NotSupportedError(text.format(name=name))

    method.__name__ = name
    method.__doc__ = f"NotSupportedError: {text.format(name=name)}."
    return method


class BaseConnection:
    """Settings and refusals of a connection."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    create_function = _refused("create_function", _FUNCTIONS)
    create_aggregate = _refused("create_aggregate", _FUNCTIONS)
    create_window_function = _refused("create_window_function", _FUNCTIONS)
    create_collation = _refused("create_collation", _FUNCTIONS)
    set_authorizer = _refused("set_authorizer", _LOCAL)
    set_progress_handler = _refused("set_progress_handler", _LOCAL)
    set_trace_callback = _refused("set_trace_callback", _LOCAL)
    enable_load_extension = _refused("enable_load_extension", _LOCAL)
    load_extension = _refused("load_extension", _LOCAL)
    blobopen = _refused("blobopen", _LOCAL)
    serialize = _refused("serialize", _LOCAL)
    deserialize = _refused("deserialize", _LOCAL)
    backup = _refused("backup", _LOCAL)
    iterdump = _refused("iterdump", "{name}() needs one snapshot for many reads, a session")
    interrupt = _refused("interrupt", "{name}() is not there yet: bound statements with `timeout`")

    def __init__(self, options: Options, detect_types: int) -> None:
        self._settings = ConnectionSettings(
            detect_types=detect_types, level=options.level, freshness_s=options.freshness_s
        )

    @property
    def row_factory(self) -> RowFactory | None:
        """Given to cursors made from now on: called with the cursor and each row's tuple."""
        return self._settings.row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        self._settings.row_factory = row_factory_of(factory)

    @property
    def text_factory(self) -> Callable[[bytes], Any]:
        """What TEXT becomes: `str`, or anything that takes bytes."""
        return self._settings.text_factory

    @text_factory.setter
    def text_factory(self, factory: Callable[[bytes], Any]) -> None:
        self._settings.text_factory = factory

    @property
    def read_level(self) -> str:
        """How fresh reads must be that do not say it themselves."""
        return self._settings.level.value

    @read_level.setter
    def read_level(self, level: str) -> None:
        self._settings.level = level_of(level)

    @property
    def total_changes(self) -> int:
        """Rows that the statements of this connection changed, not counting those of triggers."""
        return self._settings.total_changes

    @property
    def in_transaction(self) -> bool:
        """False: each statement commits by itself."""
        return False

    @property
    def isolation_level(self) -> str | None:
        """None: each statement commits by itself. Anything else needs a session."""
        return None

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        check_isolation(level, True)

    @property
    def autocommit(self) -> bool:
        """True, as in sqlite3 since Python 3.12."""
        return True

    @autocommit.setter
    def autocommit(self, value: bool | int) -> None:
        check_isolation(None, value)


def check_isolation(isolation_level: str | None, autocommit: bool | int) -> None:
    """NotSupportedError for what begins transactions by itself."""
    if isolation_level is not None:
        raise NotSupportedError(SESSION_TEXT.format(what=f"isolation_level={isolation_level!r}"))
    if autocommit is not True and autocommit != LEGACY_TRANSACTION_CONTROL:
        raise NotSupportedError(SESSION_TEXT.format(what=f"autocommit={autocommit!r}"))
