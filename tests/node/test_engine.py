"""Whole nodes on virtual time: writes, reads, lost leaders, and what became of a request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from rsqlite.config import KIB
from rsqlite.errors import (
    DamagedDatabase,
    DamagedFile,
    Divergence,
    Fate,
    NoLeader,
    Overloaded,
    RsqliteError,
    StaleRead,
    TimedOut,
)
from rsqlite.request import Answer, Failure, Outcome, ReadLevel, Request, RequestKind, Rows, Write
from rsqlite.statemachine.vfs import load_checksum_vfs
from rsqlite.testing.engines import EngineCluster, execute


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    yield cluster
    cluster.close()
    assert cluster.faults == []


def query(sql: str, **options: object) -> Request:
    return Request(RequestKind.QUERY, [sql], [None], **options)  # type: ignore[arg-type]


def test_one_node_alone_serves(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, join="")
    engine = cluster.start()
    cluster.execute(engine, "CREATE TABLE t(v)", "INSERT INTO t VALUES(1)")
    assert cluster.rows(engine, "SELECT v FROM t") == [(1,)]
    cluster.kill(0)
    again = cluster.start()
    assert cluster.rows(again, "SELECT v FROM t") == [(1,)]
    cluster.close()


def test_one_node_that_expects_only_itself_forms_a_cluster(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, bootstrap_expect=1, join="node0:4002")
    cluster.execute(cluster.start(), "CREATE TABLE t(v)")
    cluster.close()
    assert cluster.faults == []


def test_one_node_that_is_to_join_others_forms_no_cluster_of_its_own(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 1, bootstrap_expect=1, join="node0:4002,another:4002")
    engine = cluster.start_node(0)
    cluster.loop.advance(1.0)
    assert engine.cluster_id is None
    cluster.close()


def test_a_write_through_a_follower_is_on_all_nodes(three: EngineCluster) -> None:
    follower = three.followers()[0]
    outcome = three.execute(follower, "INSERT INTO t(v) VALUES('x')")
    assert outcome.results == [Write(1, 1)]
    assert outcome.served_by == three.leader().raft_addr
    three.loop.advance(0.5)
    for engine in three.running():
        assert three.rows(engine, "SELECT v FROM t", ReadLevel.NONE) == [("x",)]


def test_a_follower_reads_what_was_acknowledged_before_it_asked(three: EngineCluster) -> None:
    for number in range(5):
        three.execute(three.leader(), f"INSERT INTO t(v) VALUES({number})")
        for follower in three.followers():
            assert three.rows(follower, "SELECT count(*) FROM t") == [(number + 1,)]


def test_min_index_reads_ones_own_write_anywhere(three: EngineCluster) -> None:
    outcome = three.execute(three.leader(), "INSERT INTO t(v) VALUES(1)")
    for engine in three.running():
        answer = three.answer(
            engine,
            query("SELECT count(*) FROM t", level=ReadLevel.NONE, min_index=outcome.index),
        )
        assert isinstance(answer, Outcome)
        assert answer.index >= outcome.index
        assert isinstance(answer.results[0], Rows)
        assert [tuple(row) for row in answer.results[0].rows] == [(1,)]


def test_who_writes_through_a_follower_reads_it_there_at_level_none(three: EngineCluster) -> None:
    follower = three.followers()[0]
    for number in range(5):
        three.execute(follower, f"INSERT INTO t(v) VALUES({number})")
        assert three.rows(follower, "SELECT count(*) FROM t", ReadLevel.NONE) == [(number + 1,)]


def test_reads_under_confirmation_and_between_attempts_count_to_the_bound(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, read_queue_max=5)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(v)")
    cluster.isolate(leader)
    read = query("SELECT count(*) FROM t", level=ReadLevel.LINEARIZABLE)
    answers = []
    # A round for each, and none of them is confirmed any more; later they pause between attempts.
    for _ in range(5):
        answers.append(cluster.ask(leader, read))
        cluster.loop.advance(0.02)
    for _ in range(20):
        assert isinstance(cluster.answer(leader, read), Overloaded)
        cluster.loop.advance(0.025)
    assert leader.reader.waiting == 5
    cluster.until(lambda: all(answers))
    assert all(isinstance(one, NoLeader) for (one,) in answers)
    assert leader.reader.waiting == 0
    cluster.close()


def test_a_full_house_of_reads_that_is_confirmed_is_served(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, read_queue_max=5)
    cluster.execute(cluster.start(), "CREATE TABLE t(v)")
    follower = cluster.followers()[0]
    read = query("SELECT count(*) FROM t", level=ReadLevel.LINEARIZABLE, min_index=10**6)
    answers = [cluster.ask(follower, read) for _ in range(5)]
    assert isinstance(cluster.answer(follower, read), Overloaded)
    cluster.loop.advance(0.5)
    assert answers == [[]] * 5, "they wait for their index, on the places they had"
    assert isinstance(cluster.answer(follower, read), Overloaded)
    cluster.close()


def test_an_sql_error_never_touches_the_log(three: EngineCluster) -> None:
    leader = three.leader()
    before = leader.log.last_index
    outcome = three.execute(leader, "INSERT INTO nowhere VALUES(1)")
    assert isinstance(outcome.results[0], Failure)
    assert leader.log.last_index == before


def test_an_answer_without_effect_says_which_index_it_saw(three: EngineCluster) -> None:
    written = three.execute(three.leader(), "INSERT INTO t(v) VALUES(1)")
    failed = three.execute(three.leader(), "INSERT INTO nowhere VALUES(1)")
    assert (failed.index, failed.is_logged) == (written.index, False)


def test_a_write_that_waits_is_answered_at_its_own_deadline(three: EngineCluster) -> None:
    leader = three.leader()
    three.isolate(leader)
    three.ask(leader, execute("INSERT INTO t(v) VALUES('outstanding')"))
    three.loop.advance(0.02)
    patient = three.ask(leader, execute("INSERT INTO t(v) VALUES(1)", timeout_s=30.0))
    hasty = three.ask(leader, execute("INSERT INTO t(v) VALUES(2)", timeout_s=0.1))
    three.loop.advance(0.3)
    assert patient == []
    assert isinstance(hasty[0], TimedOut)
    assert hasty[0].fate is Fate.NOT_APPLIED


def test_requests_of_one_turn_share_an_entry_and_fail_alone(three: EngineCluster) -> None:
    leader = three.leader()
    before = leader.log.last_index
    answers = [
        three.ask(leader, execute("INSERT INTO t VALUES(1, 'a')")),
        three.ask(leader, execute("INSERT INTO t VALUES(1, 'b')")),
        three.ask(leader, execute("INSERT INTO t VALUES(2, 'c')")),
    ]
    three.until(lambda: all(answers))
    kinds = [type(answer[0].results[0]) for answer in answers if isinstance(answer[0], Outcome)]
    assert kinds == [Write, Failure, Write]
    assert leader.log.last_index == before + 1


def test_a_cut_off_leader_does_not_answer_and_its_write_is_not_applied(
    three: EngineCluster,
) -> None:
    old = three.leader()
    three.isolate(old)
    answers = three.ask(old, execute("INSERT INTO t(v) VALUES('lost')"))
    three.until(lambda: any(e.is_leader and e.is_synced for e in three.running() if e is not old))
    new = three.leader()
    assert new is not old
    three.execute(new, "INSERT INTO t(v) VALUES('kept')")
    three.board.heal()
    three.until(lambda: bool(answers), 40.0)
    answer = answers[0]
    assert isinstance(answer, RsqliteError)
    assert answer.fate in (Fate.NOT_APPLIED, Fate.UNKNOWN)
    three.loop.advance(1.0)
    for engine in three.running():
        assert three.rows(engine, "SELECT v FROM t", ReadLevel.NONE) == [("kept",)]


def test_a_write_whose_entry_survives_a_lost_leadership_is_answered_with_success(
    three: EngineCluster,
) -> None:
    """The followers have the entry, the leader never hears of it: the log decides."""
    old = three.leader()
    answers = three.ask(old, execute("INSERT INTO t(v) VALUES('survives')"))
    for other in three.followers():
        three.board.cut(other.node_id, old.node_id)
    three.until(lambda: any(e.is_leader for e in three.running() if e is not old))
    three.board.heal()
    three.until(lambda: bool(answers), 40.0)
    three.loop.advance(1.0)
    rows = three.rows(three.leader(), "SELECT v FROM t")
    if isinstance(answers[0], Outcome):
        assert rows == [("survives",)]
    elif answers[0].fate is Fate.NOT_APPLIED:
        assert rows == []


def test_a_minority_fails_linearizable_reads_and_serves_none(three: EngineCluster) -> None:
    follower = three.followers()[0]
    three.isolate(follower)
    three.loop.advance(1.0)
    answer = three.answer(follower, query("SELECT 1", level=ReadLevel.LINEARIZABLE))
    assert isinstance(answer, NoLeader)
    assert three.rows(follower, "SELECT 1", ReadLevel.NONE) == [(1,)]


def test_freshness_refuses_a_copy_that_heard_nothing_for_too_long(three: EngineCluster) -> None:
    follower = three.followers()[0]
    fresh = query("SELECT 1", level=ReadLevel.NONE, freshness_s=0.5)
    assert isinstance(three.answer(follower, fresh), Outcome)
    three.isolate(follower)
    three.loop.advance(2.0)
    assert isinstance(three.answer(follower, fresh), StaleRead)


def test_the_cluster_goes_on_without_its_leader_and_takes_it_back(three: EngineCluster) -> None:
    old = three.number(three.leader())
    three.kill(old)
    three.wait_leader()
    three.execute(three.leader(), "INSERT INTO t(v) VALUES('after')")
    again = three.start_node(old)
    three.until(lambda: again.is_synced)
    assert three.rows(again, "SELECT v FROM t") == [("after",)]


def test_all_killed_at_once_keep_what_was_acknowledged(three: EngineCluster) -> None:
    for number in range(10):
        three.execute(three.leader(), f"INSERT INTO t(v) VALUES({number})")
    for number in range(3):
        three.kill(number)
    three.start()
    assert three.rows(three.leader(), "SELECT count(*) FROM t") == [(10,)]


def test_nodes_that_start_late_are_found(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3)
    cluster.start_node(2)
    cluster.loop.advance(3.0)
    cluster.start_node(0)
    cluster.loop.advance(3.0)
    assert all(engine.cluster_id is None for engine in cluster.running())
    cluster.start_node(1)
    cluster.wait_leader()
    cluster.until(lambda: len({engine.cluster_id for engine in cluster.running()}) == 1)
    cluster.close()


def test_a_replica_that_computes_something_else_stops_serving_and_still_votes(
    three: EngineCluster,
) -> None:
    """Rows changed behind a node's back: found at the next entry that touches them, named, and
    the node serves no more; it still acknowledges, so the cluster loses nothing."""
    three.execute(three.leader(), "INSERT INTO t VALUES(1, 'a'), (2, 'b')")
    three.loop.advance(0.5)
    sick = three.followers()[0]
    number = three.number(sick)
    tampered_with = str(Path(sick.path, "db", "1", "main.db"))
    three.kill(number)
    tamper(tampered_with, "DELETE FROM t WHERE id = 2")
    again = three.start_node(number)
    three.until(lambda: again.is_synced)
    other = next(e for e in three.followers() if e is not again)
    other_number = three.number(other)
    three.kill(other_number)
    three.execute(three.leader(), "UPDATE t SET v = 'c'")
    three.loop.advance(3.0)
    assert isinstance(again.fault, Divergence), "one against one is no verdict"
    assert again.status().fault
    answer = three.answer(again, query("SELECT v FROM t", level=ReadLevel.NONE))
    assert isinstance(answer, Divergence)
    # Without its acknowledgement the remaining node could not commit.
    three.execute(three.leader(), "INSERT INTO t VALUES(3, 'd')")
    # A second one that agrees with the entry is a majority: this one gives its database up.
    three.start_node(other_number)
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, type(fault)) == (number, DamagedDatabase)
    assert "a majority computed something else" in str(fault)
    three.kill(number)
    three.faults.clear()
    again = three.start_node(number)
    three.until(lambda: again.is_synced)
    rows = three.rows(again, "SELECT * FROM t ORDER BY id", ReadLevel.NONE)
    assert rows == [(1, "c"), (2, "c"), (3, "d")]


def tamper(path: str, sql: str) -> None:
    """Change a stopped node's database behind its back, page checksums and all."""
    connection = apsw.Connection(path, vfs=load_checksum_vfs())
    connection.execute(sql)
    connection.close()


