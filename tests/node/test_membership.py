"""Who belongs to the cluster, on virtual time: joining, leaving, replacing, moving."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from rsqlite.errors import Fate, RemovedFromCluster, RequestError, RsqliteError, Unavailable
from rsqlite.node.changes import Join, Remove, Transfer
from rsqlite.node.engine import Engine
from rsqlite.node.place import VOTES
from rsqlite.raft.election import LAG_ENTRIES
from rsqlite.raft.types import NodeId
from rsqlite.request import Answer, Outcome, ReadLevel
from rsqlite.testing.engines import EngineCluster, execute
from rsqlite.testing.lanes import Weather


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5)
    cluster.start()
    cluster.execute(
        cluster.leader(),
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "INSERT INTO t VALUES(1, 'a')",
    )
    yield cluster
    cluster.close()


def voters(engine: Engine) -> frozenset[NodeId]:
    assert engine.core is not None
    configuration = engine.core.configuration
    assert not configuration.is_joint
    return configuration.voters


def has_vote(engine: Engine) -> bool:
    core = engine.core
    return (
        core is not None
        and engine.node_id in core.configuration.voters
        and not core.configuration.is_joint
        and core.configurations.index <= core.commit_index
    )


def values(cluster: EngineCluster, engine: Engine) -> list[tuple[object, ...]]:
    return cluster.rows(engine, "SELECT v FROM t ORDER BY id", ReadLevel.NONE)


@pytest.mark.parametrize("asks", ["leader", "follower"])
def test_a_node_joins_through_any_other_learns_and_votes(three: EngineCluster, asks: str) -> None:
    seed = three.leader() if asks == "leader" else three.followers()[0]
    new = three.grow(join=three.addresses[three.number(seed)])
    three.until(lambda: has_vote(new))
    assert len(voters(new)) == 4
    assert values(three, new) == [("a",)]
    three.execute(new, "INSERT INTO t VALUES(2, 'b')")
    assert three.rows(new, "SELECT v FROM t ORDER BY id") == [("a",), ("b",)]
    assert three.faults == []


def test_a_read_only_node_gets_everything_and_no_vote(three: EngineCluster) -> None:
    new = three.grow(raft_non_voter=True)
    three.until(lambda: new.is_synced and bool(new.members))
    three.loop.advance(3.0)
    assert new.core is not None
    assert new.core.configuration.learners == {new.node_id}
    three.execute(new, "INSERT INTO t VALUES(2, 'b')")
    assert values(three, new) == [("a",), ("b",)]
    # It survives a restart as what it is, and asks for no vote.
    number = three.number(new)
    three.kill(number)
    again = three.start_node(number)
    three.until(lambda: again.is_synced and len(again.members) == 4)
    three.loop.advance(3.0)
    assert not has_vote(again)


def test_a_read_only_node_that_lost_its_files_takes_the_place_that_it_had(
    three: EngineCluster,
) -> None:
    new = three.grow(raft_non_voter=True)
    number = three.number(new)
    three.until(lambda: new.is_synced)
    three.kill(number)
    shutil.rmtree(three.directory / f"node{number}")
    three.loop.advance(2.0)
    again = three.start_node(number)
    three.until(lambda: len(three.leader().members) == 5)
    leader = three.number(three.leader())
    three.kill(leader)  # and with it the wish, half fulfilled
    three.wait_leader()
    three.start_node(leader)
    three.until(lambda: len(three.leader().members) == 4)
    core = three.leader().core
    assert core is not None
    assert core.configuration.learners == {again.node_id}


def test_a_read_only_node_at_the_address_of_a_voter_that_is_away_takes_no_vote(
    three: EngineCluster,
) -> None:
    new = three.grow(raft_non_voter=True)
    number = three.number(new)
    three.until(lambda: new.is_synced)
    away = three.number(three.followers()[0])
    if away == number:
        away = three.number(three.followers()[1])
    three.kill(away)
    three.kill(number)
    three.addresses[number], three.addresses[away] = three.addresses[away], "elsewhere:4002"
    three.start_node(number)
    three.loop.advance(5.0)
    assert len(voters(three.leader())) == 3
    back = three.start_node(away)
    three.until(lambda: back.is_synced)
    assert three.faults == []


def test_a_voter_that_is_started_as_a_read_only_node_is_told_that_it_votes(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    number = three.number(three.followers()[0])
    three.kill(number)
    three.own_settings[number] = {"raft_non_voter": True}
    again = three.start_node(number)
    three.until(lambda: again.is_synced)
    three.loop.advance(3.0)
    assert has_vote(again)
    assert [record.message for record in caplog.records].count(VOTES) == 1


def test_a_node_votes_only_when_it_has_applied_what_it_has(three: EngineCluster) -> None:
    """Else it could be told to lead, and serve nobody until it had."""
    for number in range(100):
        three.execute(three.leader(), f"INSERT INTO t VALUES({100 + number}, 'x')")
    new = three.grow()
    new.applier.is_held = True
    three.until(lambda: new.log.last_index >= three.leader().log.last_index)
    three.loop.advance(5.0)
    assert not has_vote(new)
    new.applier.is_held = False
    new.applier.hurry()
    three.until(lambda: has_vote(new))
    assert len(values(three, new)) == 101


@pytest.mark.parametrize("slow", [0, 1])
def test_leadership_goes_to_who_has_applied_what_is_committed(
    three: EngineCluster, slow: int
) -> None:
    behind = three.followers()[slow]
    behind.applier.is_held = True
    for number in range(2 * LAG_ENTRIES):
        three.execute(three.leader(), f"INSERT INTO t VALUES({100 + number}, 'x')")
    three.loop.advance(0.2)
    old = three.leader()
    assert three.change(old, Transfer()) is None
    three.until(lambda: any(one.is_leader for one in three.running() if one is not old))
    assert three.leader() is not behind
    behind.applier.is_held = False
    behind.applier.hurry()


@pytest.mark.parametrize("wish", ["transfer", "remove"])
def test_leadership_goes_to_who_has_a_database(three: EngineCluster, wish: str) -> None:
    """It would be offered in vain to the other one, for an election timeout without writes."""
    old = three.leader()
    lost, other = sorted(three.followers(), key=lambda one: one.node_id)
    number = three.number(lost)
    lost.give_up_database("for this test")
    three.kill(number)
    three.disks[number].free["db"] = 0
    lost = three.start_node(number)
    three.loop.advance(1.0)
    assert lost.installer.is_without_database
    answers: list[RsqliteError | None] = []
    old.change_membership(Transfer() if wish == "transfer" else Remove(old.label), answers.append)
    three.until(lambda: other.is_leader, old.settings.raft_election_timeout / 2)
    three.until(lambda: bool(answers))
    assert answers == [None]


def test_the_last_voter_with_a_database_stays(three: EngineCluster) -> None:
    lost, other = three.followers()
    number = three.number(lost)
    lost.give_up_database("for this test")
    three.kill(number)
    three.faults.clear()
    three.disks[number].free["db"] = 0
    lost = three.start_node(number)
    three.loop.advance(1.0)
    assert three.change(three.leader(), Remove(other.label)) is None
    last = three.leader()
    refusal = three.change(last, Remove(last.label))
    assert isinstance(refusal, Unavailable)
    assert "could lead" in str(refusal)
    assert last.is_leader
    three.disks[number].free.clear()
    three.until(lambda: lost.is_synced and not lost.installer.is_without_database, 60.0)
    assert three.change(last, Remove(last.label)) is None
    three.until(lambda: lost.is_leader and lost.is_synced)
    assert values(three, lost) == [("a",)]


def test_a_node_that_restarts_while_it_learns_gets_its_vote_all_the_same(
    three: EngineCluster,
) -> None:
    new = three.grow()
    three.until(lambda: new.core is not None)
    number = three.number(new)
    three.kill(number)
    three.loop.advance(1.0)
    again = three.start_node(number)
    three.until(lambda: has_vote(again))


def test_a_member_is_removed_and_told_so(three: EngineCluster) -> None:
    leader, gone = three.leader(), three.followers()[0]
    number = three.number(gone)
    assert three.change(three.followers()[1], Remove(gone.label)) is None
    assert voters(leader) == {one.node_id for one in three.running() if one is not gone}
    three.until(lambda: bool(three.faults))
    assert [(at, type(error)) for at, error in three.faults] == [(number, RemovedFromCluster)]
    assert "empty directory" in str(three.faults[0][1])
    term = leader.core.current_term if leader.core else 0
    three.loop.advance(5.0)
    assert leader.core is not None
    assert (leader.core.current_term, leader.is_leader) == (term, True), "it disturbed nobody"
    assert three.change(leader, Remove(gone.label)) is None, "to remove twice changes nothing"


def test_a_member_that_is_removed_knows_it_at_once(tmp_path: Path) -> None:
    """Its clients would wait for it as long as it does not."""
    cluster = EngineCluster(tmp_path, 3, join_interval=1000.0)
    cluster.start()
    gone = cluster.followers()[0]
    assert cluster.change(cluster.leader(), Remove(gone.label)) is None
    cluster.loop.advance(0.5)
    assert [type(error) for _, error in cluster.faults] == [RemovedFromCluster]
    cluster.close()


def test_a_node_that_was_down_when_it_was_removed_learns_it_at_its_start(
    three: EngineCluster,
) -> None:
    gone = three.followers()[0]
    number, label = three.number(gone), gone.label
    three.kill(number)
    assert three.change(three.leader(), Remove(label)) is None
    three.start_node(number)
    three.until(lambda: bool(three.faults), 20.0)
    assert [(at, type(error)) for at, error in three.faults] == [(number, RemovedFromCluster)]


def test_a_node_that_is_removed_while_it_learns_stays_away(three: EngineCluster) -> None:
    """It is still asking for its vote; nothing that it asks undoes what an operator wished."""
    new = three.grow()
    new.applier.is_held = True  # it does not catch up
    leader = three.leader()
    three.until(
        lambda: leader.core is not None and new.node_id in leader.core.configuration.learners
    )
    three.until(lambda: bool(new.members))
    three.loop.advance(1.0)
    end = leader.log.last_index
    assert three.change(leader, Remove(new.label)) is None
    new.applier.is_held = False
    new.applier.hurry()
    three.until(lambda: bool(three.faults))
    assert [type(error) for _, error in three.faults] == [RemovedFromCluster]
    three.loop.advance(5.0)
    assert len(voters(leader)) == 3
    assert len(leader.members) == 3
    assert leader.log.last_index - end <= 2, "it leaves once, in one change"


def test_a_node_that_is_removed_before_it_has_anything_learns_it(
    three: EngineCluster,
) -> None:
    """It was invited, and has no entry of the log yet: it may as well be early. Whom it asks is a
    follower, which cannot say; it knows who leads."""
    new = three.grow(join=three.followers()[0].raft_addr, join_attempts=3)
    three.until(lambda: new.core is not None)
    assert new.members == ()
    number = three.number(new)
    three.kill(number)
    three.loop.advance(2.0)
    assert three.change(three.leader(), Remove(f"n{number}")) is None
    three.start_node(number)
    three.loop.advance(0.6)
    assert three.faults == [], "one answer is not enough: it may be of one that leads no more"
    three.until(lambda: bool(three.faults))
    assert [(at, type(error)) for at, error in three.faults] == [(number, RemovedFromCluster)]


def test_the_leader_removes_itself(three: EngineCluster) -> None:
    old = three.leader()
    assert three.change(old, Remove(old.label)) is None
    three.until(lambda: any(one.is_leader for one in three.running() if one is not old))
    new = three.leader()
    assert voters(new) == {one.node_id for one in three.running() if one is not old}
    three.execute(new, "INSERT INTO t VALUES(2, 'b')")
    three.until(lambda: bool(three.faults))
    assert [type(error) for _, error in three.faults] == [RemovedFromCluster]


@pytest.mark.parametrize("asked", ["leader", "follower"])
def test_a_leader_that_is_to_go_hands_over_first(three: EngineCluster, asked: str) -> None:
    """Under load, too, when there is always something that a follower does not have yet."""
    old = three.leader()
    via = old if asked == "leader" else three.followers()[0]
    written: list[list[Answer]] = []
    answers: list[RsqliteError | None] = []
    three.board.weather = Weather(delay_min_s=0.002, delay_max_s=0.004)
    unled_ms = longest_ms = 0
    for at_ms in range(1000):
        if at_ms == 100:
            via.change_membership(Remove(old.label), answers.append)
        if old.fault and old in three.engines:
            three.kill(three.number(old))  # as its owner does
        staying = [one for one in three.running() if one is not old or at_ms <= 100]
        asked_now = staying[at_ms % len(staying)]
        text = f"INSERT INTO t VALUES({100 + at_ms}, 'x')"
        written.append(three.ask(asked_now, execute(text)))
        three.loop.advance(0.001)
        unled_ms = 0 if any(one.is_leader for one in three.running()) else unled_ms + 1
        longest_ms = max(longest_ms, unled_ms)
    assert answers == [None]
    assert not old.is_leader
    assert longest_ms < 100, "no election timeout passes"
    three.until(lambda: all(written))
    applied = [isinstance(answer, Outcome) for (answer,) in written]
    assert all(applied[:80])
    assert all(applied[200:])
    assert len(values(three, three.leader())) >= 1 + sum(applied)


def test_a_new_leader_takes_nobody_for_silent_whom_it_could_not_have_heard(
    tmp_path: Path,
) -> None:
    """The leader that leaves is followed by one, while the disk of the third voter takes a while:
    that one speaks first when it has the entry of the new leader."""
    cluster = EngineCluster(tmp_path, 3, log_inline_sync_max=0.0, log_sync="thread")
    old = cluster.start()
    cluster.loop.advance(1.0)
    _, slow = sorted(cluster.followers(), key=lambda one: one.node_id)
    answers: list[RsqliteError | None] = []
    slow.log._worker.pause()  # type: ignore[attr-defined]
    old.change_membership(Remove(old.label), answers.append)
    cluster.until(lambda: any(one.is_leader for one in cluster.running() if one is not old))
    cluster.loop.advance(0.2)
    slow.log._worker.resume()  # type: ignore[attr-defined]
    cluster.until(lambda: bool(answers))
    assert answers == [None]
    assert old.node_id not in voters(cluster.leader())
    cluster.close()


def test_a_leader_that_nobody_can_take_over_from_now_goes_all_the_same(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told to lead does not: the removal does not wait for ever."""
    old = three.leader()
    monkeypatch.setattr("rsqlite.raft.election.handle_timeout_now", lambda state, message: None)
    assert three.change(old, Remove(old.label)) is None
    three.until(lambda: any(one.is_leader for one in three.running() if one is not old))
    assert old.node_id not in voters(three.leader())


