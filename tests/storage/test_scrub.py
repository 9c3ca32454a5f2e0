"""Records on the disk are read again while the log is in use, and damage in them is let go."""

from __future__ import annotations

import os
import random

import pytest

from rsqlite.raft.types import HardState, Index, NodeId, Term
from rsqlite.storage.hardstate import NAME, PAGE_BYTES
from rsqlite.storage.record import HEADER_BYTES, record_bytes
from rsqlite.storage.segment import ScanEnd, segment_name
from tests.storage.rig import DIRECTORY, Rig, entry
from tests.storage.test_cutting import filled, segments

HARD_STATE = f"{DIRECTORY}/{NAME}"


def path_of(sequence: int) -> str:
    return os.path.join(DIRECTORY, segment_name(sequence))


def problems(rig: Rig, bytes_max: int = 300) -> list[str]:
    """What is wrong with the whole log, read in pieces."""
    found: list[str] = []
    for sequence in rig.log.durable_segments():
        place: ScanEnd | None = None
        is_end = False
        while not is_end:
            work = rig.log.rereading(sequence, place, bytes_max)
            assert work is not None
            _, place, is_end, problem = work()
            found += [problem] if problem else []
    return found


def ends(rig: Rig) -> dict[int, int]:
    """Where the last record of each segment ends."""
    log, found = rig.log, {}
    for n in log.durable_segments():
        place = None
        work = log.rereading(n, None, 1 << 30)
        assert work is not None
        _, place, is_end, problem = work()
        assert is_end
        assert not problem
        assert place is not None
        found[n] = place.offset
    return found


@pytest.mark.parametrize("bytes_max", [1, 200, 5000, 1 << 20])
def test_a_sound_log_is_read_to_its_end_in_pieces(bytes_max: int) -> None:
    rig = filled()
    assert len(rig.log.durable_segments()) > 5
    assert problems(rig, bytes_max) == []
    size, place, is_end, pieces = 0, None, False, 0
    while not is_end:
        work = rig.log.rereading(2, place, bytes_max)
        assert work is not None
        read = work()
        assert read.size <= PAGE_BYTES + max(bytes_max + record_bytes(100), 1)
        size, place, is_end = size + read.size - PAGE_BYTES, read.place, read.is_end
        pieces += 1
    assert size == ends(rig)[2] - PAGE_BYTES
    assert (pieces > 1) == (bytes_max < 1000)


def test_every_flipped_bit_of_a_record_or_a_header_is_found() -> None:
    rig = filled()
    end_of = ends(rig)
    chance = random.Random(1)
    length = record_bytes(100)
    used = [8 * n + chance.randrange(8) for n in range(72)]
    for sequence, end in end_of.items():
        for _ in range(10):
            at = chance.randrange(PAGE_BYTES, end)
            if (at - PAGE_BYTES) % length < HEADER_BYTES + 100:  # not in the padding
                used.append(8 * at + chance.randrange(8))
        for bit in used:
            rig.disk.flip_bit(path_of(sequence), bit)
            found = problems(rig)
            rig.disk.flip_bit(path_of(sequence), bit)
            assert found, (sequence, bit)
            assert found[0].startswith(path_of(sequence)), "it is named"
            if bit >= 8 * PAGE_BYTES:
                start = bit // 8 - (bit // 8 - PAGE_BYTES) % length
                assert f"at byte {start}: " in found[0]
        used.clear()
    assert problems(rig) == []


def test_what_is_behind_the_end_is_nothing() -> None:
    rig = filled()
    for sequence, end in ends(rig).items():
        if rig.disk.open(path_of(sequence)).size() > end:
            rig.disk.flip_bit(path_of(sequence), 8 * end + 3)
    assert problems(rig) == []


def test_what_is_appended_or_taken_back_meanwhile_does_not_disturb() -> None:
    rig = filled(20)
    index, term = 21, 5
    place, sequence = None, rig.log.durable_segments()[-1]
    for step in range(60):
        if step % 7 == 6:
            index -= 5
            term += 1
            rig.append([entry(index, term)], truncate_from=index, term=term)
        else:
            rig.append([entry(index, term, b"y" * 100)], term=term)
        index += 1
        work = rig.log.rereading(sequence, place, 1)
        assert work is not None
        rig.submit([entry(index, term, b"z" * 50)])
        read = work()
        assert not read.problem
        place = None if read.is_end else read.place
        sequence += read.is_end and sequence < rig.log.durable_segments()[-1]
        rig.loop.run()
        index += 1
    assert sequence > 3
    assert problems(rig) == []


def test_a_segment_that_is_missing_is_damage_and_one_that_was_cut_is_none() -> None:
    rig = filled()
    rig.disk.unlink(path_of(2))
    assert problems(rig) == [f"{path_of(2)} is missing"]
    rig = filled()
    rig.log.cut(Index(40))
    rig.loop.run()
    assert rig.log.rereading(1, None, 100) is None
    assert problems(rig) == []


