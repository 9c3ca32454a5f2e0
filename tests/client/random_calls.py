"""Random calls of a DB-API connection, for a comparison with sqlite3.

Most of them make sense, for names come from small pools, and some do not. Left out is what is known
to differ, each with its reason in `test_differential.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

TABLES = ["t0", "t1", "t2", "t3"]
COLUMNS = ["a", "b", "c", "d"]
TYPES = [
    "INTEGER",
    "TEXT",
    "REAL",
    "BLOB",
    "NUMERIC",
    "",
    "VARCHAR(10)",
    "marked",
    "BOOLEAN",
    "DATETIME",
]
WORDS = [
    "",
    "a",
    "Ab",
    "é",
    "x'00'",
    "null",
    "1",
    "2.5",
    "O'Hara",
    '"q"',
    "line\nbreak",
    "\u2028",
    "z" * 40,
]
BIG = [2**31, -(2**40), -1]
EXTREME = [
    1e300,
    2**63 - 1,
    -(2**63),
    2**53 + 1,
    0.1,
    1e-300,
    5e-324,
    float("-inf"),
    b"\0\xff",
    "\0",
]


@dataclass(frozen=True)
class Call:
    """One call: of the connection, or of the cursor in this place."""

    method: str
    arguments: tuple[Any, ...] = ()
    on: int | None = None


class Odd:
    """A type that nobody can bind."""

    def __repr__(self) -> str:
        return "Odd()"


@dataclass
class Calls:
    """A stream of calls. `seed` makes it the same again."""

    seed: int
    chance: Random = field(init=False)
    serial: int = 100

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)

    def one_of(self, *weighted: tuple[int, Callable[[], Any]]) -> Any:
        weights = [weight for weight, _ in weighted]
        return self.chance.choices([make for _, make in weighted], weights)[0]()

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def beginning(self) -> list[Call]:
        """What there is before the first random call."""
        return [
            Call("execute", ("CREATE TABLE t0(a INTEGER PRIMARY KEY, b UNIQUE, c TEXT, d REAL)",)),
            Call(
                "execute", ("CREATE TABLE t1(a, b INTEGER NOT NULL CHECK(b < 1000), c marked, d)",)
            ),
        ]

    def next(self) -> Call:
        return self.one_of(
            (30, lambda: Call("execute", self.statement(), self.cursor())),
            (10, lambda: Call("execute", self.statement())),
            (4, lambda: Call("executemany", self.many(), self.cursor())),
            (2, lambda: Call("executescript", (self.script(),), self.cursor())),
            (6, lambda: Call("fetchone", (), self.cursor())),
            (5, lambda: Call("fetchmany", self.some(), self.cursor())),
            (8, lambda: Call("fetchall", (), self.cursor())),
            (2, lambda: Call("next", (), self.cursor())),
            (14, lambda: Call("new cursor", (), self.cursor())),
            (1, lambda: Call("close cursor", (), self.cursor())),
            (1, lambda: Call("arraysize", (self.chance.randint(1, 4),), self.cursor())),
            (1, lambda: Call("row_factory", (self.chance.choice([None, "Row", "list"]),))),
            (1, lambda: Call("text_factory", (self.chance.choice(["str", "str", "bytes"]),))),
            (1, lambda: Call("commit")),
        )

    def cursor(self) -> int:
        return self.chance.randrange(3)

    def some(self) -> tuple[int, ...]:
        return (self.chance.choice([1, 2, 5]),) if self.often(0.7) else ()

    # Values and parameters

    def value(self) -> Any:
        return self.one_of(
            (6, lambda: self.chance.randint(1, 30)),
            (3, lambda: self.chance.choice(WORDS)),
            (2, lambda: self.chance.randint(1, 400) / -8),
            (1, lambda: self.chance.choice(BIG)),
            (1, lambda: None),
            (1, lambda: bytes(self.chance.choices(b"\0aZ\x7f", k=self.chance.randrange(5)))),
            (1, lambda: self.chance.choice([True, bytearray(b"ba"), float("inf"), 2.0**40])),
        )

    def bad_value(self) -> Any:
        return self.chance.choice([2**63, -(2**64), "\ud800", Odd(), [1], (1, 2)])

    def parameters(self, styles: list[str], bad: float = 0.03) -> Any:
        """For these placeholders, in a form that fits them or, this often, does not."""
        names = [style[1:] for style in styles]
        if any(style != "?" and not style[1].isdigit() for style in styles) and self.often(0.9):
            given = {name: self.value() for name in names}
            if self.often(0.05):
                given["unused"] = Odd()
            if self.often(bad):
                given.pop(names[0], None)
            if self.often(bad):
                given[names[-1]] = self.bad_value()
            return given
        count = self.count_of(styles)
        values = [self.value() for _ in range(count)]
        if values and self.often(bad):
            values[self.chance.randrange(count)] = self.bad_value()
        if self.often(bad):
            values = values[1:] if self.often(0.5) else [*values, 1]
        return self.chance.choice([tuple, list])(values)

    @staticmethod
    def count_of(styles: list[str]) -> int:
        seen: dict[str, int] = {}
        count = 0
        for style in styles:
            if style == "?":
                count += 1
            elif style not in seen:
                seen[style] = number = int(style[1:]) if style[1:].isdigit() else count + 1
                count = max(count, number)
        return count

    def marks(self, count: int, *, mixed: bool = True) -> list[str]:
        kind = self.chance.choice(
            ["?", "?", "?", "?N", ":", "@", "$", "mixed"][: 8 if mixed else 7]
        )
        if kind == "?":
            return ["?"] * count
        if kind == "?N":
            return [f"?{self.chance.randint(1, count + 1)}" for _ in range(count)]
        if kind == "mixed":
            return [self.chance.choice(["?", ":p", "?1", ":q"]) for _ in range(count)]
        return [f"{kind}{self.chance.choice(['p', 'q', 'long_name', 'é'])}" for _ in range(count)]

    # Statements: SQL and, unless there are none, parameters

    def statement(self) -> tuple[Any, ...]:
        made: tuple[Any, ...] = self.one_of(
            (12, self.select),
            (5, self.values),
            (12, self.insert),
            (5, self.update),
            (3, self.delete),
            (2, self.create),
            (1, self.drop),
            (1, self.pragma),
            (2, self.counters),
            (1, self.nonsense),
        )
        if self.often(0.03):
            return (self.decorated(made[0]), *made[1:])
        return made

    def decorated(self, sql: str) -> str:
        return self.chance.choice(
            [f"/* ? :x ; */ {sql}", f"-- ? ;\n{sql}", f"{sql} ; ", f"{sql}; -- ?", f"\n\t {sql};"]
        )

    def expression(self, mark: str) -> str:
        column = self.chance.choice(COLUMNS)
        return self.chance.choice(
            [
                column,
                mark,
                f"{column} || {mark}",
                f"coalesce({column}, {mark})",
                f"typeof({column})",
                f"length({column})",
                f"upper({column})",
                f"hex({mark})",
                f"{column} IS {mark}",
                f"CASE WHEN {column} > 5 THEN {mark} ELSE -1 END",
                f"quote(typeof({column}))",
                f"{column} + 1 AS sum",
                f"CAST({column} AS INTEGER) AS 'x [marked]'",
                f"{column} LIKE 'a%'",
                f"{column} IN (1, 2, {mark})",
                f"(SELECT count(*) FROM {self.table()})",
                f"substr({column}, 2) AS {column}",
            ]
        )

    def table(self) -> str:
        return self.chance.choices(TABLES, [6, 6, 2, 1])[0]

    def select(self) -> tuple[Any, ...]:
        marks = self.marks(self.chance.randint(1, 3))
        shown = ", ".join(self.expression(mark) for mark in marks)
        table = self.table()
        where = self.chance.choice(["", f"WHERE {self.chance.choice(COLUMNS)} < 20", "WHERE 0"])
        limit = self.chance.choice(["", "", "LIMIT 3"])
        sql = f"SELECT {shown} FROM {table} {where} ORDER BY rowid {limit}"
        if self.often(0.2):
            sql = f"SELECT *, t0.rowid FROM t0, {table} AS u ORDER BY t0.rowid, u.rowid LIMIT 20"
        elif self.often(0.2):
            column = self.chance.choice(COLUMNS)
            sql = f"SELECT count(*), min({column}), max({column}), total({column}) FROM {table}"
        elif self.often(0.1):
            sql = f"WITH x AS (SELECT * FROM {table}) SELECT count(*) FROM x"
        return self.with_parameters(sql, marks)

    def with_parameters(self, sql: str, marks: list[str]) -> tuple[Any, ...]:
        """`sql` with parameters for those of the marks that it has."""
        used = [mark for mark in marks if mark in sql]
        if not used:
            return (sql,) if self.often(0.9) else (sql, (1,))
        styles = self.found_in(sql)
        return sql, self.parameters(styles)

    @staticmethod
    def found_in(sql: str) -> list[str]:
        """The placeholders of a text that has none inside quotes."""
        styles, at = [], 0
        while at < len(sql):
            if sql[at] in "?:@$":
                end = at + 1
                while end < len(sql) and (sql[end].isalnum() or sql[end] == "_"):
                    end += 1
                styles.append(sql[at:end])
                at = end
            else:
                at += 1
        return styles

    def values(self) -> tuple[Any, ...]:
        marks = self.marks(self.chance.randint(1, 4))
        start = self.chance.choice(["SELECT ", "SELECT ", "VALUES("])
        sql = start + ", ".join(marks) + (")" if start == "VALUES(" else "")
        parameters = self.parameters(marks)
        if self.often(0.3):
            place = self.chance.choice([*parameters] or [0])
            place = place if isinstance(parameters, dict) else 0
            if parameters:
                parameters = dict(parameters) if isinstance(parameters, dict) else [*parameters]
                parameters[place] = self.chance.choice(EXTREME)
        return sql, parameters

    def insert(self) -> tuple[Any, ...]:
        verb = self.chance.choice(
            ["INSERT", "INSERT", "INSERT", "REPLACE", "INSERT OR IGNORE", "INSERT OR REPLACE"]
        )
        columns = self.chance.sample(COLUMNS, self.chance.randint(1, 3))
        if "b" not in columns and self.often(0.7):
            columns.append("b")
        marks = self.marks(len(columns))
        table = self.table()
        sql = f"{verb} INTO {table}({', '.join(columns)}) VALUES({', '.join(marks)})"
        if self.often(0.1):
            sql += " ON CONFLICT DO NOTHING"
        if self.often(0.1):
            sql += f" RETURNING {self.chance.choice(['a IS NULL', 'b IS NULL AS x, 1'])}"
        if self.often(0.1):
            start = self.serial = self.serial + 10
            rows = ", ".join(f"({start + one})" for one in range(self.chance.randint(1, 4)))
            return (f"{verb} INTO {table}(b) VALUES{rows}",)
        if self.often(0.05):
            return (f"WITH x(v) AS (VALUES({self.serial + 7})) INSERT INTO t0(b) SELECT v FROM x",)
        return sql, self.parameters(marks)

    def update(self) -> tuple[Any, ...]:
        (mark,) = marks = self.marks(1)
        column = self.chance.choice(["b", "c", "d", "a"])
        where = self.chance.choice(["", "WHERE a < 5", "WHERE rowid = 3", "WHERE 0"])
        sql = f"UPDATE {self.table()} SET {column} = {mark} {where}"
        if self.often(0.1):
            sql += " RETURNING c IS NULL"
        return sql, self.parameters(marks)

    def delete(self) -> tuple[Any, ...]:
        (mark,) = marks = self.marks(1)
        if self.often(0.1):
            return (f"DELETE FROM {self.table()}",)
        return f"DELETE FROM {self.table()} WHERE a = {mark}", self.parameters(marks)

    def create(self) -> tuple[Any, ...]:
        table, column = self.chance.choice(TABLES), self.chance.choice(COLUMNS)
        types = [self.chance.choice(TYPES) for _ in COLUMNS]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, types, strict=True))
        return self.one_of(
            (4, lambda: (f"CREATE TABLE {table}({columns})",)),
            (1, lambda: (f"CREATE TABLE IF NOT EXISTS {table}({columns})",)),
            (1, lambda: (f"CREATE TABLE {table}(a INTEGER PRIMARY KEY, b, c, d) STRICT",)),
            (2, lambda: (f"CREATE INDEX IF NOT EXISTS i_{table} ON {table}({column})",)),
            (1, lambda: (f"CREATE VIEW v AS SELECT * FROM {table}",)),
            (1, lambda: (f"CREATE TABLE {table} AS SELECT a, b, c, d FROM t0",)),
            (1, lambda: (f"ALTER TABLE {table} ADD COLUMN e",)),
        )

    def drop(self) -> tuple[Any, ...]:
        return self.one_of(
            (3, lambda: (f"DROP TABLE {self.chance.choice(['t2', 't3', 'nothing'])}",)),
            (1, lambda: (f"DROP INDEX i_{self.table()}",)),
            (1, lambda: ("DROP VIEW IF EXISTS v",)),
        )

    def pragma(self) -> tuple[Any, ...]:
        return self.one_of(
            (2, lambda: (f"PRAGMA table_info({self.table()})",)),
            (2, lambda: ("PRAGMA user_version",)),
            (1, lambda: (f"PRAGMA user_version = {self.chance.randrange(9)}",)),
            (1, lambda: ("EXPLAIN QUERY PLAN SELECT 1",)),
        )

    def counters(self) -> tuple[Any, ...]:
        return (
            self.chance.choice(["SELECT last_insert_rowid()", "select LAST_INSERT_ROWID ( );"]),
        )

    def nonsense(self) -> tuple[Any, ...]:
        return self.chance.choice(
            [
                ("SELEC 1",),
                ("SELECT",),
                ("SELECT * FROM nowhere",),
                ("SELECT nothing FROM t0",),
                ("SELECT 1; SELECT 2",),
                ("SELECT 1;;",),
                ("",),
                ("-- nothing",),
                (";",),
                ("; SELECT 1",),
                ("SELECT \0",),
                ("SELECT '\ud800'",),
                ("SELECT '",),
                ("SELECT ?", iter([1])),
                ("SELECT ?", 5),
                ("SELECT ?", {1}),
                ("SELECT ?", "x"),
                ("SELECT ?", {"a": 1}),
                (5,),
                ("SELECT abs(-9223372036854775807 - 1)",),
                ("SELECT zeroblob(2000000000)",),
                ("INSERT INTO t0 VALUES(1)",),
                ("INSERT INTO t0(a) VALUES('text')",),
                ("SELECT no_such_function(1)",),
                ("CREATE TABLE t0(a)",),
                ("SELECT a FROM t0 GROUP BY",),
            ]
        )

    # Several at once

    def many(self) -> tuple[Any, ...]:
        if self.often(0.05):
            return "SELECT ?", [(1,)]
        if self.often(0.05):
            return "INSERT INTO t0(b) VALUES(?)", self.chance.choice([[], 5, None, iter([])])
        marks = self.marks(2, mixed=False)
        start = self.serial = self.serial + 20
        sql = f"INSERT INTO {self.table()}(b, c) VALUES({', '.join(marks)})"
        rows = []
        count = self.chance.randint(1, 6)
        for number in range(count):
            row = self.parameters(marks, 0.1 if count == 1 else 0.0)
            if isinstance(row, list) and row and self.often(0.8):
                row[0] = start + number
            rows.append(row)
        if self.often(0.2):
            sql = f"UPDATE {self.table()} SET c = {marks[0]} WHERE a = {marks[1]}"
        return sql, rows

    def script(self) -> str:
        start = self.serial = self.serial + 20
        statements = []
        for number in range(self.chance.randint(0, 3)):
            statements.append(
                self.chance.choice(
                    [
                        f"INSERT INTO t0(b) VALUES({start + number})",
                        f"UPDATE t1 SET c = {number}",
                        "SELECT * FROM t0",
                        "CREATE TABLE IF NOT EXISTS t2(a, b, c, d)",
                        f"INSERT INTO t1(b) VALUES({number}); "
                        "UPDATE t1 SET c = last_insert_rowid() WHERE rowid = last_insert_rowid()",
                        "INSERT INTO t1(b) VALUES(2000)",
                        "DELETE FROM t1 WHERE b > 300",
                        "-- ; a comment\n",
                    ]
                )
            )
        text = ";\n".join(statements)
        return f"BEGIN;\n{text};\nCOMMIT;" if text and self.often(0.2) else text
