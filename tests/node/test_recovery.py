"""A majority is gone for good, and an operator says who is left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rsqlite.errors import RemovedFromCluster, RequestError
from rsqlite.node import recovery
from rsqlite.node.engine import Engine
from rsqlite.node.recovery import Peer, peers_path, read_peers
from rsqlite.raft.types import TERM_STEP, Entry, EntryKind, HardState, Index, Term
from rsqlite.request import ReadLevel
from rsqlite.storage.disk import RealDisk
from rsqlite.storage.logstore import LogStore
from rsqlite.testing.engines import EngineCluster


@pytest.fixture
def five(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 5, join_interval=0.5)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    yield cluster
    cluster.close()


def put(engine: Engine, *peers: dict[str, Any]) -> None:
    path = Path(peers_path(engine.path))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(peers))


def peer(cluster: EngineCluster, number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"n{number}", "address": cluster.addresses[number], **more}


def kill(cluster: EngineCluster, *numbers: int) -> list[Engine]:
    found = [cluster.engines[number] for number in numbers]
    for number in numbers:
        cluster.kill(number)
    return [one for one in found if one is not None]


def test_those_that_are_left_go_on_with_everything_the_best_of_them_has(
    five: EngineCluster,
) -> None:
    leader = five.number(five.leader())
    others = [number for number in range(5) if number != leader]
    # One of the two that will be left misses what came last.
    lagging, best = others[0], others[1]
    kill(five, lagging)
    for number in range(30):
        five.execute(five.leader(), f"INSERT INTO t VALUES({number}, 'x')")
    five.loop.advance(1.0)
    (lost,) = kill(five, best)
    left = [best, lagging]
    kill(five, *[number for number in range(5) if number not in left])
    again = []
    for number in left:
        path = Path(five.directory / f"node{number}")
        holder = type("", (), {"path": str(path)})
        put(holder, *[peer(five, one) for one in left])  # type: ignore[arg-type]
        again.append(five.start_node(number))
    new = five.wait_leader()
    assert new.node_id == lost.node_id, "the more up-to-date log"
    five.until(lambda: all(one.is_synced for one in again))
    for one in again:
        assert five.rows(one, "SELECT count(*) FROM t", ReadLevel.NONE) == [(30,)]
        assert {member.label for member in one.members} == {f"n{number}" for number in left}
        assert not os.path.exists(peers_path(one.path))
    five.execute(new, "INSERT INTO t VALUES(100, 'after')")
    # It is as any other cluster from here on: a new node may join it, and restarts change nothing.
    five.kill(lagging)
    restarted = five.start_node(lagging)
    five.until(lambda: restarted.is_synced)
    joined = five.grow()
    five.until(
        lambda: joined.core is not None and joined.node_id in joined.core.configuration.voters
    )
    assert five.rows(joined, "SELECT count(*) FROM t") == [(31,)]
    assert five.faults == []


def test_one_alone_goes_on_with_another_address(five: EngineCluster) -> None:
    kept = five.followers()[0]
    number = five.number(kept)
    kill(five, *range(5))
    five.addresses[number] = "elsewhere:4002"
    put(kept, peer(five, number))
    again = five.start_node(number)
    five.until(lambda: again.is_leader and again.is_synced)
    assert [member.raft_addr for member in again.members] == ["elsewhere:4002"]
    assert again.core is not None
    assert again.core.current_term > TERM_STEP
    five.execute(again, "INSERT INTO t VALUES(1, 'a')")


def test_those_that_were_given_up_come_back_and_cost_nobody_a_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = EngineCluster(tmp_path, 3, join_interval=60.0)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(v)")
    (kept, *_) = kill(cluster, 0, 1, 2)
    put(kept, peer(cluster, 0))
    again = cluster.start_node(0)
    cluster.until(lambda: again.is_leader and again.is_synced)
    assert again.core is not None
    term = again.core.current_term
    cluster.execute(again, "INSERT INTO t VALUES('acknowledged')")
    cluster.kill(0)
    # They find nobody who could tell them, and elect one of them.
    cluster.start_node(1)
    cluster.start_node(2)
    cluster.wait_leader()
    again = cluster.start_node(0)
    cluster.loop.advance(5.0)
    assert again.core is not None
    assert 0 not in [number for number, _ in cluster.faults]
    assert (again.is_leader, again.core.current_term) == (True, term + 1)
    assert cluster.rows(again, "SELECT v FROM t") == [("acknowledged",)]
    assert len([one for one in caplog.messages if "before the members were forced" in one]) == 1
    cluster.close()


@pytest.mark.parametrize(
    ("peers", "problem"),
    [
        ("nonsense", "is not"),
        ('{"id": "n1"}', "is not"),
        ('[{"id": "n1"}]', "is not"),
        ("[" * 100_000, "is not"),
        ("[]", "no node with a vote"),
        ('[{"id": "n1", "address": "a:1", "non_voter": true}]', "no node with a vote"),
        ('[{"id": "n1", "address": "a:1"}, {"id": "n1", "address": "b:1"}]', "'n1' twice"),
        ('[{"id": "n1", "address": "a:1"}, {"id": "n2", "address": "a:1"}]', "'a:1' twice"),
        ('[{"id": "n1", "address": "127"}]', "no HOST:PORT"),
        ('[{"id": "n1", "address": ":4002"}]', "nobody can reach"),
        ('[{"id": "n1", "address": "a:0"}]', "nobody can reach"),
    ],
)
def test_a_file_that_says_nothing_of_use_is_told_so(
    tmp_path: Path, peers: str, problem: str
) -> None:
    path = tmp_path / "peers.json"
    path.write_text(peers)
    with pytest.raises(RequestError, match=problem):
        read_peers(str(path))


def test_what_the_file_may_say(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    assert read_peers(str(path)) is None
    path.write_text(
        '[{"id": "1", "address": "a:1"}, {"id": 2, "address": "b:1", "non_voter": true}]'
    )
    assert read_peers(str(path)) == [Peer("1", "a:1", True), Peer("2", "b:1", False)]


@pytest.mark.parametrize("who", ["stranger", "not itself"])
def test_a_file_that_does_not_fit_this_node_stops_the_start_and_changes_nothing(
    five: EngineCluster, who: str
) -> None:
    kept = five.followers()[0]
    number = five.number(kept)
    other = five.number(five.followers()[1])
    kill(five, *range(5))
    if who == "stranger":
        put(kept, peer(five, number), {"id": "n99", "address": "nowhere:1"})
    else:
        put(kept, peer(five, other))
    last_index = kept.log.last_index
    with pytest.raises(RequestError, match=r"peers\.json"):
        five.start_node(number)
    os.unlink(peers_path(kept.path))
    engine = five.engines[number]
    assert engine is not None
    assert engine.log.last_index == last_index


def test_no_member_is_named_in_two_ways(five: EngineCluster) -> None:
    leader = five.leader()
    assert leader.core is not None
    own, other = (member for member in leader.members if member.label in ("n0", "n1"))
    peers = [
        Peer(own.label, own.raft_addr, True),
        Peer(other.label, "elsewhere:4002", True),
        Peer("as its address", other.raft_addr, True),
    ]
    with pytest.raises(RequestError, match="twice"):
        recovery.forced(leader.core.configuration, own, peers)


def recovered(cluster: EngineCluster, *left: int) -> None:
    """Kill all, and put the file for those that are left."""
    kill(cluster, *[number for number in range(5) if cluster.engines[number] is not None])
    for number in left:
        holder = type("", (), {"path": str(cluster.directory / f"node{number}")})
        put(holder, *[peer(cluster, one) for one in left])  # type: ignore[arg-type]


def acknowledge_five(cluster: EngineCluster) -> None:
    leader = cluster.wait_leader()
    for number in range(5):
        cluster.execute(leader, f"INSERT INTO t VALUES({number}, 'acknowledged')")
    cluster.loop.advance(1.0)


def assert_all_have_five(cluster: EngineCluster) -> None:
    cluster.until(lambda: all(one.is_synced for one in cluster.running()))
    for one in cluster.running():
        assert cluster.rows(one, "SELECT count(*) FROM t", ReadLevel.NONE) == [(5,)]
    assert cluster.faults == []


def test_the_lost_ones_that_come_back_learn_that_they_were_left_out(tmp_path: Path) -> None:
    """Before they elect each other, and two clusters have one name."""
    cluster = EngineCluster(tmp_path, 3)
    cluster.start()
    kill(cluster, 0, 1, 2)
    holder = type("", (), {"path": str(tmp_path / "node0")})
    put(holder, peer(cluster, 0))  # type: ignore[arg-type]
    kept = cluster.start_node(0)
    cluster.execute(cluster.wait_leader(), "CREATE TABLE t(v)")
    cluster.start_node(1)
    cluster.start_node(2)
    cluster.loop.advance(10.0)
    assert {(at, type(error)) for at, error in cluster.faults} == {
        (1, RemovedFromCluster),
        (2, RemovedFromCluster),
    }
    assert kept.is_leader
    cluster.execute(kept, "INSERT INTO t VALUES(1)")
    cluster.close()


@pytest.mark.parametrize("grows", [True, False])
def test_the_lost_ones_learn_it_that_were_ahead_of_those_that_went_on(
    tmp_path: Path, grows: bool
) -> None:
    """Their newest configuration, or what they have applied, has the higher index; what was forced
    has the later term. Else they would go on beside those that went on."""
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5)
    cluster.start()
    (kept,) = kill(cluster, cluster.number(cluster.followers()[0]))
    if grows:
        new = cluster.grow()
        cluster.until(lambda: new.core is not None and new.node_id in new.core.configuration.voters)
    else:
        cluster.execute(cluster.leader(), "CREATE TABLE t(v)")
        cluster.execute(cluster.leader(), "INSERT INTO t VALUES(1)")
        cluster.loop.advance(1.0)
    lost = [cluster.number(one) for one in cluster.running()]
    kill(cluster, *lost)
    (number,) = {0, 1, 2} - set(lost)
    put(kept, peer(cluster, number))
    again = cluster.start_node(number)
    cluster.until(lambda: again.is_leader and again.is_synced)
    for one in lost:
        cluster.start_node(one)
    cluster.until(lambda: len(cluster.faults) == len(lost))
    assert {type(error) for _, error in cluster.faults} == {RemovedFromCluster}
    assert again.is_leader
    cluster.close()


def test_the_lost_ones_that_elected_each_other_learn_it_when_the_others_are_back(
    tmp_path: Path,
) -> None:
    """All lost power, say, and those that were left out were up first."""
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5)
    cluster.start()
    (kept,) = kill(cluster, 0)
    kill(cluster, 1, 2)
    put(kept, peer(cluster, 0))
    again = cluster.start_node(0)
    cluster.until(lambda: again.is_leader and again.is_synced)
    cluster.kill(0)
    for one in (1, 2):
        cluster.start_node(one)
    cluster.execute(cluster.wait_leader(), "CREATE TABLE elsewhere(v)")
    cluster.start_node(0)
    cluster.until(lambda: len(cluster.faults) == 2, 20.0)
    assert {(at, type(error)) for at, error in cluster.faults} == {
        (1, RemovedFromCluster),
        (2, RemovedFromCluster),
    }
    cluster.close()


def test_a_crash_after_the_entry_does_not_force_it_once_more(
    five: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovered(five, 0, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "finish", lambda path: None)
        five.start_node(0)
        five.loop.advance(3.0)
        five.kill(0)
    five.start_node(1)
    five.start_node(2)
    acknowledge_five(five)
    five.kill(1)
    five.start_node(0)
    five.loop.advance(5.0)
    five.start_node(1)
    assert_all_have_five(five)


def test_a_second_recovery_of_one_node_after_the_other_goes_on(five: EngineCluster) -> None:
    recovered(five, *range(5))
    for number in range(5):
        five.start_node(number)
    acknowledge_five(five)
    kill(five, 2, 3, 4)
    five.loop.advance(3.0)
    for number in (0, 1):
        # The other one runs, in a term that is high since the first recovery.
        (stopped,) = kill(five, number)
        put(stopped, peer(five, 0), peer(five, 1))
        five.start_node(number)
        five.loop.advance(3.0)
    five.wait_leader()
    assert_all_have_five(five)
    for one in five.running():
        assert {member.label for member in one.members} == {"n0", "n1"}
        assert not os.path.exists(peers_path(one.path))


@pytest.mark.parametrize("is_partner_named", [False, True])
def test_where_a_majority_has_a_leader_nobody_is_forced(
    five: EngineCluster, is_partner_named: bool
) -> None:
    number = five.number(five.followers()[0])
    (stopped,) = kill(five, number)
    put(stopped, peer(five, number), *([peer(five, (number + 1) % 5)] * is_partner_named))
    last_index = stopped.log.last_index
    again = five.start_node(number)
    five.until(lambda: bool(five.faults))
    ((at, fault),) = five.faults
    assert (at, type(fault)) == (number, RequestError)
    assert "leads this cluster" in str(fault)
    assert again.log.last_index == last_index
    assert os.path.exists(peers_path(stopped.path))
    acknowledge_five(five)


def test_a_node_that_comes_late_follows_those_that_went_on(five: EngineCluster) -> None:
    """Its log ends in a later term, of a leader that reached nobody."""
    engine = five.engines[0]
    assert engine is not None
    recovered(five, 0, 1, 2)
    log = LogStore.open(
        engine.directory.log_path,
        disk=RealDisk(),
        loop=five.loop,
        settings=five.settings,
        node_id=engine.node_id,
    )
    term = Term(log.hard_state.term + 2)
    entry = Entry(term, Index(log.last_index + 1), EntryKind.NOOP, b"")
    log.append(
        truncate_from=None, entries=(entry,), hard_state=HardState(term), done=lambda error: None
    )
    five.loop.advance(0.1)
    log.close()
    five.start_node(1)
    five.start_node(2)
    acknowledge_five(five)
    five.start_node(0)
    five.loop.advance(10.0)
    assert_all_have_five(five)
