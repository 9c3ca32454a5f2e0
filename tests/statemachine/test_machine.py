"""The state machine as the driver sees it: order of calls, threads, restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsqlite.config import Settings
from rsqlite.errors import Divergence, InvariantViolation, LeadershipLost
from rsqlite.node.loop import AsyncioLoop
from rsqlite.raft.types import Configuration, Entry, EntryId, EntryKind, Index, Term
from rsqlite.request import Outcome, Write
from rsqlite.statemachine import Batch, StateMachine
from rsqlite.statemachine.command import decode
from tests.statemachine.lab import Lab, ask

INSERT = "INSERT INTO t VALUES(1)"
FOREVER = (
    "INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT i FROM c"
)


def commit(machine: StateMachine, index: int, term: int = 1) -> None:
    machine.commit(EntryId(Term(term), Index(index)))


def test_state_survives_a_restart(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.leader.speculate([ask(INSERT)])
    configuration = Configuration(fingerprint="x")
    lab.leader.commit(EntryId(Term(3), Index(9)), configuration, None)
    newest = lab.leader.last_time_ms
    lab.leader.close()
    lab.leader = lab.open("leader")
    machine = lab.leader
    assert (machine.applied_index, machine.applied_term) == (9, 3)
    assert (machine.configuration, machine.last_time_ms) == (configuration, newest)
    assert lab.query(ask("SELECT count(*) FROM t")).results[0].rows == [(1,)]


def test_a_speculation_that_was_not_committed_is_gone_after_a_restart(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.leader.speculate([ask(INSERT)])
    lab.leader.close()
    lab.leader = lab.open("leader")
    assert lab.leader.applied_index == 1
    assert lab.query(ask("SELECT count(*) FROM t")).results[0].rows == [(0,)]


def test_the_index_is_written_last_with_the_id_that_raft_gave(lab: Lab) -> None:
    lab.leader.speculate([ask("CREATE TABLE t(a)")])
    assert lab.leader.applied_index == 0
    commit(lab.leader, index=7, term=2)
    assert lab.query(ask("SELECT 1")).index == 7


@pytest.mark.parametrize(
    "misuse",
    [
        lambda m: m.speculate([ask(INSERT)]),
        lambda m: m.apply([Entry(Term(1), Index(2), EntryKind.NOOP, b"")], print),
        lambda m: m.commit(EntryId(Term(1), Index(1))),
    ],
)
def test_one_transaction_at_a_time_and_the_index_only_grows(
    lab: Lab, misuse: Callable[[StateMachine], None]
) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.leader.speculate([ask(INSERT)])
    with pytest.raises(InvariantViolation):
        misuse(lab.leader)
    lab.leader.rollback(lambda: None)
    with pytest.raises(InvariantViolation):
        commit(lab.leader, index=5)


def test_a_new_leader_sees_what_it_applied(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)", INSERT)
    lab.leader, lab.replica = lab.replica, lab.leader
    assert lab.do("SELECT count(*) FROM t")[0].rows == [(1,)]  # type: ignore[union-attr]
    lab.do("ALTER TABLE t ADD COLUMN b", "INSERT INTO t VALUES(1, 2)")
    lab.leader, lab.replica = lab.replica, lab.leader
    lab.do("INSERT INTO t VALUES(3, 4)")
    assert lab.rows("SELECT a, b FROM t") == [(1, None), (1, 2), (3, 4)]


def test_a_failing_commit_is_a_fault_and_no_result(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.leader.speculate([ask(INSERT)])
    lab.leader._writer.connection.set_commit_hook(lambda: True)
    failed: list[BaseException | None] = []
    lab.leader.commit(EntryId(Term(1), Index(2)), None, failed.append)
    assert "cannot be applied" in str(failed[0])
    assert lab.leader.applied_index == 1


def test_fingerprints_agree_between_nodes_and_tell_settings_apart(lab: Lab, tmp_path: Path) -> None:
    assert lab.leader.fingerprint == lab.replica.fingerprint
    assert "3." in lab.leader.fingerprint
    other = Lab(tmp_path, sql_bytes_max=5000)
    assert other.leader.fingerprint != lab.leader.fingerprint
    other.close()


def test_statistics_count_what_was_done(lab: Lab) -> None:
    lab.do("CREATE TABLE t(a)")
    lab.run(ask(INSERT), ask(INSERT))
    leader, replica = lab.leader.statistics(), lab.replica.statistics()
    assert (leader.entries_committed, leader.entries_applied, leader.statements) == (2, 0, 3)
    assert (replica.entries_committed, replica.entries_applied, replica.statements) == (0, 2, 3)
    assert leader.database_bytes > 0
    assert leader.wal_bytes > 0


def test_closing_twice_is_harmless(lab: Lab) -> None:
    lab.leader.close()
    lab.leader.close()


class Threads:
    """A machine on the real loop."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.loop = AsyncioLoop(threads=2)
        self.machine = StateMachine.open(
            str(path), loop=self.loop, settings=Settings(**settings), random=random.Random(1)
        )
        self.machine.speculate([ask("CREATE TABLE t(a)")])
        commit(self.machine, 1)

    async def long(self, sql: str) -> tuple[Batch | None, BaseException | None]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.machine.speculate_long(ask(sql), lambda *found: answer.set_result(found))
        found: tuple[Batch | None, BaseException | None] = await answer
        return found

    def close(self) -> None:
        self.machine.close()
        self.loop.close()


