"""A node inside somebody's program: `async with Node(dir)`."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
from collections import UserDict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw
import pytest

from rsqlite.config import MIB, Settings
from rsqlite.errors import (
    Fate,
    ForeignDirectory,
    NodeFault,
    NoLeader,
    RequestError,
    RequestTooLarge,
    SqlError,
    Stopped,
    TimedOut,
    Unavailable,
)
from rsqlite.node.farewell import Farewell
from rsqlite.node.node import Node
from rsqlite.raft.types import Configuration, Index, Member, NodeId
from rsqlite.request import Failure, ReadLevel, Request, RequestKind, Rows, Write
from rsqlite.statemachine.command import Command, decode
from rsqlite.storage.disk import RealDisk
from rsqlite.testing.cluster import free_ports

pytestmark = pytest.mark.slow

ALONE: dict[str, Any] = {"http_addr": "", "raft_addr": ""}
"""Two tests at once must not both want the usual port."""


async def test_a_program_runs_a_node_of_its_own(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        assert await node.execute("INSERT INTO t(v) VALUES(?)", ("x",)) == Write(1, 1)
        rows = await node.query("SELECT * FROM t WHERE v = :v", {"v": "x"})
        assert (rows.columns, [tuple(row) for row in rows.rows]) == (["id", "v"], [(1, "x")])


async def test_a_start_that_waits_for_others_can_be_stopped(tmp_path: Path) -> None:
    """Nobody is there who could go on without it."""
    http, raft = free_ports(2)
    others = {"join": "127.0.0.1:1", "raft_addr": f"127.0.0.1:{raft}"}
    settings = Settings(http_addr="", bootstrap_expect=0, raft_addr=f"127.0.0.1:{raft}")
    async with Node(tmp_path, settings) as node:
        other = Member(NodeId(7), "other", f"127.0.0.1:{http}", "")
        await node.execute("CREATE TABLE t(v)")
        known = Configuration.from_bytes(node.directory.saved_configuration() or b"")
        many = dataclasses.replace(known, members=(*known.members, other))
        node.directory.save_configuration(many.to_bytes(), 1)
    (tmp_path / "log" / "hardstate").write_bytes(b"")
    waits = asyncio.Event()

    class Waiting(Node):
        def ask_to_give_up(self, *arguments: Any) -> Farewell:
            waits.set()
            return super().ask_to_give_up(*arguments)

    node = Waiting(tmp_path, settings, **others)
    starting = asyncio.create_task(node.start())
    await waits.wait()
    await node.stop()
    with pytest.raises(Stopped):
        await starting
    assert not (tmp_path / "quarantine").exists()


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.request(["CREATE TABLE t(v)", ("INSERT INTO t VALUES(?)", [b"\x00\xff"])])
    async with Node(tmp_path) as node:
        rows = await node.query("SELECT v FROM t", level=ReadLevel.LINEARIZABLE)
        assert [tuple(row) for row in rows.rows] == [(b"\x00\xff",)]


async def test_many_writers_at_once_are_each_answered(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        results = await asyncio.gather(
            *(node.execute("INSERT INTO t(v) VALUES(?)", (n,)) for n in range(200))
        )
        ids = sorted(r.last_insert_rowid for r in results)
        assert ids == list(range(1, 201))
        assert node.status().last_index < 100


async def test_a_statement_that_sqlite_refuses_raises_with_its_code(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        await node.execute("INSERT INTO t VALUES(1)")
        with pytest.raises(SqlError, match=r"UNIQUE constraint failed: t\.id") as caught:
            await node.execute("INSERT INTO t VALUES(1)")
        assert caught.value.name == "SQLITE_CONSTRAINT_PRIMARYKEY"


async def test_a_transaction_takes_effect_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        outcome = await node.request(
            ["INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(1)"], transaction=True
        )
        assert isinstance(outcome.results[1], Failure)
        outcome = await node.request(["SELECT count(*) FROM t"])
        assert isinstance(outcome.results[0], Rows)
        assert [tuple(row) for row in outcome.results[0].rows] == [(0,)]


async def test_three_nodes_in_one_program_form_a_cluster(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    addresses = [f"127.0.0.1:{unused_tcp_port_factory()}" for _ in range(3)]
    nodes = [
        Node(tmp_path / str(n), raft_addr=a, bootstrap_expect=3, join=",".join(addresses))
        for n, a in enumerate(addresses)
    ]
    for node in nodes:
        await node.start()
    try:
        await asyncio.gather(*(node.wait_ready() for node in nodes))
        follower = next(node for node in nodes if not node.is_leader)
        await follower.execute("CREATE TABLE t(v)")
        await follower.execute("INSERT INTO t VALUES(7)")
        for node in nodes:
            rows = await node.query("SELECT v FROM t", level=ReadLevel.LINEARIZABLE)
            assert [tuple(row) for row in rows.rows] == [(7,)]
        for node in nodes:
            # As sqlite3 gives them, here and from the leader alike.
            assert (await node.query("SELECT v, NULL, x'00' FROM t")).rows == [(7, None, b"\0")]
            written = await node.execute("UPDATE t SET v = 7 RETURNING v, 'x'")
            assert isinstance(written, Rows)
            assert written.rows == [(7, "x")]
            outcome = await node.request(["SELECT v FROM t", "UPDATE t SET v = 7 RETURNING v"])
            assert [one.rows for one in outcome.results if isinstance(one, Rows)] == [[(7,)]] * 2
        leader = next(node for node in nodes if node.is_leader)
        await leader.stop()
        await follower.execute("INSERT INTO t VALUES(8)")
    finally:
        for node in nodes:
            await node.stop()


async def test_a_directory_has_one_user(tmp_path: Path) -> None:
    async with Node(tmp_path):
        with pytest.raises(ForeignDirectory):
            await Node(tmp_path).start()


async def test_a_failed_start_leaves_the_directory_free(tmp_path: Path) -> None:
    async with Node(tmp_path, raft_addr="127.0.0.1:0") as first:
        taken = first.raft_addr
        with pytest.raises(OSError, match="in use"):
            await Node(tmp_path / "other", raft_addr=taken).start()
    async with Node(tmp_path / "other") as node:
        await node.query("SELECT 1")


FOR_EVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


async def test_a_write_that_never_ends_gives_the_slot_back_at_its_deadline(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(v)")
        with pytest.raises(TimedOut) as caught:
            await node.request([f"INSERT INTO t {FOR_EVER} SELECT x FROM c"], timeout_s=0.5)
        assert caught.value.fate is Fate.NOT_APPLIED
        await node.execute("INSERT INTO t VALUES(1)")
        rows = await node.query("SELECT count(*) FROM t")
        assert [tuple(row) for row in rows.rows] == [(1,)]


async def test_a_read_that_never_ends_is_answered_at_its_deadline(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        outcome = await node.request(
            [f"{FOR_EVER} SELECT count(*) FROM c"], kind=RequestKind.QUERY, timeout_s=0.5
        )
        assert isinstance(outcome.results[0], Failure)


SLOW = (
    "(WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 300000)"
    " SELECT count(*) FROM c)"
)


def last_command(node: Node) -> Command:
    """What the newest entry of the log tells the other nodes to do."""
    last = node.log.last_index
    (entry,) = node.log.entries(last, Index(last + 1), 1 * MIB)
    return decode(entry.data)


@pytest.mark.parametrize(
    ("sql", "given"),
    [("INSERT INTO t SELECT ? FROM", [1]), ("INSERT INTO t SELECT :v FROM", {"v": 1})],
)
async def test_parameters_that_change_during_a_long_write_do_not_change_its_entry(
    tmp_path: Path, sql: str, given: Any
) -> None:
    async with Node(tmp_path, Settings(http_addr="", raft_addr="", write_steps_max=1000)) as node:
        await node.execute("CREATE TABLE t(v)")
        asked = copy.copy(given)
        task = asyncio.create_task(node.execute(f"{sql} {SLOW}", asked))
        while not node.writer.holds_slot:
            await asyncio.sleep(0)
            assert not task.done()
        asked["v" if isinstance(given, dict) else 0] = 2
        assert not task.done()
        await task
        assert last_command(node).parameters == [given]


@pytest.mark.parametrize(
    "given",
    [MappingProxyType({"v": 5}), UserDict(v=5), (one for one in [5]), [ReadLevel.AUTO + 1], (5,)],
)
async def test_a_write_does_here_what_its_entry_says(tmp_path: Path, given: Any) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(v)")
        await node.execute("INSERT INTO t VALUES(:v)", given)
        assert (await node.query("SELECT v, typeof(v) FROM t")).rows == [(5, "integer")]
        assert last_command(node).parameters in ([{"v": 5}], [[5]])


@pytest.mark.parametrize("value", [apsw.zeroblob(3), 2**63, "\ud800", Decimal(1)])
async def test_a_value_that_no_entry_holds_is_refused_and_harms_nobody(
    tmp_path: Path, value: Any
) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(v)")
        answers = await asyncio.gather(
            *(node.execute("INSERT INTO t VALUES(?)", (one,)) for one in (1, value, 3)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Write, RequestError, Write]
        with pytest.raises(RequestError, match="parameter 1"):
            await node.query("SELECT ?", [value])
        with pytest.raises(RequestError, match="parameter 1 of statement 2"):
            await node.request(["SELECT 1", ("SELECT ?", [value])])
        assert (await node.query("SELECT sum(v) FROM t")).rows == [(4,)]


async def test_a_stop_during_a_long_write_answers_it_once(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.start()
    await node.wait_ready()
    await node.execute("CREATE TABLE t(v)")
    answers: list[object] = []
    endless = f"INSERT INTO t {FOR_EVER} SELECT x FROM c"
    node.submit(Request(RequestKind.EXECUTE, [endless], [None]), answers.append)
    await asyncio.sleep(0.2)
    assert node.writer.holds_slot
    node.settings = dataclasses.replace(node.settings, shutdown_timeout=0.1)
    await node.stop()
    await asyncio.sleep(0)
    assert [type(answer) for answer in answers] == [Stopped]


def wal_bytes(node: Node) -> int:
    """Length of the node's WAL file."""
    return os.path.getsize(f"{node.machine.path}-wal")


