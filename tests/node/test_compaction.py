"""The log stays within its policy, and gives way when its volume gets full."""

from __future__ import annotations

from pathlib import Path

import apsw

from rsqlite.config import KIB, MIB
from rsqlite.errors import DiskFault, RsqliteError
from rsqlite.testing.engines import EngineCluster

SEGMENTS = {
    "segment_bytes": 64 * KIB,
    "log_prepare_step_bytes": 8 * KIB,
    "log_prepare_bytes_max": 16 * KIB,
    "raft_snap_int": 0.1,
}


def update(cluster: EngineCluster, count: int) -> None:
    """Entries that write the same page again and again, so that the WAL grows by little."""
    engine = cluster.running()[0]
    for number in range(count):
        cluster.execute(engine, f"UPDATE t SET v = '{number:0500}'")
    cluster.loop.advance(0.5)


def alone(directory: Path, **settings: int) -> EngineCluster:
    cluster = EngineCluster(directory, 1, join="", **SEGMENTS, **settings)
    cluster.execute(cluster.start(), "CREATE TABLE t(v)", "INSERT INTO t VALUES('')")
    return cluster


def test_many_small_entries_bring_a_checkpoint_though_the_wal_is_short(tmp_path: Path) -> None:
    cluster = alone(tmp_path, raft_snap=64)
    engine = cluster.leader()
    update(cluster, 600)
    assert engine.log.first_index > 200
    assert engine.machine.statistics().checkpoints > 0
    # What others may need is left: so many entries, and not a segment more.
    assert 64 <= engine.log.last_index - engine.log.first_index < 64 + 2 * 120
    cluster.close()


def test_many_bytes_bring_one_as_well(tmp_path: Path) -> None:
    cluster = alone(tmp_path, log_keep_bytes=128 * KIB)
    engine = cluster.leader()
    update(cluster, 900)
    assert engine.log.last_index - engine.log.first_index < 400
    cluster.close()


def test_a_log_that_fills_its_volume_gives_way(tmp_path: Path) -> None:
    cluster = alone(tmp_path, disk_reserve_bytes=8 * MIB)
    engine = cluster.leader()
    update(cluster, 600)
    assert engine.log.first_index == 1, "there is room, and nobody has lagged so far"
    cluster.disk(engine).free["log"] = 7 * MIB
    cluster.loop.advance(1.0)
    assert engine.log.first_index > 400, "only the newest segment is left"
    cluster.disk(engine).free.clear()
    cluster.loop.advance(0.5)
    update(cluster, 10)
    cluster.close()


def test_who_waits_for_a_snapshot_hears_that_the_node_has_failed(tmp_path: Path) -> None:
    cluster = alone(tmp_path)
    engine = cluster.leader()
    reader = apsw.Connection(engine.machine.path, flags=apsw.SQLITE_OPEN_READONLY)
    cursor = reader.execute("SELECT column1 FROM t, (VALUES(1), (2))")
    assert next(cursor) == (1,)
    update(cluster, 1)
    answers: list[tuple[bool, RsqliteError | None]] = []
    engine.snapshot(lambda is_done, error: answers.append((is_done, error)))
    cluster.loop.advance(1.0)
    assert answers == []
    engine.fail(DiskFault("the disk is gone"))
    ((is_done, error),) = answers
    assert not is_done
    assert "the disk is gone" in str(error)
    reader.close(force=True)
    cluster.faults.clear()
    cluster.close()