def test_no_change_may_leave_a_cluster_without_a_majority(three: EngineCluster) -> None:
    leader, down = three.leader(), three.followers()[0]
    three.kill(three.number(down))
    three.loop.advance(2.0)
    other = three.followers()[0]
    refusal = three.change(leader, Remove(other.label))
    assert isinstance(refusal, Unavailable)
    assert refusal.fate is Fate.NOT_APPLIED
    assert "no majority" in str(refusal)
    assert three.change(leader, Remove(down.label)) is None
    assert three.change(leader, Remove(other.label)) is None
    assert voters(leader) == {leader.node_id}
    last = three.change(leader, Remove(leader.label))
    assert isinstance(last, RequestError)
    assert "last voter" in str(last)


def test_a_wiped_node_takes_the_place_of_the_one_that_it_was(three: EngineCluster) -> None:
    wiped = three.followers()[0]
    number, former = three.number(wiped), wiped.node_id
    three.kill(number)
    shutil.rmtree(three.directory / f"node{number}")
    # With the words that it was first started with: it finds the cluster running, and joins.
    again = three.start_node(number)
    assert again.node_id != former
    three.until(lambda: has_vote(again), 20.0)
    assert len(voters(again)) == 3
    assert former not in {member.node_id for member in again.members}
    assert values(three, again) == [("a",)]
    assert three.faults == []


