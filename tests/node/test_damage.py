"""A damaged page that SQLite meets by the way, where no statement of a client runs, ends the node
as any other does. Page 1 is read again after growth or DDL was rolled back."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import DamagedDatabase, RsqliteError
from rsqlite.node.engine import Engine
from rsqlite.raft.types import DividedHistory
from rsqlite.request import Request, RequestKind
from rsqlite.statemachine.connection import Writer
from rsqlite.testing.engines import EngineCluster, execute
from rsqlite.testing.network import MemoryNetwork
from tests.node.test_images import formed
from tests.statemachine.lab import flip


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path)


@pytest.fixture
def rotten(three: EngineCluster) -> Engine:
    """The leader, whose first page is not what was written."""
    leader = three.leader()
    three.execute(leader, "INSERT INTO t(v) VALUES('a')")
    told: list[object] = []
    leader.snapshot(lambda *answer: told.append(answer))
    three.until(lambda: bool(told))
    three.execute(leader, "INSERT INTO t(v) VALUES('b')")
    three.loop.advance(1.0)
    flip(leader.machine.path, 2000)
    return leader


def ended(cluster: EngineCluster, engine: Engine) -> bool:
    """Did it end for damage?"""
    faults = {number for number, error in cluster.faults if isinstance(error, DamagedDatabase)}
    return faults == {cluster.number(engine)}


def test_after_ddl_that_was_rolled_back(
    three: EngineCluster, rotten: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    request = execute("CREATE TABLE u(v)", "INSERT INTO t(id) VALUES(1)", transaction=True)
    answers = three.ask(rotten, request)
    three.loop.advance(1.0)
    three.ask(rotten, execute("INSERT INTO t(v) VALUES('c')"))
    three.until(lambda: ended(three, rotten))
    assert len(answers) == 1
    (told,) = (record for record in caplog.records if record.msg == "node failed")
    assert vars(told)["database"] == rotten.machine.path
    three.faults.clear()


def test_a_leadership_that_is_lost(three: EngineCluster, rotten: Engine) -> None:
    three.isolate(rotten)
    answers = three.ask(rotten, execute("CREATE TABLE u(v)"))
    three.until(lambda: ended(three, rotten))
    assert len(answers) == 1
    assert not rotten.writer.holds_slot
    three.faults.clear()


def test_a_stop(three: EngineCluster, rotten: Engine) -> None:
    three.isolate(rotten)
    three.ask(rotten, execute("CREATE TABLE u(v)"))
    three.loop.advance(0.05)
    number, rested = three.number(rotten), []
    rotten.halt(lambda: rested.append(True))
    assert rested == [True]
    rotten.close_files()
    network = three.networks[number]
    assert network is not None
    network.stop()
    three.engines[number] = three.networks[number] = None


def test_a_request_that_may_only_read(three: EngineCluster, rotten: Engine) -> None:
    three.execute(rotten, "INSERT INTO t(v) VALUES('c')")
    answers = three.ask(rotten, Request(RequestKind.MIXED, ["SELECT 2 + id FROM t"], [None]))
    three.until(lambda: ended(three, rotten))
    assert [type(answer) for answer in answers] == [DamagedDatabase]
    three.faults.clear()


def test_a_status(three: EngineCluster, rotten: Engine) -> None:
    three.execute(rotten, "INSERT INTO t(v) VALUES('c')")
    assert rotten.machine.statistics().database_bytes >= 0
    three.until(lambda: ended(three, rotten))
    three.faults.clear()


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("step", ["begin", "refresh_facts", "rollback"])
def test_a_batch(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch, step: str, is_long: bool
) -> None:
    leader = three.leader()
    plain = getattr(Writer, step)
    is_rotten = True

    def broken(self: Writer, *arguments: Any) -> Any:
        if is_rotten and self is leader.machine._writer:
            raise apsw.exception_for(apsw.SQLITE_IOERR_DATA)
        return plain(self, *arguments)

    monkeypatch.setattr(Writer, step, broken)
    sqls = ("INSERT INTO t(v) VALUES('c')", "INSERT INTO t(id) VALUES(1), (1)")
    request = execute(*sqls, transaction=True)
    request.is_long = is_long
    answers = three.ask(leader, request)
    three.until(lambda: ended(three, leader))
    assert len(answers) == 1
    assert isinstance(answers[0], RsqliteError)
    assert not leader.writer.holds_slot
    is_rotten = False
    three.faults.clear()


def test_a_message_that_cannot_be_sent_ends_the_node(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would neither tick nor listen any more, and look well."""
    leader = three.leader()
    plain = MemoryNetwork.send

    def send(self: MemoryNetwork, *arguments: Any, **options: Any) -> bool:
        if self is three.networks[three.number(leader)]:
            raise struct.error("argument out of range")
        return plain(self, *arguments, **options)

    monkeypatch.setattr(MemoryNetwork, "send", send)
    three.ask(leader, execute("INSERT INTO t(v) VALUES('c')"))
    three.until(lambda: bool(three.faults))
    assert isinstance(leader.fault, struct.error)
    three.faults.clear()


@pytest.mark.parametrize("written", [0, 3, 40])
def test_committed_histories_that_differ_end_whoever_hears_the_leader_of_the_other(
    tmp_path: Path, written: int
) -> None:
    """An old copy of a directory was put back, and elected together with one that was away: what
    is committed on the third node they do not have, few entries or many."""
    cluster = EngineCluster(tmp_path, 3)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(v)")
    cluster.loop.advance(1.0)
    copied, away = map(cluster.number, cluster.followers())
    kept = cluster.number(leader)
    cluster.kill(copied)
    shutil.copytree(tmp_path / f"node{copied}", tmp_path / "copy")
    again = cluster.start_node(copied)
    cluster.until(lambda: again.is_synced)
    cluster.kill(away)
    for number in range(30):
        cluster.execute(leader, f"INSERT INTO t VALUES({number})")
    cluster.loop.advance(1.0)
    cluster.kill(copied)
    cluster.kill(kept)
    shutil.rmtree(tmp_path / f"node{copied}")
    (tmp_path / "copy").rename(tmp_path / f"node{copied}")
    cluster.start_node(copied)
    cluster.start_node(away)
    leader = cluster.wait_leader()
    for number in range(written):
        cluster.execute(leader, f"INSERT INTO t VALUES({-number})")
    cluster.start_node(kept)
    cluster.until(lambda: bool(cluster.faults))
    assert [type(error) for _, error in cluster.faults] == [DividedHistory]
    cluster.close()
