"""Whose database can serve nobody leads only lest nobody can, and not for long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import RsqliteError
from rsqlite.raft.types import Role
from rsqlite.request import ReadLevel
from rsqlite.testing.engines import EngineCluster, execute
from tests.node.test_content import applied_everywhere, lose_database, tamper

ROWS = "SELECT v FROM t ORDER BY id"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    cluster.execute(cluster.leader(), "INSERT INTO t VALUES(1, 'a')")
    applied_everywhere(cluster)
    yield cluster
    cluster.close()


def test_entries_that_only_a_node_without_database_has_reach_the_others(
    three: EngineCluster,
) -> None:
    ahead, (other, behind) = three.leader(), three.followers()
    three.isolate(behind)
    three.execute(ahead, "INSERT INTO t VALUES(2, 'b')")
    three.kill(three.number(other))
    lost = lose_database(three, ahead)
    three.board.heal()
    again = three.start_node(lost)
    three.until(lambda: again.core is not None and again.core.role is Role.LEADER)
    assert behind.core is not None
    refused = three.answer(again, execute("INSERT INTO t VALUES(9, 'z')"))
    assert isinstance(refused, RsqliteError)
    three.until(lambda: behind.is_leader and behind.is_synced)
    assert three.rows(behind, ROWS) == [("a",), ("b",)]
    three.execute(behind, "INSERT INTO t VALUES(3, 'c')")
    three.until(lambda: again.is_synced)
    assert three.rows(again, ROWS, ReadLevel.NONE) == [("a",), ("b",), ("c",)]
    assert not three.faults


def test_who_could_not_settle_a_difference_gives_the_entries_to_who_can(
    three: EngineCluster,
) -> None:
    """Of three, the sick leader is gone, one differs from its entry, and one has not got it."""
    sick, (differs, behind) = three.leader(), three.followers()
    tamper(sick, "DELETE FROM t")
    three.isolate(behind)
    three.ask(sick, execute("UPDATE t SET v = 'c'"))
    three.until(lambda: differs.fault is not None)
    three.kill(three.number(sick))
    three.board.heal()
    three.until(lambda: differs.fault is None, 20.0)
    three.wait_leader()
    for engine in (differs, behind):
        three.until(lambda engine=engine: engine.is_synced)  # type: ignore[misc]
        assert three.rows(engine, ROWS, ReadLevel.NONE) == [("c",)]


def test_others_are_elected_first(three: EngineCluster) -> None:
    unfit = three.leader()
    assert unfit.driver is not None
    unfit.driver.lead_reluctantly()
    three.wait_leader()
    for _ in range(5):
        leader = three.wait_leader()
        assert leader is not unfit
        assert leader.driver is not None
        leader.driver.core.disk_stalled(True)
        three.loop.advance(3.0)