def test_a_node_with_the_label_of_another_is_not_let_in_and_told_why(
    three: EngineCluster,
) -> None:
    index = three.leader().log.last_index
    other = three.followers()[0]
    new = three.grow(node_id=other.label, join_attempts=2)
    three.until(lambda: bool(three.faults))
    assert new.core is None
    assert three.leader().log.last_index == index, "it changed nothing"
    ((number, fault),) = three.faults
    assert number == three.number(new)
    assert isinstance(fault, RequestError)
    assert f"the label {other.label!r}" in str(fault), "the leader's word, not a follower's"


def test_a_node_that_tells_the_address_of_another_is_not_let_in_and_told_why(
    three: EngineCluster,
) -> None:
    index = three.leader().log.last_index
    other = three.followers()[0]
    three.told[len(three.addresses)] = other.raft_addr
    three.grow(join_attempts=2)
    three.until(lambda: bool(three.faults))
    assert three.leader().log.last_index == index, "it changed nothing"
    assert f"{other.label} answers at {other.raft_addr}" in str(three.faults[0][1])


def test_a_member_that_tells_the_address_of_another_keeps_its_own(three: EngineCluster) -> None:
    moved, other = three.followers()
    number = three.number(moved)
    three.kill(number)
    three.told[number] = other.raft_addr
    again = three.start_node(number)
    three.until(lambda: again.is_synced)
    three.loop.advance(3.0)
    assert three.change(three.leader(), Transfer(again.label)) is None
    three.until(lambda: again.is_leader and again.is_synced)
    three.loop.advance(3.0)
    addresses = [one.raft_addr for one in again.members]
    assert sorted(addresses) == sorted(three.addresses), "nor when it leads"
    assert three.faults == []


