"""The front of the log goes, or all of it: what is left is there whatever happens meanwhile."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from rsqlite.errors import DamagedFile, DiskFault, InvariantViolation
from rsqlite.raft.types import Entry, Index, Term
from rsqlite.storage.segment import sequence_of
from rsqlite.testing.disk import RamDisk
from tests.storage.rig import DIRECTORY, Rig, entries, entry


def segments(rig: Rig) -> list[int]:
    return sorted(n for n in map(sequence_of, rig.disk.listdir(DIRECTORY)) if n is not None)


def filled(count: int = 60, **changes: object) -> Rig:
    """A log of several segments, in one term after the other."""
    rig = Rig(**changes)
    rig.open()
    for index in range(1, count + 1):
        rig.append([entry(index, 1 + index // 20, b"x" * 100)], term=1 + index // 20)
    return rig


def test_whole_segments_before_an_index_go_and_stay_gone() -> None:
    rig = filled()
    before, all_entries = segments(rig), rig.content()
    rig.log.cut(Index(30))
    first = rig.log.first_index
    assert 1 < first <= 30, "visible at once"
    rig.loop.run()
    assert len(segments(rig)) < len(before)
    for _ in range(2):
        assert rig.content() == all_entries[first - 1 :]
        assert rig.log.term(Index(first - 1)) == all_entries[first - 2].term
        assert rig.log.term(Index(first - 2)) is None
        with pytest.raises(InvariantViolation):
            rig.log.entries(Index(first - 1), Index(first + 1), 1000)
        rig.reopen()
    rig.append([entry(61, 4)])
    assert rig.log.last_index == 61


def test_what_is_asked_to_be_kept_is_kept() -> None:
    for keep_from in range(1, 70):
        rig = filled()
        rig.log.cut(Index(keep_from))
        rig.loop.run()
        assert rig.log.first_index <= min(keep_from, 60)
        rig.append([entry(61, 4)], term=4)
        assert rig.reopen().last_index == 61


def test_the_log_does_not_begin_where_earlier_entries_were_taken_back() -> None:
    rig = filled(30)
    last = len(segments(rig))
    rig.append([entry(12, 5)], truncate_from=12, term=5)
    rig.append([entry(index, 5, b"y" * 100) for index in range(13, 60)])
    assert len(segments(rig)) > last
    content = rig.content()
    for keep_from in range(1, 60):
        rig.log.cut(Index(keep_from))
        rig.loop.run()
        first = rig.log.first_index
        assert rig.content() == content[first - 1 :]
        rig.reopen()
        assert rig.content() == content[first - 1 :]


def test_an_entry_that_is_not_durable_is_never_cut() -> None:
    rig = filled()
    rig.submit([entry(index, 4, b"z" * 100) for index in range(61, 90)], term=4)
    rig.log.cut(Index(90))
    assert rig.log.first_index <= 60
    rig.loop.run()
    assert rig.reopen().last_index == 89


def test_a_log_that_is_reset_begins_behind_the_image() -> None:
    rig = filled()
    ended: list[BaseException | None] = []
    rig.log.reset(Index(500), Term(7), ended.append)
    assert (rig.log.first_index, rig.log.last_index) == (501, 500)
    rig.loop.run()
    assert ended == [None]
    for _ in range(2):
        assert rig.log.hard_state.term == 7, "an entry never stands above the stored term"
        assert (rig.log.first_index, rig.log.last_index) == (501, 500)
        assert rig.log.term(Index(500)) == 7
        assert rig.content() == []
        rig.reopen()
    rig.append(entries(501, 520, 8), term=8)
    rig.log.reset(Index(510), Term(8), ended.append)
    rig.loop.run()
    rig.append(entries(511, 515, 9), term=9)
    rig.reopen()
    assert rig.content() == list(entries(511, 515, 9))
    assert len(segments(rig)) <= 2


def test_nothing_may_be_under_way_when_the_log_is_reset() -> None:
    rig = filled()
    rig.submit([entry(61, 4)], term=4)
    with pytest.raises(InvariantViolation, match="while it is written"):
        rig.log.reset(Index(500), Term(7), lambda error: None)


def cut(rig: Rig) -> None:
    rig.log.cut(Index(40))
    rig.loop.run()


def reset(rig: Rig) -> None:
    rig.log.reset(Index(500), Term(7), lambda error: None)
    rig.loop.run()


@pytest.mark.parametrize("work", [cut, reset], ids=["cut", "reset"])
@pytest.mark.parametrize("seed", range(4))
def test_the_power_may_go_at_any_moment(work: Callable[[Rig], None], seed: int) -> None:
    """Either nothing has happened, or all of it."""
    calls = 0
    while True:
        rig = filled()
        content = rig.content()
        rig.disk.fail_nth_call(calls, errno.EIO, once=False)
        work(rig)
        is_over = rig.log.failure is None
        rig.disk.stop_failing()
        rig.disk.power_loss(random.Random(1000 * seed + calls))
        log = rig.open()
        found = rig.content()
        if work is cut:
            assert found == content[log.first_index - 1 :]
            assert log.first_index <= 40
            assert log.last_index == 60
            rig.append([entry(61, 4)], term=4)
        else:
            assert (found, log.last_index) in [(content, 60), ([], 500)]
            assert log.last_index == 500 or not is_over
            rig.append([entry(log.last_index + 1, 8)], term=8)
        last = rig.log.last_index
        assert rig.reopen().last_index == last
        if is_over:
            break
        calls += 1
    assert calls >= 4


def test_a_file_at_the_front_that_is_missing_is_still_damage() -> None:
    rig = filled()
    rig.log.cut(Index(30))
    rig.loop.run()
    rig.kill()
    rig.disk.unlink(f"{DIRECTORY}/{segments(rig)[0]:016d}.log")
    with pytest.raises(DamagedFile, match="segment is missing"):
        rig.open()


def test_an_error_while_it_is_cut_ends_the_log() -> None:
    rig = filled()
    rig.disk.fail_nth_call(0, errno.EIO, once=False)
    cut(rig)
    answers: list[BaseException | None] = []
    rig.log.append(
        truncate_from=None, entries=(entry(61, 4),), hard_state=None, done=answers.append
    )
    rig.loop.run()
    assert isinstance(answers[0], DiskFault)


def test_the_same_life_with_and_without_cuts(request: pytest.FixtureRequest) -> None:
    """Random appends, truncations, cuts and restarts against a list."""
    for seed in range(30):
        chance = random.Random(seed)
        rig = Rig(RamDisk.from_files({"/data/x": b""}))
        log = rig.open()
        model: list[Entry] = []
        term = committed = 1
        for _ in range(60):
            what = chance.random()
            if what < 0.6:
                new = [
                    entry(len(model) + 1 + n, term, bytes(chance.randrange(300)))
                    for n in range(chance.randrange(1, 8))
                ]
                rig.append(new, term=term)
                model += new
            elif what < 0.75 and len(model) > committed:
                first = chance.randrange(committed + 1, len(model) + 1)
                term += 1
                del model[first - 1 :]
                rig.append([entry(first, term)], truncate_from=first, term=term)
                model.append(entry(first, term))
            elif what < 0.9:
                committed = max(committed, chance.randrange(0, len(model) + 1))
                log.cut(Index(committed))
                rig.loop.run()
            else:
                log = rig.reopen()
            assert log.last_index == len(model)
            assert log.first_index <= max(1, committed)
            assert rig.content() == model[log.first_index - 1 :], f"seed {seed}"
