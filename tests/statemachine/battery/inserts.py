"""INSERT and REPLACE in every form, rowids, AUTOINCREMENT."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together

insert = Theme("insert")
ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER NOT NULL DEFAULT 7)"
PLAIN = "CREATE TABLE pair(a, b)"
THREE = "INSERT INTO item(id, name, n) VALUES(1,'one',1),(2,'two',2),(3,'three',3)"
insert.case("one row", "INSERT INTO item(name) VALUES('a')", setup=ITEM)
insert.case("many rows", "INSERT INTO item(name) VALUES('a'),('b'),('c')", setup=ITEM)
insert.case("DEFAULT VALUES", "INSERT INTO item DEFAULT VALUES", setup=ITEM)
insert.case("all columns, no list", "INSERT INTO pair VALUES(1,'x'),(2.5,NULL)", setup=PLAIN)
insert.case(
    "columns in another order", "INSERT INTO item(n, name, id) VALUES(5,'five',50)", setup=ITEM
)
insert.case("a rowid under its name", "INSERT INTO pair(rowid, a) VALUES(77, 1)", setup=PLAIN)
insert.case("a rowid under _rowid_", "INSERT INTO pair(_rowid_, a) VALUES(78, 1)", setup=PLAIN)
insert.case("a rowid under oid", "INSERT INTO pair(oid, a) VALUES(79, 1)", setup=PLAIN)
insert.case("a negative rowid", "INSERT INTO item(id, name) VALUES(-5,'x')", setup=ITEM)
insert.case(
    "the next rowid after a negative one",
    ask("INSERT INTO item(id, name) VALUES(-5,'x')", "INSERT INTO item(name) VALUES('y')"),
    setup=ITEM,
)
insert.case(
    "from SELECT",
    "INSERT INTO pair SELECT id, name FROM item ORDER BY id DESC",
    setup=(ITEM, THREE, PLAIN),
)
insert.case(
    "from SELECT of itself",
    "INSERT INTO pair SELECT a + 10, b FROM pair",
    setup=(PLAIN, "INSERT INTO pair VALUES(1,1),(2,2)"),
)
insert.case(
    "from SELECT with LIMIT and ORDER",
    "INSERT INTO pair SELECT id, n FROM item ORDER BY n DESC LIMIT 2",
    setup=(ITEM, THREE, PLAIN),
)
insert.case(
    "from a compound SELECT",
    "INSERT INTO pair SELECT 1, 2 UNION ALL SELECT 3, 4 UNION SELECT 3, 4 EXCEPT SELECT 1, 2",
    setup=PLAIN,
)
insert.case(
    "WITH before INSERT",
    "WITH c(x) AS (VALUES(1),(2),(3)) INSERT INTO pair SELECT x, x * x FROM c",
    setup=PLAIN,
)
insert.case(
    "WITH inside INSERT",
    "INSERT INTO pair WITH c(x) AS (VALUES(1),(2)) SELECT x, -x FROM c",
    setup=PLAIN,
)
insert.case(
    "a recursive WITH",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 50)"
    " INSERT INTO pair SELECT x, x % 7 FROM c",
    setup=PLAIN,
)
insert.case(
    "subqueries as values",
    "INSERT INTO pair VALUES((SELECT max(n) FROM item), (SELECT 'x'))",
    setup=(ITEM, THREE, PLAIN),
)
insert.case("REPLACE of a new row", "REPLACE INTO item(id, name) VALUES(9,'nine')", setup=ITEM)
insert.case(
    "REPLACE of one row", "REPLACE INTO item(id, name) VALUES(2,'zwei')", setup=(ITEM, THREE)
)
insert.case(
    "REPLACE that takes two rows away",
    "REPLACE INTO item(id, name) VALUES(1,'three')",
    setup=(ITEM, THREE),
)
insert.case(
    "REPLACE changes the rowid of a row without one of its own",
    "REPLACE INTO tag(word, n) VALUES('a', 2)",
    setup=("CREATE TABLE tag(word UNIQUE, n)", "INSERT INTO tag VALUES('a',1),('b',1)"),
)
insert.case("into an alias", "INSERT INTO item AS i(name, n) VALUES('x', 3)", setup=ITEM)
insert.case("into main by name", "INSERT INTO main.item(name) VALUES('x')", setup=ITEM)
insert.case("a missing table", fails("INSERT INTO nowhere VALUES(1)", why="no such table: nowhere"))
insert.case(
    "a missing column",
    fails("INSERT INTO item(nope) VALUES(1)", why="no column named nope"),
    setup=ITEM,
)
insert.case(
    "too many values",
    fails("INSERT INTO pair VALUES(1,2,3)", why="has 2 columns but 3 values"),
    setup=PLAIN,
)
insert.case(
    "rows of different length",
    fails("INSERT INTO pair VALUES(1,2),(3)", why="same number of terms"),
    setup=PLAIN,
)
insert.case(
    "a duplicate key",
    fails("INSERT INTO item(name) VALUES('one')", why="UNIQUE"),
    setup=(ITEM, THREE),
)
insert.case(
    "a duplicate primary key",
    fails("INSERT INTO item(id) VALUES(1)", why="UNIQUE"),
    setup=(ITEM, THREE),
)
insert.case(
    "NULL where it may not be",
    fails("INSERT INTO item(n) VALUES(NULL)", why="NOT NULL"),
    setup=ITEM,
)
insert.case(
    "text for an INTEGER PRIMARY KEY",
    fails("INSERT INTO item(id) VALUES('abc')", why="datatype mismatch"),
    setup=ITEM,
)
insert.case(
    "a thousand rows by one statement each",
    ask(*[("INSERT INTO pair VALUES(?,?)", i, str(i) * (i % 5)) for i in range(1000)]),
    setup=PLAIN,
)
insert.case(
    "a thousand rows in a transaction",
    together(*[("INSERT INTO pair VALUES(?,?)", i, -i) for i in range(1000)]),
    setup=PLAIN,
)
insert.case(
    "rowids are reused after the last row is gone",
    ask(
        "DELETE FROM item WHERE id = 3",
        "INSERT INTO item(name) VALUES('again')",
        "SELECT id FROM item WHERE name = 'again'",
    ),
    setup=(ITEM, THREE),
)
insert.case(
    "AUTOINCREMENT does not reuse",
    ask(
        "INSERT INTO log(msg) VALUES('a'),('b')",
        "DELETE FROM log",
        "INSERT INTO log(msg) VALUES('c')",
        "SELECT id, msg FROM log",
        "SELECT name, seq FROM sqlite_sequence",
    ),
    setup="CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, msg)",
    alone=True,
)
insert.case(
    "a failed insert takes no AUTOINCREMENT number",
    ask(
        "INSERT INTO log(msg) VALUES('a')",
        fails("INSERT INTO log(msg) VALUES('b'),('c'),('a')", why="UNIQUE"),
        "INSERT INTO log(msg) VALUES('d')",
        "SELECT id, msg FROM log",
    ),
    setup="CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, msg UNIQUE)",
)
insert.case(
    "a rolled back AUTOINCREMENT number comes again",
    together(
        "INSERT INTO log(msg) VALUES('a'),('b'),('c')",
        fails("INSERT INTO log(msg) VALUES('a')", why="UNIQUE"),
    ),
    "INSERT INTO log(msg) VALUES('d')",
    setup="CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, msg UNIQUE)",
)
insert.case(
    "sqlite_sequence may be set by a user",
    ask(
        "INSERT INTO log(msg) VALUES('a')",
        "UPDATE sqlite_sequence SET seq = 500 WHERE name = 'log'",
        "INSERT INTO log(msg) VALUES('b')",
        "SELECT id FROM log",
        "DELETE FROM sqlite_sequence WHERE name = 'log'",
        "INSERT INTO log(msg) VALUES('c')",
        "INSERT INTO sqlite_sequence(name, seq) VALUES('other', 9)",
    ),
    setup="CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, msg)",
    alone=True,
)

THEMES = (insert,)
