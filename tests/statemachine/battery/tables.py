"""CREATE, ALTER and DROP of tables and their columns."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together

tables = Theme("tables")
tables.case("CREATE TABLE", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)")
tables.case(
    "CREATE TABLE IF NOT EXISTS, twice",
    ask("CREATE TABLE IF NOT EXISTS item(a)", "CREATE TABLE IF NOT EXISTS item(b)"),
    "INSERT INTO item(a) VALUES(1)",
)
tables.case(
    "CREATE TABLE that is there",
    fails("CREATE TABLE item(a)", why="table item already exists"),
    setup="CREATE TABLE item(a)",
)
tables.case(
    "CREATE TABLE AS SELECT",
    "CREATE TABLE copy AS SELECT id, upper(name) AS big, 1.5 AS r, x'00' AS b FROM item",
    "SELECT * FROM copy",
    setup=("CREATE TABLE item(id, name)", "INSERT INTO item VALUES(1,'a'),(2,'b')"),
)
tables.case(
    "DROP TABLE", "DROP TABLE item", setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)")
)
tables.case("DROP TABLE IF EXISTS of nothing", "DROP TABLE IF EXISTS nowhere")
tables.case("DROP TABLE of nothing", fails("DROP TABLE nowhere", why="no such table: nowhere"))
tables.case(
    "DROP TABLE takes its indexes and triggers along",
    ask("DROP TABLE item", "SELECT count(*) FROM sqlite_schema WHERE tbl_name = 'item'"),
    setup=(
        "CREATE TABLE item(a UNIQUE)",
        "CREATE INDEX by_a ON item(a)",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN SELECT 1; END",
    ),
)
tables.case(
    "drop and make again in one request",
    ask(
        "DROP TABLE item",
        "CREATE TABLE item(b)",
        "INSERT INTO item VALUES(5)",
        "SELECT b FROM item",
    ),
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)"),
)
tables.case(
    "drop and make again by several clients",
    "DROP TABLE item",
    fails("INSERT INTO item VALUES(2)", why="no such table"),
    "CREATE TABLE item(a, b)",
    "INSERT INTO item VALUES(2, 3)",
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)"),
)
tables.case(
    "ALTER TABLE RENAME TO",
    ask("ALTER TABLE item RENAME TO thing", "INSERT INTO thing VALUES(2)"),
    setup=(
        "CREATE TABLE item(a)",
        "CREATE INDEX by_a ON item(a)",
        "CREATE VIEW v AS SELECT a FROM item",
    ),
)
tables.case(
    "ALTER TABLE RENAME COLUMN",
    ask("ALTER TABLE item RENAME COLUMN a TO z", "SELECT z FROM item", "SELECT * FROM v"),
    setup=(
        "CREATE TABLE item(a, b)",
        "INSERT INTO item VALUES(1,2)",
        "CREATE INDEX by_a ON item(a)",
        "CREATE VIEW v AS SELECT a FROM item",
    ),
)
tables.case(
    "ALTER TABLE ADD COLUMN with a default",
    ask(
        "ALTER TABLE item ADD COLUMN b TEXT NOT NULL DEFAULT 'd'",
        "INSERT INTO item(a) VALUES(2)",
        "SELECT * FROM item",
    ),
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)"),
)
tables.case(
    "ALTER TABLE ADD COLUMN NOT NULL without one",
    fails("ALTER TABLE item ADD COLUMN b NOT NULL", why="Cannot add a NOT NULL column"),
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)"),
)
tables.case(
    "ALTER TABLE ADD COLUMN with a moving default",
    fails("ALTER TABLE item ADD COLUMN at DEFAULT CURRENT_TIMESTAMP", why="non-constant default"),
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES(1)"),
)
tables.case(
    "ALTER TABLE DROP COLUMN",
    ask("ALTER TABLE item DROP COLUMN b", "SELECT * FROM item"),
    setup=("CREATE TABLE item(a, b, c)", "INSERT INTO item VALUES(1,2,3)"),
)
tables.case(
    "ALTER TABLE DROP COLUMN of a key",
    fails("ALTER TABLE item DROP COLUMN a", why="PRIMARY KEY"),
    setup="CREATE TABLE item(a PRIMARY KEY, b)",
)
tables.case(
    "ALTER TABLE of a table that is not there",
    fails("ALTER TABLE nowhere ADD COLUMN a", why="no such table: nowhere"),
)
tables.case(
    "generated columns",
    ask(
        "INSERT INTO box(w, h) VALUES(2, 3),(4, 5)",
        "UPDATE box SET w = 10 WHERE h = 3",
        fails(
            "INSERT INTO box(w, h, area) VALUES(1,1,1)", why="cannot INSERT into generated column"
        ),
        fails("UPDATE box SET area = 1", why="cannot UPDATE generated column"),
        "SELECT * FROM box",
    ),
    setup="CREATE TABLE box(w INT, h INT, area INT AS (w * h) STORED, twice AS (2 * w) VIRTUAL)",
)
tables.case(
    "an index on a generated column",
    ask(
        "INSERT INTO box(w, h) VALUES(2, 3)",
        fails("INSERT INTO box(w, h) VALUES(3, 2)", why="UNIQUE"),
        "SELECT w FROM box WHERE area = 6",
    ),
    setup=("CREATE TABLE box(w, h, area AS (w * h))", "CREATE UNIQUE INDEX by_area ON box(area)"),
)
tables.case(
    "a generated column of random() is refused by SQLite",
    fails("CREATE TABLE box(w, r AS (random()))", why="non-deterministic"),
)
tables.case(
    "STRICT",
    ask(
        "INSERT INTO exact VALUES(1, 'x', 1.5, x'01', 'any')",
        fails(
            "INSERT INTO exact VALUES('one', 'x', 1.5, x'01', 1)",
            why="cannot store TEXT value in INTEGER column",
        ),
        fails(
            "INSERT INTO exact VALUES(2, x'00', 1.5, x'01', 1)",
            why="cannot store BLOB value in TEXT column",
        ),
        "INSERT INTO exact VALUES('2', 7, 3, x'', 2)",
        "SELECT typeof(i), typeof(t), typeof(r), typeof(b), typeof(a) FROM exact",
    ),
    setup="CREATE TABLE exact(i INTEGER, t TEXT, r REAL, b BLOB, a ANY) STRICT",
)
tables.case(
    "STRICT with an unknown type",
    fails("CREATE TABLE exact(i VARCHAR(10)) STRICT", why="unknown datatype"),
)
tables.case(
    "STRICT and WITHOUT ROWID",
    ask(
        "INSERT INTO kv VALUES('a', 1)",
        fails("INSERT INTO kv VALUES('b', 'x')", why="cannot store TEXT"),
    ),
    setup="CREATE TABLE kv(k TEXT PRIMARY KEY, v INT) STRICT, WITHOUT ROWID",
)
tables.case(
    "CHECK with a name",
    fails("INSERT INTO item VALUES(-1)", why="CHECK constraint failed: positive"),
    setup="CREATE TABLE item(a CONSTRAINT positive CHECK(a > 0))",
)
tables.case(
    "a CHECK over the whole row",
    ask("INSERT INTO span VALUES(1, 2)", fails("UPDATE span SET lo = 5", why="CHECK")),
    setup="CREATE TABLE span(lo, hi, CHECK(lo <= hi))",
)
tables.case(
    "a CHECK with a moving clock is refused by SQLite",
    fails("INSERT INTO item VALUES('2020-01-01')", why="non-deterministic"),
    setup="CREATE TABLE item(d CHECK(d < date('now')))",
)
tables.case(
    "defaults of every kind",
    ask("INSERT INTO d DEFAULT VALUES", "SELECT * FROM d"),
    setup="CREATE TABLE d(i DEFAULT 1, t DEFAULT 'x', r DEFAULT -1.5, b DEFAULT x'ff', n"
    " DEFAULT NULL,"
    " e DEFAULT (1 + 2 * 3), f DEFAULT (lower('ABC')), g DEFAULT TRUE)",
)
tables.case(
    "type affinity",
    ask(
        "INSERT INTO aff VALUES('1','1','1','1','1'),(1.0,1.0,1.0,1.0,1.0),('x','x','x','x','x')",
        "SELECT typeof(i), typeof(t), typeof(n), typeof(r), typeof(b) FROM aff",
    ),
    setup="CREATE TABLE aff(i INT, t VARCHAR(5), n DECIMAL(10,2), r DOUBLE, b BLOB)",
)
tables.case(
    "quoted and odd names",
    ask(
        'CREATE TABLE "two words"("select" INT, [from] TEXT, `where` BLOB, "a""b")',
        "INSERT INTO \"two words\" VALUES(1,'x',x'00',2)",
        'SELECT "select", [from], `where`, "a""b" FROM "two words"',
    ),
)
tables.case(
    "names beyond ASCII",
    ask(
        "CREATE TABLE größe(straße, 名前)",
        "INSERT INTO größe VALUES('ä','犬')",
        "SELECT 名前 FROM größe",
    ),
)
tables.case(
    "reserved names are SQLite's",
    fails("CREATE TABLE sqlite_mine(a)", why="object name reserved for internal use"),
)
tables.case(
    "an empty table list",
    fails("CREATE TABLE item()", why="syntax error"),
)
tables.case(
    "the same column twice",
    fails("CREATE TABLE item(a, a)", why="duplicate column name: a"),
)
tables.case(
    "AUTOINCREMENT on the wrong column",
    fails(
        "CREATE TABLE item(a TEXT PRIMARY KEY AUTOINCREMENT)", why="AUTOINCREMENT is only allowed"
    ),
)
tables.case(
    "the first AUTOINCREMENT table makes sqlite_sequence",
    ask(
        "CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO log DEFAULT VALUES",
        "DROP TABLE log",
        "SELECT count(*) FROM sqlite_sequence",
    ),
    alone=True,
)
tables.case(
    "a whole schema in one transaction",
    together(
        "CREATE TABLE author(id INTEGER PRIMARY KEY, name)",
        "CREATE TABLE book(id INTEGER PRIMARY KEY, author REFERENCES author, title)",
        "CREATE INDEX by_author ON book(author)",
        "CREATE VIEW shelf AS SELECT title, name FROM book JOIN author ON author.id = book.author",
        "INSERT INTO author VALUES(1,'Ann')",
        "INSERT INTO book VALUES(1,1,'First')",
        "SELECT * FROM shelf",
    ),
)
tables.case(
    "the rename dance of migrations",
    together(
        "CREATE TABLE new_item(id INTEGER PRIMARY KEY, a TEXT NOT NULL)",
        "INSERT INTO new_item(id, a) SELECT rowid, coalesce(a, '') FROM item",
        "DROP TABLE item",
        "ALTER TABLE new_item RENAME TO item",
    ),
    ask("SELECT id, a FROM item", "SELECT sql FROM sqlite_schema WHERE name = 'item'"),
    setup=("CREATE TABLE item(a)", "INSERT INTO item VALUES('x'),(NULL),('z')"),
)

THEMES = (tables,)
