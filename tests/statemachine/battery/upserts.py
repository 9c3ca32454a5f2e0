"""UPSERT and RETURNING."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together

upsert = Theme("upsert and returning")
ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER NOT NULL DEFAULT 7)"
PLAIN = "CREATE TABLE pair(a, b)"
THREE = "INSERT INTO item(id, name, n) VALUES(1,'one',1),(2,'two',2),(3,'three',3)"
upsert.case(
    "DO NOTHING", "INSERT INTO item(name) VALUES('one') ON CONFLICT DO NOTHING", setup=(ITEM, THREE)
)
upsert.case(
    "DO NOTHING for another constraint",
    fails("INSERT INTO item(id, name) VALUES(8,'one') ON CONFLICT(id) DO NOTHING", why="UNIQUE"),
    setup=(ITEM, THREE),
)
upsert.case(
    "DO UPDATE with excluded",
    "INSERT INTO item(name, n) VALUES('one', 11),('new', 12)"
    " ON CONFLICT(name) DO UPDATE SET n = excluded.n + item.n",
    setup=(ITEM, THREE),
)
upsert.case(
    "DO UPDATE with WHERE that says no",
    ask(
        "INSERT INTO item(name, n) VALUES('one', 0)"
        " ON CONFLICT(name) DO UPDATE SET n = 99 WHERE excluded.n > item.n",
        "SELECT changes(), last_insert_rowid()",
    ),
    setup=(ITEM, THREE),
)
upsert.case(
    "two clauses",
    "INSERT INTO item(id, name, n) VALUES(1,'x',5),(9,'two',6)"
    " ON CONFLICT(id) DO UPDATE SET n = 50 ON CONFLICT(name) DO UPDATE SET n = 60",
    setup=(ITEM, THREE),
)
upsert.case(
    "from SELECT needs WHERE",
    "INSERT INTO item(name, n) SELECT name, 0 FROM item WHERE true"
    " ON CONFLICT(name) DO UPDATE SET n = n + 1",
    setup=(ITEM, THREE),
)
upsert.case(
    "on a partial index",
    ask(
        "INSERT INTO seat VALUES(1,'free'),(1,'held')",
        "INSERT INTO seat VALUES(1,'held') ON CONFLICT(no) WHERE state = 'held'"
        " DO UPDATE SET state = 'twice'",
        "SELECT * FROM seat ORDER BY rowid",
    ),
    setup=(
        "CREATE TABLE seat(no, state)",
        "CREATE UNIQUE INDEX one_held ON seat(no) WHERE state = 'held'",
    ),
)
upsert.case(
    "a target without a constraint",
    fails("INSERT INTO item(n) VALUES(1) ON CONFLICT(n) DO NOTHING", why="does not match any"),
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING of an insert",
    "INSERT INTO item(name) VALUES('a'),('b') RETURNING id, name, n + 1",
    setup=ITEM,
)
upsert.case(
    "RETURNING * with an alias",
    "INSERT INTO item(name) VALUES('a') RETURNING *, id AS key",
    setup=ITEM,
)
upsert.case(
    "RETURNING of an update",
    "UPDATE item SET n = -n WHERE id < 3 RETURNING id, n",
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING of a delete",
    "DELETE FROM item WHERE id <> 2 RETURNING id, name",
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING of nothing", "DELETE FROM item WHERE id = 99 RETURNING id", setup=(ITEM, THREE)
)
upsert.case(
    "RETURNING of an upsert",
    "INSERT INTO item(name, n) VALUES('one', 5),('four', 4)"
    " ON CONFLICT(name) DO UPDATE SET n = excluded.n RETURNING id, name, n",
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING that fails leaves no row",
    ask(
        fails("INSERT INTO item(name) VALUES('one') RETURNING id", why="UNIQUE"),
        "SELECT count(*) FROM item",
    ),
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING in a transaction",
    together(
        "INSERT INTO item(name) VALUES('a') RETURNING id",
        "UPDATE item SET n = 1 RETURNING name",
        "DELETE FROM item RETURNING *",
    ),
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING sees the row before AFTER triggers",
    ask("INSERT INTO item(name, n) VALUES('x', 1) RETURNING n", "SELECT n FROM item"),
    setup=(
        ITEM,
        "CREATE TRIGGER up AFTER INSERT ON item BEGIN UPDATE item SET n = 100 WHERE id ="
        " new.id; END",
    ),
)
upsert.case(
    "RETURNING with a subquery over the changed table",
    "INSERT INTO item(name) VALUES('a'),('b') RETURNING (SELECT count(*) FROM item)",
    setup=(ITEM, THREE),
)
upsert.case(
    "RETURNING of many rows",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000)"
    " INSERT INTO pair SELECT x, x || 'x' FROM c RETURNING a, b",
    setup=PLAIN,
)

THEMES = (upsert,)
