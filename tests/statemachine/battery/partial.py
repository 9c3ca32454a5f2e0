"""Partial failure: statement k of n, with and without `transaction`."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, refused, together

partial = Theme("partial failure")
ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER CHECK(n < 100))"
TWO = "INSERT INTO item VALUES(1,'one',1),(2,'two',2)"
SEE = "SELECT id, name, n FROM item ORDER BY id"
COUNTERS = "SELECT last_insert_rowid(), changes(), total_changes()"
for _k in (1, 2, 3, 4):
    _list = [f"INSERT INTO item(name, n) VALUES('s{i}', {i})" for i in range(1, 5)]
    _list[_k - 1] = fails("INSERT INTO item(name) VALUES('one')", why="UNIQUE")
    partial.case(f"statement {_k} of 4 fails", ask(*_list, COUNTERS, SEE), setup=(ITEM, TWO))
    partial.case(
        f"statement {_k} of 4 fails in a transaction", together(*_list), SEE, setup=(ITEM, TWO)
    )
partial.case(
    "a statement that does not compile, in the middle",
    ask(
        "INSERT INTO item(name) VALUES('a')",
        fails("INSERT INTO itm(name) VALUES('b')", why="no such table: itm"),
        "INSERT INTO item(name) VALUES('c')",
    ),
    setup=ITEM,
)
partial.case(
    "a statement that does not compile, in a transaction",
    together(
        "INSERT INTO item(name) VALUES('a')",
        fails("INSERT INTO itm(name) VALUES('b')", why="no such table: itm"),
        "INSERT INTO item(name) VALUES('c')",
    ),
    SEE,
    setup=ITEM,
)
partial.case(
    "a read that fails in a transaction takes the writes back",
    together("INSERT INTO item(name) VALUES('a')", fails("SELECT * FROM itm", why="no such table")),
    SEE,
    setup=ITEM,
)
partial.case(
    "a read that fails among writes",
    ask(
        "INSERT INTO item(name) VALUES('a')",
        fails("SELECT abs(-9223372036854775808)", why="integer overflow"),
        "INSERT INTO item(name) VALUES('b')",
    ),
    setup=ITEM,
)
partial.case(
    "a run-time error in the middle of rows",
    ask(
        fails("INSERT INTO item(n) SELECT abs(n) FROM numbers", why="integer overflow"),
        SEE,
        COUNTERS,
    ),
    setup=(
        ITEM,
        "CREATE TABLE numbers(n)",
        "INSERT INTO numbers VALUES(1),(2),(-9223372036854775808),(4)",
    ),
)
partial.case(
    "DDL that fails after DDL that worked",
    ask(
        "CREATE TABLE fresh(x)",
        fails("CREATE TABLE fresh(y)", why="already exists"),
        "INSERT INTO fresh VALUES(1)",
    ),
)
partial.case(
    "DDL in a transaction is taken back",
    together(
        "CREATE TABLE fresh(x)",
        "INSERT INTO fresh VALUES(1)",
        "CREATE INDEX by_x ON fresh(x)",
        fails("INSERT INTO fresh VALUES(1, 2)", why="has 1 columns but 2 values"),
    ),
    fails("SELECT * FROM fresh", why="no such table: fresh"),
    "CREATE TABLE fresh(x, y)",
)
partial.case(
    "an index that cannot be unique",
    ask(
        fails("CREATE UNIQUE INDEX u ON item(n)", why="UNIQUE"),
        "INSERT INTO item(name, n) VALUES('x', 1)",
        "SELECT count(*) FROM sqlite_schema WHERE name = 'u'",
    ),
    setup=(ITEM, "INSERT INTO item(name, n) VALUES('a',1),('b',1)"),
)
partial.case(
    "everything fails",
    ask(
        fails("INSERT INTO item(name) VALUES('one')", why="UNIQUE"),
        fails("nonsense", why="syntax error"),
        fails("DELETE FROM nowhere", why="no such table"),
    ),
    setup=(ITEM, TWO),
)
partial.case(
    "everything fails in a transaction",
    together(fails("nonsense", why="syntax error"), "INSERT INTO item(name) VALUES('x')"),
    SEE,
    setup=(ITEM, TWO),
)
partial.case(
    "a transaction that only reads", together(SEE, "SELECT count(*) FROM item"), setup=(ITEM, TWO)
)
partial.case(
    "a transaction of one statement",
    together("INSERT INTO item(name) VALUES('x')"),
    together(fails("INSERT INTO item(name) VALUES('x')", why="UNIQUE")),
    setup=(ITEM, TWO),
)
partial.case(
    "a transaction sees its own writes",
    together(
        "INSERT INTO item(name) VALUES('x')",
        "SELECT name FROM item ORDER BY id",
        "DELETE FROM item WHERE name = 'x'",
        "SELECT name FROM item ORDER BY id",
    ),
    setup=(ITEM, TWO),
)
partial.case(
    "a write that runs away is stopped without effect",
    ask(
        "INSERT INTO item(name) VALUES('before')",
        refused(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
            " INSERT INTO item(n) SELECT 1 FROM c",
            why="interrupt|time",
        ),
        db_timeout_s=0.2,
    ),
    SEE,
    setup=(ITEM, TWO),
    slow=True,
)
partial.case(
    "a write that runs away in a transaction",
    together("INSERT INTO item(name) VALUES('x')", "INSERT INTO item(name) VALUES('y')"),
    ask(
        "INSERT INTO item(name) VALUES('before')",
        refused(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
            " UPDATE item SET n = (SELECT count(*) FROM c)",
            why="interrupt|time",
        ),
        transaction=True,
        db_timeout_s=0.2,
    ),
    SEE,
    setup=(ITEM, TWO),
    slow=True,
)
partial.case(
    "RELEASE of a name nobody knows does not end the batch",
    "INSERT INTO item(name) VALUES('x')",
    refused("RELEASE nobody", why="transaction|stream"),
    "INSERT INTO item(name) VALUES('y')",
    setup=(ITEM, TWO),
)

THEMES = (partial,)
