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
from rsqlite.statemachine.authorizer import LOGGED_PRAGMAS, OWN_PREFIX, Event, Guard

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
        "inserts_one",
        "is_analyze",
        "is_ddl",
        "is_plain",
        "is_risky",
        "is_sensitive",
        "kind",
        "long_runs",
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
        self.inserts_one = False
        """One row into one table, and nothing else: `last_insert_rowid()` tells its rowid."""
        self.setting: tuple[str, int] | None = None
        self.long_runs = 0
        """A read that was too long for the loop: the next so many are not tried there."""

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

    def __init__(
        self, connection: apsw.Connection, guard: Guard, *, count_max: int, is_reader: bool
    ) -> None:
        self._connection = connection
        self._is_reader = is_reader
        self._guard = guard
        self._count_max = count_max
        self._shapes: dict[str, Shape] = {}
        self.get = self._shapes.get
        self.first_cursor = connection.cursor()
        self.first_cursor.exec_trace = self._trace
        self._runs = False
        self._has_run = False
        self._text = ""
        self._found: Shape | Failure | None = None
        self._facts: SchemaFacts | None = None
        self._known = self.facts
        """The facts that the compilation under way goes by."""

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
        found, _ = self._compile(sql)
        if isinstance(found, Failure):
            return found
        if found.tail:
            rest, _ = self._compile(found.tail)
            if isinstance(rest, Shape) and rest.kind is Kind.EMPTY and not rest.tail:
                found.tail = ""
                found.is_plain = _is_plain(found)
        self._keep(sql, found)
        return found

    def run_first(
        self, sql: str, parameters: Any
    ) -> tuple[Shape | Failure, bool, BaseException | None]:
        """For a text that is not known yet: judge it, and if it is plain DML, or on a reader a
        single read, run it out of the same compilation. Answers its shape, whether it ran, and the
        error it ended with (None: none). The rows of a read are at `first_cursor`."""
        found, error = self._compile(sql, parameters, runs=True)
        if isinstance(found, Failure):
            return found, False, None
        if self._has_run:
            self._keep(sql, found)
            return found, True, error
        return self.judge(sql), False, None

    def _keep(self, sql: str, shape: Shape) -> None:
        if len(self._shapes) >= self._count_max:
            self._shapes.clear()
        self._shapes[sql] = shape

    def _compile(
        self, sql: str, parameters: Any = _NULL_BINDINGS, *, runs: bool = False
    ) -> tuple[Shape | Failure, BaseException | None]:
        self._known, self._runs = self.facts, runs
        self._guard.begin()
        self._text, self._found, self._has_run = sql, None, False
        caught: Exception | None = None
        try:
            self.first_cursor.execute(sql, parameters, can_cache=False)
        except apsw.ExecTraceAbort:
            pass
        except Exception as error:  # noqa: BLE001 - whatever SQLite objects to is an answer
            caught = results.kept(error)
        finally:
            self._guard.end()
        if self._found is not None:
            return self._found, caught
        assert caught is not None, "SQLite compiled a statement without telling the tracer"
        fault = results.node_fault(caught)
        if fault is not None:
            raise fault from caught
        if results.is_binding_error(caught) and parameters is not _NULL_BINDINGS:
            # Told before the tracer was asked: there may be more statements to share them.
            return self._compile(sql)
        if self._guard.refusal:
            return results.refusal(self._guard.refusal), None
        return results.failure(caught), None

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
        guard = self._guard
        is_write = not (cursor.is_readonly or cursor.is_explain)
        objection = _settle(shape, guard.end(), self._known, guard.setting, is_write)
        if objection:
            self._found = results.refusal(objection)
            return False
        shape.is_plain = _is_plain(shape)
        self._found = shape
        if self._is_reader:
            self._has_run = self._runs and shape.kind is Kind.READ and not shape.tail
        else:
            self._has_run = self._runs and shape.is_plain and not shape.is_risky
        return self._has_run


def _settle(
    shape: Shape,
    events: list[Event],
    facts: SchemaFacts,
    setting: tuple[str, str] | None,
    is_write: bool,
) -> str:
    """Fill in what the events of the compilation say; answer why it is refused, if it is."""
    if setting is not None and len(events) == 1:
        shape.kind = Kind.SETTING
        shape.setting = (setting[0], _as_boolean(setting[1]))
        return ""
    if not is_write or _is_pragma_read(events):
        return ""
    lower = shape.text.lower()
    ops = {event[0] for event in events}
    shape.is_ddl = not ops.isdisjoint(_DDL_OPS)
    shape.is_analyze = apsw.SQLITE_ANALYZE in ops or _creates_statistics(events)
    is_dml = not shape.is_ddl and not shape.is_analyze and not ops.isdisjoint(_WRITE_OPS)
    shape.kind = Kind.DML if is_dml else Kind.OTHER
    shape.is_sensitive = (
        not is_dml or facts.has_counters or "changes" in lower or "last_insert_rowid" in lower
    )
    shape.may_fail = facts.has_fail or "fail" in lower
    shape.is_risky = (
        apsw.SQLITE_SELECT in ops or facts.has_random or "limit" in lower or "random" in lower
    )
    shape.inserts_one = not (shape.is_risky or facts.has_virtual) and _inserts_one(events)
    return _write_objection(shape, lower, events, facts)


def _write_objection(shape: Shape, lower: str, events: list[Event], facts: SchemaFacts) -> str:
    """Why a statement that writes cannot be replicated, or an empty string."""
    if shape.is_ddl and _OWN_NAME.search(lower):
        # ALTER TABLE ... RENAME TO and REFERENCES do not show their target to the authorizer.
        return f"names that begin with {OWN_PREFIX} belong to the engine"
    is_direct = not shape.is_ddl and not shape.is_analyze
    for op, first, second, _, source in events:
        if source is not None:
            shape.is_risky = True
        if op == apsw.SQLITE_READ:
            name = (first or "").lower()
            if name not in facts.names and (name.startswith("pragma_") or name in _UNREPEATABLE):
                return f"a write may not read {first}: it differs between nodes"
            if name in facts.shadows and (source is not None or name in lower):
                return f"a write may not read {first}: shadow tables differ between nodes"
            if is_direct and (second == "rootpage" or name.startswith("sqlite_stat")):
                return f"a write may not read {first}.{second}: it is not replicated"
        elif (
            op in _WRITE_OPS
            and (source is not None or is_direct)
            and (first or "").lower().startswith("sqlite_stat")
        ):
            return "planner statistics belong to ANALYZE"
    return ""


def _inserts_one(events: list[Event]) -> bool:
    """Is an INSERT without SELECT all that this compiled to? Triggers, actions of foreign keys,
    UPSERT and VALUES with several rows each bring an event of their own."""
    writes = 0
    for op, _, _, _, source in events:
        if source is not None or op == apsw.SQLITE_SELECT:
            return False
        if op in _WRITE_OPS:
            writes += 1
            if op != apsw.SQLITE_INSERT:
                return False
    return writes == 1


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
    if not events or events[0][0] != apsw.SQLITE_PRAGMA:
        return False
    _, name, value, _, _ = events[0]
    return value is None or str(name).lower() not in LOGGED_PRAGMAS


def _creates_statistics(events: list[Event]) -> bool:
    return any(
        op == apsw.SQLITE_CREATE_TABLE and (name or "").lower().startswith("sqlite_stat")
        for op, name, _, _, _ in events
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
