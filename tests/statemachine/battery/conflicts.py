"""What the OR clauses leave behind, in rows, counters and transactions."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together

clauses = Theme("conflict clauses")
ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER CHECK(n < 100))"
TWO = "INSERT INTO item VALUES(1,'one',1),(2,'two',2)"
SEE = "SELECT id, name, n FROM item ORDER BY id"
COUNTERS = "SELECT last_insert_rowid(), changes(), total_changes()"
MIDDLE = "INTO item(name, n) VALUES('a',10),('b',11),('one',12),('c',13)"
CHECK = "INTO item(name, n) VALUES('a',10),('b',111),('c',13)"
NULLS = "INTO need(v) VALUES(1),(NULL),(3)"
for _clause in ("ABORT", "FAIL", "ROLLBACK"):
    clauses.case(
        f"OR {_clause} in the middle of rows",
        ask(fails(f"INSERT OR {_clause} {MIDDLE}", why="UNIQUE"), COUNTERS, SEE),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"OR {_clause} on a CHECK",
        ask(fails(f"INSERT OR {_clause} {CHECK}", why="CHECK"), COUNTERS, SEE),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"OR {_clause} between other statements",
        ask(
            "INSERT INTO item(name) VALUES('before')",
            fails(f"INSERT OR {_clause} {MIDDLE}", why="UNIQUE"),
            "INSERT INTO item(name) VALUES('after')",
            COUNTERS,
            SEE,
        ),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"OR {_clause} in a transaction",
        together(
            "INSERT INTO item(name) VALUES('before')",
            fails(f"INSERT OR {_clause} {MIDDLE}", why="UNIQUE"),
            "INSERT INTO item(name) VALUES('after')",
        ),
        ask(COUNTERS, SEE),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"UPDATE OR {_clause} that meets a key",
        ask(fails(f"UPDATE OR {_clause} item SET name = 'x'", why="UNIQUE"), COUNTERS, SEE),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"ON CONFLICT {_clause} of a column",
        ask(
            "INSERT INTO need(v) VALUES(0)",
            fails(f"INSERT {NULLS}", why="NOT NULL"),
            "SELECT id, v FROM need",
        ),
        setup=f"CREATE TABLE need(id INTEGER PRIMARY KEY, v NOT NULL ON CONFLICT {_clause})",
    )
for _clause in ("IGNORE", "REPLACE"):
    clauses.case(
        f"OR {_clause} in the middle of rows",
        ask(f"INSERT OR {_clause} {MIDDLE}", COUNTERS, SEE),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"OR {_clause} in a transaction",
        together(f"INSERT OR {_clause} {MIDDLE}", "DELETE FROM item WHERE name = 'a'", COUNTERS),
        setup=(ITEM, TWO),
    )
    clauses.case(
        f"ON CONFLICT {_clause} of a column",
        ask(f"INSERT {NULLS}", COUNTERS, "SELECT id, v FROM need"),
        setup=f"CREATE TABLE need(id INTEGER PRIMARY KEY, v NOT NULL ON CONFLICT {_clause}"
        " DEFAULT 5)",
    )
clauses.case("OR IGNORE on a CHECK", ask(f"INSERT OR IGNORE {CHECK}", SEE), setup=(ITEM, TWO))
clauses.case(
    "OR REPLACE on a CHECK aborts",
    ask(fails(f"INSERT OR REPLACE {CHECK}", why="CHECK"), SEE),
    setup=(ITEM, TWO),
)
clauses.case(
    "OR IGNORE of every row changes nothing",
    ask("INSERT OR IGNORE INTO item(name) VALUES('one'),('two')", COUNTERS),
    setup=(ITEM, TWO),
)
clauses.case(
    "OR IGNORE with a trigger that writes elsewhere",
    ask("INSERT OR IGNORE INTO item(name) VALUES('one')", COUNTERS, "SELECT * FROM seen"),
    setup=(
        ITEM,
        TWO,
        "CREATE TABLE seen(what)",
        "CREATE TRIGGER t BEFORE INSERT ON item BEGIN INSERT INTO seen VALUES(new.name); END",
    ),
)
clauses.case(
    "OR FAIL keeps rows that a trigger wrote",
    ask(fails(f"INSERT OR FAIL {MIDDLE}", why="UNIQUE"), SEE, "SELECT * FROM seen"),
    setup=(
        ITEM,
        TWO,
        "CREATE TABLE seen(what)",
        "CREATE TRIGGER t BEFORE INSERT ON item BEGIN INSERT INTO seen VALUES(new.name); END",
    ),
)
clauses.case(
    "a clause of the outer statement wins in a trigger",
    ask("INSERT OR REPLACE INTO source VALUES('one')", SEE),
    setup=(
        ITEM,
        TWO,
        "CREATE TABLE source(x)",
        "CREATE TRIGGER t AFTER INSERT ON source BEGIN"
        " INSERT OR ABORT INTO item(name, n) VALUES(new.x, 9); END",
    ),
)
clauses.case(
    "OR ROLLBACK of two clients in a row",
    fails("INSERT OR ROLLBACK INTO item(name) VALUES('one')", why="UNIQUE"),
    fails("INSERT OR ROLLBACK INTO item(name) VALUES('two')", why="UNIQUE"),
    "INSERT INTO item(name) VALUES('three')",
    setup=(ITEM, TWO),
)
clauses.case(
    "OR ROLLBACK from a table's own clause",
    ask(
        "INSERT INTO strict_one VALUES(5)",
        fails("INSERT INTO strict_one VALUES(5)", why="UNIQUE"),
        "INSERT INTO strict_one VALUES(6)",
        "SELECT * FROM strict_one",
    ),
    setup="CREATE TABLE strict_one(v UNIQUE ON CONFLICT ROLLBACK)",
)
clauses.case(
    "OR ROLLBACK with transaction, then the same client again",
    together(
        "INSERT INTO item(name) VALUES('x')",
        fails("INSERT OR ROLLBACK INTO item(name) VALUES('one')", why="UNIQUE"),
    ),
    together("INSERT INTO item(name) VALUES('y')", "INSERT INTO item(name) VALUES('z')"),
    SEE,
    setup=(ITEM, TWO),
)

for _clause in ("ABORT", "FAIL", "ROLLBACK", "IGNORE", "REPLACE"):
    clauses.case(
        f"OR {_clause} and errors that are no constraint",
        "INSERT INTO item(name) VALUES('before')",
        ask(
            fails(
                f"INSERT OR {_clause} INTO item(id, name) VALUES(50,'m'),('x','n')", why="mismatch"
            ),
            COUNTERS,
        ),
        ask(
            fails(f"INSERT OR {_clause} INTO item(n) SELECT abs(v) FROM src", why="overflow"),
            COUNTERS,
        ),
        ask(fails(f"UPDATE OR {_clause} src SET v = abs(v) + 10", why="overflow"), COUNTERS),
        "SELECT v FROM src",
        "INSERT INTO item(name) VALUES('after')",
        SEE,
        setup=(
            ITEM,
            TWO,
            "CREATE TABLE src(v)",
            "INSERT INTO src VALUES(1),(2),(-9223372036854775808)",
        ),
    )
    clauses.case(
        f"OR {_clause} where a trigger fails in the middle",
        ask(
            "INSERT INTO item(name) VALUES('before')",
            fails(f"INSERT OR {_clause} INTO item(name, n) VALUES('p',1),('q',2)", why="overflow"),
            COUNTERS,
            "INSERT INTO item(name) VALUES('after')",
            SEE,
        ),
        setup=(
            ITEM,
            TWO,
            "CREATE TABLE src(v)",
            "CREATE TRIGGER t AFTER INSERT ON item BEGIN"
            " INSERT INTO src VALUES(abs(-9223372036854775807 - (new.n - 1))); END",
        ),
    )
    clauses.case(
        f"OR {_clause} in two statements of a trigger",
        ask(
            f"INSERT OR {_clause} INTO src VALUES('one')"
            if _clause in ("IGNORE", "REPLACE")
            else fails(f"INSERT OR {_clause} INTO src VALUES('one')", why="UNIQUE"),
            COUNTERS,
            "SELECT * FROM src",
            SEE,
        ),
        setup=(
            ITEM,
            TWO,
            "CREATE TABLE src(v)",
            "CREATE TRIGGER t AFTER INSERT ON src BEGIN"
            " INSERT INTO item(name) VALUES('new ' || new.v);"
            " INSERT INTO item(name) VALUES(new.v); END",
        ),
    )

THEMES = (clauses,)
