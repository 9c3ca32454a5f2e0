"""Traps: texts remembered from another schema, bulks of one text, names that look like functions,
reads that write. Each is a way in which an engine in front of SQLite could be mistaken."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails, refused, together

memory = Theme("remembered texts")
bulk = Theme("bulk")
odd = Theme("odd corners")

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

odd.case(
    "columns and tables with the names of functions and words",
    ask(
        'CREATE TABLE changes(last_insert_rowid, total_changes, random, "limit", fail)',
        "INSERT INTO changes VALUES(1, 2, 3, 4, 5)",
        "UPDATE changes SET fail = random + total_changes",
        'SELECT last_insert_rowid, "limit", fail FROM changes',
    ),
)
odd.case(
    "a table of the user called pragma_notes",
    ask("INSERT INTO pragma_notes VALUES(1)", "INSERT INTO item(v) SELECT a FROM pragma_notes"),
    "UPDATE pragma_notes SET a = (SELECT max(a) + 1 FROM pragma_notes)",
    SEE,
    setup=(ITEM, "CREATE TABLE pragma_notes(a)"),
)
odd.case(
    "a table called docs_data that is no shadow",
    "INSERT INTO item(v) SELECT a FROM docs_data",
    setup=(
        ITEM,
        "CREATE TABLE docs(a)",
        "CREATE TABLE docs_data(a)",
        "INSERT INTO docs_data VALUES(1)",
    ),
)
odd.case(
    "our prefix inside a string and a comment",
    ask(
        "INSERT INTO item(v) VALUES('_rsqlite_applied')",
        "UPDATE item SET v = v || '_rsqlite_' /* _rsqlite_meta */",
        either("CREATE TABLE made(a DEFAULT '_rsqlite_')"),
        "SELECT v FROM item WHERE v LIKE '\\_rsqlite%' ESCAPE '\\'",
    ),
    setup=ITEM,
)
odd.case(
    "a write that reads where SQLite put a table",
    refused("INSERT INTO item(v) SELECT rootpage FROM sqlite_schema WHERE name = 'item'", why="."),
    refused("INSERT INTO item(v) SELECT max(rootpage) FROM sqlite_master", why="."),
    "SELECT count(*) FROM item",
    setup=ITEM,
)
odd.case(
    "a write that reads names and texts of the schema",
    "INSERT INTO item(v) SELECT name || sql FROM sqlite_schema WHERE name = 'item'",
    SEE,
    setup=ITEM,
)
odd.case(
    "CREATE TABLE AS from a pragma function",
    refused("CREATE TABLE made AS SELECT * FROM pragma_table_info('item')", why="."),
    ask("SELECT count(*) FROM sqlite_schema WHERE name = 'made'"),
    setup=ITEM,
)
odd.case(
    # The schema of the engine is not trusted, so such a view stops every ALTER TABLE beside it.
    "a view over a pragma function, read by a write",
    ask("CREATE VIEW pages AS SELECT page_count AS n FROM pragma_page_count"),
    refused("INSERT INTO item(v) SELECT n FROM pages", why="."),
    "SELECT count(*) FROM item",
    setup=ITEM,
    alone=True,
)
odd.case(
    "ALTER TABLE beside a view over a pragma function",
    ask(either("CREATE VIEW pages AS SELECT page_count AS n FROM pragma_page_count")),
    "ALTER TABLE item RENAME COLUMN v TO w",
    "SELECT w FROM item",
    setup=ITEM,
    alone=True,
)
odd.case(
    "optimize() of FTS4 writes in a SELECT",
    ask("INSERT INTO old VALUES('a b')", either("SELECT optimize(old) FROM old LIMIT 1")),
    ask(either("SELECT optimize(old) FROM old LIMIT 1")),
    ask("INSERT INTO old VALUES('c')", "SELECT docid FROM old WHERE old MATCH 'c'"),
    setup=("CREATE VIRTUAL TABLE old USING fts4(body)", "INSERT INTO old VALUES('x y z')"),
)
odd.case(
    "the largest rowid in FTS5, and the next",
    ask(either("INSERT INTO docs(rowid, a) VALUES(9223372036854775807, 'x')")),
    ask("INSERT INTO docs(a) VALUES('y')", "SELECT count(*) FROM docs('y')"),
    setup="CREATE VIRTUAL TABLE docs USING fts5(a)",
    volatile=True,
)
odd.case(
    "the largest id in R-Tree, and the next",
    ask(either("INSERT INTO area VALUES(9223372036854775807, 0, 1)")),
    ask("INSERT INTO area VALUES(NULL, 5, 6)"),
    "SELECT count(*) > 0 FROM area WHERE x0 = 5",
    setup="CREATE VIRTUAL TABLE area USING rtree(id, x0, x1)",
    volatile=True,
)
odd.case(
    "EXPLAIN of what is refused",
    ask(either("EXPLAIN BEGIN"), either("EXPLAIN QUERY PLAN ATTACH ':memory:' AS o"), SEE),
    setup=ITEM,
    volatile=True,
)
odd.case(
    "a setting behind nothing",
    ask(
        "",
        "-- first",
        "PRAGMA foreign_keys = ON",
        fails("INSERT INTO child VALUES(9)", why="FOREIGN"),
    ),
    setup=(ITEM, "CREATE TABLE child(x REFERENCES item(id))"),
)
odd.case(
    "a setting and a write in one text",
    ask(fails("PRAGMA foreign_keys = ON; INSERT INTO child VALUES(9)", why="FOREIGN")),
    "INSERT INTO child VALUES(9)",
    setup=(ITEM, "CREATE TABLE child(x REFERENCES item(id))"),
)
odd.case(
    "RETURNING with OR FAIL keeps the rows before",
    ask(
        fails("INSERT OR FAIL INTO item(v) VALUES('n'),('a'),('m') RETURNING id", why="UNIQUE"), SEE
    ),
    setup=(ITEM, "INSERT INTO item(v) VALUES('a')"),
)
odd.case(
    "OR FAIL that fails in its first row keeps nothing",
    ask(fails("INSERT OR FAIL INTO item(v) VALUES('a'),('n')", why="UNIQUE"), KEEP, SEE),
    setup=(ITEM, OUT, "INSERT INTO item(v) VALUES('a')"),
)
odd.case(
    "RAISE(FAIL) in an INSTEAD OF trigger",
    ask(fails("INSERT INTO v VALUES(1),(2),(3)", why="no two"), SEE),
    setup=(
        ITEM,
        "CREATE VIEW v AS SELECT v FROM item",
        "CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN INSERT INTO item(v) VALUES(new.v);"
        " SELECT RAISE(FAIL, 'no two') WHERE new.v = 2; END",
    ),
)
odd.case(
    "DEFAULT CURRENT_TIMESTAMP added to an empty table",
    ask(
        "ALTER TABLE item ADD COLUMN at DEFAULT CURRENT_TIMESTAMP", "INSERT INTO item(v) VALUES(1)"
    ),
    "SELECT abs(julianday(at) - julianday('now')) < 0.01 FROM item",
    setup=ITEM,
    volatile=True,
)
odd.case(
    "a transaction of nothing but settings and reads",
    together("PRAGMA user_version", SEE, "PRAGMA table_info(item)"),
    setup=ITEM,
)
odd.case(
    "a full AUTOINCREMENT among strangers",
    "INSERT INTO item(v) VALUES('before')",
    fails("INSERT INTO seq(v) VALUES('b')", why="database or disk is full"),
    "INSERT INTO item(v) VALUES('after')",
    SEE,
    setup=(
        ITEM,
        "CREATE TABLE seq(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO seq(v) VALUES('a')",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'seq'",
    ),
    alone=True,
)
odd.case(
    "a value too large in the middle of a transaction",
    together(
        "INSERT INTO item(v) VALUES('x')",
        refused("INSERT INTO item(v) VALUES(zeroblob(2000000000))", why="too big"),
    ),
    SEE,
    setup=ITEM,
)
odd.case(
    "DELETE, INSERT and the freed pages",
    ask(
        "INSERT INTO out SELECT value, hex(zeroblob(500)), 1 FROM json_each('[1,2,3,4,5,6,7,8,9]')",
        "DELETE FROM out WHERE a % 2",
        "INSERT INTO out SELECT a + 100, b, 2 FROM out",
        "SELECT a, length(b), c FROM out",
    ),
    setup=OUT,
)

THEMES = (memory, bulk, odd)