class SmallVolume(RealDisk):
    """A volume of `room` bytes with nothing on it but the WAL."""

    def __init__(self, node: Node, room: int) -> None:
        super().__init__()
        self._node = node
        self._room = room

    def free_bytes(self, path: str) -> int:
        return max(0, self._room - wal_bytes(self._node))


FILL = f"INSERT INTO t {FOR_EVER} SELECT zeroblob(3000) FROM c"


async def test_a_long_write_that_fills_the_disk_is_refused_alone_and_its_space_comes_back(
    tmp_path: Path,
) -> None:
    settings = Settings(**ALONE, disk_reserve_bytes=64 * MIB, write_steps_max=10_000)
    async with Node(tmp_path, settings) as node:
        await node.execute("CREATE TABLE t(v)")
        kept = wal_bytes(node)  # it has its part of the reserve
        node.disk = node.log._disk = SmallVolume(node, 400 * MIB)
        filling = asyncio.create_task(node.request([FILL], kind=RequestKind.EXECUTE))
        while not (node.writer.holds_slot and wal_bytes(node) > kept):
            await asyncio.sleep(0.01)
            assert not filling.done()
        # Whoever waits behind it has no part in it.
        waiting = [asyncio.create_task(node.execute("INSERT INTO t VALUES(1)")) for _ in range(5)]
        with pytest.raises(Unavailable, match="disk full: 67108864 bytes") as caught:
            await filling
        assert caught.value.fate is Fate.NOT_APPLIED
        for task in waiting:
            assert isinstance(await task, Write)
        assert wal_bytes(node) == kept
        rows = await node.query("SELECT count(*), max(v) FROM t", level=ReadLevel.LINEARIZABLE)
        assert [tuple(row) for row in rows.rows] == [(5, 1)]