def test_wal_files_are_cut_on_every_node_while_writes_go_on(tmp_path: Path) -> None:
    cluster = EngineCluster(
        tmp_path, 3, checkpoint_wal_bytes=64 * KIB, wal_spare_bytes_max=64 * KIB
    )
    cluster.start()
    leader = cluster.leader()
    cluster.execute(leader, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    files = [Path(f"{engine.machine.path}-wal") for engine in cluster.running()]
    longest = dict.fromkeys(files, 0)
    for number in range(60):
        # Two at a time, so that a batch is always open or waits for the slot.
        first = cluster.ask(leader, execute(f"INSERT INTO t VALUES({number}, zeroblob(99000))"))
        other = cluster.ask(leader, execute("UPDATE t SET v = zeroblob(3000) WHERE id < 3"))
        cluster.until(lambda first=first, other=other: bool(first and other))
        assert isinstance(first[0], Outcome)
        assert isinstance(other[0], Outcome)
        for file in files:
            longest[file] = max(longest[file], file.stat().st_size)
        cluster.loop.advance(0.02)
    for _ in range(2):
        cluster.execute(leader, "UPDATE t SET v = 1 WHERE id = 1")
        cluster.loop.advance(0.5)
    for file in files:
        assert file.stat().st_size < 64 * KIB < longest[file]
    for engine in cluster.running():
        assert cluster.rows(engine, "SELECT count(*) FROM t") == [(60,)]
    cluster.close()
    assert cluster.faults == []


def test_a_damaged_page_that_a_read_finds_ends_the_node(three: EngineCluster) -> None:
    """Not only the read is answered: the node serves nothing more, and says why."""
    follower = three.followers()[0]
    follower.machine._fail(DamagedFile("page 7 fails its checksum"))
    three.loop.advance(0.3)
    assert isinstance(follower.fault, DamagedFile)
    assert [number for number, _ in three.faults] == [three.number(follower)]
    three.faults.clear()
    three.execute(three.leader(), "INSERT INTO t(v) VALUES(1)")


def test_a_write_known_to_be_long_is_not_tried_on_the_loop_of_the_next_leader(
    three: EngineCluster,
) -> None:
    old = three.leader()
    three.isolate(old)
    three.ask(old, execute("INSERT INTO t(v) VALUES('outstanding')"))
    long = execute("INSERT INTO t(v) SELECT hex(zeroblob(700000))")
    answers = three.ask(old, long)
    three.loop.advance(0.02)
    assert long.is_long
    three.until(lambda: any(e.is_leader and e.is_synced for e in three.running() if e is not old))
    new = three.leader()
    before = new.writer.batches
    three.board.heal()
    three.until(lambda: bool(answers), 40.0)
    assert isinstance(answers[0], Outcome)
    assert new.machine.statistics().long_writes == new.writer.batches - before == 1


@pytest.mark.parametrize("is_ours_first", [True, False])
def test_reads_wait_for_no_entry_without_a_command_while_a_long_write_has_the_slot(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch, is_ours_first: bool
) -> None:
    leader = three.leader()
    monkeypatch.setattr(type(leader.writer), "holds_slot", property(lambda one: not one.is_held))
    for engine in three.followers():
        engine.writer.is_held = True
    applied = leader.machine.applied_index
    read = Request(RequestKind.QUERY, ["SELECT 1"], [None], level=ReadLevel.LINEARIZABLE)
    answers = three.ask(leader, read) if is_ours_first else []
    leader.verify(lambda *_: None)
    three.until(lambda: leader.core is not None and leader.core.commit_index > applied)
    if not is_ours_first:
        answers = three.ask(leader, read)
    three.until(lambda: bool(answers), 2.0)
    assert isinstance(answers[0], Outcome)
    assert leader.machine.applied_index == applied


def test_no_write_is_refused_while_leadership_is_handed_over(three: EngineCluster) -> None:
    old = three.leader()
    followers = three.followers()
    answers: list[list[Answer]] = []
    for number in range(200):
        node = (old, *followers)[number % 3]
        answers.append(three.ask(node, execute(f"INSERT INTO t(v) VALUES({number})")))
        if number == 100:
            assert old.driver is not None
            assert old.driver.transfer_leadership(None)
        three.loop.advance(0.0005)
    three.until(lambda: all(answers))
    assert not old.is_leader
    assert [one[0] for one in answers if not isinstance(one[0], Outcome)] == []
    assert three.rows(three.leader(), "SELECT count(*) FROM t") == [(200,)]


def test_a_write_waits_for_the_end_of_a_hand_over_that_fails(three: EngineCluster) -> None:
    leader, target = three.leader(), three.followers()[0]
    three.board.cut(leader.node_id, target.node_id)
    assert leader.driver is not None
    assert leader.driver.transfer_leadership(target.node_id)
    answers = three.ask(leader, execute("INSERT INTO t(v) VALUES(1)"))
    three.until(lambda: bool(answers))
    assert isinstance(answers[0], Outcome)
    assert leader.is_leader


def test_what_the_stopping_leader_did_not_take_goes_to_the_next(three: EngineCluster) -> None:
    old, follower = three.leader(), three.followers()[0]
    old.halt(lambda: None)
    answers = three.ask(follower, execute("INSERT INTO t(v) VALUES(1)"))
    three.until(lambda: bool(answers))
    assert isinstance(answers[0], Outcome)


def test_a_stop_waits_for_a_long_entry_that_is_applied_and_no_longer(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(v)")
    follower = cluster.followers()[0]
    held: list[Any] = []
    submit = follower.machine._worker.submit
    follower.machine._worker.submit = lambda *work: held.append(
        work
    )  # a thread that takes its time
    long = (
        "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<900000)"
    )
    leader.submit(execute(f"{long} SELECT n FROM c"), lambda answer: None)
    cluster.until(lambda: bool(held), 60.0)
    ended: list[bool] = []
    follower.halt(lambda: ended.append(True))
    cluster.loop.advance(1.0)
    assert ended == []
    for work in held:
        submit(*work)
    cluster.loop.advance(1.0)
    assert ended == [True]
    cluster.engines[cluster.number(follower)] = None
    follower.close_files()
    cluster.close()


def test_whoever_waits_for_an_index_on_a_reader_that_was_stopped_is_told(
    three: EngineCluster,
) -> None:
    """An answer of the leader that came while an image was installed was kept for ever."""
    follower = three.followers()[0]
    follower.reader.stop()
    told: list[bool] = []
    follower.reader.when_applied(10**9, math.inf, lambda: told.append(True))
    assert told == [True]
