"""When entries reach the database: gathered on a follower, and after the answer to whoever is
alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rsqlite.errors import Fate, RsqliteError
from rsqlite.node.engine import Engine
from rsqlite.request import Answer, Outcome, ReadLevel, Request, RequestKind, Write
from rsqlite.testing.engines import EngineCluster, execute

GATHER = 0.2


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3, apply_gather_max=GATHER, apply_gather_bytes=2000)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    cluster.loop.advance(2 * GATHER)
    yield cluster
    cluster.close()
    assert cluster.faults == []


def behind(cluster: EngineCluster, follower: Engine) -> int:
    return cluster.leader().machine.applied_index - follower.machine.applied_index


def insert(cluster: EngineCluster, value: object) -> Outcome:
    return cluster.execute(cluster.leader(), f"INSERT INTO t(v) VALUES({value!r})")


def test_a_follower_gathers_small_entries_and_applies_them_before_long(
    three: EngineCluster,
) -> None:
    follower = three.followers()[0]
    for number in range(3):
        insert(three, number)
    assert behind(three, follower) >= 3
    three.loop.advance(2 * GATHER)
    assert behind(three, follower) == 0


def test_who_waits_for_an_index_does_not_wait_for_the_gathering(three: EngineCluster) -> None:
    follower = three.followers()[0]
    index = insert(three, 1).index
    assert behind(three, follower) >= 1
    began = three.loop.monotonic()
    request = Request(
        RequestKind.QUERY, ["SELECT v FROM t"], [None], level=ReadLevel.NONE, min_index=index
    )
    assert isinstance(three.answer(follower, request), Outcome)
    assert three.rows(follower, "SELECT v FROM t") == [(1,)]
    assert three.loop.monotonic() - began < GATHER / 2


def test_large_entries_are_not_gathered(three: EngineCluster) -> None:
    follower = three.followers()[0]
    began = three.loop.monotonic()
    insert(three, "x" * 3000)
    three.until(lambda: behind(three, follower) == 0)
    assert three.loop.monotonic() - began < GATHER / 2


def test_a_follower_that_gathered_and_then_leads_has_everything(three: EngineCluster) -> None:
    insert(three, 1)
    three.kill(three.number(three.leader()))
    leader = three.wait_leader()
    assert three.rows(leader, "SELECT v FROM t") == [(1,)]


def test_strict_freshness_counts_from_the_oldest_entry_that_is_missing(
    three: EngineCluster,
) -> None:
    """A follower under load is always a little behind, and never long."""
    follower = three.followers()[0]
    request = Request(
        RequestKind.QUERY,
        ["SELECT count(*) FROM t"],
        [None],
        level=ReadLevel.NONE,
        freshness_s=2 * GATHER,
        freshness_strict=True,
    )
    end = three.loop.monotonic() + 10 * GATHER
    while three.loop.monotonic() < end:
        insert(three, 1)
        assert isinstance(three.answer(follower, request), Outcome)


def test_whoever_is_alone_is_answered_before_commit_and_reads_its_write(
    three: EngineCluster,
) -> None:
    leader = three.leader()
    seen: list[Answer] = []

    def written(answer: Answer) -> None:
        assert isinstance(answer, Outcome)
        assert answer.results == [Write(1, 1)]
        # What a program does with its answer comes in a later turn, as with any future.
        three.loop.call_soon(leader.submit, query, seen.append)

    query = Request(RequestKind.QUERY, ["SELECT v FROM t"], [None], level=ReadLevel.NONE)
    leader.submit(execute("INSERT INTO t(v) VALUES('mine')"), written)
    three.until(lambda: bool(seen))
    assert isinstance(seen[0], Outcome)
    assert [tuple(row) for row in seen[0].results[0].rows] == [("mine",)]  # type: ignore[union-attr]


def test_leadership_lost_between_the_answer_and_commit_loses_nothing(three: EngineCluster) -> None:
    leader = three.leader()

    def written(answer: Answer) -> None:
        assert isinstance(answer, Outcome)
        leader.writer.lose()  # as a message of a newer term in the same turn would

    leader.submit(execute("INSERT INTO t(v) VALUES('kept')"), written)
    three.loop.advance(1)
    assert three.rows(three.wait_leader(), "SELECT v FROM t") == [("kept",)]
    three.loop.advance(2 * GATHER)
    for engine in three.running():
        assert three.rows(engine, "SELECT v FROM t", ReadLevel.NONE) == [("kept",)]


def test_what_is_committed_while_a_commit_is_put_off_is_applied_after_it(
    three: EngineCluster,
) -> None:
    """An entry without a command, behind which nobody writes."""
    leader = three.leader()
    before = leader.machine.applied_index
    leader.submit(execute("INSERT INTO t(v) VALUES(1)"), lambda _: None)
    three.loop.advance(0.0)  # it is proposed
    leader.verify(lambda *_: None, 10.0)
    three.until(lambda: leader.machine.applied_index == before + 2, GATHER)


def test_what_is_committed_while_a_long_write_runs_in_vain_is_applied_after_it(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    before, run = leader.machine.applied_index, leader.machine.speculate_long

    def slowly(request: Request, done: Any) -> None:
        run(request, lambda *answer: three.loop.call_later(0.1, done, *answer))

    monkeypatch.setattr(leader.machine, "speculate_long", slowly)
    request = execute("INSERT INTO nowhere VALUES(1)")
    request.is_long = True
    leader.submit(request, lambda _: None)
    three.loop.advance(0.01)
    leader.verify(lambda *_: None, 10.0)
    three.until(lambda: leader.machine.applied_index == before + 1, 1.0)


def test_who_comes_while_a_commit_runs_is_waited_for_no_longer(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    answers: list[Answer] = []
    batches: list[int] = []
    original = leader.machine.commit

    def commit(*args: Any) -> None:
        if not batches:
            leader.submit(execute("INSERT INTO t(v) VALUES(3)"), answers.append)
            batches.append(leader.writer.batches)
        original(*args)
        batches.append(leader.writer.batches)

    monkeypatch.setattr(leader.machine, "commit", commit)
    leader.submit(execute("INSERT INTO t(v) VALUES(1)"), answers.append)
    three.loop.advance(0.0)  # it is proposed
    leader.submit(execute("INSERT INTO t(v) VALUES(2)"), answers.append)
    three.until(lambda: len(answers) == 3)
    assert batches[1] == batches[0] + 1


def test_a_follower_that_is_a_little_behind_is_in_step(three: EngineCluster) -> None:
    follower = three.followers()[0]
    three.execute(three.leader(), "CREATE TABLE u(v)")
    three.until(lambda: follower.is_synced)
    for number in range(50):
        insert(three, number)
        three.rows(follower, "SELECT count(*) FROM t")  # it applies
        insert(three, number)
        assert behind(three, follower) > 0
        assert follower.is_synced
    three.isolate(follower)
    insert(three, 1)
    three.until(lambda: not follower.is_synced)


def test_a_read_in_the_answers_own_call_sees_the_write(three: EngineCluster) -> None:
    """A connection that holds the next request already begins it while it is being answered."""
    leader = three.leader()
    seen: list[Answer] = []
    for level in (ReadLevel.NONE, ReadLevel.WEAK):
        query = Request(RequestKind.QUERY, ["SELECT count(*) FROM t"], [None], level=level)
        leader.submit(
            execute("INSERT INTO t(v) VALUES(1)"),
            lambda answer, query=query: leader.submit(query, seen.append),  # type: ignore[misc]
        )
        three.until(lambda: bool(seen))
        outcome = seen.pop()
        assert isinstance(outcome, Outcome)
        rows = [tuple(row) for row in outcome.results[0].rows]  # type: ignore[union-attr]
        assert rows == [(level + 1,)], level.name


def test_a_write_through_a_follower_waits_for_no_silence(three: EngineCluster) -> None:
    """It learns the commit index with the answer, also when its acknowledgement was the last."""
    for follower in three.followers():
        for number in range(20):
            began = three.loop.monotonic()
            three.execute(follower, f"INSERT INTO t(v) VALUES({number})")
            assert three.loop.monotonic() - began < 0.01


def test_whatever_goes_wrong_in_a_batch_everybody_is_answered(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    with monkeypatch.context() as patch:

        def raises(*_: object, **__: object) -> bytes:
            raise MemoryError

        patch.setattr("rsqlite.statemachine.speculation._encode", raises)
        answers = [three.ask(leader, execute("INSERT INTO t(v) VALUES(1)")) for _ in range(3)]
        three.until(lambda: all(answers))
    for (answer,) in answers:
        assert isinstance(answer, RsqliteError)
        assert answer.fate is Fate.NOT_APPLIED
    insert(three, 2)
    assert three.rows(leader, "SELECT v FROM t") == [(2,)]
