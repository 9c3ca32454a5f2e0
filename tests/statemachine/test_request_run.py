"""Every statement starts from a known state (design 5.1), and a text may hold several."""

from __future__ import annotations

from typing import Any

import pytest

from rsqlite.request import Failure, RequestKind, Rows, Write
from rsqlite.statemachine.command import decode
from tests.statemachine.lab import Lab, ask

COUNT = "SELECT changes(), last_insert_rowid(), total_changes()"
NOTE = "INSERT INTO seen SELECT last_insert_rowid(), changes(), total_changes()"


@pytest.fixture(autouse=True)
def tables(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)", "CREATE TABLE seen(r, c, t)")


def seen(lab: Lab) -> list[Any]:
    return lab.rows("SELECT r, c, t FROM seen ORDER BY rowid")


def test_counters_begin_at_0_in_each_request(lab: Lab) -> None:
    outcomes = lab.run(ask("INSERT INTO t(v) VALUES('a'),('b')"), ask(COUNT), ask(NOTE))
    assert outcomes[1].results[0].rows == [(0, 0, 0)]
    assert seen(lab) == [(0, 0, 0)]


def test_what_a_failed_statement_left_behind_is_the_same_on_a_replica(lab: Lab) -> None:
    # The replica never runs the failed statement; the entry says where the counters stood.
    lab.do("INSERT INTO t VALUES(1, 'x')")
    lab.do(
        "INSERT INTO t(v) VALUES('a'),('b')",
        "INSERT INTO t(id, v) VALUES(50,'c'),(51,'x')",
        NOTE,
        "INSERT INTO t(v) VALUES('d')",
        NOTE,
    )
    first, second = seen(lab)
    assert first[1:] == (0, 2)
    assert second[1:] == (1, 4)
    assert decode(lab.entries[-1].data).resets


def test_a_statement_that_is_not_compiled_leaves_the_counters(lab: Lab) -> None:
    results = lab.do("INSERT INTO t(v) VALUES('a'),('b')", "nonsense", COUNT)
    assert results[2].rows == [(2, 2, 2)]  # type: ignore[union-attr]


def test_an_update_of_no_row_resets_changes(lab: Lab) -> None:
    results = lab.do("INSERT INTO t(v) VALUES('a')", "DELETE FROM t WHERE 0", COUNT)
    assert results[2].rows == [(0, 1, 1)]  # type: ignore[union-attr]


def test_triggers_see_the_counters_of_sqlite(lab: Lab) -> None:
    lab.do(
        "CREATE TRIGGER n AFTER INSERT ON t BEGIN INSERT INTO seen SELECT"
        " last_insert_rowid(), changes(), total_changes(); END"
    )
    lab.run(ask("INSERT INTO t(v) VALUES('a')"), ask("INSERT INTO t(v) VALUES('b')"))
    assert [row[:2] for row in seen(lab)] == [(1, 0), (2, 0)]


def test_ddl_echoes_the_numbers_before_it_in_the_same_request(lab: Lab) -> None:
    # As rqlite does, and its clients rely on it; never across requests.
    outcomes = lab.run(
        ask("INSERT INTO t(v) VALUES('a'),('b')", "CREATE TABLE u(a)", kind=RequestKind.EXECUTE),
        ask("CREATE TABLE w(a)", kind=RequestKind.EXECUTE),
    )
    assert outcomes[0].results == [Write(2, 2), Write(2, 2)]
    assert outcomes[1].results == [Write(0, 0)]


def test_virtual_tables_that_hold_writes_back_do_not_move_the_counters_of_others(lab: Lab) -> None:
    lab.do("CREATE VIRTUAL TABLE old USING fts4(body)", "CREATE VIRTUAL TABLE f USING fts5(body)")
    outcomes = lab.run(
        ask("INSERT INTO old VALUES('a'),('b'),('c')", "CREATE TABLE u1(a)", COUNT),
        ask("INSERT INTO f VALUES('a b')"),
        ask("CREATE TABLE u2(a)", NOTE),
    )
    assert outcomes[0].results[1] == Write(3, 3)
    assert outcomes[2].results[0] == Write(0, 0)
    assert seen(lab) == [(0, 0, 0)]


