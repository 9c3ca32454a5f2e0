"""LogStore as the driver and the core see it."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from rsqlite.errors import DiskFault, ForeignDirectory, InvariantViolation
from rsqlite.raft.types import Entry, EntryKind, HardState, Index, NodeId, Term
from rsqlite.storage.logstore import LogStore
from tests.storage.rig import DIRECTORY, Rig, entries, entry


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.open()
    return rig


def test_a_new_log_is_empty(rig: Rig) -> None:
    log = rig.log
    assert (log.first_index, log.last_index, log.durable_index) == (1, 0, 0)
    assert log.hard_state == HardState()
    assert log.term(Index(0)) == 0
    assert log.term(Index(1)) is None
    assert log.entries(Index(1), Index(1), 100) == []
    assert log.findings == ()


def test_what_was_acknowledged_is_there_after_a_kill(rig: Rig) -> None:
    new = (*entries(1, 4), entry(4, 2, b"", EntryKind.NOOP), entry(5, 2, b"x" * 1500, 2))
    rig.append(new, term=2, voted_for=9)
    log = rig.reopen()
    assert rig.content() == list(new)
    assert log.hard_state == HardState(Term(2), NodeId(9))
    assert (log.durable_index, log.last_index) == (5, 5)
    assert [log.term(Index(i)) for i in range(7)] == [0, 1, 1, 1, 2, 2, None]


def test_an_append_is_visible_at_once_and_durable_when_done_comes(rig: Rig) -> None:
    rig.submit(entries(1, 3), term=1)
    log = rig.log
    assert (log.last_index, log.durable_index) == (2, 0)
    assert log.entries(Index(1), Index(3), 1000) == list(entries(1, 3))
    assert log.hard_state.term == 1
    assert log.backlog_bytes > 0
    assert rig.answers == []
    rig.loop.run()
    assert rig.answers == [(0, None)]
    assert (log.durable_index, log.backlog_bytes) == (2, 0)


SEGMENT = "0000000000000001.log"


def trace_of_next_write(rig: Rig) -> list[str]:
    """The calls that the log's thread makes for what is queued."""
    rig.disk.trace = trace = []
    rig.log._worker._run_one()  # type: ignore[attr-defined]
    rig.disk.trace = None
    rig.loop.run()
    return trace


def test_everything_queued_takes_one_sync_and_is_answered_in_order(rig: Rig) -> None:
    rig.append(term=1)
    numbers = [rig.submit([entry(index)]) for index in range(1, 11)]
    assert trace_of_next_write(rig) == [
        f"pwrite {SEGMENT}",
        f"sync {SEGMENT}",
        "pwrite hardstate",
    ]
    assert rig.answers[1:] == [(number, None) for number in numbers]
    assert rig.log.syncs == 1


def test_an_append_without_a_new_hard_state_costs_one_sync(rig: Rig) -> None:
    rig.append([entry(1)], term=1)
    rig.submit([entry(2)], term=1)
    assert trace_of_next_write(rig) == [
        f"pwrite {SEGMENT}",
        f"sync {SEGMENT}",
        "pwrite hardstate",
    ]


def test_a_vote_alone_costs_one_sync_and_a_reply_alone_none(rig: Rig) -> None:
    rig.submit(term=3, voted_for=5)
    assert trace_of_next_write(rig) == ["pwrite hardstate", "sync hardstate"]
    number = rig.submit()
    assert trace_of_next_write(rig) == []
    assert rig.answers[-1] == (number, None)


def test_the_term_is_durable_before_its_entries(rig: Rig) -> None:
    """raft.md rule 3: an entry of term T on disk while T is not could be overwritten by T-1."""
    rig.submit([entry(1, 5)], term=5)
    assert trace_of_next_write(rig)[:4] == [
        "pwrite hardstate",
        "sync hardstate",
        f"pwrite {SEGMENT}",
        f"sync {SEGMENT}",
    ]