@pytest.mark.slow
async def test_a_long_write_runs_and_commits_in_a_thread_while_reads_go_on(tmp_path: Path) -> None:
    threads = Threads(tmp_path)
    machine = threads.machine
    task = asyncio.ensure_future(threads.long(FOREVER + " LIMIT 200000"))
    await asyncio.sleep(0)
    assert machine.is_speculating
    reads: list[Any] = []
    while not task.done():
        machine.query(ask("SELECT count(*) FROM t"), reads.append)
        await asyncio.sleep(0)
    batch, error = await task
    assert error is None
    assert batch is not None
    assert batch.data is not None
    assert decode(batch.data).is_long
    assert {answer.results[0].rows[0] for answer in reads} == {(0,)}
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    machine.commit(EntryId(Term(1), Index(2)), None, done.set_result)
    assert await done is None
    assert machine.applied_index == 2
    assert batch.outcomes[0] == Outcome([Write(200_000, 200_000)], 0, True)
    threads.close()


async def test_losing_leadership_stops_a_long_write(tmp_path: Path) -> None:
    threads = Threads(tmp_path)
    machine = threads.machine
    task = asyncio.ensure_future(threads.long(FOREVER))
    await asyncio.sleep(0.01)
    gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    machine.rollback(lambda: gone.set_result(None))
    await gone
    batch, error = await task
    assert batch is None
    assert isinstance(error, LeadershipLost)
    assert not machine.is_speculating
    # The connection is whole again.
    batch = machine.speculate([ask(INSERT)])
    assert batch.outcomes == [Outcome([Write(1, 1)], 0, True)]
    commit(machine, 2)
    threads.close()


async def test_a_rollback_after_commit_has_begun_waits_for_it(tmp_path: Path) -> None:
    threads = Threads(tmp_path)
    machine = threads.machine
    batch, _ = await threads.long(INSERT)
    assert batch is not None
    order: list[str] = []
    rolled_back: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    machine.commit(EntryId(Term(1), Index(2)), None, lambda error: order.append(f"commit {error}"))

    def ended() -> None:
        order.append("rollback")
        rolled_back.set_result(None)

    machine.rollback(ended)
    await rolled_back
    assert order == ["commit None", "rollback"]
    assert machine.applied_index == 2
    threads.close()


async def test_a_long_entry_is_checked_in_its_thread(tmp_path: Path) -> None:
    threads = Threads(tmp_path / "leader")
    other = Threads(tmp_path / "replica")
    batch, _ = await threads.long("INSERT INTO t VALUES(random())")
    assert batch is not None
    assert batch.data is not None
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    other.machine._writer.engine("INSERT INTO t VALUES(5)")
    other.machine.apply([Entry(Term(1), Index(2), EntryKind.COMMAND, batch.data)], done.set_result)
    assert isinstance(await done, Divergence)
    assert other.machine.applied_index == 1
    threads.close()
    other.close()


async def test_a_long_write_ends_with_its_time(tmp_path: Path) -> None:
    threads = Threads(tmp_path, write_time_max=0.05)
    batch, error = await threads.long(FOREVER)
    assert error is None
    assert batch is not None
    assert batch.data is None
    (outcome,) = batch.outcomes
    assert isinstance(outcome, Outcome)
    assert "timeout" in outcome.results[0].message  # type: ignore[union-attr]
    threads.close()


async def test_closing_stops_a_long_write(tmp_path: Path) -> None:
    threads = Threads(tmp_path)
    task = asyncio.ensure_future(threads.long(FOREVER))
    await asyncio.sleep(0.01)
    threads.close()
    batch, error = await task
    assert batch is None or batch.data is None
    assert batch is not None or error is not None


async def test_over_budget_reads_run_in_threads_beside_writes(tmp_path: Path) -> None:
    threads = Threads(tmp_path)
    machine = threads.machine
    futures: list[asyncio.Future[Any]] = []
    heavy = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 100000)"
    for _ in range(6):
        futures.append(asyncio.get_running_loop().create_future())
        sql = f"{heavy} SELECT count(*), (SELECT count(*) FROM t) FROM c"
        machine.query(ask(sql), futures[-1].set_result)
    for index in range(2, 30):
        machine.speculate([ask(INSERT)])
        commit(machine, index)
        await asyncio.sleep(0)
    for answer in await asyncio.gather(*futures):
        # What is counted is what was there at the index that the answer names.
        assert answer.results[0].rows == [(100_000, answer.index - 1)]
    threads.close()
