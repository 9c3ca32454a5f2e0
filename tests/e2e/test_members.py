"""Real processes come, go, fall behind and are damaged, and the cluster sees to it by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsqlite.cli.exits import Exit
from rsqlite.statemachine.schema import find_current_database
from rsqlite.testing.cluster import ProcessNode, free_ports, wait_until
from tests.e2e.calls import execute, leader_and_followers, query
from tests.e2e.conftest import StartCluster
from tests.e2e.test_faults import assert_equal_files
from tests.node.test_engine import tamper

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"
INSERT = "INSERT INTO t(v) VALUES(?)"
SMALL = ("-raft-snap", "16", "-raft-snap-int", "100ms", "-log-keep-bytes", "64KiB")


def database_of(node: ProcessNode) -> Path:
    return Path(find_current_database(str(node.directory / "db")))


def is_voter(node: ProcessNode) -> bool:
    return node.is_ready() and bool(node.raft_status()["voter"])


def wait_for_vote(node: ProcessNode) -> None:
    wait_until(lambda: is_voter(node), 30.0, node.log_tail)


def test_nodes_join_are_removed_and_replaced_while_writes_go_on(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, [INSERT, "before"])
    new = cluster.grow()
    wait_for_vote(new)
    execute(new, [INSERT, "through the new one"])
    reader = cluster.grow("-raft-non-voter")
    wait_until(reader.is_ready, 30.0, reader.log_tail)
    assert query(reader, "SELECT count(*) FROM t") == [[2]]
    nodes = leader.call("GET", "/nodes?nonvoters&ver=2")["nodes"]
    assert sorted((node["id"], node["voter"]) for node in nodes) == [
        *((str(n), True) for n in (1, 2, 3, 4)),
        ("5", False),
    ]
    # Any node takes the wish; the removed one ends, and says why.
    status, body = new.request("DELETE", "/remove", {"id": followers[0].label})
    assert (status, body) == (200, b"")
    assert followers[0].wait_exit() == Exit.REMOVED
    assert "was removed from its cluster" in followers[0].log_tail()
    # The leader itself, too: another one leads before anybody waits long.
    assert new.request("DELETE", "/remove", {"id": leader.label})[0] == 200
    assert leader.wait_exit() == Exit.REMOVED
    execute(new, [INSERT, "after"])
    assert query(followers[1], "SELECT count(*) FROM t") == [[3]]
    rows = "SELECT id, v FROM t ORDER BY id"
    assert query(reader, rows) == query(new, rows) == query(followers[1], rows)


def test_a_follower_that_was_left_behind_comes_back_by_an_image(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, *SMALL)
    leader, (behind, _) = leader_and_followers(cluster)
    execute(leader, CREATE)
    behind.kill()

    def is_cut() -> bool:
        for _ in range(10):
            execute(leader, *[[INSERT, "x" * 60_000] for _ in range(10)])
        assert leader.request("POST", "/snapshot")[0] in (200, 204)
        return int(leader.raft_status()["first_log_index"]) > 10

    wait_until(is_cut, 60.0, leader.log_tail)
    behind.start()
    cluster.wait_ready()
    cluster.wait_applied()
    assert "image installed" in behind.log_path.read_text()
    assert_equal_files(cluster)


@pytest.mark.parametrize("damage", ["page", "row", "gone", "log"])
def test_a_follower_whose_database_is_wrong_is_repaired_by_the_others(
    start_cluster: StartCluster, damage: str
) -> None:
    """Nobody but the nodes themselves has a hand in it, and no client sees what is wrong."""
    cluster = start_cluster(3)
    leader, (sick, other) = leader_and_followers(cluster)
    execute(leader, CREATE, *[[INSERT, f"{n}" * 500] for n in range(200)])
    cluster.wait_applied()
    sick.terminate()
    path = database_of(sick)
    if damage == "row":
        tamper(str(path), "DELETE FROM t WHERE id = 7")
    elif damage == "log":
        segment = min((sick.directory / "log").glob("*.log"))
        data = bytearray(segment.read_bytes())
        data[data.index(b"INSERT INTO t")] ^= 1
        segment.write_bytes(data)
    else:
        data = bytearray(path.read_bytes())
        data[-2000] ^= 1
        path.write_bytes(bytes(data) if damage == "page" else b"gone" * 4096)
    sick.start()
    sick.wait_ready()
    if damage == "page":
        status, _ = sick.request("POST", "/db/query?level=none", ["SELECT max(v) FROM t"])
        assert status >= 500
    if damage == "row":
        execute(leader, "UPDATE t SET v = v || 'x'")

    def is_repaired() -> bool:
        text = sick.log_path.read_text()
        is_new = "database set aside" in text or "identity given up" in text
        return is_new and is_voter(sick) and other.is_ready()

    wait_until(is_repaired, 30.0, sick.log_tail)
    cluster.wait_applied()
    execute(sick, [INSERT, "after"])
    assert_equal_files(cluster)


def test_a_node_leaves_for_good_when_it_is_stopped_so(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, _ = leader_and_followers(cluster)
    execute(leader, CREATE)
    guest = cluster.grow("-raft-cluster-remove-shutdown")
    wait_for_vote(guest)
    assert len(leader.call("GET", "/nodes")) == 4
    assert guest.terminate() == Exit.OK
    assert sorted(leader.call("GET", "/nodes")) == ["1", "2", "3"]
    execute(leader, [INSERT, "after"])


def test_a_node_that_moved_to_other_ports_is_found_there(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, (moved, _) = leader_and_followers(cluster)
    execute(leader, CREATE)
    moved.terminate()
    moved.http_port, moved.raft_port = free_ports(2)
    moved.start()
    moved.wait_ready()

    def known() -> str:
        return str(leader.call("GET", "/nodes")[moved.label]["addr"])

    wait_until(lambda: known() == moved.raft_addr, 20.0, known)
    execute(moved, [INSERT, "from there"])
    cluster.wait_applied()
