"""A node whose promises are damaged, and whether the others can do without it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import (
    DamagedFile,
    DamagedPromises,
    ForeignDirectory,
    RemovedFromCluster,
    RequestError,
    RsqliteError,
)
from rsqlite.node import farewell
from rsqlite.node.changes import Remove, Transfer
from rsqlite.node.recovery import Peer, write_peers
from rsqlite.testing.engines import EngineCluster
from rsqlite.testing.lanes import Weather
from tests.node.test_images import count, flip, is_level, write


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 20)
    cluster.loop.advance(1.0)
    yield cluster
    cluster.close()


def damage(cluster: EngineCluster, number: int, what: str) -> None:
    """Of a node that is stopped."""
    root = cluster.directory / f"node{number}"
    path = next((root / "log").glob("*.log")) if what == "segment" else root / what
    flip(path, 8 * (4096 + 60) if what == "segment" else 8 * 20)
    if what == "log/hardstate":
        for page in range(1, 4):
            flip(path, 8 * (4096 * page + 20))


KINDS = ("segment", "log/hardstate", "identity.json")


@pytest.mark.parametrize("what", KINDS)
def test_who_is_needed_for_a_majority_waits_and_changes_nothing(
    three: EngineCluster, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of three: had they given themselves up, nobody could ever lead again."""
    for number in range(3):
        three.kill(number)
    for number in (0, 1):
        damage(three, number, what)
    kept = {path: path.read_bytes() for path in three.directory.rglob("*.log")}
    third = three.start_node(2)
    for number in (0, 1):
        with pytest.raises(DamagedPromises):
            three.start_node(number)
        assert not (three.directory / f"node{number}" / "quarantine").exists()
    assert {path: path.read_bytes() for path in three.directory.rglob("node[01]/log/*.log")} == {
        path: data for path, data in kept.items() if "node2" not in path.parts
    }
    assert third.leader is None
    told = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert any("rsqlite recover" in one.getMessage() for one in told), "what to do"
    assert any(getattr(one, "answer", None) == ["node2:4002"] for one in told), "and who is there"


def test_once_a_majority_is_back_it_comes_back_as_another_node(three: EngineCluster) -> None:
    for number in range(3):
        three.kill(number)
    damage(three, 0, "segment")
    damage(three, 1, "segment")
    three.start_node(2)
    for number in (0, 1):
        with pytest.raises(DamagedPromises):
            three.start_node(number)
    damage(three, 1, "segment")  # the flip is undone
    second = three.start_node(1)
    first = three.start_node(0)
    three.until(lambda: first.is_synced and is_level(three, first), 30.0)
    assert first.repairs
    assert not second.repairs
    assert count(three, first) == [(20, 20)]


