"""One database on three real processes: reads, writes and what each node knows of them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
import threading
import time
from urllib.parse import urlsplit

import pytest

from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until
from tests.e2e.calls import execute, leader_and_followers, query, term_of
from tests.e2e.conftest import StartCluster

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_nodes_start_in_any_order(start_cluster: StartCluster, order: tuple[int, ...]) -> None:
    cluster = start_cluster(3, is_started=False)
    for index in order[:-1]:
        cluster.nodes[index].start()
    # The last one comes when the others have long been looking for it.
    first = cluster.nodes[order[0]]
    wait_until(lambda: _answers(first), 20.0, lambda: f"{first!r} to answer")
    cluster.nodes[order[-1]].start()
    cluster.wait_ready()
    execute(cluster.nodes[order[-1]], CREATE)
    assert query(first, "SELECT count(*) FROM t") == [[0]]


def _answers(node: ProcessNode) -> bool:
    try:
        status, _ = node.request("GET", "/status")
    except (OSError, http.client.HTTPException):
        return False
    return status == 200


def test_a_write_through_any_node_is_on_every_node(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    execute(cluster.nodes[0], CREATE)
    for node in cluster.nodes:
        (result,) = execute(node, ["INSERT INTO t(v) VALUES(?)", f"by {node.index}"])
        assert result == {"last_insert_id": node.index + 1, "rows_affected": 1}
    cluster.wait_applied()
    wanted = [[1, "by 0"], [2, "by 1"], [3, "by 2"]]
    for node in cluster.nodes:
        for flags in ("level=none", "level=weak", "level=linearizable", "level=strong"):
            assert query(node, "SELECT * FROM t", flags=flags) == wanted, (node, flags)


def test_every_node_reads_the_newest_write_at_linearizable(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    execute(cluster.nodes[0], CREATE, "INSERT INTO t VALUES(1, 0)")
    for number in range(1, 61):
        writer, reader = cluster.nodes[number % 3], cluster.nodes[(number // 3) % 3]
        execute(writer, ["UPDATE t SET v = ? WHERE id = 1", number])
        assert query(reader, "SELECT v FROM t WHERE id = 1") == [[number]]


def test_a_node_asked_for_an_index_waits_until_it_has_it(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE)
    for number in range(30):
        connection = http.client.HTTPConnection(leader.http_addr, timeout=10)
        connection.request("POST", "/db/execute", f'[["INSERT INTO t(v) VALUES(?)", {number}]]')
        answer = connection.getresponse()
        answer.read()
        connection.close()
        index = answer.headers["Rsqlite-Index"]
        for follower in followers:
            rows = query(follower, "SELECT max(v) FROM t", flags=f"level=none&min_index={index}")
            assert rows == [[number]]


def test_a_follower_redirects_when_asked_to(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    for follower in followers:
        connection = http.client.HTTPConnection(follower.http_addr, timeout=10)
        connection.request("POST", "/db/execute?redirect&timings", f'["{CREATE}"]')
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 301
        target = urlsplit(answer.headers["Location"])
        assert (target.netloc, target.path) == (leader.http_addr, "/db/execute")
        assert target.query == "redirect&timings"
    assert query(leader, "SELECT count(*) FROM sqlite_schema WHERE name = 't'") == [[0]]


def test_what_sql_refuses_changes_nothing_anywhere(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, "INSERT INTO t VALUES(1, 'first')")
    index = int(leader.raft_status()["commit_index"])
    for node in cluster.nodes:
        answer = node.call("POST", "/db/execute", ["INSERT INTO t VALUES(1, 'again')"])
        assert answer["results"] == [{"error": "UNIQUE constraint failed: t.id"}]
    path = "/db/execute?transaction"
    answer = followers[0].call(
        "POST", path, ["INSERT INTO t VALUES(2, 'x')", "INSERT INTO t VALUES(1, 'again')"]
    )
    assert "UNIQUE" in answer["results"][-1]["error"]
    assert query(followers[1], "SELECT * FROM t") == [[1, "first"]]
    assert int(leader.raft_status()["commit_index"]) == index, "nothing of it is in the log"


def test_a_blob_of_16_mb_is_on_every_node(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    term = term_of(cluster)
    blob = random.Random(16).randbytes(16 * 1024 * 1024)
    execute(leader, "CREATE TABLE blobs(id INTEGER PRIMARY KEY, data BLOB)")
    execute(followers[0], ["INSERT INTO blobs(data) VALUES(?)", f"x'{blob.hex()}'"])
    cluster.wait_applied()
    for node in cluster.nodes:
        sql = "SELECT length(data), typeof(data), data FROM blobs"
        ((length, kind, text),) = query(node, sql, flags="level=none")
        assert (length, kind) == (len(blob), "blob")
        data = base64.b64decode(text)
        assert hashlib.sha256(data).digest() == hashlib.sha256(blob).digest()
    assert term_of(cluster) == term, "heartbeats must not wait behind the large frame"


def test_a_long_update_causes_no_election(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, "INSERT INTO t VALUES(1, 0)", "INSERT INTO t VALUES(2, 0)")
    term = term_of(cluster)
    count = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<6000000)"
    update = f"UPDATE t SET v = ({count} SELECT max(x) FROM c) WHERE id = 1"
    begin = time.monotonic()
    running = threading.Thread(target=execute, args=(followers[0], update))
    running.start()
    reads = 0
    while running.is_alive():
        assert query(leader, "SELECT v FROM t WHERE id = 2", flags="level=none") == [[0]]
        reads += 1
    running.join()
    seconds = time.monotonic() - begin
    assert seconds > 1.0, "twice the election timeout and more, or this tests nothing"
    assert reads > 10, "the leader answers reads meanwhile"
    execute(followers[1], "UPDATE t SET v = 1 WHERE id = 2")
    cluster.wait_applied()
    for node in cluster.nodes:
        rows = query(node, "SELECT v FROM t ORDER BY id", flags="level=none")
        assert rows == [[6_000_000], [1]]
    assert term_of(cluster) == term


def test_all_nodes_know_the_same_cluster(start_cluster: StartCluster) -> None:
    cluster: ProcessCluster = start_cluster(3)
    addresses = {node.http_url for node in cluster.nodes}
    for node in cluster.nodes:
        nodes = node.call("GET", "/nodes")
        assert {one["api_addr"] for one in nodes.values()} == addresses
        assert sum(one["leader"] for one in nodes.values()) == 1
        assert all(one["reachable"] for one in nodes.values())
