"""Who is wrong, a replica or the entry, is decided by what a quorum computed (design 6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rsqlite.errors import DamagedDatabase, Divergence
from rsqlite.node.engine import Engine
from rsqlite.node.vacuum import Step
from rsqlite.node.verdict import TELL_PAUSE_S, TOLD_MAX
from rsqlite.raft.types import Index
from rsqlite.request import ReadLevel, Request
from rsqlite.statemachine.apply import Application
from rsqlite.statemachine.command import Command
from rsqlite.testing.engines import EngineCluster, execute
from tests.node.test_content import lose_database, tamper_file

ROWS = "SELECT * FROM t ORDER BY id"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path, 3)


@pytest.fixture
def five(tmp_path: Path) -> Iterator[EngineCluster]:
    yield from formed(tmp_path, 5)


def formed(tmp_path: Path, size: int) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, size)
    cluster.start()
    cluster.execute(cluster.leader(), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    cluster.execute(cluster.leader(), "INSERT INTO t VALUES(1, 'a'), (2, 'b')")
    yield cluster
    cluster.close()


def tamper(engine: Engine, sql: str = "DELETE FROM t WHERE id = 2") -> None:
    """Change a node's database behind its back, page checksums and all."""
    tamper_file(engine.machine.path, sql)


def applied_everywhere(cluster: EngineCluster) -> None:
    index = cluster.leader().machine.applied_index
    cluster.until(lambda: all(one.machine.applied_index >= index for one in cluster.running()))


def restart(cluster: EngineCluster, number: int) -> Engine:
    cluster.kill(number)
    return cluster.start_node(number)


def same_rows(cluster: EngineCluster, rows: list[tuple[object, ...]]) -> None:
    cluster.wait_leader()
    applied_everywhere(cluster)
    for engine in cluster.running():
        assert cluster.rows(engine, ROWS, ReadLevel.NONE) == rows


def test_a_leader_that_computes_something_else_than_the_others_stops_and_they_go_on(
    three: EngineCluster,
) -> None:
    applied_everywhere(three)
    sick = three.leader()
    number = three.number(sick)
    tamper(sick)
    three.ask(sick, update("c"))
    three.until(lambda: bool(three.faults))
    ((at, fault),) = three.faults
    assert (at, type(fault)) == (number, DamagedDatabase)
    assert "a majority computed something else" in str(fault)
    three.kill(number)
    three.faults.clear()
    leader = three.wait_leader()
    assert three.rows(leader, ROWS) == [(1, "c"), (2, "c")]
    three.execute(leader, "INSERT INTO t VALUES(3, 'd')")
    three.start_node(number)
    same_rows(three, [(1, "c"), (2, "c"), (3, "d")])
    assert not three.faults


def test_what_was_overruled_is_remembered_by_whoever_starts_again(three: EngineCluster) -> None:
    applied_everywhere(three)
    sick = three.leader()
    number = three.number(sick)
    tamper(sick)
    three.ask(sick, update("c"))
    three.until(lambda: bool(three.faults))
    three.kill(number)
    three.wait_leader()
    # One comes back whose database has to be made again from the log, entry by entry.
    again = three.number(three.followers()[0])
    index = three.leader().machine.overruled
    assert len(index) == 1
    path = Path(three.followers()[0].machine.path)
    three.kill(again)
    (path.parent / "damaged").write_text("for this test")
    three.start_node(again)
    three.start_node(number)
    same_rows(three, [(1, "c"), (2, "c")])
    assert all(one.machine.overruled == index for one in three.running())


def test_a_follower_that_agrees_with_a_sick_leader_is_sick_as_well(five: EngineCluster) -> None:
    applied_everywhere(five)
    sick = [five.leader(), five.followers()[0]]
    numbers = sorted(map(five.number, sick))
    for engine in sick:
        tamper(engine)
    five.ask(five.leader(), update("c"))
    five.until(lambda: len(five.faults) == 2)
    assert sorted(number for number, _ in five.faults) == numbers
    for number in numbers:
        restart(five, number)
    same_rows(five, [(1, "c"), (2, "c")])


