"""All nodes hold the same content, or it is found, named and repaired."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.errors import DamagedDatabase, Overloaded, RemovedFromCluster, RsqliteError
from rsqlite.node.changes import Remove
from rsqlite.node.content import KEPT_MAX, TELL_S
from rsqlite.node.engine import Engine
from rsqlite.node.findings import NodeReport, Report
from rsqlite.raft.types import Index, NodeId
from rsqlite.request import Answer, Outcome, ReadLevel, Request, RequestKind
from rsqlite.statemachine.generations import note_damage
from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.testing.engines import EngineCluster, execute


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    cluster.execute(cluster.leader(), "CREATE TABLE u(v)")
    cluster.execute(cluster.leader(), "INSERT INTO t VALUES(1, 'a'), (2, 'b')")
    applied_everywhere(cluster)
    yield cluster
    cluster.close()


def applied_everywhere(cluster: EngineCluster) -> None:
    index = cluster.leader().machine.applied_index
    cluster.until(lambda: all(one.machine.applied_index >= index for one in cluster.running()))


def tamper(engine: Engine, sql: str = "DELETE FROM t WHERE id = 2") -> None:
    tamper_file(engine.machine.path, sql)


def tamper_file(path: str | Path, sql: str, *, timeout_ms: int = 1000) -> None:
    """Change a database behind its node's back, page checksums and all."""
    connection = apsw.Connection(str(path), vfs=load_checksum_vfs())
    connection.set_busy_timeout(timeout_ms)
    try:
        connection.execute(sql)
    finally:
        connection.close()


def lose_database(cluster: EngineCluster, engine: Engine) -> int:
    """End a node, which is to come back without a database; its number."""
    number = cluster.number(engine)
    cluster.kill(number)
    note_damage(engine.machine.path, "for this test", wants_image=True)
    return number


def verify(cluster: EngineCluster, engine: Engine, timeout_s: float = 0.0) -> Report | RsqliteError:
    found: list[Any] = []
    engine.verify(lambda *answer: found.append(answer), timeout_s)
    cluster.until(lambda: bool(found), 30.0)
    ((report, error),) = found
    assert (report is None) != (error is None)
    return report or error  # type: ignore[no-any-return]


def verdicts(report: Report | RsqliteError) -> dict[str, str]:
    assert isinstance(report, Report), report
    return {node.label: node.verdict for node in report.nodes}


@pytest.mark.parametrize("asked", ["leader", "follower"])
def test_nodes_that_agree_say_so_whoever_is_asked(three: EngineCluster, asked: str) -> None:
    engine = three.leader() if asked == "leader" else three.followers()[0]
    report = verify(three, engine)
    assert isinstance(report, Report)
    assert (report.agreed, report.complete) == (True, True)
    assert set(verdicts(report).values()) == {"agrees"}
    assert len({node.finding.digest for node in report.nodes if node.finding}) == 1
    assert not three.faults


@pytest.mark.parametrize("sick", ["leader", "follower"])
@pytest.mark.parametrize("asked", ["leader", "follower"])
def test_rows_changed_behind_a_node_are_found_named_and_repaired(
    three: EngineCluster, sick: str, asked: str
) -> None:
    engine = three.leader() if sick == "leader" else three.followers()[1]
    number, label = three.number(engine), engine.label
    tamper(engine)
    report = verify(three, three.leader() if asked == "leader" else three.followers()[0])
    assert isinstance(report, Report)
    assert verdicts(report)[label] == "differs"
    assert sorted(verdicts(report).values()) == ["agrees", "agrees", "differs"]
    assert not report.agreed
    (node,) = (one for one in report.nodes if one.verdict == "differs")
    assert node.tables == ("t",)
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, type(fault)) == (number, DamagedDatabase)
    assert "tables t" in str(fault)
    three.kill(number)
    three.faults.clear()
    three.wait_leader()
    three.execute(three.leader(), "INSERT INTO u VALUES(1)")
    engine = three.start_node(number)
    three.until(lambda: engine.is_synced)
    applied_everywhere(three)
    assert three.rows(engine, "SELECT v FROM t", ReadLevel.NONE) == [("a",), ("b",)]
    again = verify(three, three.followers()[0])
    assert set(verdicts(again).values()) == {"agrees"}
    assert not three.faults


