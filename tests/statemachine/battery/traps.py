"""Traps: texts remembered from another schema, and bulks of one text. Each is a way in which an
engine in front of SQLite could be mistaken."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, refused, together

memory = Theme("remembered texts")
bulk = Theme("bulk")

ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, v UNIQUE)"
OUT = "CREATE TABLE out(a, b, c)"
PUT = "INSERT INTO item(v) VALUES(?)"
SEE = "SELECT * FROM item"
COUNTERS = "SELECT last_insert_rowid(), changes(), total_changes()"
KEEP = "INSERT INTO out VALUES(last_insert_rowid(), changes(), total_changes())"

memory.case(
    "a table of a rolled back transaction, made again with other columns",
    together("CREATE TABLE fresh(x)", "SELECT * FROM fresh", fails("nonsense", why="syntax error")),
    ask("CREATE TABLE fresh(x, y INT)", "SELECT * FROM fresh", "INSERT INTO fresh VALUES(1, 2)"),
)
memory.case(
    "a table of a rolled back transaction, then none",
    together(
        "CREATE TABLE fresh(x)",
        "INSERT INTO fresh VALUES(1)",
        fails("nonsense", why="syntax error"),
    ),
    fails("INSERT INTO fresh VALUES(1)", why="no such table: fresh"),
    ask("CREATE TABLE fresh(x, y DEFAULT 5)"),
    fails("INSERT INTO fresh VALUES(1)", why="has 2 columns but 1 values"),
)
memory.case(
    "SELECT * after ADD COLUMN and RENAME COLUMN",
    ask(SEE, "ALTER TABLE item ADD COLUMN more TEXT", SEE, "ALTER TABLE item RENAME more TO less"),
    ask(SEE, "INSERT INTO item(v, less) VALUES(2, 'x')", SEE),
    setup=(ITEM, "INSERT INTO item(v) VALUES(1)"),
)
memory.case(
    "SELECT * after DROP COLUMN in another request",
    SEE,
    "ALTER TABLE item DROP COLUMN w",
    SEE,
    setup=("CREATE TABLE item(id INTEGER PRIMARY KEY, w, v)", "INSERT INTO item VALUES(1, 2, 3)"),
)
memory.case(
    "a text known before its trigger reads counters",
    ask("INSERT INTO item(v) VALUES(NULL)"),
    ask(
        "INSERT INTO item(v) VALUES(NULL)",
        f"CREATE TRIGGER t AFTER INSERT ON item BEGIN {KEEP}; END",
        "INSERT INTO item(v) VALUES(NULL)",
    ),
    ask("INSERT INTO item(v) VALUES(NULL)", COUNTERS),
    "SELECT * FROM out",
    setup=(ITEM, OUT),
)
memory.case(
    "a text known before a RAISE(FAIL) trigger",
    ask("INSERT INTO item(v) VALUES(1),(2)", "DELETE FROM item"),
    "CREATE TRIGGER t BEFORE INSERT ON item WHEN new.v = 2 BEGIN SELECT RAISE(FAIL, 'two'); END",
    ask(fails("INSERT INTO item(v) VALUES(1),(2)", why="two"), SEE),
    "DROP TRIGGER t",
    ask("DELETE FROM item", "INSERT INTO item(v) VALUES(1),(2)", SEE),
    setup=ITEM,
)
memory.case(
    "a text known before a RAISE(ROLLBACK) trigger, which is itself rolled back",
    "INSERT INTO item(v) VALUES(1)",
    together(
        "CREATE TRIGGER t BEFORE INSERT ON item BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        fails("INSERT INTO item(v) VALUES(2)", why="no"),
    ),
    "INSERT INTO item(v) VALUES(2)",
    SEE,
    setup=ITEM,
)
memory.case(
    "a name that was a table and is a view now",
    ask(SEE, "DROP TABLE item", "CREATE VIEW item AS SELECT 1 AS one", SEE),
    fails("INSERT INTO item(v) VALUES(1)", why="because it is a view"),
    setup=ITEM,
)
memory.case(
    "one text with and without foreign keys, by turns",
    ask("PRAGMA foreign_keys = ON", fails("INSERT INTO child VALUES(9)", why="FOREIGN KEY")),
    "INSERT INTO child VALUES(9)",
    ask("PRAGMA foreign_keys = ON", fails("INSERT INTO child VALUES(9)", why="FOREIGN KEY")),
    "INSERT INTO child VALUES(9)",
    setup=(ITEM, "CREATE TABLE child(x REFERENCES item(id))"),
)
memory.case(
    "one text with and without case_sensitive_like, by turns",
    "DELETE FROM item WHERE v LIKE 'A%' AND id < 3",
    ask("PRAGMA case_sensitive_like = ON", "DELETE FROM item WHERE v LIKE 'A%' AND id < 5"),
    "DELETE FROM item WHERE v LIKE 'A%' AND id < 7",
    SEE,
    setup=(ITEM, "INSERT INTO item(v) VALUES('aa'),('Aa'),('ab'),('Ab'),('ac'),('Ac')"),
)
memory.case(
    "one text with and without recursive_triggers, by turns",
    "INSERT INTO item(v) VALUES(102)",
    ask("PRAGMA recursive_triggers = ON", "INSERT INTO item(v) VALUES(202)"),
    "INSERT INTO item(v) VALUES(302)",
    SEE,
    setup=(
        ITEM,
        "CREATE TRIGGER t AFTER INSERT ON item WHEN new.v % 100 > 0 BEGIN"
        " INSERT INTO item(v) VALUES(new.v - 1); END",
    ),
)
memory.case(
    "an index that comes and goes under a text",
    "DELETE FROM item WHERE v > 3 AND id IN (SELECT id FROM item WHERE v > 3 LIMIT 1)",
    "CREATE INDEX by_v ON item(v DESC)",
    "DELETE FROM item WHERE v > 3 AND id IN (SELECT id FROM item WHERE v > 3 LIMIT 1)",
    "DROP INDEX by_v",
    "DELETE FROM item WHERE v > 3 AND id IN (SELECT id FROM item WHERE v > 3 LIMIT 1)",
    setup=(
        "CREATE TABLE item(id INTEGER PRIMARY KEY, v)",
        "INSERT INTO item(v) VALUES(9),(3),(7),(5),(8),(6)",
    ),
)

VALUES = ("a", "b", "a", "c", "b", "d", "a")
bulk.case(
    "one text, some of its rows fail",
    ask(
        *[
            (PUT, v) if v not in VALUES[:i] else fails(PUT, v, why="UNIQUE")
            for i, v in enumerate(VALUES)
        ],
        COUNTERS,
    ),
    SEE,
    setup=ITEM,
)
bulk.case(
    "one text, a row fails, with transaction",
    together(*[(PUT, v) for v in "abc"], fails(PUT, "a", why="UNIQUE"), (PUT, "d")),
    SEE,
    setup=ITEM,
)
bulk.case(
    "one text with OR FAIL",
    ask(
        *[("INSERT OR FAIL INTO item(v) VALUES(?),(?)", v, v + "2") for v in "abc"],
        fails("INSERT OR FAIL INTO item(v) VALUES(?),(?)", "x", "a2", why="UNIQUE"),
        ("INSERT OR FAIL INTO item(v) VALUES(?),(?)", "y", "z"),
        COUNTERS,
    ),
    SEE,
    setup=ITEM,
)
bulk.case(
    "one text with OR ROLLBACK",
    ask(
        *[("INSERT OR ROLLBACK INTO item(v) VALUES(?)", v) for v in "abc"],
        fails("INSERT OR ROLLBACK INTO item(v) VALUES(?)", "a", why="UNIQUE"),
        ("INSERT OR ROLLBACK INTO item(v) VALUES(?)", "d"),
        COUNTERS,
    ),
    SEE,
    setup=ITEM,
)
bulk.case(
    "one text with OR ROLLBACK, with transaction",
    together(
        *[("INSERT OR ROLLBACK INTO item(v) VALUES(?)", v) for v in "abc"],
        fails("INSERT OR ROLLBACK INTO item(v) VALUES(?)", "a", why="UNIQUE"),
        ("INSERT OR ROLLBACK INTO item(v) VALUES(?)", "d"),
    ),
    SEE,
    setup=ITEM,
)
bulk.case(
    "one text with OR IGNORE",
    ask(*[("INSERT OR IGNORE INTO item(v) VALUES(?)", v) for v in VALUES], COUNTERS),
    SEE,
    setup=ITEM,
)
bulk.case(
    "one text that needs other numbers of parameters",
    ask(
        (PUT, "a"),
        refused(PUT, why="parameter|bind|argument"),
        (PUT, "b"),
        refused(PUT, "c", "d", why="parameter|bind|argument"),
        (PUT, "e"),
        COUNTERS,
    ),
    SEE,
    setup=ITEM,
)
bulk.case(
    "a wrong number of parameters beside a client that needs savepoints",
    fails("UPDATE out SET a = abs(a) + 10", why="overflow"),
    ask((PUT, "a"), refused(PUT, "c", "d", why="parameter|bind|argument"), COUNTERS),
    ask((PUT, "b"), refused(PUT, why="parameter|bind|argument"), KEEP, COUNTERS),
    ask((PUT, "e"), fails("INSERT INTO nowhere VALUES(1)", why="no such table"), KEEP, COUNTERS),
    "SELECT b, c FROM out",
    setup=(ITEM, OUT, "INSERT INTO out(a) VALUES(1),(-9223372036854775808)"),
)
bulk.case(
    "one text that counts",
    ask(*["INSERT INTO out VALUES(last_insert_rowid(), changes(), total_changes())"] * 5),
    "SELECT * FROM out",
    setup=OUT,
)
bulk.case(
    "one text with RETURNING",
    ask(
        *[("INSERT INTO item(v) VALUES(?) RETURNING id, v", v) for v in "abc"],
        fails("INSERT INTO item(v) VALUES(?) RETURNING id, v", "b", why="UNIQUE"),
        ("INSERT INTO item(v) VALUES(?) RETURNING id, v", "d"),
        COUNTERS,
    ),
    setup=ITEM,
)
bulk.case(
    "updates of one text",
    ask(*[("UPDATE item SET v = ? WHERE id = ?", f"n{i}", i) for i in range(8)], COUNTERS),
    SEE,
    setup=(ITEM, "INSERT INTO item(v) VALUES('a'),('b'),('c')"),
)
bulk.case(
    "six thousand statements",
    ask(*[("INSERT OR IGNORE INTO item(v) VALUES(?)", i % 5000) for i in range(6000)], COUNTERS),
    setup=ITEM,
    slow=True,
)
bulk.case(
    "six thousand statements, and the last fails the transaction",
    together(*[(PUT, i) for i in range(6000)], fails(PUT, 1, why="UNIQUE")),
    "SELECT count(*) FROM item",
    setup=ITEM,
    slow=True,
)
bulk.case(
    "as many parameters as SQLite takes",
    ask(("INSERT INTO item(v) VALUES" + ",".join(["(?)"] * 32766), *range(32766)), COUNTERS),
    "SELECT count(*), sum(v) FROM item",
    setup=ITEM,
    slow=True,
)
bulk.case(
    "one parameter more than SQLite takes",
    fails("INSERT INTO item(v) VALUES" + ",".join(["(?)"] * 32767), why="too many SQL variables"),
    setup=ITEM,
    slow=True,
)
bulk.case(
    "an UPDATE of fifty thousand rows",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 50000)"
    " INSERT INTO out SELECT x, x % 100, 0 FROM c",
    ask("UPDATE out SET c = a * b", COUNTERS),
    ask("DELETE FROM out WHERE b < 90", "SELECT count(*), sum(c) FROM out"),
    setup=OUT,
    slow=True,
)


THEMES = (memory, bulk)