def test_a_read_in_an_execute_request_echoes_too(lab: Lab) -> None:
    results = lab.do("INSERT INTO t(v) VALUES('a')", "SELECT 5", kind=RequestKind.EXECUTE)
    assert results == [Write(1, 1), Write(1, 1)]


def test_returning_gives_rows_and_its_own_numbers(lab: Lab) -> None:
    (result,) = lab.do("INSERT INTO t(v) VALUES('a'),('b') RETURNING id, v AS w")
    assert result == Rows(["id", "w"], ["INTEGER", None], [(1, "a"), (2, "b")], False, 2, 2)


def test_all_statements_of_a_text_run_and_the_last_answers(lab: Lab) -> None:
    (result,) = lab.do(
        (
            "INSERT INTO t(v) VALUES(?); INSERT INTO t(v) VALUES(?),(?); SELECT count(*) FROM t",
            "a",
            "b",
            "c",
        )
    )
    assert isinstance(result, Rows)
    assert result.rows == [(3,)]
    assert decode(lab.entries[-1].data).statement_count == 2


def test_success_and_error_are_per_statement_never_per_text(lab: Lab) -> None:
    (result,) = lab.do("INSERT INTO t(v) VALUES('a'); INSERT INTO t(v) VALUES('a'); DELETE FROM t")
    assert isinstance(result, Failure)
    assert lab.rows("SELECT v FROM t") == [("a",)]


def test_semicolons_in_strings_and_triggers_do_not_split(lab: Lab) -> None:
    lab.do(
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN INSERT INTO seen VALUES(1,2,';');"
        " INSERT INTO seen VALUES(3,4,'--'); END; INSERT INTO t(v) VALUES('a;b')"
    )
    assert seen(lab) == [(1, 2, ";"), (3, 4, "--")]


@pytest.mark.parametrize("text", ["", "   ", ";;", "-- nothing", "/* nothing */ ;"])
def test_empty_statements_have_no_result(lab: Lab, text: str) -> None:
    assert lab.do(text, "SELECT 1", text) == [Rows(["1"], [None], [(1,)])]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ([], "wrong number of parameters"),
        ([1, 2], "wrong number of parameters"),
        ([2**63], "64-bit"),
        (["\ud800"], "surrogate"),
        ([[1]], "Bad binding argument"),
        ([{"a": 1}], "Bad binding argument"),
    ],
)
def test_a_parameter_that_cannot_be_bound_is_the_result_of_its_statement(
    lab: Lab, parameters: list[Any], text: str
) -> None:
    request = ask("INSERT INTO t(v) VALUES('a')", "INSERT INTO t(v) VALUES(?)", "SELECT 1")
    request.parameters[1] = parameters
    (outcome,) = lab.run(request)
    assert text in outcome.results[1].message
    assert lab.rows("SELECT v FROM t") == [("a",)]


def test_named_parameters(lab: Lab) -> None:
    request = ask("INSERT INTO t(v) VALUES(:v || $w || @x)", "INSERT INTO t(v) VALUES(:missing)")
    request.parameters = [{"v": "a", "w": "b", "x": "c", "more": 1}, {"other": 1}]
    (outcome,) = lab.run(request)
    assert outcome.results[0] == Write(1, 1)
    assert "'missing' is missing" in outcome.results[1].message
    assert lab.rows("SELECT v FROM t") == [("abc",)]


@pytest.mark.parametrize(
    "value", [True, -1.5, float("inf"), float("nan"), b"\x00", "é\x00x", None, -(2**63)]
)
def test_a_parameter_means_the_same_on_every_node(lab: Lab, value: Any) -> None:
    lab.do(("INSERT INTO t(v) VALUES(?)", value))
    lab.rows("SELECT quote(v), typeof(v) FROM t")


def test_qualified_column_names(lab: Lab) -> None:
    (result,) = lab.do("SELECT id, v AS w, 1 + 1 FROM t", qualify_columns=True)
    assert isinstance(result, Rows)
    assert result.columns == ["t.id", "t.w", "1 + 1"]


