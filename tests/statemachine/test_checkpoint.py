"""The WAL goes into the file, under load, and what may be relied on afterwards (design 3)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import MIB, Settings
from rsqlite.errors import DiskFault, DiskFull, InvariantViolation
from rsqlite.node.loop import AsyncioLoop
from rsqlite.raft.types import EntryId, Index, Term
from rsqlite.request import RequestKind
from rsqlite.statemachine import StateMachine, checkpoint
from rsqlite.statemachine.checkpoint import Checkpointer
from rsqlite.statemachine.lull import Lull
from rsqlite.statemachine.opening import PAGE_BYTES
from rsqlite.statemachine.vfs import OpenFile
from tests.statemachine.lab import Lab, WatchedVfs, ask

FILL = "INSERT INTO t VALUES(zeroblob(50000))"


def full() -> apsw.Error:
    error = apsw.FullError("database or disk is full")
    error.extendedresult = apsw.SQLITE_FULL  # type: ignore[attr-defined]
    return error


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    one = Lab(tmp_path, checkpoint_wal_bytes=64 * 1024, checkpoint_rest_bytes=4 * PAGE_BYTES)
    one.do("CREATE TABLE t(a)")
    yield one
    one.close()


def test_small_wals_are_left_alone(lab: Lab) -> None:
    lab.do("INSERT INTO t VALUES(1)")
    assert lab.leader.statistics().checkpoints == 0
    assert lab.leader.checkpointer.checkpointed_index == 0


def test_two_steps_empty_the_wal(lab: Lab) -> None:
    for _ in range(4):
        lab.do(FILL)
    lab.loop.run()
    lab.do("INSERT INTO t VALUES(1)")
    statistics = lab.leader.statistics()
    assert statistics.checkpoints >= 1
    assert lab.leader.checkpointer.checkpointed_index >= lab.leader.applied_index - 2
    lab.do("INSERT INTO t VALUES(1)")
    assert lab.leader.statistics().wal_bytes < 10 * PAGE_BYTES


def copied_pages(lab: Lab) -> tuple[int, int]:
    """Pages in the leader's WAL, and how many of them are in the file, as SQLite says."""
    other = apsw.Connection(lab.leader.path)
    try:
        other.execute("SELECT * FROM t LIMIT 1").fetchall()
        return other.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
    finally:
        other.close()


def test_a_wal_begun_anew_behind_step_one_is_not_copied_whole_on_the_loop(lab: Lab) -> None:
    for _ in range(2):
        lab.do(FILL)
    lab.loop.run()
    # Nothing was behind: this COMMIT begins the WAL anew, and step two has nothing to do.
    for _ in range(2):
        lab.leader.speculate([ask(FILL)])
        index = Index(lab.leader.applied_index + 1)
        lab.leader.commit(EntryId(Term(1), index))
        lab.leader.maintain()
    pages, copied = copied_pages(lab)
    assert (pages > 16, copied) == (True, 0)
    assert lab.leader.statistics().checkpoints == 1


def test_step_one_syncs_what_it_copied_also_when_newer_frames_are_behind_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    vfs = WatchedVfs()
    monkeypatch.setattr(checkpoint, "load_checksum_vfs", lambda: vfs.name)

    def write_more(name: str) -> None:
        if name == "main.db" and lab.leader.applied_index == 2:
            lab.leader.speculate([ask("INSERT INTO t VALUES(2)")])
            lab.leader.commit(EntryId(Term(1), Index(3)))

    vfs.on_write = write_more
    lab.do(FILL)
    lab.loop.run()
    assert lab.leader.applied_index == 3
    assert "main.db" in vfs.synced
    pages, copied = copied_pages(lab)
    assert 0 < pages - copied < 5


