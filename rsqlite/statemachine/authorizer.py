"""What SQL may do here: our own tables are out of reach, and what cannot be replayed is refused.

SQLite calls the guard when it compiles a statement, never when it runs one from its cache, so a
rule here must not depend on the request. Rules that need the whole statement (does it write? what
does it read?) are in `shapes.py`, which asks for the events collected during one compilation.

Engine statements are compiled with the guard lifted and with SQLITE_PREPARE_PERSISTENT; APSW's
statement cache keeps them apart by that flag, so that a user who sends the text of one gets his own
compilation, with the guard up.
"""

from __future__ import annotations

import apsw

OWN_PREFIX = "_rsqlite"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SETTINGS = frozenset(
    {
        "foreign_keys",
        "defer_foreign_keys",
        "recursive_triggers",
        "ignore_check_constraints",
        "legacy_alter_table",
        "case_sensitive_like",
    }
)
"""PRAGMAs that a request may begin with: they hold for that request and travel in its entry."""

LOGGED_PRAGMAS = frozenset({"user_version", "application_id"})
"""Assignments that live in the database and act inside a transaction: statements like others."""

READ_PRAGMAS = (
    SETTINGS
    | LOGGED_PRAGMAS
    | _words(
        """analysis_limit auto_vacuum automatic_index busy_timeout cache_size cache_spill
        cell_size_check checkpoint_fullfsync collation_list compile_options count_changes
        data_version database_list empty_result_callbacks encoding foreign_key_check
        foreign_key_list freelist_count full_column_names fullfsync function_list hard_heap_limit
        index_info index_list index_xinfo integrity_check journal_mode journal_size_limit
        locking_mode max_page_count mmap_size module_list page_count page_size pragma_list
        query_only quick_check read_uncommitted reverse_unordered_selects schema_version
        secure_delete short_column_names soft_heap_limit synchronous table_info table_list
        table_xinfo temp_store threads trusted_schema wal_autocheckpoint writable_schema"""
    )
)
"""PRAGMAs that only tell, without an argument."""

ARGUMENT_PRAGMAS = _words(
    """foreign_key_check foreign_key_list index_info index_list index_xinfo integrity_check
    quick_check table_info table_list table_xinfo"""
)
"""Those that only tell with an argument too: it names what to look at."""

_MODULES = _words("fts3 fts4 fts4aux fts5 fts5vocab rtree rtree_i32 geopoly fts3tokenize")
_FUNCTIONS_REFUSED = _words("load_extension fts3_tokenizer readfile writefile optimize")
"""`SELECT optimize(t) FROM t` of FTS3 and FTS4 writes, and SQLite calls it read-only; the statement
`INSERT INTO t(t) VALUES ('optimize')` does the same and can be replicated."""

_TEMP_OPS = frozenset(
    {
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
        apsw.SQLITE_DROP_TEMP_TABLE,
        apsw.SQLITE_DROP_TEMP_INDEX,
        apsw.SQLITE_DROP_TEMP_TRIGGER,
        apsw.SQLITE_DROP_TEMP_VIEW,
    }
)

_MAKING_OPS = frozenset(
    {
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
    }
)
"""`CREATE TABLE temp.x` is announced as an ordinary table of the database temp."""
_MASTERS = frozenset({"sqlite_master", "sqlite_temp_master"})
"""`CREATE TRIGGER temp.x ON main.t` is announced as an ordinary trigger of the database main; that
its row goes into the schema of temp gives it away."""

_TABLE_OPS = frozenset(
    {
        apsw.SQLITE_READ,
        apsw.SQLITE_INSERT,
        apsw.SQLITE_UPDATE,
        apsw.SQLITE_DELETE,
        apsw.SQLITE_SELECT,
    }
)

_TABLE_SECOND_OPS = frozenset(
    {
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_ALTER_TABLE,
    }
)
"""Their second argument names a table."""

TRANSACTION_TEXT = (
    "a request is its own transaction: set `transaction` on it to make it atomic, or use an"
    " interactive stream (/v3/pipeline) for BEGIN, SAVEPOINT, COMMIT and ROLLBACK"
)
_ATTACH_TEXT = "ATTACH and DETACH are not allowed: other files are not replicated"
_TEMP_TEXT = "TEMP objects would exist on one node only; use an interactive stream for them"
_OWN_TEXT = f"names that begin with {OWN_PREFIX} belong to the engine"


