"""Odd corners: names that look like something else, reads that write, nodes that could differ."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails, refused, together

odd = Theme("odd corners")

ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, v UNIQUE)"
OUT = "CREATE TABLE out(a, b, c)"
SEE = "SELECT * FROM item"
KEEP = "INSERT INTO out VALUES(last_insert_rowid(), changes(), total_changes())"
VALUES = ("a", "b", "a", "c", "b", "d", "a")

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
    ask("CREATE VIEW pages AS SELECT page_count AS n FROM pragma_page_count"),
    refused("ALTER TABLE item RENAME COLUMN v TO w", why="unsafe use of virtual table"),
    "SELECT v FROM item",
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

THEMES = (odd,)
