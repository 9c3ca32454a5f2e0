"""The thread's side: groups, segments, space ahead; on the real disk with the real thread too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rsqlite.config import Settings
from rsqlite.node.loop import AsyncioLoop
from rsqlite.raft.types import Entry, EntryKind, HardState, Index, Term
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.logstore import LogStore
from rsqlite.storage.record import record_bytes
from rsqlite.storage.segment import PAGE_BYTES
from tests.storage.rig import DIRECTORY, Rig, entries, entry


def test_a_group_over_several_segments_is_synced_once_in_each() -> None:
    rig = Rig(segment_bytes=PAGE_BYTES + 10 * record_bytes(100))
    rig.open()
    rig.append(term=1)
    before = rig.log.syncs
    rig.append([entry(index, 1, b"x" * 100) for index in range(1, 26)])
    assert rig.log.syncs - before == 3
    assert rig.log._writer.mark.segment == 3
    rig.reopen()
    assert len(rig.content()) == 25


def test_a_segment_is_filled_to_its_last_byte() -> None:
    rig = Rig(segment_bytes=PAGE_BYTES + 3 * record_bytes(100))
    rig.open()
    rig.append([entry(index, 1, b"x" * 100) for index in range(1, 4)], term=1)
    assert rig.log._writer.mark[:2] == (1, PAGE_BYTES + 3 * record_bytes(100))
    rig.append([entry(4)])
    assert rig.log._writer.mark.segment == 2
    rig.reopen()
    assert [one.index for one in rig.content()] == [1, 2, 3, 4]


@pytest.mark.parametrize("fill", range(6))
def test_a_truncation_at_the_end_of_a_segment(fill: int) -> None:
    rig = Rig(segment_bytes=PAGE_BYTES + 4 * record_bytes(0) + 16)
    rig.open()
    rig.append([entry(index, 1, b"") for index in range(1, fill + 2)], term=1)
    rig.append(truncate_from=1)
    rig.append([entry(1, 2, b"")], truncate_from=None, term=2)
    rig.append([entry(1, 3, b""), entry(2, 3, b"")], truncate_from=1, term=3)
    want = [entry(1, 3, b""), entry(2, 3, b"")]
    assert rig.content() == want
    rig.reopen()
    assert rig.content() == want


def test_the_settings_may_change_between_starts() -> None:
    rig = Rig(segment_bytes=PAGE_BYTES + 500)
    rig.open()
    rig.append(entries(1, 30), term=1)
    rig.kill()
    again = Rig(rig.disk, segment_bytes=PAGE_BYTES + 3000)
    again.open()
    again.append(entries(30, 90))
    again.kill()
    third = Rig(rig.disk, segment_bytes=PAGE_BYTES + 300)
    third.open()
    third.append(entries(90, 120))
    third.reopen()
    assert third.content() == list(entries(1, 120))


def test_syncs_stay_in_prepared_space_when_the_log_is_not_in_a_hurry() -> None:
    """Writes beyond it change the file's size, and their sync waits for the journal."""
    rig = Rig(segment_bytes=1 << 16, log_prepare_step_bytes=4096, log_prepare_bytes_max=1 << 14)
    rig.open()
    rig.append(term=1)
    for index in range(1, 2000):
        rig.append([entry(index, 1, b"x" * 160)])
    assert rig.log._writer.mark.segment >= 5
    assert rig.log.unprepared_syncs == 0
    names = [name for name in rig.disk.files() if name.startswith(DIRECTORY)]
    assert len(names) <= rig.log._writer.mark.segment + 2


def test_a_prepared_segment_is_used_and_the_one_after_it_prepared() -> None:
    rig = Rig()
    rig.open()
    rig.append(entries(1, 12), term=1)
    assert f"{DIRECTORY}/{2:016d}.log" in rig.disk.files()
    rig.disk.trace = trace = []
    rig.submit(entries(12, 18))
    rig.log._worker._run_one()  # type: ignore[attr-defined]
    assert rig.log._writer.mark.segment == 2
    assert not [call for call in trace if call.startswith(("open", "sync_directory"))]
    rig.loop.run()


async def test_on_the_real_disk_with_the_real_thread(tmp_path: Path) -> None:
    """Many appends from the loop: answered in order, few syncs, all there after a restart."""
    loop = AsyncioLoop(threads=1)
    settings = Settings(segment_bytes=256 * 1024, log_cache_bytes_max=10_000)
    path = str(tmp_path / "log")

    def opened() -> LogStore:
        return LogStore.open(path, disk=RealDisk(), loop=loop, settings=settings, node_id=7)

    log = opened()
    order: list[int] = []
    finished = asyncio.get_running_loop().create_future()
    count = 1500

    def done(number: int, error: BaseException | None) -> None:
        assert error is None
        order.append(number)
        if number == count:
            finished.set_result(None)

    for index in range(1, count + 1):
        new = (Entry(Term(1), Index(index), EntryKind.COMMAND, b"%d" % index * 50),)
        log.append(
            truncate_from=None,
            entries=new,
            hard_state=HardState(Term(1)) if index == 1 else None,
            done=lambda error, number=index: done(number, error),
        )
        assert log.last_index == index
        if index % 16 == 0:
            await asyncio.sleep(0)
    await finished
    assert order == list(range(1, count + 1))
    assert log.durable_index == count
    assert log.backlog_bytes == 0
    assert log.syncs < count / 2
    log.close()
    log = opened()
    found = log.entries(Index(1), Index(count + 1), 1 << 30)
    assert [one.data for one in found] == [b"%d" % index * 50 for index in range(1, count + 1)]
    assert log.findings == ()
    log.close()
    loop.close()