def test_the_time_for_sql_bounds_a_request_and_leaves_the_others(lab: Lab) -> None:
    clock = iter(range(10_000))
    lab.loop.monotonic = lambda: next(clock) / 1000  # type: ignore[method-assign]
    lab.leader._writer.clock = lab.loop.monotonic
    runaway = (
        "INSERT INTO seen WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c)"
        " SELECT i, i, i FROM c"
    )
    outcomes = lab.run(
        ask("INSERT INTO t(v) VALUES('a')"),
        ask("INSERT INTO t(v) VALUES('b')", runaway, "SELECT 1", db_timeout_s=0.02),
        ask("INSERT INTO t(v) VALUES('c')"),
    )
    before, culprit, after = outcomes[1].results
    assert before == Write(2, 1)
    assert "timeout" in culprit.message
    assert "timeout" in after.message
    assert lab.rows("SELECT v FROM t ORDER BY id") == [("a",), ("b",), ("c",)]
    assert seen(lab) == []


def test_timings_are_taken_when_asked_for(lab: Lab) -> None:
    clock = iter(range(10_000))
    lab.loop.monotonic = lambda: float(next(clock))  # type: ignore[method-assign]
    results = lab.do("INSERT INTO t(v) VALUES('a')", "SELECT 1", timings=True)
    assert [result.time_s > 0 for result in results] == [True, True]


TAKEN = 2**63 - 2
"""With this rowid in a table, an INSERT of three rows takes the reserved one, then random ones."""


@pytest.mark.parametrize(
    "word", ["", "OR ABORT", "OR FAIL", "OR IGNORE", "OR REPLACE", "OR ROLLBACK"]
)
@pytest.mark.parametrize("values", ["('a'), ('fail'), ('x')", "('a'), ('b'), ('x')"])
@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("trigger", ["", "RAISE(FAIL, 'no')", "RAISE(ROLLBACK, 'no')"])
def test_rowids_that_nobody_can_repeat_never_reach_a_replica(
    lab: Lab, word: str, values: str, transaction: bool, trigger: str
) -> None:
    lab.do("CREATE TABLE w(id INTEGER PRIMARY KEY, u TEXT UNIQUE)")
    if trigger:
        lab.do(f"CREATE TRIGGER no BEFORE INSERT ON w WHEN new.u = 'b' BEGIN SELECT {trigger}; END")
    lab.do(f"INSERT INTO w VALUES({TAKEN}, 'x')")
    note = "INSERT INTO seen VALUES(changes(), last_insert_rowid(), total_changes())"
    stranger = ask("INSERT INTO seen VALUES(1, 2, 3)", note)
    request = ask(
        "INSERT INTO seen VALUES(0, 0, 0)",
        f"INSERT {word} INTO w(u) VALUES {values}",
        note,
        transaction=transaction,
    )
    lab.run(stranger, request, stranger)  # `run` raises what a replica finds
    leader, replica = (
        lab.query(ask("SELECT * FROM seen"), machine).results
        for machine in (lab.leader, lab.replica)
    )
    assert leader == replica
    assert lab.rows("SELECT count(*) FROM w WHERE id = 9223372036854775807") == [(0,)]


def test_a_refused_statement_leaves_no_trace_in_the_counters(lab: Lab) -> None:
    lab.do("CREATE TABLE w(id INTEGER PRIMARY KEY, u)", "INSERT INTO w VALUES(7, 'seven')")
    results = lab.do(
        "INSERT INTO w(u) VALUES('eight')",
        "INSERT INTO w VALUES(9223372036854775807, 'refused')",
        "INSERT OR IGNORE INTO w VALUES(7, 'ignored')",
        "SELECT total_changes()",
    )
    assert isinstance(results[1], Failure)
    assert results[2] == Write(8, 0)
    assert results[3].rows == [(1,)]  # type: ignore[union-attr]


def test_a_missing_named_parameter_leaves_the_counters_as_they_were(lab: Lab) -> None:
    lab.do("CREATE TABLE w(k, v)")
    request = ask(
        "PRAGMA foreign_keys=1",
        "PRAGMA defer_foreign_keys=1",
        "INSERT INTO w VALUES(1, 2)",
        "INSERT INTO w VALUES(:k, :v)",
        "SELECT total_changes(), changes()",
    )
    request.parameters[3] = {"k": 1}
    (outcome,) = lab.run(request)
    assert isinstance(outcome.results[3], Failure)
    assert outcome.results[4].rows == [(1, 1)]
