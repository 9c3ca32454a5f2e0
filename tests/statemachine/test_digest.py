"""Which entries carry a digest, and what it covers."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.statemachine.command import Command, decode
from rsqlite.statemachine.digest import digest_changes
from tests.statemachine.lab import Lab, ask

INSERT = "INSERT INTO t(v) VALUES(?)"


def made(tmp_path: Path, **settings: Any) -> Lab:
    lab = Lab(tmp_path, **settings)
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE plain(a, b)")
    return lab


def last(lab: Lab) -> Command:
    return decode(lab.entries[-1].data)


RISKY = [
    "INSERT INTO t(v) SELECT a FROM plain",
    "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT 1)",
    "INSERT INTO t(v) VALUES(random())",
]


@pytest.mark.parametrize("sql", RISKY)
def test_statements_at_risk_are_covered(tmp_path: Path, sql: str) -> None:
    lab = made(tmp_path, digest_sample=1_000_000)
    lab.do((INSERT, 1))
    assert last(lab).digest_from == -1
    lab.do((INSERT, 2), sql, (INSERT, 3))
    assert last(lab).digest_from == 1
    lab.close()


def test_every_so_many_entries_one_is_sampled(tmp_path: Path) -> None:
    lab = made(tmp_path, digest_sample=4)
    covered = []
    for n in range(12):
        lab.do((INSERT, n))
        covered.append(last(lab).digest_from == 0)
    assert covered.count(True) == 3
    lab.close()


def test_never_means_never(tmp_path: Path) -> None:
    lab = made(tmp_path, verify_digest="never")
    for sql in RISKY:
        lab.do(sql)
        if lab.last is not None and lab.last.data is not None:
            assert last(lab).digest_from == -1
    assert lab.leader.statistics().digests == 0
    lab.close()


def test_tables_without_a_primary_key_are_covered(tmp_path: Path) -> None:
    lab = made(tmp_path, verify_digest="always")
    lab.do("INSERT INTO plain VALUES(1, 2)")
    first = last(lab).digest
    lab.do("INSERT INTO plain VALUES(1, 3)")
    assert last(lab).digest not in (first, b"")
    lab.close()


def test_what_was_taken_back_does_not_count(tmp_path: Path) -> None:
    # Other rows touched on the leader alone, before and inside a savepoint that is rolled back.
    lab = made(tmp_path, verify_digest="always")
    lab.do((INSERT, "a"), (INSERT, "b"))
    lab.run(
        ask("UPDATE t SET v = 'z'", "nonsense", transaction=True),
        ask("INSERT INTO t(id, v) VALUES(10, 'p'), (1, 'q')"),
        ask(("UPDATE t SET v = ? WHERE id = 2", "c")),
        ask((INSERT, "x"), "UPDATE t SET v = 'y'", "nonsense", transaction=True),
    )
    assert last(lab).digest_from == 0
    assert lab.rows("SELECT v FROM t") == [("a",), ("c",)]
    lab.close()


def test_a_session_that_began_inside_a_savepoint_ends_with_it(tmp_path: Path) -> None:
    lab = made(tmp_path, digest_sample=1_000_000)
    lab.do((INSERT, "a"))
    lab.run(
        ask((INSERT, "x"), "UPDATE t SET v = (SELECT 'y')", "nonsense", transaction=True),
        ask("INSERT INTO t(v) SELECT v FROM t"),
        ask((INSERT, "z")),
    )
    assert last(lab).digest_from == 0
    assert lab.rows("SELECT v FROM t") == [("a",), ("a",), ("z",)]
    lab.close()


def test_shadow_tables_are_left_out(tmp_path: Path) -> None:
    # They depend on transaction boundaries: the replica applies two entries in one transaction.
    lab = made(tmp_path, verify_digest="always")
    lab.do("CREATE VIRTUAL TABLE f USING fts5(body)")
    late = lab.open("late")
    for n in range(3):
        lab.do(("INSERT INTO f VALUES(?)", f"word{n} same"))
    lab.apply(late, lab.entries)
    answer = lab.query(ask("SELECT count(*) FROM f('same')"), late)
    assert answer.results[0].rows == [(3,)]
    late.close()
    lab.close()


def test_a_schema_change_ends_what_is_covered(tmp_path: Path) -> None:
    lab = made(tmp_path, verify_digest="always")
    lab.do((INSERT, 1), "ALTER TABLE t ADD COLUMN w", "INSERT INTO t(w) SELECT 5", (INSERT, 2))
    assert last(lab).digest_from == 2
    lab.close()


def test_changes_that_take_too_much_memory_carry_no_digest(tmp_path: Path) -> None:
    lab = made(tmp_path, verify_digest="always", digest_memory_max=64 * 1024)
    lab.do((INSERT, "x"))
    assert last(lab).digest_from == 0
    lab.do(*[(INSERT, "x" * 100) for _ in range(1000)])
    assert last(lab).digest_from == -1
    lab.close()


def changeset(*changes: tuple[str, Any]) -> bytes:
    """Of rows that are inserted and changed in a table of ids and values."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'a')")
    session = apsw.Session(connection, "main")
    session.attach()
    for sql, value in changes:
        connection.execute(sql, (value,))
    return session.changeset()


LONG = "x" * 100_000


@pytest.mark.parametrize("form", [str, str.encode])
def test_each_byte_of_a_long_value_counts(form: Any) -> None:
    insert, update = "INSERT INTO t VALUES(2, ?)", "UPDATE t SET v = ? WHERE id = 1"
    values = [LONG, LONG[:-1] + "y", LONG[:-1], "y" + LONG[1:]]
    digests = [digest_changes(changeset((insert, form(one)))) for one in values]
    digests.append(digest_changes(changeset((insert, "2"), (update, form(LONG)))))
    assert len(set(digests)) == len(digests)
    one, other = (insert, form(LONG)), (update, form(LONG))
    assert digest_changes(changeset(one, other)) == digest_changes(changeset(other, one))


def test_text_and_a_blob_of_the_same_bytes_differ() -> None:
    insert = "INSERT INTO t VALUES(2, ?)"
    forms = (LONG, LONG.encode())
    one, other = (digest_changes(changeset((insert, form))) for form in forms)
    assert one != other


def test_a_long_value_is_not_written_out() -> None:
    changes = changeset(("INSERT INTO t VALUES(2, ?)", bytes(8_000_000)))
    tracemalloc.start()
    try:
        digest_changes(changes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
