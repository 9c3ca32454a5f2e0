"""Followers whose log position is gone come back by an image; on virtual time, with real files."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest

from rsqlite.config import KIB, MIB
from rsqlite.errors import DamagedDatabase, DiskFault, DiskFull, Unavailable
from rsqlite.node import transfer
from rsqlite.node.engine import Engine
from rsqlite.raft.core import Raft
from rsqlite.raft.types import Index
from rsqlite.request import Outcome, ReadLevel, Request, RequestKind
from rsqlite.statemachine import checkpoint, generations, image, schema
from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.storage.logstore import LogStore
from rsqlite.testing.engines import EngineCluster, execute
from rsqlite.testing.lanes import Weather

CHUNK_BYTES = 16 * KIB

SMALL = {
    "segment_bytes": 64 * KIB,
    "log_keep_bytes": 64 * KIB,
    "log_prepare_step_bytes": 8 * KIB,
    "log_prepare_bytes_max": 16 * KIB,
    "checkpoint_wal_bytes": 64 * KIB,
    "raft_snap": 16,
    "raft_snap_int": 0.1,
    "log_cache_bytes_max": 16 * KIB,
    "image_offer_interval": 0.1,
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "CHUNK_BYTES", CHUNK_BYTES)


def formed(tmp_path: Path, **settings: Any) -> Iterator[EngineCluster]:
    """Three nodes with an empty table."""
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5, **settings)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    yield cluster
    cluster.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path, **SMALL)


def write(cluster: EngineCluster, count: int) -> None:
    leader = cluster.leader()
    for _ in range(count):
        cluster.execute(leader, f"INSERT INTO t(v) VALUES('{'x' * 2000}')")


def leave_behind(cluster: EngineCluster) -> int:
    """Stop a follower, and write until the log has nothing for it any more; its number."""
    left = cluster.followers()[0]
    number, last_index = cluster.number(left), left.log.last_index
    cluster.kill(number)
    for _ in range(100):
        write(cluster, 10)
        cluster.loop.advance(0.2)
        if all(one.log.first_index > last_index + 1 for one in cluster.running()):
            return number
    raise AssertionError("the log is never cut")


def is_level(cluster: EngineCluster, engine: Engine) -> bool:
    leader = cluster.leader()
    return engine.machine.applied_index == leader.machine.applied_index


def query(sql: str) -> Request:
    return Request(RequestKind.QUERY, [sql], [None], level=ReadLevel.NONE)


def count(cluster: EngineCluster, engine: Engine) -> object:
    return cluster.rows(engine, "SELECT count(*), max(id) FROM t", ReadLevel.NONE)


def test_the_log_stays_within_its_policy(three: EngineCluster) -> None:
    write(three, 200)
    three.loop.advance(1.0)
    for engine in three.running():
        assert engine.log.first_index > 100
        assert engine.log.last_index - engine.log.first_index >= 16
        number = three.number(engine)
        three.kill(number)
        again = three.start_node(number)
        three.until(lambda again=again: again.is_synced)  # type: ignore[misc]
        assert count(three, again) == [(200, 200)]


def test_a_follower_that_was_left_behind_comes_back_by_an_image(three: EngineCluster) -> None:
    number = leave_behind(three)
    again = three.start_node(number)
    three.until(lambda: is_level(three, again), 20.0)
    assert count(three, again) == count(three, three.leader())
    assert again.log.first_index > 1
    assert three.leader().images.made == 1
    three.loop.advance(three.settings.image_part_timeout + 2 * three.settings.image_keep_time)
    for path in (again.directory.incoming_path, three.leader().directory.images_path):
        assert not list(Path(path).iterdir()), "it is kept no longer than it is of use"
    # And it is a follower like any other from here on, also after a restart.
    write(three, 20)
    three.kill(number)
    again = three.start_node(number)
    three.until(lambda: is_level(three, again))
    assert count(three, again) == count(three, three.leader())
    assert three.faults == []


def test_what_a_check_found_of_a_database_is_forgotten_with_it(three: EngineCluster) -> None:
    reports: list[Any] = []
    three.leader().verify(lambda *answer: reports.append(answer))
    three.until(lambda: bool(reports))
    index, left = reports[0][0].index, three.followers()[0]
    found = finding(left, index)
    assert found == finding(three.leader(), index)
    assert found["state"] == "done"
    three.isolate(left)
    while three.leader().log.first_index <= left.log.last_index + 1:
        write(three, 10)
        three.loop.advance(0.2)
    three.board.heal()
    three.until(lambda: is_level(three, left), 20.0)
    assert left.installer.origin.installed is not None
    assert finding(left, index)["state"] == "none"


def finding(engine: Engine, index: int) -> Mapping[str, object]:
    found: list[Mapping[str, object]] = []
    engine.content.asked({"content": index}, found.append)
    return {key: found[0][key] for key in ("state", "digest")}


def test_a_new_node_gets_an_image_and_then_its_vote(three: EngineCluster) -> None:
    number = leave_behind(three)
    three.start_node(number)
    three.until(lambda: is_level(three, three.running()[number]), 20.0)
    new = three.grow()
    three.until(lambda: new.core is not None and new.node_id in new.core.configuration.voters, 20.0)
    three.until(lambda: is_level(three, new))
    assert count(three, new) == count(three, three.leader())


def test_it_serves_what_it_has_until_the_image_is_there_and_writes_go_on(
    three: EngineCluster,
) -> None:
    number = leave_behind(three)
    before = None
    three.own_settings[number] = {"image_bytes_per_second": 64 * KIB}
    again = three.start_node(number)
    three.until(lambda: again.transfer.is_under_way)
    before = count(three, again)
    write(three, 5)
    assert count(three, again) == before
    three.until(lambda: is_level(three, again), 60.0)


def test_a_transfer_that_is_cut_goes_on_where_it_was(three: EngineCluster) -> None:
    number = leave_behind(three)
    three.own_settings[number] = {"image_bytes_per_second": 256 * KIB}
    again = three.start_node(number)
    leader = three.leader()
    seen = 0
    for _ in range(40):
        three.loop.advance(0.05)
        if again.transfer.is_under_way:
            three.isolate(again)
            three.loop.advance(1.0)
            three.board.heal()
            three.loop.advance(0.3)
            seen += 1
        if is_level(three, again):
            break
    three.until(lambda: is_level(three, again), 60.0)
    assert seen > 1
    # Every chunk was sent about once, however often it broke off.
    size = leader.machine.statistics().database_bytes
    assert leader.images.made == 1
    assert leader.images.parts_served < size / CHUNK_BYTES + 3 * seen + 5


def test_a_network_that_is_slow_for_a_part_is_no_reason_to_give_up(three: EngineCluster) -> None:
    number = leave_behind(three)
    three.board.weather = Weather(bytes_per_s=CHUNK_BYTES / 40)
    three.own_settings[number] = {"image_stall_timeout": 5.0}
    again = three.start_node(number)
    three.until(lambda: again.transfer.is_under_way, 60.0)
    taking = again.transfer._offer
    three.until(lambda: again.transfer._number >= 2, 200.0)
    assert again.transfer._offer == taking, "it was never begun anew"
    three.board.weather = Weather()
    three.until(lambda: is_level(three, again), 60.0)


def test_another_leader_carries_on(three: EngineCluster) -> None:
    number = leave_behind(three)
    three.own_settings[number] = {"image_bytes_per_second": 64 * KIB}
    again = three.start_node(number)
    three.until(lambda: again.transfer.is_under_way)
    old = three.leader()
    assert old.driver is not None
    assert old.driver.transfer_leadership(None)
    three.until(lambda: not old.is_leader)
    three.until(lambda: is_level(three, again), 60.0)
    assert count(three, again) == count(three, three.leader())


def test_an_image_that_arrives_while_the_node_begins_anew_is_installed_by_the_new_core(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that had stopped before an entry goes on with what a majority computed."""
    number = leave_behind(three)
    again = three.start_node(number)
    arrived = again.installer.arrived
    arrivals: list[str] = []

    def arrive(path: str, manifest: image.Manifest) -> None:
        arrivals.append(path)
        if len(arrivals) > 1:
            arrived(path, manifest)
            return
        again.images._is_making = True  # what the pause waits for
        again.installer.go_on_with(Index(1_000_000), "")
        arrived(path, manifest)
        again.images._is_making = False

    def install(*arguments: Any) -> str:
        assert again.driver is not None
        is_stopped.append(again.driver._is_stopped)
        return generations.install(*arguments)

    is_stopped: list[bool] = []
    monkeypatch.setattr("rsqlite.node.installer.install", install)
    again.transfer._arrived = arrive
    three.until(lambda: is_level(three, again), 20.0)
    assert count(three, again) == count(three, three.leader())
    assert is_stopped == [True], "or two cores would use the log"
    assert three.leader().images.made == 1
    assert three.faults == []