async def test_the_wal_file_of_a_write_over_its_time_is_cut_while_others_write(
    tmp_path: Path,
) -> None:
    settings = Settings(**ALONE, wal_spare_bytes_max=1 * MIB, write_steps_max=10_000)
    async with Node(tmp_path, settings) as node:
        await node.execute("CREATE TABLE t(v)")
        with pytest.raises(TimedOut, match="took too long"):
            await node.request([FILL], kind=RequestKind.EXECUTE, timeout_s=0.3)
        assert isinstance(await node.execute("INSERT INTO t VALUES(1)"), Write)
        assert wal_bytes(node) <= 1 * MIB
        # One that is committed leaves a long file as well, when its checkpoint is over.
        await node.execute(f"{FILL} LIMIT 9000")
        assert wal_bytes(node) > 20 * MIB
        count = 1
        while wal_bytes(node) > 1 * MIB:
            results = await asyncio.gather(
                *(node.execute("INSERT INTO t VALUES(2)") for _ in range(8))
            )
            count += len(results)
        rows = await node.query("SELECT count(*) FROM t", level=ReadLevel.LINEARIZABLE)
        assert [tuple(row) for row in rows.rows] == [(9000 + count,)]


async def test_a_stop_goes_on_as_soon_as_a_long_write_is_taken_back(tmp_path: Path) -> None:
    node = Node(tmp_path, Settings(**ALONE, write_steps_max=10_000, shutdown_timeout=60.0))
    await node.start()
    await node.wait_ready()
    await node.execute("CREATE TABLE t(v)")
    with pytest.raises(TimedOut):
        await node.request([FILL], kind=RequestKind.EXECUTE, timeout_s=0.3)
    assert node.writer.holds_slot, "it is answered before it is taken back"
    await asyncio.wait_for(node.stop(), 10.0)


