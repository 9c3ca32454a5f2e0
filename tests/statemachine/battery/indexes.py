"""Indexes, collations, views, REINDEX and EXPLAIN."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, varies

indexes = Theme("indexes and views")
DATA = ("CREATE TABLE item(a, b)", "INSERT INTO item VALUES(3,'x'),(1,'Y'),(2,NULL),(1,'y')")
indexes.case("CREATE INDEX", "CREATE INDEX by_a ON item(a)", setup=DATA)
indexes.case("CREATE INDEX over two columns", "CREATE INDEX by_ab ON item(a DESC, b)", setup=DATA)
indexes.case("CREATE UNIQUE INDEX", "CREATE UNIQUE INDEX by_ab ON item(a, b)", setup=DATA)
indexes.case(
    "CREATE INDEX IF NOT EXISTS",
    ask("CREATE INDEX by_a ON item(a)", "CREATE INDEX IF NOT EXISTS by_a ON item(b)"),
    setup=DATA,
)
indexes.case(
    "an index that is there",
    fails("CREATE INDEX by_a ON item(b)", why="index by_a already exists"),
    setup=(*DATA, "CREATE INDEX by_a ON item(a)"),
)
indexes.case("DROP INDEX", "DROP INDEX by_a", setup=(*DATA, "CREATE INDEX by_a ON item(a)"))
indexes.case("DROP INDEX of nothing", fails("DROP INDEX nowhere", why="no such index: nowhere"))
indexes.case(
    "DROP INDEX of a constraint",
    fails("DROP INDEX sqlite_autoindex_item_1", why="cannot be dropped"),
    setup="CREATE TABLE item(a UNIQUE)",
)
indexes.case(
    "a partial index",
    ask(
        "CREATE UNIQUE INDEX one_x ON item(a) WHERE b = 'x'",
        "INSERT INTO item VALUES(3,'z')",
        fails("INSERT INTO item VALUES(3,'x')", why="UNIQUE"),
    ),
    setup=DATA,
)
indexes.case(
    "an expression index",
    ask(
        "CREATE INDEX low ON item(lower(b))",
        "INSERT INTO item VALUES(9,'YY')",
        "SELECT a FROM item WHERE lower(b) = 'yy'",
        "UPDATE item SET b = 'Q' WHERE lower(b) = 'y'",
    ),
    setup=DATA,
)
indexes.case(
    "an index on random() is refused by SQLite",
    fails("CREATE INDEX bad ON item(random())", why="non-deterministic"),
    setup=DATA,
)
indexes.case(
    "an index on the time is refused by SQLite",
    ask(
        fails("CREATE INDEX bad ON item(datetime('now'))", why="non-deterministic"),
        fails("CREATE INDEX bad ON item(CURRENT_TIMESTAMP)", why="prohibited"),
    ),
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)"),
)
indexes.case(
    "an index on the time of an empty table fails at the first row",
    ask(
        "CREATE INDEX later ON item(date(a))",
        "INSERT INTO item VALUES('2020-01-01')",
        fails("INSERT INTO item VALUES('now')", why="non-deterministic"),
    ),
    setup="CREATE TABLE item(a)",
)
indexes.case(
    "an index on last_insert_rowid() or changes()",
    ask(
        fails("CREATE INDEX bad ON item(changes())", why="non-deterministic"),
        fails("CREATE INDEX bad ON item(last_insert_rowid())", why="non-deterministic"),
        fails("CREATE INDEX bad ON item(total_changes())", why="non-deterministic"),
        fails("CREATE INDEX bad ON item(randomblob(3))", why="non-deterministic"),
    ),
    setup=DATA,
)
indexes.case(
    "collations",
    ask(
        "CREATE INDEX nc ON item(b COLLATE NOCASE)",
        "SELECT a FROM item WHERE b = 'Y' COLLATE NOCASE ORDER BY a, b",
        "SELECT b FROM item ORDER BY b COLLATE NOCASE, b",
        "SELECT 'a ' = 'a' COLLATE RTRIM, 'A' = 'a' COLLATE NOCASE, 'Ä' = 'ä' COLLATE NOCASE",
    ),
    setup=DATA,
)
indexes.case(
    "an unknown collation",
    fails("CREATE INDEX nc ON item(b COLLATE german)", why="no such collation sequence: german"),
    setup=DATA,
)
indexes.case(
    "a UNIQUE column that ignores case",
    ask(
        "INSERT INTO who VALUES('Ann')",
        fails("INSERT INTO who VALUES('ANN')", why="UNIQUE"),
        "INSERT OR REPLACE INTO who VALUES('aNN')",
    ),
    setup="CREATE TABLE who(name TEXT COLLATE NOCASE UNIQUE)",
)
indexes.case("REINDEX all", "REINDEX", setup=(*DATA, "CREATE INDEX by_a ON item(a)"))
indexes.case(
    "REINDEX of a table, an index, a collation",
    ask("REINDEX item", "REINDEX by_a", "REINDEX NOCASE"),
    setup=(*DATA, "CREATE INDEX by_a ON item(a)"),
)
indexes.case("REINDEX of nothing", fails("REINDEX nowhere", why="unable to identify the object"))
indexes.case(
    "EXPLAIN QUERY PLAN",
    ask("EXPLAIN QUERY PLAN SELECT * FROM item WHERE a = 1"),
    setup=(*DATA, "CREATE INDEX by_a ON item(a)"),
)
indexes.case(
    "EXPLAIN of a write does not write",
    ask(
        varies("EXPLAIN INSERT INTO item VALUES(7,7)"),
        "SELECT count(*) FROM item",
        varies("EXPLAIN QUERY PLAN DELETE FROM item"),
        "SELECT count(*) FROM item",
    ),
    setup=DATA,
)
indexes.case(
    "a view",
    ask("CREATE VIEW v(x) AS SELECT a FROM item WHERE b IS NOT NULL", "SELECT x FROM v ORDER BY x"),
    setup=DATA,
)
indexes.case("DROP VIEW", "DROP VIEW v", setup=(*DATA, "CREATE VIEW v AS SELECT a FROM item"))
indexes.case(
    "a view cannot be written",
    fails("INSERT INTO v VALUES(1)", why="cannot modify v because it is a view"),
    setup=(*DATA, "CREATE VIEW v AS SELECT a FROM item"),
)
indexes.case(
    "a view of what is not there",
    ask(
        "CREATE VIEW v AS SELECT * FROM nowhere",
        fails("SELECT * FROM v", why="no such table: main.nowhere"),
    ),
)
indexes.case(
    "a view is no table",
    fails("DROP TABLE v", why="use DROP VIEW to delete view v"),
    setup=(*DATA, "CREATE VIEW v AS SELECT a FROM item"),
)
indexes.case(
    "CREATE VIEW IF NOT EXISTS in use by an INSERT",
    ask(
        "CREATE VIEW IF NOT EXISTS v AS SELECT a, b FROM item",
        "INSERT INTO item SELECT a + 100, b FROM v",
    ),
    setup=DATA,
)

THEMES = (indexes,)