def test_without_a_quorum_that_computed_the_same_nobody_goes_on(three: EngineCluster) -> None:
    applied_everywhere(three)
    first, second = three.followers()
    tamper(first)
    tamper(second, "DELETE FROM t")
    three.ask(three.leader(), update("c"))
    three.loop.advance(5.0)
    assert not three.faults
    assert isinstance(first.fault, Divergence)
    assert isinstance(second.fault, Divergence)
    assert first.fault.effects != second.fault.effects


def test_a_question_that_is_no_index_is_answered_so(three: EngineCluster) -> None:
    answers: list[object] = []
    for index in ("x", -1, None, True, 2**70):
        three.leader().asked({"verdict": index}, answers.append)
    assert all(isinstance(one, dict) for one in answers)
    three.loop.advance(2.0)
    assert not three.faults


def update(value: str) -> Request:

    return execute(f"UPDATE t SET v = '{value}'")


def test_a_question_is_not_passed_round_for_ever(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE t(v)")
    cluster.loop.advance(1.0)
    asked: list[object] = []
    for engine in cluster.running():
        ask = engine.network.ask

        def counted(address: str, question: Any, done: Any, ask: Any = ask, **options: Any) -> None:
            if "verdict" in question:
                asked.append(question)
            ask(address, question, done, **options)

        engine.network.ask = counted  # type: ignore[method-assign]
    cluster.running()[0].verdict.asked(1)
    cluster.loop.advance(30.0)
    assert 0 < len(asked) < 30
    asked.clear()
    cluster.loop.advance(30.0)
    assert asked == []
    assert "error" in cluster.running()[0].verdict.asked(True)
    cluster.close()


def test_who_is_in_doubt_gives_its_database_to_nobody(three: EngineCluster) -> None:
    applied_everywhere(three)
    healthy = three.number(three.leader())
    sick, other = three.followers()
    lost = lose_database(three, other)
    tamper(sick)
    three.execute(three.leader(), "UPDATE t SET v = 'c'")
    three.until(lambda: sick.fault is not None)
    three.kill(healthy)
    # It knows no leader, and asks whoever is there.
    waiting = three.start_node(lost)
    three.loop.advance(5.0)
    assert waiting.installer.is_without_database
    assert sick.images.made == 0
    three.start_node(healthy)
    three.until(lambda: not waiting.installer.is_without_database)
    leader = three.wait_leader()
    assert three.number(leader) == healthy
    assert three.rows(leader, ROWS) == [(1, "c"), (2, "c")]
    applied = leader.machine.applied_index
    three.until(lambda: waiting.machine.applied_index >= applied)
    assert three.rows(waiting, ROWS, ReadLevel.NONE) == [(1, "c"), (2, "c")]
    assert not three.faults


def test_an_image_that_was_made_before_the_doubt_is_not_given_out_either(
    three: EngineCluster,
) -> None:
    applied_everywhere(three)
    sick = three.followers()[0]
    answers: list[Any] = []
    sick.asked({"image": sick.cluster_id}, answers.append)
    three.until(lambda: sick.images.made == 1)
    sick.asked({"image": sick.cluster_id}, answers.append)
    tamper(sick)
    three.execute(three.leader(), "UPDATE t SET v = 'c'")
    three.until(lambda: sick.fault is not None)
    parts: list[bytes | None] = []
    sick.served(answers[-1]["image_id"], parts.append)
    assert parts == [None]


@pytest.mark.parametrize("is_compact", [False, True])
def test_who_has_a_copy_of_what_an_entry_made_has_no_vote_on_it(
    three: EngineCluster, is_compact: bool
) -> None:
    applied_everywhere(three)
    sick = three.leader()
    healthy, other = three.followers()
    lost = lose_database(three, other)
    tamper(sick)
    three.execute(sick, "UPDATE t SET v = 'c'")
    three.until(lambda: healthy.fault is not None)
    index = Index(healthy.machine.applied_index + 1)
    copy = three.start_node(lost)
    three.until(lambda: not copy.installer.is_without_database)
    if is_compact:
        copy.vacuum.begin("for this test")
        three.until(lambda: copy.vacuum.progress.step is Step.DONE)
    three.loop.advance(3.0)
    assert copy.verdict.vote(index) is None
    three.kill(lost)
    copy = three.start_node(lost)
    three.loop.advance(3.0)
    assert copy.verdict.vote(index) is None
    # One against one: nobody is overruled, and the right rows are still there.
    assert isinstance(healthy.fault, Divergence)
    assert not three.faults


def test_a_copy_of_what_the_others_overrule_is_given_up_as_well(five: EngineCluster) -> None:
    applied_everywhere(five)
    sick = five.leader()
    late = five.number(five.followers()[0])
    five.kill(late)
    lost = lose_database(five, five.followers()[0])
    tamper(sick)
    five.execute(sick, "UPDATE t SET v = 'c'")
    five.loop.advance(1.0)
    copy = five.start_node(lost)
    five.until(lambda: not copy.installer.is_without_database)
    five.loop.advance(1.0)
    assert not five.faults
    five.start_node(late)
    numbers = sorted([five.number(sick), lost])
    five.until(lambda: sorted(number for number, _ in five.faults) == numbers)
    for number in numbers:
        restart(five, number)
    same_rows(five, [(1, "c"), (2, "c")])


@pytest.mark.parametrize("are_restarted", [False, True])
def test_a_sick_leader_that_was_away_when_it_was_overruled_is_told(
    three: EngineCluster, are_restarted: bool
) -> None:
    """Also by those that have started since."""
    leader, number = three.leader(), three.number(three.leader())
    applied_everywhere(three)
    tamper(leader)
    three.execute(leader, "UPDATE t SET v = 'c'")
    three.loop.advance(0.012)  # the others hear that it is committed
    three.kill(number)
    three.until(lambda: all(one.machine.overruled for one in three.running()), 20.0)
    for other in three.running() if are_restarted else ():
        restart(three, three.number(other))
    three.wait_leader()
    assert not three.faults
    three.start_node(number)
    three.until(lambda: bool(three.faults), 20.0)
    ((who, fault),) = three.faults
    assert (who, type(fault)) == (number, DamagedDatabase)
    restart(three, number)
    three.until(lambda: bool(three.engines[number].is_synced), 20.0)  # type: ignore[union-attr]
    same_rows(three, [(1, "c"), (2, "c")])


def test_what_others_may_have_forgotten_is_told_to_nobody(three: EngineCluster) -> None:
    """They would answer that it is as the entry says, and outvote who remembers."""
    applied_everywhere(three)
    remembers = three.followers()[0]
    old = Index(remembers.machine.applied_index)
    remembers.machine.overrule(old, "as a majority computed it")
    for number in range(TOLD_MAX):
        remembers.machine.overrule(Index(old + 1000 + number), "and this")
    three.loop.advance(4 * TELL_PAUSE_S)
    assert not three.faults
    assert remembers.verdict.vote(old) == "as a majority computed it"


def test_the_vote_is_on_the_entry_that_differs_however_long_those_before_it_take(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    three.execute(leader, "CREATE TABLE u(id INTEGER PRIMARY KEY, v)")
    applied_everywhere(three)
    late, _ = three.followers()
    tamper(leader)
    three.isolate(late)
    for number in range(12):
        three.execute(leader, f"INSERT INTO u VALUES({number}, 'x')")
    three.execute(leader, "UPDATE t SET v = 'c'")
    differs = leader.machine.applied_index
    carry_out = Application._command

    def slowly(self: Application, command: Command) -> None:
        if self._writer is late.machine._writer:
            three.loop._now += 0.006
        carry_out(self, command)

    monkeypatch.setattr(Application, "_command", slowly)
    three.board.heal()
    three.until(lambda: late.fault is not None, 20.0)
    assert late.machine.applied_index == differs - 1
    monkeypatch.undo()
    three.until(lambda: bool(three.faults), 20.0)
    assert [who for who, _ in three.faults] == [three.number(leader)]


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[EngineCluster]:
    """Three nodes that enforce foreign keys, and one parent."""
    cluster = EngineCluster(tmp_path, 3, fk=True)
    leader = cluster.start()
    cluster.execute(leader, "CREATE TABLE p(id INTEGER PRIMARY KEY)", "INSERT INTO p VALUES(1)")
    key = "p REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED"
    cluster.execute(leader, f"CREATE TABLE k(id INTEGER PRIMARY KEY, {key})")
    applied_everywhere(cluster)
    yield cluster
    cluster.close()


def test_a_key_that_only_the_sick_leader_finds_is_no_fault_of_the_others_disks(
    strict: EngineCluster,
) -> None:
    leader = strict.leader()
    tamper(leader, "INSERT INTO p VALUES(2)")
    strict.ask(leader, execute("INSERT INTO k VALUES(6, 2)"))
    given_up(strict, leader)
    others = [one for one in strict.running() if one is not leader]
    strict.wait_leader()
    for one in others:
        assert strict.rows(one, "SELECT * FROM k") == [], "nothing that COMMIT would refuse"
    strict.execute(strict.leader(), "INSERT INTO k VALUES(7, 1)")


def test_a_key_that_only_a_sick_follower_misses_costs_it_its_database(
    strict: EngineCluster,
) -> None:
    follower = strict.followers()[0]
    tamper(follower, "DELETE FROM p WHERE id = 1")
    strict.execute(strict.leader(), "INSERT INTO k VALUES(6, 1)")
    given_up(strict, follower)


@pytest.mark.parametrize(
    ("sql", "schema"),
    [
        ("INSERT OR ROLLBACK INTO t VALUES(1, 'y')", "SELECT 1"),
        (
            "UPDATE t SET v = 'z'",
            "CREATE TRIGGER g BEFORE UPDATE ON t WHEN old.id = 1"
            " BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        ),
    ],
)
@pytest.mark.parametrize("is_transaction", [True, False])
def test_a_statement_that_ends_the_transaction_elsewhere_takes_only_its_unit_with_it(
    three: EngineCluster, sql: str, schema: str, is_transaction: bool
) -> None:
    leader = three.leader()
    three.answer(leader, execute(schema))
    applied_everywhere(three)
    tamper(leader, "DELETE FROM t WHERE id = 1")
    three.ask(leader, execute("INSERT INTO t VALUES(50, 'a')", sql, transaction=is_transaction))
    given_up(three, leader)
    three.wait_leader()
    others = [one for one in three.running() if one is not leader]
    first, second = (three.rows(one, "SELECT * FROM t ORDER BY id") for one in others)
    assert first == second == [(1, "a"), (2, "b"), *([] if is_transaction else [(50, "a")])]
    three.execute(three.leader(), "INSERT INTO t VALUES(51, 'b')")


def test_many_entries_of_a_sick_leader_cost_no_election_each(three: EngineCluster) -> None:
    applied_everywhere(three)
    leader = three.leader()
    tamper(leader)
    for number in range(20):
        three.answer(leader, update(f"v{number}"))
    began = three.loop.monotonic()
    given_up(three, leader)
    three.wait_leader()
    three.execute(three.leader(), "INSERT INTO t VALUES(60, 'b')")
    assert three.loop.monotonic() - began < 8.0
    same_rows(three, [(1, "v19"), (2, "v19"), (60, "b")])


def given_up(cluster: EngineCluster, engine: Engine) -> None:
    """It was outvoted, and nobody else has ended; its process does."""
    number = cluster.number(engine)
    cluster.until(lambda: bool(cluster.faults), 30.0)
    cluster.loop.advance(1.0)
    assert [(at, type(fault)) for at, fault in cluster.faults] == [(number, DamagedDatabase)]
    cluster.kill(number)
    cluster.faults.clear()
