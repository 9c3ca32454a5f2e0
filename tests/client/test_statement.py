"""What a text shows is what SQLite sees in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsqlite_client.errors import ProgrammingError
from rsqlite_client.statement import Statement, setting_of, statement_of, statements_of


@pytest.mark.parametrize(
    ("sql", "word", "is_read"),
    [
        ("SELECT 1", "SELECT", True),
        ("  values(1)", "VALUES", True),
        ("explain insert into t values(1)", "EXPLAIN", True),
        ("-- a comment\n/* another */ select 1", "SELECT", True),
        ("; select 1", "SELECT", True),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT 1", "WITH", False),
        ("pragma user_version", "PRAGMA", False),
        ("INSERT INTO t VALUES(1)", "INSERT", False),
        ("", "", False),
        ("  -- nothing", "", False),
        ("/* open", "", False),
        ("(select 1)", "", False),
    ],
)
def test_the_first_word_is_behind_comments(sql: str, word: str, is_read: bool) -> None:
    statement = Statement(sql)
    assert (statement.first_word, statement.is_read) == (word, is_read)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("?, ?", [None, None]),
        ("?2, ?1", ["?1", "?2"]),
        ("?2", [None, "?2"]),
        ("?, ?1, ?", ["?1", None]),
        (":a, @a, $a, :a", [":a", "@a", "$a"]),
        (":a, ?, :b, ?2", [":a", "?2", ":b"]),
        ("?1, :a, ?", ["?1", ":a", None]),
        ("':a', \"?\", `?`, [?], x'00'", []),
        ("'it''s ?', ?", [None]),
        ("-- ?\n ?, /* ? */ ?", [None, None]),
        ("a$b, $c", ["$c"]),
        ("a:b, 1:c", [":b", ":c"]),
        ("$a::b(c)", ["$a::b(c)"]),
        (":é", [":é"]),
        ("'open ?", []),
        ("?1 ?0001", ["?1"]),
    ],
)
def test_parameters_are_numbered_as_sqlite_does(sql: str, names: list[str | None]) -> None:
    assert Statement(f"SELECT {sql}").names == names


@pytest.mark.parametrize(
    ("sql", "has_more"),
    [
        ("select 1;", False),
        ("select 1; -- x", False),
        ("select 1; /* x", False),
        ("select 1;;", True),
        ("select 1; select 2", True),
        ("; select 1", False),
        ("select ';'", False),
        ("create trigger a after insert on t begin select 1; select 2; end", False),
        ("create trigger a after insert on t begin select 1; select 2; end;", False),
        ("create trigger a after insert on t begin select 1; end; select 1", True),
        ("create table t(a); select 1", True),
    ],
)
def test_a_second_statement_is_noticed(sql: str, has_more: bool) -> None:
    assert Statement(sql).has_more is has_more


def test_a_text_is_looked_at_once() -> None:
    assert statement_of("SELECT 1") is statement_of("SELECT 1")
    long = "SELECT " + "1 " * 10_000
    assert statement_of(long) is not statement_of(long)


def test_what_sqlite_cannot_take_is_refused() -> None:
    with pytest.raises(ProgrammingError, match="null character"):
        statement_of("SELECT \0")
    with pytest.raises(UnicodeEncodeError):
        statement_of("SELECT '\ud800'")


@pytest.mark.parametrize(
    ("sql", "setting"),
    [
        ("PRAGMA foreign_keys = ON", ("foreign_keys", True)),
        ("pragma main.Foreign_Keys(1);", ("foreign_keys", True)),
        ("PRAGMA foreign_keys = 'yes'", ("foreign_keys", True)),
        ("PRAGMA foreign_keys=0", ("foreign_keys", False)),
        ("PRAGMA foreign_keys=00", ("foreign_keys", False)),
        ("PRAGMA foreign_keys=off", ("foreign_keys", False)),
        ("PRAGMA /* x */ recursive_triggers=2", ("recursive_triggers", True)),
        ("PRAGMA foreign_keys", ("", False)),
        ("PRAGMA user_version=1", ("", False)),
        ("SELECT 'PRAGMA foreign_keys=1'", ("", False)),
    ],
)
def test_settings_of_a_connection_are_known(sql: str, setting: tuple[str, bool]) -> None:
    assert setting_of(sql) == setting
    assert Statement(sql).setting == setting[0]


def test_counters_are_found_outside_of_quotes_and_comments() -> None:
    for sql, counter in (
        ("SELECT last_insert_rowid()", "last_insert_rowid"),
        ("INSERT INTO t VALUES(CHANGES ( ))", "changes"),
        ("SELECT total_changes()", "total_changes"),
        ("SELECT 'changes()', \"changes\" -- changes()", ""),
        ("INSERT INTO changes(a) VALUES(1)", ""),
        ("CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT changes(); END", ""),
    ):
        assert Statement(sql).counter == counter
    for sql, name in (
        ("SELECT changes()", "changes()"),
        ("/* x */ select\nChanges ( ) ;", "Changes ( )"),
        ("SELECT changes() + 1", ""),
    ):
        assert Statement(sql).counter_alone == name


TRIGGER = "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; SELECT ';'; END;"


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (" ; -- a; comment\n ;", []),
        ("a; b", ["a;", " b"]),
        ("a ';'; /* ; */ b;", ["a ';';", " /* ; */ b;"]),
        (f"a;{TRIGGER}b", ["a;", TRIGGER, "b"]),
        ("CREATE TRIGGER a AFTER INSERT ON t BEGIN b; c;",) * 2,
        ("BEGIN; a; b; COMMIT;", [" a;", " b;"]),
        ("begin immediate transaction;a;commit transaction", ["a;"]),
        ("/* dump */ BEGIN TRANSACTION;\na;\nEND TRANSACTION;\n-- done\n", ["\na;"]),
        ("BEGIN;COMMIT;", []),
        ("PRAGMA foreign_keys=OFF;BEGIN;a;COMMIT;", ["PRAGMA foreign_keys=OFF;", "a;"]),
        ("PRAGMA foreign_keys=OFF;a;COMMIT;", ["PRAGMA foreign_keys=OFF;", "a;", "COMMIT;"]),
        ("PRAGMA user_version=1;BEGIN;COMMIT;", ["PRAGMA user_version=1;", "BEGIN;", "COMMIT;"]),
        ("COMMIT", ["COMMIT"]),
        ("BEGIN; a; -- COMMIT;", ["BEGIN;", " a;"]),
        ("a; COMMIT;", ["a;", " COMMIT;"]),
        ("BEGIN; a; ROLLBACK;", ["BEGIN;", " a;", " ROLLBACK;"]),
        (f"BEGIN;{TRIGGER}", ["BEGIN;", TRIGGER]),
        ("BEGIN EXCLUSIVE x; COMMIT;", ["BEGIN EXCLUSIVE x;", " COMMIT;"]),
    ],
)
def test_a_script_is_cut_and_loses_the_transaction_around_it(
    script: str, statements: list[str] | str
) -> None:
    wanted = [statements] if isinstance(statements, str) else statements
    assert statements_of(script) == wanted


PIECES = [
    "?",
    "?2",
    ":a",
    "@b",
    "$c",
    "a",
    "1",
    "'",
    '"',
    "`",
    "[",
    "]",
    "--",
    "\n",
    "/*",
    "*/",
    ",",
]


@pytest.mark.filterwarnings("ignore:.*named parameter:DeprecationWarning")
@given(st.lists(st.sampled_from([*PIECES, " ", "$", "é", "''", "x'00'", "a$b", ":"]), max_size=12))
def test_sqlite_wants_as_many_parameters_as_were_found(pieces: list[str]) -> None:
    """SQLite tells the number it wants when it is given another one."""
    sql = "SELECT " + "".join(pieces)
    found = Statement(sql)
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(sql, [1] * len(found.names))
            objection = ""
        except sqlite3.Error as error:
            objection = str(error)  # most of these texts are no SQL
    assert "bindings" not in objection, (sql, found.names)