def test_each_pass_of_step_one_lets_step_two_have_more(lab: Lab) -> None:
    checkpointer = Checkpointer(
        "",
        worker=lab.loop.worker(""),
        clock=lab.loop.monotonic,
        later=lab.loop.call_later,
        writer=lab.leader._writer,
        settings=Settings(checkpoint_rest_bytes=100 * PAGE_BYTES),
        lull=Lull(lab.loop, lab.settings),
        fail=lambda fault: None,
    )
    allowed = []
    for passes in range(20):
        checkpointer._passes = passes
        allowed.append(max(n for n in range(5000) if checkpointer._is_rest_small(n)))
    assert allowed[:4] == [100, 200, 400, 800]
    assert allowed[-1] == 2048, "half of what a checkpoint begins at"


def test_the_log_may_be_cut_up_to_what_was_applied_before_the_checkpoint(lab: Lab) -> None:
    checkpointer = lab.leader._checkpointer
    checkpointer._note(index=2, pages=10, copied=10)
    assert lab.leader.checkpointer.checkpointed_index == 2
    checkpointer._note(index=3, pages=10, copied=9)
    assert lab.leader.checkpointer.checkpointed_index == 2


def test_an_open_reader_keeps_it_from_being_complete(lab: Lab) -> None:
    lab.do("INSERT INTO t VALUES(1)")
    other = apsw.Connection(lab.leader.path, flags=apsw.SQLITE_OPEN_READONLY)
    cursor = other.execute("SELECT * FROM t AS a, t AS b")
    next(cursor)
    for _ in range(6):
        lab.do(FILL)
        lab.loop.run()
    assert lab.leader.statistics().checkpoints == 0
    assert lab.leader.checkpointer.checkpointed_index <= 2
    cursor.close(force=True)
    other.close()
    for _ in range(6):
        lab.do(FILL)
        lab.loop.run()
    assert lab.leader.statistics().checkpoints > 0


def test_nothing_is_done_while_a_transaction_is_open(lab: Lab) -> None:
    for _ in range(2):
        lab.do(FILL)
    lab.loop.run()
    batch = lab.leader.speculate([ask(FILL)])
    assert batch.data is not None
    before = lab.leader.statistics().checkpoints
    lab.leader.maintain()
    assert lab.leader.statistics().checkpoints == before
    lab.leader.rollback(lambda: None)


def test_a_checkpoint_that_fails_stops_the_node(lab: Lab) -> None:
    lab.leader._checkpointer._failed(apsw.IOError("disk I/O error"))
    with pytest.raises(DiskFault):
        lab.leader.maintain()
    with pytest.raises(DiskFault):
        lab.leader.speculate([ask(FILL)])


@pytest.mark.parametrize("is_sound", [True, False])
def test_nothing_is_synced_at_the_close_of_a_database_whose_disk_has_failed(
    tmp_path: Path, is_sound: bool
) -> None:
    lab = Lab(tmp_path)
    lab.do("CREATE TABLE t(a)", FILL)
    if not is_sound:
        lab.leader.leave_wal()
    path = Path(lab.leader.path)
    lab.leader.close()
    # SQLite syncs at a close to be able to remove the WAL.
    assert path.with_name("main.db-wal").exists() != is_sound
    # Whatever the disk did, the WAL has everything.
    again = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    assert again.execute("SELECT length(a) FROM t").fetchall() == [(50_000,)]
    again.close()
    lab.replica.close()


def test_a_sync_that_fails_in_the_thread_during_the_close_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, checkpoint_rest_bytes=4 * PAGE_BYTES)
    lab.do("CREATE TABLE t(a)", FILL)
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    assert lab.leader.checkpointer.is_in_thread

    failed: list[str] = []

    def sync(file: OpenFile) -> None:
        if not failed and not file.name.endswith("-wal"):
            failed.append(file.name)
            raise DiskFault(f"{file.name} cannot be synced")

    monkeypatch.setattr(OpenFile, "sync", sync)
    lab.leader.close()
    assert failed
    assert Path(f"{lab.leader.path}-wal").exists()
    lab.close()


