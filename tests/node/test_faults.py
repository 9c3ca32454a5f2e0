"""What goes wrong where nobody waits for it ends the node all the same."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rsqlite.config import KIB, MIB
from rsqlite.errors import (
    DamagedDatabase,
    DamagedFile,
    DiskFault,
    DiskFull,
    Divergence,
    InvariantViolation,
)
from rsqlite.node.engine import Engine
from rsqlite.node.recovery import peers_path
from rsqlite.raft.types import Entry, EntryKind, Index, Term
from rsqlite.request import Outcome, ReadLevel, Request, RequestKind
from rsqlite.statemachine import image
from rsqlite.statemachine.apply import Application
from rsqlite.statemachine.checkpoint import Checkpointer
from rsqlite.statemachine.generations import Installed, note_damage
from rsqlite.storage.directory import DataDirectory
from rsqlite.testing.engines import EngineCluster, execute
from tests.node.test_images import SMALL, formed, is_level, leave_behind, write
from tests.node.test_verdict import applied_everywhere, tamper
from tests.statemachine.lab import flip


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path, **SMALL)


def fault_of(cluster: EngineCluster) -> BaseException:
    """The one that ended a node."""
    cluster.until(lambda: bool(cluster.faults))
    ((_, fault),) = cluster.faults
    cluster.faults.clear()
    return fault


def diverged(cluster: EngineCluster) -> tuple[Engine, int]:
    """A follower in doubt, while a third node is down, whose number it is."""
    cluster.execute(cluster.leader(), "INSERT INTO t VALUES(1, 'a'), (2, 'b')")
    applied_everywhere(cluster)
    sick, other = cluster.followers()
    down = cluster.number(other)
    cluster.kill(down)
    tamper(sick)
    cluster.ask(cluster.leader(), execute("UPDATE t SET v = 'c'"))
    cluster.until(lambda: isinstance(sick.fault, Divergence))
    return sick, down


def fail_io(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_damage_that_a_sweep_finds(three: EngineCluster) -> None:
    behind = leave_behind(three)
    leader = three.leader()
    leader.snapshot(lambda *_: None)
    three.loop.advance(2.0)
    flip(leader.machine.path, 2000)
    three.execute(leader, "UPDATE t SET v = 'another' WHERE id = 1")
    three.start_node(behind)
    assert isinstance(fault_of(three), DamagedDatabase)


def test_damage_of_the_log_that_is_found_when_an_image_has_come(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "CHUNK_BYTES", 16 * KIB)
    write(three, 120)
    three.loop.advance(2.0)
    number = three.number(three.followers()[0])
    slow = {"image_bytes_per_second": 64 * KIB, "log_keep_bytes": 4 * MIB, "raft_snap": 4096}
    three.own_settings[number] = slow
    stopped = three.engines[number]
    assert stopped is not None
    path = stopped.machine.path
    three.kill(number)
    note_damage(path, "a page")
    node = three.start_node(number)
    three.until(lambda: node.transfer._manifest is not None, 20.0)
    assert node.transfer._manifest is not None
    damaged = Index(node.transfer._manifest.last_index + 5)
    write(three, 40)
    sequence, _, offsets = node.log._places.run(damaged, Index(damaged + 1))
    flip(node.log._path(sequence), offsets[0] + 200)
    assert isinstance(fault_of(three), DamagedFile)


def test_no_room_where_the_cluster_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: DataDirectory, cluster_id: str) -> None:
        raise DiskFull("cannot write identity.json: no space left")

    monkeypatch.setattr(DataDirectory, "set_cluster", full)
    cluster = EngineCluster(tmp_path, 1, join="")
    cluster.start_node(0)
    assert isinstance(fault_of(cluster), DiskFull)
    monkeypatch.undo()
    cluster.kill(0)
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(v)")
    cluster.close()


def test_a_log_that_fails_beside_an_append(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = three.followers()[0]
    monkeypatch.setattr(follower.log._writer._hard, "problems", fail_io)
    follower.begin_scrub()
    assert isinstance(fault_of(three), DiskFault)


def test_a_log_that_fails_while_a_verdict_is_awaited(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, _ = diverged(three)
    monkeypatch.setattr(sick.log._writer, "_write", fail_io)
    monkeypatch.setattr(sick.log._writer, "begin", fail_io)
    three.ask(three.leader(), execute("UPDATE t SET v = 'd'"))
    assert isinstance(fault_of(three), DiskFault)


def test_a_database_that_fails_while_a_verdict_is_awaited(three: EngineCluster) -> None:
    sick, _ = diverged(three)
    sick.machine._fail(DamagedDatabase("a page fails its checksum"))
    assert isinstance(fault_of(three), DamagedDatabase)


def test_a_second_divergence_changes_nothing(three: EngineCluster) -> None:
    sick, down = diverged(three)
    first = sick.fault
    sick.fail(Divergence("something else", effects="x"))
    assert sick.fault is first
    three.start_node(down)
    assert isinstance(fault_of(three), DamagedDatabase), "the verdict comes"


def test_peers_json_beside_a_running_node_is_for_its_next_start(three: EngineCluster) -> None:
    """An image begins the node anew, in the midst of its life."""
    node = three.start_node(leave_behind(three))
    path = Path(peers_path(node.path))
    path.parent.mkdir(exist_ok=True)
    path.write_text('[{"id": "1"')
    three.until(lambda: is_level(three, node), 60.0)
    assert three.faults == []
    assert path.exists()


def test_an_image_that_cannot_be_used_where_it_is_installed(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = three.start_node(leave_behind(three))
    finish = node.installer._finish

    def finish_badly(installed: Installed) -> None:
        monkeypatch.setattr(Checkpointer, "reserve", fail_io)
        finish(installed)

    monkeypatch.setattr(node.installer, "_finish", finish_badly)
    assert isinstance(fault_of(three), OSError)


def test_an_apply_that_raises(three: EngineCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = three.followers()[0]
    run = Application.run

    def run_here(self: Application, decoded: Any) -> None:
        if self._writer is follower.machine._writer:
            raise MemoryError
        run(self, decoded)

    monkeypatch.setattr(Application, "run", run_here)
    three.execute(three.leader(), "INSERT INTO t(v) VALUES('x')")
    assert isinstance(fault_of(three), MemoryError)


def test_a_request_for_which_a_batch_raises_fails_alone(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    speculate = leader.machine.speculate

    def speculate_badly(requests: Sequence[Request]) -> Any:
        if any("bad" in request.sqls[0] for request in requests):
            raise MemoryError
        return speculate(requests)

    monkeypatch.setattr(leader.machine, "speculate", speculate_badly)
    answers = [
        three.ask(leader, execute(f"INSERT INTO t(v) VALUES('{value}')"))
        for value in ("one", "bad", "two", "bad", "three")
    ]
    three.until(lambda: all(answers))
    assert [isinstance(answer[0], Outcome) for answer in answers] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert three.rows(leader, "SELECT count(*) FROM t") == [(3,)]


def test_a_write_whose_commit_found_no_room_is_read_all_the_same(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    machine = leader.machine

    def full(*_: object) -> None:
        machine._writer.rollback()
        raise DiskFull("no room")

    monkeypatch.setattr(machine, "_write_commit", full)
    monkeypatch.setattr(machine, "apply", lambda entries, done: done(DiskFull("no room")))
    three.execute(leader, "INSERT INTO t(v) VALUES('x')")
    read = Request(RequestKind.QUERY, ["SELECT count(*) FROM t"], [None], level=ReadLevel.WEAK)
    answers = three.ask(leader, read)
    three.loop.advance(0.05)
    assert [one for one in answers if isinstance(one, Outcome)] == [], "it is not there yet"
    assert not leader.may_read_aside(ReadLevel.WEAK)


def test_who_only_reads_is_looked_at_for_a_bounded_time(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader would be deposed by one body of many texts, or by one text of many statements."""
    leader = three.leader()
    looks = 0
    classify = leader.machine.classify

    def slowly(sql: str, ends: float) -> Any:
        nonlocal looks
        looks += 1
        three.loop._now += 0.001
        return classify(sql, ends)

    monkeypatch.setattr(leader.machine, "classify", slowly)
    texts = [f"SELECT {number}" for number in range(5000)]
    answer = three.answer(leader, Request(RequestKind.MIXED, texts, [None] * len(texts)))
    assert isinstance(answer, Outcome)
    assert len(answer.results) == len(texts)
    assert looks < 100


def test_a_promise_that_is_broken_where_entries_are_applied(three: EngineCluster) -> None:
    follower = three.followers()[0]
    ahead = Index(follower.machine.applied_index + 5)
    follower.applier.committed((Entry(Term(1), ahead, EntryKind.NOOP, b""),), is_urgent=True)
    assert isinstance(fault_of(three), InvariantViolation)
    assert not follower.is_synced


def test_a_promise_that_is_broken_by_a_commit_that_was_put_off(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise InvariantViolation("COMMIT without a finished speculation")

    leader = three.leader()
    monkeypatch.setattr(leader.machine, "commit", broken)
    three.ask(leader, execute("INSERT INTO t VALUES(1, 'a')"))
    assert isinstance(fault_of(three), InvariantViolation)


def test_after_a_disk_fault_the_next_start_writes_the_log_again(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    failed = three.followers()[0]
    number = three.number(failed)
    failed.fail(DiskFault("a sync failed"))
    assert isinstance(fault_of(three), DiskFault)
    three.kill(number)
    three.start_node(number)
    assert "the log was written again" in caplog.text
    caplog.clear()
    three.kill(number)
    three.start_node(number)
    assert "the log was written again" not in caplog.text
