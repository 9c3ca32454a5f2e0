"""Planner statistics, and statements whose effect depends on the plan."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, refused, together

planner = Theme("planner")
ANY = "."
D = "CREATE TABLE big(a, b)"
FILL = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 500) INSERT"
    " INTO big SELECT x % 10, x FROM c"
)
planner.case(
    "ANALYZE",
    ask("ANALYZE", "SELECT tbl, idx, stat FROM sqlite_stat1 WHERE tbl = 'big' ORDER BY idx"),
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)"),
    alone=True,
)
planner.case(
    "ANALYZE of a table and of an index",
    ask("ANALYZE big", "ANALYZE by_b"),
    "SELECT idx, stat FROM sqlite_stat1 WHERE tbl = 'big' ORDER BY idx",
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)", "CREATE INDEX by_b ON big(b)"),
    alone=True,
)
planner.case(
    "ANALYZE taken back",
    together("ANALYZE", fails("nonsense", why="syntax")),
    "DELETE FROM big WHERE rowid IN (SELECT rowid FROM big WHERE a = 3 AND b > 5 LIMIT 5)",
    ask("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'"),
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)", "CREATE INDEX by_b ON big(b)"),
    alone=True,
)
planner.case(
    "ANALYZE, then writes that follow a plan",
    ask("ANALYZE"),
    "INSERT INTO big SELECT b, a FROM big WHERE a = 3 AND b > 100 LIMIT 7",
    "DELETE FROM big WHERE rowid IN (SELECT rowid FROM big WHERE a > 2 AND b < 300 LIMIT 9)",
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)", "CREATE INDEX by_b ON big(b)"),
    alone=True,
)
planner.case(
    "ANALYZE and a plan in one request",
    ask(
        "ANALYZE",
        "INSERT INTO big SELECT b, a FROM big WHERE a = 3 AND b > 100 LIMIT 7",
        "CREATE INDEX by_ab ON big(a, b)",
        "ANALYZE",
        "UPDATE big SET b = b + 1 WHERE rowid IN (SELECT rowid FROM big WHERE a = 4 AND b < 300"
        " LIMIT 3)",
    ),
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)", "CREATE INDEX by_b ON big(b)"),
    alone=True,
)
planner.case("ANALYZE of nothing", fails("ANALYZE nowhere", why="no such table: nowhere"))
for _verb, _text in (
    ("INSERT", "INSERT INTO sqlite_stat1 VALUES('big','by_a','1 1')"),
    ("UPDATE", "UPDATE sqlite_stat1 SET stat = '1 1'"),
    ("DELETE", "DELETE FROM sqlite_stat1"),
    ("DELETE of stat4", "DELETE FROM sqlite_stat4"),
):
    planner.case(
        f"{_verb} by a user",
        ask(refused(_text, why=ANY), "INSERT INTO big VALUES(1, 1)"),
        "SELECT stat FROM sqlite_stat1 WHERE tbl = 'big'",
        setup=(D, FILL, "CREATE INDEX by_a ON big(a)", "ANALYZE"),
        alone=True,
    )
planner.case(
    "an unordered LIMIT follows the same plan",
    "INSERT INTO big SELECT b, a FROM big WHERE b > 100 LIMIT 7",
    "DELETE FROM big WHERE rowid IN (SELECT rowid FROM big WHERE a = 2 LIMIT 3)",
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)"),
)
planner.case(
    "bound values do not choose the plan",
    ("DELETE FROM big WHERE rowid IN (SELECT rowid FROM big WHERE a = ? AND b > ? LIMIT 5)", 3, 5),
    (
        "DELETE FROM big WHERE rowid IN (SELECT rowid FROM big WHERE a = ? AND b > ? LIMIT 5)",
        4,
        490,
    ),
    setup=(D, FILL, "CREATE INDEX by_a ON big(a)", "CREATE INDEX by_b ON big(b)", "ANALYZE"),
    alone=True,
)
planner.case(
    "LIKE on a bound pattern",
    ("DELETE FROM word WHERE w LIKE ?", "a%"),
    "SELECT count(*) FROM word",
    setup=(
        "CREATE TABLE word(w TEXT COLLATE NOCASE)",
        "INSERT INTO word VALUES('abc'),('Abd'),('b')",
        "CREATE INDEX by_w ON word(w)",
    ),
)

THEMES = (planner,)
