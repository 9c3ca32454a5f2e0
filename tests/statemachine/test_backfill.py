"""A WAL that lost frames which a checkpoint had brought into the file never makes a mixture."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from rsqlite.errors import DamagedDatabase
from rsqlite.request import Rows
from rsqlite.statemachine import checkpoint
from rsqlite.statemachine.backfill import (
    Backfill,
    check_wal,
    note_backfill,
    noted_backfill,
)
from rsqlite.statemachine.check import check_database
from rsqlite.statemachine.walfile import HEADER_BYTES, frame_bytes
from tests.statemachine.lab import QUERY, SERIES, Lab, WatchedVfs, ask

ROWS = 40
FRAME = frame_bytes(4096)


@pytest.fixture
def rows(lab: Lab) -> Lab:
    """Each row has a page of its own; what is written later is in the WAL only."""
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, n, v)", "CREATE TABLE total(n)")
    lab.do(f"INSERT INTO t(n, v) {SERIES.format(ROWS)} SELECT 0, zeroblob(3000) FROM c")
    lab.do("INSERT INTO total VALUES(0)")
    bring(lab)
    return lab


def bring(lab: Lab) -> None:
    lab.leader.checkpointer.request()
    lab.leader.maintain()
    lab.loop.run()


def count_up(lab: Lab, ids: range) -> None:
    for one in ids:
        lab.do(f"UPDATE t SET n = n + 1 WHERE id = {one}", "UPDATE total SET n = n + 1")


def killed(lab: Lab, name: str) -> Path:
    """What the process would leave if it ended now; the database in it."""
    target = lab.directory / name
    shutil.copytree(lab.directory / "leader", target)
    return target / "1" / "main.db"


def flip_frame(database: Path, number: int, offset: int = 200) -> None:
    path = database.with_name("main.db-wal")
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + number * FRAME + offset] ^= 4
    path.write_bytes(data)


def frames_of(database: Path) -> int:
    """Frames of this WAL; behind them there may be room that was never written."""
    data = database.with_name("main.db-wal").read_bytes()
    places = range(HEADER_BYTES, len(data), FRAME)
    return sum(data[at + 8 : at + 16] == data[16:24] for at in places)


def replayed(lab: Lab, name: str) -> list[Any]:
    """What it holds once the log has given back what is missing."""
    machine = lab.open(name)
    try:
        at = int(machine.applied_index)
        if entries := lab.entries[at:]:
            lab.apply(machine, entries)
        sql = "SELECT (SELECT sum(n) FROM t), (SELECT n FROM total), (SELECT count(*) FROM t)"
        return [tuple(row) for row in lab.query(ask(sql), machine).results[0].rows]
    finally:
        machine.close()


@pytest.mark.parametrize("place", range(0, 84, 7))
def test_a_damaged_frame_that_the_file_holds_costs_nothing(rows: Lab, place: int) -> None:
    count_up(rows, range(1, 30))
    bring(rows)
    database = killed(rows, "killed")
    number = frames_of(database)
    assert number > 80
    flip_frame(database, place)
    assert replayed(rows, "killed") == [(29, 29, ROWS)]


@pytest.mark.parametrize("place", [0, 20, 50, -1])
def test_damage_behind_what_the_file_holds_costs_nothing(rows: Lab, place: int) -> None:
    count_up(rows, range(1, 20))
    bring(rows)
    count_up(rows, range(20, 30))
    database = killed(rows, "killed")
    flip_frame(database, place % frames_of(database))
    assert replayed(rows, "killed") == [(29, 29, ROWS)]


def test_damage_of_what_was_being_brought_into_the_file_is_damage_of_the_database(
    rows: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    vfs = WatchedVfs()
    monkeypatch.setattr(checkpoint, "load_checksum_vfs", lambda: vfs.name)
    count_up(rows, range(1, 30))
    # More than its step on the loop takes.
    rows.do("UPDATE t SET v = randomblob(3000)")
    written = [0]

    def write(name: str) -> None:
        if name == "main.db":
            written[0] += 1
            if written[0] == 25:
                killed(rows, "killed")

    vfs.on_write = write
    monkeypatch.setattr(type(rows.leader.checkpointer), "_is_rest_small", lambda *_: False)
    bring(rows)
    assert written[0] > 30, "it was in the middle"
    total = frames_of(rows.directory / "killed" / "1" / "main.db")
    for place in (0, total // 2, total - 1):
        name = f"damaged-{place}"
        shutil.copytree(rows.directory / "killed", rows.directory / name)
        flip_frame(rows.directory / name / "1" / "main.db", place)
        with pytest.raises(DamagedDatabase, match=r"main\.db-wal at byte \d+: frame"):
            rows.open(name)
    # A header says nothing of which WAL it was.
    shutil.copytree(rows.directory / "killed", rows.directory / "header")
    flip_frame(rows.directory / "header" / "1" / "main.db", 0, -20)
    with pytest.raises(DamagedDatabase, match="the header fails its checksum"):
        rows.open("header")
    assert replayed(rows, "killed") == [(29, 29, ROWS)], "a sound WAL has it all"


@pytest.mark.parametrize("offset", [-32, -20, -1, 0, 4, 9, 13, 20, 24])
def test_damage_of_headers_costs_nothing_where_the_file_is_whole(rows: Lab, offset: int) -> None:
    count_up(rows, range(1, 20))
    bring(rows)
    database = killed(rows, "killed")
    flip_frame(database, 0, offset)
    assert replayed(rows, "killed") == [(19, 19, ROWS)]


@pytest.mark.parametrize("number", [10, -1])
@pytest.mark.parametrize("offset", range(0, 24, 2))
def test_a_flipped_bit_in_the_header_of_a_frame_is_told(
    rows: Lab, number: int, offset: int
) -> None:
    count_up(rows, range(1, 20))
    database = killed(rows, "killed")
    number %= frames_of(database)
    flip_frame(database, number, offset)
    assert f"frame {number // 3 * 3 + 1} is damaged" in check_wal(str(database))
    assert replayed(rows, "killed") == [(19, 19, ROWS)]


def test_a_wal_that_began_anew_is_not_held_to_what_was_noted_of_the_one_before(rows: Lab) -> None:
    count_up(rows, range(1, 30))
    bring(rows)
    count_up(rows, range(1, 3))  # from the beginning of the file
    database = killed(rows, "killed")
    assert check_wal(str(database)) == "", "older frames follow, which are none of its own"
    flip_frame(database, 3)
    assert replayed(rows, "killed") == [(31, 31, ROWS)]


def test_a_clean_stop_leaves_nothing_to_be_checked(rows: Lab) -> None:
    count_up(rows, range(1, 10))
    rows.leader.close()
    database = rows.directory / "leader" / "1" / "main.db"
    assert check_wal(str(database)) == ""
    assert not database.with_name("main.db-wal").exists()
    rows.leader = rows.open("leader")
    assert rows.leader.applied_index == len(rows.entries)


def reopened(lab: Lab, database: Path) -> Any:
    """What `count_up` has counted, as a start finds it."""
    machine = lab.open(database.parent.parent.name)
    try:
        (result,) = lab.query(ask("SELECT n FROM total", kind=QUERY), machine).results
        assert isinstance(result, Rows), result
        return result.rows
    finally:
        machine.close()


def test_a_wal_that_was_only_set_apart_has_lost_nothing(rows: Lab) -> None:
    """Stopped, started, and killed before the first COMMIT."""
    count_up(rows, range(1, 6))
    rows.leader.close()
    rows.leader = rows.open("leader")
    database = killed(rows, "idle")
    wal = database.with_name("main.db-wal")
    assert wal.stat().st_size > HEADER_BYTES, "room was set apart"
    assert reopened(rows, database) == [(5,)]


def test_a_wal_that_was_cut_has_lost_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, wal_spare_bytes_max=1 << 20)
    try:
        lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, n, v)", "CREATE TABLE total(n)")
        lab.do("INSERT INTO total VALUES(0)", "INSERT INTO t(v) VALUES(zeroblob(4000000))")
        count_up(lab, range(1, 6))
        cut: list[bool] = []
        bring(lab)
        assert lab.leader.reclaim(lambda: cut.append(True))
        lab.loop.run()
        assert cut == [True]
        database = killed(lab, "cut")
        assert reopened(lab, database) == [(5,)]
    finally:
        lab.close()


@pytest.mark.parametrize("noted", ["begun", "done"])
def test_a_note_of_another_wal_ends_where_nothing_is_in_this_one(rows: Lab, noted: str) -> None:
    """As an earlier release left it."""
    count_up(rows, range(1, 6))
    rows.leader.close()
    rows.leader = rows.open("leader")
    database = killed(rows, "earlier")
    is_done = noted == "done"
    note_backfill(str(database), Backfill("0011223344556677", 7, is_done=is_done), syncs=False)
    assert check_wal(str(database)) == ""
    assert noted_backfill(str(database)) is None
    assert reopened(rows, database) == [(5,)]


def test_a_header_of_zeros_with_frames_behind_it_is_damage(rows: Lab) -> None:
    count_up(rows, range(1, 6))
    bring(rows)
    database = killed(rows, "zeros")
    wal = database.with_name("main.db-wal")
    data = wal.read_bytes()
    wal.write_bytes(bytes(HEADER_BYTES) + data[HEADER_BYTES:])
    note_backfill(str(database), Backfill("0011223344556677", 7, is_done=False), syncs=False)
    with pytest.raises(DamagedDatabase):
        check_wal(str(database))


def test_who_is_killed_while_it_closes_the_database_is_covered(rows: Lab) -> None:
    count_up(rows, range(1, 10))
    rows.leader.checkpointer.note_close()
    database = killed(rows, "killed")
    flip_frame(database, 5)
    with pytest.raises(DamagedDatabase, match="being brought into the database file"):
        rows.open("killed")


def test_a_second_life_never_says_less_of_the_same_wal(rows: Lab) -> None:
    count_up(rows, range(1, 20))
    bring(rows)
    database = killed(rows, "killed")
    noted = noted_backfill(str(database))
    assert noted is not None
    assert noted.is_done
    machine = rows.open("killed")
    machine.checkpointer.request()
    machine.maintain()
    rows.loop.run()
    again = noted_backfill(str(database))
    assert again == noted
    machine.close()


def test_what_is_kept_of_a_wal_that_was_set_aside(rows: Lab) -> None:
    count_up(rows, range(1, 20))
    bring(rows)
    database = killed(rows, "killed")
    wal = database.with_name("main.db-wal")
    flip_frame(database, 5)
    content = wal.read_bytes()
    text = check_wal(str(database))
    assert f"{wal} at byte " in text
    assert "set aside" in text
    assert not wal.exists()
    assert wal.with_name("main.db-wal.damaged").read_bytes() == content
    assert check_wal(str(database)) == ""


def test_a_note_is_read_back_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "main.db")
    assert noted_backfill(path) is None
    for one in (Backfill("00" * 8, 1 << 31, is_done=False), Backfill("ff" * 8, 0, is_done=True)):
        note_backfill(path, one, syncs=True)
        assert noted_backfill(path) == one
    note = tmp_path / "backfill"
    good = note.read_bytes()
    for bit in range(8 * len(good)):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        note.write_bytes(data)
        assert noted_backfill(path) is None


def test_a_damaged_note_is_told_and_does_no_harm(rows: Lab) -> None:
    count_up(rows, range(1, 20))
    bring(rows)
    database = killed(rows, "killed")
    (database.with_name("backfill")).write_text("x")
    assert "backfill is damaged" in check_wal(str(database))
    assert replayed(rows, "killed") == [(19, 19, ROWS)]


def test_the_log_gives_back_what_a_wal_lost_that_nobody_has_checkpointed(rows: Lab) -> None:
    chance = random.Random(1)
    for number in range(10):
        count_up(rows, range(1, 5))
        database = killed(rows, f"killed-{number}")
        flip_frame(database, chance.randrange(frames_of(database)), chance.randrange(FRAME))
        counted = 4 * (number + 1)
        assert replayed(rows, database.parent.parent.name) == [(counted, counted, ROWS)]


def test_a_database_that_was_emptied_is_no_new_one_whose_wal_may_go(rows: Lab) -> None:
    rows.do("INSERT INTO total VALUES(1)")
    database = Path(rows.leader.path)
    rows.leader.leave_wal()
    rows.leader.close()
    database.write_bytes(b"")
    wal = database.with_name("main.db-wal").read_bytes()
    assert wal
    for _ in range(2):
        with pytest.raises(DamagedDatabase, match="is empty, and its WAL is not"):
            check_wal(str(database))
        assert check_database(str(database.parent.parent))
        assert database.with_name("main.db-wal").read_bytes() == wal
