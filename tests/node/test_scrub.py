"""Damage on the disk of a running node is found although nobody reads there, and is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rsqlite.config import KIB, MIB
from rsqlite.errors import DamagedDatabase, DamagedFile, DiskFault, InvariantViolation
from rsqlite.node.engine import Engine
from rsqlite.node.scrub import FIRST_ROUND_S, PIECE_BYTES
from rsqlite.statemachine import image
from rsqlite.statemachine.generations import Installed
from rsqlite.storage.segment import segment_name
from rsqlite.testing.engines import EngineCluster, execute
from tests.node.test_images import SMALL, count, is_level, leave_behind, restarted, write
from tests.statemachine.lab import flip as flip_database

pytestmark = pytest.mark.slow

KEPT = {**SMALL, "raft_snap": 1_000_000, "log_keep_bytes": 64 * MIB}
"""The whole log stays: several segments that nobody reads."""


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3, **{**KEPT, "scrub_interval": 0.0, "join_interval": 0.5})
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 200)
    cluster.loop.advance(1.0)
    yield cluster
    cluster.close()


def scrub(cluster: EngineCluster, engine: Engine) -> tuple[str, ...]:
    """Let a node read through everything; what it found."""
    rounds = engine.scrub.status.rounds
    engine.begin_scrub()
    assert engine.scrub.status.is_running
    cluster.until(lambda: not engine.scrub.status.is_running, 60.0)
    assert engine.fault is not None or engine.scrub.status.rounds == rounds + 1
    return engine.scrub.status.problems


def flip(path: Path, offset: int) -> None:
    """Not for a database, whose file must not be opened."""
    with path.open("rb+") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 16]))


def log_files(engine: Engine) -> list[Path]:
    """Those that hold records; another one may be prepared."""
    directory = Path(engine.directory.log_path)
    return [directory / segment_name(sequence) for sequence in engine.log.durable_segments()]


@pytest.fixture(params=["leader", "follower"])
def sick(request: pytest.FixtureRequest, three: EngineCluster) -> Engine:
    return three.leader() if request.param == "leader" else three.followers()[0]


def test_a_sound_node_has_no_problems_and_is_read_as_a_whole(
    three: EngineCluster, sick: Engine
) -> None:
    assert scrub(three, sick) == ()
    status = sick.status()
    assert status.scrub.seconds > 0
    assert status.repairs == ()
    written = status.last_index * 2000
    size = status.counters["machine_database_bytes"]
    assert written + size < status.scrub.bytes < 2 * written + size


def test_a_damaged_page_is_found_and_the_database_had_from_the_others(
    three: EngineCluster, sick: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    number, node_id = three.number(sick), sick.node_id
    size = Path(sick.machine.path).stat().st_size
    flip_database(sick.machine.path, size // 2)
    (problem,) = scrub(three, sick)
    assert f"{sick.machine.path}: page " in problem
    assert "at byte" in problem
    ((at, fault),) = three.faults
    assert (at, type(fault), str(fault)) == (number, DamagedDatabase, problem)
    assert problem in {getattr(record, "fault", "") for record in caplog.records}
    again = restarted(three, number)
    three.until(lambda: again.is_synced and is_level(three, again), 60.0)
    assert again.node_id == node_id
    assert problem in again.status().repairs[0]
    assert count(three, again) == [(200, 200)]
    assert scrub(three, again) == ()
    assert three.faults == []


def test_a_damaged_page_that_no_table_uses_is_found(three: EngineCluster, sick: Engine) -> None:
    three.execute(three.leader(), "DELETE FROM t WHERE id > 20")
    three.loop.advance(1.0)
    for engine in three.running():
        engine.snapshot(lambda *_: None)
    three.loop.advance(1.0)
    flip_database(sick.machine.path, Path(sick.machine.path).stat().st_size - 5000)
    (problem,) = scrub(three, sick)
    assert "fails its checksum" in problem


@pytest.mark.parametrize("place", ["header", "first", "middle", "newest"])
def test_a_damaged_part_of_the_log_is_let_go_of_once_the_database_holds_what_was_in_it(
    three: EngineCluster, sick: Engine, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    files, number = log_files(sick), three.number(sick)
    assert len(files) > 4
    file, offset = {
        "header": (files[1], 30),
        "first": (files[0], 5000),
        "middle": (files[2], 40_000),
        "newest": (files[-1], 4096 + 100),
    }[place]
    flip(file, offset)
    node_id, term = sick.node_id, sick.status().term
    (problem,) = scrub(three, sick)
    assert str(file) in problem
    assert "at byte" in problem
    three.until(lambda: not sick.compaction.is_damaged)
    assert problem in sick.status().repairs[0]
    assert problem in caplog.text
    three.until(lambda: not file.exists())
    write(three, 3)
    assert scrub(three, sick) == ()
    # It goes on as the same node, and nothing that it has promised is lost.
    assert (sick.node_id, sick.fault) == (node_id, None)
    assert sick.status().term == term
    three.kill(number)
    again = three.start_node(number)
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert again.node_id == node_id
    assert not again.repairs
    assert count(three, again) == [(203, 203)]
    assert three.faults == []


def test_damage_of_old_parts_of_all_logs_that_a_start_finds_costs_nobody_its_identity(
    three: EngineCluster,
) -> None:
    files = [log_files(three.engines[number])[1] for number in range(3)]  # type: ignore[arg-type]
    ids = {engine.node_id for engine in three.running()}
    for number, file in enumerate(files):
        three.kill(number)
        flip(file, 5000)
    for number in range(3):
        three.start_node(number)
    three.wait_leader()
    write(three, 1)
    three.until(lambda: all(is_level(three, one) for one in three.running()), 30.0)
    for engine, file in zip(three.running(), files, strict=True):
        assert engine.node_id in ids
        assert str(file) in engine.status().repairs[0]
        assert engine.log.first_index > 1
        assert not file.exists()
        assert count(three, engine) == [(201, 201)]
    assert three.faults == []


def test_a_damaged_part_stays_while_something_in_it_is_not_in_the_database(
    three: EngineCluster,
) -> None:
    """A follower that was cut off has entries that nobody has committed yet."""
    leader, (sick, other) = three.leader(), three.followers()
    for one in (sick, other):
        three.isolate(one)
    pending = three.ask(leader, execute("INSERT INTO t(v) VALUES('later')"))
    three.loop.advance(0.05)
    assert leader.log.last_index > leader.machine.applied_index
    flip(log_files(leader)[-1], 4096 + 100)
    (problem,) = scrub(three, leader)
    three.loop.advance(0.2)
    assert leader.compaction.is_damaged
    assert log_files(leader)[-2].exists()
    three.board.heal()
    three.until(lambda: not leader.compaction.is_damaged)
    three.until(lambda: bool(pending))
    for engine in three.running():
        three.until(lambda engine=engine: is_level(three, engine))  # type: ignore[misc]
        assert engine.fault is None
    assert problem in leader.repairs[0]


def test_followers_that_need_what_was_let_go_of_get_an_image(three: EngineCluster) -> None:
    number = three.number(three.followers()[0])
    three.kill(number)
    write(three, 20)
    leader = three.leader()
    flip(log_files(leader)[-1], 4096 + 100)
    scrub(three, leader)
    three.until(lambda: not leader.compaction.is_damaged)
    assert leader.log.first_index > 200
    again = three.start_node(number)
    three.until(lambda: is_level(three, again), 30.0)
    assert count(three, again) == [(220, 220)]
    assert leader.images.made == 1


@pytest.mark.parametrize(
    ("name", "offsets"),
    [
        ("identity.json", [30]),
        ("configuration.json", [40]),
        ("db/CURRENT", [0]),
        ("log/hardstate", [16]),
        ("log/hardstate", [16, 4112]),
        ("log/hardstate", [16, 4112, 8208, 12304]),
    ],
)
def test_what_the_process_knows_is_written_again(
    three: EngineCluster, sick: Engine, name: str, offsets: list[int]
) -> None:
    path = Path(sick.path) / name
    good = path.read_bytes()
    for offset in offsets:
        flip(path, offset)
    problems = scrub(three, sick)
    assert problems
    assert all(str(path) in problem for problem in problems)
    assert len(sick.status().repairs) == len(problems)
    if "hardstate" not in name:
        assert path.read_bytes() == good
    assert scrub(three, sick) == ()
    number, node_id, term = three.number(sick), sick.node_id, sick.status().term
    three.kill(number)
    again = three.start_node(number)
    assert (again.node_id, again.log.hard_state.term) == (node_id, term)
    assert not again.repairs
    assert not again.log.findings
    three.until(lambda: again.is_synced, 30.0)


def test_a_note_that_was_lost_is_written_again(three: EngineCluster, sick: Engine) -> None:
    for name in ("identity.json", "configuration.json", "db/CURRENT"):
        (Path(sick.path) / name).unlink()
    assert len(scrub(three, sick)) == 3
    assert scrub(three, sick) == ()


def test_the_note_of_an_installation_is_written_again(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5, **SMALL)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    number = leave_behind(cluster)
    again = cluster.start_node(number)
    cluster.until(lambda: is_level(cluster, again), 20.0)
    for _ in range(2):  # in the life in which it came, and in the next
        assert scrub(cluster, again) == ()
        path = Path(again.machine.path).parent / "installed"
        good = path.read_bytes()
        flip(path, 15)
        (problem,) = scrub(cluster, again)
        assert str(path) in problem
        assert path.read_bytes() == good
        assert isinstance(again.installer.origin.installed, Installed)
        cluster.kill(number)
        again = cluster.start_node(number)
        cluster.until(lambda again=again: again.is_synced)  # type: ignore[misc]
    cluster.close()


def test_alone_a_damaged_page_ends_the_node_and_a_damaged_log_does_not(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", **KEPT)
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 100)
    cluster.loop.advance(1.0)
    flip(log_files(engine)[1], 5000)
    assert len(scrub(cluster, engine)) == 1
    cluster.until(lambda: not engine.compaction.is_damaged)
    assert engine.log.first_index > 1
    assert count(cluster, engine) == [(100, 100)]
    flip_database(engine.machine.path, Path(engine.machine.path).stat().st_size // 2)
    assert len(scrub(cluster, engine)) == 1
    assert [type(fault) for _, fault in cluster.faults] == [DamagedDatabase]
    cluster.kill(0)
    with pytest.raises(DamagedDatabase):
        cluster.start_node(0)
    assert not (tmp_path / "node0" / "quarantine").exists(), "nothing was touched"


def test_the_rate_is_kept(tmp_path: Path) -> None:
    rate = 256 * KIB
    cluster = EngineCluster(
        tmp_path, 1, join="", **{**KEPT, "scrub_bytes_per_second": rate, "scrub_interval": 0.0}
    )
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    for _ in range(50):
        cluster.execute(engine, f"INSERT INTO t(v) VALUES('{'x' * 40_000}')")
    engine.begin_scrub()
    began = cluster.loop.monotonic()
    while engine.scrub.status.is_running:
        passed = cluster.loop.monotonic() - began
        assert engine.scrub.status.bytes <= passed * rate + PIECE_BYTES + 64 * KIB
        cluster.loop.advance(0.05)
    assert engine.scrub.status.bytes > 4_000_000
    assert cluster.loop.monotonic() - began < engine.scrub.status.bytes / rate + 3
    cluster.close()


def test_rounds_come_by_themselves_as_often_as_they_shall(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", scrub_interval=1000.0)
    engine = cluster.start()
    cluster.loop.advance(FIRST_ROUND_S - 10)
    assert engine.scrub.status.rounds == 0
    cluster.loop.advance(20)
    assert engine.scrub.status.rounds == 1
    cluster.loop.advance(980)
    assert engine.scrub.status.rounds == 1
    cluster.loop.advance(30)
    assert engine.scrub.status.rounds == 2
    cluster.close()


def test_without_an_interval_there_are_none(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", scrub_interval=0.0)
    engine = cluster.start()
    cluster.loop.advance(FIRST_ROUND_S + 100)
    assert engine.scrub.status.rounds == 0
    cluster.close()


def test_a_round_is_given_up_when_another_database_comes_and_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "CHUNK_BYTES", 16 * KIB)  # so that the image takes some time
    cluster = EngineCluster(tmp_path, 3, **{**SMALL, "join_interval": 0.5})
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 200)
    number = leave_behind(cluster)
    slow = {"scrub_bytes_per_second": 64 * KIB, "image_bytes_per_second": 256 * KIB}
    cluster.own_settings[number] = slow
    again = cluster.start_node(number)
    cluster.until(lambda: again.transfer.is_under_way, 20.0)
    again.begin_scrub()
    before = again.machine
    cluster.until(lambda: again.machine is not before, 20.0)
    assert again.scrub.status.rounds == 0
    cluster.until(lambda: is_level(cluster, again), 20.0)
    cluster.until(lambda: again.scrub.status.rounds == 1, 200.0)
    assert again.scrub.status.problems == ()
    assert cluster.faults == []
    cluster.close()


def test_vacuum_and_a_scrub_do_not_disturb_each_other(three: EngineCluster) -> None:
    for engine in three.running():
        engine.begin_scrub()
    reports: list[Any] = []
    three.leader().vacuum_all(lambda *answer: reports.append(answer))
    three.until(lambda: bool(reports), 60.0)
    ((report, error),) = reports
    assert error is None
    assert report.is_complete
    three.until(lambda: not any(one.scrub.status.is_running for one in three.running()), 60.0)
    for engine in three.running():
        assert engine.scrub.status.problems == ()
        assert scrub(three, engine) == ()
    assert three.faults == []


def test_a_node_that_has_failed_is_not_read(three: EngineCluster) -> None:
    engine = three.followers()[0]
    engine.fail(DiskFault("no"))
    with pytest.raises(DiskFault):
        engine.begin_scrub()
    assert not engine.scrub.status.is_running


def test_a_disk_that_cannot_be_read_ends_the_node(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = three.followers()[0]

    def refuse(*_: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("rsqlite.storage.logstore.read_records", refuse)
    engine.begin_scrub()
    three.until(lambda: bool(three.faults))
    ((_, fault),) = three.faults
    assert isinstance(fault, DiskFault)


@pytest.mark.parametrize("what", ["_read_pages", "_in_thread"])
def test_a_round_that_finds_a_mistake_of_ours_ends_and_another_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", scrub_interval=1000.0)
    engine = cluster.start()

    def raises(*_: object) -> object:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(engine.scrub, what, raises)
        engine.begin_scrub()
        cluster.until(lambda: not engine.scrub.status.is_running)
    assert engine.scrub.status.part
    assert engine.scrub.status.rounds == 0
    cluster.loop.advance(1010)
    assert engine.scrub.status.rounds == 1
    assert cluster.faults == []
    cluster.close()


def test_a_round_that_finds_a_promise_broken_ends_the_node(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = three.followers()[0]

    def raises(*_: object) -> object:
        raise InvariantViolation("broken")

    monkeypatch.setattr(engine.scrub, "_read_pages", raises)
    engine.begin_scrub()
    three.until(lambda: bool(three.faults))
    ((_, fault),) = three.faults
    assert isinstance(fault, InvariantViolation)
    assert not engine.scrub.status.is_running


def test_a_node_that_waits_for_its_database_reads_the_rest(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, **{**SMALL, "join_interval": 0.5, "scrub_interval": 0.0})
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 200)
    cluster.loop.advance(1.0)
    sick = cluster.followers()[0]
    number = cluster.number(sick)
    cluster.kill(number)
    Path(sick.machine.path).write_bytes(b"gone" * 5000)
    cluster.own_settings[number] = {"image_bytes_per_second": 64 * KIB}
    again = cluster.start_node(number)
    assert again.installer.is_without_database
    flip(Path(again.path) / "identity.json", 30)
    (problem,) = scrub(cluster, again)
    assert "identity.json" in problem
    cluster.until(lambda: not again.installer.is_without_database, 60.0)
    assert scrub(cluster, again) == ()
    assert count(cluster, again) == count(cluster, cluster.leader())
    assert cluster.faults == []
    cluster.close()


# Damage that somebody reads before the scrub comes there


def test_a_leader_that_cannot_read_what_a_follower_needs_stops_and_comes_back_without_it(
    three: EngineCluster,
) -> None:
    lagging = three.number(three.followers()[0])
    three.kill(lagging)
    write(three, 100)
    for number in [one for one in range(3) if one != lagging]:
        three.kill(number)  # what is in memory needs no disk
        three.start_node(number)
    sick = three.wait_leader()
    number, former = three.number(sick), sick.node_id
    sequence, _, offsets = sick.log._places.run(250, 251)
    flip(Path(sick.directory.log_path) / segment_name(sequence), offsets[0] + 60)
    three.start_node(lagging)
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, type(fault)) == (number, DamagedFile)
    assert "checksum" in str(fault)
    again = restarted(three, number)
    assert again.node_id == former
    assert again.log.first_index > 250
    three.until(lambda: again.is_synced and is_level(three, again), 60.0)
    assert count(three, again) == [(300, 300)]
