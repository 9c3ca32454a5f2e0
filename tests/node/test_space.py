"""Volumes fill up under whole nodes on virtual time: refused early, read on, back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from rsqlite.config import MIB
from rsqlite.errors import Fate, RsqliteError, Unavailable
from rsqlite.node.engine import Engine
from rsqlite.node.space import KEPT_BYTES, RETRY_BYTES, RETRY_PAUSE_S
from rsqlite.raft.types import Entry, EntryKind, Index, Room, Term
from rsqlite.request import Outcome, ReadLevel
from rsqlite.testing.engines import EngineCluster, execute

RESERVE = 8 * MIB
SHORT = RESERVE - 1 * MIB
INSERT = "INSERT INTO t(v) VALUES('x')"
COUNT = "SELECT count(*) FROM t"
VOLUMES = ["log", "db"]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3, disk_reserve_bytes=RESERVE)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", INSERT)
    yield cluster
    cluster.close()
    assert cluster.faults == []


def cramp(cluster: EngineCluster, engine: Engine, volume: str, free: int) -> None:
    """A volume of the node has only so much room, and everybody has noticed."""
    cluster.disk(engine).free[volume] = free
    cluster.loop.advance(0.5)


def relieve(cluster: EngineCluster) -> None:
    for disk in cluster.disks.values():
        disk.free.clear()


def refused(cluster: EngineCluster, engine: Engine) -> RsqliteError:
    answer = cluster.answer(engine, execute(INSERT))
    assert isinstance(answer, Unavailable), answer
    assert answer.fate is Fate.NOT_APPLIED
    assert "disk full" in str(answer)
    return answer


@pytest.mark.parametrize("volume", VOLUMES)
def test_a_leader_short_of_room_hands_over_to_one_that_has_some(
    three: EngineCluster, volume: str
) -> None:
    full = three.leader()
    three.disk(full).free[volume] = SHORT
    three.loop.advance(0.15)
    refused(three, full)
    three.until(lambda: any(e.is_leader and e.is_synced for e in three.running() if e is not full))
    three.execute(full, INSERT)
    assert three.rows(three.leader(), COUNT) == [(2,)]


@pytest.mark.parametrize("volume", VOLUMES)
def test_of_two_followers_the_one_with_room_takes_over(three: EngineCluster, volume: str) -> None:
    full = three.leader()
    short, ample = sorted(three.followers(), key=lambda e: -e.node_id)
    cramp(three, short, volume, SHORT)
    cramp(three, full, volume, SHORT)
    three.until(lambda: ample.is_leader and ample.is_synced)
    three.loop.advance(5.0)
    assert ample.is_leader
    three.execute(short, INSERT)


@pytest.mark.parametrize("volume", VOLUMES)
def test_without_room_anywhere_writes_are_refused_and_reads_go_on(
    three: EngineCluster, volume: str
) -> None:
    leader = three.leader()
    for engine in three.running():
        three.disk(engine).free[volume] = 0
    three.loop.advance(0.5)
    before = leader.log.last_index
    for engine in three.running():
        refused(three, engine)
        for level in (ReadLevel.NONE, ReadLevel.LINEARIZABLE):
            assert three.rows(engine, COUNT, level) == [(1,)]
    assert leader.log.last_index == before
    assert leader.is_leader, "it has nobody to hand over to"
    relieve(three)
    three.loop.advance(0.5)
    three.execute(three.followers()[0], INSERT)


def test_the_next_leader_is_elected_and_serves_reads_also_when_all_logs_are_full(
    three: EngineCluster,
) -> None:
    for engine in three.running():
        three.disk(engine).free["log"] = 0
    three.loop.advance(0.5)
    three.kill(three.number(three.leader()))
    three.wait_leader()
    for engine in three.running():
        assert three.rows(engine, COUNT) == [(1,)]
        refused(three, engine)


def test_a_follower_leaves_untaken_what_its_log_has_no_room_for(three: EngineCluster) -> None:
    full, other = three.followers()
    three.disk(full).free["log"] = 0
    prepared = full.log.free_bytes()
    for _ in range(12):
        three.execute(three.leader(), "INSERT INTO t(v) VALUES(hex(zeroblob(100000)))")
    for _ in range(12):
        three.execute(three.leader(), f"INSERT INTO t(v) VALUES('{'x' * 100_000}')")
        three.loop.advance(0.1)
    assert full.space.room is Room.NONE
    assert other.log.last_index == three.leader().log.last_index > full.log.last_index
    assert full.log.free_bytes() <= prepared
    assert full.fault is None
    assert not full.is_leader
    assert three.rows(full, "SELECT count(*) > 0 FROM t", ReadLevel.NONE) == [(1,)]
    relieve(three)
    three.until(lambda: full.log.last_index == three.leader().log.last_index)
    assert three.rows(full, COUNT) == [(25,)]


def test_writes_are_refused_when_a_majority_has_no_room_for_them(three: EngineCluster) -> None:
    leader = three.leader()
    for follower in three.followers():
        cramp(three, follower, "log", 0)
    before = leader.log.last_index
    assert "majority" in str(refused(three, leader))
    assert leader.log.last_index == before
    assert three.rows(three.followers()[0], COUNT) == [(1,)]
    relieve(three)
    three.loop.advance(0.5)
    three.execute(leader, INSERT)


def test_a_database_that_cannot_take_an_entry_waits_for_room_and_is_read_meanwhile(
    three: EngineCluster,
) -> None:
    full = three.followers()[0]
    pages = int(full.machine._writer.engine("PRAGMA page_count")[0][0])
    full.machine._writer.engine(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(5):
        three.execute(three.leader(), "INSERT INTO t(v) VALUES(zeroblob(20000))")
        three.loop.advance(RETRY_PAUSE_S)
    assert full.space.is_database_full
    assert full.fault is None
    assert three.rows(full, COUNT, ReadLevel.NONE) == [(1,)]
    three.until(lambda: full.log.last_index == three.leader().log.last_index)
    full.machine._writer.engine("PRAGMA max_page_count = 1000000")
    three.until(lambda: full.machine.applied_index == three.leader().machine.applied_index)
    assert three.rows(full, COUNT) == [(6,)]
    three.loop.advance(0.3)
    assert not full.space.is_database_full


def test_what_was_set_aside_gives_way_to_what_is_committed(three: EngineCluster) -> None:
    full = three.followers()[0]
    root = Path(full.directory.quarantine_path)
    for number in (1, 2):
        (root / str(number)).mkdir(parents=True)
        (root / str(number) / "main.db").write_bytes(b"x" * RETRY_BYTES)
    writer = full.machine._writer
    pages = int(writer.engine("PRAGMA page_count")[0][0])
    writer.engine(f"PRAGMA max_page_count = {pages + 2}")
    three.execute(three.leader(), "INSERT INTO t(v) VALUES(zeroblob(20000))")
    three.until(lambda: [path.name for path in root.iterdir()] == ["2"])  # the ballast comes first
    writer.engine("PRAGMA max_page_count = 1000000")
    three.until(lambda: full.machine.applied_index == three.leader().machine.applied_index)
    assert [path.name for path in root.iterdir()] == ["2"]


def test_a_commit_without_room_loses_nothing_that_was_acknowledged(three: EngineCluster) -> None:
    full = three.leader()
    writer = full.machine._writer
    commit = writer.commit

    def fail() -> None:
        writer.rollback()  # as SQLite does
        error = apsw.FullError("database or disk is full")
        error.extendedresult = apsw.SQLITE_FULL  # type: ignore[attr-defined]
        raise error

    writer.commit = fail  # type: ignore[method-assign]
    answers = [three.ask(full, execute(INSERT)) for _ in range(3)]
    three.until(lambda: all(answers))
    assert all(isinstance(answer, Outcome) for (answer,) in answers), answers
    assert full.fault is None
    three.until(lambda: any(e.is_leader and e.is_synced for e in three.running() if e is not full))
    three.execute(three.leader(), INSERT)
    assert three.rows(full, COUNT, ReadLevel.NONE) == [(1,)]
    writer.commit = commit  # type: ignore[method-assign]
    three.until(lambda: full.machine.applied_index == three.leader().machine.applied_index)
    for engine in three.running():
        assert three.rows(engine, COUNT) == [(5,)]


def test_a_volume_that_has_room_again_is_noticed_by_the_write_that_needs_it(
    tmp_path: Path,
) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", disk_reserve_bytes=RESERVE)
    engine = cluster.start()
    cramp(cluster, engine, "db", 0)
    relieve(cluster)
    assert isinstance(cluster.answer(engine, execute("CREATE TABLE t(v)")), Outcome)
    cluster.close()


def test_what_is_no_clients_is_taken_to_the_last_byte(three: EngineCluster) -> None:
    full = three.followers()[0]
    full.log.free_bytes = lambda: KEPT_BYTES  # type: ignore[method-assign]
    command = Entry(Term(1), Index(1), EntryKind.COMMAND, b"x")
    noop = Entry(Term(1), Index(1), EntryKind.NOOP, b"")
    assert not full.space.takes([command])
    assert full.space.takes([noop])
    full.log.free_bytes = lambda: 8  # type: ignore[method-assign]
    assert not full.space.takes([noop])