def test_one_that_does_not_know_yet_that_its_majority_is_gone_does_not_count(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    for follower in three.followers():
        number = three.number(follower)
        three.kill(number)
        damage(three, number, "segment")
    assert leader.is_leader, "it has not looked yet"
    asked: list[object] = []
    identity = leader.identity
    network = three.networks[three.number(leader)]
    assert network is not None
    network.identity = lambda: asked.append(leader.is_leader) or identity()  # type: ignore[func-returns-value]
    for number, engine in enumerate(three.engines):
        if engine is None:
            with pytest.raises(DamagedPromises):
                three.start_node(number)
    assert asked[0] is True
    assert not leader.is_leader


def test_a_leader_of_another_cluster_is_nobody(three: EngineCluster, tmp_path: Path) -> None:
    """It was started where ours was."""
    for number in range(3):
        three.kill(number)
    other = EngineCluster(tmp_path / "other", 3)
    other.loop, other.board = three.loop, three.board
    other.start()
    damage(three, 0, "segment")
    with pytest.raises(DamagedPromises):
        three.start_node(0)
    other.close()


def test_alone_it_ends(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="")
    cluster.start()
    cluster.kill(0)
    damage(cluster, 0, "log/hardstate")
    with pytest.raises(DamagedFile) as raised:
        cluster.start_node(0)
    assert not isinstance(raised.value, DamagedPromises)


def wait(cluster: EngineCluster, number: int) -> list[RsqliteError | None]:
    """Let a node with damaged promises wait; the list gets what ends that."""
    engine = cluster.make_engine(number)
    with pytest.raises(DamagedPromises) as raised:
        engine.open_files()
    ends: list[RsqliteError | None] = []
    cluster.ask_to_give_up(number, engine, raised.value, ends.append)
    return ends


def let_followers_wait(cluster: EngineCluster) -> list[list[RsqliteError | None]]:
    """Damage the log of each, and let them wait; for each what `wait` gives."""
    gone = [cluster.number(follower) for follower in cluster.followers()]
    for follower in gone:
        cluster.kill(follower)
        damage(cluster, follower, "segment")
    return [wait(cluster, follower) for follower in gone]


def test_a_leader_that_checks_its_majority_more_seldom_is_waited_for(three: EngineCluster) -> None:
    """Whose election timeout is longer, during a change of the setting, say."""
    number = three.number(three.leader())
    three.kill(number)
    three.own_settings[number] = {"raft_election_timeout": 4.0}
    slow = three.start_node(number)
    three.wait_leader()
    three.change(three.leader(), Transfer(slow.label))
    three.until(lambda: slow.is_leader and slow.is_synced)
    ends = let_followers_wait(three)
    three.loop.advance(30.0)
    assert ends == [[], []]
    assert not slow.is_leader


def test_answers_that_are_late_prove_nothing(three: EngineCluster) -> None:
    ends = let_followers_wait(three)
    three.loop.advance(0.49)
    three.board.weather = Weather(delay_min_s=0.75, delay_max_s=0.75)
    three.loop.advance(30.0)
    assert ends == [[], []]


def test_who_was_removed_meanwhile_is_told_so(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 4)
    cluster.start()
    cluster.loop.advance(1.0)
    number = cluster.number(cluster.followers()[0])
    cluster.kill(number)
    assert cluster.change(cluster.wait_leader(), Remove(f"n{number}")) is None
    damage(cluster, number, "log/hardstate")
    with pytest.raises(RemovedFromCluster):
        cluster.start_node(number)
    assert not (tmp_path / f"node{number}" / "quarantine").exists()
    damage(cluster, number, "identity.json")
    with pytest.raises(RemovedFromCluster):
        cluster.start_node(number)  # known by its label
    assert len(cluster.wait_leader().members) == 3
    cluster.close()


def test_those_that_a_recovery_left_out_are_no_reason(tmp_path: Path) -> None:
    """Started by mistake they elect each other, while those that went on are away."""
    cluster = EngineCluster(tmp_path, 5)
    cluster.start()
    for number in range(5):
        cluster.kill(number)
    left = [Peer(f"n{number}", cluster.addresses[number], True) for number in (0, 1)]
    for number in (0, 1):
        write_peers(str(tmp_path / f"node{number}"), left)
        cluster.start_node(number)
    leader = cluster.wait_leader()
    cluster.execute(leader, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    write(cluster, 5)
    cluster.loop.advance(1.0)
    for number in (0, 1):
        cluster.kill(number)
    damage(cluster, 0, "log/hardstate")
    for number in (2, 3, 4):
        cluster.start_node(number)
    cluster.wait_leader()
    assert wait(cluster, 0) == []
    cluster.loop.advance(20.0)
    assert 0 in cluster.asking
    cluster.close()


def test_peers_json_is_not_followed_by_who_does_not_know_what_it_has(three: EngineCluster) -> None:
    """Nor by the node that it becomes, some day."""
    for number in range(3):
        three.kill(number)
    damage(three, 0, "log/hardstate")
    directory = three.directory / "node0"
    path = Path(write_peers(str(directory), [Peer("n0", three.addresses[0], True)]))
    with pytest.raises(DamagedFile, match=r"peers\.json cannot be followed") as raised:
        three.start_node(0)
    assert not isinstance(raised.value, DamagedPromises)
    path.rename(path.with_suffix(".kept"))
    for number in (1, 2):
        three.start_node(number)
    three.wait_leader()
    engine = three.make_engine(0)
    with pytest.raises(DamagedPromises) as waits:
        engine.open_files()
    path.with_suffix(".kept").rename(path)  # while it waits
    engine.give_up(waits.value)
    three.run_engine(0, engine)
    three.until(lambda: engine.is_synced and is_level(three, engine), 30.0)
    assert not path.exists()
    assert (directory / "quarantine" / "1" / "raft" / "peers.json").exists()


def test_peers_json_is_refused_where_there_is_no_cluster(three: EngineCluster) -> None:
    number = three.number(three.followers()[0])
    three.kill(number)
    directory = three.directory / f"node{number}"
    shutil.rmtree(directory)
    directory.mkdir()
    write_peers(str(directory), [Peer("n0", three.addresses[0], True)])
    three.own_settings[number] = {"bootstrap_expect": 0}
    three.start_node(number)
    ((_, fault),) = three.faults
    assert isinstance(fault, RequestError)
    assert "peers.json" in str(fault)


def test_it_comes_back_to_its_own_cluster_and_to_no_other(
    three: EngineCluster, tmp_path: Path
) -> None:
    """Which may be at an address that a member had."""
    for number in range(3):
        three.kill(number)
    (tmp_path / "other").mkdir()
    other = EngineCluster(tmp_path / "other", 1, join="")
    other.loop, other.board = three.loop, three.board
    other.addresses = [three.addresses[1]]
    other.own_settings[0] = {"node_id": "stranger"}
    strangers = other.start()
    for number in (1, 2):
        three.addresses[number] = f"moved{number}:4002"
    three.own_settings = {n: {"join": ",".join(three.addresses)} for n in range(3)}
    three.start_node(1)
    three.start_node(2)
    three.wait_leader()
    damage(three, 0, "log/hardstate")
    again = three.start_node(0)
    three.until(lambda: again.is_synced and is_level(three, again), 30.0)
    assert again.cluster_id == three.leader().cluster_id
    assert len(strangers.members) == 1
    other.close()


def test_nobody_else_may_begin_in_its_directory(three: EngineCluster) -> None:
    for number in range(3):
        three.kill(number)
    damage(three, 0, "segment")
    wait(three, 0)
    with pytest.raises(ForeignDirectory, match="in use"):
        three.make_engine(0).open_files()
    three.stop_asking(0)
    with pytest.raises(DamagedPromises):
        three.make_engine(0).open_files()


def test_it_tells_now_and_then_and_asks_nobody_once_it_is_stopped(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        three.kill(number)
    damage(three, 0, "segment")
    engine = three.make_engine(0)
    with pytest.raises(DamagedPromises) as raised:
        engine.open_files()
    three.ask_to_give_up(0, engine, raised.value, lambda error: None)
    three.loop.advance(3.5 * farewell.TELL_PAUSE_S)
    lines = [one for one in caplog.records if one.name == farewell.__name__]
    assert len(lines) == 4
    assert lines[-1].silent == three.addresses  # type: ignore[attr-defined]
    three.stop_asking(0)
    three.loop.advance(3 * farewell.TELL_PAUSE_S)
    assert len([one for one in caplog.records if one.name == farewell.__name__]) == 4