def test_a_truncation_takes_back_entries_for_good(rig: Rig) -> None:
    rig.append(entries(1, 8), term=1)
    rig.append(entries(4, 6, term=2), truncate_from=4, term=2)
    want = [*entries(1, 4), *entries(4, 6, term=2)]
    assert rig.content() == want
    assert rig.log.durable_index == 5
    rig.reopen()
    assert rig.content() == want
    rig.append(entries(6, 7, term=2))
    rig.reopen()
    assert rig.content() == [*want, entry(6, 2)]


def test_a_truncation_over_several_segments(rig: Rig) -> None:
    rig.append(entries(1, 60), term=1)
    assert len([name for name in rig.disk.files() if name.endswith(".log")]) >= 3
    rig.append([entry(2, 3)], truncate_from=2, term=3)
    assert rig.content() == [entry(1), entry(2, 3)]
    rig.reopen()
    assert rig.content() == [entry(1), entry(2, 3)]
    rig.append(truncate_from=1)
    assert rig.log.last_index == 0
    assert rig.log.term(Index(0)) == 0
    rig.reopen()
    assert rig.content() == []
    rig.append(entries(1, 60, term=3))
    rig.reopen()
    assert rig.content() == list(entries(1, 60, term=3))


def test_a_truncation_of_what_is_not_written_yet(rig: Rig) -> None:
    rig.submit(entries(1, 6), term=1)
    rig.submit(entries(4, 5, term=2), truncate_from=4, term=2)
    assert rig.log.durable_index == 0
    assert rig.content() == [*entries(1, 4), entry(4, 2)]
    rig.loop.run()
    assert rig.log.durable_index == 4
    assert rig.content() == [*entries(1, 4), entry(4, 2)]
    rig.reopen()
    assert rig.content() == [*entries(1, 4), entry(4, 2)]


def test_a_truncation_lowers_the_durable_index_of_works_under_way(rig: Rig) -> None:
    """The answer to an append must not call entries durable that replaced its own (ABA)."""
    durable: list[int] = []
    log = rig.open()
    log.append(
        truncate_from=None,
        entries=entries(1, 6),
        hard_state=HardState(Term(1)),
        done=lambda _: durable.append(log.durable_index),
    )
    log.append(
        truncate_from=Index(3),
        entries=entries(3, 6, term=2),
        hard_state=HardState(Term(2)),
        done=lambda _: durable.append(log.durable_index),
    )
    rig.loop.run()
    assert durable == [2, 5]


def test_truncating_beyond_the_end_changes_nothing(rig: Rig) -> None:
    rig.append(entries(1, 3), term=1)
    rig.append(entries(3, 4), truncate_from=3)
    assert rig.content() == list(entries(1, 4))


def test_old_entries_are_read_from_disk(rig: Rig) -> None:
    rig.append(entries(1, 100), term=1)
    log = rig.log
    assert log._cache.first_index == 100
    assert log.entries(Index(1), Index(100), 1 << 20) == list(entries(1, 100))
    assert log.entries(Index(37), Index(41), 1 << 20) == list(entries(37, 41))
    assert log.entries(Index(99), Index(100), 1 << 20) == [entry(99)]


@pytest.mark.parametrize("cache_bytes", [0, 2000, 1 << 20])
def test_reads_give_what_fits_and_at_least_one(cache_bytes: int) -> None:
    rig = Rig(log_cache_bytes_max=cache_bytes)
    rig.open()
    new = [entry(index, 1, b"x" * (10 * index)) for index in range(1, 31)]
    rig.append(new, term=1)
    for low in range(1, 31):
        for bytes_max in (0, 10, 300, 901, 4000):
            got = rig.log.entries(Index(low), Index(31), bytes_max)
            assert got == new[low - 1 : low - 1 + len(got)]
            size = sum(len(one.data) for one in got)
            assert got
            assert len(got) == 1 or size <= bytes_max
            following = new[low - 1 + len(got) : low + len(got)]
            assert not following or size + len(following[0].data) > bytes_max


def test_the_cache_holds_no_more_than_its_bound_beyond_what_is_not_durable() -> None:
    rig = Rig(log_cache_bytes_max=3000)
    log = rig.open()
    rig.submit([entry(index, 1, b"x" * 100) for index in range(1, 51)], term=1)
    assert log._cache.first_index == 1
    rig.loop.run()
    assert log._cache.bytes <= 3000
    assert 30 < log._cache.first_index < 50
    rig.append([entry(20, 2)], truncate_from=20, term=2)
    assert log.entries(Index(20), Index(21), 100) == [entry(20, 2)]