def test_a_node_that_was_let_in_and_cannot_be_reached_does_not_ask_for_ever(
    three: EngineCluster,
) -> None:
    three.told[len(three.addresses)] = "nowhere:1"
    three.grow(join_attempts=3)
    three.until(lambda: bool(three.faults))
    ((_, fault),) = three.faults
    assert isinstance(fault, RequestError)
    assert "nowhere:1" in str(fault)
    assert "-raft-adv-addr" in str(fault)
    assert "stop it, then remove it" in str(fault), "or it asks again at once"


def test_a_node_comes_back_at_other_addresses(three: EngineCluster) -> None:
    moved = three.followers()[0]
    number = three.number(moved)
    three.kill(number)
    three.addresses[number] = "elsewhere:4002"
    again = three.start_node(number)
    leader = three.leader()

    def known() -> list[str]:
        return [one.raft_addr for one in leader.members if one.node_id == again.node_id]

    three.until(lambda: known() == ["elsewhere:4002"])
    assert len(voters(leader)) == 3
    three.execute(again, "INSERT INTO t VALUES(2, 'b')")


def test_all_nodes_come_back_at_other_addresses(three: EngineCluster) -> None:
    """Each knows the others where they were; -join says where they are."""
    for number in range(3):
        three.kill(number)
    three.addresses[:] = [f"elsewhere{number}:4002" for number in range(3)]
    three.own_settings = {number: {"join": ",".join(three.addresses)} for number in range(3)}
    leader = three.start()
    three.until(lambda: {one.raft_addr for one in leader.members} == set(three.addresses))
    three.until(lambda: all(has_vote(one) for one in three.running()))
    for engine in three.running():
        three.execute(engine, "INSERT INTO t(v) VALUES('b')")
    # Who moves once more is found where it is then.
    for number in range(3):
        three.kill(number)
    three.addresses[2] = "back:4002"
    three.own_settings = {number: {"join": ",".join(three.addresses)} for number in range(3)}
    leader = three.start()
    three.until(lambda: {one.raft_addr for one in leader.members} == set(three.addresses))
    three.until(lambda: all(one.is_synced for one in three.running()))
    assert three.faults == []


