"""Term and vote: never an older one, whatever happens to the file."""

from __future__ import annotations

import random

import pytest

from rsqlite.raft.types import HardState, NodeId, Term
from rsqlite.storage.finding import Severity
from rsqlite.storage.hardstate import (
    FILE_BYTES,
    NO_MARK,
    PAGE_BYTES,
    HardStateContent,
    HardStateFile,
    Mark,
    read_hard_state,
)
from rsqlite.testing.disk import RamDisk, RamFile

PATH = "/log/hardstate"


def read(disk: RamDisk) -> HardStateContent:
    file = disk.open(PATH, writable=False)
    return read_hard_state(PATH, file)


def opened(disk: RamDisk) -> HardStateFile:
    content = read(disk)
    assert content.slot is not None
    return HardStateFile(disk.open(PATH), content.slot, content.mark_serial)


def disk_after(*states: HardState) -> RamDisk:
    disk = RamDisk()
    disk.mkdir("/log")
    disk.sync_directory("/")
    HardStateFile.create("/log", disk, 42)
    file = opened(disk)
    for state in states:
        file.write(state)
        file.write_mark(Mark(1, 4096 + state.term, state.term, 99))
    file.sync()
    return disk


def states(count: int) -> list[HardState]:
    return [HardState(Term(n), NodeId(n * 10) if n % 3 else None) for n in range(1, count + 1)]


def damage(content: HardStateContent) -> bool:
    return any(finding.severity is Severity.DAMAGE for finding in content.findings)


def test_a_new_file_is_of_a_node_that_never_voted() -> None:
    content = read(disk_after())
    assert content.slot is not None
    assert content.slot.state == HardState()
    assert (content.slot.node_id, content.slot.first_segment) == (42, 1)
    assert content.mark == NO_MARK
    assert content.findings == ()


@pytest.mark.parametrize("count", range(1, 6))
def test_the_newest_state_and_mark_are_read(count: int) -> None:
    disk = disk_after(*states(count))
    content = read(disk)
    assert content.slot is not None
    assert content.slot.state == states(count)[-1]
    assert content.mark == Mark(1, 4096 + count, count, 99)
    assert content.findings == ()
    assert len(disk.files()[PATH]) == FILE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_every_flipped_bit_is_harmless_or_damage(count: int) -> None:
    """A rotten newest slot must not bring an old vote back."""
    disk = disk_after(*states(count))
    want = read(disk)
    for page in range(6):
        for bit in range(page * PAGE_BYTES * 8, (page * PAGE_BYTES + 80) * 8):
            disk.flip_bit(PATH, bit)
            content = read(disk)
            assert content.slot == want.slot
            if page < 4:
                assert content.mark == want.mark
            elif count >= 2:
                # One mark is the one before: never further than the log was synced.
                assert content.mark in (want.mark, Mark(1, 4096 + count - 1, count - 1, 99))
            disk.flip_bit(PATH, bit)


def test_two_bad_copies_of_a_slot_are_damage() -> None:
    for slot in (0, 1):
        disk = disk_after(*states(4))
        for copy in (0, 1):
            disk.flip_bit(PATH, ((2 * slot + copy) * PAGE_BYTES + 20) * 8)
        assert damage(read(disk))


def test_an_emptied_slot_is_damage() -> None:
    disk = disk_after(*states(4))
    file = disk.open(PATH)
    file.pwrite(bytes(2 * PAGE_BYTES), 0)
    assert damage(read(disk))


def test_a_slot_in_the_place_of_the_other_is_not_believed() -> None:
    disk = disk_after(*states(4))
    data = disk.files()[PATH]
    disk.open(PATH).pwrite(data[: 2 * PAGE_BYTES], 2 * PAGE_BYTES)
    assert damage(read(disk))


def test_a_cut_file_is_damage() -> None:
    for length in (0, 10, PAGE_BYTES):
        disk = disk_after(*states(4))
        disk.open(PATH).truncate(length)
        assert damage(read(disk)) or read(disk).slot is None


@pytest.mark.parametrize("seed", range(100))
def test_a_power_loss_while_writing_leaves_the_old_state_or_the_new(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    known = states(chance.randint(1, 5))
    disk = disk_after(*known)
    file = opened(disk)
    new = HardState(Term(50), NodeId(7))
    # The power goes before the sync has done anything.
    monkeypatch.setattr(RamFile, "sync", lambda _: None)
    file.write(new)
    disk.power_loss(chance)
    content = read(disk)
    assert content.slot is not None
    assert content.slot.state in (known[-1], new)
    assert not damage(content)
