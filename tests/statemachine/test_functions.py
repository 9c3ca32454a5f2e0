"""Seeded chance, and counters from a known state."""

from __future__ import annotations

import apsw
import pytest

from rsqlite.statemachine.command import decode
from rsqlite.statemachine.functions import Counters, Entropy, install
from tests.statemachine.lab import Lab, ask


def test_a_stream_repeats_from_its_seed() -> None:
    leader, replica = Entropy(1000), Entropy(1000)
    leader.lead(7)
    values = [leader.random() for _ in range(200)] + [leader.randomblob(700)]
    seed = leader.seed
    replica.follow()
    replica.open(seed)
    assert [replica.random() for _ in range(200)] + [replica.randomblob(700)] == values
    replica.open(seed)
    assert replica.random() == values[0]


def test_each_statement_has_a_stream_of_its_own() -> None:
    entropy = Entropy(1000)
    entropy.lead(7)
    first = entropy.random()
    entropy.seed = None
    second = entropy.random()
    assert first != second
    entropy.lead(7)
    assert entropy.random() == first
    entropy.lead(8)
    assert entropy.random() != first


def test_drawing_what_the_leader_did_not_draw_is_an_error() -> None:
    entropy = Entropy(1000)
    entropy.follow()
    entropy.open(None)
    with pytest.raises(apsw.SQLError, match="leader"):
        entropy.random()


def test_random_is_spread_over_64_bits_and_abs_never_fails() -> None:
    entropy = Entropy(1000)
    entropy.lead(1)
    values = [entropy.random() for _ in range(5000)]
    assert len(set(values)) == 5000
    assert min(values) < -(2**62)
    assert max(values) > 2**62
    entropy._take = lambda count: b"\x00" * 7 + b"\x80"  # type: ignore[method-assign]
    assert entropy.random() == 0


@pytest.mark.parametrize(
    ("sql", "length"),
    [
        ("5", 5),
        ("0", 1),
        ("-3", 1),
        ("NULL", 1),
        ("'12abc'", 12),
        ("2.9", 2),
        ("x'35'", 5),
        ("''", 1),
    ],
)
def test_randomblob_takes_what_sqlite_takes(sql: str, length: int) -> None:
    connection = apsw.Connection(":memory:")
    entropy = Entropy(1000)
    entropy.lead(1)
    plain = connection.execute(f"SELECT length(randomblob({sql}))").fetchall()
    install(connection, entropy, Counters(connection))
    assert connection.execute(f"SELECT length(randomblob({sql}))").fetchall() == plain
    assert plain == [(length,)]


def test_total_changes_counts_from_where_it_was_started() -> None:
    connection = apsw.Connection(":memory:")
    counters = Counters(connection)
    install(connection, Entropy(10), counters)
    connection.execute("CREATE TABLE t(a)")
    connection.execute("INSERT INTO t VALUES(1),(2)")
    counters.start()
    assert connection.execute("SELECT total_changes()").fetchall() == [(0,)]
    connection.execute("INSERT INTO t VALUES(3)")
    assert connection.execute("SELECT total_changes()").fetchall() == [(1,)]
    counters.start(40)
    assert connection.execute("SELECT total_changes()").fetchall() == [(40,)]


def test_random_in_defaults_triggers_and_updates_is_alike_on_all_nodes(lab: Lab) -> None:
    lab.do(
        "CREATE TABLE t(a, r DEFAULT (random()), b DEFAULT (hex(randomblob(8))))",
        "CREATE TABLE log(r)",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES(random()); END",
    )
    lab.run(
        ask("INSERT INTO t(a) VALUES(1),(2)"),
        ask("SELECT random()"),
        ask("INSERT INTO t(a) SELECT a FROM t ORDER BY random()"),
        ask("UPDATE t SET a = random() % 1000"),
    )
    assert len(set(lab.rows("SELECT r FROM t UNION ALL SELECT r FROM log"))) == 8
    lab.rows("SELECT a, r, b FROM t")


def test_a_seed_is_in_the_entry_only_for_statements_that_drew(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.do("INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(random())", "INSERT INTO t VALUES(2)")
    assert list(decode(lab.entries[-1].data).streams) == [1]


def test_reads_have_real_chance(lab: Lab) -> None:
    answers = {lab.query(ask("SELECT random()")).results[0].rows[0] for _ in range(5)}
    assert len(answers) == 5
