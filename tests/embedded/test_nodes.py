"""Connections to nodes in this process: opened, shared and closed, from threads and from loops."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import rsqlite
from rsqlite.embedded.nodes import NODES
from rsqlite.errors import DamagedFile, InvariantViolation
from rsqlite.request import ReadLevel
from rsqlite.storage.writer import LogWriter

pytestmark = pytest.mark.slow


def ends_badly(test: Callable[..., None]) -> Callable[..., None]:
    """A loop that ends without its node leaves tasks and connections behind, of which Python warns
    when it collects them."""
    expected = "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:.*was (not|deleted|never)"
    return pytest.mark.usefixtures("collected")(pytest.mark.filterwarnings(*expected)(test))


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.collect()


def test_memory_is_ones_own_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(rsqlite.connect(":memory:")) as one, closing(rsqlite.connect(":memory:")) as other:
        one.execute("CREATE TABLE t(x)")
        one.executemany("INSERT INTO t VALUES(?)", [(1,), (b"\0\xff",)])
        assert one.execute("SELECT x FROM t").fetchall() == [(1,), (b"\0\xff",)]
        with pytest.raises(rsqlite.OperationalError, match="no such table: t"):
            other.execute("SELECT x FROM t")
        assert len(os.listdir(tmp_path)) == 2
    assert os.listdir(tmp_path) == []


def test_connections_to_one_directory_share_its_node(tmp_path: Path) -> None:
    data = tmp_path / "data"
    one = rsqlite.connect(data)
    with closing(rsqlite.connect(f"{tmp_path}/./data")) as other:
        other.execute("CREATE TABLE t(x)")
    one.execute("INSERT INTO t VALUES(1)")
    assert "references=1" in repr(one)
    one.close()
    assert NODES._open == {}
    with closing(rsqlite.connect(data)) as again:
        assert again.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_threads_that_open_and_close_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with closing(rsqlite.connect(tmp_path / "data")) as db:
                db.execute("CREATE TABLE IF NOT EXISTS t(x)")
                db.execute("INSERT INTO t VALUES(?)", (number,))
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (6,)


async def test_loops_and_threads_share_a_directory(tmp_path: Path) -> None:
    def write(number: int) -> int:
        with closing(rsqlite.connect(tmp_path / "data")) as db:
            return db.execute("INSERT INTO t VALUES(?)", (number,)).rowcount

    async with rsqlite.aio.connect(tmp_path / "data") as db:
        await db.execute("CREATE TABLE t(x)")
        assert await asyncio.to_thread(write, 1) == 1
        assert await db.execute_fetchall("SELECT x FROM t") == [(1,)]
    one = await asyncio.to_thread(rsqlite.connect, tmp_path / "data", check_same_thread=False)
    async with rsqlite.aio.connect(tmp_path / "data") as db:
        await db.execute("INSERT INTO t VALUES(2)")
        await asyncio.to_thread(one.close)
        assert await db.execute_fetchall("SELECT sum(x) FROM t") == [(3,)]
    assert NODES._open == {}


async def test_a_thread_reads_what_somebody_else_was_told_is_written(tmp_path: Path) -> None:
    """The answer to a write leaves before its COMMIT where nobody else waits."""

    def count(db: rsqlite.Connection) -> int:
        found: int = db.execute("SELECT count(*) FROM t").fetchone()[0]
        return found

    async with rsqlite.aio.connect(tmp_path / "data") as db:
        await db.execute("CREATE TABLE t(x)")
        other = await asyncio.to_thread(rsqlite.connect, tmp_path / "data", check_same_thread=False)
        for number in range(1, 31):
            await db.execute("INSERT INTO t VALUES(1)")
            assert await asyncio.to_thread(count, other) == number
        await asyncio.to_thread(other.close)


async def test_a_node_that_runs_is_connected_to(tmp_path: Path) -> None:
    node = rsqlite.Node(tmp_path)
    with pytest.raises(rsqlite.InterfaceError, match="not started"):
        rsqlite.connect(node)
    async with node:
        async with rsqlite.aio.connect(node) as db:
            await db.execute("CREATE TABLE t(x)")
        blocking = await asyncio.to_thread(rsqlite.connect, node, check_same_thread=False)
        with pytest.raises(rsqlite.ProgrammingError, match=r"use rsqlite\.aio\.connect"):
            blocking.execute("SELECT 1")
        execute: Any = blocking.execute
        await asyncio.to_thread(execute, "INSERT INTO t VALUES(1)")
        await asyncio.to_thread(blocking.close)
        found = await node.query("SELECT x FROM t", level=ReadLevel.STRONG)
        assert found.rows == [(1,)], "closing a connection does not stop somebody else's node"


async def test_a_node_that_stopped_says_so(tmp_path: Path) -> None:
    async with rsqlite.Node(tmp_path) as node:
        db = await rsqlite.aio.connect(node)
    for sql in ("SELECT 1", "CREATE TABLE t(x)"):
        with pytest.raises(rsqlite.OperationalError, match="stopping"):
            await db.execute(sql)
    await db.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        rsqlite.OperationalError, match=r"unable to open database file: .*is a file"
    ):
        rsqlite.connect(tmp_path / "file")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "identity.json").write_text("{")
    with pytest.raises(rsqlite.OperationalError, match="unable to open database file"):
        rsqlite.connect(tmp_path / "node")
    assert NODES._open == {}


def test_reads_in_the_thread_see_schema_changes_and_own_writes(tmp_path: Path) -> None:
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        for number in range(50):
            db.execute("CREATE TABLE t(a, b)" if number % 2 else "CREATE TABLE t(a)")
            db.execute("INSERT INTO t(a) VALUES(?)", (number,))
            for level in ("none", "weak"):
                cursor = db.execute("SELECT * FROM t", read=level)
                assert len(cursor.description) == 1 + number % 2
                assert cursor.fetchone()[0] == number
            db.execute("DROP TABLE t")


def test_a_damaged_page_is_the_nodes_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsqlite.statemachine.aside import AsideReader

    with closing(rsqlite.connect(tmp_path / "data")) as db:
        db.execute("SELECT 1")

        def damaged(self: AsideReader, request: object, timeout_s: float) -> None:
            raise DamagedFile("a page fails its check")

        monkeypatch.setattr(AsideReader, "query", damaged)
        assert db.execute("SELECT 1").fetchone() == (1,), "the loop was asked"


def test_a_read_in_the_thread_is_seen_by_checkpoints_and_gives_way_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsqlite.statemachine.aside import AsideReader

    with closing(rsqlite.connect(tmp_path / "data")) as db:
        (opened,) = NODES._open.values()
        machine = opened._node.machine
        seen: list[bool] = []
        query = AsideReader.query

        def watched(self: AsideReader, request: Any, timeout_s: float) -> Any:
            seen.append(self in machine.reads_beside)
            return query(self, request, timeout_s)

        monkeypatch.setattr(AsideReader, "query", watched)
        assert db.execute("SELECT 1").fetchone() == (1,)
        assert (seen, machine.reads_beside) == ([True], set())
        monkeypatch.setattr(type(machine), "may_read_beside", False)
        assert db.execute("SELECT 1").fetchone() == (1,)
        assert len(seen) == 1, "the loop was asked"


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    with closing(rsqlite.connect(tmp_path / "data", check_same_thread=False)) as db:
        db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO t VALUES(?)", [(number,) for number in range(100)])
        wrong: list[Any] = []

        def read() -> None:
            with closing(rsqlite.connect(tmp_path / "data")) as mine:
                for number in range(100):
                    row = mine.execute("SELECT a FROM t WHERE a = ?", (number,)).fetchone()
                    if row != (number,):
                        wrong.append(row)

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_what_nobody_closed_is_closed_at_the_end(tmp_path: Path) -> None:
    program = (
        "import rsqlite, tempfile; tempfile.tempdir = '.'; db = rsqlite.connect(':memory:');"
        "db.execute('CREATE TABLE t(x)'); other = rsqlite.connect('data');"
        "other.execute('CREATE TABLE t(x)'); print(other.execute('SELECT 1').fetchall())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "[(1,)]\n", "")
    assert os.listdir(tmp_path) == ["data"]
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_forked_child_leaves_its_parents_nodes_alone(tmp_path: Path) -> None:
    program = (
        "import os, sys, rsqlite\n"
        "db = rsqlite.connect(':memory:')\n"
        "db.execute('CREATE TABLE t(x)')\n"
        "if os.fork() == 0:\n"
        "    try: db.execute('SELECT 1')\n"
        "    except rsqlite.ProgrammingError as error: print('fork' in str(error), flush=True)\n"
        "    with rsqlite.connect(':memory:') as own: print(own.execute('SELECT 2').fetchone())\n"
        "    sys.exit()\n"
        "os.wait()\n"
        "db.execute('INSERT INTO t VALUES(1)')\n"
        "print(db.execute('SELECT x FROM t').fetchall())\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (0, "True\n(2,)\n[(1,)]\n"), result.stderr


@ends_badly
def test_a_directory_whose_loop_has_ended_is_opened_anew(tmp_path: Path) -> None:
    async def write() -> None:
        db = await rsqlite.aio.connect(tmp_path / "data")
        await db.execute("CREATE TABLE t(x)")

    asyncio.run(write())
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)


async def until(holds: Callable[[], object]) -> None:
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to that")


def leave_writes_under_way(data: Path) -> list[Any]:
    """What there is of tasks and connections after the loop was closed in their midst."""

    async def write() -> list[Any]:
        connections = [await rsqlite.aio.connect(data) for _ in range(4)]
        await connections[0].execute("CREATE TABLE IF NOT EXISTS t(x)")
        node = NODES._open[str(data)]._node
        await until(lambda: node.log.is_idle)
        if node._syncs is not None:
            # From here on the loop does not hear that a sync has ended.
            loop.remove_reader(node._syncs.eventfd)
        insert = "INSERT INTO t VALUES(1)"
        tasks = [asyncio.ensure_future(one.execute(insert)) for one in connections]
        await until(lambda: node.log._in_kernel or node._syncs is None)
        return [*connections, *tasks]

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(write())
    loop.close()
    return left


def eventfds() -> int:
    """How many of them this process has open."""
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.path.islink(path) and "eventfd" in os.readlink(path) for path in paths)


@ends_badly
@pytest.mark.parametrize("is_another_thread", [False, True])
def test_a_directory_whose_loop_has_ended_in_the_midst_of_writes_is_opened_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_another_thread: bool
) -> None:
    left: list[Any] = []
    if is_another_thread:
        thread = threading.Thread(
            target=lambda: left.extend(leave_writes_under_way(tmp_path / "data"))
        )
        thread.start()
        thread.join()
    else:
        left = leave_writes_under_way(tmp_path / "data")
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone()[0] in range(1, 5)
        db.execute("INSERT INTO t VALUES(2)")
    assert NODES._open == {}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@ends_badly
@pytest.mark.parametrize("is_async", [False, True])
def test_a_connection_whose_loop_has_ended_is_closed_elsewhere(
    tmp_path: Path, is_async: bool
) -> None:
    async def connect() -> rsqlite.aio.Connection:
        return await rsqlite.aio.connect(tmp_path / "data")

    async def connect_thread() -> rsqlite.Connection:
        return await asyncio.to_thread(rsqlite.connect, tmp_path / "data", check_same_thread=False)

    async def connect_both() -> tuple[rsqlite.aio.Connection, rsqlite.Connection]:
        return await connect(), await connect_thread()

    first, other = asyncio.run(connect_both())
    if is_async:
        other.close()
        asyncio.run(first.close())
    else:
        asyncio.run(first.close())
        other.close()
    assert NODES._open == {}
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


@ends_badly
def test_a_node_whose_loop_has_ended_gives_back_what_it_had_of_the_kernel(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list what a process has open")
    before = eventfds()
    for _ in range(3):
        leave_writes_under_way(tmp_path / "data")
    rsqlite.connect(tmp_path / "data").close()
    assert eventfds() <= before + 1, "one is that of the loop of threads"


@ends_badly
def test_a_node_whose_stop_was_cut_short_by_the_end_of_its_loop_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsqlite.node.node import Node

    async def never(self: Node) -> None:
        await asyncio.Event().wait()

    async def close() -> None:
        db = await rsqlite.aio.connect(tmp_path / "data")
        closing = asyncio.ensure_future(db.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not closing.done()

    monkeypatch.setattr(Node, "_hand_over", never)
    asyncio.run(close())
    monkeypatch.undo()
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


@ends_badly
@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), InvariantViolation("no")])
def test_a_node_that_cannot_be_closed_well_lets_go_of_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    errors = [error]
    close = LogWriter.close

    def close_badly(self: LogWriter) -> None:
        close(self)
        if errors:
            raise errors.pop()

    left = leave_writes_under_way(tmp_path / "data")
    monkeypatch.setattr(LogWriter, "close", close_badly)
    with pytest.raises((rsqlite.OperationalError, InvariantViolation), match="no"):
        rsqlite.connect(tmp_path / "data")
    assert errors == []
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone()[0] in range(1, 5)
    left.clear()


def test_a_page_that_cannot_be_read_beside_the_loop_is_the_nodes_business(tmp_path: Path) -> None:
    """Also where it is met while the connection for that is being opened."""
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        db.execute("CREATE TABLE t(x)")
    with closing(rsqlite.connect(tmp_path / "data")) as db:
        db.execute("INSERT INTO t VALUES(1)")
        # By another process: to close the file here drops SQLite's locks on it.
        program = (
            "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR);"
            "os.pwrite(fd, bytes([os.pread(fd, 1, 2000)[0] ^ 1]), 2000)"
        )
        path = tmp_path / "data" / "db" / "1" / "main.db"
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        with pytest.raises(rsqlite.OperationalError, match="the database is damaged"):
            db.execute("SELECT count(*) FROM t")
        (opened,) = NODES._open.values()
        assert isinstance(opened._node.machine.fault, DamagedFile)
