"""The clock in all its forms: nodes agree, and what is stored is near the real time."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, together, varies

clock = Theme("clock")
N = "CREATE TABLE num(n)"
NUMS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 60) INSERT"
    " INTO num SELECT x FROM c"
)
DISTINCT = (
    "SELECT count(*), count(DISTINCT r), count(DISTINCT b), min(typeof(r)),"
    " max(typeof(r)) FROM dice"
)
T = "CREATE TABLE at(id INTEGER PRIMARY KEY, t, u)"
NEAR = "SELECT count(*), min(abs(julianday(t) - julianday('now')) * 86400 < 20) FROM at"
for _name, _expression in (
    ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
    ("datetime('now')", "datetime('now')"),
    ("datetime()", "datetime()"),
    ("julianday('now')", "julianday('now')"),
    ("julianday()", "julianday()"),
    ("unixepoch('now')", "datetime(unixepoch('now'), 'unixepoch')"),
    ("unixepoch()", "datetime(unixepoch(), 'unixepoch')"),
    ("unixepoch('subsec')", "julianday(unixepoch('subsec'), 'unixepoch')"),
    ("strftime of one argument", "strftime('%Y-%m-%d %H:%M:%f')"),
    ("strftime('%s','now')", "datetime(strftime('%s','now'), 'unixepoch')"),
    ("strftime('%J','now')", "strftime('%J','now')"),
    ("date and time joined", "date('now') || ' ' || time('now')"),
    ("date() and time() joined", "date() || ' ' || time()"),
    ("CURRENT_DATE and CURRENT_TIME joined", "CURRENT_DATE || ' ' || CURRENT_TIME"),
    ("'now' in capitals", "datetime('NOW')"),
    ("with modifiers", "datetime('now', '+1 day', '-24 hours')"),
    ("'localtime' is UTC", "datetime('now', 'localtime')"),
    ("'utc' changes nothing", "datetime('now', 'utc')"),
    ("timediff", "datetime(julianday('2000-01-01') + julianday('now') - julianday('2000-01-01'))"),
    ("with subsec", "datetime('now', 'subsec')"),
):
    clock.case(_name, f"INSERT INTO at(t) VALUES({_expression})", ask(NEAR), setup=T, volatile=True)
clock.case(
    "timediff with 'now'",
    "INSERT INTO at(t) VALUES(timediff('now', '2000-01-01'))",
    "SELECT t LIKE '+002%' FROM at",
    setup=T,
    volatile=True,
)
clock.case(
    "a bound 'now'", ("INSERT INTO at(t) VALUES(datetime(?))", "now"), NEAR, setup=T, volatile=True
)
clock.case(
    "'now' from a column",
    "INSERT INTO at(t) SELECT datetime(w) FROM word",
    NEAR,
    setup=(T, "CREATE TABLE word(w)", "INSERT INTO word VALUES('now')"),
    volatile=True,
)
clock.case(
    "'now' put together",
    "INSERT INTO at(t) VALUES(datetime('n' || 'ow'))",
    NEAR,
    setup=T,
    volatile=True,
)
clock.case(
    "a bound modifier",
    ("INSERT INTO at(t) VALUES(datetime('now', ?))", "+0 days"),
    NEAR,
    setup=T,
    volatile=True,
)
clock.case(
    "one moment within a statement",
    "INSERT INTO at(t, u) SELECT julianday('now'), julianday('now') FROM num a, num b",
    "SELECT count(DISTINCT t), min(t = u) FROM at",
    setup=(T, N, NUMS),
    volatile=True,
)
clock.case(
    "never backwards in a request",
    ask(*["INSERT INTO at(t) VALUES(julianday('now'))"] * 6),
    "SELECT count(*) FROM at a JOIN at b ON b.id = a.id + 1 WHERE b.t < a.t",
    setup=T,
    volatile=True,
)
clock.case(
    "never backwards over requests",
    *["INSERT INTO at(t) VALUES(unixepoch('subsec'))"] * 6,
    "SELECT count(*) FROM at a JOIN at b ON b.id = a.id + 1 WHERE b.t < a.t",
    setup=T,
    volatile=True,
)
clock.case(
    "DEFAULT CURRENT_TIMESTAMP",
    "INSERT INTO made(n) VALUES(1)",
    "INSERT INTO made DEFAULT VALUES",
    "SELECT count(*), min(abs(julianday(t) - julianday('now')) * 86400 < 20) FROM made",
    setup="CREATE TABLE made(n, t DEFAULT CURRENT_TIMESTAMP)",
    volatile=True,
)
clock.case(
    "DEFAULT (datetime('now')) is not frozen",
    "INSERT INTO made(n) VALUES(1),(2)",
    "SELECT min(abs(julianday(t) - julianday('now')) * 86400 < 20), min(abs(u -"
    " unixepoch('now')) < 20) FROM made",
    "SELECT sql FROM sqlite_schema WHERE name = 'made'",
    setup="CREATE TABLE made(n, t DEFAULT (datetime('now')), u DEFAULT (unixepoch()))",
    volatile=True,
)
clock.case(
    "CURRENT_DATE and CURRENT_TIME as defaults",
    "INSERT INTO made(n) VALUES(1)",
    "SELECT length(d), length(t), julianday(d || ' ' || t) IS NOT NULL FROM made",
    setup="CREATE TABLE made(n, d DEFAULT CURRENT_DATE, t DEFAULT CURRENT_TIME)",
    volatile=True,
)
clock.case(
    "in a trigger",
    ask("INSERT INTO num VALUES(1)", "UPDATE num SET n = 2"),
    NEAR,
    setup=(
        T,
        N,
        "CREATE TRIGGER a AFTER INSERT ON num BEGIN INSERT INTO at(t)"
        " VALUES(CURRENT_TIMESTAMP); END",
        "CREATE TRIGGER b AFTER UPDATE ON num BEGIN INSERT INTO at(t) VALUES(datetime('now')); END",
    ),
    volatile=True,
)
clock.case(
    "updated_at by a trigger",
    ask("INSERT INTO num VALUES(1)", "UPDATE num SET n = 5"),
    "SELECT count(*) FROM num",
    setup=(
        N,
        "CREATE TABLE touch(at)",
        "CREATE TRIGGER u AFTER UPDATE ON num BEGIN INSERT INTO touch"
        " VALUES(strftime('%Y-%m-%dT%H:%M:%fZ', 'now')); END",
    ),
    volatile=True,
)
clock.case(
    "in a view that is copied",
    "INSERT INTO at(t) SELECT x FROM nowv",
    NEAR,
    setup=(T, "CREATE VIEW nowv AS SELECT datetime('now') AS x"),
    volatile=True,
)
clock.case(
    "in UPDATE and WHERE",
    "UPDATE at SET u = datetime('now') WHERE t <= datetime('now')",
    "SELECT id, u IS NULL FROM at",
    setup=(T, "INSERT INTO at(t) VALUES('2000-01-01'),('2999-01-01')"),
    volatile=True,
)
clock.case(
    "expiry: DELETE WHERE older than now",
    "DELETE FROM at WHERE unixepoch(t) < unixepoch('now', '-1 hour')",
    "SELECT id FROM at",
    setup=(T, "INSERT INTO at(t) VALUES('2000-01-01'),('2999-01-01'),(NULL)"),
)
clock.case(
    "RETURNING the time",
    ask(
        varies("INSERT INTO at(t) VALUES(CURRENT_TIMESTAMP) RETURNING t, datetime('now')"),
        "SELECT min(t = u) IS NULL FROM at",
    ),
    setup=T,
    volatile=True,
)
clock.case(
    "in UPSERT",
    "INSERT INTO one VALUES(1, NULL) ON CONFLICT(k) DO UPDATE SET v = julianday('now')",
    "SELECT abs(v - julianday('now')) < 0.01 FROM one",
    setup=("CREATE TABLE one(k PRIMARY KEY, v)", "INSERT INTO one VALUES(1, 0)"),
    volatile=True,
)
clock.case(
    "milliseconds are kept",
    "INSERT INTO at(t) VALUES(strftime('%f', 'now'))",
    "SELECT t GLOB '[0-9][0-9].[0-9][0-9][0-9]' FROM at",
    setup=T,
    volatile=True,
)
clock.case(
    "a read in a request is near the writes",
    ask(
        "INSERT INTO at(t) VALUES(julianday('now'))",
        "SELECT abs(julianday('now') - t) * 86400 < 5 FROM at",
    ),
    setup=T,
    volatile=True,
)
clock.case(
    "a read-only request sees the real clock",
    "INSERT INTO at(t) VALUES(julianday('now'))",
    ask("SELECT abs(julianday('now') - t) * 86400 < 20 FROM at", kind="query"),
    setup=T,
    volatile=True,
)
clock.case(
    "a transaction's clock",
    together(*["INSERT INTO at(t) VALUES(julianday('now'))"] * 5),
    "SELECT count(*) FROM at a JOIN at b ON b.id = a.id + 1 WHERE b.t < a.t",
    NEAR,
    setup=T,
    volatile=True,
)
clock.case(
    "a failing statement between",
    ask(
        "INSERT INTO at(t) VALUES(datetime('now'))",
        fails("INSERT INTO at(id, t) VALUES(1, datetime('now'))", why="UNIQUE"),
        "INSERT INTO at(t) VALUES(datetime('now'))",
    ),
    NEAR,
    setup=T,
    volatile=True,
)
clock.case(
    "CREATE TABLE AS with the time and chance",
    "CREATE TABLE snap AS SELECT datetime('now') AS t, random() AS r, randomblob(4) AS b FROM num",
    "SELECT count(*), count(DISTINCT t), count(DISTINCT r) FROM snap",
    setup=(N, NUMS),
    volatile=True,
)
clock.case(
    "times of a fixed zone",
    ask(
        "INSERT INTO at(t, u) VALUES(datetime('2024-07-01 12:00', 'localtime'),"
        " datetime('2024-07-01 12:00', 'utc'))",
        "SELECT t, u FROM at",
    ),
    setup=T,
)

THEMES = (clock,)