@pytest.mark.parametrize("fault", [DiskFull("no space"), DiskFault("no")])
def test_a_close_that_cannot_be_noted_leaves_the_wal_and_nothing_open(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, fault: DiskFault
) -> None:
    def note(*arguments: object, **options: object) -> None:
        raise fault

    lab.do("INSERT INTO t VALUES(1)")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "note_backfill", note)
        if isinstance(fault, DiskFull):
            lab.leader.close()  # as if it had stopped a moment before
        else:
            with pytest.raises(DiskFault):
                lab.leader.close()
    assert Path(f"{lab.leader.path}-wal").exists()
    with pytest.raises(apsw.ConnectionClosedError):
        lab.leader._writer.connection.changes()
    lab.leader = lab.open("leader")
    assert lab.rows("SELECT count(*) FROM t") == [(1,)]


@pytest.mark.parametrize("what", [apsw.BusyError("locked"), full()])
def test_a_lock_of_somebody_else_or_a_full_volume_only_delays_it(
    lab: Lab, what: apsw.Error
) -> None:
    checkpointer = lab.leader._checkpointer
    checkpointer._failed(what)
    lab.leader.maintain()
    assert checkpointer._next_try >= lab.leader._writer.wal_pages


@pytest.mark.slow
async def test_the_wal_stays_small_under_load(tmp_path: Path) -> None:
    # A passive checkpoint alone never resets it: 125 MB in 6 s.
    loop = AsyncioLoop(threads=2)
    settings = Settings(checkpoint_wal_bytes=256 * 1024)
    machine = StateMachine.open(str(tmp_path), loop=loop, settings=settings)
    resets, before, index = 0, 0, 0
    while resets < 3:
        index += 1
        assert index < 100_000, f"the WAL was reset {resets} times"
        sql = "CREATE TABLE t(a)" if index == 1 else "REPLACE INTO t(rowid) VALUES(1)"
        sql = sql if index < 3 else "UPDATE t SET a = randomblob(20000)"
        batch = machine.speculate([ask(sql)])
        assert batch.data is not None
        await asyncio.sleep(0)
        machine.commit(EntryId(Term(1), Index(index)))
        size = machine.statistics().wal_bytes
        resets += size < before
        machine.maintain()
        before = max(size, machine.statistics().wal_bytes)
    assert machine.statistics().checkpoints >= 2
    assert machine.checkpointer.checkpointed_index > 0
    machine.close()
    loop.close()


class LongWriter:
    """A machine on the real loop, whose long writes leave a large WAL file behind."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.loop = AsyncioLoop(threads=2)
        own = Settings(**{"disk_reserve_bytes": 0, **settings})
        self.machine = StateMachine.open(str(path), loop=self.loop, settings=own)
        self.wal = Path(f"{self.machine.path}-wal")
        self.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
        self.commit("INSERT INTO t VALUES(1, 'kept')")

    def commit(self, sql: str) -> None:
        assert self.machine.speculate([ask(sql)]).data is not None
        index = Index(self.machine.applied_index + 1)
        self.machine.commit(EntryId(Term(1), index))

    async def grow(self, bytes_max: int) -> None:
        """Run a long write until the WAL file is so long, then take it back."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.machine.speculate_long(ask(ENDLESS), lambda batch, error: None)
        while not self.wal.exists() or self.wal.stat().st_size < bytes_max:
            await asyncio.sleep(0.001)
            assert self.machine.is_speculating
        self.machine.rollback(lambda: ended.set_result(None))
        await ended

    async def reclaim(self) -> bool:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.machine.reclaim(lambda: ended.set_result(None)):
            return False
        with pytest.raises(InvariantViolation):
            self.machine.speculate([ask("INSERT INTO t(a) VALUES('while it is cut')")])
        await ended
        return True

    async def rows(self, sql: str = "SELECT a FROM t ORDER BY id") -> list[tuple[Any, ...]]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.machine.query(ask(sql, kind=RequestKind.QUERY), answer.set_result)
        found = (await answer).results[0].rows
        return [tuple(row) for row in found]

    def close(self) -> None:
        self.machine.close()
        self.loop.close()


