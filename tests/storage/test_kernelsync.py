"""Syncs in the background: the kernel's own, and what the log makes of them."""

from __future__ import annotations

import errno
import os
import random
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import DiskFault, InvariantViolation
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.kernelsync import KernelSync
from rsqlite.testing.disk import RamDisk
from rsqlite.testing.loop import ManualLoop
from tests.storage.rig import Rig, entries


@pytest.fixture
def syncs() -> Iterator[KernelSync]:
    opened = KernelSync.open()
    if opened is None:
        pytest.skip("this kernel has no asynchronous fdatasync")
    yield opened
    opened.close()


def test_the_end_of_a_sync_is_told_by_collect(syncs: KernelSync, tmp_path: Path) -> None:
    file = RealDisk(syncs).open(str(tmp_path / "f"), create=True)
    file.pwrite(b"x" * 5000, 0)
    ends: list[BaseException | None] = []
    if not file.sync_soon(ends.append):
        pytest.skip("this file system has no asynchronous fdatasync")
    assert ends == []
    assert select.select([syncs.eventfd], [], [], 10.0)[0] == [syncs.eventfd]
    syncs.collect()
    assert ends == [None]
    syncs.collect()
    assert ends == [None]
    file.close()


def test_close_waits_for_what_is_under_way(syncs: KernelSync, tmp_path: Path) -> None:
    file = RealDisk(syncs).open(str(tmp_path / "f"), create=True)
    file.pwrite(b"x" * 1_000_000, 0)
    ends: list[BaseException | None] = []
    begun = file.sync_soon(ends.append)
    file.close()
    assert len(ends) == begun


@pytest.mark.parametrize("is_writable", [True, False])
def test_another_file_that_is_closed_in_a_thread_does_not_tell_the_end_there(
    syncs: KernelSync, tmp_path: Path, is_writable: bool
) -> None:
    """The end of the log's sync lets the leader COMMIT: in a thread of its own, beside the loop,
    two of them were in one transaction (a scrub had closed a segment)."""
    disk = RealDisk(syncs)
    file = disk.open(str(tmp_path / "f"), create=True)
    other = disk.open(str(tmp_path / "g"), create=True)
    file.pwrite(b"x" * 1_000_000, 0)
    ends: list[BaseException | None] = []
    if not file.sync_soon(ends.append):
        pytest.skip("this file system has no asynchronous fdatasync")

    def read_another() -> None:
        disk.open(str(tmp_path / "g"), writable=is_writable).close()
        other.close()

    thread = threading.Thread(target=read_another)
    thread.start()
    thread.join()
    assert ends == []
    file.wait()
    assert ends == [None]
    file.close()


def test_ends_are_told_in_the_thread_that_began(syncs: KernelSync, tmp_path: Path) -> None:
    file = RealDisk(syncs).open(str(tmp_path / "f"), create=True)
    if not file.sync_soon(lambda error: None):
        pytest.skip("this file system has no asynchronous fdatasync")
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            syncs.wait()
        except InvariantViolation as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert len(caught) == 1
    file.close()


def test_another_thread_tells_the_ends_where_it_has_taken_over(
    syncs: KernelSync, tmp_path: Path
) -> None:
    file = RealDisk(syncs).open(str(tmp_path / "f"), create=True)
    ends: list[BaseException | None] = []
    if not file.sync_soon(ends.append):
        pytest.skip("this file system has no asynchronous fdatasync")

    def close() -> None:
        syncs.take_over()
        file.close()

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert ends == [None]


def test_a_file_that_cannot_be_synced_is_not_begun(syncs: KernelSync) -> None:
    reader, writer = os.pipe()
    ends: list[BaseException | None] = []
    begun = syncs.submit(writer, ends.append)
    syncs.wait()
    # Refused at once, or told as an error: never taken for durable.
    assert not begun or isinstance(ends[0], OSError)
    os.close(reader)
    os.close(writer)


def test_a_disk_without_it_says_so(tmp_path: Path) -> None:
    disk = RealDisk()
    assert not disk.syncs_in_background
    assert not disk.open(str(tmp_path / "f"), create=True).sync_soon(lambda error: None)