Event = tuple[int, str | None, str | None, str | None, str | None]
"""One call of SQLite's authorizer: what is done, to what (two names), in which database, and the
trigger or view it comes from. A plain tuple, for there are several in each compilation."""


class Guard:
    """The authorizer of one connection."""

    def __init__(self) -> None:
        self.is_lifted = False
        """True while an engine statement runs."""
        self.is_collecting = False
        self.events: list[Event] = []
        self.refusal = ""
        """Why the last compilation was denied."""
        self.setting: tuple[str, str] | None = None
        """The session setting that the last compilation asked for."""

    def begin(self) -> None:
        """Collect the events of the compilation that follows."""
        self.is_collecting = True
        self.events = []
        self.refusal = ""
        self.setting = None

    def end(self) -> list[Event]:
        """What has been collected. Events while a statement runs (virtual tables, compilations
        anew after a schema change) are judged one by one and not collected."""
        self.is_collecting = False
        events, self.events = self.events, []
        return events

    def __call__(
        self,
        op: int,
        first: str | None,
        second: str | None,
        database: str | None,
        source: str | None,
    ) -> int:
        if self.is_lifted:
            return apsw.SQLITE_OK
        if self.is_collecting:
            self.events.append((op, first, second, database, source))
        if op in _TABLE_OPS and database != "temp" and (first is None or first[:1] != "_"):
            # Nearly all events: rows of a table of the user's are read or written.
            return apsw.SQLITE_OK
        if op == apsw.SQLITE_ANALYZE and _is_own(first):
            # It goes on to the next table: statistics of ours would show in sqlite_stat1.
            return apsw.SQLITE_IGNORE
        text = self._objection(op, first, second, database)
        if text:
            self.refusal = text
            return apsw.SQLITE_DENY
        if op == apsw.SQLITE_PRAGMA and second is not None and first is not None:
            name = first.lower()
            if name in SETTINGS:
                # Flag PRAGMAs act while they are compiled. Ignored here, they compile to nothing,
                # and the engine sets them before BEGIN.
                self.setting = (name, second)
                return apsw.SQLITE_IGNORE
        return apsw.SQLITE_OK

    def _objection(
        self, op: int, first: str | None, second: str | None, database: str | None
    ) -> str:
        """Why this is refused, or an empty string."""
        if _is_own(first) or (op in _TABLE_SECOND_OPS and _is_own(second)):
            return _OWN_TEXT
        if op == apsw.SQLITE_PRAGMA:
            if database == "temp" and second is not None:
                return _TEMP_TEXT
            return _pragma_objection(str(first).lower(), second)
        if op == apsw.SQLITE_FUNCTION:
            if str(second).lower() in _FUNCTIONS_REFUSED:
                return f"function {second} is not allowed"
        elif op in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT):
            return TRANSACTION_TEXT
        elif op in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH):
            return _ATTACH_TEXT
        elif op in _TEMP_OPS or (
            database == "temp"
            and (op in _MAKING_OPS or (op == apsw.SQLITE_INSERT and first in _MASTERS))
        ):
            return _TEMP_TEXT
        elif op == apsw.SQLITE_CREATE_VTABLE:
            if str(second).lower() not in _MODULES:
                return f"virtual tables of module {second} are not replicated"
        elif op == apsw.SQLITE_DROP_TABLE and str(first).lower().startswith("sqlite_stat"):
            return "planner statistics belong to ANALYZE"
        return ""


def _is_own(name: str | None) -> bool:
    return name is not None and name[:8].lower() == OWN_PREFIX


def _pragma_objection(name: str, argument: str | None) -> str:
    if argument is None:
        allowed = name in READ_PRAGMAS
    else:
        allowed = name in ARGUMENT_PRAGMAS or name in LOGGED_PRAGMAS or name in SETTINGS
    if allowed:
        return ""
    if name == "optimize":
        return "PRAGMA optimize writes planner statistics on one node only; run ANALYZE"
    text = f"PRAGMA {name}" + ("" if argument is None else " with a value")
    return f"{text} is not allowed: it would change this node only, or break it"