STEPS = (
    (generations, "install", "before"),
    (schema, "set_current", "before"),
    (schema, "set_current", "after"),
    (LogStore, "reset", "before"),
    (LogStore, "reset", "after"),
)


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_the_process_may_end_at_every_step_of_an_installation(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    number = leave_behind(three)
    place, name, when = STEPS[step]
    original = getattr(place, name)
    crashes = [0]

    def crashing(*arguments: object, **options: object) -> object:
        if when == "after":
            original(*arguments, **options)
        crashes[0] += 1
        raise DiskFault("the power went")

    with monkeypatch.context() as patch:
        if place is generations:
            patch.setattr("rsqlite.node.installer.install", crashing)
        else:
            patch.setattr(place, name, crashing)
        three.start_node(number)
        try:
            three.until(lambda: bool(crashes[0]), 20.0)
        except DiskFault:
            pass  # out of a callback of the loop, as a process ends
    three.kill(number)
    three.faults.clear()
    again = three.start_node(number)
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert count(three, again) == count(three, three.leader())
    root = Path(again.directory.database_root)
    assert len([one for one in root.iterdir() if one.is_dir()]) == 1, "older ones are removed"
    answer = three.answer(again, execute("INSERT INTO t(v) VALUES('after')"))
    assert isinstance(answer, Outcome)
    assert three.faults == []


def test_a_snapshot_on_demand_brings_everything_into_the_file_and_cuts_the_log(
    tmp_path: Path,
) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", **{**SMALL, "raft_snap_int": 1000.0})
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 60)
    found: list[object] = []

    def ask() -> object:
        found.clear()
        engine.snapshot(lambda *answer: found.append(answer))
        cluster.until(lambda: bool(found))
        return found[0]

    assert ask() == (True, None)
    assert engine.machine.checkpointer.checkpointed_index == engine.machine.applied_index
    assert engine.log.first_index > 1
    assert ask() == (False, None)
    write(cluster, 1)
    assert ask() == (True, None)
    cluster.kill(0)
    # After a start nobody knows what the file holds, so it is looked at.
    engine = cluster.start()
    assert ask() == (True, None)
    assert count(cluster, engine) == [(61, 61)]
    cluster.close()


