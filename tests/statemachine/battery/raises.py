"""RAISE of each kind in triggers."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together

raises = Theme("raise")
ITEM = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER CHECK(n < 100))"
TWO = "INSERT INTO item VALUES(1,'one',1),(2,'two',2)"
SEE = "SELECT id, name, n FROM item ORDER BY id"
COUNTERS = "SELECT last_insert_rowid(), changes(), total_changes()"
for _kind in ("ABORT", "FAIL", "ROLLBACK"):
    for _when in ("BEFORE", "AFTER"):
        raises.case(
            f"RAISE({_kind}) {_when} the third row",
            ask(
                "INSERT INTO item(name, n) VALUES('first', 0)",
                fails(
                    "INSERT INTO item(name, n) VALUES('a',1),('b',2),('no',3),('d',4)", why="stop"
                ),
                COUNTERS,
                "INSERT INTO item(name, n) VALUES('last', 0)",
                SEE,
                "SELECT * FROM seen",
            ),
            setup=(
                ITEM,
                "CREATE TABLE seen(what)",
                f"CREATE TRIGGER t {_when} INSERT ON item BEGIN"
                f" INSERT INTO seen VALUES(new.name);"
                f" SELECT RAISE({_kind}, 'stop here') WHERE new.name = 'no'; END",
            ),
        )
    raises.case(
        f"RAISE({_kind}) in a transaction",
        together(
            "INSERT INTO item(name, n) VALUES('first', 0)",
            fails("INSERT INTO item(name, n) VALUES('a',1),('no',3),('d',4)", why="stop"),
        ),
        ask(SEE, COUNTERS),
        setup=(
            ITEM,
            f"CREATE TRIGGER t AFTER INSERT ON item WHEN new.name = 'no' BEGIN"
            f" SELECT RAISE({_kind}, 'stop here'); END",
        ),
    )
    raises.case(
        f"RAISE({_kind}) on DELETE",
        ask(fails("DELETE FROM item", why="kept"), SEE),
        setup=(
            ITEM,
            TWO,
            f"CREATE TRIGGER t BEFORE DELETE ON item WHEN old.id = 2 BEGIN"
            f" SELECT RAISE({_kind}, 'kept'); END",
        ),
    )
raises.case(
    "RAISE(IGNORE) leaves a row out",
    ask("INSERT INTO item(name, n) VALUES('a',1),('no',2),('c',3)", COUNTERS, SEE),
    setup=(
        ITEM,
        "CREATE TRIGGER t BEFORE INSERT ON item WHEN new.name = 'no' BEGIN"
        " SELECT RAISE(IGNORE); END",
    ),
)
raises.case(
    "RAISE with a computed message",
    fails("INSERT INTO item(name) VALUES('x')", why="no room for x"),
    setup=(
        ITEM,
        "CREATE TRIGGER t BEFORE INSERT ON item BEGIN"
        " SELECT RAISE(ABORT, 'no room for ' || new.name); END",
    ),
)
raises.case(
    "RAISE two triggers deep",
    ask(
        fails("INSERT INTO a VALUES(1)", why="deep"),
        "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)",
    ),
    setup=(
        "CREATE TABLE a(x)",
        "CREATE TABLE b(x)",
        "CREATE TRIGGER ta AFTER INSERT ON a BEGIN INSERT INTO b VALUES(new.x); END",
        "CREATE TRIGGER tb AFTER INSERT ON b BEGIN SELECT RAISE(ROLLBACK, 'deep'); END",
    ),
)
raises.case(
    "RAISE outside a trigger",
    fails("SELECT RAISE(ABORT, 'x')", why="RAISE() may only be used within a trigger-program"),
)
raises.case(
    "RAISE(ROLLBACK) after a statement of another request",
    "INSERT INTO item(name) VALUES('mine')",
    fails("INSERT INTO item(name) VALUES('no')", why="stop"),
    "INSERT INTO item(name) VALUES('also mine')",
    SEE,
    setup=(
        ITEM,
        "CREATE TRIGGER t AFTER INSERT ON item WHEN new.name = 'no' BEGIN"
        " SELECT RAISE(ROLLBACK, 'stop here'); END",
    ),
)

THEMES = (raises,)