def test_an_entry_larger_than_a_segment_gets_its_own(rig: Rig) -> None:
    large = entry(2, 1, bytes(range(256)) * 64)
    rig.append([entry(1), large, entry(3)], term=1)
    assert rig.content() == [entry(1), large, entry(3)]
    rig.reopen()
    assert rig.content() == [entry(1), large, entry(3)]


def test_the_age_of_the_oldest_append_shows_a_stalled_disk(rig: Rig) -> None:
    rig.append(term=1)
    assert rig.log.oldest_pending_s == 0.0
    rig.log._worker.pause()  # type: ignore[attr-defined]
    rig.submit([entry(1)])
    rig.loop.advance(1.5)
    rig.submit([entry(2)])
    rig.loop.advance(1.0)
    assert rig.log.oldest_pending_s == pytest.approx(2.5)
    rig.log._worker.resume()  # type: ignore[attr-defined]
    rig.loop.run()
    assert rig.log.oldest_pending_s == 0.0


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_after_a_failure_nothing_is_acknowledged_or_tried_again(rig: Rig, number: int) -> None:
    rig.append(entries(1, 3), term=1)
    rig.disk.fail_nth_call(2, number)
    rig.submit([entry(3)])
    rig.submit([entry(4)])
    rig.loop.run()
    calls = rig.disk.calls
    rig.submit([entry(5)])
    rig.loop.run()
    assert rig.disk.calls == calls
    errors = [error for _, error in rig.answers[1:]]
    assert all(isinstance(error, DiskFault) for error in errors)
    cause = errors[0].__cause__ if errors[0] else None
    assert isinstance(cause, OSError)
    assert cause.errno == number
    assert rig.log.failure is errors[0]
    assert not rig.log.has_room(1)
    rig.log.close()
    assert rig.disk.calls == calls


def test_a_flush_already_waiting_behind_the_failed_one_writes_nothing(rig: Rig) -> None:
    """The thread may have the next group before the loop has heard of the failure."""
    rig.append(entries(1, 3), term=1)
    rig.submit([entry(3)])
    rig.disk.fail_nth_call(1, errno.EIO)
    worker = rig.log._worker
    worker._run_one()  # type: ignore[attr-defined]
    calls = rig.disk.calls
    rig.submit([entry(4)])
    rig.loop.run()
    assert rig.disk.calls == calls
    assert [type(error) for _, error in rig.answers[1:]] == [DiskFault] * 2


def test_room_is_refused_before_the_disk_is_full() -> None:
    rig = Rig(disk_reserve_bytes=10_000, segment_bytes=1 << 20, log_prepare_step_bytes=4096)
    log = rig.open()
    rig.append(term=1)
    used = sum(len(data) for data in rig.disk.files().values())
    rig.disk.capacity = used + 10_000 + 5_000
    rig.loop.advance(1)
    prepared = log._space.ahead
    assert log.has_room(5_000 + prepared)
    assert not log.has_room(5_000 + prepared + 1)
    rig.submit([entry(1, 1, b"x" * 1000)])
    assert not log.has_room(4_100 + prepared)


def test_a_full_disk_while_preparing_is_no_failure_and_ends_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(segment_bytes=1 << 16, log_prepare_step_bytes=4096, log_prepare_bytes_max=1 << 14)
    log = rig.open()
    rig.append([entry(1, 1, b"x" * 2000)], term=1)
    used = sum(len(data) for data in rig.disk.files().values())
    rig.disk.capacity = used + 100
    free = rig.disk.free_bytes("/")
    # The file system promises what it does not have.
    monkeypatch.setattr(rig.disk, "free_bytes", lambda _: 1 << 30)
    rig.append([entry(2, 1, b"x" * 1000)])
    monkeypatch.undo()
    assert log.space_error is not None
    # The part that fitted was given back: the database may need it to end a commit.
    assert rig.disk.free_bytes("/") == free
    assert log.space_error.errno == errno.ENOSPC
    assert log.failure is None
    rig.loop.advance(1)
    assert not log.has_room(4096)
    rig.disk.capacity = used + (1 << 20)
    rig.loop.advance(1)
    assert log.has_room(4096)
    rig.append([entry(3, 1, b"x" * 100)])
    assert log.space_error is None
    rig.disk.capacity = sum(len(data) for data in rig.disk.files().values())
    number = rig.submit([entry(4, 1, b"x" * 60_000)])
    rig.loop.run()
    assert rig.answers[-1][0] == number
    assert isinstance(rig.answers[-1][1], DiskFault)
    rig.reopen()
    assert [one.index for one in rig.content()] == [1, 2, 3]