def test_what_was_fetched_is_looked_at_with_signs_of_life(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that starts again with most of a large image takes long to see what it has."""
    write(three, 150)
    number = leave_behind(three)
    half_way(three, number)
    three.kill(number)
    hashed: list[bytes] = []

    def digest_of(chunk: bytes) -> str:
        hashed.append(chunk)
        return image.digest_of(chunk)

    monkeypatch.setattr(transfer, "digest_of", digest_of)
    plain = three.loop.submit

    def slow(work: Callable[[], object], done: Callable[..., None]) -> None:
        before = len(hashed)

        def later(value: object, error: BaseException | None) -> None:
            three.loop.call_later(0.05 * (len(hashed) - before), done, value, error)

        plain(work, later)

    monkeypatch.setattr(three.loop, "submit", slow)
    three.own_settings[number] = {"image_stall_timeout": 0.25}
    again = three.start_node(number)
    three.until(lambda: is_level(three, again), 30.0)
    assert len(set(hashed)) * 0.05 > 3 * 0.25, "all of it takes longer than it is patient"


def test_the_rest_of_an_image_needs_room_for_the_rest_only(three: EngineCluster) -> None:
    number = leave_behind(three)
    before = half_way(three, number)
    there = sum(one.stat().st_size for one in Path(before.directory.incoming_path).iterdir())
    three.kill(number)
    again = three.start_node(number)
    (made,) = Path(three.leader().directory.images_path).iterdir()
    rest = made.stat().st_size - there
    assert there > 0
    again.transfer._room_bytes = lambda: rest
    three.until(lambda: is_level(three, again), 60.0)


def test_parts_of_an_image_that_nobody_needs_any_more_are_removed(three: EngineCluster) -> None:
    number = leave_behind(three)
    half_way(three, number)
    three.kill(number)
    # It comes back when the leader is one that has all the entries: nothing is to be fetched.
    again = three.start_node(number)
    incoming = Path(again.directory.incoming_path)
    assert list(incoming.iterdir())
    again.transfer.offered = lambda message: None
    three.loop.advance(3 * three.settings.image_keep_time)
    assert not list(incoming.iterdir())


def test_a_stop_while_an_image_is_copied_leaves_nothing_of_it(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = leave_behind(three)
    leader = three.leader()
    monkeypatch.setattr(checkpoint, "rest_s", lambda took_s: 5.0)
    three.start_node(number)
    images = Path(leader.directory.images_path)
    three.until(lambda: images.exists() and bool(list(images.iterdir())))
    assert leader.images.is_making
    three.kill(three.number(leader))
    assert not list(images.iterdir())
    three.loop.advance(10.0)
    assert not list(images.iterdir())


# A database that is lost, while the log is not


def damage(engine: Engine) -> None:
    """Flip a bit in the last page, which holds rows."""
    path = Path(engine.machine.path)
    data = bytearray(path.read_bytes())
    data[-2000] ^= 1
    path.write_bytes(data)


def restarted(cluster: EngineCluster, number: int) -> Engine:
    """As its owner does when a node fails."""
    cluster.kill(number)
    cluster.faults.clear()
    return cluster.start_node(number)


def test_a_damaged_database_comes_back_from_the_others(three: EngineCluster) -> None:
    write(three, 100)
    three.loop.advance(1.0)
    sick = three.followers()[0]
    number, node_id = three.number(sick), sick.node_id
    three.kill(number)
    damage(sick)
    again = three.start_node(number)
    answer = three.answer(again, query("SELECT max(v) FROM t"))
    assert isinstance(answer, DamagedDatabase), "nobody sees what is damaged"
    three.until(lambda: bool(three.faults))
    assert [type(error) for _, error in three.faults] == [DamagedDatabase]
    again = restarted(three, number)
    assert again.node_id == node_id, "it keeps its log and its vote"
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert count(three, again) == count(three, three.leader())
    assert three.faults == []
    assert len(list(Path(again.directory.quarantine_path).iterdir())) == 1


def test_a_database_that_was_being_set_aside_in_a_crash_is_kept(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    write(three, 5)
    follower = three.followers()[0]
    number, path = three.number(follower), Path(follower.machine.path)
    root, quarantine = follower.directory.database_root, follower.directory.quarantine_path
    three.kill(number)
    damaged = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            generations.set_aside(root, quarantine)
    assert schema.find_current_database(root) != str(path)
    again = three.start_node(number)
    assert (Path(quarantine) / "1" / "main.db").read_bytes() == damaged
    assert len(again.repairs) == 1
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    three.kill(number)
    assert not three.start_node(number).repairs


def test_a_node_that_cannot_say_that_its_database_is_damaged_is_not_started_again(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, other = three.followers()

    def note(*arguments: object, **options: object) -> None:
        raise DiskFault("no")

    monkeypatch.setattr("rsqlite.node.installer.note_damage", note)
    sick.fail(DamagedDatabase("a test"))
    other.give_up_database("a test")
    assert [(type(error), str(error)) for _, error in three.faults] == [(DiskFault, "no")] * 2
    assert [str(one.fault) for one in (sick, other)] == ["no"] * 2


def test_while_it_has_no_database_it_votes_and_acknowledges_and_serves_nothing(
    three: EngineCluster,
) -> None:
    write(three, 100)
    three.loop.advance(1.0)
    sick, other = three.followers()
    number = three.number(sick)
    three.kill(number)
    Path(sick.machine.path).write_bytes(b"gone" * 5000)
    three.own_settings[number] = {"image_bytes_per_second": 64 * KIB}
    again = three.start_node(number)
    assert again.installer.is_without_database
    refused = three.answer(again, query("SELECT 1"))
    assert isinstance(refused, Unavailable)
    assert "waits for its database" in str(refused)
    # It is one of the majority all the same: with the other one down, writes go on.
    three.kill(three.number(other))
    three.loop.advance(1.0)
    write(three, 3)
    three.until(lambda: is_level(three, again), 60.0)
    assert count(three, again) == count(three, three.leader())
    assert three.faults == []


def test_a_database_that_its_own_log_can_make_again_needs_nobody(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", **SMALL)
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 3)
    assert engine.log.first_index == 1
    cluster.kill(0)
    Path(engine.machine.path).write_bytes(b"gone" * 5000)
    again = cluster.start()
    assert count(cluster, again) == [(3, 3)]
    cluster.close()


def test_alone_and_without_its_whole_log_a_damaged_database_ends_the_node(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", **SMALL)
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 200)
    cluster.loop.advance(1.0)
    assert engine.log.first_index > 1
    cluster.kill(0)
    Path(engine.machine.path).write_bytes(b"gone" * 5000)
    with pytest.raises(DamagedDatabase):
        cluster.start_node(0)
    assert Path(engine.machine.path).read_bytes().startswith(b"gone"), "nothing was touched"


@pytest.mark.parametrize("text", ["entry 7: a majority computed something else", ""])
def test_a_database_that_was_found_wrong_is_fetched_though_the_log_is_whole(
    three: EngineCluster, text: str
) -> None:
    """Also when a crash left the word for it half written, or nothing but that word."""
    write(three, 3)
    sick = three.followers()[0]
    number, path = three.number(sick), Path(sick.machine.path)
    three.kill(number)
    (path.parent / generations.WANTS_IMAGE).write_text(text)
    again = three.start_node(number)
    assert again.log.first_index == 1
    assert again.installer.is_without_database
    three.until(lambda: again.is_synced and is_level(three, again), 20.0)
    assert Path(again.machine.path) != path
    assert count(three, again) == [(3, 3)]
    assert three.faults == []


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def with_an_installed_database(cluster: EngineCluster) -> int:
    """Stop a follower whose database came as an image, and whose log has gone on since."""
    number = leave_behind(cluster)
    again = cluster.start_node(number)
    cluster.until(lambda: is_level(cluster, again), 20.0)
    write(cluster, 5)
    cluster.until(lambda: is_level(cluster, again), 20.0)
    cluster.kill(number)
    return number


@pytest.mark.parametrize("name", ["CURRENT", "installed"])
@pytest.mark.parametrize("bit", [0, 3, 6, 8, 12, 77])
def test_damage_of_a_note_beside_the_database_costs_neither_log_nor_vote_nor_database(
    three: EngineCluster, name: str, bit: int
) -> None:
    number = with_an_installed_database(three)
    root = three.directory / f"node{number}"
    identity = (root / "identity.json").read_text()
    (path,) = (root / "db").rglob(name)
    flip(path, bit % (8 * path.stat().st_size))
    write(three, 3)
    again = three.start_node(number)
    assert f'"{again.node_id}"' in identity
    assert not again.installer.is_without_database
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert count(three, again) == count(three, three.leader())
    assert not (root / "quarantine").exists()
    assert three.faults == []
    assert any(str(path) in repair for repair in again.repairs), "it is said"
    # And it is mended.
    three.kill(number)
    again = three.start_node(number)
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert not again.repairs


def test_a_wrong_note_never_makes_a_start_throw_the_log_away(three: EngineCluster) -> None:
    """The first release wrote it without a checksum."""
    number = with_an_installed_database(three)
    root = three.directory / f"node{number}"
    (path,) = (root / "db").rglob("installed")
    path.write_bytes(b'{"last_index":999999,"last_term":1}')
    again = three.start_node(number)
    assert again.log.last_index < 999_999
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert count(three, again) == count(three, three.leader())
    assert "999999" in again.repairs[0]


def test_where_it_is_not_known_which_database_is_in_use_it_is_had_from_the_others(
    three: EngineCluster,
) -> None:
    number = with_an_installed_database(three)
    root = three.directory / f"node{number}" / "db"
    identity = (root.parent / "identity.json").read_text()
    (one,) = (path for path in root.iterdir() if path.is_dir())
    shutil.copytree(one, root / "9")
    flip(root / "CURRENT", 4)
    again = three.start_node(number)
    assert f'"{again.node_id}"' in identity
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert count(three, again) == count(three, three.leader())
    kept = Path(again.directory.quarantine_path) / "1"
    assert {path.name for path in kept.iterdir()} == {one.name, "9"}, "nothing was thrown away"


def test_an_installation_that_is_not_finished_needs_its_note_or_another_image(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = leave_behind(three)

    def crash(*arguments: object, **options: object) -> None:
        raise DiskFault("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(LogStore, "reset", crash)
        three.start_node(number)
        three.until(lambda: bool(three.faults), 20.0)
    three.kill(number)
    three.faults.clear()
    root = three.directory / f"node{number}"
    identity = (root / "identity.json").read_text()
    (path,) = (root / "db").rglob("installed")
    flip(path, 100)
    again = three.start_node(number)
    assert f'"{again.node_id}"' in identity
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert count(three, again) == count(three, three.leader())
    assert three.faults == []


def test_alone_a_node_finds_its_database_again_or_ends(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="", **SMALL)
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 200)
    cluster.loop.advance(1.0)
    assert engine.log.first_index > 1
    cluster.kill(0)
    root = Path(engine.directory.database_root)
    flip(root / "CURRENT", 1)
    again = cluster.start()
    assert count(cluster, again) == [(200, 200)]
    cluster.kill(0)
    (root / "1").rename(root / "elsewhere")
    with pytest.raises(DamagedDatabase):
        cluster.start_node(0)
    cluster.close()


# What a node is, or what it has promised, is lost


@pytest.mark.parametrize("what", ["identity.json", "log/hardstate", "segment"])
def test_a_node_whose_promises_are_damaged_comes_back_as_another_one(
    three: EngineCluster, what: str
) -> None:
    write(three, 30)
    sick = three.followers()[0]
    number, former = three.number(sick), sick.node_id
    three.kill(number)
    path = Path(sick.path)
    if what == "segment":
        # Not an old one: what is in those the database has as well.
        files = sorted((path / "log").glob("*.log"))
        file = [one for one in files if b"INSERT INTO t" in one.read_bytes()][-1]
        data = bytearray(file.read_bytes())
        data[data.index(b"INSERT INTO t")] ^= 1
    else:
        file = path / what
        data = bytearray(file.read_bytes())
        data[:] = bytes(byte ^ 1 for byte in data)
    file.write_bytes(data)
    again = three.start_node(number)
    assert again.node_id != former
    three.until(
        lambda: again.core is not None and again.node_id in again.core.configuration.voters, 30.0
    )
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert len(again.members) == 3
    assert former not in {member.node_id for member in again.members}
    assert count(three, again) == count(three, three.leader())
    # Nothing was thrown away.
    kept = path / "quarantine" / "1" / (f"log/{file.name}" if what == "segment" else what)
    assert kept.read_bytes() == bytes(data)
    assert three.faults == []


def test_a_node_that_comes_back_as_another_one_asks_until_there_is_a_leader(
    three: EngineCluster,
) -> None:
    """It was a member, so it knows that there is a cluster; who joins for the first time may have
    mistyped an address, and gives up after `join_attempts`."""
    sick = three.number(three.followers()[0])
    directory = three.directory / f"node{sick}"
    three.kill(sick)
    flip(directory / "identity.json", 300)
    again = three.start_node(sick)
    for number in range(3):
        if number != sick:
            three.kill(number)
    three.loop.advance(60.0)
    assert three.faults == []
    assert again.cluster_id is None
    for number in range(3):
        if number != sick:
            three.start_node(number)
    three.until(lambda: again.is_synced, 60.0)
    assert three.faults == []


def test_a_configuration_that_could_not_be_saved_stays_in_the_log(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its database the node would not know any more who may lead, and itself lead."""
    follower = three.followers()[0]

    def no_room(data: bytes, term: int) -> None:
        raise DiskFull("no room for it")

    with monkeypatch.context() as patch:
        patch.setattr(follower.directory, "save_configuration", no_room)
        new = three.grow()
        three.until(lambda: new.core is not None and len(follower.members) == 4, 20.0)
        core = follower.core
        assert core is not None
        three.until(lambda: not core.configuration.outgoing, 20.0)
        index = core.configurations.committed_index
        while three.leader().log.first_index <= index:
            write(three, 10)
            three.loop.advance(0.2)
        first_index = follower.log.first_index
        assert first_index <= index
    three.until(lambda: follower.log.first_index > index, 20.0)
    assert follower.directory.saved_configuration() == core.configurations.committed.to_bytes()


def test_a_directory_without_the_saved_configuration_gets_one_at_its_next_start(
    three: EngineCluster,
) -> None:
    follower = three.followers()[0]
    number = three.number(follower)
    saved = follower.directory.saved_configuration()
    assert saved is not None
    three.kill(number)
    (Path(follower.path) / "configuration.json").unlink()
    again = three.start_node(number)
    three.until(lambda: again.directory.saved_configuration() == saved)


def test_a_damaged_configuration_is_told_and_written_again(three: EngineCluster) -> None:
    follower = three.followers()[0]
    number, saved = three.number(follower), follower.directory.saved_configuration()
    three.kill(number)
    path = Path(follower.path) / "configuration.json"
    good = path.read_bytes()
    flip(path, 200)
    again = three.start_node(number)
    assert str(path) in again.repairs[0]
    three.until(lambda: again.directory.saved_configuration() == saved)
    assert path.read_bytes() == good


def test_a_disk_that_cannot_keep_the_configuration_ends_the_node_cleanly(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = three.followers()[0]

    def refuse(data: bytes, term: int) -> None:
        raise DiskFault("no")

    monkeypatch.setattr(follower.directory, "save_configuration", refuse)
    new = three.grow()
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, str(fault)) == (three.number(follower), "no")
    three.until(lambda: new.is_synced)


def half_way(cluster: EngineCluster, number: int) -> Engine:
    """Start a node that needs an image, and wait until it has some of it."""
    cluster.own_settings[number] = {"image_bytes_per_second": 64 * KIB}
    again = cluster.start_node(number)
    cluster.until(lambda: again.transfer._number >= 2)
    assert again.transfer.is_under_way
    return again


def test_an_image_whose_source_is_gone_for_good_is_had_from_another(three: EngineCluster) -> None:
    write(three, 150)
    three.loop.advance(1.0)
    sick = three.followers()[0]
    number = three.number(sick)
    generations.note_damage(sick.machine.path, "a test")
    three.kill(number)
    again = half_way(three, number)
    three.kill(three.number(three.leader()))
    three.until(lambda: not again.installer.is_without_database and again.is_synced, 120.0)
    assert count(three, again) == count(three, three.leader())


@pytest.mark.parametrize("what", ["gone", "rotten"])
def test_an_image_that_its_maker_cannot_read_is_made_anew(three: EngineCluster, what: str) -> None:
    number = leave_behind(three)
    again = half_way(three, number)
    leader = three.leader()
    (path,) = Path(leader.directory.images_path).iterdir()
    if what == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-100:] = bytes(100)
        path.write_bytes(data)
    three.until(lambda: is_level(three, again), 120.0)
    assert leader.images.made == 2
    assert count(three, again) == count(three, leader)


