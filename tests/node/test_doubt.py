"""SQLite calls a database damaged of which a read failed: the next start finds out what is true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from rsqlite.errors import DoubtedDatabase
from rsqlite.node.engine import Engine
from rsqlite.request import ReadLevel
from rsqlite.statemachine.generations import DOUBT_PERIOD_S
from rsqlite.statemachine.opening import PAGE_BYTES
from rsqlite.testing.engines import EngineCluster
from tests.node.test_images import SMALL, formed, write
from tests.statemachine.lab import flip

COUNT = "SELECT count(*) FROM t"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path, **SMALL)


def misread(cluster: EngineCluster, engine: Engine) -> int:
    """A statement's read ends with EIO, and so ends the node; its number."""
    error = apsw.CorruptError("database disk image is malformed")
    vars(error).update(result=apsw.SQLITE_CORRUPT, extendedresult=apsw.SQLITE_CORRUPT)
    engine.fail(error)
    number = cluster.number(engine)
    assert isinstance(engine.fault, DoubtedDatabase)
    cluster.kill(number)
    cluster.faults.clear()
    return number


def test_all_nodes_of_which_a_read_failed_go_on_with_what_they_have(three: EngineCluster) -> None:
    """Their logs are cut: nobody could make a database again from what is left."""
    while three.leader().log.first_index < 20:
        write(three, 10)
        three.loop.advance(0.2)
    rows = three.rows(three.leader(), COUNT)
    for number in [misread(three, engine) for engine in three.running()]:
        three.start_node(number)
    three.wait_leader()
    for engine in three.running():
        three.until(lambda engine=engine: engine.is_synced)  # type: ignore[misc]
        assert three.rows(engine, COUNT, ReadLevel.NONE) == rows
        assert list(engine.repairs) == ["the database was called damaged, and is sound"]
        assert not list(Path(engine.directory.quarantine_path).glob("*"))
    assert not three.faults


def test_a_node_that_is_alone_goes_on_as_well(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", **SMALL)
    cluster.execute(cluster.start(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    while cluster.leader().log.first_index < 20:
        write(cluster, 10)
        cluster.loop.advance(0.2)
    rows = cluster.rows(cluster.leader(), COUNT)
    cluster.start_node(misread(cluster, cluster.leader()))
    assert cluster.rows(cluster.wait_leader(), COUNT) == rows
    cluster.close()


def test_what_is_damaged_indeed_is_set_aside(three: EngineCluster) -> None:
    write(three, 40)
    sick = three.followers()[0]
    path = sick.machine.path
    number = misread(three, sick)
    for offset in range(100, Path(path).stat().st_size, PAGE_BYTES):
        flip(path, offset)  # of some the WAL has a newer version
    sick = three.start_node(number)
    assert "database set aside" in sick.repairs[0]
    three.until(lambda: sick.is_synced, 20.0)
    assert three.rows(sick, COUNT, ReadLevel.NONE) == [(40,)]


@pytest.mark.parametrize("is_soon", [True, False])
def test_what_was_found_sound_is_not_doubted_again_so_soon(
    three: EngineCluster, is_soon: bool
) -> None:
    number = misread(three, three.followers()[0])
    again = three.start_node(number)
    three.loops[number].wall_offset_s = 10.0 if is_soon else DOUBT_PERIOD_S + 1
    misread(three, again)
    again = three.start_node(number)
    assert ("database set aside" in again.repairs[0]) == is_soon
    three.until(lambda: again.is_synced, 20.0)
