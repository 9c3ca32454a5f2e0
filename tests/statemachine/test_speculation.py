"""Strangers in one transaction: each gets what it would have got alone (design 4, 5.2)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import RequestTooLarge, Unavailable
from rsqlite.request import Failure, Outcome, RequestKind, Rows, Write
from rsqlite.statemachine import attempt
from rsqlite.statemachine.command import decode
from tests.statemachine.lab import Lab, ask

INSERT = "INSERT INTO t(v) VALUES(?)"
RUNAWAY = (
    "INSERT INTO t(v) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c)"
    " SELECT i FROM c"
)


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)")


def insert(value: Any) -> Any:
    return ask((INSERT, value))


def values(lab: Lab) -> list[Any]:
    return [value for (value,) in lab.rows("SELECT v FROM t ORDER BY id")]


def logged(lab: Lab) -> list[str]:
    """The texts of the last entry, statement by statement."""
    command = decode(lab.entries[-1].data)
    places = command.texts or [0] * command.statement_count
    return [command.sqls[place] for place in places]


def test_a_batch_is_one_entry_and_one_transaction(lab: Lab) -> None:
    outcomes = lab.run(insert("a"), insert("b"), insert("c"))
    assert outcomes == [Outcome([Write(n, 1)], 0, True) for n in (1, 2, 3)]
    assert len(lab.entries) == 2
    assert values(lab) == ["a", "b", "c"]


def test_only_what_took_effect_is_logged(lab: Lab) -> None:
    outcomes = lab.run(insert("a"), insert("a"), ask("SELECT 1"), ask("nonsense"), insert("b"))
    assert [outcome.is_logged for outcome in outcomes] == [True, False, False, False, True]
    assert logged(lab) == [INSERT, INSERT]


def test_a_batch_without_effect_leaves_no_entry_and_no_transaction(lab: Lab) -> None:
    batch = lab.leader.speculate([ask("SELECT * FROM t"), ask("nonsense")])
    assert batch.data is None
    assert not lab.leader.is_speculating
    assert all(isinstance(outcome, Outcome) for outcome in batch.outcomes)


def test_statements_that_change_0_rows_are_logged_all_the_same(lab: Lab) -> None:
    # INSERT OR IGNORE with a trigger, DDL and user_version have effects and change no row.
    lab.do("CREATE TABLE seen(v)")
    lab.do("CREATE TRIGGER s BEFORE INSERT ON t BEGIN INSERT INTO seen VALUES(new.v); END")
    lab.run(insert("a"))
    lab.do("INSERT OR IGNORE INTO t(v) VALUES('a')", "PRAGMA user_version = 7")
    assert lab.rows("SELECT count(*) FROM seen") == [(2,)]
    assert lab.rows("PRAGMA user_version") == [(7,)]


@pytest.mark.parametrize(
    "culprit",
    [
        ask("INSERT OR ROLLBACK INTO t(v) VALUES('a')"),
        ask("INSERT INTO t(v) VALUES('stop')"),
        ask(("INSERT INTO t(v) VALUES(?)", "x"), "INSERT OR ROLLBACK INTO t(v) VALUES('x')"),
    ],
)
def test_a_statement_that_ends_the_transaction_ends_nobody_elses(lab: Lab, culprit: Any) -> None:
    lab.do(
        "CREATE TRIGGER stop BEFORE INSERT ON t WHEN new.v = 'stop'"
        " BEGIN SELECT RAISE(ROLLBACK, 'stopped'); END"
    )
    outcomes = lab.run(insert("a"), culprit, insert("b"))
    assert isinstance(outcomes[1].results[-1], Failure)
    kept = [] if len(culprit.sqls) == 1 else ["x"]
    assert values(lab) == ["a", *kept, "b"]
    assert outcomes[2].results == [Write(2 + len(kept), 1)]


def test_in_transaction_is_checked_after_an_error(lab: Lab) -> None:
    # Unnoticed, the next INSERT would run in autocommit: visible, and on no other node.
    batch = lab.leader.speculate(
        [insert("a"), ask("INSERT OR ROLLBACK INTO t(v) VALUES('a')"), insert("b")]
    )
    assert batch.data is not None
    seen = lab.query(ask("SELECT count(*) FROM t", kind=RequestKind.QUERY))
    assert seen.results[0].rows == [(0,)]
    lab.leader.rollback(lambda: None)


def test_a_transaction_that_ends_everybodys_keeps_its_own_answer(lab: Lab) -> None:
    outcomes = lab.run(
        insert("a"),
        ask((INSERT, "x"), "INSERT OR ROLLBACK INTO t(v) VALUES('a')", transaction=True),
        insert("b"),
    )
    first, second = outcomes[1].results
    assert first == Write(2, 1)
    assert isinstance(second, Failure)
    assert values(lab) == ["a", "b"]


def test_a_rerun_has_the_same_time_and_seeds(lab: Lab) -> None:
    lab.do("CREATE TABLE dice(n, at)")
    lab.run(
        ask("INSERT INTO dice VALUES(random(), julianday('now'))"),
        insert("a"),
        ask("INSERT OR ROLLBACK INTO t(v) VALUES('a')"),
        ask("INSERT INTO dice VALUES(random(), julianday('now'))"),
    )
    assert len(set(lab.rows("SELECT n FROM dice"))) == 2
    assert len(set(lab.rows("SELECT at FROM dice"))) == 1


def test_many_culprits_do_not_make_the_others_pay_for_ever(lab: Lab) -> None:
    lab.run(insert("a"))
    bad = [ask("INSERT OR ROLLBACK INTO t(v) VALUES('a')") for _ in range(40)]
    outcomes = lab.run(*bad, insert("b"))
    assert all(isinstance(outcome.results[0], Failure) for outcome in outcomes[:-1])
    assert values(lab) == ["a", "b"]


@pytest.mark.parametrize("transaction", [False, True])
def test_or_fail_keeps_the_rows_before_and_is_logged_with_its_error(
    lab: Lab, transaction: bool
) -> None:
    lab.run(insert("x"))
    (outcome,) = lab.run(
        ask("INSERT OR FAIL INTO t(v) VALUES('p'),('q'),('x'),('r')", transaction=transaction)
    )
    assert isinstance(outcome.results[0], Failure)
    if transaction:
        assert values(lab) == ["x"]
    else:
        assert values(lab) == ["x", "p", "q"]
        assert list(decode(lab.entries[-1].data).errors.values()) == [outcome.results[0].code]


def test_raise_fail_keeps_the_rows_before(lab: Lab) -> None:
    lab.do(
        "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.v = 'no' BEGIN SELECT RAISE(FAIL, 'no'); END"
    )
    lab.run(insert("x"), ask("INSERT INTO t(v) VALUES('p'),('no'),('r')"), insert("y"))
    assert values(lab) == ["x", "p", "y"]


def test_a_transaction_is_all_or_nothing(lab: Lab) -> None:
    outcomes = lab.run(
        insert("a"),
        ask((INSERT, "x"), (INSERT, "a"), (INSERT, "y"), transaction=True),
        ask((INSERT, "p"), (INSERT, "q"), transaction=True),
    )
    assert [type(result) for result in outcomes[1].results] == [Write, Failure]
    assert not outcomes[1].is_logged
    assert values(lab) == ["a", "p", "q"]


def test_ddl_in_a_transaction_is_taken_back(lab: Lab) -> None:
    lab.do("CREATE TABLE u(a)", "INSERT INTO u VALUES(1)", "nonsense", transaction=True)
    assert lab.rows("SELECT count(*) FROM sqlite_schema WHERE name = 'u'") == [(0,)]
    (result,) = lab.do("INSERT INTO u VALUES(1)")
    assert isinstance(result, Failure)


def test_deferred_foreign_keys_are_checked_before_the_log(lab: Lab) -> None:
    lab.do("CREATE TABLE p(id INTEGER PRIMARY KEY)")
    lab.do("CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
    on = "PRAGMA foreign_keys = ON"
    assert isinstance(lab.do(on, "INSERT INTO c VALUES(1)")[1], Failure)
    lab.do("PRAGMA recursive_triggers = 1")
    assert lab.rows("SELECT count(*) FROM c") == [(0,)]


def test_deferred_foreign_keys_with_the_setting_fk(tmp_path: Path) -> None:
    lab = Lab(tmp_path, fk=True)
    lab.do("CREATE TABLE p(id INTEGER PRIMARY KEY)")
    lab.do("CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
    outcomes = lab.run(
        ask("INSERT INTO p VALUES(1)"),
        ask("INSERT INTO c VALUES(99)"),
        ask("INSERT INTO c VALUES(2)", "INSERT INTO p VALUES(2)", transaction=True),
        ask("INSERT INTO c VALUES(3)", "INSERT INTO p VALUES(4)", transaction=True),
        ask("INSERT INTO c VALUES(1)"),
    )
    assert [isinstance(o.results[-1], Failure) for o in outcomes] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert lab.rows("SELECT p FROM c ORDER BY p") == [(1,), (2,)]
    lab.close()


def test_session_settings_hold_for_their_request_alone(lab: Lab) -> None:
    lab.do("CREATE TABLE p(id INTEGER PRIMARY KEY)")
    lab.do("CREATE TABLE c(p REFERENCES p)")
    child = "INSERT INTO c VALUES(99)"
    outcomes = lab.run(
        ask(child), ask("PRAGMA foreign_keys = ON", child), ask(child), ask("PRAGMA foreign_keys")
    )
    assert isinstance(outcomes[1].results[1], Failure)
    assert outcomes[3].results[0].rows == [(0,)]
    assert lab.rows("SELECT count(*) FROM c") == [(2,)]
    assert lab.rows("PRAGMA foreign_keys") == [(0,)]


def test_a_setting_in_the_middle_of_a_request_is_refused(lab: Lab) -> None:
    results = lab.do("SELECT 1", "PRAGMA foreign_keys = ON")
    assert "before its other statements" in results[1].message  # type: ignore[union-attr]


def test_rowid_2_63_1_is_refused_also_in_triggers(lab: Lab) -> None:
    # After it SQLite picks rowids from a generator of its own.
    lab.do("CREATE TABLE far(id INTEGER PRIMARY KEY)")
    lab.do(
        "CREATE TRIGGER f AFTER INSERT ON t WHEN new.v = 'far'"
        f" BEGIN INSERT INTO far VALUES({2**63 - 1}); END"
    )
    outcomes = lab.run(insert("a"), insert("far"), insert("b"))
    assert "reserved" in outcomes[1].results[0].message
    assert lab.rows("SELECT count(*) FROM far") == [(0,)]
    assert values(lab) == ["a", "b"]


def test_a_request_over_the_step_budget_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    lab = Lab(tmp_path, write_steps_max=20_000)
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    many = f"{RUNAWAY} LIMIT 20000"
    batch = lab.leader.speculate([insert("a"), ask(many), insert("b")])
    assert batch.over_budget == [1]
    assert batch.outcomes[1] is None
    lab.finish(batch)
    outcome = lab.run_long(ask(many))
    assert outcome.results == [Write(20_002, 20_000)]
    assert decode(lab.entries[-1].data).is_long
    assert lab.rows("SELECT count(*) FROM t") == [(20_002,)]
    assert lab.leader.statistics().long_writes == 1
    lab.close()


def test_a_value_too_long_for_the_loop_is_written_in_a_thread(lab: Lab) -> None:
    # One with a few hundred such rows takes seconds, in fewer steps than anybody counts.
    size = 1_200_000
    writes = [
        ask((INSERT, b"x" * size)),
        ask((INSERT, size), f"UPDATE t SET v = zeroblob({size}) WHERE v = {size}"),
        ask(f"INSERT INTO t(v) SELECT hex(zeroblob({size // 2}))"),
    ]
    batch = lab.leader.speculate([insert("a"), *writes, insert("b")])
    assert batch.over_budget == [1, 2, 3]
    lab.finish(batch)
    for write in writes:
        assert not any(isinstance(result, Failure) for result in lab.run_long(write).results)
    # Who only meets one goes to a thread as well, and the schema does not stand in the way.
    found = lab.leader.speculate([ask("UPDATE t SET v = substr(v, 2) WHERE length(v) > 9")])
    assert found.over_budget == [0]
    assert lab.rows("SELECT length(v) FROM t") == [(1,), (1,), (size,), (size,), (size,)]
    lab.do(f"CREATE VIEW long AS SELECT '{'x' * 1_000_000}' AS a")
    assert lab.rows("SELECT length(a) FROM long") == [(1_000_000,)]
    lab.do("CREATE TABLE u(a)", "nonsense", transaction=True)
    lab.do((INSERT, "after"))


@pytest.mark.parametrize("module", ["fts4", "fts5"])
def test_a_full_text_table_takes_long_values_on_the_loop(lab: Lab, module: str) -> None:
    # FTS4 would keep as NULL what it may not bind.
    lab.do(f"CREATE VIRTUAL TABLE f USING {module}(x)", ("INSERT INTO f VALUES(?)", "a " * 900_000))
    lab.do(("INSERT INTO f VALUES(?)", "b " * 900_000))
    lab.do("INSERT INTO f(f) VALUES('integrity-check')")
    assert lab.rows("SELECT length(x) FROM f WHERE f MATCH 'b'") == [(1_800_000,)]


def test_a_request_of_too_many_statements_runs_in_a_thread(tmp_path: Path) -> None:
    lab = Lab(tmp_path, write_statements_max=10)
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    batch = lab.leader.speculate([ask(*[(INSERT, n) for n in range(11)])])
    assert batch.over_budget == [0]
    assert batch.data is None
    lab.close()


def test_an_entry_has_one_size_cap(tmp_path: Path) -> None:
    lab = Lab(tmp_path, entry_bytes_max=100_000)
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    outcomes = lab.run(insert("x" * 60_000), insert("y" * 60_000), insert("z" * 120_000))
    assert [type(outcome) for outcome in outcomes] == [Outcome, Outcome, RequestTooLarge]
    assert lab.rows("SELECT length(v) FROM t") == [(60_000,), (60_000,)]
    lab.close()


def test_a_full_disk_is_found_before_the_log(lab: Lab) -> None:
    writer = lab.leader._writer
    pages = writer.engine("PRAGMA page_count")[0][0]
    writer.engine(f"PRAGMA max_page_count = {pages + 2}")
    outcomes = lab.run(insert("a"), insert("x" * 100_000), insert("b"))
    failure = outcomes[1].results[0]
    assert failure.name == "SQLITE_FULL"
    assert values(lab) == ["a", "b"]


def test_a_disk_that_fills_up_at_the_flush_refuses_the_batch(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """The connection, with a disk that has no room for its pages."""

        def __init__(self, connection: apsw.Connection) -> None:
            self._connection = connection

        def cache_flush(self) -> None:
            raise apsw.FullError("database or disk is full")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    init = attempt.Attempt.__init__

    def with_full_disk(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self.connection = Full(self.connection)

    monkeypatch.setattr(attempt.Attempt, "__init__", with_full_disk)
    batch = lab.leader.speculate([insert("a")])
    assert isinstance(batch.outcomes[0], Unavailable)
    assert batch.data is None
    assert not lab.leader.is_speculating


def test_an_answer_that_is_too_large_takes_its_write_back(tmp_path: Path) -> None:
    lab = Lab(tmp_path, rows_max=100)
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    outcomes = lab.run(
        insert("a"), ask(f"{RUNAWAY} LIMIT 150 RETURNING id"), insert("b"), ask("SELECT * FROM t")
    )
    assert "too large" in outcomes[1].results[0].message
    assert lab.rows("SELECT count(*) FROM t") == [(2,)]
    lab.close()


def test_time_in_the_log_never_goes_back(lab: Lab) -> None:
    lab.do("CREATE TABLE clock(at)")
    now = "INSERT INTO clock VALUES(strftime('%s', 'now'))"
    lab.do(now)
    lab.loop._wall_offset -= 10_000.0
    lab.do(now)
    (first,), (second,) = lab.rows("SELECT at FROM clock ORDER BY rowid")
    assert first == second


def test_planner_statistics_of_a_rolled_back_analyze_are_forgotten(lab: Lab) -> None:
    lab.do("CREATE INDEX i ON t(v)", f"{RUNAWAY} LIMIT 100")
    lab.do("ANALYZE", "nonsense", transaction=True)
    assert lab.rows("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'") == [(0,)]
    lab.do("ANALYZE")
    assert lab.rows("SELECT tbl FROM sqlite_stat1 GROUP BY 1") == [("t",)]


def test_a_read_inside_a_mixed_request_sees_what_came_before_it(lab: Lab) -> None:
    _, result = lab.do((INSERT, "a"), "SELECT v FROM t")
    assert isinstance(result, Rows)
    assert result.rows == [("a",)]


def test_rollback_leaves_nothing(lab: Lab) -> None:
    batch = lab.leader.speculate([insert("a"), ask("CREATE TABLE u(a)")])
    assert batch.data is not None
    called: list[bool] = []
    lab.leader.rollback(lambda: called.append(True))
    assert called == [True]
    assert not lab.leader.is_speculating
    assert values(lab) == []
    lab.run(insert("b"))
    assert values(lab) == ["b"]


def test_slow_steps_are_over_the_budget_as_well(lab: Lab) -> None:
    lab.do("CREATE TABLE numbers(a)")
    now = itertools.count(0.0, 0.04)
    lab.leader._writer.clock = lambda: next(now)
    steps = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT {})"
    many = f"INSERT INTO numbers {steps.format(2_000)} SELECT i FROM c"
    few = f"INSERT INTO numbers {steps.format(80)} SELECT i FROM c"
    batch = lab.leader.speculate([ask(few), ask(many), ask(few), ask(few), ask(few)])
    assert batch.over_budget == [1], "each request has its own time"
    lab.finish(batch)


@pytest.mark.parametrize("sql", ["INSERT INTO t(v) VALUES(?)", "UPDATE t SET v = ? WHERE id = 1"])
def test_a_batch_takes_no_more_requests_than_the_loop_has_time_for(lab: Lab, sql: str) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES(1, 0)")
    clock = iter(range(1_000_000))
    # A hundredth of a second passes whenever somebody looks.
    lab.loop.monotonic = lambda: next(clock) / 100  # type: ignore[method-assign]
    requests = [ask((sql, number)) for number in range(2_000)]
    batch = lab.leader.speculate(requests)
    taken = sum(outcome is not None for outcome in batch.outcomes)
    assert 0 < taken < 1_000
    assert all(outcome is not None for outcome in batch.outcomes[:taken])
    lab.finish(batch)
    # Those that were left come next, in order; what was slow here may be slow on a replica.
    assert lab.entries[-1].index == lab.replica.applied_index
    assert decode(lab.entries[-1].data).is_long
    assert all(isinstance(outcome, Outcome) for outcome in lab.run(*requests[taken : taken + 50]))


def test_a_replica_applies_no_more_at_once_than_the_loop_has_time_for(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    replica = lab.open("third", seed=3)
    for number in range(100):
        lab.run(ask(("INSERT INTO t(v) VALUES(?)", number)))
    clock = iter(range(1_000_000))
    lab.loop.monotonic = lambda: next(clock) / 100  # type: ignore[method-assign]
    turns = 0
    while replica.applied_index < len(lab.entries):
        before = replica.applied_index
        ended: list[object] = []
        replica.apply(lab.entries[before : before + 60], ended.append)
        assert ended == [None]
        assert before < replica.applied_index <= before + 30
        turns += 1
    assert turns > 3
    replica.close()


def test_requests_of_many_steps_each_do_not_add_up(lab: Lab) -> None:
    """Each is within its own budget; SQLite asks the clock, for nobody looks between them."""
    lab.do(
        "CREATE TABLE many(id INTEGER PRIMARY KEY, v)",
        "INSERT INTO many WITH RECURSIVE q(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM q LIMIT 900)"
        " SELECT i, 0 FROM q",
    )
    assert lab.rows("SELECT count(*) FROM many") == [(900,)]
    clock = iter(range(1_000_000))
    now = lambda: next(clock) / 1000  # noqa: E731 - a clock
    lab.loop.monotonic = now  # type: ignore[method-assign]
    lab.leader._writer.clock = now
    requests = [ask(("UPDATE many SET v = v + ?", 1)) for _ in range(30)]
    batch = lab.leader.speculate(requests)
    taken = sum(outcome is not None for outcome in batch.outcomes)
    assert 0 < taken < 20
    lab.finish(batch)


def test_a_request_of_several_statements_has_the_loops_time_for_itself(lab: Lab) -> None:
    """What came before it in the batch is not its fault: it was rolled back with all of them, and
    sent to a thread."""
    clock = iter(range(1_000_000))
    lab.loop.monotonic = lambda: next(clock) / 100  # type: ignore[method-assign]
    requests = [ask((INSERT, n), "SELECT 1", (INSERT, -n - 1), "SELECT 2") for n in range(60)]
    left, batches = requests, 0
    while left:
        batch = lab.leader.speculate(left)
        assert batch.over_budget == []
        taken = sum(outcome is not None for outcome in batch.outcomes)
        assert taken > 0
        lab.finish(batch)
        left = left[taken:]
        batches += 1
    assert 2 < batches < 60
    assert lab.rows("SELECT count(*) FROM t") == [(120,)]


def test_a_batch_that_ends_late_with_a_long_request_gives_all_others_back(lab: Lab) -> None:
    now = itertools.count(0.0, 0.03)
    lab.leader._writer.clock = lambda: next(now)
    lab.loop.monotonic = lambda: next(now)  # type: ignore[method-assign]
    many = f"{RUNAWAY} LIMIT 3000"
    batch = lab.leader.speculate([insert("a"), ask(many), insert("b")])
    assert (batch.outcomes, batch.over_budget, batch.data) == ([None] * 3, [1], None)
    assert not lab.leader.is_speculating


def test_a_request_with_a_time_of_its_own_is_alone_in_its_batch(lab: Lab) -> None:
    # Run again it might end otherwise, and with it what others were told behind it.
    timed = insert("x")
    timed.db_timeout_s = 1.0
    batch = lab.leader.speculate([timed, insert("y")])
    assert [outcome is not None for outcome in batch.outcomes] == [True, False]
    lab.finish(batch)
    batch = lab.leader.speculate([insert("a"), insert("b"), timed, insert("c")])
    assert [outcome is not None for outcome in batch.outcomes] == [True, True, False, False]
    lab.finish(batch)
