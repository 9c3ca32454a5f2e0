"""Triggers of every kind, recursive ones too."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails

triggers = Theme("triggers")
LOGGED = (
    "CREATE TABLE item(a INTEGER PRIMARY KEY, b)",
    "CREATE TABLE log(n INTEGER PRIMARY KEY, what)",
)
WRITES = ask(
    "INSERT INTO item(b) VALUES('x'),('y')",
    "UPDATE item SET b = b || '!'",
    "DELETE FROM item WHERE a = 1",
    "SELECT last_insert_rowid(), changes(), total_changes()",
    "SELECT * FROM log",
)
for _when in ("BEFORE", "AFTER"):
    for _what, _row in (("INSERT", "new"), ("UPDATE", "old"), ("DELETE", "old")):
        triggers.case(
            f"{_when} {_what}",
            WRITES,
            setup=(
                *LOGGED,
                f"CREATE TRIGGER t {_when} {_what} ON item BEGIN"
                f" INSERT INTO log(what) VALUES('{_what} ' || coalesce({_row}.b, '?')); END",
            ),
        )
triggers.case(
    "UPDATE OF a column",
    ask("UPDATE item SET b = 2", "UPDATE item SET a = a + 10", "SELECT what FROM log"),
    setup=(
        *LOGGED,
        "INSERT INTO item VALUES(1,1)",
        "CREATE TRIGGER t AFTER UPDATE OF b ON item BEGIN INSERT INTO log(what) VALUES('b'); END",
    ),
)
triggers.case(
    "WHEN",
    ask("INSERT INTO item(b) VALUES(1),(2),(3)", "SELECT what FROM log"),
    setup=(
        *LOGGED,
        "CREATE TRIGGER t AFTER INSERT ON item WHEN new.b % 2 BEGIN"
        " INSERT INTO log(what) VALUES(new.b); END",
    ),
)
triggers.case(
    "INSTEAD OF on a view",
    ask(
        "INSERT INTO v(b) VALUES('x'),('y')",
        "SELECT last_insert_rowid(), changes(), total_changes()",
        "UPDATE v SET b = 'z' WHERE a = 1",
        "DELETE FROM v WHERE a = 2",
        "SELECT * FROM item",
        "SELECT what FROM log",
    ),
    setup=(
        *LOGGED,
        "CREATE VIEW v AS SELECT a, b FROM item",
        "CREATE TRIGGER vi INSTEAD OF INSERT ON v BEGIN INSERT INTO item(b) VALUES(new.b); END",
        "CREATE TRIGGER vu INSTEAD OF UPDATE ON v BEGIN UPDATE item SET b = new.b WHERE a ="
        " old.a; END",
        "CREATE TRIGGER vd INSTEAD OF DELETE ON v BEGIN INSERT INTO log(what) VALUES('kept ' ||"
        " old.a); END",
    ),
)
triggers.case(
    "one trigger starts another",
    ask(
        "INSERT INTO item(b) VALUES('x')",
        "SELECT * FROM log",
        "SELECT last_insert_rowid(), changes(), total_changes()",
    ),
    setup=(
        *LOGGED,
        "CREATE TRIGGER one AFTER INSERT ON item BEGIN INSERT INTO log(what) VALUES('one'); END",
        "CREATE TRIGGER two AFTER INSERT ON log WHEN new.what = 'one' BEGIN UPDATE log SET what"
        " = 'two'; END",
    ),
)
triggers.case(
    "a trigger that writes its own table does not recurse by default",
    ask("INSERT INTO item(b) VALUES(3)", "SELECT * FROM item"),
    setup=(
        *LOGGED,
        "CREATE TRIGGER t AFTER INSERT ON item WHEN new.b > 0 BEGIN"
        " INSERT INTO item(b) VALUES(new.b - 1); END",
    ),
)
triggers.case(
    "several triggers for one event",
    ask("INSERT INTO item(b) VALUES('x')", "SELECT count(*) FROM log"),
    setup=(
        *LOGGED,
        *(
            f"CREATE TRIGGER t{i} AFTER INSERT ON item BEGIN INSERT INTO log(what) VALUES({i}); END"
            for i in range(5)
        ),
    ),
)
triggers.case(
    "a trigger with several statements",
    ask("DELETE FROM item", "SELECT * FROM log", "SELECT * FROM item"),
    setup=(
        *LOGGED,
        "INSERT INTO item VALUES(1,'x'),(2,'y')",
        "CREATE TRIGGER t AFTER DELETE ON item BEGIN INSERT INTO log(what) VALUES(old.b);"
        " UPDATE log SET what = what || '.'; DELETE FROM log WHERE n > 3;"
        " INSERT OR IGNORE INTO log(n, what) VALUES(1, 'dup'); END",
    ),
)
triggers.case(
    "made and used in the same request",
    ask(
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO log(what) VALUES('hi; there');"
        " END",
        "INSERT INTO item(b) VALUES('x')",
        "DROP TRIGGER t",
        "INSERT INTO item(b) VALUES('y')",
        "SELECT what FROM log",
    ),
    setup=LOGGED,
)
triggers.case(
    "a failing trigger fails the statement",
    ask(
        fails("INSERT INTO item(b) VALUES('x')", why="no such table: main.gone"),
        "SELECT count(*) FROM item",
    ),
    setup=(*LOGGED, "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO gone VALUES(1); END"),
)
triggers.case(
    "a constraint inside a trigger",
    ask(
        fails("INSERT INTO item(b) VALUES('x'),('y')", why="UNIQUE constraint failed: log.n"),
        "SELECT count(*) FROM item",
    ),
    setup=(
        *LOGGED,
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO log VALUES(1, 'x'); END",
    ),
)
triggers.case(
    "DROP TRIGGER of nothing", fails("DROP TRIGGER nowhere", why="no such trigger: nowhere")
)
triggers.case(
    "a trigger on a missing table",
    fails(
        "CREATE TRIGGER t AFTER INSERT ON nowhere BEGIN SELECT 1; END",
        why="no such table: main.nowhere",
    ),
)
triggers.case(
    "a trigger that is there",
    ask(
        "CREATE TRIGGER IF NOT EXISTS t AFTER DELETE ON item BEGIN SELECT 2; END",
        fails(
            "CREATE TRIGGER t AFTER DELETE ON item BEGIN SELECT 2; END",
            why="trigger t already exists",
        ),
    ),
    setup=(*LOGGED, "CREATE TRIGGER t AFTER INSERT ON item BEGIN SELECT 1; END"),
)
triggers.case(
    "INSTEAD OF on a table",
    fails(
        "CREATE TRIGGER t INSTEAD OF INSERT ON item BEGIN SELECT 1; END",
        why="cannot create INSTEAD OF trigger on table",
    ),
    setup=LOGGED,
)
triggers.case(
    "a trigger fires for REPLACE only with recursive_triggers",
    ask(
        "REPLACE INTO item VALUES(1, 'new')",
        "SELECT count(*) FROM log",
        either("PRAGMA recursive_triggers = ON"),
        "REPLACE INTO item VALUES(1, 'newer')",
        "SELECT count(*) FROM log",
    ),
    ask("REPLACE INTO item VALUES(1, 'last')", "SELECT count(*) FROM log"),
    setup=(
        *LOGGED,
        "INSERT INTO item VALUES(1,'old')",
        "CREATE TRIGGER t AFTER DELETE ON item BEGIN INSERT INTO log(what) VALUES('gone'); END",
    ),
)
triggers.case(
    "recursive_triggers, at the start of a request",
    ask("PRAGMA recursive_triggers = ON", "INSERT INTO item(b) VALUES(5)", "SELECT b FROM item"),
    ask("INSERT INTO item(b) VALUES(50)", "SELECT count(*) FROM item"),
    setup=(
        *LOGGED,
        "CREATE TRIGGER t AFTER INSERT ON item WHEN new.b > 0 BEGIN"
        " INSERT INTO item(b) VALUES(new.b - 1); END",
    ),
)
triggers.case(
    "too deep a recursion",
    ask(
        "PRAGMA recursive_triggers = ON",
        fails("INSERT INTO item(b) VALUES(5)", why="triggers nested too deep"),
        "SELECT count(*) FROM item",
    ),
    setup=(
        *LOGGED,
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO item(b) VALUES(new.b); END",
    ),
)
triggers.case(
    "a trigger with UPDATE FROM and UPSERT",
    ask("INSERT INTO item(b) VALUES('k'),('k'),('j')", "SELECT * FROM tally ORDER BY k"),
    setup=(
        *LOGGED,
        "CREATE TABLE tally(k PRIMARY KEY, n)",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO tally VALUES(new.b, 1)"
        " ON CONFLICT(k) DO UPDATE SET n = n + 1; END",
    ),
)

THEMES = (triggers,)