class Background(Rig):
    """A rig whose disk syncs in the background: the end comes in the next turn of its loop."""

    def __init__(self, **changes: object) -> None:
        loop = ManualLoop()
        disk = RamDisk(loop=loop)
        disk.mkdir("/data")
        disk.sync_directory("/")
        super().__init__(disk, **changes)
        self.loop = loop


@pytest.fixture
def rig() -> Background:
    rig = Background()
    rig.open()
    rig.append(entries(1, 2), term=1)
    rig.loop.run()
    return rig


def test_an_append_is_written_at_once_and_durable_when_the_sync_has_ended(
    rig: Background,
) -> None:
    rig.disk.trace = trace = []
    rig.submit(entries(2, 4))
    assert trace == ["pwrite 0000000000000001.log"]
    assert rig.log.durable_index == 1
    rig.loop.run()
    assert rig.log.durable_index == 3
    assert trace[1] == "sync 0000000000000001.log"


def test_what_comes_while_a_sync_is_under_way_shares_the_next_one(rig: Background) -> None:
    syncs = rig.log.syncs
    for index in range(2, 8):
        rig.submit(entries(index, index + 1))
    rig.loop.run()
    assert rig.log.durable_index == 7
    assert rig.log.syncs == syncs + 2
    numbers = [number for number, _ in rig.answers]
    assert numbers == sorted(numbers)


def test_a_failed_sync_ends_the_log_and_is_not_tried_again(rig: Background) -> None:
    rig.submit(entries(2, 3))
    rig.submit(entries(3, 4))
    rig.disk.fail_nth_call(1, errno.EIO)
    rig.disk.trace = trace = []
    rig.loop.run()
    rig.submit(entries(4, 5))
    rig.loop.run()
    assert [type(error) for _, error in rig.answers[-3:]] == [DiskFault] * 3
    assert rig.log.durable_index == 1
    assert [call for call in trace if call.startswith("sync")] == ["sync 0000000000000001.log"]


def test_a_failed_write_is_told_as_a_failed_sync_is(rig: Background) -> None:
    rig.disk.fail_nth_call(1, errno.ENOSPC)
    rig.submit(entries(2, 3))
    rig.loop.run()
    assert isinstance(rig.answers[-1][1], DiskFault)


def test_a_sync_that_ends_after_the_mark_has_failed_answers_nobody_twice() -> None:
    rig = Background(segment_bytes=1 << 20, log_prepare_step_bytes=1 << 16)
    rig.open()
    rig.append(entries(1, 2), term=1)
    rig.loop.run()
    rig.submit(entries(2, 3))
    rig.log._writer.wait()
    rig.submit(entries(3, 4))
    rig.disk.fail_nth_call(1, errno.EIO)
    rig.log._write_mark()
    assert [type(error) for _, error in rig.answers[-2:]] == [type(None), DiskFault]
    told = len(rig.answers)
    rig.loop.run()
    assert len(rig.answers) == told
    assert rig.log.durable_index == 2


def test_a_vote_goes_the_way_that_syncs_it_before_its_entries(rig: Background) -> None:
    rig.append(entries(2, 3, term=2), term=2, voted_for=1)
    rig.reopen()
    assert rig.log.hard_state.voted_for == 1
    assert rig.content() == [*entries(1, 2), *entries(2, 3, term=2)]


def test_close_tells_the_end_of_what_is_under_way(rig: Background) -> None:
    rig.submit(entries(2, 3))
    rig.log.close()
    rig.loop.run()
    assert rig.answers[-1][1] is None
    assert rig.log.durable_index == 2


@pytest.mark.parametrize("seed", range(60))
def test_what_was_acknowledged_survives_a_loss_of_power(seed: int) -> None:
    chance = random.Random(seed)
    rig = Background(segment_bytes=64 * 1024)
    rig.open()
    rig.append((), term=1)
    last = acknowledged = 0
    for _ in range(40):
        count = chance.randint(1, 4)
        rig.submit(entries(last + 1, last + 1 + count))
        last += count
        if chance.random() < 0.6:
            rig.loop.run()
            acknowledged = rig.log.durable_index
            assert acknowledged == last
    rig.disk.power_loss(chance)
    rig.loop.run()
    rig.open()
    assert rig.log.last_index >= acknowledged
    assert rig.content() == list(entries(1, rig.log.last_index + 1))
