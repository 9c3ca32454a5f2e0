"""What an error in the middle of a shared transaction means."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from rsqlite.errors import DamagedFile
from rsqlite.request import Failure
from rsqlite.statemachine.attempt import Attempt
from rsqlite.statemachine.batch import Careful, Culprit, OverBudget
from rsqlite.statemachine.shapes import Shape
from tests.statemachine.lab import Lab

KEY = (3, 0, 0)
RUNAWAY = (
    "INSERT INTO t(v) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT i FROM c"
)


@pytest.fixture
def attempt(lab: Lab) -> Any:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)", "INSERT INTO t VALUES(1, 'a')")
    machine = lab.leader
    one = Attempt(
        machine._writer,
        machine._recorder,
        lab.settings,
        is_long=False,
        monotonic=lab.loop.monotonic,
    )
    machine._writer.begin()
    machine._writer.budget(100_000, None)
    yield one
    machine._writer.rollback()


def fail(attempt: Attempt, sql: str, *, is_unit: bool = True) -> Failure:
    shape = attempt.writer.shapes.judge(sql)
    assert isinstance(shape, Shape)
    try:
        attempt.writer.cursor.execute(sql).fetchall()
    except apsw.Error as error:
        return attempt.failed(error, KEY, shape, is_unit=is_unit)
    raise AssertionError("it did not fail")


def test_a_constraint_is_a_result(attempt: Attempt) -> None:
    failure = fail(attempt, "INSERT INTO t(v) VALUES('b'),('a')")
    assert failure.name == "SQLITE_CONSTRAINT_UNIQUE"
    assert attempt.connection.in_transaction


def test_another_error_in_mid_statement_asks_for_savepoints(attempt: Attempt) -> None:
    # In autocommit the statement would have been undone as a whole.
    sql = (
        "INSERT INTO t(id) SELECT CASE i WHEN 3 THEN 'x' ELSE i END"
        " FROM (SELECT 2 AS i UNION SELECT 3)"
    )
    with pytest.raises(Careful):
        fail(attempt, sql)
    assert fail(attempt, sql, is_unit=False).name == "SQLITE_MISMATCH"
    attempt.is_careful = True
    assert fail(attempt, sql).name == "SQLITE_MISMATCH"


def test_an_error_of_a_read_asks_for_nothing(attempt: Attempt) -> None:
    failure = fail(attempt, "SELECT json(v) FROM t")
    assert failure.is_read
    assert failure.message == "malformed JSON"


def test_the_end_of_the_transaction_names_its_culprit(attempt: Attempt) -> None:
    with pytest.raises(Culprit) as caught:
        fail(attempt, "INSERT OR ROLLBACK INTO t(v) VALUES('a')")
    assert caught.value.key == KEY
    assert caught.value.failure.name == "SQLITE_CONSTRAINT_UNIQUE"
    assert not caught.value.is_overdue


def test_too_many_steps_name_the_request(attempt: Attempt) -> None:
    with pytest.raises(OverBudget) as caught:
        fail(attempt, RUNAWAY)
    assert caught.value.position == 3


def test_a_deadline_makes_a_culprit_and_all_after_it_late(attempt: Attempt) -> None:
    attempt.writer.budget(None, -1.0)
    with pytest.raises(Culprit) as caught:
        fail(attempt, RUNAWAY)
    assert caught.value.is_overdue
    assert caught.value.failure.message == "execute timeout"


def test_a_damaged_page_is_no_result(attempt: Attempt) -> None:
    error = apsw.IOError("disk I/O error")
    vars(error).update(result=apsw.SQLITE_IOERR, extendedresult=apsw.SQLITE_IOERR_DATA)
    shape = attempt.writer.shapes.judge("SELECT 1")
    assert isinstance(shape, Shape)
    with pytest.raises(DamagedFile):
        attempt.failed(error, KEY, shape, is_unit=True)


def test_our_own_mistakes_are_not_told_to_clients(attempt: Attempt) -> None:
    shape = attempt.writer.shapes.judge("SELECT 1")
    assert isinstance(shape, Shape)
    with pytest.raises(AssertionError):
        attempt.failed(AssertionError("ours"), KEY, shape, is_unit=True)
