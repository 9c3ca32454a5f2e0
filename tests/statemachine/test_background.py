"""Long work on a snapshot: broken off by what comes later, by a stop, by its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import pytest

from rsqlite.statemachine.background import Background, BrokenOff
from tests.statemachine.lab import SERIES, Lab


def rows(connection: apsw.Connection, is_over: Callable[[], bool]) -> list[Any]:
    return connection.execute("SELECT count(*) FROM t").fetchall()


@pytest.fixture
def work(lab: Lab) -> Background:
    lab.do("CREATE TABLE t(v)", f"INSERT INTO t {SERIES.format(200_000)} SELECT i FROM c")
    return lab.leader._background("work")


def test_a_later_one_breaks_it_off(lab: Lab, work: Background) -> None:
    found: list[Any] = []
    work.begin(rows, lambda *answer: found.append(answer), 60.0)
    work.begin(rows, lambda *answer: found.append(answer), 60.0)
    assert work.is_running
    lab.loop.run()
    answers = [value for value, error in found if error is None]
    assert answers == [[(200_000,)]]
    assert [type(error) for _, error in found if error is not None] == [BrokenOff]
    assert not work.is_running
    work.close()


def test_a_stop_breaks_it_off(lab: Lab, work: Background) -> None:
    found: list[Any] = []
    work.begin(rows, lambda *answer: found.append(answer), 60.0)
    work.cancel()
    lab.loop.run()
    assert isinstance(found[0][1], BrokenOff)
    work.close()


def test_time_is_bounded(lab: Lab, work: Background) -> None:
    found: list[Any] = []
    work.begin(rows, lambda *answer: found.append(answer), 0.1)
    lab.loop._now += 1.0  # before the thread comes to it
    lab.loop.run()
    assert isinstance(found[0][1], BrokenOff)
    work.close()


def test_it_sees_what_was_committed_when_it_began(lab: Lab, work: Background) -> None:
    found: list[Any] = []
    work.begin(rows, lambda *answer: found.append(answer), 60.0)
    lab.do("DELETE FROM t")
    lab.loop.run()
    assert found == [([(200_000,)], None)]
    work.close()
