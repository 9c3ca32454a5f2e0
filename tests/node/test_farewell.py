"""A node whose promises are damaged, and whether the others can do without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.errors import DamagedFile, DamagedPromises
from rsqlite.node import farewell
from rsqlite.testing.engines import EngineCluster
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


def test_it_tells_now_and_then_and_asks_nobody_once_it_is_stopped(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        three.kill(number)
    damage(three, 0, "segment")
    engine = three.make_engine(0)
    with pytest.raises(DamagedPromises) as raised:
        engine.open_files()
    three.ask_to_give_up(0, engine, raised.value, lambda: None)
    three.loop.advance(3.5 * farewell.TELL_PAUSE_S)
    lines = [one for one in caplog.records if one.name == farewell.__name__]
    assert len(lines) == 4
    assert lines[-1].silent == three.addresses  # type: ignore[attr-defined]
    three.stop_asking(0)
    three.loop.advance(3 * farewell.TELL_PAUSE_S)
    assert len([one for one in caplog.records if one.name == farewell.__name__]) == 4
