"""Reads: inline, in a thread, bounded, and with the index that they saw."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import Settings
from rsqlite.errors import DiskFault, NodeFault, Overloaded, RsqliteError, Stopped, TimedOut
from rsqlite.raft.types import EntryId, Index, Term
from rsqlite.request import Failure, Outcome, Request, RequestKind
from rsqlite.statemachine.machine import StateMachine
from rsqlite.testing.loop import ManualLoop
from tests.statemachine.lab import QUERY, SERIES, Lab, ask, read


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES('a'),('b')")


def test_over_the_budget_it_is_repeated_in_a_thread(lab: Lab) -> None:
    found: list[Any] = []
    lab.leader.query(ask(SERIES.format(100_000) + "SELECT count(*) FROM c"), found.append)
    assert found == []
    lab.loop.run()
    assert found[0].results[0].rows == [(100_000,)]
    assert lab.leader.statistics().reads_in_threads == 1
    # What ran out of its budget does not disturb the next.
    for _ in range(200):
        assert read(lab, "SELECT count(*) FROM t")[0].rows == [(2,)]


def test_a_long_value_goes_to_a_thread(lab: Lab) -> None:
    (result,) = read(lab, "SELECT length(hex(zeroblob(2000000))), zeroblob(2000000)")
    assert result.rows == [(4_000_000, bytes(2_000_000))]


def test_a_read_in_a_thread_ends_with_its_time(tmp_path: Path) -> None:
    lab = Lab(tmp_path, read_time_max=0.5)
    clock = iter(range(1_000_000))
    lab.loop.monotonic = lambda: next(clock) / 100  # type: ignore[method-assign]
    (result,) = read(lab, SERIES.format(-1) + "SELECT count(*) FROM c")
    assert result.message == "query timeout"
    assert result.is_read
    lab.close()


def test_rows_and_bytes_of_an_answer_are_bounded(tmp_path: Path) -> None:
    lab = Lab(tmp_path, rows_max=1000, result_bytes_max=100_000)
    (rows,) = read(lab, SERIES.format(5000) + "SELECT i FROM c")
    (size,) = read(lab, SERIES.format(500) + "SELECT zeroblob(1000) FROM c")
    assert "rows_max is 1000" in rows.message
    assert "result_bytes_max is 100000" in size.message
    lab.close()


def test_classify(lab: Lab) -> None:
    classify = lab.leader.classify
    assert classify("SELECT 1; SELECT 2 -- x") is True
    assert classify("") is True
    assert classify("PRAGMA table_info(t)") is True
    assert classify("EXPLAIN DELETE FROM t") is True
    assert classify("SELECT 1; DELETE FROM t") is False
    assert classify("WITH x AS (SELECT 1) INSERT INTO t SELECT 1, 2 FROM x") is False
    assert classify("PRAGMA user_version = 3") is False
    assert classify("PRAGMA foreign_keys = ON") is False
    assert classify("CREATE TABLE u(a); SELECT * FROM u") is False
    assert isinstance(classify("SELECT * FROM u"), Failure)
    assert isinstance(classify("BEGIN"), Failure)
    lab.do("CREATE TABLE u(a)")
    assert classify("SELECT * FROM u") is True


def test_a_fault_of_the_file_reaches_the_caller(lab: Lab) -> None:
    run = lab.leader._readers._inline

    def broken() -> int:
        raise apsw.IOError("disk I/O error")

    run.open_snapshot = broken  # type: ignore[method-assign]
    answer = lab.query(ask("SELECT 1"))
    assert isinstance(answer, DiskFault)


def test_reads_under_way_end_when_the_machine_closes(lab: Lab) -> None:
    found: list[Any] = []
    lab.leader.query(ask(SERIES.format(100_000) + "SELECT count(*) FROM c"), found.append)
    lab.leader.close()
    lab.loop.run()
    assert len(found) == 1


def test_a_read_that_waits_for_a_thread_ends_with_the_machine(lab: Lab) -> None:
    """It would have its whole time, and the stop of the node would wait for that."""
    answers: list[Any] = []
    lab.leader.query(
        ask(f"{SERIES.format(10**9)} SELECT count(*) FROM c", kind=QUERY), answers.append
    )
    assert answers == []
    lab.leader._readers.close()
    lab.loop.run()
    assert [type(one) for one in answers] == [Stopped]


def test_a_read_that_raises_is_answered(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked the reader has others to answer."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rsqlite.statemachine.reader.ReadRun", fail)
    answers: list[Any] = []
    lab.leader.query(ask("SELECT 1", kind=QUERY), answers.append)
    lab.loop.run()
    assert [isinstance(one, NodeFault) for one in answers] == [True]


def asked_in_one_turn(lab: Lab, *sqls: str) -> list[Any]:
    """The answers of reads that come together, as those before them did."""
    answers: list[Any] = []
    for sql in ("SELECT 1", "SELECT 1"):
        lab.leader.query(ask(sql, kind=QUERY), lambda answer: None)
    lab.loop.run()
    for sql in sqls:
        lab.leader.query(ask(sql, kind=QUERY), answers.append)
    return answers


def test_reads_that_come_together_see_the_same(lab: Lab) -> None:
    count = "SELECT count(*) FROM t"
    answers = asked_in_one_turn(lab, count, count, f"{SERIES.format(100)} SELECT max(i) FROM c")
    assert answers == []
    done = lab.do("INSERT INTO t(v) VALUES('c')")  # before they run: they see it
    lab.loop.run()
    assert [one.results[0].rows for one in answers] == [[(3,)], [(3,)], [(100,)]]
    assert {one.index for one in answers} == {lab.leader.applied_index}
    assert done
    lab.do("INSERT INTO t(v) VALUES('d')")
    for _ in range(2):  # what they shared is over
        lab.leader.query(ask(count, kind=QUERY), answers.append)
    lab.loop.run()
    assert [one.results[0].rows for one in answers[3:]] == [[(4,)], [(4,)]]


def test_reads_that_come_together_fail_each_for_itself(lab: Lab) -> None:
    long = f"{SERIES.format(100_000)} SELECT count(*) FROM c"
    answers = asked_in_one_turn(lab, "SELECT * FROM missing", long, "SELECT abs(-9)", "SELECT")
    lab.loop.run()
    found = [one.results[0] for one in answers]
    rows = [one.rows for one in found if not isinstance(one, Failure)]
    messages = [one.message for one in found if isinstance(one, Failure)]
    assert rows == [[(9,)], [(100_000,)]]
    assert messages == ["no such table: missing", "incomplete input"]


def test_where_nothing_can_be_read_each_that_came_hears_of_it(lab: Lab) -> None:
    answers = asked_in_one_turn(lab, "SELECT 1", "SELECT 2")

    def broken(*_: object) -> int:
        raise apsw.IOError("disk I/O error")

    lab.leader._readers._inline._first = broken  # type: ignore[method-assign]
    lab.loop.run()
    assert [type(one) for one in answers] == [DiskFault, DiskFault]


def test_one_who_raises_at_an_answer_keeps_no_other_from_its_own(lab: Lab) -> None:
    asked_in_one_turn(lab)
    answers: list[Any] = []

    def broken(answer: object) -> None:
        raise ZeroDivisionError

    for done in (answers.append, broken, answers.append):
        lab.leader.query(ask("SELECT 1", kind=QUERY), done)
    with pytest.raises(ZeroDivisionError):
        lab.loop.run()
    lab.loop.run()
    assert [type(one) for one in answers] == [Outcome, Outcome]


def test_a_large_schema_is_looked_at_outside_the_budget_of_a_read(tmp_path: Path) -> None:
    """What the engine asks the schema is nobody's read: a small budget stopped it, and the error
    dropped the client's connection."""
    machine = StateMachine.open(
        str(tmp_path), loop=ManualLoop(), settings=Settings(read_steps_max=1000)
    )
    # What is left of this read's budget must not be spent on the engine's own questions.
    machine.query(Request(RequestKind.QUERY, ["SELECT 1"], [None]), lambda answer: None)
    sqls = [f"CREATE TABLE t{n}(a, b, c)" for n in range(400)]
    machine.speculate([Request(RequestKind.EXECUTE, sqls, [None] * len(sqls))])
    machine.commit(EntryId(Term(1), Index(1)))
    assert machine.classify("INSERT INTO t7 VALUES(1, 2, 3)") is False
    assert machine.classify("SELECT * FROM t7") is True
    machine.close()


