"""What a start makes of files that a crash or a bad disk left: tears are cut, damage never is."""

from __future__ import annotations

import pytest

from rsqlite.errors import DamagedFile
from rsqlite.raft.types import Entry, Index
from rsqlite.storage.finding import Severity
from rsqlite.storage.hardstate import PAGE_BYTES as HARD_PAGE_BYTES
from rsqlite.storage.record import HEADER_BYTES, TRUNCATE, record_bytes
from rsqlite.storage.recovery import examine_log
from rsqlite.storage.segment import PAGE_BYTES
from rsqlite.testing.disk import RamDisk
from tests.storage.rig import DIRECTORY, Rig, entries, entry

HARD_STATE = f"{DIRECTORY}/hardstate"
KINDS = (1, 2, 3, TRUNCATE)


def segment(sequence: int = 1) -> str:
    return f"{DIRECTORY}/{sequence:016d}.log"


def rig_with(content: dict[str, bytes]) -> Rig:
    return Rig(RamDisk.from_files(content))


def recovered(content: dict[str, bytes]) -> tuple[list[Entry], Rig]:
    """What a start makes of these files."""
    rig = rig_with(content)
    rig.open()
    return rig.content(), rig


class LastRecord:
    """A log whose last record, of some kind, was written but perhaps never acknowledged.

    `before` are the files without it and `after` with it; `mark` is the hard state's file of
    before, as a crash between the sync and the writing of the mark leaves it.
    """

    def __init__(self, kind: int) -> None:
        rig = Rig()
        rig.open()
        rig.append([*entries(1, 4), entry(4, 1, b"", 3)], term=1)
        self.before = rig.disk.files()
        self.entries_before = rig.content()
        self.start = rig.log._writer.mark.offset
        if kind == TRUNCATE:
            rig.append(truncate_from=3)
            self.length = 0
        else:
            data = b"" if kind == 3 else bytes(range(1, 38))
            rig.append([entry(5, 1, data, kind)])
            self.length = len(data)
        self.end = rig.log._writer.mark.offset
        self.after = rig.disk.files()
        self.entries_after = rig.content()

    @property
    def unmarked(self) -> dict[str, bytes]:
        return self.after | {HARD_STATE: self.before[HARD_STATE]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tail_torn_at_any_byte_is_cut(kind: int) -> None:
    """Every byte offset of the last record, every kind of record: exactly it goes (fault F16)."""
    last = LastRecord(kind)
    whole = last.unmarked[segment()]
    for cut in range(last.start, last.end + 1):
        torn = whole[:cut] + bytes(len(whole) - cut)
        content, rig = recovered(last.unmarked | {segment(): torn})
        # The rest of a record may have been zeros anyway, its padding always is.
        is_whole = torn == whole
        assert content == (last.entries_after if is_whole else last.entries_before), cut
        texts = [str(finding) for finding in rig.log.findings]
        is_seen = not is_whole and any(torn[last.start :])
        assert [text.startswith("info: ") and "torn write" in text for text in texts] == (
            [True] if is_seen else []
        )
        # What was cut stays cut, and the log goes on.
        next_index = len(content) + 1
        rig.append([entry(next_index, 1, b"after")])
        rig.disk.power_loss()
        rig.open()
        assert rig.content() == [*content, entry(next_index, 1, b"after")]
        assert rig.log.findings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_ends_within_the_last_record_is_cut(kind: int) -> None:
    last = LastRecord(kind)
    for cut in range(last.start, last.start + HEADER_BYTES + last.length):
        content, _ = recovered(last.unmarked | {segment(): last.after[segment()][:cut]})
        assert content == last.entries_before, cut


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tear_below_the_durable_mark_is_damage(kind: int) -> None:
    """The hard case of protocol-aware recovery: the last record, but it was acknowledged (F20)."""
    last = LastRecord(kind)
    whole = last.after[segment()]
    for cut in range(last.start, last.start + HEADER_BYTES + last.length):
        torn = whole[:cut] + bytes(len(whole) - cut)
        if torn == whole:
            continue
        rig = rig_with(last.after | {segment(): torn})
        before = rig.disk.files()
        with pytest.raises(DamagedFile, match=r"a record is unreadable that was on disk"):
            rig.open()
        assert rig.disk.files() == before


def test_a_bad_record_with_a_later_write_after_it_is_damage_without_a_mark() -> None:
    """The mark was lost with the power; the later record proves that the bad one was synced."""
    rig = Rig(segment_bytes=1 << 16)
    rig.open()
    hard_state = rig.disk.files()[HARD_STATE]
    rig.append(term=1)
    hard_state = rig.disk.files()[HARD_STATE]
    ends = [PAGE_BYTES]
    for index in range(1, 6):
        rig.append([entry(index)])
        ends.append(rig.log._writer.mark.offset)
    files = rig.disk.files() | {HARD_STATE: hard_state}
    for number in range(5):
        for byte in range(ends[number], ends[number] + HEADER_BYTES + 10):
            rig = rig_with(files)
            rig.disk.flip_bit(segment(), byte * 8 + byte % 8)
            if number == 4:
                rig.open()
                assert [one.index for one in rig.content()] == [1, 2, 3, 4]
            else:
                with pytest.raises(DamagedFile, match=r"a later one at byte \d+ is whole"):
                    rig.open()


def test_a_hole_within_one_write_is_a_tear_although_records_follow() -> None:
    """A power loss may keep the later sectors of a write and not the earlier; none of it was
    acknowledged, so nothing is lost by cutting it."""
    rig = Rig(segment_bytes=1 << 16)
    rig.open()
    rig.append([entry(1)], term=1)
    hard_state = rig.disk.files()[HARD_STATE]
    start = rig.log._writer.mark.offset
    rig.append([entry(index, 1, b"x" * 600) for index in range(2, 6)])
    files = rig.disk.files() | {HARD_STATE: hard_state}
    for number in range(4):
        hole = bytearray(files[segment()])
        at = start + number * record_bytes(600)
        hole[at + 100 : at + 500] = bytes(400)
        content, again = recovered(files | {segment(): bytes(hole)})
        assert [one.index for one in content] == list(range(1, 2 + number))
        assert len(again.log.findings) == 1
        again.append([entry(2 + number, 1, b"y" * 40)])
        again.reopen()
        assert again.content()[-1] == entry(2 + number, 1, b"y" * 40)


def flip_log() -> tuple[dict[str, bytes], list[Entry], dict[str, list[int]]]:
    """A log of two segments with every kind of record; the bytes of it that are in use."""
    rig = Rig(segment_bytes=PAGE_BYTES + 400)
    rig.open()
    rig.append(entries(1, 4), term=1)
    rig.append([entry(3, 2, b"", 3), entry(4, 2, b"new", 2)], truncate_from=3, term=2)
    rig.append(entries(5, 8, term=2), voted_for=9, term=2)
    rig.append(entries(8, 11, term=2))
    end = rig.log._writer.mark
    assert end.segment == 2
    used = {
        segment(1): [*range(72), *range(PAGE_BYTES, PAGE_BYTES + 400)],
        segment(2): [*range(72), *range(PAGE_BYTES, end.offset)],
        HARD_STATE: [page * HARD_PAGE_BYTES + n for page in range(6) for n in range(72)],
    }
    rig.log.close()
    return rig.disk.files(), rig.content(), used


@pytest.mark.slow
@pytest.mark.parametrize("bits", range(8))
def test_every_flipped_bit_is_detected_or_harmless(bits: int) -> None:
    """Header, records, slots, marks: never a shorter log, never other content (F19, F20)."""
    files, content, used = flip_log()
    detected = harmless = 0
    for path, places in used.items():
        for byte in places:
            rig = rig_with(files)
            rig.disk.flip_bit(path, byte * 8 + (byte + bits) % 8)
            before = rig.disk.files()
            try:
                log = rig.open()
            except DamagedFile:
                assert rig.disk.files() == before
                detected += 1
                continue
            assert rig.content() == content
            assert log.hard_state.voted_for == 9
            harmless += 1
    # Padding, second copies and marks: the rest must not be many.
    assert detected > 600
    assert harmless < 700


@pytest.mark.parametrize("name", [segment(1), segment(2), HARD_STATE])
def test_a_missing_file_is_damage(name: str) -> None:
    files, _, _ = flip_log()
    del files[name]
    with pytest.raises(DamagedFile, match="missing"):
        rig_with(files).open()


def test_an_emptied_segment_is_damage() -> None:
    files, _, _ = flip_log()
    for content in (b"", bytes(len(files[segment(2)]))):
        with pytest.raises(DamagedFile, match="missing"):
            rig_with(files | {segment(2): content}).open()


def several_segments() -> Rig:
    """A log of three segments, whose hard state has a vote."""
    rig = Rig(segment_bytes=PAGE_BYTES + 400)
    rig.open()
    rig.append(entries(1, 4), term=3, voted_for=9)
    while rig.log._writer.mark.segment < 3:
        rig.append([entry(rig.log.last_index + 1)])
    return rig


@pytest.mark.parametrize("place", ["header", "record", "file"])
def test_the_log_begins_behind_damage_that_the_database_holds(place: str) -> None:
    rig = several_segments()
    last, first = rig.log.last_index, rig.log.first_index_after(2)
    assert first is not None
    files = rig.disk.files()
    if place == "file":
        del files[segment(2)]
    rig = rig_with(files)
    if place != "file":
        rig.disk.flip_bit(segment(2), (20 if place == "header" else PAGE_BYTES + 50) * 8)
    with pytest.raises(DamagedFile, match=r"0002\.log"):
        rig.open(held=first - 2)
    assert segment(1) in rig.disk.files()
    log = rig.open(held=first - 1)
    assert (log.first_index, log.last_index) == (first, last)
    assert log.hard_state.voted_for == 9
    assert [one.path for one in log.left_behind] == [segment(2)]
    rig.append([entry(last + 1)])
    again = rig.reopen()
    assert (again.first_index, again.last_index) == (first, last + 1)
    assert again.left_behind == ()


def test_damage_of_the_newest_segment_or_of_the_promises_is_never_left_behind() -> None:
    files = several_segments().disk.files()
    for name, pages in ((segment(3), 1), (HARD_STATE, 6)):
        rig = rig_with(files)
        for page in range(pages):
            rig.disk.flip_bit(name, (page * HARD_PAGE_BYTES + 20) * 8)
        with pytest.raises(DamagedFile):
            rig.open(held=1000)


def test_an_old_copy_of_the_hard_state_is_not_taken_for_damage_of_a_segment() -> None:
    rig = Rig(segment_bytes=PAGE_BYTES + 400)
    rig.open()
    rig.append([entry(1)], term=1)
    old = rig.disk.files()[HARD_STATE]
    while rig.log._writer.mark.segment < 2:
        rig.append([entry(rig.log.last_index + 1, 2)], term=2)
    image = rig_with(rig.disk.files() | {HARD_STATE: old})
    # Only the header of the newest segment was written, say.
    image.disk.open(segment(2)).pwrite(
        bytes(len(rig.disk.files()[segment(2)]) - PAGE_BYTES), PAGE_BYTES
    )
    with pytest.raises(DamagedFile, match="stored term is 1"):
        image.open(held=1000)


def test_an_old_copy_of_the_hard_state_is_seen() -> None:
    """Restored from a backup, it would take a vote back."""
    rig = Rig()
    rig.open()
    rig.append(entries(1, 3), term=1)
    old = rig.disk.files()[HARD_STATE]
    rig.append(entries(3, 4, term=2), term=2)
    files = rig.disk.files() | {HARD_STATE: old}
    with pytest.raises(DamagedFile, match="of term 2, but the stored term is 1"):
        rig_with(files).open()
    # The same term, but a vote of the next start may be missing.
    old = rig.disk.files()[HARD_STATE]
    rig.reopen()
    rig.append(entries(4, 60, term=2), term=2, voted_for=5)
    files = rig.disk.files() | {HARD_STATE: old}
    with pytest.raises(DamagedFile, match="must be an old copy"):
        rig_with(files).open()


def test_segments_of_another_node_or_in_a_wrong_place_are_seen() -> None:
    files, _, _ = flip_log()
    swapped = files | {segment(1): files[segment(2)], segment(2): files[segment(1)]}
    with pytest.raises(DamagedFile, match="under another name"):
        rig_with(swapped).open()


@pytest.mark.parametrize("index_gap", [0, 3])
def test_bytes_of_a_recycled_segment_never_come_back(index_gap: int) -> None:
    """A file made from an old one without wiping: whatever it held is no record of the new, not
    even one that has the next index and stands where the next record would."""
    rig = Rig(segment_bytes=PAGE_BYTES + 2000)
    rig.open()
    rig.append(entries(1, 20), term=1)
    old = rig.disk.files()[segment(1)]
    while rig.log._writer.mark.segment == 1:
        rig.append([entry(rig.log.last_index + 1)])
    if index_gap:
        rig.append([entry(1 + index_gap)], truncate_from=1 + index_gap)
    file = rig.disk.open(segment(2))
    end = rig.log._writer.mark.offset
    file.pwrite(old[end:], end)
    file.sync()
    for _ in range(5):
        last = rig.log.last_index
        image = examine_log(DIRECTORY, rig.disk)
        assert image.damage is None
        assert image.terms.last_index == last
        rig.append([entry(last + 1)])
    want = rig.content()
    rig.reopen()
    assert rig.content() == want


def test_a_prepared_segment_without_a_header_is_made_anew() -> None:
    rig = Rig()
    rig.open()
    rig.append(entries(1, 12), term=1)
    files = rig.disk.files()
    assert not any(files[segment(2)][:PAGE_BYTES])
    # The header was lost with the power, records of the same write were not.
    garbage = bytes(PAGE_BYTES) + b"\xff" * 5000
    content, again = recovered(files | {segment(2): garbage})
    assert content == list(entries(1, 12))
    while again.log._writer.mark.segment == 1:
        again.append([entry(again.log.last_index + 1)])
    log = again.reopen()
    assert log.findings == ()
    assert again.content() == list(entries(1, log.last_index + 1))


def test_a_leftover_of_creating_the_hard_state_is_removed() -> None:
    rig = Rig(RamDisk.from_files({f"{DIRECTORY}/hardstate.new": b"half"}))
    rig.open()
    assert f"{DIRECTORY}/hardstate.new" not in rig.disk.files()


def test_damage_in_an_old_record_is_found_when_it_is_read() -> None:
    rig = Rig()
    rig.open()
    rig.append(entries(1, 6), term=1)
    rig.disk.flip_bit(segment(), (PAGE_BYTES + HEADER_BYTES + 3) * 8)
    with pytest.raises(DamagedFile, match=r"0001\.log at byte 4096: the payload fails"):
        rig.log.entries(Index(1), Index(3), 1000)
    assert rig.log.entries(Index(2), Index(6), 1000) == list(entries(2, 6))


def test_the_findings_of_an_examination_say_what_and_where() -> None:
    files, _, _ = flip_log()
    rig = rig_with(files)
    rig.disk.flip_bit(segment(1), (PAGE_BYTES + 5) * 8)
    image = examine_log(DIRECTORY, rig.disk)
    assert image.damage is not None
    assert image.damage.severity is Severity.DAMAGE
    assert (image.damage.path, image.damage.offset) == (segment(1), PAGE_BYTES)
    assert "join again" in image.damage.advice