@pytest.mark.parametrize("sick", ["leader", "follower"])
def test_who_is_found_to_differ_serves_nothing_while_it_tells_the_others(
    three: EngineCluster, sick: str
) -> None:
    engine = three.leader() if sick == "leader" else three.followers()[0]
    tamper(engine, "DELETE FROM t WHERE id = 2")
    answers: list[Answer] = []
    three.leader().verify(lambda *_: None)
    three.until(lambda: engine.fault is not None)
    assert not three.faults, "it tells the others first"
    for level in (ReadLevel.NONE, ReadLevel.LINEARIZABLE):
        read = Request(RequestKind.QUERY, ["SELECT count(*) FROM t"], [None], level=level)
        engine.submit(read, answers.append)
    engine.submit(execute("INSERT INTO t(v) SELECT max(v) FROM t"), answers.append)
    three.until(lambda: bool(three.faults))
    assert len(answers) == 3
    assert not any(isinstance(answer, Outcome) for answer in answers)
    ((_, fault),) = three.faults
    assert isinstance(fault, DamagedDatabase)
    three.faults.clear()


def test_each_node_hashes_at_the_same_entry_while_writes_go_on(three: EngineCluster) -> None:
    found: list[Any] = []
    written: list[Any] = []
    for number in range(60):
        if number in (20, 40):
            engine = three.leader() if number == 20 else three.followers()[0]
            engine.verify(lambda *answer: found.append(answer))
        written.append(three.ask(three.leader(), write(number)))
        three.loop.advance(0.003)
    three.until(lambda: len(found) == 2, 30.0)
    three.until(lambda: all(written))
    reports = [report for report, _ in found]
    assert all(set(verdicts(report).values()) == {"agrees"} for report in reports)
    digests = {node.finding.digest for report in reports for node in report.nodes}
    assert len(digests) == 2, "what was written in between is in the second one"


def test_a_node_that_is_down_is_not_waited_for(three: EngineCluster) -> None:
    number = three.number(three.followers()[0])
    label = three.followers()[0].label
    three.kill(number)
    report = verify(three, three.leader())
    assert verdicts(report)[label] == "no answer"
    assert isinstance(report, Report)
    assert (report.agreed, report.complete) == (True, False)


def test_without_a_quorum_that_shares_one_nobody_is_believed(three: EngineCluster) -> None:
    for number, engine in enumerate(three.running()):
        tamper(engine, f"UPDATE t SET v = {number}")
    report = verify(three, three.leader())
    assert set(verdicts(report).values()) == {"undecided"}
    assert isinstance(report, Report)
    assert not report.agreed
    three.loop.advance(3.0)
    assert not three.faults


def test_a_learner_is_checked_and_has_no_vote(three: EngineCluster) -> None:
    learner = three.grow(raft_non_voter=True)
    three.until(lambda: learner.is_synced)
    applied_everywhere(three)
    tamper(learner)
    assert verdicts(verify(three, learner))[learner.label] == "differs"
    three.until(lambda: bool(three.faults))
    assert three.faults[0][0] == three.number(learner)


