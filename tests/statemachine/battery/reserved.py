"""The engine's own tables and names are out of every client's reach."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, refused, together

reserved = Theme("reserved names")
V = "CREATE TABLE val(id INTEGER PRIMARY KEY, v)"
ONE = "INSERT INTO val(v) VALUES('a')"
SEE = "SELECT id, v FROM val ORDER BY id"
ANY = "."
OWN = "_rsqlite|no such column|no such table|reserved|not authorized|prohibited"
for _name, _text in (
    ("CREATE TABLE", "CREATE TABLE _rsqlite_mine(a)"),
    ("CREATE TABLE in quotes", 'CREATE TABLE "_rsqlite_mine"(a)'),
    ("CREATE TABLE in capitals", "CREATE TABLE _RSQLITE_Mine(a)"),
    ("CREATE TABLE IF NOT EXISTS", "CREATE TABLE IF NOT EXISTS main._rsqlite_mine(a)"),
    ("CREATE TABLE AS", "CREATE TABLE _rsqlite_mine AS SELECT 1"),
    ("CREATE INDEX", "CREATE INDEX _rsqlite_i ON val(v)"),
    ("CREATE VIEW", "CREATE VIEW _rsqlite_v AS SELECT 1"),
    ("CREATE TRIGGER", "CREATE TRIGGER _rsqlite_t AFTER INSERT ON val BEGIN SELECT 1; END"),
    ("CREATE VIRTUAL TABLE", "CREATE VIRTUAL TABLE _rsqlite_f USING fts5(a)"),
    ("RENAME TO", "ALTER TABLE val RENAME TO _rsqlite_val"),
    ("RENAME TO in quotes", 'ALTER TABLE val RENAME TO "_rsqlite_val"'),
    ("RENAME TO in capitals", "ALTER TABLE val RENAME TO [_RSqlite_VAL]"),
):
    reserved.case(
        f"{_name} of a reserved name",
        ask(refused(_text, why="_rsqlite|reserved|authorized"), ONE, SEE),
        setup=V,
    )
for _table in ("_rsqlite_applied", "_rsqlite_state", "_rsqlite_meta"):
    for _verb, _text in (
        ("SELECT", f"SELECT * FROM {_table}"),
        ("UPDATE", f"UPDATE {_table} SET rowid = 1"),
        ("DELETE", f"DELETE FROM main.{_table}"),
        ("INSERT", f"INSERT INTO {_table} DEFAULT VALUES"),
        ("DROP", f"DROP TABLE {_table}"),
    ):
        reserved.case(f"{_verb} of {_table}", ask(ONE, refused(_text, why=OWN), ONE, SEE), setup=V)
reserved.case(
    "REFERENCES to a reserved name",
    ask(either("CREATE TABLE child(x REFERENCES _rsqlite_applied(x))"), ONE, SEE),
    setup=V,
)
reserved.case(
    "a view over a reserved table",
    ask(
        either("CREATE VIEW peek AS SELECT * FROM _rsqlite_applied"),
        refused("SELECT * FROM peek", why=ANY),
        refused("INSERT INTO val(v) SELECT 1 FROM peek", why=ANY),
    ),
    setup=V,
)
reserved.case(
    "a trigger on a reserved table",
    ask(
        refused(
            "CREATE TRIGGER spy AFTER UPDATE ON _rsqlite_applied BEGIN INSERT INTO val(v)"
            " VALUES('spied'); END",
            why=OWN,
        ),
        ONE,
    ),
    SEE,
    setup=V,
)
reserved.case(
    "a trigger that writes a reserved table",
    ask(
        either(
            "CREATE TRIGGER spy AFTER INSERT ON val BEGIN UPDATE _rsqlite_applied SET x = 1; END"
        ),
        either(ONE),
        "SELECT count(*) < 2 FROM val",
    ),
    setup=V,
)
reserved.case(
    "an index on a reserved table",
    ask(refused("CREATE INDEX spy ON _rsqlite_applied(x)", why=OWN), ONE),
    setup=V,
)
reserved.case(
    "ALTER of a reserved table",
    ask(
        refused("ALTER TABLE _rsqlite_applied ADD COLUMN x", why=OWN),
        refused("ALTER TABLE _rsqlite_applied RENAME TO mine", why=OWN),
    ),
    setup=V,
)
reserved.case(
    "the schema does not list them",
    ask(
        "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_rsqlite\\_%' ESCAPE '\\' AND 0", ONE
    ),
    setup=V,
)
reserved.case(
    "names that only look alike are free",
    ask(
        "CREATE TABLE rsqlite_val(a)",
        "CREATE TABLE x_rsqlite_(a)",
        "CREATE TABLE _rsqlit(a)",
        "INSERT INTO rsqlite_val VALUES('_rsqlite_applied')",
        "SELECT a AS _rsqlite_alias FROM rsqlite_val",
    ),
)
reserved.case(
    "a rename in a transaction takes all back",
    together(
        ONE, refused("ALTER TABLE val RENAME TO _rsqlite_val", why="_rsqlite|reserved|authorized")
    ),
    SEE,
    setup=V,
)
reserved.case(
    "a rename between strangers",
    ONE,
    refused("ALTER TABLE val RENAME TO _rsqlite_val", why="_rsqlite|reserved|authorized"),
    ONE,
    SEE,
    setup=V,
)
reserved.case(
    "an old name of ours as a column",
    ask(
        either("ALTER TABLE val RENAME COLUMN v TO _rsqlite_v"),
        either("INSERT INTO val(_rsqlite_v) VALUES(1)"),
        either("SELECT _rsqlite_v FROM val"),
    ),
    setup=V,
)

THEMES = (reserved,)
