"""What a text of SQL is: told by SQLite's own parser, once for each text and schema.

`Shapes.judge` compiles the first statement of a text, without running it, and keeps what it learned
under that text until the schema changes. SQLite says where the statement ends, whether it is
read-only, its columns, and through the authorizer what it touches. Where this file looks into the
text itself it looks for a superset (does "fail" occur anywhere?), which may cost time, never
correctness: a name cannot be spelled without its letters.
"""

from __future__ import annotations

import enum
import re
from typing import Any

import apsw

from rsqlite.request import Failure
from rsqlite.statemachine import results
from rsqlite.statemachine.authorizer import OWN_PREFIX, Event, Guard

_NULL_BINDINGS: Any = vars(apsw)["_null_bindings"]
"""APSW's stand-in for parameters that are not known yet: the statement is compiled, not run."""

_OWN_NAME = re.compile(rf"(?<![\w$]){OWN_PREFIX}")
"""A superset of the texts that contain an identifier of ours."""

_COUNTERS = ("changes", "last_insert_rowid")
_UNREPEATABLE = frozenset({"dbstat", "sqlite_dbpage", "bytecode", "tables_used", "sqlite_stmt"})
_WRITE_OPS = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_DDL_OPS = frozenset(
    {
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
        apsw.SQLITE_ALTER_TABLE,
    }
)


class Kind(enum.Enum):
    """How a statement is run and answered."""

    EMPTY = "empty"  # comments, white space
    READ = "read"
    DML = "dml"  # INSERT, UPDATE, DELETE: sets the counters itself
    OTHER = "other"  # DDL, ANALYZE, REINDEX, PRAGMA user_version = ...
    SETTING = "setting"  # a session setting, for the request that begins with it


class Shape:
    """What is known of one statement."""

    __slots__ = (
        "columns",
        "decltypes",
        "full_columns",
        "is_analyze",
        "is_ddl",
        "is_plain",
        "is_risky",
        "is_sensitive",
        "kind",
        "may_fail",
        "parameter_count",
        "setting",
        "tail",
        "text",
    )

    def __init__(self, kind: Kind, text: str, tail: str) -> None:
        self.kind = kind
        self.text = text
        """The statement alone."""
        self.tail = tail
        """What follows it in the text."""
        self.parameter_count = 0
        self.columns: list[str] = []
        self.decltypes: list[str | None] = []
        self.full_columns: list[str] = []
        """`table.column` where a column comes from a table."""
        self.is_ddl = False
        self.is_analyze = False
        self.is_risky = False
        """Worth a digest: what it does may depend on an order that SQLite does not promise."""
        self.is_sensitive = False
        """Shows counters that it does not set itself."""
        self.may_fail = False
        """OR FAIL or RAISE(FAIL) may take part: an error can have effects."""
        self.is_plain = False
        """DML that needs none of all this: the hot path."""
        self.setting: tuple[str, int] | None = None

    @property
    def is_write(self) -> bool:
        return self.kind is Kind.DML or self.kind is Kind.OTHER


class SchemaFacts:
    """What the texts of the schema say, as supersets."""

    def __init__(self, connection: apsw.Connection, guard: Guard) -> None:
        texts: list[str] = []
        names: set[str] = set()
        self.shadows: frozenset[str] = frozenset()
        has_virtual = False
        was_lifted, guard.is_lifted = guard.is_lifted, True
        try:
            rows = connection.execute("SELECT name, sql FROM sqlite_schema", can_cache=False)
            for name, text in rows:
                names.add(name.lower())
                if text is not None:
                    lower = text.lower()
                    has_virtual = has_virtual or "virtual" in lower
                    texts.append(lower)
            if has_virtual:
                rows = connection.execute(
                    "SELECT lower(name) FROM pragma_table_list WHERE type = 'shadow'",
                    can_cache=False,
                )
                self.shadows = frozenset(name for (name,) in rows)
        finally:
            guard.is_lifted = was_lifted
        self.names = frozenset(names)
        self.has_virtual = has_virtual
        self.has_counters = any(word in text for text in texts for word in _COUNTERS)
        self.has_fail = any("fail" in text for text in texts)
        self.has_random = any("random" in text for text in texts)
        self.has_deferred = any("defer" in text for text in texts)


