"""Stable prefix, unstable tail, conflict search: against a plain list."""

from __future__ import annotations

import random

import pytest

from rsqlite.raft import log as log_module
from rsqlite.raft.log import Log
from rsqlite.raft.output import AppendWork
from rsqlite.raft.types import Entry, EntryKind, InvariantViolation
from tests.raft.cluster import MemoryLog, entries


def entry(index: int, term: int, size: int = 1) -> Entry:
    return Entry(term, index, EntryKind.COMMAND, b"x" * size)


def hand_out(log: Log, disk: MemoryLog, token: int) -> AppendWork:
    work = AppendWork(token, *log.hand_out(token), None, ())
    disk.append(work)
    return work


def test_a_log_begins_with_what_the_disk_holds() -> None:
    log = Log(MemoryLog(entries(1, 1, 3)))
    assert (log.last_index, log.last_term, log.durable_index) == (3, 3, 3)
    assert [log.term(index) for index in range(5)] == [0, 1, 1, 3, None]
    assert not log.has_work


def test_entries_are_handed_out_once_and_durable_when_completed() -> None:
    disk = MemoryLog(entries(1))
    log = Log(disk)
    log.append(entry(2, 1))
    log.append(entry(3, 1))
    work = hand_out(log, disk, 1)
    assert (work.truncate_from, len(work.entries)) == (None, 2)
    assert not log.has_work
    assert log.durable_index == 1
    log.append(entry(4, 2))
    hand_out(log, disk, 2)
    log.completed(1)
    assert log.durable_index == 3
    log.completed(2)
    log.completed(1)
    assert log.durable_index == 4


def test_a_later_completion_stands_for_the_earlier() -> None:
    log = Log(MemoryLog())
    for index in (1, 2, 3):
        log.append(entry(index, 1))
        log.hand_out(index)
    log.completed(3)
    assert log.durable_index == 3
    assert not log.has_work_under_way


def test_rule_23_a_late_completion_never_speaks_for_entries_that_came_after() -> None:
    disk = MemoryLog(entries(1))
    log = Log(disk)
    log.append(entry(2, 2))
    hand_out(log, disk, 1)
    log.truncate(2, commit_index=1)
    log.append(entry(2, 3))
    hand_out(log, disk, 2)
    # The first entry comes back: same term, same index, another write.
    log.truncate(2, commit_index=1)
    log.append(entry(2, 2))
    hand_out(log, disk, 3)
    log.completed(1)
    assert log.durable_index == 1
    log.completed(2)
    assert log.durable_index == 1
    log.completed(3)
    assert log.durable_index == 2


def test_entries_truncated_before_they_were_handed_out_never_reach_the_disk() -> None:
    disk = MemoryLog(entries(1))
    log = Log(disk)
    log.append(entry(2, 2))
    log.append(entry(3, 2))
    log.truncate(3, commit_index=1)
    log.append(entry(3, 4))
    work = hand_out(log, disk, 1)
    assert work.truncate_from is None
    assert [one.term for one in work.entries] == [2, 4]


def test_rule_18_truncation_at_or_below_commit_stops_the_process() -> None:
    log = Log(MemoryLog(entries(1, 1, 2)))
    with pytest.raises(InvariantViolation, match="commit 2"):
        log.truncate(2, commit_index=2)
    with pytest.raises(InvariantViolation, match="gap"):
        log.append(entry(5, 2))
    with pytest.raises(InvariantViolation, match="terms go down"):
        log.append(entry(4, 1))


def test_a_read_stops_at_its_bytes_but_brings_one_entry() -> None:
    log = Log(MemoryLog())
    for index in range(1, 6):
        log.append(entry(index, 1, size=10))
    assert len(log.entries(1, 6, 25)) == 2
    assert len(log.entries(1, 6, 1)) == 1
    assert len(log.entries(1, 6, 50)) == 5
    assert log.entries(3, 3, 50) == []


def test_the_tail_is_bounded_once_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "WINDOW_ENTRIES", 8)
    disk = MemoryLog()
    log = Log(disk)
    for index in range(1, 101):
        log.append(entry(index, index // 10))
        if index % 3 == 0:
            hand_out(log, disk, index)
            log.completed(index)
        assert len(log.tail) <= 2 * 8 + 4
    assert [log.term(index) for index in range(1, 101)] == [index // 10 for index in range(1, 101)]
    # Nothing that is not durable is forgotten, whatever its size.
    for index in range(101, 150):
        log.append(entry(index, 10))
    assert len(log.tail) >= 49


def test_last_index_at_most_finds_what_a_scan_finds() -> None:
    rng = random.Random(3)
    for _ in range(300):
        terms = sorted(rng.choices(range(1, 6), k=rng.randint(0, 12)))
        log = Log(MemoryLog(entries(*terms)))
        for index in range(-1, len(terms) + 3):
            for term in range(7):
                scan = [
                    one for one in range(1, min(index, len(terms)) + 1) if terms[one - 1] <= term
                ]
                assert log.last_index_at_most(index, term) == (scan[-1] if scan else 0)


def test_a_log_is_up_to_date_by_last_term_then_length() -> None:
    log = Log(MemoryLog(entries(1, 2, 2)))
    assert log.is_up_to_date(3, 2)
    assert log.is_up_to_date(1, 3)
    assert not log.is_up_to_date(2, 2)
    assert not log.is_up_to_date(9, 1)


def test_a_random_life_against_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "WINDOW_ENTRIES", 2)
    monkeypatch.setattr(log_module, "WINDOW_BYTES", 30)
    for seed in range(40):
        rng = random.Random(seed)
        disk = MemoryLog(entries(1, 1))
        log, twin, term, token = Log(disk), entries(1, 1), 1, 0
        for _ in range(120):
            match rng.randrange(6):
                case 0 | 1:
                    one = entry(len(twin) + 1, term, size=rng.randrange(12))
                    log.append(one)
                    twin.append(one)
                case 2 if len(twin) > 2:
                    first = rng.randint(3, len(twin))
                    log.truncate(first, commit_index=2)
                    del twin[first - 1 :]
                    term += 1
                case 3 if log.has_work:
                    token += 1
                    hand_out(log, disk, token)
                case 4 if disk.pending:
                    log.completed(disk.sync().token)
                    # Durable means: the disk holds just these.
                    durable = log.durable_index
                    assert disk.durable[:durable] == twin[:durable]
                case _:
                    low = rng.randint(1, len(twin))
                    got = log.entries(low, len(twin) + 1, 25)
                    assert got == twin[low - 1 : low - 1 + len(got)]
                    assert got
            assert log.last_index == len(twin)
            assert log.last_term == twin[-1].term
            probe = rng.randint(1, len(twin))
            assert log.term(probe) == twin[probe - 1].term
