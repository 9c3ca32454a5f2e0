"""Real processes killed and paused: what was acknowledged stays, and nobody reads the past."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from pathlib import Path

import pytest

from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until
from tests.e2e.calls import execute, leader_and_followers, query
from tests.e2e.conftest import StartCluster
from tests.e2e.files import check_directory, differences

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"
INSERT = "INSERT INTO t(v) VALUES(?)"


def insert_until_acknowledged(node: ProcessNode, value: str, timeout_s: float = 15.0) -> None:
    """Go on with fresh writes until one is acknowledged: the others may have happened or not."""

    def is_acknowledged() -> bool:
        try:
            status, content = node.request("POST", "/db/execute", [[INSERT, value]])
        except (OSError, http.client.HTTPException):
            return False
        return status == 200 and b'"rows_affected":1' in content

    wait_until(is_acknowledged, timeout_s, lambda: f"a write through {node!r}")


def assert_equal_files(cluster: ProcessCluster) -> None:
    """Stops all nodes, at one applied index."""
    cluster.wait_applied()
    cluster.kill_all()
    assert differences([node.directory for node in cluster.nodes]) == []


def test_writes_go_on_without_a_killed_leader_and_it_catches_up(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, [INSERT, "before"])
    leader.kill()
    for follower in followers:
        insert_until_acknowledged(follower, f"through {follower.index}")
    values = {value for (value,) in query(followers[0], "SELECT v FROM t")}
    assert values == {"before", *(f"through {node.index}" for node in followers)}
    leader.start()
    leader.wait_ready()
    rows = "SELECT id, v FROM t ORDER BY id"
    assert query(leader, rows) == query(followers[0], rows)
    assert_equal_files(cluster)


def test_a_killed_follower_is_not_missed_and_catches_up(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE)
    followers[0].kill()
    for number in range(50):
        execute(followers[1], [INSERT, number])
    followers[0].start()
    followers[0].wait_ready()
    assert query(followers[0], "SELECT count(*), sum(v) FROM t") == [[50, 49 * 25]]
    assert_equal_files(cluster)


def test_all_killed_at_once_under_load_lose_nothing_acknowledged(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3)
    execute(cluster.nodes[0], CREATE)
    acknowledged: list[list[str]] = [[] for _ in cluster.nodes]
    enough = threading.Event()

    def insert(node: ProcessNode) -> None:
        number = 0
        while True:
            value = f"{node.index}-{number}"
            number += 1
            try:
                execute(node, [INSERT, value])
            except (OSError, http.client.HTTPException, AssertionError):
                return
            acknowledged[node.index].append(value)
            if sum(map(len, acknowledged)) >= 300:
                enough.set()

    threads = [threading.Thread(target=insert, args=(node,)) for node in cluster.nodes]
    for thread in threads:
        thread.start()
    assert enough.wait(15)
    cluster.kill_all()
    for thread in threads:
        thread.join()
    cluster.start()
    stored = [value for (value,) in query(cluster.nodes[1], "SELECT v FROM t")]
    assert len(stored) == len(set(stored)), "nothing is there twice"
    assert not {value for values in acknowledged for value in values} - set(stored)
    # Each client had at most one request that was not answered.
    assert len(stored) - sum(map(len, acknowledged)) <= len(threads)
    assert_equal_files(cluster)


def test_a_leader_that_was_paused_serves_no_stale_read(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, "INSERT INTO t VALUES(1, 'old')")
    leader.pause()
    # In its socket before it wakes up: the first thing that it reads.
    waiting = socket.create_connection(("127.0.0.1", leader.http_port), timeout=15)
    body = b'["SELECT v FROM t WHERE id = 1"]'
    waiting.sendall(
        b"POST /db/query?level=linearizable HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    insert_until_acknowledged(followers[0], "made under the next leader")
    execute(followers[0], "UPDATE t SET v = 'new' WHERE id = 1")
    leader.resume()
    with waiting:
        answer = b"".join(iter(lambda: waiting.recv(65536), b""))
    assert answer, "it answers, one way or the other"
    assert b'"old"' not in answer
    assert cluster.leader() != leader.index
    assert query(leader, "SELECT v FROM t WHERE id = 1") == [["new"]]
    assert leader.raft_status()["state"].lower() == "follower"
    assert_equal_files(cluster)


def test_a_minority_neither_writes_nor_reads_the_newest(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, [INSERT, "before"])
    cluster.wait_applied()
    for follower in followers:
        follower.kill()
    path = "/db/execute?timeout=2s"
    status, content = leader.request("POST", path, [[INSERT, "alone"]], timeout_s=10)
    assert status == 503 or b'"error"' in content
    path = "/db/query?level=linearizable&linearizable_timeout=2s&timeout=2s"
    status, content = leader.request("POST", path, ["SELECT v FROM t"], timeout_s=10)
    assert status == 503 or b'"error"' in content
    assert query(leader, "SELECT v FROM t", flags="level=none") == [["before"]]
    for follower in followers:
        follower.start()
    cluster.wait_ready()
    insert_until_acknowledged(followers[0], "after")
    assert query(leader, "SELECT count(*) FROM t WHERE v = 'after'") == [[1]]


def test_a_single_node_keeps_its_data_over_kill_and_clean_stop(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(1)
    (node,) = cluster.nodes
    execute(node, CREATE, [INSERT, "first"])
    node.kill()
    cluster.start()
    execute(node, [INSERT, "second"])
    assert node.terminate() == 0
    cluster.start()
    assert query(node, "SELECT v FROM t") == [["first"], ["second"]]


def test_a_second_process_in_one_directory_is_refused(start_cluster: StartCluster) -> None:
    cluster = start_cluster(1)
    (node,) = cluster.nodes
    intruder = ProcessCluster(1, node.directory.parent)
    assert intruder.nodes[0].directory == node.directory
    intruder.nodes[0].start()
    try:
        assert intruder.nodes[0].wait_exit(15) != 0
    finally:
        intruder.close()
    assert f"is in use by process {node.pid}" in node.log_tail()
    execute(node, CREATE)


def test_a_node_ends_when_its_address_is_taken(tmp_path: Path) -> None:
    cluster = ProcessCluster(1, tmp_path)
    (node,) = cluster.nodes
    with socket.create_server(("127.0.0.1", node.http_port)):
        node.start()
        try:
            assert node.wait_exit(15) != 0
        finally:
            cluster.close()
    assert str(node.http_port) in node.log_tail()


def test_a_damaged_log_is_reported_and_never_cut(start_cluster: StartCluster) -> None:
    cluster = start_cluster(1)
    (node,) = cluster.nodes
    execute(node, CREATE)
    for number in range(20):
        execute(node, [INSERT, number])
    node.kill()
    segment = min(path for path in (node.directory / "log").iterdir() if path.suffix == ".log")
    content = bytearray(segment.read_bytes())
    at = content.index(b"INSERT INTO t")
    content[at] ^= 1
    segment.write_bytes(content)
    complaint = check_directory(node.directory)
    assert segment.name in complaint, complaint
    node.start()
    code = node.wait_exit(15)
    assert code != 0
    assert segment.read_bytes() == content


def test_a_kill_during_a_long_write_leaves_no_long_wal_file(start_cluster: StartCluster) -> None:
    cluster = start_cluster(1)
    (node,) = cluster.nodes
    execute(node, CREATE, [INSERT, "before"])
    endless = (
        "INSERT INTO t(v) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c)"
        " SELECT zeroblob(3000) FROM c"
    )
    (wal,) = node.directory.rglob("*-wal")

    def write() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            node.request("POST", "/db/execute", [endless], timeout_s=30.0)

    writing = threading.Thread(target=write)
    writing.start()
    wait_until(lambda: wal.stat().st_size > 80 << 20, 20, lambda: "a long WAL file")
    node.kill()
    writing.join()
    assert wal.stat().st_size > 80 << 20
    node.start()
    node.wait_ready()
    wait_until(lambda: wal.stat().st_size < 1 << 20, 10, lambda: "the WAL file to be cut")
    assert query(node, "SELECT v FROM t") == [["before"]]
    execute(node, [INSERT, "after"])
    node.terminate()
    assert check_directory(node.directory) == ""
