"""What goes wrong where nobody waits for it ends the node all the same."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.config import KIB, MIB
from rsqlite.errors import DamagedDatabase, DamagedFile, DiskFault, DiskFull, Divergence
from rsqlite.node.engine import Engine
from rsqlite.node.recovery import peers_path
from rsqlite.raft.types import Index
from rsqlite.statemachine import image
from rsqlite.statemachine.checkpoint import Checkpointer
from rsqlite.statemachine.generations import Installed, note_damage
from rsqlite.storage.directory import DataDirectory
from rsqlite.testing.engines import EngineCluster, execute
from tests.node.test_images import SMALL, is_level, leave_behind, write
from tests.node.test_verdict import applied_everywhere, tamper


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5, **SMALL)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    yield cluster
    cluster.close()


def flip(path: str | Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


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
