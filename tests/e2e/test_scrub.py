"""Real processes: damage on the disk that nobody reads is found, told and repaired under load."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from rsqlite.cli.exits import Exit
from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until
from tests.e2e.calls import execute, leader_and_followers, query, verify
from tests.e2e.conftest import StartCluster
from tests.e2e.test_content import writes
from tests.e2e.test_faults import assert_equal_files
from tests.e2e.test_members import CREATE, INSERT, database_of

pytestmark = pytest.mark.slow

QUICK = ("-scrub-bytes-per-second", "64MiB", "-scrub-interval", "0")


def flip(path: Path, offset: int) -> None:
    """In the files of another process, whose locks are its own."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        (byte,) = os.pread(descriptor, 1, offset)
        os.pwrite(descriptor, bytes([byte ^ 8]), offset)
    finally:
        os.close(descriptor)


def scrub(node: ProcessNode) -> dict[str, Any]:
    """Let a node read through its disk from now on; the end of it."""
    wait_until(lambda: not node.call("GET", "/scrub")["running"], 60.0, node.log_tail)
    rounds = node.call("POST", "/scrub")["rounds"]
    ended: dict[str, Any] = {}

    def look() -> bool:
        ended.update(node.call("GET", "/scrub"))
        return ended["rounds"] > rounds and not ended["running"]

    wait_until(look, 60.0, node.log_tail, node.check_alive)
    return ended


def store(node: ProcessNode) -> dict[str, Any]:
    status: dict[str, Any] = node.call("GET", "/status?key=store")
    return status


def filled(cluster: ProcessCluster) -> tuple[ProcessNode, list[ProcessNode]]:
    """With a database of some MB, all of it in the file."""
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, "CREATE TABLE w(id INTEGER PRIMARY KEY)")
    for number in range(8):
        execute(leader, *[[INSERT, f"{number} {n} " * 200] for n in range(200)])
    cluster.wait_applied()
    for node in cluster.nodes:
        assert node.request("POST", "/snapshot")[0] in (200, 204)
    return leader, followers


NOTES = ("identity.json", "configuration.json", "CURRENT", "hardstate")


@pytest.mark.parametrize(
    ("sick", "what"),
    [("leader", "page"), ("follower", "page"), ("leader", "record"), ("follower", "notes")],
)
def test_damage_that_nobody_reads_is_found_told_and_repaired_under_load(
    start_cluster: StartCluster, sick: str, what: str
) -> None:
    cluster = start_cluster(3, *QUICK)
    leader, followers = filled(cluster)
    node = leader if sick == "leader" else followers[0]
    incarnation = store(node)["raft"]["incarnation"]
    places = [place_of(node, name) for name in (NOTES if what == "notes" else (what,))]
    with writes(cluster) as acknowledged:
        wait_until(lambda: len(acknowledged) > 20, 30.0, node.log_tail)
        assert scrub(node)["problems"] == [], "nothing is wrong yet"
        for path, offset in places:
            flip(path, offset)
        node.call("POST", "/scrub")
        wait_until(lambda: is_repaired(node, len(places), what), 60.0, node.log_tail)
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 20, 30.0, node.log_tail)
    cluster.wait_ready()
    cluster.wait_applied()
    for (path, _), repair in zip(places, store(node)["repairs"], strict=True):
        assert str(path) in repair
        if what != "notes":
            assert "at byte " in repair
        assert json.dumps(repair)[1:-1] in node.log_path.read_text()
    again = store(node)["raft"]["incarnation"]
    assert again == incarnation + (what == "page"), "only another database needs a start"
    assert scrub(node)["problems"] == []
    code, text = verify(node)
    assert code == 0, text
    for one in cluster.nodes:
        assert query(one, "SELECT count(*) FROM t", flags="level=none") == [[1600]]
        rows = query(one, "SELECT id FROM w", flags="level=none")
        assert {row[0] for row in rows} >= set(acknowledged)
    assert_equal_files(cluster)


def place_of(node: ProcessNode, what: str) -> tuple[Path, int]:
    if what == "page":
        return database_of(node), database_of(node).stat().st_size // 2
    if what == "record":
        return min((node.directory / "log").glob("*.log")), 9000
    return next(node.directory.rglob(what)), 16 if what == "hardstate" else 0


def is_repaired(node: ProcessNode, count: int, what: str) -> bool:
    if not node.is_ready() or len(store(node)["repairs"]) < count:
        return False
    return what != "record" or store(node)["raft"]["first_log_index"] > 1


def test_alone_a_node_ends_with_the_exit_code_for_damage_and_says_where(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(1, *QUICK, "-raft-snap", "16", "-log-keep-bytes", "64KiB")
    (node,) = cluster.nodes
    filled(cluster)
    path = database_of(node)
    # Its log would make the database again, so the first part of that goes as well.
    flip(min((node.directory / "log").glob("*.log")), 9000)
    assert len(scrub(node)["problems"]) == 1
    wait_until(lambda: store(node)["raft"]["first_log_index"] > 1, 20.0, node.log_tail)
    content = path.read_bytes()
    flip(path, len(content) // 2)
    content = path.read_bytes()
    node.call("POST", "/scrub")
    assert node.wait_exit(30.0) == Exit.DAMAGED
    text = node.log_tail(20)
    assert f"{path}: page " in text
    assert "at byte" in text
    assert path.read_bytes() == content, "nothing was touched"
    node.start()
    assert node.wait_exit(30.0) == Exit.DAMAGED


def test_nothing_is_wrong_with_a_node_that_works_hard(start_cluster: StartCluster) -> None:
    """Some hundred MB written, moved and freed, through many checkpoints, while it is read."""
    cluster = start_cluster(1, "-scrub-bytes-per-second", "1GiB", "-scrub-interval", "0")
    (node,) = cluster.nodes
    execute(node, CREATE, "CREATE INDEX i ON t(v)")
    many = "INSERT INTO t(v) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT"
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            execute(node, f"{many} 1000) SELECT hex(randomblob(900)) FROM c")
            execute(node, f"UPDATE t SET v = hex(randomblob(700)) WHERE id % 7 = {number % 7}")
            execute(node, f"DELETE FROM t WHERE id % 5 = {number % 5}")

    def checkpoints() -> int:
        return int(store(node)["counters"]["machine_checkpoints"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        rounds = 0
        while rounds < 10 or checkpoints() < 20:
            rounds += 1
            assert scrub(node)["problems"] == []
    finally:
        stop.set()
        thread.join()
    assert store(node)["counters"]["machine_database_bytes"] > 5_000_000
    assert store(node)["repairs"] == []


def test_a_round_comes_by_itself(start_cluster: StartCluster) -> None:
    cluster = start_cluster(1, "-scrub-interval", "1s")
    (node,) = cluster.nodes
    execute(node, CREATE, [INSERT, "a"])
    wait_until(lambda: node.call("GET", "/scrub")["rounds"] >= 2, 30.0, node.log_tail)
    flip(node.directory / "log" / "hardstate", 20)
    wait_until(lambda: bool(store(node)["repairs"]), 30.0, node.log_tail)
    assert node.terminate() == 0