def test_leadership_is_handed_to_the_member_that_is_named(three: EngineCluster) -> None:
    for asks_leader in (True, False):
        leader, target = three.leader(), three.followers()[0]
        asked = leader if asks_leader else three.followers()[1]
        assert three.change(asked, Transfer(target.label)) is None
        three.until(lambda target=target: target.is_leader and target.is_synced)  # type: ignore[misc]
    refusal = three.change(three.leader(), Transfer("nobody"))
    assert isinstance(refusal, RequestError)
    leader = three.leader()
    assert three.change(leader, Transfer(leader.label)) is None
    assert three.change(leader, Transfer()) is None
    assert not leader.is_leader


def test_a_node_of_another_release_is_refused_and_ends(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsqlite.statemachine.machine.fingerprint", lambda connection: "other")
    three.grow()
    three.until(lambda: bool(three.faults))
    assert isinstance(three.faults[0][1], RequestError)
    assert "computes SQL differently" in str(three.faults[0][1])


def test_who_finds_nobody_gives_up_after_so_many_attempts(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 0, join_interval=0.5, join_attempts=3)
    cluster.addresses.append("nowhere:1")
    cluster.engines.append(None)
    cluster.networks.append(None)
    cluster.grow()
    cluster.until(lambda: bool(cluster.faults))
    assert "3 attempts" in str(cluster.faults[0][1])
    assert "nobody listens at nowhere:1" in str(cluster.faults[0][1])
    assert 0.9 < cluster.loop.monotonic() < 2.5
    cluster.close()


def test_three_become_five_and_three_again_under_writes(three: EngineCluster) -> None:
    written = 1
    old = list(three.running())
    for _ in range(2):
        new = three.grow()
        three.until(lambda new=new: has_vote(new))  # type: ignore[misc]
        written += 1
        three.execute(new, f"INSERT INTO t VALUES({written}, 'more')")
    assert len(voters(three.leader())) == 5
    for one in old[:2]:
        three.execute(three.running()[-1], f"INSERT INTO t VALUES({100 + written}, 'x')")
        assert three.change(three.running()[-1], Remove(one.label), 20.0) is None
        written += 1
        three.until(lambda one=one: one.fault is not None, 20.0)  # type: ignore[misc]
        three.kill(three.number(one))
    assert len(voters(three.leader())) == 3
    three.loop.advance(2.0)
    for one in three.running():
        assert len(values(three, one)) == written


def test_a_joining_node_does_not_take_the_word_of_a_member_that_is_behind(
    three: EngineCluster,
) -> None:
    behind = three.followers()[0]
    three.isolate(behind)  # from the others; it answers who asks it
    three.loop.advance(1.0)
    new = three.grow()
    three.until(lambda: has_vote(new), 30.0)
    three.loop.advance(10.0)
    assert three.faults == []


def test_a_joining_node_that_has_only_what_was_before_it_is_not_told_that_it_was_removed(
    tmp_path: Path,
) -> None:
    """By a member that is as far as it is. What it has may be an image, and a member that was just
    started knows of no newer configuration either."""
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5, append_entries_max=1)
    cluster.start()
    cluster.loop.advance(1.0)
    behind = cluster.followers()[0]
    cluster.isolate(behind)
    cluster.board.weather = Weather(delay_min_s=0.02, delay_max_s=0.02)
    new = cluster.grow()
    cluster.until(lambda: bool(new.members))
    for other in cluster.running():
        if other not in (new, behind):
            cluster.board.cut(other.node_id, new.node_id)
            cluster.board.cut(new.node_id, other.node_id)
    assert new.node_id not in {one.node_id for one in new.members}
    assert behind.members == new.members
    cluster.loop.advance(3.0)
    assert cluster.faults == []
    cluster.board.heal()
    cluster.until(lambda: has_vote(new))
    cluster.close()