@pytest.mark.parametrize("how", ["joins", "was down"])
def test_who_catches_up_passes_over_checks_of_before(
    three: EngineCluster, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    down = three.number(three.followers()[0])
    if how == "was down":
        three.kill(down)
    for _ in range(KEPT_MAX + 2):
        verify(three, three.leader())
    engine = three.grow() if how == "joins" else three.start_node(down)
    three.until(lambda: engine.is_synced)
    applied_everywhere(three)
    three.loop.advance(5.0)
    assert engine.content.last is None
    assert "content checked" not in [
        record.message for record in caplog.records if record.levelname == "ERROR"
    ]
    assert verdicts(verify(three, three.leader()))[engine.label] == "agrees"


def test_checks_are_made_as_often_as_the_setting_says(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, verify_interval=60.0)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    cluster.execute(cluster.leader(), "INSERT INTO t VALUES(2, 'b')")
    applied_everywhere(cluster)
    sick = cluster.followers()[0]
    tamper(sick)
    cluster.loop.advance(50.0)
    assert not cluster.faults
    cluster.until(lambda: bool(cluster.faults), 30.0)
    assert cluster.faults[0][0] == cluster.number(sick)
    last = cluster.leader().content.last
    cluster.until(lambda: cluster.leader().content.last is not None)
    assert last is None or verdicts(last)[sick.label] == "differs"
    cluster.close()


def test_without_a_leader_nothing_is_checked(three: EngineCluster) -> None:
    for number in (three.number(one) for one in three.followers()):
        three.kill(number)
    last = three.running()[0]
    three.until(lambda: not last.is_leader)
    three.until(lambda: last.leader is None)
    answer = verify(three, last)
    assert isinstance(answer, RsqliteError)
    assert "leader" in str(answer)


def write(number: int) -> Request:
    return execute(f"INSERT INTO u VALUES({number})")


def test_a_check_that_is_asked_for_during_another_comes_after_it(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(v)")
    found: list[Any] = []
    for engine in (leader, cluster.followers()[0], leader):
        engine.verify(lambda report, error: found.append(report or error))
    cluster.until(lambda: len(found) == 3, 60.0)
    assert [(one.agreed, one.complete) for one in found] == [(True, True)] * 3
    assert len({one.index for one in found}) == 2
    cluster.close()


def test_checks_that_are_asked_for_are_bounded(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3)
    leader = cluster.start()
    found: list[Any] = []
    for _ in range(100):
        leader.verify(lambda report, error: found.append(report or error))
    cluster.until(lambda: len(found) == 100, 60.0)
    refused = [one for one in found if isinstance(one, RsqliteError)]
    assert 60 < len(refused) < 100
    assert all(isinstance(one, Overloaded) for one in refused)
    assert all(one.complete for one in found if not isinstance(one, RsqliteError))
    cluster.close()


def test_an_answer_counts_for_who_gave_it_and_not_for_whose_address_it_is(
    three: EngineCluster,
) -> None:
    moved, gone = three.followers()
    number = three.number(moved)
    three.kill(three.number(gone))
    three.kill(number)
    three.addresses[number] = gone.raft_addr  # whoever asks that one asks this one now
    three.start_node(number)
    three.wait_leader()
    report = verify(three, three.leader(), 3.0)
    assert verdicts(report)[gone.label] == "no answer"


def test_a_node_that_was_removed_meanwhile_acts_on_no_answer(three: EngineCluster) -> None:
    leader, (sick, _) = three.leader(), three.followers()
    ask, late = sick.network.ask, []

    def ask_slowly(address: str, question: Any, done: Any, **options: Any) -> None:
        if "content" in question:
            ask(address, question, lambda *answer: late.append(partial(done, *answer)), **options)
        else:
            ask(address, question, done, **options)

    sick.network.ask = ask_slowly  # type: ignore[method-assign]
    tamper(sick)
    leader.verify(lambda *answer: None)
    three.until(lambda: len(late) == 2)
    leader.change_membership(Remove(sick.label), lambda error: None)
    three.until(lambda: sick.node_id not in [one.node_id for one in sick.members])
    for answer in late:
        answer()
    three.loop.advance(2.0)
    assert [type(fault) for _, fault in three.faults] == [RemovedFromCluster]


def test_a_sick_node_and_its_copy_are_no_majority(three: EngineCluster) -> None:
    sick, (healthy, other) = three.leader(), three.followers()
    lost = lose_database(three, other)
    tamper(sick)
    copy = three.start_node(lost)
    three.until(lambda: copy.is_synced)
    report = verify(three, healthy)
    assert set(verdicts(report).values()) == {"undecided"}
    assert isinstance(report, Report)
    assert not report.agreed
    three.kill(lost)
    copy = three.start_node(lost)
    three.until(lambda: copy.is_synced)
    assert set(verdicts(verify(three, three.leader())).values()) == {"undecided"}
    three.loop.advance(3.0)
    assert not three.faults
    assert three.rows(healthy, "SELECT v FROM t", ReadLevel.NONE) == [("a",), ("b",)]


def test_a_copy_that_is_found_like_all_others_counts_from_then_on(three: EngineCluster) -> None:
    other = three.followers()[1]
    lost = lose_database(three, other)
    copy = three.start_node(lost)
    three.until(lambda: copy.installer.origin.installed is not None)
    three.until(lambda: not copy.installer.origin.is_copy)  # it asks for the check by itself
    three.kill(lost)
    copy = three.start_node(lost)
    three.until(lambda: copy.is_synced)
    assert not copy.installer.origin.is_copy
    sick = three.leader()
    tamper(sick)
    report = verify(three, sick)
    assert verdicts(report)[sick.label] == "differs"
    three.until(lambda: bool(three.faults))
    assert [number for number, _ in three.faults] == [three.number(sick)]


def test_a_check_that_a_voter_missed_says_nothing_of_a_copy(three: EngineCluster) -> None:
    healthy, other = three.followers()
    lost = lose_database(three, other)
    three.kill(three.number(healthy))
    copy = three.start_node(lost)
    three.until(lambda: copy.is_synced and copy.installer.origin.installed is not None)
    report = verify(three, copy)
    assert isinstance(report, Report)
    assert (report.agreed, report.complete) == (True, False)
    assert copy.installer.origin.is_copy


def test_a_check_of_the_database_before_it_says_nothing_of_a_copy(three: EngineCluster) -> None:
    """It began, an image came, and then the others told what they had found."""
    lost = lose_database(three, three.followers()[1])
    copy = three.start_node(lost)
    three.until(lambda: copy.installer.origin.installed is not None)
    installed = copy.installer.origin.installed
    assert installed is not None
    assert installed.is_copy
    copy.installer.origin.found_alike(Index(installed.last_index - 1))
    assert copy.installer.origin.is_copy
    copy.installer.origin.found_alike(Index(installed.last_index))
    assert not copy.installer.origin.is_copy


def test_a_learner_whose_own_content_is_not_known_is_a_copy_still() -> None:
    def node(number: int, verdict: str, *, is_voter: bool = True) -> NodeReport:
        return NodeReport(number, f"n{number}", is_voter, verdict, None, ())

    voters = (node(1, "agrees"), node(2, "agrees"), node(3, "agrees"))
    for verdict in ("agrees", "no answer", "differs"):
        nodes = (*voters, node(4, verdict, is_voter=False))
        report = Report(index=Index(7), agreed=True, complete=True, nodes=nodes)
        assert report.is_alike(NodeId(1))
        assert report.is_alike(NodeId(4)) == (verdict == "agrees")


def test_a_node_that_dies_before_it_gives_its_database_up_does_not_use_it_again(
    three: EngineCluster,
) -> None:
    sick = three.followers()[0]
    number = three.number(sick)
    tamper_file(sick.machine.path, "DELETE FROM t WHERE id = 2")
    reports: list[Any] = []
    three.leader().verify(lambda *answer: reports.append(answer))
    three.until(lambda: bool(reports), 20.0)
    three.loop.advance(TELL_S / 2)
    assert not three.faults
    three.kill(number)
    three.start_node(number)
    three.until(lambda: not any(one.refuses for one in three.running()), 20.0)
    for one in three.running():
        rows = three.rows(one, "SELECT * FROM t ORDER BY id", ReadLevel.NONE)
        assert rows == [(1, "a"), (2, "b")]