@pytest.mark.parametrize("name", ["fdatasync", "fsync"])
def test_an_image_that_could_not_be_synced_is_fetched_again(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To sync it once more would say that all is well."""
    number = leave_behind(three)
    monkeypatch.setattr(transfer, "SYNC_BYTES", 2 * CHUNK_BYTES)
    plain: Callable[[int], None] = getattr(os, name)
    stored: list[int] = []
    failed: list[int] = []

    def store(path: str, manifest: image.Manifest, chunk: int, data: bytes) -> bool:
        stored.append(chunk)
        return store_chunk(path, manifest, chunk, data)

    def sync(descriptor: int) -> None:
        if not failed and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part"):
            failed.extend(stored)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        plain(descriptor)

    store_chunk = transfer._store
    monkeypatch.setattr(transfer, "_store", store)
    monkeypatch.setattr(os, name, sync)
    again = three.start_node(number)
    three.until(lambda: is_level(three, again), 30.0)
    assert failed
    assert stored[: 2 * len(failed)] == failed * 2
    assert count(three, again) == count(three, three.leader())
    assert three.faults == []


def test_an_image_is_had_only_by_the_own_cluster_and_by_its_name(three: EngineCluster) -> None:
    write(three, 10)
    leader = three.leader()
    answers: list[Any] = []
    leader.asked({"image": "another"}, answers.append)
    assert answers.pop()["error"] == "Unavailable"
    leader.asked({"image": leader.cluster_id}, answers.append)
    three.loop.advance(1.0)
    answers.clear()
    leader.asked({"image": leader.cluster_id}, answers.append)
    image_id = answers[0]["image_id"]
    parts: list[bytes | None] = []
    for name in ("", "../x", f"{image_id}/-1", f"{image_id}/{'9' * 5000}", f"{image_id}//0", "x/0"):
        leader.served(name, parts.append)
    three.loop.advance(0.1)
    assert parts == [None] * 6


def test_a_read_that_holds_the_image_up_is_told_of_once_a_minute(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    leader = three.leader()
    write(three, 5)
    reader = apsw.Connection(leader.machine.path, vfs=load_checksum_vfs())
    number = leave_behind(three)
    reader.execute("BEGIN; SELECT count(*) FROM t").fetchall()
    write(three, 5)
    again = three.start_node(number)
    three.loop.advance(70.0)
    told = [one for one in caplog.messages if one.startswith("no image could be made")]
    assert len(told) == 2
    reader.close()
    three.until(lambda: is_level(three, again), 30.0)


def test_a_leader_without_room_for_the_image_tells_so_once_a_minute(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    number = leave_behind(three)
    three.leader().images._has_room = lambda size: False
    three.start_node(number)
    three.loop.advance(70.0)
    told = [one for one in caplog.messages if one.startswith("no room for an image")]
    assert len(told) == 2


# An image that somebody cannot use, or cannot take

BRIEF = {**SMALL, "image_keep_time": 3.0, "image_part_timeout": 0.5, "disk_reserve_bytes": 1 * MIB}


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[EngineCluster]:
    """Three that keep an image for a short time."""
    yield from formed(tmp_path, **BRIEF)


def without_room(cluster: EngineCluster) -> Engine:
    """A follower that was left behind, and has no room for an image."""
    number = leave_behind(cluster)
    cluster.disks[number].free["db"] = 1 * MIB + 1000
    again = cluster.start_node(number)
    cluster.until(lambda: cluster.leader().images.parts_served > 0)
    return again


def test_the_log_is_kept_no_longer_than_the_image_is_fetched(brief: EngineCluster) -> None:
    again = without_room(brief)
    leader = brief.leader()
    for _ in range(20):
        write(brief, 20)
        brief.loop.advance(0.5)
    assert leader.log.last_index - leader.log.first_index < 200
    assert leader.images.made == 1, "nor is another one made that it cannot take either"
    assert not list(Path(leader.directory.images_path).iterdir())
    brief.disks[brief.number(again)].free.clear()
    brief.until(lambda: is_level(brief, again), 20.0)
    assert count(brief, again) == count(brief, leader)
    assert leader.images.made == 2


def test_a_node_that_cannot_store_an_image_keeps_it_from_nobody(
    brief: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the manifest as often as it is offered."""
    number = leave_behind(brief)

    def prepare(path: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(transfer, "_prepare", prepare)
    brief.start_node(number)
    leader = brief.leader()
    brief.until(lambda: leader.images.parts_served > 2)
    write(brief, 5)
    needed = leader.machine.applied_index
    answers: list[Any] = []
    for _ in range(2):
        leader.asked({"image": leader.cluster_id, "from": needed}, answers.append)
        brief.loop.advance(0.5)
    assert answers[-1]["last_index"] >= needed


def test_an_image_is_kept_when_the_quorum_was_just_checked(brief: EngineCluster) -> None:
    """Nobody is active then, until the next answer; the image may be older than it is kept for."""
    without_room(brief)
    leader = brief.leader()
    core = leader.core
    assert core is not None
    silent = SimpleNamespace(
        role=core.role,
        is_unfit=False,
        progress=lambda: [dataclasses.replace(one, is_active=False) for one in core.progress()],
    )
    for _ in range(100):
        brief.loop.advance(0.1)
        leader.images.sweep(brief.loop.monotonic(), cast(Raft, silent))
    brief.loop.advance(1.0)
    assert leader.images.made == 1


def let_lapse(cluster: EngineCluster) -> None:
    """Write on until the log cannot follow on the image that there is."""
    images = cluster.leader().images
    for _ in range(40):
        write(cluster, 10)
        cluster.loop.advance(0.5)
        if images._image is None and not images.is_making:
            return
    raise AssertionError("it is of use for ever")


def test_others_get_an_image_while_there_is_one_without_room_for_it(brief: EngineCluster) -> None:
    short = without_room(brief)
    let_lapse(brief)
    images = brief.leader().images
    new = brief.grow(raft_non_voter=True)
    brief.until(lambda: new.core is not None and is_level(brief, new), 20.0)
    assert images.made == 2
    let_lapse(brief)
    let_lapse(brief)
    made, number = images.made, brief.number(new)
    # This one has more than was in the image that nobody took.
    brief.kill(number)
    left_at = new.log.last_index
    while brief.leader().log.first_index <= left_at + 1:
        write(brief, 10)
        brief.loop.advance(0.5)
    assert images.made == made
    new = brief.start_node(number)
    brief.until(lambda: is_level(brief, new), 20.0)
    assert images.made == made + 1
    assert not is_level(brief, short)


def test_who_lost_its_database_and_has_no_room_has_one_image_made(brief: EngineCluster) -> None:
    write(brief, 100)
    brief.loop.advance(1.0)
    sick = brief.followers()[0]
    number = brief.number(sick)
    generations.note_damage(sick.machine.path, "a test")
    brief.disks[number].free["db"] = 1 * MIB + 1000
    again = restarted(brief, number)
    leader = brief.leader()
    brief.until(lambda: leader.images.parts_served > 0)
    let_lapse(brief)
    brief.loop.advance(2.0)
    assert leader.images.made == 1
    brief.disks[number].free.clear()
    brief.until(lambda: is_level(brief, again) and again.is_synced, 20.0)
    assert leader.images.made == 2


def test_who_has_no_room_for_an_image_asks_for_nothing_of_it(
    brief: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    without_room(brief)
    brief.loop.advance(0.1)
    leader = brief.leader()
    caplog.clear()
    brief.loop.advance(brief.settings.image_keep_time / 2)
    assert (leader.images.made, leader.images.parts_served) == (1, 1)
    assert "no room for the image" not in caplog.text, "it is said once"


def test_what_is_in_quarantine_gives_way_to_an_image(
    brief: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = leave_behind(brief)
    quarantine = brief.directory / f"node{number}" / "quarantine"
    for name in ("1", "2"):
        (quarantine / name).mkdir(parents=True)
        (quarantine / name / "main.db").write_bytes(bytes(MIB))
    disk = brief.disks[number]

    def free_bytes(path: str) -> int:
        return (3 - len(list(quarantine.iterdir()))) * MIB

    monkeypatch.setattr(disk, "free_bytes", free_bytes)
    again = brief.start_node(number)
    brief.until(lambda: is_level(brief, again), 20.0)
    assert [one.name for one in quarantine.iterdir()] == ["2"], "the oldest, and no more than that"


def test_what_is_in_quarantine_stays_where_all_of_it_is_not_room_enough(
    brief: EngineCluster,
) -> None:
    number = leave_behind(brief)
    quarantine = brief.directory / f"node{number}" / "quarantine"
    for name in ("1", "2"):
        (quarantine / name).mkdir(parents=True)
        (quarantine / name / "main.db").write_bytes(bytes(CHUNK_BYTES))
    brief.disks[number].free["db"] = 1 * MIB + CHUNK_BYTES
    again = brief.start_node(number)
    brief.until(lambda: bool(again.transfer._unfit[0]))
    assert len(list(quarantine.iterdir())) == 2


def test_an_image_that_is_fetched_is_not_taken_away_for_who_needs_a_newer_one(
    brief: EngineCluster,
) -> None:
    write(brief, 100)
    number = leave_behind(brief)
    again = half_way(brief, number)
    offer, leader = again.transfer._offer, brief.leader()
    write(brief, 5)
    needed = leader.machine.applied_index
    answers: list[Any] = []
    while again.transfer.is_under_way:
        leader.asked({"image": leader.cluster_id, "from": needed}, answers.append)
        brief.loop.advance(0.1)
        assert again.transfer._offer in (offer, None)
    assert leader.images.made == 1
    brief.until(lambda: is_level(brief, again))
    assert {one["error"] for one in answers} == {"Unavailable"}
    brief.loop.advance(brief.settings.image_part_timeout)
    answers.clear()
    for _ in range(2):
        leader.asked({"image": leader.cluster_id, "from": needed}, answers.append)
        brief.loop.advance(1.0)
    assert answers[-1]["last_index"] >= needed


def test_an_image_that_was_fetched_to_its_end_keeps_nobody_waiting_for_a_newer_one(
    three: EngineCluster,
) -> None:
    number = leave_behind(three)
    again = three.start_node(number)
    three.until(lambda: is_level(three, again))
    leader = three.leader()
    assert leader.images.parts_served > 1
    write(three, 5)
    needed, answers = leader.machine.applied_index, list[Any]()
    for _ in range(2):
        leader.asked({"image": leader.cluster_id, "from": needed}, answers.append)
        three.loop.advance(1.0)
    assert "last_index" in answers[-1]


def test_a_log_that_fills_its_volume_gives_way_to_no_image(brief: EngineCluster) -> None:
    write(brief, 300)
    number = leave_behind(brief)
    again = half_way(brief, number)
    leader = brief.leader()
    write(brief, 60)
    brief.loop.advance(1.0)
    kept_from = leader.images.keeps_from
    assert kept_from is not None
    assert leader.log.first_index <= kept_from
    brief.disk(leader).free["log"] = 900 * KIB
    brief.until(lambda: leader.log.first_index > kept_from)
    assert again.transfer.is_under_way
    brief.disk(leader).free.clear()
    brief.until(lambda: is_level(brief, again), 60.0)


def test_a_part_that_takes_as_long_as_it_may_keeps_the_image(brief: EngineCluster) -> None:
    number = leave_behind(brief)
    brief.board.weather = Weather(bytes_per_s=CHUNK_BYTES / 20)
    brief.own_settings[number] = {"image_part_timeout": 30.0}
    brief.start_node(number)
    leader = brief.leader()
    leader.images._settings = dataclasses.replace(brief.settings, image_part_timeout=30.0)
    brief.until(lambda: leader.images.parts_served >= 2, 60.0)
    kept_from = leader.images.keeps_from
    brief.loop.advance(19.0)
    assert leader.images.parts_served == 2
    assert leader.images.keeps_from == kept_from is not None
    brief.board.weather = Weather()


def test_a_long_look_at_what_is_there_keeps_the_image_where_it_comes_from(
    brief: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = leave_behind(brief)
    again = half_way(brief, number)
    leader = brief.leader()
    (made,) = Path(leader.directory.images_path).iterdir()
    brief.kill(number)
    monkeypatch.setattr(transfer, "STRETCH_CHUNKS", 1)
    monkeypatch.setattr(transfer, "rest_s", lambda took_s: 2.0)
    again = brief.start_node(number)
    for _ in range(8):
        write(brief, 20)
        brief.loop.advance(1.0)
    assert made.exists()
    brief.until(lambda: is_level(brief, again), 200.0)
    assert leader.images.made == 1
