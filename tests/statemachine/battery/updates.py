"""UPDATE and DELETE in every form."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails

update = Theme("update and delete")
ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER NOT NULL DEFAULT 7)"
PLAIN = "CREATE TABLE pair(a, b)"
THREE = "INSERT INTO item(id, name, n) VALUES(1,'one',1),(2,'two',2),(3,'three',3)"
update.case("one row", "UPDATE item SET n = n + 1 WHERE id = 2", setup=(ITEM, THREE))
update.case("all rows", "UPDATE item SET n = n * 10", setup=(ITEM, THREE))
update.case("no row", "UPDATE item SET n = 0 WHERE id = 99", setup=(ITEM, THREE))
update.case("to the same values", "UPDATE item SET n = n", setup=(ITEM, THREE))
update.case("of a rowid", "UPDATE item SET id = id + 100", setup=(ITEM, THREE))
update.case(
    "of rowids that meet on the way",
    fails("UPDATE item SET id = id + 1", why="UNIQUE"),
    setup=(ITEM, THREE),
)
update.case(
    "several columns from a row value",
    "UPDATE item SET (name, n) = (SELECT 'x' || id, id * 5) WHERE id > 1",
    setup=(ITEM, THREE),
)
update.case(
    "FROM another table",
    "UPDATE item SET n = pair.b FROM pair WHERE pair.a = item.id",
    setup=(ITEM, THREE, PLAIN, "INSERT INTO pair VALUES(1,100),(3,300)"),
)
update.case(
    "FROM itself",
    "UPDATE item SET n = o.n * 2 FROM item AS o WHERE o.id = item.id AND o.n > 1",
    setup=(ITEM, THREE),
)
update.case(
    "WITH before UPDATE",
    "WITH m(x) AS (SELECT max(n) FROM item) UPDATE item SET n = (SELECT x FROM m) WHERE id = 1",
    setup=(ITEM, THREE),
)
update.case(
    "OR IGNORE where a key is taken",
    ask("UPDATE OR IGNORE item SET name = 'one'", "SELECT * FROM item"),
    setup=(ITEM, THREE),
)
update.case(
    "OR REPLACE where a key is taken",
    ask("UPDATE OR REPLACE item SET name = 'one' WHERE id > 1", "SELECT * FROM item"),
    setup=(ITEM, THREE),
)
update.case(
    "INDEXED BY",
    "UPDATE item INDEXED BY by_n SET name = 'z' WHERE n = 2",
    setup=(ITEM, THREE, "CREATE INDEX by_n ON item(n)"),
)
update.case(
    "INDEXED BY an index that is not there",
    fails("UPDATE item INDEXED BY by_n SET name = 'z'", why="no such index: by_n"),
    setup=(ITEM, THREE),
)
update.case(
    "of a missing column",
    fails("UPDATE item SET nope = 1", why="no such column: nope"),
    setup=(ITEM, THREE),
)
update.case("DELETE one", "DELETE FROM item WHERE name = 'two'", setup=(ITEM, THREE))
update.case("DELETE all (truncate) counts rows", "DELETE FROM item", setup=(ITEM, THREE))
update.case("DELETE none", "DELETE FROM item WHERE 0", setup=(ITEM, THREE))
update.case(
    "DELETE by a subquery with LIMIT",
    "DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY n DESC LIMIT 2)",
    setup=(ITEM, THREE),
)
update.case(
    "WITH before DELETE",
    "WITH big(id) AS (SELECT id FROM item WHERE n > 1) DELETE FROM item WHERE id IN big",
    setup=(ITEM, THREE),
)
update.case(
    "DELETE with LIMIT is not in this SQLite",
    fails("DELETE FROM item LIMIT 1", why='near "LIMIT"'),
    setup=(ITEM, THREE),
)
update.case(
    "WITHOUT ROWID rows",
    ask(
        "INSERT INTO kv VALUES('b',2),('a',1)",
        "UPDATE kv SET k = 'c' WHERE k = 'a'",
        "DELETE FROM kv WHERE k = 'b'",
        fails("SELECT rowid FROM kv", why="no such column: rowid"),
        fails("INSERT INTO kv VALUES(NULL, 1)", why="NOT NULL"),
        fails("INSERT INTO kv VALUES('c', 1)", why="UNIQUE"),
        "SELECT * FROM kv",
    ),
    setup="CREATE TABLE kv(k TEXT PRIMARY KEY, v) WITHOUT ROWID",
)

THEMES = (update,)
