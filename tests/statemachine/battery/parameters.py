"""Parameters of every form, and what is missing or too many."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, refused, together

parameters = Theme("parameters")
BINDING = "bind|parameter|argument"
P3 = "CREATE TABLE p(a, b, c)"
SEE3 = "SELECT a, b, c FROM p ORDER BY rowid"
parameters.case("positional", ask(("INSERT INTO p VALUES(?, ?, ?)", 1, "x", None), SEE3), setup=P3)
parameters.case("numbered", ask(("INSERT INTO p VALUES(?3, ?1, ?2)", 1, 2, 3), SEE3), setup=P3)
parameters.case("one number twice", ask(("INSERT INTO p VALUES(?1, ?1, ?2)", 1, 2), SEE3), setup=P3)
parameters.case(
    "numbered and plain", ask(("INSERT INTO p VALUES(?2, ?, ?1)", 1, 2, 3), SEE3), setup=P3
)
for _mark in ":@$":
    parameters.case(
        f"named with {_mark}",
        ask(
            (
                f"INSERT INTO p VALUES({_mark}one, {_mark}two, {_mark}one)",
                {"one": 1, "two": "zwei"},
            ),
            SEE3,
        ),
        setup=P3,
    )
parameters.case(
    "named, of mixed marks",
    ask(("INSERT INTO p VALUES(:a, @b, $c)", {"a": 1, "b": 2, "c": 3}), SEE3),
    setup=P3,
)
parameters.case(
    "positional values for named places",
    ask(("INSERT INTO p VALUES(:a, :b, :a)", 1, 2), SEE3),
    setup=P3,
)
parameters.case(
    "too few", refused("INSERT INTO p VALUES(?, ?, ?)", 1, 2, why=BINDING), SEE3, setup=P3
)
parameters.case(
    "too many", refused("INSERT INTO p VALUES(?, 2, 3)", 1, 2, why=BINDING), SEE3, setup=P3
)
parameters.case(
    "for a statement without places",
    refused("INSERT INTO p VALUES(1, 2, 3)", 9, why=BINDING),
    SEE3,
    setup=P3,
)
parameters.case(
    "a name that is missing",
    refused("INSERT INTO p VALUES(:a, :b, 0)", {"a": 1}, why=BINDING),
    SEE3,
    setup=P3,
)
parameters.case(
    "too few in a transaction",
    together(
        "INSERT INTO p VALUES(1, 2, 3)", refused("INSERT INTO p VALUES(?, ?, ?)", 1, why=BINDING)
    ),
    SEE3,
    setup=P3,
)
parameters.case(
    "too few among others",
    ask(
        "INSERT INTO p VALUES(1, 2, 3)",
        refused("INSERT INTO p VALUES(?, ?, ?)", 1, why=BINDING),
        ("INSERT INTO p VALUES(?, ?, ?)", 4, 5, 6),
        SEE3,
    ),
    setup=P3,
)
parameters.case(
    "in LIMIT and OFFSET",
    ask(("INSERT INTO p(a) SELECT value FROM json_each('[1,2,3,4]') LIMIT ? OFFSET ?", 2, 1), SEE3),
    setup=P3,
)
parameters.case(
    "in a place that takes none",
    ask(
        fails("CREATE TABLE q(a DEFAULT ?)", why="syntax error"),
        fails("CREATE VIEW v AS SELECT ?", why="parameters are not allowed in views"),
    ),
)
parameters.case("a text for LIMIT", ask(fails("SELECT 1 LIMIT ?", "x", why="datatype mismatch")))
parameters.case(
    "of every type in one row",
    ask(
        ("INSERT INTO p VALUES(?, ?, ?)", 2**62, 0.25, b"\x00\xff"),
        ("INSERT INTO p VALUES(?, ?, ?)", "ü", None, -1),
        SEE3,
    ),
    setup=P3,
)
parameters.case(
    "a hundred",
    ask(
        ("INSERT INTO p(a) VALUES" + ",".join(["(?)"] * 100), *range(100)),
        "SELECT count(*), sum(a) FROM p",
    ),
    setup=P3,
)
parameters.case(
    "the highest number", ask(("INSERT INTO p(a) VALUES(?250)", *range(250)), SEE3), setup=P3
)
parameters.case(
    "a number that is too high",
    fails("INSERT INTO p(a) VALUES(?99999)", why="variable number must be between"),
    setup=P3,
)
parameters.case(
    "a number of zero",
    fails("INSERT INTO p(a) VALUES(?0)", why="variable number must be between"),
    setup=P3,
)
parameters.case(
    "the same text with different types",
    *[("INSERT INTO p(a) VALUES(?)", x) for x in (1, "1", 1.0, b"1", None)],
    SEE3,
    setup=P3,
)
parameters.case(
    "in RETURNING", ask(("INSERT INTO p VALUES(?, ?, 3) RETURNING a, ?", 1, 2, "extra")), setup=P3
)

THEMES = (parameters,)