def test_a_node_whose_log_tells_of_its_removal_is_told_at_each_start(three: EngineCluster) -> None:
    gone = three.followers()[0]
    number = three.number(gone)
    assert three.change(three.leader(), Remove(gone.label)) is None
    three.until(lambda: bool(three.faults))
    three.kill(number)
    three.faults.clear()
    again = three.start_node(number)
    assert again.core is not None
    assert again.core.configuration.member(again.node_id) is None
    three.until(lambda: bool(three.faults))
    assert [(at, type(error)) for at, error in three.faults] == [(number, RemovedFromCluster)]


def test_every_question_is_answered_and_none_waits_for_ever(three: EngineCluster) -> None:
    leader = three.leader()
    for follower in three.followers():
        three.isolate(follower)
    wish = msgspec.to_builtins(Join(77, "x", "x:1", "x:2", leader.machine.fingerprint))
    answers: list[object] = []
    for timeout_s in (5, 5, "nan", "inf", -1, 0, None, [1], 1e300):
        leader.asked({"wish": wish, "timeout_s": timeout_s}, answers.append)
    for question in ({}, {"wish": 1}, {"wish": {"type": "nothing"}, "timeout_s": 1}):
        leader.asked(question, answers.append)
    three.loop.advance(40.0)
    assert len(answers) == 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_id": 0},
        {"node_id": -1},
        {"node_id": 2**64},
        {"label": ""},
        {"label": "x" * 256},
        {"label": "\ud800"},
        {"raft_addr": ""},
        {"raft_addr": "nonsense"},
        {"raft_addr": ":4002"},
        {"raft_addr": "x:0"},
        {"raft_addr": "x\r\nHost: y:4002"},
        {"http_addr": "nonsense"},
        {"fingerprint": "x"},
    ],
)
def test_what_no_node_can_be_is_not_let_in(three: EngineCluster, wrong: dict[str, object]) -> None:
    """Not even for a moment: what the log says of a member, no node could send or dial."""
    leader = three.leader()
    before = leader.members
    wish = msgspec.to_builtins(Join(77, "x", "x:1", "x:2", leader.machine.fingerprint))
    answers: list[Mapping[str, object]] = []
    leader.asked({"wish": {**wish, **wrong}, "timeout_s": 1.0}, answers.append)
    three.loop.advance(0.0)
    assert [answer["error"] for answer in answers] == ["RequestError"]
    assert leader.members == before


