"""Foreign keys: off by default as in SQLite, immediate, deferred, actions, and the pragmas."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails, together

keys = Theme("foreign keys")

ON = "PRAGMA foreign_keys = ON"
PARENT = "CREATE TABLE parent(id INTEGER PRIMARY KEY, name)"
CHILD = "CREATE TABLE child(id INTEGER PRIMARY KEY, pid REFERENCES parent(id))"
LATE = (
    "CREATE TABLE child(id INTEGER PRIMARY KEY,"
    " pid REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)"
)
ROWS = "INSERT INTO parent VALUES(1,'a'),(2,'b'),(3,'c')"
KIDS = "INSERT INTO child VALUES(10,1),(20,2),(30,NULL)"
SEE = "SELECT id, pid FROM child ORDER BY id"
WHY = "FOREIGN KEY constraint failed"

keys.case("off by default", "INSERT INTO child VALUES(1, 99)", setup=(PARENT, CHILD))
keys.case("the default answers 0", ask("PRAGMA foreign_keys"))
keys.case(
    "on for one request",
    ask(ON, fails("INSERT INTO child VALUES(1, 99)", why=WHY), SEE),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "on does not leak to the next request",
    ask(ON, "INSERT INTO child VALUES(1, 1)"),
    "INSERT INTO child VALUES(2, 99)",
    ask("PRAGMA foreign_keys"),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "on, then asked",
    ask(ON, "PRAGMA foreign_keys", "INSERT INTO parent VALUES(9,'z')"),
    setup=(PARENT,),
)
keys.case(
    "in a transaction the pragma does nothing",
    together(ON, "INSERT INTO child VALUES(1, 99)", "PRAGMA foreign_keys"),
    SEE,
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "on, then off in one request",
    ask(
        ON,
        fails("INSERT INTO child VALUES(1, 99)", why=WHY),
        either("PRAGMA foreign_keys = OFF"),
        "INSERT INTO child VALUES(1, 99)",
        SEE,
    ),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "on in the middle of a request",
    ask(
        "INSERT INTO child VALUES(1, 99)",
        either(ON),
        fails("INSERT INTO child VALUES(2, 99)", why=WHY),
        SEE,
    ),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "the call form of the pragma",
    ask("PRAGMA foreign_keys(1)", fails("INSERT INTO child VALUES(1, 99)", why=WHY)),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "strangers with and without",
    ask(ON, fails("INSERT INTO child VALUES(1, 99)", why=WHY)),
    "INSERT INTO child VALUES(1, 99)",
    ask(ON, fails("DELETE FROM parent WHERE id = 2", why=WHY)),
    "DELETE FROM parent WHERE id = 2",
    SEE,
    setup=(PARENT, CHILD, ROWS, KIDS),
)
keys.case(
    "deleting a parent that is used",
    ask(ON, fails("DELETE FROM parent WHERE id = 1", why=WHY), SEE),
    setup=(PARENT, CHILD, ROWS, KIDS),
)
keys.case(
    "deleting a parent that is not used",
    ask(ON, "DELETE FROM parent WHERE id = 3", SEE),
    setup=(PARENT, CHILD, ROWS, KIDS),
)
keys.case(
    "changing a key that is used",
    ask(ON, fails("UPDATE parent SET id = 11 WHERE id = 1", why=WHY)),
    setup=(PARENT, CHILD, ROWS, KIDS),
)
for _action in ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"):
    _fails = _action in ("RESTRICT", "NO ACTION")
    for _what, _text in (
        ("DELETE", "DELETE FROM parent WHERE id = 1"),
        ("UPDATE", "UPDATE parent SET id = 100 WHERE id = 1"),
    ):
        keys.case(
            f"ON {_what} {_action}",
            ask(
                ON,
                fails(_text, why=WHY) if _fails else _text,
                SEE,
                "SELECT last_insert_rowid(), changes(), total_changes()",
            ),
            setup=(
                PARENT,
                "CREATE TABLE child(id INTEGER PRIMARY KEY, pid DEFAULT 3"
                f" REFERENCES parent(id) ON {_what} {_action})",
                ROWS,
                KIDS,
            ),
        )
keys.case(
    "a cascade over three tables",
    ask(ON, "DELETE FROM parent WHERE id = 1", SEE, "SELECT * FROM toy"),
    setup=(
        PARENT,
        "CREATE TABLE child(id INTEGER PRIMARY KEY, pid REFERENCES parent ON DELETE CASCADE)",
        "CREATE TABLE toy(id INTEGER PRIMARY KEY, cid REFERENCES child ON DELETE CASCADE)",
        ROWS,
        KIDS,
        "INSERT INTO toy VALUES(1,10),(2,10),(3,20)",
    ),
)
keys.case(
    "a cascade fires triggers",
    ask(ON, "DELETE FROM parent WHERE id = 2", "SELECT * FROM log"),
    setup=(
        PARENT,
        "CREATE TABLE child(id INTEGER PRIMARY KEY, pid REFERENCES parent ON DELETE CASCADE)",
        "CREATE TABLE log(what)",
        ROWS,
        KIDS,
        "CREATE TRIGGER t AFTER DELETE ON child BEGIN INSERT INTO log VALUES(old.id); END",
    ),
)
keys.case(
    "a row that refers to itself",
    ask(
        ON,
        "INSERT INTO tree VALUES(1, 1)",
        "INSERT INTO tree VALUES(2, 1)",
        fails("DELETE FROM tree WHERE id = 1", why=WHY),
        "DELETE FROM tree",
    ),
    setup="CREATE TABLE tree(id INTEGER PRIMARY KEY, up REFERENCES tree(id))",
)
keys.case(
    "a key of two columns",
    ask(
        ON,
        "INSERT INTO leaf VALUES(1, 2)",
        fails("INSERT INTO leaf VALUES(2, 1)", why=WHY),
        "INSERT INTO leaf VALUES(NULL, 9)",
    ),
    setup=(
        "CREATE TABLE stem(a, b, PRIMARY KEY(a, b))",
        "INSERT INTO stem VALUES(1, 2)",
        "CREATE TABLE leaf(x, y, FOREIGN KEY(x, y) REFERENCES stem(a, b))",
    ),
)
keys.case(
    "a mismatch of definitions",
    ask(ON, fails("INSERT INTO leaf VALUES(1)", why="foreign key mismatch")),
    setup=("CREATE TABLE stem(a)", "CREATE TABLE leaf(x REFERENCES stem(a))"),
)
keys.case(
    "a parent table that is not there",
    ask(ON, fails("INSERT INTO leaf VALUES(1)", why="no such table: main.stem")),
    setup="CREATE TABLE leaf(x REFERENCES stem(a))",
)
keys.case(
    "deferred, one statement alone",
    ask(ON, fails("INSERT INTO child VALUES(1, 99)", why=WHY), SEE),
    setup=(PARENT, LATE, ROWS),
)
keys.case(
    "deferred, each statement alone is checked at its own end",
    ask(
        ON,
        fails("INSERT INTO child VALUES(1, 99)", why=WHY),
        "INSERT INTO parent VALUES(99,'late')",
        "INSERT INTO child VALUES(1, 99)",
        SEE,
    ),
    setup=(PARENT, LATE, ROWS),
)
keys.case(
    "deferred and resolved in the same statement",
    ask(ON, "INSERT INTO tree VALUES(1, 2),(2, 1)", "SELECT * FROM tree"),
    setup="CREATE TABLE tree(id INTEGER PRIMARY KEY, up REFERENCES tree(id) DEFERRABLE"
    " INITIALLY DEFERRED)",
)
keys.case(
    "deferred violation, next to other clients",
    "INSERT INTO parent VALUES(7,'x')",
    ask(ON, fails("INSERT INTO child VALUES(1, 99)", why=WHY)),
    ask(ON, "INSERT INTO child VALUES(2, 7)"),
    ask(ON, fails("DELETE FROM parent WHERE id = 7", why=WHY)),
    SEE,
    setup=(PARENT, LATE, ROWS),
)
keys.case(
    "deferred violation with transaction, fk off",
    together("INSERT INTO child VALUES(1, 99)", "INSERT INTO child VALUES(2, 98)"),
    SEE,
    setup=(PARENT, LATE, ROWS),
)
keys.case(
    "defer_foreign_keys in a request of single statements",
    ask(
        ON, "PRAGMA defer_foreign_keys = ON", fails("INSERT INTO child VALUES(1, 99)", why=WHY), SEE
    ),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "defer_foreign_keys does not leak",
    ask("PRAGMA defer_foreign_keys = ON"),
    ask("PRAGMA defer_foreign_keys"),
    ask(ON, fails("INSERT INTO child VALUES(1, 99)", why=WHY)),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "OR IGNORE does not hide a foreign key",
    ask(ON, fails("INSERT OR IGNORE INTO child VALUES(1, 99)", why=WHY)),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "OR REPLACE of a parent acts as a delete",
    ask(ON, "REPLACE INTO parent VALUES(1,'new')", SEE),
    setup=(
        PARENT,
        "CREATE TABLE child(id INTEGER PRIMARY KEY, pid REFERENCES parent ON DELETE CASCADE)",
        ROWS,
        KIDS,
    ),
)
keys.case(
    "DROP TABLE of a parent in use",
    ask(ON, fails("DROP TABLE parent", why=WHY), "SELECT count(*) FROM parent"),
    setup=(PARENT, CHILD, ROWS, KIDS),
)
keys.case(
    "DROP TABLE of a child, then the parent",
    ask(ON, "DROP TABLE child", "DROP TABLE parent"),
    setup=(PARENT, CHILD, ROWS, KIDS),
)
keys.case(
    "foreign_key_check reports what is broken",
    ask(
        "PRAGMA foreign_key_check(child)",
        "SELECT * FROM pragma_foreign_key_check WHERE parent = 'parent'",
    ),
    setup=(PARENT, CHILD, ROWS, "INSERT INTO child VALUES(1, 99)"),
    alone=True,
)
keys.case(
    "foreign_key_list",
    ask("PRAGMA foreign_key_list(child)"),
    setup=(PARENT, CHILD),
)
keys.case(
    "the multi-row insert that breaks in its last row",
    ask(
        ON,
        fails("INSERT INTO child(pid) VALUES(1),(2),(99)", why=WHY),
        SEE,
        "INSERT INTO child(pid) VALUES(3)",
        "SELECT last_insert_rowid(), changes(), total_changes()",
    ),
    setup=(PARENT, CHILD, ROWS),
)
keys.case(
    "RETURNING of a row that breaks a key",
    ask(ON, fails("INSERT INTO child VALUES(1, 99) RETURNING id", why=WHY), SEE),
    setup=(PARENT, CHILD, ROWS),
)

keys.case(
    "fk: deferred, resolved before COMMIT",
    together("INSERT INTO child VALUES(1, 99)", "INSERT INTO parent VALUES(99,'late')"),
    SEE,
    setup=(PARENT, LATE, ROWS),
    fk=True,
)
keys.case(
    "fk: deferred, COMMIT fails",
    together(
        "INSERT INTO child VALUES(1, 99)", "INSERT INTO parent VALUES(98,'x')", commit_fails=WHY
    ),
    ask(SEE, "SELECT count(*) FROM parent"),
    setup=(PARENT, LATE, ROWS),
    fk=True,
)
keys.case(
    "fk: COMMIT fails between strangers that work",
    "INSERT INTO parent VALUES(7,'x')",
    together("INSERT INTO child VALUES(1, 99)", commit_fails=WHY),
    "INSERT INTO child VALUES(2, 7)",
    together("INSERT INTO child VALUES(3, 98)", "DELETE FROM child WHERE id = 3"),
    SEE,
    setup=(PARENT, LATE, ROWS),
    fk=True,
)
keys.case(
    "fk: defer_foreign_keys inside a transaction",
    together(
        "PRAGMA defer_foreign_keys = ON",
        "INSERT INTO child VALUES(1, 99)",
        "INSERT INTO parent VALUES(99,'z')",
    ),
    together("PRAGMA defer_foreign_keys = ON", "INSERT INTO child VALUES(2, 97)", commit_fails=WHY),
    together(fails("INSERT INTO child VALUES(3, 96)", why=WHY)),
    SEE,
    setup=(PARENT, CHILD, ROWS),
    fk=True,
)
keys.case(
    "fk: one request turns it off",
    ask("PRAGMA foreign_keys = OFF", "INSERT INTO child VALUES(1, 99)"),
    fails("INSERT INTO child VALUES(2, 99)", why=WHY),
    ask("PRAGMA foreign_keys"),
    setup=(PARENT, CHILD, ROWS),
    fk=True,
)
keys.case(
    "fk: the rename dance with foreign keys off",
    ask(
        "PRAGMA foreign_keys = OFF",
        "CREATE TABLE fresh(id INTEGER PRIMARY KEY, name, more)",
        "INSERT INTO fresh(id, name) SELECT id, name FROM parent",
        "DROP TABLE parent",
        "ALTER TABLE fresh RENAME TO parent",
        "PRAGMA foreign_key_check",
    ),
    fails("INSERT INTO child VALUES(3, 96)", why=WHY),
    SEE,
    setup=(PARENT, CHILD, ROWS, KIDS),
    fk=True,
)
keys.case(
    "fk: a failing statement in a transaction with deferred keys open",
    together(
        "INSERT INTO child VALUES(1, 99)", fails("INSERT INTO parent VALUES(1,'dup')", why="UNIQUE")
    ),
    together("INSERT INTO child VALUES(2, 3)"),
    SEE,
    setup=(PARENT, LATE, ROWS),
    fk=True,
)
keys.case(
    "fk: OR FAIL with a deferred key open",
    ask(
        fails("INSERT OR FAIL INTO child VALUES(50,1),(51,99),(50,2)", why="constraint failed"), SEE
    ),
    setup=(PARENT, LATE, ROWS),
    fk=True,
)
keys.case(
    "fk: a trigger resolves the key",
    ask("INSERT INTO child VALUES(1, 99)", SEE, "SELECT id FROM parent"),
    setup=(
        PARENT,
        CHILD,
        ROWS,
        "CREATE TRIGGER t BEFORE INSERT ON child BEGIN"
        " INSERT OR IGNORE INTO parent(id) VALUES(new.pid); END",
    ),
    fk=True,
)

THEMES = (keys,)
