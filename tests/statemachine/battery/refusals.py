"""What may not be replicated: other files, transactions by hand, TEMP, node-local tables."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, either, fails, refused, together

refusals = Theme("refused statements")
V = "CREATE TABLE val(id INTEGER PRIMARY KEY, v)"
ONE = "INSERT INTO val(v) VALUES('a')"
SEE = "SELECT id, v FROM val ORDER BY id"
ANY = "."
STREAM = "transaction|stream"
for _name, _text in (
    ("ATTACH", "ATTACH DATABASE ':memory:' AS other"),
    ("ATTACH by a parameter", "ATTACH DATABASE 'x.db' AS other"),
    ("DETACH", "DETACH DATABASE main"),
    ("VACUUM", "VACUUM"),
    ("VACUUM INTO", "VACUUM INTO 'copy.db'"),
    ("VACUUM main", "VACUUM main"),
    ("load_extension", "SELECT load_extension('evil')"),
    ("load_extension in a write", "INSERT INTO val(v) SELECT load_extension('evil')"),
    ("CREATE TEMP TABLE", "CREATE TEMP TABLE tmp(a)"),
    ("CREATE TEMPORARY VIEW", "CREATE TEMPORARY VIEW tmp AS SELECT 1"),
    ("CREATE TEMP TRIGGER", "CREATE TEMP TRIGGER tt AFTER INSERT ON val BEGIN SELECT 1; END"),
    ("CREATE TABLE temp.x", "CREATE TABLE temp.tmp(a)"),
    ("CREATE TABLE IF NOT EXISTS temp.x", "CREATE TABLE IF NOT EXISTS Temp.tmp(a)"),
    ("CREATE TABLE temp.x AS", "CREATE TABLE temp.tmp AS SELECT 1 AS a"),
    ("CREATE VIEW temp.x", "CREATE VIEW temp.tmp AS SELECT 1"),
    ("CREATE TRIGGER temp.x", "CREATE TRIGGER temp.t AFTER INSERT ON main.val BEGIN SELECT 1; END"),
    ("CREATE VIRTUAL TABLE temp.x", "CREATE VIRTUAL TABLE temp.tmp USING fts5(a)"),
    ("CREATE INDEX temp.x", "CREATE INDEX temp.i ON val(v)"),
    ("INSERT INTO temp.x", "INSERT INTO temp.sqlite_master VALUES(1,1,1,1,1)"),
    ("ANALYZE temp", "ANALYZE temp"),
    ("CREATE TEMP TABLE AS", "CREATE TEMP TABLE tmp AS SELECT * FROM val"),
    ("writefile", "SELECT writefile('x', 'y')"),
    ("fts3_tokenizer", "SELECT fts3_tokenizer('simple', x'0000000000000000')"),
):
    refusals.case(
        _name, ask(ONE, refused(_text, why=ANY), "INSERT INTO val(v) VALUES('b')", SEE), setup=V
    )
for _text in (
    "BEGIN",
    "BEGIN IMMEDIATE",
    "BEGIN EXCLUSIVE TRANSACTION",
    "COMMIT",
    "END",
    "END TRANSACTION",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "ROLLBACK TO s",
):
    refusals.case(
        f"{_text} as a statement",
        ask(ONE, refused(_text, why=STREAM), "INSERT INTO val(v) VALUES('b')", SEE),
        SEE,
        setup=V,
    )
    refusals.case(
        f"{_text} with transaction", together(ONE, refused(_text, why=STREAM)), SEE, setup=V
    )
refusals.case(
    "a transaction written as statements",
    ask(refused("BEGIN", why=STREAM), ONE, refused("COMMIT", why=STREAM)),
    SEE,
    setup=V,
)
refusals.case(
    "BEGIN hidden behind a comment",
    ask(refused("/* x */ begin -- y", why=STREAM), ONE),
    SEE,
    setup=V,
)
refusals.case(
    "COMMIT as the second statement of a string",
    ask(refused("SELECT v FROM val; COMMIT", why=STREAM)),
    setup=V,
)
refusals.case(
    "ATTACH in a transaction takes all back",
    together(ONE, refused("ATTACH ':memory:' AS o", why=ANY)),
    SEE,
    setup=V,
)
refusals.case(
    "a write through /db/query",
    ask(refused("INSERT INTO val(v) VALUES('x')", why="change|write|read"), kind="query"),
    SEE,
    setup=V,
)
refusals.case(
    "PRAGMA user_version = n through /db/query",
    ask(refused("PRAGMA user_version = 77", why=ANY), kind="query"),
    "PRAGMA user_version",
    setup=V,
    alone=True,
)
refusals.case(
    "writing sqlite_schema",
    ask(
        fails("UPDATE sqlite_schema SET sql = ''", why="table sqlite_master may not be modified"),
        fails("DELETE FROM sqlite_master", why="may not be modified"),
        fails("INSERT INTO sqlite_schema VALUES(1,1,1,1,1)", why="may not be modified"),
    ),
    setup=V,
)
refusals.case(
    "dropping sqlite_sequence",
    ask(fails("DROP TABLE sqlite_sequence", why="may not be dropped"), ONE),
    setup="CREATE TABLE val(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
)
refusals.case(
    "writable_schema",
    ask(
        refused("PRAGMA writable_schema = ON", why=ANY),
        fails("DELETE FROM sqlite_master", why="may not be modified"),
    ),
    setup=V,
)
for _name, _text in (
    ("a pragma function", "INSERT INTO val(v) SELECT name FROM pragma_database_list"),
    ("pragma_table_info", "INSERT INTO val(v) SELECT name FROM pragma_table_info('val')"),
    ("pragma_page_count", "INSERT INTO val(v) SELECT page_count FROM pragma_page_count"),
    (
        "pragma_compile_options",
        "UPDATE val SET v = (SELECT compile_options FROM pragma_compile_options LIMIT 1)",
    ),
    ("dbstat", "INSERT INTO val(v) SELECT count(*) FROM dbstat"),
    ("FTS5 shadow tables", "INSERT INTO val(v) SELECT count(*) FROM docs_data"),
    (
        "FTS5 shadow tables in a subquery",
        "DELETE FROM val WHERE id < (SELECT max(id) FROM docs_idx JOIN docs_data)",
    ),
    ("a view over dbstat", "INSERT INTO val(v) SELECT n FROM sizes"),
    ("sqlite_stat1", "INSERT INTO val(v) SELECT stat FROM sqlite_stat1 WHERE tbl = 'val'"),
):
    refusals.case(
        f"a write that reads {_name}",
        ask(refused(_text, why=ANY), "INSERT INTO val(v) VALUES('b')", SEE)
        if _name != "sqlite_stat1"
        else ask(either(_text), "SELECT count(*) > -1 FROM val"),
        setup=(
            V,
            ONE,
            "CREATE VIRTUAL TABLE docs USING fts5(a)",
            "CREATE VIEW sizes AS SELECT sum(pgsize) AS n FROM dbstat",
            "ANALYZE",
        ),
    )
refusals.case(
    "a trigger that reads a pragma function",
    ask(
        either(
            "CREATE TRIGGER t AFTER INSERT ON val BEGIN UPDATE val SET v = (SELECT page_count"
            " FROM pragma_page_count); END"
        ),
        either(ONE),
        "SELECT count(*) FROM sqlite_schema WHERE name = 'val'",
    ),
    setup=V,
)
refusals.case(
    "writing a shadow table",
    ask(
        refused("DELETE FROM docs_data", why=ANY),
        refused("INSERT INTO docs_config VALUES('x', 1)", why=ANY),
        "SELECT count(*) FROM docs('word')",
    ),
    setup=("CREATE VIRTUAL TABLE docs USING fts5(a)", "INSERT INTO docs VALUES('word')"),
)
refusals.case(
    "dropping a shadow table",
    ask(refused("DROP TABLE docs_data", why=ANY), "SELECT count(*) FROM docs('word')"),
    setup=("CREATE VIRTUAL TABLE docs USING fts5(a)", "INSERT INTO docs VALUES('word')"),
)
refusals.case(
    "sqlite_dbpage",
    ask(
        refused("SELECT count(*) FROM sqlite_dbpage", why=ANY),
        refused("UPDATE sqlite_dbpage SET data = NULL WHERE pgno = 1", why=ANY),
    ),
)
refusals.case(
    "a refused statement among strangers",
    "INSERT INTO val(v) VALUES('a')",
    refused("ATTACH ':memory:' AS o", why=ANY),
    "INSERT INTO val(v) VALUES('b')",
    refused("BEGIN", why=STREAM),
    "INSERT INTO val(v) VALUES('c')",
    SEE,
    setup=V,
)

THEMES = (refusals,)
