"""The hash of a database's content: equal for equal contents, whatever the file looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import DamagedDatabase
from rsqlite.statemachine import StateMachine
from rsqlite.statemachine.background import BrokenOff
from rsqlite.statemachine.content import Content, hash_content
from rsqlite.statemachine.vfs import load_checksum_vfs
from tests.statemachine.lab import SERIES, Lab, ask

SCHEMA = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w TEXT DEFAULT 'x')",
    "CREATE TABLE keyed(a TEXT, b INTEGER, c, PRIMARY KEY(b DESC, a)) WITHOUT ROWID",
    'CREATE TABLE "odd ""name"(rowid, v, sum AS (v + 1))',
    "CREATE TABLE hidden(rowid, _rowid_, oid)",
    "CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE INDEX i ON t(v)",
    "CREATE VIRTUAL TABLE words USING fts5(v)",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)",
    "CREATE VIEW seen AS SELECT v FROM t",
    f"INSERT INTO t(v) {SERIES.format(500)} SELECT i FROM c",
    "INSERT INTO keyed VALUES('a', 1, 1.5), ('b', 2, x'00ff'), ('a', 2, NULL)",
    'INSERT INTO "odd ""name" VALUES(5, 1), (6, 2)',
    "INSERT INTO hidden VALUES(1, 2, 3), (1, 2, 3)",
    "INSERT INTO counted(v) VALUES('a'), ('b')",
    "INSERT INTO words VALUES('one two'), ('three')",
    "INSERT INTO boxes VALUES(1, 0.5, 1.5)",
)


def content(lab: Lab, machine: StateMachine) -> Content:
    found: list[Any] = []
    machine.hash_content(lambda *answer: found.append(answer))
    lab.loop.run()
    ((content, error),) = found
    if error is not None:
        raise error
    assert isinstance(content, Content)
    return content


@pytest.fixture
def filled(lab: Lab) -> Lab:
    for sql in SCHEMA:
        lab.do(sql)
    return lab


def test_replicas_have_the_same_and_every_table_is_in_it(filled: Lab) -> None:
    own = content(filled, filled.leader)
    assert own == content(filled, filled.replica)
    assert own.problems == []
    assert set(own.tables) == {
        *("t", "keyed", 'odd "name', "hidden", "counted", "words", "boxes", "sqlite_sequence")
    }


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("UPDATE t SET v = 7.0 WHERE v = 7", "t"),  # 7 and 7.0 are equal for SQL
        ("UPDATE t SET v = '7' WHERE v = 7", "t"),
        ("UPDATE t SET w = NULL WHERE id = 500", "t"),
        ("UPDATE t SET id = 1000 WHERE id = 500", "t"),
        ("DELETE FROM keyed WHERE a = 'b'", "keyed"),
        ("UPDATE keyed SET c = x'00fe' WHERE a = 'b'", "keyed"),
        ('UPDATE "odd ""name" SET v = v + 1', 'odd "name'),
        ('UPDATE "odd ""name" SET _rowid_ = 9 WHERE v = 1', 'odd "name'),
        ("UPDATE hidden SET oid = 4", "hidden"),
        ("INSERT INTO words VALUES('four')", "words"),
        ("UPDATE boxes SET x1 = 2.5", "boxes"),
        ("UPDATE sqlite_sequence SET seq = 9", "sqlite_sequence"),
        ("DROP VIEW seen", None),
        ("DROP INDEX i", None),
        ("CREATE TABLE empty(v)", "empty"),
        ("PRAGMA user_version = 5", None),
    ],
)
def test_what_is_changed_behind_a_replica_changes_it(
    filled: Lab, sql: str, table: str | None
) -> None:
    before = content(filled, filled.replica)
    filled.replica._writer.engine(sql)
    after = content(filled, filled.replica)
    assert after.digest != before.digest
    names = {*before.tables, *after.tables}
    differing = {name for name in names if before.tables.get(name) != after.tables.get(name)}
    assert differing == ({table} if table else set())


def test_where_pages_lie_does_not_matter(filled: Lab, tmp_path: Path) -> None:
    filled.do("DELETE FROM t WHERE id % 3 = 0", "ANALYZE")
    before = content(filled, filled.replica)
    filled.replica.close()
    connection = apsw.Connection(filled.replica.path, vfs=load_checksum_vfs())
    connection.execute("VACUUM")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.close()
    filled.replica = filled.open("replica")
    assert content(filled, filled.replica) == before


def test_a_snapshot_is_hashed_as_it_was_when_it_began(filled: Lab) -> None:
    before = content(filled, filled.leader)
    found: list[Any] = []
    filled.leader.hash_content(lambda *answer: found.append(answer))
    filled.leader._writer.engine("DELETE FROM t")
    filled.loop.run()
    assert found == [(before, None)]


def test_an_index_that_lacks_a_row_is_told(filled: Lab) -> None:
    filled.replica.close()
    connection = apsw.Connection(filled.replica.path, vfs=load_checksum_vfs())
    connection.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)
    connection.execute("UPDATE sqlite_schema SET sql = sql || ' WHERE v < 0' WHERE name = 'i'")
    connection.execute("PRAGMA writable_schema = RESET")
    connection.execute("DELETE FROM t WHERE id = 3")
    connection.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)
    connection.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t(v)' WHERE name = 'i'")
    connection.close()
    filled.replica = filled.open("replica")
    found = content(filled, filled.replica)
    assert any("index i" in problem for problem in found.problems), found.problems


def test_a_damaged_page_is_damage(filled: Lab) -> None:
    filled.replica.close()
    with open(filled.replica.path, "r+b") as file:
        file.seek(3 * 4096 + 2000)
        file.write(b"\xff" * 8)
    filled.replica = filled.open("replica")
    with pytest.raises(DamagedDatabase):
        content(filled, filled.replica)
    assert isinstance(filled.replica.fault, DamagedDatabase)


def test_what_it_loads_is_not_within_reach_of_users(filled: Lab) -> None:
    content(filled, filled.leader)
    answer = filled.query(ask("SELECT sha3_query('SELECT 1')"), filled.leader)
    assert "no such function" in str(answer.results[0])


def test_a_hash_that_was_broken_off_is_none(filled: Lab) -> None:
    """Not that of the rows that came before."""
    found: list[Any] = []
    filled.leader.hash_content(lambda *answer: found.append(answer))
    filled.leader.hash_content(lambda *answer: found.append(answer))  # instead of the first
    filled.loop.run()
    assert isinstance(found[0][1], BrokenOff)
    assert found[1][1] is None


def test_a_query_that_is_interrupted_within_its_hash_is_noticed(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "a.db"))
    apsw.sqlite_extra.load(connection, "shathree")
    connection.execute("CREATE TABLE t(v)")
    connection.execute(f"INSERT INTO t {SERIES.format(10_000)} SELECT i FROM c")
    looks = iter(range(10**9))
    connection.set_progress_handler(lambda: next(looks) > 5, 1000)
    with pytest.raises(BrokenOff):
        hash_content(connection, lambda: next(looks) > 5)