def test_broken_promises_of_the_caller_are_not_written(rig: Rig) -> None:
    rig.append(entries(1, 4, term=2), term=2)
    for new, truncate_from, term in (
        (entries(5, 6, term=2), None, None),
        (entries(3, 4, term=2), None, None),
        (entries(4, 5, term=1), None, None),
        (entries(4, 5, term=3), None, None),
        ((), 0, None),
        ((), None, 1),
    ):
        with pytest.raises(InvariantViolation):
            rig.submit(new, truncate_from=truncate_from, term=term)
    with pytest.raises(InvariantViolation):
        rig.log.entries(Index(3), Index(5), 100)
    rig.reopen()
    assert rig.content() == list(entries(1, 4, term=2))


def test_a_log_of_another_node_is_refused(rig: Rig) -> None:
    rig.kill()
    with pytest.raises(ForeignDirectory, match="belongs to node 7, not to 8"):
        LogStore.open(DIRECTORY, disk=rig.disk, loop=rig.loop, settings=rig.settings, node_id=8)


def test_closing_writes_what_was_given_and_answers_it(rig: Rig) -> None:
    rig.submit(entries(1, 4), term=1)
    rig.log.close()
    rig.loop.run()
    assert rig.answers == [(0, None)]
    rig.submit([entry(4)])
    rig.loop.run()
    assert isinstance(rig.answers[-1][1], DiskFault)
    rig.log.close()
    rig.disk.power_loss()
    rig.open()
    assert rig.content() == list(entries(1, 4))


def test_space_is_prepared_little_at_first_and_more_for_a_busy_log() -> None:
    rig = Rig(segment_bytes=1 << 20, log_prepare_step_bytes=4096, log_prepare_bytes_max=1 << 16)
    rig.open()
    path = f"{DIRECTORY}/0000000000000001.log"
    rig.append([entry(1)], term=1)
    assert len(rig.disk.files()[path]) <= 4096 * 3
    for index in range(2, 40):
        rig.append([entry(index, 1, b"x" * 4000)])
    end = rig.log._writer.mark.offset
    assert (1 << 15) < len(rig.disk.files()[path]) - end <= (1 << 16) + 4096
    assert rig.log.unprepared_syncs <= 4


def append_here(rig: Rig, new: tuple[Entry, ...], *, term: int | None = None) -> list[object]:
    """What `done` said before `append` returned."""
    answers: list[object] = []
    rig.log.append(
        truncate_from=None,
        entries=new,
        hard_state=None if term is None else HardState(Term(term)),
        done=answers.append,
        may_block=True,
    )
    return answers


def test_an_append_that_may_block_is_durable_when_it_returns(rig: Rig) -> None:
    assert append_here(rig, entries(1, 3), term=1) == [None]
    assert (rig.log.durable_index, rig.log.backlog_bytes) == (2, 0)
    rig.reopen()
    assert rig.content() == list(entries(1, 3))


def test_an_append_never_overtakes_one_that_the_thread_has(rig: Rig) -> None:
    rig.submit(entries(1, 3), term=1)
    assert append_here(rig, entries(3, 4)) == []
    rig.loop.run()
    assert rig.log.durable_index == 3
    assert append_here(rig, entries(4, 5)) == [None]


class Interrupted(deque[Any]):
    """A queue that lets another thread have its turn before the first `popleft`."""

    interrupt: Callable[[], object] | None = None

    def popleft(self) -> Any:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()
        return super().popleft()


