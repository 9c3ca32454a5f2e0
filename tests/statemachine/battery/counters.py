"""last_insert_rowid(), changes(), total_changes(): each request starts like a new connection."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together, varies

counters = Theme("counters")

ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, v UNIQUE)"
OUT = "CREATE TABLE out(a, b, c)"
READ = "SELECT last_insert_rowid(), changes(), total_changes()"
KEEP = "INSERT INTO out VALUES(last_insert_rowid(), changes(), total_changes())"
SEE = "SELECT a, b, c FROM out ORDER BY rowid"

counters.case(
    "fresh in a new request", "INSERT INTO item(v) VALUES('a'),('b')", KEEP, SEE, setup=(ITEM, OUT)
)
counters.case("fresh for a read", "INSERT INTO item(v) VALUES('a'),('b')", READ, setup=ITEM)
counters.case(
    "after an insert",
    ask("INSERT INTO item(v) VALUES('a'),('b')", READ, KEEP, READ, KEEP, SEE),
    setup=(ITEM, OUT),
)
counters.case(
    "after a failed insert",
    ask(
        "INSERT INTO item(v) VALUES('a')",
        fails("INSERT INTO item(v) VALUES('x'),('y'),('a')", why="UNIQUE"),
        KEEP,
        SEE,
    ),
    setup=(ITEM, OUT),
)
counters.case(
    "after a failed insert in an earlier request",
    fails("INSERT INTO item(v) VALUES('x'),('y'),('x')", why="UNIQUE"),
    KEEP,
    SEE,
    setup=(ITEM, OUT),
)
counters.case(
    "after a rolled back transaction",
    together(
        "INSERT INTO item(v) VALUES('a'),('b')",
        fails("INSERT INTO item(v) VALUES('a')", why="UNIQUE"),
    ),
    KEEP,
    SEE,
    setup=(ITEM, OUT),
)
counters.case(
    "after OR FAIL",
    ask(fails("INSERT OR FAIL INTO item(v) VALUES('x'),('y'),('x')", why="UNIQUE"), KEEP, SEE),
    setup=(ITEM, OUT),
)
counters.case(
    "after OR IGNORE",
    ask("INSERT INTO item(v) VALUES('a')", "INSERT OR IGNORE INTO item(v) VALUES('a')", KEEP, SEE),
    setup=(ITEM, OUT),
)
counters.case(
    "after OR ROLLBACK",
    ask(
        "INSERT INTO item(v) VALUES('a')",
        fails("INSERT OR ROLLBACK INTO item(v) VALUES('b'),('a')", why="UNIQUE"),
        KEEP,
        SEE,
    ),
    setup=(ITEM, OUT),
)
counters.case(
    "after REPLACE",
    ask("INSERT INTO item(v) VALUES('a')", "REPLACE INTO item(v) VALUES('a')", READ),
    setup=ITEM,
)
counters.case(
    "after UPDATE and DELETE",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b'),('c')",
        "UPDATE item SET v = v || '!'",
        READ,
        "DELETE FROM item WHERE id > 1",
        READ,
        "DELETE FROM item",
        READ,
    ),
    setup=ITEM,
)
counters.case(
    "after an UPDATE of nothing",
    ask("INSERT INTO item(v) VALUES('a'),('b')", "UPDATE item SET v = 1 WHERE 0", READ),
    setup=ITEM,
)
counters.case(
    "DDL leaves them",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b')",
        "CREATE TABLE other(x)",
        "CREATE INDEX by_v ON item(v)",
        READ,
        "DROP TABLE other",
        READ,
    ),
    setup=ITEM,
)
counters.case(
    "a DDL first echoes zeros", ask("CREATE TABLE other(x)", "CREATE INDEX by_x ON other(x)", READ)
)
counters.case(
    "CREATE TABLE AS",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b'),('c')",
        "CREATE TABLE copy AS SELECT * FROM item WHERE id < 3",
        READ,
    ),
    setup=ITEM,
)
counters.case(
    "a SELECT leaves them",
    ask("INSERT INTO item(v) VALUES('a'),('b')", "SELECT count(*) FROM item", READ),
    setup=ITEM,
)
counters.case(
    "a PRAGMA leaves them",
    ask("INSERT INTO item(v) VALUES('a'),('b')", "PRAGMA user_version = 3", READ),
    setup=ITEM,
    alone=True,
)
counters.case(
    "an explicit rowid",
    ask(
        "INSERT INTO item(id, v) VALUES(1000, 'a')",
        READ,
        "INSERT INTO item(id, v) VALUES(5, 'b')",
        READ,
    ),
    setup=ITEM,
)
counters.case(
    "WITHOUT ROWID leaves the rowid",
    ask("INSERT INTO item(v) VALUES('a')", "INSERT INTO kv VALUES('x', 1),('y', 2)", READ),
    setup=(ITEM, "CREATE TABLE kv(k PRIMARY KEY, v) WITHOUT ROWID"),
)
counters.case(
    "a parent and its child",
    together(
        "INSERT INTO item(v) VALUES('p')",
        "INSERT INTO out(a) VALUES(last_insert_rowid())",
        "INSERT INTO out(a) VALUES(last_insert_rowid())",
    ),
    SEE,
    setup=(ITEM, OUT),
)
counters.case(
    "a parent and its child, next to others",
    "INSERT INTO item(v) VALUES('other')",
    together("INSERT INTO item(v) VALUES('p')", "INSERT INTO out(a) VALUES(last_insert_rowid())"),
    "INSERT INTO item(v) VALUES('more')",
    ask("INSERT INTO out(a) VALUES(last_insert_rowid())"),
    SEE,
    setup=(ITEM, OUT),
)
counters.case(
    "inside a trigger",
    ask("INSERT INTO item(v) VALUES('a'),('b')", READ, SEE),
    setup=(ITEM, OUT, f"CREATE TRIGGER t AFTER INSERT ON item BEGIN {KEEP}; END"),
)
counters.case(
    "inside a trigger, after failures",
    ask(
        fails("INSERT INTO item(v) VALUES('x'),('x')", why="UNIQUE"),
        "INSERT INTO item(v) VALUES('y')",
        READ,
        SEE,
    ),
    setup=(ITEM, OUT, f"CREATE TRIGGER t AFTER INSERT ON item BEGIN {KEEP}; END"),
)
counters.case(
    "inside a trigger of an UPDATE over many rows",
    ask("UPDATE item SET v = v || '!'", READ, SEE),
    setup=(
        ITEM,
        OUT,
        "INSERT INTO item(v) VALUES('a'),('b'),('c')",
        f"CREATE TRIGGER t AFTER UPDATE ON item BEGIN {KEEP}; END",
    ),
)
counters.case(
    "inside a trigger of a trigger",
    ask("INSERT INTO item(v) VALUES('a')", READ, "SELECT * FROM mid", SEE),
    setup=(
        ITEM,
        OUT,
        "CREATE TABLE mid(x, y)",
        "CREATE TRIGGER t1 AFTER INSERT ON item BEGIN INSERT INTO mid"
        " VALUES(last_insert_rowid(), changes()),(1,1); END",
        f"CREATE TRIGGER t2 AFTER INSERT ON mid BEGIN {KEEP}; END",
    ),
)
counters.case(
    "inside an INSTEAD OF trigger",
    ask("INSERT INTO v(v) VALUES('a'),('b')", READ, SEE),
    setup=(
        ITEM,
        OUT,
        "CREATE VIEW v AS SELECT v FROM item",
        f"CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN INSERT INTO item(v) VALUES(new.v);"
        f" {KEEP}; END",
    ),
)
counters.case(
    "as a DEFAULT",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b')",
        "INSERT INTO seq(n) VALUES(1)",
        "INSERT INTO seq(n) VALUES(2)",
        "SELECT n, r, c FROM seq",
    ),
    setup=(ITEM, "CREATE TABLE seq(n, r DEFAULT (last_insert_rowid()), c DEFAULT (changes()))"),
)
counters.case(
    "in a view that is copied",
    ask("INSERT INTO item(v) VALUES('a'),('b')", "INSERT INTO out SELECT * FROM now_counters", SEE),
    setup=(
        ITEM,
        OUT,
        "CREATE VIEW now_counters AS SELECT last_insert_rowid(), changes(), total_changes()",
    ),
)
counters.case(
    "in UPDATE SET and WHERE",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b'),('c')",
        "UPDATE item SET v = changes() + 0.5 WHERE id = last_insert_rowid()",
        "SELECT v FROM item",
    ),
    setup=ITEM,
)
counters.case(
    "in INSERT SELECT for each row",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b')",
        "INSERT INTO out SELECT last_insert_rowid(), changes(), id FROM item",
        SEE,
    ),
    setup=(ITEM, OUT),
)
counters.case(
    "in RETURNING",
    ask("INSERT INTO item(v) VALUES('a'),('b') RETURNING id, last_insert_rowid(), changes()"),
    setup=ITEM,
)
counters.case(
    "total_changes() counts triggers",
    ask("INSERT INTO item(v) VALUES('a'),('b')", READ, KEEP, SEE),
    setup=(
        ITEM,
        OUT,
        "CREATE TABLE log(x)",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO log VALUES(1),(2),(3); END",
    ),
)
counters.case(
    "total_changes() counts foreign key actions",
    ask("PRAGMA foreign_keys = ON", "DELETE FROM item WHERE id = 1", READ),
    setup=(
        ITEM,
        "INSERT INTO item VALUES(1,'a')",
        "CREATE TABLE child(x REFERENCES item ON DELETE CASCADE)",
        "INSERT INTO child VALUES(1),(1)",
    ),
)
counters.case(
    "total_changes() after failures in the same request",
    ask(
        "INSERT INTO item(v) VALUES('a')",
        fails("INSERT OR FAIL INTO item(v) VALUES('b'),('a')", why="UNIQUE"),
        fails("INSERT INTO item(v) VALUES('c'),('a')", why="UNIQUE"),
        KEEP,
        "DELETE FROM out WHERE 0",
        KEEP,
        SEE,
    ),
    setup=(ITEM, OUT),
)
counters.case(
    "many requests, each its own",
    *[ask(f"INSERT INTO item(id, v) VALUES({i * 10}, 'v{i}')", KEEP) for i in range(1, 8)],
    SEE,
    setup=(ITEM, OUT),
)
counters.case(
    "an UPSERT that updates",
    ask(
        "INSERT INTO item VALUES(7,'a')",
        "INSERT INTO item VALUES(7,'b') ON CONFLICT(id) DO UPDATE SET v = excluded.v",
        READ,
        "INSERT INTO item VALUES(7,'b') ON CONFLICT DO NOTHING",
        READ,
    ),
    setup=ITEM,
)
counters.case(
    "an INSERT from an empty SELECT",
    ask("INSERT INTO item(v) VALUES('a'),('b')", "INSERT INTO item(v) SELECT 'z' WHERE 0", READ),
    setup=ITEM,
)
counters.case(
    "a statement that does not compile",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b')",
        fails("INSERT INTO nowhere VALUES(1)", why="no such table"),
        READ,
    ),
    setup=ITEM,
)
counters.case(
    "an EXPLAIN leaves them",
    ask(
        "INSERT INTO item(v) VALUES('a'),('b')", varies("EXPLAIN QUERY PLAN DELETE FROM item"), READ
    ),
    setup=ITEM,
)
counters.case(
    "changes() of a truncate inside a trigger",
    ask("INSERT INTO item(v) VALUES('a')", READ, "SELECT * FROM mid"),
    setup=(
        ITEM,
        "CREATE TABLE mid(x)",
        "INSERT INTO mid VALUES(1),(2),(3)",
        "CREATE TABLE gone(n)",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN DELETE FROM mid; INSERT INTO gone"
        " VALUES(changes()); END",
    ),
)
counters.case(
    "a transaction whose first statement reads them",
    together(KEEP, "INSERT INTO item(v) VALUES('a')", KEEP),
    SEE,
    setup=(ITEM, OUT),
)

THEMES = (counters,)