def test_reads_that_wait_for_a_thread_are_bounded(tmp_path: Path) -> None:
    lab = Lab(tmp_path, read_threads=1, read_queue_max=2, read_steps_max=1000)
    long = ask(SERIES.format(100_000) + "SELECT count(*) FROM c", kind=QUERY)
    answers: list[Outcome | RsqliteError] = []
    for _ in range(4):
        lab.leader.query(long, answers.append)
    (refusal,) = answers
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after_s == 1.0
    # What is short is served all the same, and so are long ones when those before have ended.
    assert read(lab, "SELECT 1")[0].rows == [(1,)]
    lab.loop.run()
    lab.leader.query(long, answers.append)
    lab.loop.run()
    assert [type(answer) for answer in answers] == [Overloaded, *[Outcome] * 4]
    lab.close()


def test_reads_of_one_turn_do_not_add_up(lab: Lab) -> None:
    clock = iter(range(1_000_000))
    # Five milliseconds pass whenever somebody looks; a turn of the loop has twenty for reads.
    lab.loop.monotonic = lambda: next(clock) * 0.005  # type: ignore[method-assign]
    answers: list[tuple[int, Any]] = []
    for number in range(50):
        request = ask((f"SELECT {number}"), kind=QUERY)
        lab.leader.query(request, lambda answer, number=number: answers.append((number, answer)))  # type: ignore[misc]
    turns = [len(answers)]
    while len(answers) < 50:
        lab.loop.run_turn()
        turns.append(len(answers))
    assert 1 <= turns[0] < 10
    assert all(0 < after - before < 10 for before, after in itertools.pairwise(turns))
    assert [number for number, _ in answers] == list(range(50)), "in the order they came"
    assert all(answer.results[0].rows == [(number,)] for number, answer in answers)