def test_an_old_copy_of_a_directory_comes_back_as_another_node(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(v)")
    follower = cluster.followers()[0]
    number, old_id = cluster.number(follower), follower.node_id
    cluster.kill(number)
    directory, copy = tmp_path / f"node{number}", tmp_path / "copy"
    shutil.copytree(directory, copy)
    again = cluster.start_node(number)
    cluster.until(lambda: again.is_synced)
    for value in range(20):
        cluster.execute(leader, f"INSERT INTO t VALUES({value})")
    cluster.until(lambda: again.machine.applied_index == leader.machine.applied_index)
    cluster.kill(number)
    shutil.rmtree(directory)
    copy.rename(directory)
    cluster.start_node(number)
    cluster.until(lambda: bool(cluster.faults))
    ((failed, fault),) = cluster.faults
    assert failed == number
    assert "old copy" in str(fault)
    cluster.faults.clear()
    cluster.kill(number)
    new = cluster.start_node(number)
    assert new.node_id != old_id
    core = leader.core
    assert core is not None
    cluster.until(lambda: new.node_id in core.configuration.voters, 30.0)
    assert old_id not in core.configuration.voters
    cluster.until(lambda: new.machine.applied_index == leader.machine.applied_index)
    assert cluster.rows(new, "SELECT count(*) FROM t", ReadLevel.NONE) == [(20,)]
    assert cluster.faults == []
    cluster.close()
