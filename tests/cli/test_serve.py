"""rsqlited from command line to exit code: what it prints, what it ends with, what it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rsqlite.cli import serve
from rsqlite.cli.exits import Exit
from rsqlite.cli.serve import help_text, run
from rsqlite.config import MIB, Settings
from rsqlite.errors import DamagedFile, DiskFull
from rsqlite.testing.cluster import ProcessCluster, ProcessNode, free_ports, wait_until


def test_help_names_every_flag_and_fits_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-help"], {}) == Exit.OK
    shown = capsys.readouterr().out
    assert shown.strip() == help_text()
    assert max(map(len, shown.splitlines())) <= 100
    for flag in ("-node-id TEXT", "-fk ", "-join TEXT", "-request-timeout TIME", "[30s]"):
        assert flag in shown


def test_version_names_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-version"], {}) == Exit.OK
    assert re.fullmatch(
        r"rsqlited \S+, Python 3\.\S+, SQLite 3\.\S+, APSW \S+, fingerprint \d+-sqlite-3\.\S+\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "the data directory is missing"),
        (["dir", "-fk"], "nothing may follow the data directory 'dir': -fk"),
        ([""], "the data directory is empty text"),
    ],
)
def test_a_wrong_data_directory_argument_is_named(
    capsys: pytest.CaptureFixture[str], argv: list[str], problem: str
) -> None:
    assert run(argv, {}) == Exit.USAGE
    assert problem in capsys.readouterr().err


def test_all_mistakes_are_printed_at_once_and_nothing_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    argv = ["-zzz", "-rows-max", "x", "-http-addr", "nowhere", str(directory)]
    assert run(argv, {"RSQLITE_FK": "?"}) == Exit.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[-1] == "Try 'rsqlited -help'."
    assert not directory.exists()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(1, tmp_path, ["-log-format", "json"])
    yield cluster
    cluster.close()


@pytest.fixture
def node(cluster: ProcessCluster) -> ProcessNode:
    return cluster.nodes[0]


def insert(node: ProcessNode, value: int) -> None:
    for sql in ("CREATE TABLE IF NOT EXISTS t (value)", f"INSERT INTO t VALUES ({value})"):
        answer = node.call("POST", "/db/execute", [sql])
        assert "error" not in answer["results"][0], answer


def values(node: ProcessNode) -> list[int]:
    answer = node.call("POST", "/db/query?level=strong", ["SELECT value FROM t ORDER BY value"])
    return [value for (value,) in answer["results"][0]["values"]]


def log_lines(node: ProcessNode) -> list[dict[str, object]]:
    return [json.loads(line) for line in node.log_path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_node_cleanly_and_its_data_stays(
    cluster: ProcessCluster, node: ProcessNode, number: signal.Signals
) -> None:
    cluster.start()
    insert(node, 1)
    os.kill(node.pid, number)
    assert node.wait_exit() == Exit.OK
    cluster.start()
    assert values(node) == [1]
    assert node.terminate() == Exit.OK
    events = [line["event"] for line in log_lines(node)]
    assert events.count("stopped") == 2
    assert {line["node"] for line in log_lines(node)} == {"1"}


@pytest.mark.slow
def test_the_limit_of_open_files_is_raised_for_the_connections(
    cluster: ProcessCluster, node: ProcessNode
) -> None:
    node.python = ["sh", "-c", 'ulimit -S -n 256; exec "$0" "$@"', sys.executable]
    node.options += ["-connections-max", "300"]
    cluster.start()
    limits = Path(f"/proc/{node.pid}/limits").read_text()
    (soft,) = re.findall(r"^Max open files\s+(\d+)", limits, re.MULTILINE)
    assert int(soft) >= 300


@pytest.mark.slow
def test_without_uvloop_everything_works(tmp_path: Path) -> None:
    with ProcessCluster(1, tmp_path, ["-uvloop", "off", "-log-format", "json"]) as cluster:
        insert(cluster.nodes[0], 1)
        assert values(cluster.nodes[0]) == [1]
        starting = log_lines(cluster.nodes[0])[0]
        assert (starting["event"], starting["uvloop"]) == ("starting", "off")
        assert str(starting["loop"]).startswith("asyncio")


@pytest.mark.slow
def test_a_node_with_only_a_directory_serves(tmp_path: Path) -> None:
    http, raft = free_ports(2)
    environment = {
        **os.environ,
        "RSQLITE_HTTP_ADDR": f"127.0.0.1:{http}",
        "RSQLITE_RAFT_ADDR": f"127.0.0.1:{raft}",
    }
    node = ProcessNode(
        0,
        tmp_path,
        http_port=http,
        raft_port=raft,
        options=[],
        python=[sys.executable],
        environment=environment,
    )
    node.command = lambda: [sys.executable, "-m", "rsqlite.cli.serve", str(node.directory)]
    node.start()
    try:
        node.wait_ready()
        insert(node, 7)
        assert values(node) == [7]
    finally:
        node.kill()


@pytest.mark.slow
def test_a_second_signal_ends_a_node_at_once(cluster: ProcessCluster, node: ProcessNode) -> None:
    cluster.start()
    insert(node, 1)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    def ask() -> None:
        with pytest.raises(OSError):  # noqa: PT011 - any end of the connection
            node.request("POST", "/db/query", [endless], timeout_s=60)

    client = threading.Thread(target=ask)
    client.start()

    def is_reading() -> bool:
        group = node.call("GET", "/debug/vars?key=http")["http"]
        return int(group["queries"]) > 0

    wait_until(is_reading, 10, lambda: "the endless read to begin")
    os.kill(node.pid, signal.SIGTERM)
    wait_until(
        lambda: any(line["event"] == "stopping" for line in log_lines(node)),
        10,
        lambda: "the stop to begin",
    )
    os.kill(node.pid, signal.SIGTERM)
    assert node.wait_exit(5) == Exit.ABORTED
    client.join(10)
    cluster.start()
    assert values(node) == [1]


def fails(node: ProcessNode, code: Exit, *words: str) -> None:
    """The node ends by itself with `code`, and its last line says `words`."""
    node.start()
    assert node.wait_exit() == code, node.log_tail()
    lines = log_lines(node)
    told = [str(line["event"]) for line in lines if line["level"] == "error"]
    assert told, lines
    for word in words:
        assert word in told[-1]
    assert lines[-1]["exit"] == code
    assert "exception" not in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["http", "raft"])
def test_an_address_in_use_is_told_before_the_directory_is_touched(
    node: ProcessNode, kind: str
) -> None:
    port = node.http_port if kind == "http" else node.raft_port
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        fails(node, Exit.ADDRESS, f"127.0.0.1:{port}", f"-{kind}-addr", "in use")
    assert not node.directory.exists()


@pytest.mark.slow
def test_a_directory_in_use_is_told(cluster: ProcessCluster, tmp_path: Path) -> None:
    cluster.start()
    second = ProcessCluster(1, tmp_path / "second", ["-log-format", "json"]).nodes[0]
    second.directory = cluster.nodes[0].directory
    fails(second, Exit.LOCKED, str(second.directory), f"process {cluster.nodes[0].pid}")
    insert(cluster.nodes[0], 1)


@pytest.mark.slow
def test_a_directory_of_something_else_is_told(node: ProcessNode) -> None:
    node.directory.mkdir()
    (node.directory / "photos.zip").touch()
    fails(node, Exit.FOREIGN, "photos.zip")
    assert os.listdir(node.directory) == ["photos.zip"]


@pytest.mark.slow
def test_a_directory_that_cannot_be_made_is_told(node: ProcessNode) -> None:
    node.directory.parent.joinpath("file").touch()
    node.directory = node.directory.parent / "file" / "data"
    fails(node, Exit.DISK, str(node.directory))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def damage_the_log(node: ProcessNode) -> None:
    """One bit in the middle of what is durable."""
    segment = max((node.directory / "log").iterdir(), key=lambda path: path.stat().st_size)
    content = segment.read_bytes()
    flip(segment, content.index(b"INSERT INTO t VALUES (1)"))


def damage_the_identity(node: ProcessNode) -> None:
    flip(node.directory / "identity.json", 20)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_the_log, damage_the_identity])
def test_damage_is_told_and_found_by_check(
    cluster: ProcessCluster, node: ProcessNode, damage: Callable[[ProcessNode], None]
) -> None:
    cluster.start()
    for value in range(5):
        insert(node, value)
    node.kill()
    assert check(node.directory).returncode == 0
    damage(node)
    copy = node.directory.with_name("copy")
    shutil.copytree(node.directory, copy)
    checked = check(node.directory)
    assert checked.returncode == Exit.DAMAGED
    assert checked.stdout.startswith("damage: ")
    assert str(node.directory) in checked.stdout
    assert contents(node.directory) == contents(copy)
    fails(node, Exit.DAMAGED, str(node.directory))


@pytest.mark.slow
def test_a_damaged_page_is_named_and_the_advice_of_check_mends_it(
    cluster: ProcessCluster, node: ProcessNode
) -> None:
    cluster.start()
    for value in range(5):
        insert(node, value)
    assert node.terminate() == Exit.OK
    database = node.directory / "db"
    flip(database / "1" / "main.db", 4096 * 2 + 4000)
    checked = check(node.directory)
    assert checked.returncode == Exit.DAMAGED
    damage, advice = checked.stdout.splitlines()
    assert damage.startswith(f"damage: {database / '1' / 'main.db'}: page 3 (at byte 8192)")
    assert f"move {database} away" in advice
    database.rename(node.directory.with_name("away"))
    assert check(node.directory).returncode == Exit.OK
    cluster.start()
    assert values(node) == [0, 1, 2, 3, 4]


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rsqlite", "check", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_check_tells_what_it_cannot_judge(
    cluster: ProcessCluster, node: ProcessNode, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert check(empty).returncode == Exit.FOREIGN
    assert check(tmp_path / "none").returncode == Exit.USAGE
    cluster.start()
    running = check(node.directory)
    assert running.returncode == Exit.LOCKED
    assert f"process {node.pid}" in running.stderr


@pytest.mark.slow
def test_a_directory_among_nodes_of_another_cluster_is_told(tmp_path: Path) -> None:
    options = ["-log-format", "json"]
    with ProcessCluster(3, tmp_path / "ours", options) as ours:
        ours.kill_all()
        with ProcessCluster(3, tmp_path / "theirs", options) as theirs:
            stranger = theirs.nodes[0]
            stranger.kill()
            stranger.directory = ours.nodes[0].directory
            fails(stranger, Exit.FOREIGN, str(stranger.directory), "-join")
            insert(theirs.nodes[1], 1)


@pytest.mark.slow
def test_an_emptied_directory_comes_back_as_another_node_in_its_place(tmp_path: Path) -> None:
    with ProcessCluster(3, tmp_path, ["-log-format", "json"]) as cluster:
        insert(cluster.nodes[0], 1)
        emptied = cluster.nodes[2]
        emptied.kill()
        shutil.rmtree(emptied.directory)
        emptied.start()
        cluster.wait_ready()
        wait_until(lambda: emptied.raft_status()["voter"] is True, 20.0, lambda: emptied.log_tail())
        insert(emptied, 2)
        cluster.wait_applied()
        nodes = cluster.nodes[0].call("GET", "/nodes?nonvoters&ver=2")["nodes"]
        assert sorted(node["id"] for node in nodes) == ["1", "2", "3"]


async def test_a_node_without_room_starts_again_when_there_is_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lives: list[BaseException | None] = [DiskFull("no room"), DiskFull("no room yet"), None]
    # Of both volumes in turn.
    looks = iter([1, 100, 100, 1, 100, 100, 2, 2, 4, 4])

    async def live(directory: str, settings: Settings, stop: asyncio.Event) -> object:
        return lives.pop(0)

    def volume(path: str) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=next(looks), f_frsize=MIB)

    monkeypatch.setattr(serve, "serve_once", live)
    monkeypatch.setattr(serve, "ROOM_LOOK_S", 0.01)
    monkeypatch.setattr(os, "statvfs", volume)
    monkeypatch.setattr(serve, "watch_signals", lambda stop: None)
    settings = Settings(http_addr="", raft_addr="")
    assert await serve.serve(str(tmp_path), settings) is Exit.OK
    assert lives == []
    assert next(looks, None) is None


async def test_a_node_that_waits_for_room_stops_when_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stops: list[asyncio.Event] = []

    async def live(directory: str, settings: Settings, stop: asyncio.Event) -> object:
        asyncio.get_running_loop().call_later(0.05, stop.set)
        return DiskFull("no room")

    monkeypatch.setattr(serve, "serve_once", live)
    monkeypatch.setattr(serve, "watch_signals", stops.append)
    no_room = SimpleNamespace(f_bavail=0, f_frsize=MIB)
    monkeypatch.setattr(os, "statvfs", lambda path: no_room)
    monkeypatch.setattr(serve, "ROOM_LOOK_S", 0.01)
    settings = Settings(http_addr="", raft_addr="")
    assert await asyncio.wait_for(serve.serve(str(tmp_path), settings), 5) is Exit.OK


async def test_damage_is_repaired_so_often_and_then_somebody_must_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lives = 0

    async def live(directory: str, settings: Settings, stop: asyncio.Event) -> object:
        nonlocal lives
        lives += 1
        return DamagedFile("a page fails its checksum")

    monkeypatch.setattr(serve, "serve_once", live)
    monkeypatch.setattr(serve, "watch_signals", lambda stop: None)
    settings = Settings(http_addr="", raft_addr="")
    assert await serve.serve(str(tmp_path), settings) is Exit.DAMAGED
    assert lives == 1 + serve.REPAIRS_MAX