ENDLESS = (
    "INSERT INTO t(a) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c)"
    " SELECT randomblob(3000) FROM c"
)
BUSY_READ = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 300000)"


@pytest.mark.slow
async def test_a_long_write_taken_back_leaves_a_small_wal_file(tmp_path: Path) -> None:
    writer = LongWriter(tmp_path, wal_reclaim_pause=0.01)
    assert not await writer.reclaim(), "a small file is left alone"
    await writer.grow(70 * MIB)
    assert writer.wal.stat().st_size >= 70 * MIB
    # Reads go on, on the loop and in threads; it waits for those that read from the WAL.
    reads = [
        asyncio.ensure_future(writer.rows(f"{BUSY_READ} SELECT count(*), (SELECT a FROM t) FROM c"))
        for _ in range(4)
    ]
    while writer.wal.stat().st_size > 0:
        await writer.reclaim()
        assert await writer.rows() == [("kept",)]
        await asyncio.sleep(0.001)
    for read in reads:
        assert await read == [(300_000, "kept")]
    assert writer.machine.checkpointer.checkpointed_index == 2
    writer.commit("INSERT INTO t VALUES(2, 'after')")
    assert await writer.rows() == [("kept",), ("after",)]
    writer.close()


@pytest.mark.slow
async def test_the_wal_has_its_part_of_the_reserve_from_the_start_and_after_it_was_cut(
    tmp_path: Path,
) -> None:
    writer = LongWriter(tmp_path, disk_reserve_bytes=16 * MIB, wal_spare_bytes_max=6 * MIB)
    assert writer.wal.stat().st_size == 4 * MIB
    assert writer.wal.stat().st_blocks * 512 >= 4 * MIB
    await writer.grow(8 * MIB)
    assert await writer.reclaim()
    assert writer.wal.stat().st_size == 4 * MIB
    assert await writer.rows() == [("kept",)]
    writer.close()


@pytest.mark.slow
async def test_a_wal_file_that_somebody_reads_from_is_cut_later(tmp_path: Path) -> None:
    writer = LongWriter(tmp_path, wal_spare_bytes_max=1 * MIB, wal_reclaim_pause=0.01)
    other = apsw.Connection(writer.machine.path, flags=apsw.SQLITE_OPEN_READONLY)
    cursor = other.execute("SELECT a FROM t")
    assert next(cursor) == ("kept",)
    writer.commit("INSERT INTO t VALUES(2, 'newer than the reader')")
    await writer.grow(3 * MIB)
    assert await writer.reclaim(), "it is tried"
    assert writer.wal.stat().st_size >= 3 * MIB
    assert not await writer.reclaim(), "and not again at once"
    cursor.close(force=True)
    other.close()
    await asyncio.sleep(0.02)
    assert await writer.reclaim()
    assert writer.wal.stat().st_size == 0
    assert await writer.rows() == [("kept",), ("newer than the reader",)]
    writer.close()


@pytest.mark.slow
async def test_what_is_still_to_be_copied_is_not_copied_while_nobody_may_write(
    tmp_path: Path,
) -> None:
    writer = LongWriter(tmp_path, wal_spare_bytes_max=1 * MIB, checkpoint_rest_bytes=4 * PAGE_BYTES)
    for number in range(40):
        writer.commit(f"INSERT INTO t(a) VALUES(zeroblob({10_000 + number}))")
    await writer.grow(4 * MIB)
    assert not await writer.reclaim(), "step one goes first"
    while not await writer.reclaim():
        await asyncio.sleep(0.001)
        assert await writer.rows("SELECT count(*) FROM t") == [(41,)]
    assert writer.wal.stat().st_size == 0
    assert await writer.rows("SELECT count(*) FROM t") == [(41,)]
    writer.close()