def test_the_loop_writes_nothing_while_the_thread_is_about_to(rig: Rig) -> None:
    """Both would take the same works: written twice, and answered twice."""
    rig.append(entries(1, 2), term=1)
    rig.log._queue = queue = Interrupted()
    calls: list[int] = []

    def loop() -> None:
        before = rig.disk.calls
        append_here(rig, entries(3, 4))
        calls.append(rig.disk.calls - before)

    queue.interrupt = loop
    rig.submit(entries(2, 3))
    rig.loop.run()
    assert calls == [0]
    assert rig.log.durable_index == 3
    rig.reopen()
    assert rig.content() == list(entries(1, 4))


def test_the_mark_is_left_to_the_thread_that_is_about_to_write(rig: Rig) -> None:
    rig.append(entries(1, 2), term=1)
    rig.log._queue = queue = Interrupted()
    assert append_here(rig, entries(2, 3)) == [None]
    calls: list[int] = []

    def loop() -> None:
        before = rig.disk.calls
        rig.log._write_mark()
        calls.append(rig.disk.calls - before)

    queue.interrupt = loop
    rig.submit(entries(3, 4))
    worker = rig.log._worker
    while not calls:
        worker._run_one()  # type: ignore[attr-defined]
    assert calls == [0]
    rig.loop.run()
    assert rig.log._writer._stored_mark is rig.log._writer.mark


def test_closing_leaves_to_the_thread_what_it_was_given(rig: Rig) -> None:
    rig.submit(entries(1, 3), term=1)
    close, calls = rig.log._worker.close, rig.disk.calls
    found: list[int] = []

    def note() -> None:
        found.append(rig.disk.calls - calls)
        close()

    rig.log._worker.close = note  # type: ignore[method-assign]
    rig.log.close()
    assert found == [0]
    rig.loop.run()
    assert rig.answers == [(0, None)]


def test_an_error_of_preparing_that_is_not_the_disks_ends_the_log_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits behind it must not be written: it has heard that the log has failed."""
    rig = Rig(segment_bytes=1 << 20, log_prepare_step_bytes=4096)
    rig.open()
    rig.append(term=1)
    worker = rig.log._worker
    worker.pause()  # type: ignore[attr-defined]
    worker.submit(rig.log._prepare, rig.log._prepared)
    rig.submit(entries(1, 3))

    def fail(path: str) -> int:
        raise MemoryError

    monkeypatch.setattr(rig.disk, "free_bytes", fail)
    calls = rig.disk.calls
    worker.resume()  # type: ignore[attr-defined]
    rig.loop.run()
    assert rig.disk.calls == calls
    assert [type(error) for _, error in rig.answers[1:]] == [DiskFault]


def test_a_large_append_leaves_the_loop_to_the_thread(rig: Rig) -> None:
    assert append_here(rig, (entry(1, 1, b"x" * 100_000),), term=1) == []


def test_a_disk_that_was_slow_is_left_to_the_thread() -> None:
    rig = Rig(log_inline_sync_max=0.001)
    log = rig.open()
    pwrite = log._writer._file.pwrite

    def slow(data: bytes, offset: int) -> None:
        rig.loop._now += 0.5
        pwrite(data, offset)

    log._writer._file.pwrite = slow  # type: ignore[method-assign]
    assert append_here(rig, entries(1, 2), term=1) == [None]
    log._writer._file.pwrite = pwrite  # type: ignore[method-assign]
    assert append_here(rig, entries(2, 3)) == []
    rig.loop.run()
    for index in range(3, 100):
        rig.append(entries(index, index + 1))
    assert append_here(rig, entries(100, 101)) == [None]


def test_a_failed_append_on_the_loop_ends_the_log_as_one_in_the_thread(rig: Rig) -> None:
    rig.append(entries(1, 2), term=1)
    rig.disk.fail_nth_call(1, errno.EIO)
    (error,) = append_here(rig, entries(2, 3))
    assert isinstance(error, DiskFault)
    rig.submit(entries(3, 4))
    rig.loop.run()
    assert isinstance(rig.answers[-1][1], DiskFault)