class Shapes:
    """The shapes of one connection."""

    def __init__(self, connection: apsw.Connection, guard: Guard, *, count_max: int) -> None:
        self._connection = connection
        self._guard = guard
        self._count_max = count_max
        self._shapes: dict[str, Shape] = {}
        self.get = self._shapes.get
        self._cursor = connection.cursor()
        self._cursor.exec_trace = self._trace
        self._text = ""
        self._found: Shape | Failure | None = None
        self._facts: SchemaFacts | None = None

    def forget(self) -> None:
        """The schema changed."""
        self._shapes.clear()
        self._facts = None

    @property
    def facts(self) -> SchemaFacts:
        if self._facts is None:
            self._facts = SchemaFacts(self._connection, self._guard)
        return self._facts

    def judge(self, sql: str) -> Shape | Failure:
        """The shape of the first statement of `sql`, or why it cannot be run."""
        shape = self._shapes.get(sql)
        if shape is not None:
            return shape
        found = self._compile(sql)
        if isinstance(found, Failure):
            return found
        if found.tail:
            rest = self._compile(found.tail)
            if isinstance(rest, Shape) and rest.kind is Kind.EMPTY and not rest.tail:
                found.tail = ""
                found.is_plain = _is_plain(found)
        if len(self._shapes) >= self._count_max:
            self._shapes.clear()
        self._shapes[sql] = found
        return found

    def _compile(self, sql: str) -> Shape | Failure:
        facts = self.facts
        guard = self._guard
        guard.begin()
        self._text, self._found = sql, None
        try:
            self._cursor.execute(sql, _NULL_BINDINGS, can_cache=False)
        except apsw.ExecTraceAbort:
            pass
        except Exception as error:
            # The edge to SQLite: whatever it objects to is the statement's result, unless it tells
            # of a fault of this node.
            fault = results.node_fault(error)
            if fault is not None:
                raise fault from error
            if guard.refusal:
                return results.refusal(guard.refusal)
            return results.failure(error)
        finally:
            events = guard.end()
        found = self._found
        assert isinstance(found, Shape), "SQLite compiled a statement without telling the tracer"
        objection = _settle(found, events, facts, guard.setting, self._cursor_flags)
        if objection:
            return results.refusal(objection)
        found.is_plain = _is_plain(found)
        return found

    def _trace(self, cursor: apsw.Cursor, text: str, bindings: object) -> bool:
        """Called by APSW between compiling and running; False: do not run."""
        shape = Shape(Kind.READ, text, self._text[len(text) :])
        if not cursor.has_vdbe:
            shape.kind = Kind.EMPTY
        shape.parameter_count = cursor.bindings_count
        for name, decltype, _, table, _ in cursor.description_full:
            shape.columns.append(name)
            shape.decltypes.append(decltype)
            shape.full_columns.append(f"{table}.{name}" if table else name)
        self._cursor_flags = cursor.is_readonly, bool(cursor.is_explain)
        self._found = shape
        return False


def _settle(
    shape: Shape,
    events: list[Event],
    facts: SchemaFacts,
    setting: tuple[str, str] | None,
    flags: tuple[bool, bool],
) -> str:
    """Fill in what the events of the compilation say; answer why it is refused, if it is."""
    is_readonly, is_explain = flags
    if setting is not None and len(events) == 1:
        shape.kind = Kind.SETTING
        shape.setting = (setting[0], _as_boolean(setting[1]))
        return ""
    if is_readonly or is_explain or _is_pragma_read(events):
        return ""
    lower = shape.text.lower()
    ops = {event.op for event in events}
    shape.is_ddl = not ops.isdisjoint(_DDL_OPS)
    shape.is_analyze = apsw.SQLITE_ANALYZE in ops or _creates_statistics(events)
    is_dml = not shape.is_ddl and not shape.is_analyze and not ops.isdisjoint(_WRITE_OPS)
    shape.kind = Kind.DML if is_dml else Kind.OTHER
    shape.is_sensitive = (
        not is_dml or facts.has_counters or any(word in lower for word in _COUNTERS)
    )
    shape.may_fail = facts.has_fail or "fail" in lower
    shape.is_risky = (
        apsw.SQLITE_SELECT in ops
        or "limit" in lower
        or "random" in lower
        or facts.has_random
        or any(event.source is not None for event in events)
    )
    return _write_objection(shape, lower, events, facts)


def _write_objection(shape: Shape, lower: str, events: list[Event], facts: SchemaFacts) -> str:
    """Why a statement that writes cannot be replicated, or an empty string."""
    if shape.is_ddl and _OWN_NAME.search(lower):
        # ALTER TABLE ... RENAME TO and REFERENCES do not show their target to the authorizer.
        return f"names that begin with {OWN_PREFIX} belong to the engine"
    for event in events:
        name = (event.first or "").lower()
        if event.op == apsw.SQLITE_READ:
            is_ours = name in facts.names
            if not is_ours and (name.startswith("pragma_") or name in _UNREPEATABLE):
                return f"a write may not read {event.first}: it differs between nodes"
            if name in facts.shadows and (event.source is not None or name in lower):
                return f"a write may not read {event.first}: shadow tables differ between nodes"
            is_direct = not shape.is_ddl and not shape.is_analyze
            if is_direct and (event.second == "rootpage" or name.startswith("sqlite_stat")):
                return f"a write may not read {event.first}.{event.second}: it is not replicated"
        elif event.op in _WRITE_OPS and name.startswith("sqlite_stat"):
            is_engine = shape.is_analyze or shape.is_ddl
            if event.source is not None or not is_engine:
                return "planner statistics belong to ANALYZE"
    return ""


def _is_plain(shape: Shape) -> bool:
    return (
        shape.kind is Kind.DML
        and not shape.tail
        and not shape.columns
        and not shape.is_sensitive
        and not shape.may_fail
    )


def _is_pragma_read(events: list[Event]) -> bool:
    """PRAGMA journal_mode and others count as writes to SQLite though they only tell."""
    if not events or events[0].op != apsw.SQLITE_PRAGMA:
        return False
    return events[0].second is None or str(events[0].first).lower() not in (
        "user_version",
        "application_id",
    )


def _creates_statistics(events: list[Event]) -> bool:
    return any(
        event.op == apsw.SQLITE_CREATE_TABLE
        and (event.first or "").lower().startswith("sqlite_stat")
        for event in events
    )


def _as_boolean(text: str) -> int:
    """As SQLite reads the value of a flag PRAGMA."""
    lower = text.lower()
    if lower in ("on", "yes", "true", "full", "extra"):
        return 1
    try:
        return int(int(text, 0) != 0)
    except ValueError:
        return 0
