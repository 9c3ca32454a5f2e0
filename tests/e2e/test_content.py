"""Real processes whose contents differ: found, named and repaired, also when it is the leader's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import apsw
import pytest

from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until
from tests.e2e.calls import execute, leader_and_followers, query, verify
from tests.e2e.conftest import StartCluster
from tests.e2e.test_faults import assert_equal_files
from tests.e2e.test_members import CREATE, INSERT, database_of
from tests.node.test_content import tamper_file

pytestmark = pytest.mark.slow


@contextmanager
def writes(cluster: ProcessCluster) -> Iterator[list[int]]:
    """Somebody inserts all the time; the ids that were acknowledged."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            node = cluster.nodes[number % len(cluster.nodes)]
            try:
                status, body = node.request(
                    "POST", "/db/execute", [["INSERT INTO w(id) VALUES(?)", number]]
                )
            except OSError:
                continue
            if status == 200 and b"error" not in body:
                acknowledged.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("sick", ["leader", "follower"])
@pytest.mark.parametrize("found_by", ["check", "entry"])
def test_rows_changed_behind_a_running_node_are_found_and_repaired_under_load(
    start_cluster: StartCluster, sick: str, found_by: str
) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, "CREATE TABLE w(id INTEGER PRIMARY KEY)")
    execute(leader, *[[INSERT, f"{n}" * 50] for n in range(200)])
    cluster.wait_applied()
    assert verify(followers[0])[0] == 0
    node = leader if sick == "leader" else followers[0]
    with writes(cluster) as acknowledged:
        wait_until(lambda: len(acknowledged) > 50, 30.0, node.log_tail)
        tamper(node, "DELETE FROM t WHERE id = 7")
        if found_by == "check":
            code, text = verify(followers[1])
            assert code == 1, text
            (line,) = (line for line in text.splitlines() if "differs" in line)
            assert line.split()[0] == node.label
            assert "tables that differ: t" in line
        else:
            # What this answers is what a node computed that is found out only by it.
            leader.request("POST", "/db/execute", ["UPDATE t SET v = v || 'x'"])
        wait_until(lambda: is_repaired(node), 60.0, node.log_tail)
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 50, 30.0, node.log_tail)
    cluster.wait_ready()
    cluster.wait_applied()
    code, text = verify(node)
    assert code == 0, text
    for one in cluster.nodes:
        assert query(one, "SELECT count(*) FROM t", flags="level=none") == [[200]]
        rows = query(one, "SELECT id FROM w", flags="level=none")
        assert {row[0] for row in rows} >= set(acknowledged)
        if found_by == "entry":
            assert query(one, "SELECT count(*) FROM t WHERE v LIKE '%x'") == [[200]]
    assert_equal_files(cluster)


@pytest.mark.parametrize("is_other_away", [False, True])
def test_a_sick_leader_that_dies_is_told_when_it_comes_back_that_it_was_overruled(
    start_cluster: StartCluster, is_other_away: bool
) -> None:
    cluster = start_cluster(3)
    leader, (first, second) = leader_and_followers(cluster)
    execute(leader, CREATE)
    execute(leader, *[[INSERT, f"{n}" * 50] for n in range(200)])
    cluster.wait_applied()
    tamper(leader, "DELETE FROM t WHERE id = 7")
    if is_other_away:
        second.pause()
    execute(leader, "UPDATE t SET v = v || 'x'")
    if is_other_away:
        # One against one is no majority, and waits for the other's word.
        wait_until(lambda: "Divergence" in first.log_path.read_text(), 30.0, first.log_tail)
    leader.kill()
    if is_other_away:
        second.resume()
    written = partial(is_written, first, [INSERT, "after it was overruled"])
    wait_until(written, 30.0, first.log_tail)
    assert "an entry is overruled" in first.log_path.read_text()
    leader.start()
    wait_until(lambda: is_repaired(leader), 60.0, leader.log_tail)
    cluster.wait_ready()
    cluster.wait_applied()
    code, text = verify(leader)
    assert code == 0, text
    for one in cluster.nodes:
        rows = query(one, "SELECT count(*) FROM t WHERE v LIKE '%x'", flags="level=none")
        assert rows == [[200]]
    assert_equal_files(cluster)


def is_written(node: ProcessNode, statement: list[object]) -> bool:
    status, body = node.request("POST", "/db/execute?timeout=5s", [statement])
    return status == 200 and b"error" not in body


def tamper(node: ProcessNode, sql: str) -> None:
    """Change the database of a node that runs. It is paused meanwhile: a node that meets the lock
    of somebody else at its BEGIN ends, as it would where a tool keeps one."""

    def changed() -> bool:
        node.pause()
        try:
            tamper_file(database_of(node), sql, timeout_ms=0)
        except apsw.BusyError:
            return False  # it was paused in the midst of a transaction
        finally:
            node.resume()
        return True

    wait_until(changed, 30.0, node.log_tail)


def is_repaired(node: ProcessNode) -> bool:
    text = node.log_path.read_text()
    return "database set aside" in text and node.is_ready()


def test_a_check_says_who_is_down(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, CREATE, [INSERT, "a"])
    followers[0].kill()
    code, text = verify(leader)
    assert code == 2, text
    assert f"{followers[0].label}  no answer" in text
