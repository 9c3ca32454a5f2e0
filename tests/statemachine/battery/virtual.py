"""Virtual tables: FTS5, FTS4, R-Tree, json_each."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, refused, together

virtual = Theme("virtual tables")
OUT = "CREATE TABLE out(a, b, c)"
DOCS = "CREATE VIRTUAL TABLE docs USING fts5(title, body)"
SOME = (
    "INSERT INTO docs VALUES('one','the quick brown fox'),('two','jumps over the lazy"
    " dog'),('three','quick quick')"
)
KEEP_TOTAL = "INSERT INTO out(a) SELECT total_changes()"
virtual.case(
    "FTS5",
    ask(
        SOME,
        "SELECT rowid, title FROM docs WHERE docs MATCH 'quick' ORDER BY rowid",
        "SELECT title FROM docs('lazy OR brown') ORDER BY rank",
    ),
    setup=DOCS,
)
virtual.case(
    "FTS5 update and delete",
    ask(
        "UPDATE docs SET body = 'slow' WHERE rowid = 1",
        "DELETE FROM docs WHERE title = 'two'",
        "SELECT rowid, * FROM docs",
        "SELECT count(*) FROM docs('quick')",
    ),
    setup=(DOCS, SOME),
)
virtual.case(
    "FTS5 rolled back",
    together(SOME, fails("INSERT INTO nowhere VALUES(1)", why="no such table")),
    ask("SELECT count(*) FROM docs"),
    setup=DOCS,
)
virtual.case(
    "FTS5 in many small requests",
    *[f"INSERT INTO docs VALUES('t{i}', 'word{i % 3} common')" for i in range(30)],
    "SELECT count(*) FROM docs('word1 common')",
    setup=DOCS,
)
virtual.case(
    "FTS5 commands",
    ask(
        "INSERT INTO docs(docs) VALUES('optimize')",
        "INSERT INTO docs(docs) VALUES('rebuild')",
        "INSERT INTO docs(docs) VALUES('integrity-check')",
        "INSERT INTO docs(docs, rank) VALUES('merge', 16)",
        "SELECT count(*) FROM docs('the')",
    ),
    setup=(DOCS, SOME),
)
virtual.case(
    "FTS5 highlight, snippet, bm25",
    ask(
        "SELECT highlight(docs, 1, '<', '>'), snippet(docs, 1, '[', ']', '..', 3),"
        " round(bm25(docs), 6) FROM docs('quick') ORDER BY rowid"
    ),
    setup=(DOCS, SOME),
)
virtual.case(
    "FTS5 with external content and triggers",
    ask(
        "INSERT INTO page(text) VALUES('alpha beta'),('beta gamma')",
        "UPDATE page SET text = 'delta' WHERE id = 1",
        "DELETE FROM page WHERE id = 2",
        "SELECT rowid FROM idx('beta')",
        "SELECT rowid FROM idx('delta')",
    ),
    setup=(
        "CREATE TABLE page(id INTEGER PRIMARY KEY, text)",
        "CREATE VIRTUAL TABLE idx USING fts5(text, content='page', content_rowid='id')",
        "CREATE TRIGGER pi AFTER INSERT ON page BEGIN INSERT INTO idx(rowid, text)"
        " VALUES(new.id, new.text); END",
        "CREATE TRIGGER pd AFTER DELETE ON page BEGIN INSERT INTO idx(idx, rowid, text)"
        " VALUES('delete', old.id, old.text); END",
        "CREATE TRIGGER pu AFTER UPDATE ON page BEGIN INSERT INTO idx(idx, rowid, text)"
        " VALUES('delete', old.id, old.text); INSERT INTO idx(rowid, text) VALUES(new.id,"
        " new.text); END",
    ),
)
virtual.case(
    "FTS5 syntax error in a query",
    ask(
        fails("SELECT * FROM docs('AND AND')", why="fts5: syntax error"),
        fails("SELECT * FROM docs('nocol: x')", why="no such column"),
    ),
    setup=(DOCS, SOME),
)
virtual.case(
    "FTS5 that cannot be made",
    ask(
        fails(
            "CREATE VIRTUAL TABLE bad USING fts5(a, tokenize='none such')", why="no such tokenizer"
        ),
        "CREATE TABLE bad(a)",
    ),
)
virtual.case(
    "FTS5 with trigram",
    ask("INSERT INTO tri VALUES('hello world')", "SELECT a FROM tri WHERE a LIKE '%lo wo%'"),
    setup="CREATE VIRTUAL TABLE tri USING fts5(a, tokenize='trigram')",
)
virtual.case(
    "FTS5 rename and drop",
    ask(
        "ALTER TABLE docs RENAME TO papers",
        "SELECT count(*) FROM papers('quick')",
        "DROP TABLE papers",
        "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%docs%' OR name LIKE '%papers%'",
    ),
    setup=(DOCS, SOME),
)
virtual.case(
    "FTS5 last_insert_rowid",
    ask(
        "INSERT INTO docs(rowid, title) VALUES(41,'x')",
        "INSERT INTO docs(title) VALUES('y')",
        "SELECT last_insert_rowid(), changes()",
    ),
    setup=DOCS,
)
virtual.case(
    # What FTS5 writes into its own tables, and when, is its own affair; but nodes must agree.
    "FTS5 and total_changes()",
    ask(SOME, "INSERT INTO out(a) VALUES(total_changes())", SOME, KEEP_TOTAL),
    ask("UPDATE docs SET title = 'x'", KEEP_TOTAL, "DELETE FROM docs WHERE rowid = 1", KEEP_TOTAL),
    together(SOME, KEEP_TOTAL, "DELETE FROM docs", KEEP_TOTAL),
    "SELECT count(*), min(a) > 0 FROM out",
    setup=(DOCS, OUT),
    volatile=True,
)
virtual.case(
    "FTS4",
    ask(
        "INSERT INTO old VALUES('quick fox'),('lazy dog')",
        "SELECT docid FROM old WHERE old MATCH 'fox'",
        "DELETE FROM old WHERE docid = 1",
    ),
    setup="CREATE VIRTUAL TABLE old USING fts4(body)",
)
virtual.case(
    "FTS5 vocabulary",
    ask(
        "CREATE VIRTUAL TABLE voc USING fts5vocab(docs, 'row')",
        "SELECT term, doc, cnt FROM voc ORDER BY term",
    ),
    setup=(DOCS, SOME),
)
virtual.case(
    "R-Tree",
    ask(
        "INSERT INTO area VALUES(1, 0, 10, 0, 10),(2, 5, 15, 5, 15),(3, 20, 30, 20, 30)",
        "SELECT id FROM area WHERE x0 <= 6 AND x1 >= 6 ORDER BY id",
        "UPDATE area SET x1 = 100 WHERE id = 1",
        "DELETE FROM area WHERE id = 2",
        "SELECT * FROM area",
    ),
    setup="CREATE VIRTUAL TABLE area USING rtree(id, x0, x1, y0, y1)",
)
virtual.case(
    "R-Tree refuses a bad box",
    ask(
        fails("INSERT INTO area VALUES(1, 10, 0)", why="constraint failed"),
        "INSERT INTO area VALUES(NULL, 0, 1)",
        "SELECT * FROM area",
    ),
    setup="CREATE VIRTUAL TABLE area USING rtree(id, x0, x1)",
)
virtual.case(
    "R-Tree with many rows",
    "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400) INSERT INTO"
    " area SELECT i, i % 37, i % 37 + 2 FROM c",
    "DELETE FROM area WHERE id % 3 = 0",
    "SELECT count(*) FROM area WHERE x0 > 10",
    setup="CREATE VIRTUAL TABLE area USING rtree_i32(id, x0, x1)",
)
virtual.case(
    "R-Tree with auxiliary columns",
    ask("INSERT INTO area VALUES(1, 0, 1, 'hello')", "SELECT label FROM area"),
    setup="CREATE VIRTUAL TABLE area USING rtree(id, x0, x1, +label TEXT)",
)
virtual.case(
    "an unknown module",
    refused("CREATE VIRTUAL TABLE v USING nowhere(a)", why="module.* nowhere"),
)
virtual.case(
    "json_each in an INSERT",
    "INSERT INTO out(a, b) SELECT key, value FROM json_each('[5,6,7]')",
    setup=OUT,
)

COUNTED = "SELECT last_insert_rowid(), changes(), total_changes()"
for _module, _write in (
    ("fts4", "INSERT INTO held VALUES('x')"),
    ("fts5", "INSERT INTO held VALUES('x'),('y'),('z')"),
    ("fts5", "INSERT INTO held(held) VALUES('rebuild')"),
    ("fts5", "DELETE FROM held"),
):
    # An index is written at the next savepoint or COMMIT, which is another client's statement.
    virtual.case(
        f"writes held back move no counters of others: {_module}, {_write}",
        _write,
        ask("INSERT INTO num VALUES(1)", "UPDATE num SET n = 5", COUNTED),
        _write,
        ask("INSERT INTO num SELECT 'z' WHERE 0", COUNTED),
        _write,
        together("INSERT INTO out VALUES(last_insert_rowid(), changes(), total_changes())"),
        _write,
        ask(fails("INSERT INTO num VALUES(7),(8),(NULL)", why="NOT NULL"), COUNTED),
        _write,
        ask("INSERT INTO num VALUES(9) RETURNING n, changes(), last_insert_rowid()", COUNTED),
        _write,
        ask("CREATE TABLE made(a)", "DROP TABLE made", COUNTED),
        ask("SELECT a, b, c FROM out", "SELECT n FROM num"),
        setup=(
            OUT,
            f"CREATE VIRTUAL TABLE held USING {_module}(body)",
            "INSERT INTO held VALUES('first')",
            "CREATE TABLE num(n NOT NULL)",
            "CREATE TABLE touch(a)",
            "CREATE TRIGGER u AFTER UPDATE ON num BEGIN INSERT INTO touch VALUES(1),(2); END",
        ),
    )

THEMES = (virtual,)
