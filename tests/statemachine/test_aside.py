"""A read beside the loop: what is committed, as of one snapshot, with the schema of that one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rsqlite.errors import DamagedDatabase
from rsqlite.statemachine.aside import AsideReader
from tests.statemachine.lab import QUERY, SERIES, Lab, ask


@pytest.fixture
def aside(lab: Lab) -> Iterator[AsideReader]:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES('a'),('b')")
    reader = AsideReader(lab.leader.path, lab.settings, time.monotonic)
    yield reader
    reader.close()


def query(reader: AsideReader, *sqls: Any, timeout_s: float = 10.0) -> Any:
    return reader.query(ask(*sqls, kind=QUERY), timeout_s)


def test_it_sees_what_is_committed_and_as_of_which_entry(lab: Lab, aside: AsideReader) -> None:
    outcome = query(aside, ("SELECT v FROM t WHERE id = ?", 2))
    assert (outcome.results[0].rows, outcome.index) == ([("b",)], lab.leader.applied_index)
    batch = lab.leader.speculate([ask("INSERT INTO t(v) VALUES('c')")])
    assert query(aside, "SELECT count(*) FROM t").results[0].rows == [(2,)]
    lab.finish(batch)
    outcome = query(aside, "SELECT count(*) FROM t")
    assert (outcome.results[0].rows, outcome.index) == ([(3,)], lab.leader.applied_index)


def test_it_knows_the_schema_of_its_snapshot(lab: Lab, aside: AsideReader) -> None:
    for columns in (["id", "v"], ["id", "v", "w"]):
        for _ in range(3):
            (rows,) = query(aside, "SELECT * FROM t LIMIT 1").results
            assert rows.columns == columns
            assert len(rows.rows[0]) == len(columns)
        if "w" not in columns:
            lab.do("ALTER TABLE t ADD COLUMN w")
    lab.do("DROP TABLE t")
    (failure,) = query(aside, "SELECT * FROM t LIMIT 1").results
    assert failure.message == "no such table: t"


def test_it_never_writes_and_answers_mistakes(aside: AsideReader) -> None:
    outcome = query(aside, "DELETE FROM t", "SELEC", ("SELECT ?",), "PRAGMA foreign_keys=1")
    assert [failure.name for failure in outcome.results] == [
        "SQLITE_ERROR",
        "SQLITE_ERROR",
        "SQLITE_ERROR",
        "SQLITE_AUTH",
    ]
    assert query(aside, "SELECT count(*) FROM t").results[0].rows == [(2,)]


def test_its_time_is_bounded(aside: AsideReader) -> None:
    endless = SERIES.format(-1) + "SELECT count(*) FROM c"
    (failure,) = query(aside, endless, timeout_s=0.05).results
    assert failure.message == "query timeout"
    assert query(aside, "SELECT 1").results[0].rows == [(1,)]


def test_it_may_run_in_another_thread(aside: AsideReader) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(query(aside, "SELECT v FROM t")))
    thread.start()
    thread.join()
    assert found[0].results[0].rows == [("a",), ("b",)]


def test_a_damaged_page_is_no_answer(lab: Lab) -> None:
    lab.do("CREATE TABLE t(v)", *[("INSERT INTO t VALUES(?)", "x" * 3000) for _ in range(20)])
    lab.replica.close()
    with open(lab.replica.path, "r+b") as file:
        file.seek(12 * 4096 + 2000)
        file.write(b"\xff" * 8)
    lab.replica = lab.open("replica")
    reader = AsideReader(lab.replica.path, lab.settings, time.monotonic)
    with pytest.raises(DamagedDatabase):
        query(reader, "SELECT sum(length(v)) FROM t")
    reader.close()


def test_a_damaged_first_page_stops_it_from_being_opened(lab: Lab) -> None:
    lab.replica.close()
    with open(lab.replica.path, "r+b") as file:
        file.seek(2000)
        file.write(b"\xff" * 8)
    with pytest.raises(DamagedDatabase):
        AsideReader(lab.replica.path, lab.settings, time.monotonic)
