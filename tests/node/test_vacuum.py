"""VACUUM: each database is written anew while its node serves; on virtual time, with real files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rsqlite.config import KIB
from rsqlite.errors import DiskFault, DiskFull, NoLeader, RequestError, RsqliteError, TimedOut
from rsqlite.node import vacuum, vacuums
from rsqlite.node.changes import Transfer
from rsqlite.node.engine import Engine
from rsqlite.node.vacuum import Step
from rsqlite.node.vacuums import VacuumReport
from rsqlite.request import Answer, Failure, Outcome, ReadLevel, Request, RequestKind, Write
from rsqlite.statemachine import generations, schema
from rsqlite.statemachine.apply import Application
from rsqlite.statemachine.command import Command
from rsqlite.statemachine.machine import StateMachine
from rsqlite.testing.engines import EngineCluster, execute
from rsqlite.testing.loop import ManualLoop

pytestmark = pytest.mark.slow

SMALL = {
    "segment_bytes": 64 * KIB,
    "log_keep_bytes": 64 * KIB,
    "log_prepare_step_bytes": 8 * KIB,
    "log_prepare_bytes_max": 16 * KIB,
    "checkpoint_wal_bytes": 64 * KIB,
    "raft_snap": 16,
    "raft_snap_int": 0.1,
    "log_cache_bytes_max": 16 * KIB,
}
SCHEMA = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE bare(v)",
    "CREATE INDEX i ON t(v)",
    "CREATE VIRTUAL TABLE words USING fts5(v)",
)


def filled(cluster: EngineCluster) -> EngineCluster:
    """A database of which most pages are free, and whose rowids have gaps."""
    leader = cluster.start()
    for sql in SCHEMA:
        cluster.execute(leader, sql)
    write(cluster, 150)
    for sql in (
        "INSERT INTO bare SELECT v FROM t",
        "INSERT INTO words SELECT 'word ' || id FROM t",
        "DELETE FROM t WHERE id % 10",
        "DELETE FROM bare WHERE rowid % 7",
    ):
        cluster.execute(leader, sql)
    cluster.loop.advance(1.0)
    return cluster


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3, join_interval=0.5, **SMALL)
    yield filled(cluster)
    cluster.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 1, join="", **SMALL)
    yield filled(cluster)
    cluster.close()


def write(cluster: EngineCluster, count: int) -> None:
    leader = cluster.leader()
    for _ in range(count):
        cluster.execute(leader, f"INSERT INTO t(v) VALUES('{'x' * 2000}')")


def sizes(cluster: EngineCluster) -> list[int]:
    return [engine.machine.statistics().database_bytes for engine in cluster.running()]


def begin(cluster: EngineCluster, engine: Engine, **options: Any) -> list[Any]:
    """Ask for a VACUUM; the list gets the report, or the error."""
    found: list[Any] = []
    engine.vacuum_all(lambda report, error: found.append(report or error), **options)
    return found


def run(cluster: EngineCluster, engine: Engine) -> VacuumReport:
    found = begin(cluster, engine)
    cluster.until(lambda: bool(found), 60.0)
    assert isinstance(found[0], VacuumReport), found[0]
    return found[0]


def send(cluster: EngineCluster, engine: Engine, sql: str, **options: Any) -> Answer:
    found: list[Answer] = []
    kind = options.pop("kind", RequestKind.EXECUTE)
    engine.submit(Request(kind, [sql], [None], **options), found.append)
    cluster.until(lambda: bool(found), 60.0)
    return found[0]


def agree(cluster: EngineCluster) -> bool:
    found: list[Any] = []
    cluster.leader().verify(lambda report, error: found.append(report))
    cluster.until(lambda: bool(found), 30.0)
    return bool(found[0].agreed and found[0].complete)


def folders(cluster: EngineCluster, number: int) -> list[str]:
    root = cluster.directory / f"node{number}" / "db"
    return sorted(name for name in os.listdir(root) if name.isdigit())


def test_every_database_is_smaller_and_holds_the_same(three: EngineCluster) -> None:
    before = sizes(three)
    leader, term = three.leader(), three.leader().status().term
    report = run(three, three.followers()[0])
    assert report.is_complete
    assert [node.label for node in report.nodes][-1] == leader.label
    assert all(after < size / 3 for size, after in zip(before, sizes(three), strict=True))
    assert [node.bytes_after for node in report.nodes] == sizes(three)
    assert (three.leader(), three.leader().status().term) == (leader, term)
    assert agree(three)
    three.loop.advance(1.0)
    assert [folders(three, number) for number in range(3)] == [["2"], ["2"], ["2"]]
    # And they go on alike, also where the next rowid depends on what was there.
    write(three, 20)
    three.execute(leader, "INSERT INTO bare VALUES(1), (2)")
    three.execute(leader, "INSERT INTO words VALUES('later')")
    assert agree(three)
    assert three.faults == []


def test_a_node_that_was_made_compact_starts_again(three: EngineCluster) -> None:
    run(three, three.leader())
    write(three, 30)
    for number in range(3):
        three.kill(number)
    for number in range(3):
        three.start_node(number)
    three.wait_leader()
    assert agree(three)
    assert three.rows(three.leader(), "SELECT count(*) FROM t", ReadLevel.LINEARIZABLE) == [(45,)]


def test_writes_go_on_meanwhile_and_nobody_is_refused(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum, "NEAR_ENTRIES", 2)
    found = begin(three, three.leader())
    answers: list[Answer] = []
    sent = 0
    for round_number in range(4000):
        if found:
            break
        for engine in three.running():
            engine.submit(execute(f"INSERT INTO t(v) VALUES({round_number})"), answers.append)
            sent += 1
        three.loop.advance(0.003)
    assert found
    assert found[0].is_complete
    three.until(lambda: len(answers) == sent)
    assert [one for one in answers if not isinstance(one, Outcome)] == []
    assert sent > 100
    assert three.rows(three.leader(), "SELECT count(*) FROM t") == [(15 + sent,)]
    assert agree(three)


def test_a_node_that_is_alone_goes_on_leading(alone: EngineCluster) -> None:
    (before,) = sizes(alone)
    term = alone.leader().status().term
    assert run(alone, alone.leader()).is_complete
    assert sizes(alone)[0] < before / 3
    write(alone, 3)
    assert alone.leader().status().term == term
    alone.kill(0)
    again = alone.start_node(0)
    alone.until(lambda: again.is_leader and again.is_synced)
    assert alone.rows(again, "SELECT count(*) FROM t") == [(18,)]


def test_a_read_ends_on_the_database_on_which_it_began(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = alone.leader()
    old = engine.machine
    reading = old._readers
    reading._in_threads += 1  # a read that runs in a thread
    assert run(alone, engine).is_complete
    assert engine.machine is not old
    alone.loop.advance(5.0)
    assert folders(alone, 0) == ["1", "2"]
    rows: list[Any] = []
    old.query(Request(RequestKind.QUERY, ["SELECT count(*) FROM t"], [None]), rows.append)
    assert rows[0].results[0].rows == [(15,)]
    reading._in_threads -= 1
    alone.loop.advance(1.0)
    assert folders(alone, 0) == ["2"]


@pytest.mark.parametrize("sql", ["VACUUM", " vacuum main ; "])
def test_vacuum_as_sql(three: EngineCluster, sql: str) -> None:
    before = sizes(three)
    answer = send(three, three.followers()[0], sql)
    assert isinstance(answer, Outcome)
    assert answer.results == [Write(0, 0)]
    assert all(after < size / 3 for size, after in zip(before, sizes(three), strict=True))


def test_vacuum_as_sql_in_a_mixed_request(alone: EngineCluster) -> None:
    answer = send(alone, alone.leader(), "VACUUM", kind=RequestKind.MIXED)
    assert isinstance(answer, Outcome)
    assert answer.results == [Write(0, 0)]


@pytest.mark.parametrize("sql", ["VACUUM INTO 'x.db'", "/* now */ VACUUM"])
def test_other_forms_are_refused(alone: EngineCluster, sql: str) -> None:
    before = sizes(alone)
    answer = send(alone, alone.leader(), sql)
    assert isinstance(answer, Outcome)
    assert isinstance(answer.results[0], Failure)
    assert sizes(alone) == before


def test_among_other_statements_it_is_refused(alone: EngineCluster) -> None:
    found: list[Answer] = []
    request = Request(RequestKind.EXECUTE, ["INSERT INTO t(v) VALUES(1)", "VACUUM"], [None, None])
    alone.leader().submit(request, found.append)
    alone.until(lambda: bool(found))
    assert isinstance(found[0], Outcome)
    assert isinstance(found[0].results[0], Write)
    assert isinstance(found[0].results[1], Failure)
    assert "alone" in found[0].results[1].message


def test_who_asks_while_one_is_under_way_waits_for_the_same(three: EngineCluster) -> None:
    first = begin(three, three.leader())
    three.loop.advance(0.2)
    second = begin(three, three.followers()[1])
    three.until(lambda: bool(first and second), 60.0)
    assert first == second
    assert three.leader().vacuums._count == 1


def test_a_silent_member_is_left_out(three: EngineCluster) -> None:
    silent = three.followers()[0]
    label = silent.label
    three.kill(three.number(silent))
    found = begin(three, three.leader())
    three.until(lambda: bool(found), 120.0)
    assert {node.label: node.step for node in found[0].nodes}[label] == "silent"
    assert [node.step for node in found[0].nodes].count("done") == 2
    assert not found[0].is_complete


def test_who_asked_is_told_when_the_time_is_over_and_it_goes_on(three: EngineCluster) -> None:
    found = begin(three, three.leader(), timeout_s=0.05)
    three.until(lambda: bool(found))
    assert isinstance(found[0], TimedOut)
    three.until(lambda: three.leader().vacuum.progress.step is Step.DONE, 60.0)


def test_without_a_leader_it_is_refused(three: EngineCluster) -> None:
    for engine in three.followers():
        three.kill(three.number(engine))
    (left,) = three.running()
    three.until(lambda: left.leader is None)
    (error,) = begin(three, left)
    assert isinstance(error, NoLeader)


def test_a_leader_that_loses_its_leadership_asks_no_further(three: EngineCluster) -> None:
    leader = three.leader()
    found = begin(three, leader)
    three.loop.advance(0.01)
    assert leader.driver is not None
    leader.driver.transfer_leadership(None)
    three.until(lambda: bool(found), 60.0)
    assert isinstance(found[0], RsqliteError)
    three.until(lambda: not any(one.vacuum.is_under_way for one in three.running()), 60.0)
    three.wait_leader()
    assert run(three, three.leader()).is_complete
    assert agree(three)


def test_no_room_changes_nothing(alone: EngineCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = alone.leader()
    monkeypatch.setattr(engine.installer, "has_room", lambda size: False)
    report = run(alone, engine)
    assert report.nodes[0].step == "failed"
    assert "no room" in report.nodes[0].error
    assert folders(alone, 0) == ["1"]
    assert isinstance(send(alone, engine, "VACUUM"), Outcome)


def test_no_room_for_a_folder_ends_the_copy_and_not_the_node(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(root: str) -> str:
        raise DiskFull("cannot make a generation")

    engine = alone.leader()
    monkeypatch.setattr(vacuum, "begin_generation", full)
    report = run(alone, engine)
    assert "cannot make a generation" in report.nodes[0].error
    assert engine.fault is None


def test_a_disk_that_hangs_in_the_last_step_costs_the_leadership(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = three.leader()
    submit = old.loop.submit

    def late(work: Callable[[], Any], done: Callable[..., None]) -> None:
        if old.vacuum.replacing:
            three.loop.call_later(20.0, submit, work, done)
        else:
            submit(work, done)

    monkeypatch.setattr(old.loop, "submit", late)
    old.vacuum.begin("for this test")
    three.until(lambda: bool(old.vacuum.replacing), 30.0)
    others = [one for one in three.running() if one is not old]
    three.until(lambda: any(one.is_leader and one.is_synced for one in others), 10.0)
    (new,) = (one for one in others if one.is_leader)
    three.execute(new, "INSERT INTO t(v) VALUES('meanwhile')")
    three.until(lambda: old.vacuum.progress.step is Step.DONE, 30.0)
    three.until(lambda: agree(three))
    assert not three.faults


def test_a_volume_that_gets_full_ends_it(alone: EngineCluster) -> None:
    engine = alone.leader()
    engine.images._is_making = True  # so that the last step waits
    found = begin(alone, engine)
    alone.until(lambda: engine.vacuum.progress.step is Step.CATCHING_UP)
    engine.disk.free_bytes = lambda path: -1  # type: ignore[method-assign]
    alone.until(lambda: bool(found), 60.0)
    assert "full" in found[0].nodes[0].error
    alone.loop.advance(1.0)
    assert folders(alone, 0) == ["1"]


def test_its_time_is_bounded(tmp_path: Path) -> None:
    cluster = filled(EngineCluster(tmp_path, 1, join="", vacuum_timeout=0.1, **SMALL))
    engine = cluster.leader()
    engine.images._is_making = True  # for ever
    report = run(cluster, engine)
    assert "vacuum-timeout" in report.nodes[0].error
    cluster.loop.advance(1.0)
    assert folders(cluster, 0) == ["1"]
    assert engine.vacuum.keeps_from is None
    cluster.close()


def test_a_copy_that_computes_something_else_is_not_used(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = alone.leader()
    hold = vacuum.Vacuum._copied

    def spoiled(self: Any, generation: int, last: Any, error: Any) -> None:
        hold(self, generation, last, error)
        if self._copy is not None:
            self._copy._writer.engine("DELETE FROM t WHERE id = 10")

    monkeypatch.setattr(vacuum.Vacuum, "_copied", spoiled)
    engine.images._is_making = True  # so that the last step waits
    found = begin(alone, engine)
    alone.until(lambda: engine.vacuum.progress.step is Step.CATCHING_UP)
    engine.submit(execute("UPDATE t SET v = 1 WHERE id = 10"), lambda answer: None)
    alone.until(lambda: bool(found), 60.0)
    assert found[0].nodes[0].step == "failed"
    assert alone.rows(engine, "SELECT v FROM t WHERE id = 10") == [(1,)]
    assert engine.fault is None
    alone.loop.advance(1.0)
    assert folders(alone, 0) == ["1"]


def during(
    cluster: EngineCluster, monkeypatch: pytest.MonkeyPatch, apply: Callable[..., None]
) -> list[Any]:
    """A VACUUM under writes. `apply` stands in for what the copy does with entries."""
    engine, original = cluster.leader(), StateMachine.apply

    def applying(machine: StateMachine, entries: Any, done: Any, **options: Any) -> None:
        if machine is engine.machine:
            original(machine, entries, done, **options)
        else:
            apply(partial(original, machine, entries, done, **options), done)

    monkeypatch.setattr(StateMachine, "apply", applying)
    found = begin(cluster, engine)
    for _ in range(4000):
        if found:
            break
        engine.submit(execute("INSERT INTO bare VALUES(1)"), lambda _: None)
        cluster.loop.advance(0.001)
    return found


def test_writes_are_not_held_for_as_long_as_an_entry_takes(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = alone.leader()
    held_s: list[float] = []
    hold, release = engine.hold_writes, engine.release_writes

    def held() -> None:
        held_s.append(-alone.loop.monotonic())
        hold()

    def released() -> None:
        held_s[-1] += alone.loop.monotonic()
        release()

    monkeypatch.setattr(engine, "hold_writes", held)
    monkeypatch.setattr(engine, "release_writes", released)

    def apply(original: Callable[[], None], done: Any) -> None:
        if engine.writer.is_held and len(held_s) == 1:
            alone.loop.call_later(4 * vacuum.HOLD_MAX_S, original)  # as a thread would take
        else:
            original()

    found = during(alone, monkeypatch, apply)
    assert found[0].is_complete
    assert held_s == [pytest.approx(vacuum.HOLD_MAX_S), pytest.approx(0.0)]
    assert agree(alone)


@pytest.mark.parametrize("is_told", [True, False])
def test_whatever_goes_wrong_writes_are_not_held_for_good(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    engine = alone.leader()

    def apply(original: Callable[[], None], done: Any) -> None:
        if not engine.writer.is_held:
            original()
        elif is_told:
            done(MemoryError())
        else:
            raise MemoryError

    found = during(alone, monkeypatch, apply)
    assert "MemoryError" in found[0].nodes[0].error
    assert engine.fault is None
    assert isinstance(send(alone, engine, "INSERT INTO bare VALUES(1)"), Outcome)


def test_the_leader_begins_one_by_itself(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 3, auto_vacuum_int=30.0, join_interval=0.5, **SMALL)
    filled(cluster)
    before = sizes(cluster)
    cluster.until(lambda: cluster.leader().vacuums._next_own is not None)
    cluster.until(lambda: sizes(cluster)[0] < before[0] / 3, 60.0)
    cluster.until(lambda: sizes(cluster)[2] < before[2] / 3, 60.0)
    cluster.loop.advance(5.0)
    leader = cluster.leader()
    assert leader.vacuums._count == 1
    # Whoever leads next knows when that was: it counts from there, not from its own start.
    noted = generations.noted_compact(leader.machine.path)
    assert noted is not None
    cluster.loop.advance(60.0)
    assert leader.vacuums._count in (2, 3)
    cluster.close()


CRASHES = ("begin_generation", "note_compact", "use_generation", "set_current")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", CRASHES)
def test_a_crash_at_any_step_leaves_one_database_that_counts(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    class Ended(BaseException):
        pass

    module = schema if step == "set_current" else vacuum
    real: Callable[..., Any] = getattr(module, step)

    def crash(*arguments: Any) -> Any:
        if after:
            real(*arguments)
        raise Ended

    monkeypatch.setattr(module, step, crash)
    engine = alone.leader()
    found: list[Any] = []
    with pytest.raises(Ended) if step == "begin_generation" else _nothing():
        engine.vacuum_all(lambda *answer: found.append(answer))
        for _ in range(400):
            alone.loop.advance(0.005)
    monkeypatch.setattr(module, step, real)
    if step != "begin_generation":
        # What CURRENT names at the next start is not known here, so that start must come.
        assert [type(fault) for _, fault in alone.faults] == [Ended]
    alone.faults.clear()
    alone.kill(0)
    again = alone.start_node(0)
    alone.until(lambda: again.is_leader and again.is_synced)
    is_changed = after and step in ("use_generation", "set_current")
    assert folders(alone, 0) == (["2"] if is_changed else ["1"])
    assert alone.rows(again, "SELECT count(*), max(id) FROM t") == [(15, 150)]
    write(alone, 3)
    assert run(alone, again).is_complete


class _nothing:  # noqa: N801 - a context, like contextlib.nullcontext
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_disk_that_refuses_the_change_ends_the_node(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise DiskFault("EIO")

    monkeypatch.setattr(vacuum, "use_generation", refuse)
    begin(alone, alone.leader())
    alone.until(lambda: bool(alone.faults), 60.0)
    assert isinstance(alone.faults[0][1], DiskFault)


def test_a_node_that_cannot_take_the_copy_up_ends_and_its_next_start_does(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would hold writes for good: the copy counts already."""
    engine = alone.leader()

    def raises(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(engine, "change_machine", raises)
    begin(alone, engine)
    alone.until(lambda: bool(alone.faults))
    ((_, fault),) = alone.faults
    assert isinstance(fault, MemoryError)
    alone.kill(0)
    again = alone.start_node(0)
    alone.until(lambda: again.is_leader and again.is_synced)
    assert folders(alone, 0) == ["2"]
    assert alone.rows(again, "SELECT count(*) FROM t") == [(15,)]


def test_questions_that_no_node_asks_are_refused(alone: EngineCluster) -> None:
    answers: list[Any] = []
    alone.leader().asked({"vacuum": 1}, answers.append)
    alone.leader().asked({"vacuum": "all", "timeout_s": "x"}, answers.append)
    assert [answer["error"] for answer in answers] == [RequestError.__name__] * 2


def test_a_node_that_is_asked_while_it_installs_an_image_says_no(three: EngineCluster) -> None:
    engine = three.followers()[0]
    engine.installer._is_installing = True  # and between two databases it has none that is open
    engine.machine.close()
    engine.open_parts.remove(engine.machine)
    answers: list[Any] = []
    engine.asked({"vacuum": "token"}, answers.append)
    assert [answer["step"] for answer in answers] == [Step.FAILED]
    assert "no database" in answers[0]["error"]


def test_the_log_is_kept_behind_the_copy(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = three.followers()[0]
    engine.images._is_making = True  # so that the last step waits
    engine.vacuum.begin("x")
    three.until(lambda: engine.vacuum.progress.step is Step.CATCHING_UP)
    kept = engine.vacuum.keeps_from
    assert kept is not None
    for _ in range(20):
        write(three, 10)
        three.loop.advance(0.3)
    assert engine.log.first_index <= kept
    assert three.leader().log.first_index > kept
    engine.images._is_making = False
    three.until(lambda: engine.vacuum.progress.step is Step.DONE, 30.0)
    three.loop.advance(3.0)
    write(three, 100)
    three.loop.advance(3.0)
    assert engine.log.first_index > kept
    assert agree(three)


def test_a_database_that_is_given_up_does_not_come_back_as_its_copy(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = three.followers()[0]
    when_held = vacuum.Vacuum._when_held

    def given_up_first(self: Any) -> None:
        if self._engine is follower and follower.fault is None:
            follower.give_up_database("a majority has other content")
        when_held(self)

    monkeypatch.setattr(vacuum.Vacuum, "_when_held", given_up_first)
    follower.vacuum.begin("x")
    three.until(lambda: follower.fault is not None)
    three.loop.advance(0.5)
    assert follower.vacuum.progress.step is Step.FAILED
    number = three.number(follower)
    three.kill(number)
    assert three.start_node(number).installer.is_without_database


def test_a_member_that_moves_has_its_turn(
    three: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = three.leader()
    found = begin(three, leader)
    assert leader.vacuums._round is not None
    second = leader.vacuums._round.left[1]
    moved = second._replace(http_addr="elsewhere:1")
    members = Engine.members

    def with_moved(self: Engine) -> Any:
        known = members.fget(self)  # type: ignore[attr-defined]
        return tuple(moved if one.node_id == moved.node_id else one for one in known)

    monkeypatch.setattr(Engine, "members", property(with_moved))
    three.until(lambda: bool(found), 60.0)
    assert sorted(node.label for node in found[0].nodes) == ["n0", "n1", "n2"]
    assert found[0].is_complete


def test_the_last_step_never_keeps_the_loop_for_long(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the entries take that are left: a leader must be heard meanwhile."""
    engine = alone.leader()
    held: list[Any] = []
    monkeypatch.setattr(engine.vacuum, "_copied", lambda *answer: held.append(answer))
    found = begin(alone, engine)
    alone.until(lambda: bool(held))
    write(alone, 60)
    carry_out, run_first = Application._command, ManualLoop._run_first
    longest = 0.0

    def slowly(self: Application, command: Command) -> None:
        if self._writer is not engine.machine._writer:
            alone.loop._now += 0.04
        carry_out(self, command)

    def measured(self: ManualLoop) -> None:
        nonlocal longest
        began = self._now
        run_first(self)
        longest = max(longest, self._now - began)

    monkeypatch.setattr(Application, "_command", slowly)
    monkeypatch.setattr(ManualLoop, "_run_first", measured)
    type(engine.vacuum)._copied(engine.vacuum, *held[0])
    alone.until(lambda: bool(found), 60.0)
    assert isinstance(found[0], VacuumReport)
    assert longest < 0.1


def test_a_database_that_is_wrong_is_not_used_in_either_form(
    alone: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up while CURRENT is about to name its copy: which one it will name is not known."""
    engine = alone.leader()
    begin(alone, engine)
    monkeypatch.setattr(engine.loop, "submit", lambda work, done: None)
    alone.until(lambda: bool(engine.vacuum.replacing), 60.0)
    both = engine.machine.path, engine.vacuum.replacing
    engine.give_up_database("a test")
    assert all((Path(one).parent / generations.DAMAGED).exists() for one in both)


def test_who_leads_again_does_not_begin_the_one_that_another_leader_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = EngineCluster(tmp_path, 3, auto_vacuum_int=1000.0)
    first = cluster.start()
    began: list[str] = []
    begin_round = vacuums.Vacuums._begin

    def begins(self: vacuums.Vacuums) -> vacuums.Round:
        began.append(self._engine.label)
        return begin_round(self)

    monkeypatch.setattr(vacuums.Vacuums, "_begin", begins)
    cluster.loop.advance(5.0)
    other = cluster.followers()[0]
    assert cluster.change(first, Transfer(other.label)) is None
    cluster.until(lambda: other.is_leader)
    cluster.loop.advance(1.0)
    for one in cluster.loops.values():
        one.wall_offset_s = 1010.0
    cluster.until(lambda: bool(began), 30.0)
    cluster.loop.advance(30.0)
    assert cluster.change(cluster.leader(), Transfer(first.label)) is None
    cluster.until(lambda: first.is_leader)
    cluster.loop.advance(30.0)
    assert began == [other.label]
    cluster.close()