async def test_a_stop_answers_a_read_that_waits_for_a_leader(tmp_path: Path) -> None:
    node = Node(tmp_path, raft_addr="127.0.0.1:0", bootstrap_expect=3, join="127.0.0.1:1")
    await node.start()
    task = asyncio.create_task(node.query("SELECT 1", level=ReadLevel.LINEARIZABLE))
    await asyncio.sleep(0.1)
    await node.stop()
    with pytest.raises((Stopped, NoLeader)):
        await asyncio.wait_for(task, 2.0)


async def test_a_scrub_of_a_node_without_a_cluster_is_refused_for_that_reason(
    tmp_path: Path,
) -> None:
    async with Node(
        tmp_path, raft_addr="127.0.0.1:0", bootstrap_expect=3, join="127.0.0.1:1"
    ) as node:
        with pytest.raises(Unavailable, match="no cluster yet"):
            node.begin_scrub()


def test_settings_that_cannot_be_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="raft-election-timeout"):
        Node(tmp_path, Settings(raft_heartbeat=1.0, raft_election_timeout=1.0))


async def test_stop_twice_and_stop_without_start_are_harmless(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.stop()
    await node.start()
    await node.stop()
    await node.stop()


async def test_a_node_that_runs_cannot_be_started_again(tmp_path: Path) -> None:
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(v)")
        with pytest.raises(RequestError, match="runs already"):
            await node.start()
        await node.execute("INSERT INTO t VALUES(1)")
    # Stopped, it may; and whoever could not start says so each time.
    async with node:
        assert [tuple(row) for row in (await node.query("SELECT v FROM t")).rows] == [(1,)]
        other = Node(tmp_path)
        for _ in range(2):
            with pytest.raises(NodeFault, match="in use"):
                await other.start()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_a_cancelled_start_leaves_nothing_running(tmp_path: Path, turns: int) -> None:
    async def run() -> None:
        async with Node(tmp_path, raft_addr="127.0.0.1:0") as node:
            await node.execute("CREATE TABLE IF NOT EXISTS t(v)")
            await asyncio.Event().wait()

    task = asyncio.ensure_future(run())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE IF NOT EXISTS t(v)")


async def test_a_callback_that_dies_ends_the_node(tmp_path: Path) -> None:
    async with Node(tmp_path, **ALONE) as node:
        node.loop.call_soon([].pop)
        assert isinstance(await asyncio.wait_for(node.failed, 10.0), IndexError)
        with pytest.raises(Stopped):
            await node.execute("CREATE TABLE t(v)")


async def test_a_request_has_a_bounded_number_of_statements(tmp_path: Path) -> None:
    async with Node(tmp_path, statements_max=2) as node:
        with pytest.raises(RequestTooLarge, match="3 statements, at most 2"):
            await node.request(["SELECT 1"] * 3)
        assert len((await node.request(["SELECT 1"] * 2)).results) == 2


async def test_a_cancelled_stop_goes_on(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.start()
    await node.wait_ready()
    stopping = asyncio.ensure_future(node.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await node.stop()
    async with Node(tmp_path) as again:
        await again.execute("CREATE TABLE t(v)")


async def test_no_thread_reads_the_file_between_an_answer_and_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only client of a batch is answered first; COMMIT runs while it thinks."""
    async with Node(tmp_path) as node:
        await node.execute("CREATE TABLE t(x)")
        seen: list[tuple[str, bool]] = []
        commit, is_over = node.machine.commit, asyncio.Event()

        def watched(*arguments: Any) -> None:
            seen.append(("commit", node.may_read_aside(ReadLevel.WEAK)))
            commit(*arguments)
            is_over.set()

        monkeypatch.setattr(node.machine, "commit", watched)
        write = Request(RequestKind.EXECUTE, ["INSERT INTO t VALUES(1)"], [None])
        node.submit(write, lambda _: seen.append(("answer", node.may_read_aside(ReadLevel.NONE))))
        await is_over.wait()
        assert seen == [("answer", False), ("commit", False)]
        for level in (ReadLevel.NONE, ReadLevel.WEAK):
            assert node.may_read_aside(level)
        assert not node.may_read_aside(ReadLevel.LINEARIZABLE)
    assert not node.may_read_aside(ReadLevel.NONE)
