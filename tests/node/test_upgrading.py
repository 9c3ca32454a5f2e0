"""Whole nodes of two releases on virtual time: declared, let in, led, ended, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rsqlite.errors import DamagedDatabase, ForeignDirectory, RequestError
from rsqlite.node.changes import Transfer
from rsqlite.node.engine import Engine
from rsqlite.node.upgrade import Abandon, Declare
from rsqlite.raft.types import EntryKind, Index
from rsqlite.request import ReadLevel, Request, RequestKind
from rsqlite.statemachine.machine import StateMachine
from rsqlite.testing.engines import EngineCluster
from tests.node.releases import LATER, NEW, OLD, OTHER, Load, configuration_of, is_ahead, release
from tests.node.test_content import tamper, verdicts, verify
from tests.node.test_images import SMALL, leave_behind
from tests.statemachine.test_fingerprint import WALL, knows_two

pytestmark = pytest.mark.slow


def make(directory: Path, size: int = 3, **settings: object) -> EngineCluster:
    """A cluster of the older release, with a table."""
    if size == 1:
        settings["join"] = ""
    cluster = EngineCluster(directory, size, join_interval=0.5, **settings)
    for number in range(size):
        cluster.releases[number] = release(OLD)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    return cluster


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = make(tmp_path)
    yield cluster
    cluster.close()


def restart(cluster: EngineCluster, number: int, fingerprint: str) -> Engine:
    """Start a node with another release; it is ended before, if it runs."""
    if cluster.engines[number] is not None:
        cluster.kill(number)
    cluster.releases[number] = release(fingerprint)
    return cluster.start_node(number)


def is_known(cluster: EngineCluster, engine: Engine) -> bool:
    """Does the leader know which release it runs, and does it serve?"""
    leaders = [one for one in cluster.running() if one.is_leader]
    return (
        bool(leaders)
        and engine.is_synced
        and (
            configuration_of(leaders[0]).fingerprint_of(engine.node_id)
            == engine.machine.fingerprint
        )
    )


def is_over(cluster: EngineCluster, fingerprint: str) -> bool:
    found = [configuration_of(engine) for engine in cluster.running()]
    return all(one.upgrade is None and one.fingerprint == fingerprint for one in found)


def wait_for_fault(cluster: EngineCluster, number: int) -> str:
    """The text with which a node ends."""
    cluster.until(lambda: bool(cluster.faults), 20.0)
    ((at, error),) = cluster.faults
    assert (at, type(error)) == (number, ForeignDirectory)
    cluster.faults.clear()
    return str(error)


def test_a_cluster_is_rolled_onto_another_release_under_load(three: EngineCluster) -> None:
    load = Load(three)
    load.until(lambda: True)
    assert three.change(three.followers()[0], Declare(NEW)) is None
    order = [three.number(one) for one in (*three.followers(), three.leader())]

    def older_leads() -> bool:
        """While one of the older runs, no other ever leads: nobody lost the leadership."""
        leaders = [one for one in three.running() if one.is_leader]
        assert not any(is_ahead(one) for one in leaders)
        return True

    for number in order[:2]:
        engine = restart(three, number, NEW)
        load.until(lambda engine=engine: older_leads() and is_known(three, engine))  # type: ignore[misc]
        assert configuration_of(engine).upgrade is not None
    restart(three, order[2], NEW)
    load.until(lambda: is_over(three, NEW))
    load.check()
    assert three.faults == []
    # From now on the older release is refused, and the rest is not disturbed by it.
    restart(three, order[0], OLD)
    said = wait_for_fault(three, order[0])
    assert f"its fingerprint is {OLD}, and the cluster takes {NEW}." in said
    assert "Start it with the release that the cluster runs" in said
    three.kill(order[0])
    engine = restart(three, order[0], NEW)
    load.until(lambda: engine.is_synced)
    load.check()


@pytest.mark.parametrize("seed", range(4))
def test_an_upgraded_node_never_leads_while_an_older_one_has_all_that_it_has(
    tmp_path: Path, seed: int
) -> None:
    cluster = make(tmp_path, seed=seed)
    assert cluster.change(cluster.leader(), Declare(NEW)) is None
    ahead = restart(cluster, cluster.number(cluster.followers()[0]), NEW)
    cluster.until(lambda: is_known(cluster, ahead))
    cluster.loop.advance(1.0)
    (older,) = (one for one in cluster.followers() if one is not ahead)
    cluster.kill(cluster.number(cluster.leader()))

    def led() -> bool:
        assert not ahead.is_leader
        return older.is_leader

    cluster.until(led)
    cluster.close()


@pytest.mark.parametrize("seed", range(6))
def test_when_the_leader_dies_halfway_an_older_one_leads_again(tmp_path: Path, seed: int) -> None:
    cluster = make(tmp_path, seed=seed)
    load = Load(cluster)
    assert cluster.change(cluster.leader(), Declare(NEW)) is None
    ahead = restart(cluster, cluster.number(cluster.followers()[0]), NEW)
    load.until(lambda: is_known(cluster, ahead))
    crashed = cluster.number(cluster.leader())
    cluster.kill(crashed)
    # Should the upgraded one alone have what was acknowledged, it leads for a moment.
    load.until(lambda: any(one.is_leader and not is_ahead(one) for one in cluster.running()))
    again = restart(cluster, crashed, NEW)
    load.until(lambda: is_known(cluster, again))
    assert not is_ahead(cluster.leader())
    load.check()
    cluster.close()


def test_upgraded_nodes_lead_while_the_older_ones_are_down_and_hand_back(
    three: EngineCluster,
) -> None:
    load = Load(three)
    assert three.change(three.leader(), Declare(NEW)) is None
    last = three.number(three.leader())
    for one in three.followers():
        engine = restart(three, three.number(one), NEW)
        load.until(lambda engine=engine: is_known(three, engine))  # type: ignore[misc]
    three.kill(last)
    load.until(lambda: any(one.is_leader for one in three.running()))
    assert is_ahead(three.leader())
    assert not is_over(three, NEW), "one has not been reached"
    older = three.start_node(last)
    load.until(lambda: older.is_leader)
    load.check()


def test_leadership_is_not_handed_to_an_upgraded_node_while_another_could_lead(
    three: EngineCluster,
) -> None:
    leader = three.leader()
    assert three.change(leader, Declare(NEW)) is None
    one, other = three.followers()
    ahead = restart(three, three.number(one), NEW)
    three.until(lambda: is_known(three, ahead))
    refusal = three.change(leader, Transfer(ahead.label))
    assert isinstance(refusal, RequestError)
    assert "is upgraded" in str(refusal)
    # To nobody in particular: then to one of the older.
    assert three.change(leader, Transfer()) is None
    three.until(lambda: other.is_leader)


def test_an_upgrade_is_abandoned_when_all_are_back(three: EngineCluster) -> None:
    leader = three.leader()
    number = three.number(three.followers()[0])
    assert three.change(leader, Declare(NEW)) is None
    ahead = restart(three, number, NEW)
    three.until(lambda: is_known(three, ahead))
    refusal = three.change(leader, Abandon())
    assert isinstance(refusal, RequestError)
    assert f"runs on {ahead.label}" in str(refusal)
    back = restart(three, number, OLD)
    three.until(lambda: is_known(three, back))
    assert three.change(back, Abandon()) is None
    assert three.change(back, Abandon()) is None, "twice changes nothing"
    three.until(lambda: is_over(three, OLD))
    restart(three, number, NEW)
    wait_for_fault(three, number)


def test_a_node_whose_upgrade_is_abandoned_under_it_ends(three: EngineCluster) -> None:
    leader = three.leader()
    number = three.number(three.followers()[0])
    assert three.change(leader, Declare(NEW)) is None
    three.kill(number)
    assert three.change(leader, Abandon()) is None
    # Its log ends with the declaration: it is let in by what it knows, until it hears more.
    restart(three, number, NEW)
    assert f"its fingerprint is {NEW}, and the cluster takes {OLD}." in wait_for_fault(
        three, number
    )


@pytest.mark.parametrize("fingerprint", [NEW, OTHER])
def test_an_undeclared_release_takes_no_part_and_is_refused(
    three: EngineCluster, fingerprint: str
) -> None:
    leader = three.leader()
    if fingerprint == OTHER:
        assert three.change(leader, Declare(NEW)) is None
    number = three.number(three.followers()[0])
    engine = restart(three, number, fingerprint)
    applied = engine.machine.applied_index
    three.execute(leader, "INSERT INTO t VALUES(1, 'x')")
    said = wait_for_fault(three, number)
    known = f"{OLD} or {NEW}" if fingerprint == OTHER else OLD
    assert f"its fingerprint is {fingerprint}, and the cluster takes {known}." in said
    assert f"rsqlite upgrade URL --to {fingerprint}" in said
    assert engine.machine.applied_index == applied, "it computed nothing"


def test_until_it_hears_from_the_others_an_undeclared_release_waits_and_serves_nothing(
    three: EngineCluster,
) -> None:
    leader, follower = three.leader(), three.followers()[0]
    numbers = [three.number(one) for one in three.running()]
    number = three.number(follower)
    for other in numbers:
        three.kill(other)
    engine = restart(three, number, NEW)
    three.loop.advance(10.0)
    assert three.faults == []
    assert engine.core is not None
    assert engine.core.current_term == leader.core.current_term if leader.core else 0
    answer = three.answer(engine, _select(ReadLevel.NONE))
    assert "waits for a word" in str(answer)
    for other in numbers:
        if other != number:
            three.start_node(other)
    wait_for_fault(three, number)


def test_a_node_that_was_down_when_an_upgrade_was_declared_is_let_in(three: EngineCluster) -> None:
    number = three.number(three.followers()[0])
    three.kill(number)
    assert three.change(three.leader(), Declare(NEW)) is None
    load = Load(three)
    load.until(lambda: True)
    engine = restart(three, number, NEW)
    load.until(lambda: is_known(three, engine))
    load.check()
    assert three.faults == []


def test_an_upgrade_does_not_end_without_a_member_that_is_down(tmp_path: Path) -> None:
    cluster = make(tmp_path, 5)
    number = cluster.number(cluster.followers()[0])
    cluster.execute(cluster.leader(), "INSERT INTO t(id) VALUES(-1)")
    cluster.kill(number)
    assert cluster.change(cluster.leader(), Declare(NEW)) is None
    for one in (*cluster.followers(), cluster.leader()):
        engine = restart(cluster, cluster.number(one), NEW)
        cluster.until(lambda engine=engine: is_known(cluster, engine))  # type: ignore[misc]
    cluster.loop.advance(5.0)
    assert configuration_of(cluster.leader()).upgrade is not None
    engine = restart(cluster, number, NEW)
    cluster.until(lambda: is_over(cluster, NEW) and engine.is_synced, 20.0)
    assert cluster.rows(engine, "SELECT id FROM t", ReadLevel.NONE) == [(-1,)]
    assert cluster.faults == []
    cluster.close()


@pytest.mark.parametrize("fingerprint", [OLD, NEW])
def test_a_node_that_was_down_at_the_end_needs_the_newer_release(
    three: EngineCluster, fingerprint: str
) -> None:
    """It was known to run the newer one, so the end did not wait for it; its log does not tell."""
    number = three.number(three.followers()[0])
    assert three.change(three.leader(), Declare(NEW)) is None
    engine = restart(three, number, NEW)
    three.until(lambda: is_known(three, engine))
    three.kill(number)
    for other in range(3):
        if other != number:
            restart(three, other, NEW)
    three.until(lambda: is_over(three, NEW))
    engine = restart(three, number, fingerprint)
    if fingerprint == OLD:
        assert f"the cluster takes {NEW}." in wait_for_fault(three, number)
        assert configuration_of(engine).fingerprint == NEW, "its own log said so"
    else:
        three.until(lambda: is_known(three, engine))


@pytest.mark.parametrize("fingerprint", [OLD, NEW])
def test_a_new_node_of_either_release_joins_during_an_upgrade(
    three: EngineCluster, fingerprint: str
) -> None:
    assert three.change(three.leader(), Declare(NEW)) is None
    three.releases[3] = release(fingerprint)
    new = three.grow()
    three.until(lambda: new.node_id in configuration_of(three.leader()).voters)
    assert is_known(three, new)
    assert is_ahead(new) == (fingerprint == NEW)
    for number in range(4):
        engine = restart(three, number, NEW)
        three.until(lambda engine=engine: engine.is_synced)  # type: ignore[misc]
    three.until(lambda: is_over(three, NEW))


def test_a_new_node_of_a_third_release_is_refused(three: EngineCluster) -> None:
    assert three.change(three.leader(), Declare(NEW)) is None
    three.releases[3] = release(OTHER)
    three.grow()
    three.until(lambda: bool(three.faults))
    ((_, error),) = three.faults
    assert f"{OTHER} is not {OLD} or {NEW}" in str(error)


def test_a_node_that_was_left_behind_is_let_in_by_an_image(tmp_path: Path) -> None:
    cluster = make(tmp_path, **SMALL)
    number = leave_behind(cluster)
    assert cluster.change(cluster.leader(), Declare(NEW)) is None
    engine = restart(cluster, number, NEW)
    cluster.until(lambda: is_known(cluster, engine), 20.0)
    assert engine.log.first_index > 1, "it came by an image"
    assert cluster.faults == []
    cluster.close()


def test_after_a_power_loss_of_all_upgraded_nodes_can_elect_a_leader(three: EngineCluster) -> None:
    """What is committed nobody knows then; and one of the older stays down."""
    load = Load(three)
    load.until(lambda: True)
    assert three.change(three.leader(), Declare(NEW)) is None
    numbers = [three.number(one) for one in three.running()]
    for number in numbers:
        three.kill(number)
    engines = [restart(three, number, NEW) for number in numbers[:2]]
    load.until(lambda: all(is_known(three, engine) for engine in engines))
    load.check()


def test_a_stopped_cluster_may_be_started_with_the_newer_release_at_once(
    three: EngineCluster,
) -> None:
    assert three.change(three.leader(), Declare(NEW)) is None
    for number in range(3):
        three.kill(number)
    for number in range(3):
        restart(three, number, NEW)
    three.until(lambda: is_over(three, NEW))
    three.execute(three.leader(), "INSERT INTO t VALUES(1, 'x')")


def test_a_node_that_is_alone_goes_on_with_any_release(tmp_path: Path) -> None:
    cluster = make(tmp_path, 1)
    engine = restart(cluster, 0, NEW)
    cluster.until(lambda: is_over(cluster, NEW))
    cluster.execute(engine, "INSERT INTO t VALUES(1, 'x')")
    assert cluster.rows(engine, "SELECT * FROM t") == [(1, "x")]
    # Not with one that cannot carry out what is in its log.
    cluster.kill(0)
    cluster.releases[0] = release(LATER, behaviour=2)
    cluster.start_node(0)
    cluster.until(lambda: is_over(cluster, LATER))
    cluster.kill(0)
    cluster.releases[0] = release(OLD)
    with pytest.raises(ForeignDirectory, match=r"of a newer release.*start the release that"):
        cluster.start_node(0)


def test_a_node_that_is_alone_and_has_moved_makes_it_known(tmp_path: Path) -> None:
    cluster = make(tmp_path, 1)
    cluster.kill(0)
    cluster.addresses[0] = "elsewhere:4002"
    engine = cluster.start_node(0)
    cluster.until(lambda: [one.raft_addr for one in engine.members] == ["elsewhere:4002"])


def versions(engine: Engine) -> list[int]:
    """Of the entries in its log that hold SQL."""
    log = engine.log
    entries = log.entries(log.first_index, Index(log.last_index + 1), 1 << 20)
    return [
        int(msgspec.msgpack.decode(one.data)[0]) for one in entries if one.kind is EntryKind.COMMAND
    ]


def test_upgraded_nodes_make_and_carry_out_the_older_behaviour_until_the_end(
    three: EngineCluster,
) -> None:
    """The newer release computes by behaviour 2, in which 'now' has no fractions of a second."""
    newer = release(LATER, behaviour=2, dress=knows_two)
    three.loop._wall_offset = WALL - three.loop.monotonic()
    insert = "INSERT INTO t(v) VALUES(strftime('%f', 'now'))"
    assert three.change(three.leader(), Declare(LATER)) is None
    last = three.number(three.leader())
    for number in range(3):
        if number != last:
            three.kill(number)
            three.releases[number] = newer
            engine = three.start_node(number)
            three.until(lambda engine=engine: is_known(three, engine))  # type: ignore[misc]
    three.kill(last)
    three.wait_leader()
    assert is_ahead(three.leader())
    three.loop._wall_offset = WALL - three.loop.monotonic()
    three.execute(three.leader(), insert)
    # One that has not been reached carries out what they made.
    older = three.start_node(last)
    three.until(lambda: older.is_leader)
    three.execute(older, insert)
    assert set(versions(older)) == {1}
    three.kill(last)
    three.releases[last] = newer
    three.start_node(last)
    three.until(lambda: is_over(three, LATER))
    three.wait_leader()
    three.execute(three.leader(), insert)
    assert versions(three.leader())[-1] == 2
    # And a database that is made again from the whole log is the same.
    found = three.rows(three.leader(), "SELECT v FROM t ORDER BY id")
    assert [text.endswith(".000") for (text,) in found] == [False, False, True]
    for number in range(3):
        three.kill(number)
    (three.directory / f"node{last}" / "db" / "CURRENT").write_text("7\n")
    again = three.start_node(last)
    for number in range(3):
        if number != last:
            three.start_node(number)
    three.wait_leader()
    three.until(lambda: again.is_synced)
    assert three.rows(again, "SELECT v FROM t ORDER BY id", ReadLevel.NONE) == found
    assert three.faults == []


def test_status_says_who_runs_which(three: EngineCluster) -> None:
    leader = three.leader()
    assert leader.status().upgrade is None
    assert three.change(leader, Declare(NEW)) is None
    ahead = restart(three, three.number(three.followers()[0]), NEW)
    three.until(lambda: is_known(three, ahead))
    for engine in three.running():
        status = engine.status()
        assert (status.fingerprint, status.cluster_fingerprint) == (
            engine.machine.fingerprint,
            OLD,
        )
        assert status.upgrade == NEW
        assert {one.label: one.fingerprint for one in status.members} == {
            one.label: one.machine.fingerprint for one in three.running()
        }


def _select(level: ReadLevel) -> Request:
    return Request(RequestKind.QUERY, ["SELECT 1"], [None], level=level)


def test_a_voter_without_others_is_refused_at_once_when_read_only_nodes_are_there(
    tmp_path: Path,
) -> None:
    cluster = make(tmp_path, 1)
    cluster.releases[1] = release(OLD)
    reader = cluster.grow(raft_non_voter=True)
    cluster.until(lambda: reader.is_synced and len(cluster.leader().members) == 2)
    cluster.kill(1)
    restart(cluster, 0, NEW)
    assert f"the cluster takes {OLD}." in wait_for_fault(cluster, 0)
    cluster.close()


def test_contents_that_differ_are_reported_and_judged_when_the_upgrade_is_over(
    three: EngineCluster,
) -> None:
    """Another SQLite may word differently what it finds."""
    leader, sick = three.leader(), three.followers()[0]
    assert three.change(leader, Declare(NEW)) is None
    three.execute(leader, "INSERT INTO t VALUES(1, 'a')")
    three.until(lambda: sick.machine.applied_index == leader.machine.applied_index)
    tamper(sick, "DELETE FROM t WHERE id = 1")
    assert verdicts(verify(three, leader))[sick.label] == "differs"
    three.loop.advance(5.0)
    assert three.faults == []
    assert three.change(leader, Abandon()) is None
    assert verdicts(verify(three, leader))[sick.label] == "differs"
    three.until(lambda: bool(three.faults))
    assert [at for at, _ in three.faults] == [three.number(sick)]


def differs(machine: StateMachine) -> None:
    """Make this the machine of a release that really computes something else."""
    connection = machine._writer.connection
    connection.create_scalar_function("round", lambda value: int(value) + 1, 1, deterministic=True)


def test_an_upgraded_node_that_computes_something_else_than_most_is_repaired(
    three: EngineCluster,
) -> None:
    """What the older ones computed counts, and they go on meanwhile."""
    leader = three.leader()
    assert three.change(leader, Declare(NEW)) is None
    number = three.number(three.followers()[0])
    three.kill(number)
    three.releases[number] = release(NEW, dress=differs)
    ahead = three.start_node(number)
    three.until(lambda: is_known(three, ahead))
    three.execute(leader, "INSERT INTO t(v) SELECT round(2.0)")
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, type(fault)) == (number, DamagedDatabase)
    three.faults.clear()
    three.execute(leader, "INSERT INTO t(v) VALUES('meanwhile')")
    # That only a database of the others will do outlives a crash before it has come.
    for _ in range(2):
        three.kill(number)
        ahead = three.start_node(number)
    three.until(lambda: ahead.is_synced, 20.0)
    expected = [(2.0,), ("meanwhile",)]
    for engine in three.running():
        assert three.rows(engine, "SELECT v FROM t ORDER BY id") == expected
    assert three.leader() is leader
    assert three.faults == []
