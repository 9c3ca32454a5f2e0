"""random() and randomblob() wherever SQL allows them: nodes agree, values differ."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together, varies

chance = Theme("random")
R = "CREATE TABLE dice(id INTEGER PRIMARY KEY, r, b)"
N = "CREATE TABLE num(n)"
NUMS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 60) INSERT"
    " INTO num SELECT x FROM c"
)
DISTINCT = (
    "SELECT count(*), count(DISTINCT r), count(DISTINCT b), min(typeof(r)),"
    " max(typeof(r)) FROM dice"
)
chance.case(
    "random() as a value", "INSERT INTO dice(r) VALUES(random())", DISTINCT, setup=R, volatile=True
)
chance.case(
    "two calls in one row differ",
    "INSERT INTO dice(r, b) VALUES(random(), random())",
    "SELECT r <> b FROM dice",
    setup=R,
    volatile=True,
)
chance.case(
    "rows of one statement differ",
    "INSERT INTO dice(r) VALUES(random()),(random()),(random())",
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "INSERT SELECT: a value for each row",
    "INSERT INTO dice(r, b) SELECT random(), randomblob(9) FROM num",
    DISTINCT,
    setup=(R, N, NUMS),
    volatile=True,
)
chance.case(
    "statements of one request differ",
    ask(*["INSERT INTO dice(r) VALUES(random())"] * 8),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "requests differ",
    *["INSERT INTO dice(r) VALUES(random())"] * 8,
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "a transaction's statements differ",
    together(*["INSERT INTO dice(r, b) VALUES(random(), hex(randomblob(8)))"] * 8),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "DEFAULT (random())",
    "INSERT INTO auto(n) VALUES(1),(2),(3)",
    "INSERT INTO auto DEFAULT VALUES",
    "SELECT count(DISTINCT r), count(DISTINCT b), min(length(b)) FROM auto",
    setup="CREATE TABLE auto(n, r DEFAULT (random()), b DEFAULT (randomblob(16)))",
    volatile=True,
)
chance.case(
    "a UUID as a default",
    "INSERT INTO doc(t) VALUES('a'),('b')",
    "SELECT count(DISTINCT id), min(length(id)), max(length(id)) FROM doc",
    setup="CREATE TABLE doc(id TEXT PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))), t)",
    volatile=True,
)
chance.case(
    "in a trigger",
    ask("INSERT INTO num VALUES(1),(2),(3)", "DELETE FROM num WHERE n = 2"),
    DISTINCT,
    setup=(
        R,
        N,
        "CREATE TRIGGER t AFTER INSERT ON num BEGIN INSERT INTO dice(r, b) VALUES(random(),"
        " randomblob(4)); END",
    ),
    volatile=True,
)
chance.case(
    "in a view that is copied",
    "INSERT INTO dice(r) SELECT x FROM lucky",
    DISTINCT,
    setup=(R, N, NUMS, "CREATE VIEW lucky AS SELECT random() AS x FROM num"),
    volatile=True,
)
chance.case(
    "in UPDATE",
    "UPDATE num SET n = random()",
    "SELECT count(DISTINCT n) FROM num",
    setup=(N, NUMS),
    volatile=True,
)
chance.case(
    "in UPSERT",
    "INSERT INTO one VALUES(1, 0) ON CONFLICT(k) DO UPDATE SET v = abs(random() % 1000) + 1",
    "SELECT v > 0 FROM one",
    setup=("CREATE TABLE one(k PRIMARY KEY, v)", "INSERT INTO one VALUES(1, 0)"),
    volatile=True,
)
chance.case(
    "ORDER BY random() LIMIT",
    "INSERT INTO dice(r) SELECT n FROM num ORDER BY random() LIMIT 5",
    DISTINCT,
    setup=(R, N, NUMS),
    volatile=True,
)
chance.case(
    "DELETE of a random sample",
    "DELETE FROM num WHERE n IN (SELECT n FROM num ORDER BY random() LIMIT 20)",
    "SELECT count(*) FROM num",
    setup=(N, NUMS),
    volatile=True,
)
chance.case(
    "WHERE random()",
    varies("DELETE FROM num WHERE random() % 2"),
    "SELECT count(*) BETWEEN 5 AND 55 FROM num",
    setup=(N, NUMS),
    volatile=True,
)
chance.case(
    "RETURNING random()",
    ask(varies("INSERT INTO dice(r) VALUES(random()),(random()) RETURNING id, r, random()")),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "RETURNING says what was stored",
    ask(varies("INSERT INTO dice(r) VALUES(random()) RETURNING r"), "SELECT count(*) FROM dice"),
    setup=R,
    volatile=True,
)
chance.case(
    "a random rowid",
    ask(varies("INSERT INTO dice(id) VALUES(abs(random() % 1000000))")),
    "SELECT count(*) FROM dice",
    setup=R,
    volatile=True,
)
chance.case(
    "a generated key by a trigger on a view",
    ask("INSERT INTO v(n) VALUES(7)", "SELECT n, length(k) FROM real_v"),
    setup=(
        "CREATE TABLE real_v(k, n)",
        "CREATE VIEW v AS SELECT * FROM real_v",
        "CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN INSERT INTO real_v"
        " VALUES(hex(randomblob(4)), new.n); END",
    ),
    volatile=True,
)
chance.case(
    "randomblob of a parameter and of an expression",
    ("INSERT INTO dice(r, b) VALUES(randomblob(?), randomblob(2 + 3))", 7),
    "SELECT length(r), length(b) FROM dice",
    setup=R,
    volatile=True,
)
chance.case(
    "randomblob of odd lengths",
    ask(
        "INSERT INTO dice(r, b) VALUES(randomblob(0), randomblob(-5)),(randomblob(NULL),"
        " randomblob('3'))",
        "SELECT length(r), length(b), typeof(r) FROM dice",
    ),
    setup=R,
    volatile=True,
)
chance.case(
    "randomblob too long",
    fails("INSERT INTO dice(b) VALUES(randomblob(9000000000))", why="too big"),
    setup=R,
)
chance.case(
    "random() takes no argument", ask(fails("SELECT random(1)", why="wrong number of arguments"))
)
chance.case(
    "a failed statement does not shift the next",
    ask(
        fails("INSERT INTO dice(id, r) VALUES(1, random()),(1, random())", why="UNIQUE"),
        "INSERT INTO dice(r, b) VALUES(random(), randomblob(3))",
    ),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "OR FAIL with random",
    ask(
        fails(
            "INSERT OR FAIL INTO dice(id, r) VALUES(1, random()),(2, random()),(1,"
            " random()),(3, random())",
            why="UNIQUE",
        ),
        "INSERT INTO dice(r) VALUES(random())",
    ),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "OR ROLLBACK between random statements",
    ask(
        "INSERT INTO dice(id, r) VALUES(1, random())",
        fails("INSERT OR ROLLBACK INTO dice(id, r) VALUES(1, random())", why="UNIQUE"),
        "INSERT INTO dice(r) VALUES(random())",
    ),
    "INSERT INTO dice(r) VALUES(random())",
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "reads of random among writes",
    ask(
        "INSERT INTO dice(r) VALUES(random())",
        varies("SELECT random(), randomblob(4)"),
        "INSERT INTO dice(r) VALUES(random())",
    ),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "the sign and range of random()",
    "INSERT INTO dice(r) SELECT random() FROM num a, num b",
    "SELECT sum(r < 0) BETWEEN 1500 AND 2100, max(r) > 4611686018427387904, min(r) <"
    " -4611686018427387904 FROM dice",
    setup=(R, N, NUMS),
    volatile=True,
)
chance.case(
    "a CHECK may roll dice",
    ask(varies("INSERT OR IGNORE INTO c SELECT n FROM num")),
    "SELECT count(*) BETWEEN 5 AND 55 FROM c",
    setup=(N, NUMS, "CREATE TABLE c(x CHECK(random() > 0))"),
    volatile=True,
)
chance.case(
    "several strings in one text",
    ask("INSERT INTO dice(r) VALUES(random()); INSERT INTO dice(r) VALUES(random())"),
    DISTINCT,
    setup=R,
    volatile=True,
)
chance.case(
    "words inside strings and names stay",
    ask(
        "INSERT INTO dice(r, b) VALUES('random()', 'datetime(''now'')')",
        "SELECT r, b FROM dice -- random()",
    ),
    setup=R,
)
chance.case(
    "a thousand rows by ORDER BY random() into a table with a key",
    "INSERT INTO dice(r) SELECT a.n * 100 + b.n FROM num a, num b ORDER BY random()",
    "SELECT count(*), count(DISTINCT r) FROM dice",
    setup=(R, N, NUMS),
    volatile=True,
)

THEMES = (chance,)