def test_a_damaged_part_can_be_cut_also_the_newest() -> None:
    for sequence in segments(filled())[:-1]:
        rig = filled()
        content = rig.content()
        rig.disk.flip_bit(path_of(sequence), 8 * PAGE_BYTES + 5)
        assert len(problems(rig)) == 1
        if rig.log.first_index_after(sequence) is None:
            rig.log.roll()
            rig.loop.run()
        first = rig.log.first_index_after(sequence)
        assert first is not None
        rig.log.cut(first)
        rig.loop.run()
        assert rig.log.first_index == first
        for _ in range(2):
            assert problems(rig) == []
            assert rig.log.last_index == 60
            assert rig.log.term(Index(60)) == 4
            assert rig.content() == content[first - 1 :]
            rig.reopen()
        rig.append([entry(61, 4)])
        rig.reopen()
        assert rig.content() == [*content[first - 1 :], entry(61, 4)]


def test_a_log_cannot_begin_where_entries_of_the_damaged_part_are_taken_back() -> None:
    rig = filled(30)
    (newest,) = rig.log.durable_segments()[-1:]
    rig.append([entry(index, 5, b"y" * 100) for index in range(12, 40)], truncate_from=12, term=5)
    content = rig.content()
    first = rig.log.first_index_after(newest - 1)
    assert first is not None
    assert rig.log._places.run(int(first), 40)[0] > newest
    rig.log.cut(first)
    rig.loop.run()
    assert rig.reopen().first_index == first
    assert rig.content() == content[first - 1 :]


@pytest.mark.parametrize("step", range(12))
def test_a_power_loss_at_any_step_of_it_leaves_a_log(step: int) -> None:
    rig = filled()
    content = rig.content()
    newest = rig.log.durable_segments()[-1]
    rig.disk.fail_nth_call(rig.disk.calls + 1 + step, 5)
    rig.log.roll()
    rig.loop.run()
    rig.log.cut(rig.log.first_index_after(newest) or Index(1))
    rig.loop.run()
    rig.disk.stop_failing()
    rig.disk.power_loss(random.Random(step))
    rig.reopen()
    assert rig.log.last_index == 60
    assert rig.content() == content[rig.log.first_index - 1 :]


def test_roll_waits_for_what_is_under_way() -> None:
    rig = filled()
    before = segments(rig)
    rig.submit([entry(61, 4)])
    rig.log.roll()
    rig.submit([entry(62, 4)])
    rig.log.roll()
    rig.loop.run()
    rig.append([entry(63, 4)])
    assert len(segments(rig)) > len(before)
    assert [one.index for one in rig.content()[-3:]] == [61, 62, 63]
    assert rig.reopen().last_index == 63


def test_an_entry_longer_than_a_segment_right_behind_a_roll_is_in_a_segment_of_its_own() -> None:
    rig = filled()
    newest = rig.log.durable_segments()[-1]
    rig.log.roll()
    rig.submit([entry(61, 4, b"z" * 20 * PAGE_BYTES)])
    rig.loop.run()
    rig.append([entry(62, 4)])
    first = rig.log.first_index_after(newest)
    assert first == 61
    rig.log.cut(first)
    rig.loop.run()
    rig.append([entry(63, 4)])
    assert rig.reopen().last_index == 63
    assert [one.index for one in rig.content()] == [61, 62, 63]


# Term and vote


def renewed(rig: Rig) -> list[str]:
    found: list[list[str]] = []
    assert rig.log.renew_hard_state(found.append)
    rig.loop.run()
    (problems,) = found
    return problems


@pytest.mark.parametrize("pages", [[0], [1], [2], [3], [0, 1], [2, 3], [0, 1, 2, 3]])
def test_term_and_vote_are_written_again_from_what_is_known(pages: list[int]) -> None:
    rig = filled()
    rig.append(term=9, voted_for=3)
    assert renewed(rig) == []
    for page in pages:
        rig.disk.flip_bit(HARD_STATE, 8 * (page * PAGE_BYTES + 20))
    found = renewed(rig)
    assert found
    assert all(HARD_STATE in one for one in found)
    assert renewed(rig) == []
    assert rig.reopen().hard_state == HardState(Term(9), NodeId(3))
    assert not rig.log.findings


def test_an_old_state_that_came_back_is_written_over() -> None:
    rig = filled()
    file = rig.disk.open(HARD_STATE)
    old = file.pread(4 * PAGE_BYTES, 0)
    rig.append(term=9, voted_for=3)
    file.pwrite(old, 0)
    assert "not what was written last" in renewed(rig)[0]
    assert rig.reopen().hard_state == HardState(Term(9), NodeId(3))


def test_a_durable_mark_is_a_hint_and_not_damage() -> None:
    rig = filled()
    rig.disk.flip_bit(HARD_STATE, 8 * (4 * PAGE_BYTES + 20))
    assert renewed(rig) == []
