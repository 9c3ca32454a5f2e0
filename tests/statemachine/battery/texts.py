"""Texts of several statements, comments, nothing at all, errors of syntax."""

from __future__ import annotations

from tests.statemachine.battery.model import Theme, ask, fails, refused, together

texts = Theme("texts")
V = "CREATE TABLE val(id INTEGER PRIMARY KEY, v)"
SEE = "SELECT id, v, typeof(v), quote(v) FROM val ORDER BY id"
MIB = 1 << 20
TWO = "INSERT INTO val(v) VALUES('a'); INSERT INTO val(v) VALUES('b'),('c')"
texts.case("two statements in one string", ask(TWO), SEE, setup=V)
texts.case("two statements, then another", ask(TWO, "INSERT INTO val(v) VALUES('d')"), SEE, setup=V)
texts.case(
    "the first of two fails",
    ask(fails("INSERT INTO val(id) VALUES(1); INSERT INTO val(v) VALUES('b')", why="UNIQUE"), SEE),
    setup=(V, "INSERT INTO val VALUES(1,'x')"),
)
texts.case(
    "the second of two fails",
    ask(fails("INSERT INTO val(v) VALUES('a'); INSERT INTO val(id) VALUES(1)", why="UNIQUE"), SEE),
    setup=(V, "INSERT INTO val VALUES(1,'x')"),
)
texts.case(
    "the second of two fails in a transaction",
    together(
        "INSERT INTO val(v) VALUES('z')",
        fails("INSERT INTO val(v) VALUES('a'); INSERT INTO val(id) VALUES(1)", why="UNIQUE"),
    ),
    SEE,
    setup=(V, "INSERT INTO val VALUES(1,'x')"),
)
texts.case(
    "a string that makes a table and fills it",
    ask(
        "CREATE TABLE fresh(x); INSERT INTO fresh VALUES(1); CREATE INDEX by_x ON fresh(x);"
        " INSERT INTO fresh VALUES(2)"
    ),
    "SELECT x FROM fresh",
)
texts.case(
    "parameters run through a string",
    ask(("INSERT INTO val(v) VALUES(?); INSERT INTO val(v) VALUES(?),(?)", 1, 2, 3)),
    SEE,
    setup=V,
)
texts.case(
    "a trigger's semicolons are its own",
    ask(
        "CREATE TRIGGER t AFTER INSERT ON val BEGIN UPDATE val SET v = v || '1'; UPDATE val SET"
        " v = v || '2'; END; INSERT INTO val(v) VALUES('x')"
    ),
    SEE,
    setup=V,
)
texts.case(
    "the last is a SELECT", ask("INSERT INTO val(v) VALUES('a'); SELECT v FROM val"), setup=V
)
texts.case(
    "a SELECT, then a write", ask("SELECT v FROM val; INSERT INTO val(v) VALUES('a')"), SEE, setup=V
)
texts.case(
    "OR FAIL inside a string",
    ask(
        fails(
            "INSERT INTO val(v) VALUES('a'); INSERT OR FAIL INTO val(id) VALUES(50),(1); INSERT"
            " INTO val(v) VALUES('never')",
            why="UNIQUE",
        ),
        SEE,
    ),
    setup=(V, "INSERT INTO val VALUES(1,'x')"),
)
texts.case(
    "OR ROLLBACK inside a string",
    ask(
        fails(
            "INSERT INTO val(v) VALUES('a'); INSERT OR ROLLBACK INTO val(id) VALUES(50),(1);"
            " INSERT INTO val(v) VALUES('never')",
            why="UNIQUE",
        ),
        SEE,
    ),
    setup=(V, "INSERT INTO val VALUES(1,'x')"),
)
texts.case(
    "a trailing semicolon",
    ask("INSERT INTO val(v) VALUES('a');", "INSERT INTO val(v) VALUES('b');;;", " ; "),
    SEE,
    setup=V,
)
texts.case("a line comment", ask("-- first\nINSERT INTO val(v) VALUES('a') -- last"), SEE, setup=V)
texts.case(
    "a block comment",
    ask("/* one */ INSERT /* two; */ INTO val(v) VALUES('a') /* three"),
    SEE,
    setup=V,
)
texts.case(
    "only a comment",
    ask("-- nothing", "/* nothing */", "INSERT INTO val(v) VALUES('a')"),
    SEE,
    setup=V,
)
texts.case("nothing", ask("", "   ", "\n", ";", "INSERT INTO val(v) VALUES('a')"), SEE, setup=V)
texts.case(
    "nothing in a transaction", together("", "INSERT INTO val(v) VALUES('a')", ""), SEE, setup=V
)
texts.case("nothing at all", ask(""))
texts.case(
    "a comment marker in a string",
    ask("INSERT INTO val(v) VALUES('-- no /* comment */')"),
    SEE,
    setup=V,
)
texts.case(
    "spaces and case do not matter",
    ask("\t\n  insert\nINTO  VAL(V)\r\nvalues('a')  \n"),
    SEE,
    setup=V,
)
texts.case(
    "syntax errors",
    ask(
        fails("INSERT INTO", why="incomplete input"),
        fails("INSER INTO val VALUES(1)", why='near "INSER"'),
        fails("SELECT 'open", why="unrecognized token"),
        fails("SELECT * FROM val WHERE", why="incomplete input"),
        fails("SELECT 1 1", why='near "1"'),
        fails("\\", why="unrecognized token"),
    ),
    setup=V,
)
texts.case(
    "a syntax error behind a good statement",
    ask(fails("INSERT INTO val(v) VALUES('a'); nonsense", why='near "nonsense"'), SEE),
    setup=V,
)
texts.case(
    "not SQL",
    ask(
        fails("hello world", why="syntax error"),
        fails('{"a": 1}', why="unrecognized token"),
        fails("💥", why="syntax error"),
    ),
)
texts.case(
    "a NUL ends nothing quietly",
    refused(
        "INSERT INTO val(v) VALUES('a')\0; DROP TABLE val",
        why="NUL|null char|zero byte|U\\+0000|unrecognized token|embedded",
    ),
    SEE,
    setup=V,
)
texts.case(
    "a long text",
    ask("INSERT INTO val(v) VALUES('" + "x" * 200_000 + "')", "SELECT length(v) FROM val"),
    setup=V,
)
texts.case(
    "a text that is too long",
    refused("SELECT '" + "x" * (2 * MIB) + "'", why="too (big|large|long)"),
    setup=V,
)

THEMES = (texts,)
