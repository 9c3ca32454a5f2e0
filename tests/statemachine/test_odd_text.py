"""Text that is not UTF-8: SQLite takes it, and Python cannot have it. No statement stays open for
it, one that returns it has no effect anywhere, and nobody else is concerned."""

from __future__ import annotations

from typing import Any

import pytest

from rsqlite.request import Failure, RequestKind, Write
from tests.statemachine.lab import QUERY, Lab, ask

ODD = "CAST(x'ff' AS TEXT)"
RETURNING = f"INSERT INTO t(v) VALUES({ODD}) RETURNING v"


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")


def ids(lab: Lab) -> list[Any]:
    return lab.rows("SELECT id, hex(v) FROM t ORDER BY id")


def test_what_returns_it_has_no_effect_on_any_node(lab: Lab) -> None:
    first, second = lab.do(RETURNING, "INSERT INTO t(v) VALUES(7)")
    assert isinstance(first, Failure)
    assert second == Write(1, 1)
    assert ids(lab) == [(1, "37")]


def test_it_ends_a_transaction(lab: Lab) -> None:
    first, odd = lab.do("INSERT INTO t(v) VALUES(7)", RETURNING, transaction=True)
    assert first == Write(1, 1)
    assert isinstance(odd, Failure)
    assert ids(lab) == []


def test_of_several_requests_the_others_do_not_notice(lab: Lab) -> None:
    before, odd, after = lab.run(
        ask("INSERT INTO t(v) VALUES(1)"), ask(RETURNING), ask("INSERT INTO t(v) VALUES(2)")
    )
    assert before.results == [Write(1, 1)]
    assert isinstance(odd.results[0], Failure)
    assert after.results == [Write(2, 1)]
    assert ids(lab) == [(1, "31"), (2, "32")]


def test_an_update_that_returns_it(lab: Lab) -> None:
    lab.do("INSERT INTO t(v) VALUES(7)")
    (result,) = lab.do(f"UPDATE t SET v = {ODD} RETURNING v")
    assert isinstance(result, Failure)
    lab.do("INSERT INTO t(v) VALUES(8)")
    assert ids(lab) == [(1, "37"), (2, "38")]


@pytest.mark.parametrize("kind", [RequestKind.MIXED, RequestKind.EXECUTE])
def test_a_read_of_it_among_writes(lab: Lab, kind: RequestKind) -> None:
    results = lab.do(f"SELECT {ODD}", "INSERT INTO t(v) VALUES(7)", kind=kind)
    assert isinstance(results[0], Failure)
    assert ids(lab) == [(1, "37")]


def test_a_read_of_it_keeps_no_snapshot(lab: Lab) -> None:
    lab.do("INSERT INTO t(v) VALUES(7)")
    for _ in range(2):
        (result,) = lab.query(ask(f"SELECT v, {ODD} FROM t", kind=QUERY)).results
        assert isinstance(result, Failure)
    lab.do("UPDATE t SET v = 8")
    (result,) = lab.query(ask("SELECT v FROM t", kind=QUERY)).results
    assert result.rows == [(8,)]
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    lab.loop.run()
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    assert lab.leader.checkpointer.checkpointed_index == lab.leader.applied_index


def test_a_change_of_it_is_made_without_a_digest(lab: Lab) -> None:
    lab.do(f"INSERT INTO t(v) VALUES({ODD})")
    copied, other = lab.run(
        ask("INSERT INTO t(v) SELECT v FROM t LIMIT 1"), ask("INSERT INTO t(v) VALUES(7)")
    )
    assert copied.results == [Write(2, 1)]
    assert other.results == [Write(3, 1)]
    assert ids(lab) == [(1, "FF"), (2, "FF"), (3, "37")]