def test_reads_that_wait_for_their_turn_are_bounded_and_answered_at_the_end(tmp_path: Path) -> None:
    lab = Lab(tmp_path, read_queue_max=5)
    clock = itertools.count()
    lab.loop.monotonic = lambda: next(clock) * 1.0  # type: ignore[method-assign]
    answers: list[Any] = []
    for _ in range(8):
        lab.leader.query(ask("SELECT 1", kind=QUERY), answers.append)
    assert [type(answer) for answer in answers] == [Outcome, Overloaded, Overloaded]
    lab.close()
    assert [type(answer) for answer in answers[3:]] == [Stopped] * 5


def test_a_read_has_the_loop_only_for_its_time(lab: Lab) -> None:
    now = itertools.count()
    lab.leader._readers._inline.clock = lambda: next(now) * 1.0
    count = f"{SERIES.format(1000)} SELECT count(*) FROM c"
    assert read(lab, count)[0].rows == [(1000,)]
    assert lab.leader.statistics().reads_in_threads == 1


def test_a_text_whose_read_was_too_long_is_seldom_tried_on_the_loop(lab: Lab) -> None:
    def in_threads() -> int:
        return lab.leader.statistics().reads_in_threads

    lab.do(f"{SERIES.format(30_000)} INSERT INTO t(v) SELECT i FROM c")
    count = "SELECT count(*) FROM t WHERE v <> 'x'"
    assert read(lab, count)[0].rows == [(30_002,)]
    lab.do("DELETE FROM t")
    runs = 0
    while in_threads() == runs + 1:
        assert read(lab, count)[0].rows == [(0,)]
        runs += 1
        assert runs < 100
    assert runs == 17, "sixteen times in a thread, then again on the loop"
    read(lab, count)
    assert in_threads() == 17


def test_time_that_passes_while_a_read_is_compiled_or_the_engine_asks_ends_nothing(
    lab: Lab,
) -> None:
    lab.do(*[f"CREATE TABLE t{n}(a, b, c)" for n in range(400)])
    now = itertools.count()
    lab.leader._readers._inline.clock = lambda: next(now) * 1.0
    # SQLite asks the progress handler while it reads a large schema, too.
    wide = "SELECT " + " + ".join(f"(SELECT count(a) FROM t{n})" for n in range(200))
    asks = (
        lambda: lab.leader.statistics().database_bytes > 0,
        lambda: lab.leader.classify(wide + " + 1") is True,
        lambda: read(lab, wide)[0].rows == [(0,)],
    )
    for ask_it in asks * 2:
        read(lab, "SELECT 1")  # leaves something of its budget
        lab.do("CREATE TABLE again(a)", "DROP TABLE again")
        assert ask_it()


def test_the_time_of_a_read_counts_from_when_it_came(tmp_path: Path) -> None:
    lab = Lab(tmp_path, request_timeout=100.0)
    clock = itertools.count()
    lab.loop.monotonic = lambda: next(clock) * 1.0  # type: ignore[method-assign]
    answers: list[Any] = []
    for timeout_s in (0.0, 500.0, 3.0):
        lab.leader.query(ask("SELECT 1", kind=QUERY, db_timeout_s=timeout_s), answers.append)
    lab.loop.run()
    assert [type(answer) for answer in answers] == [Outcome, Outcome, TimedOut]
    lab.close()
