"""A majority of real processes is lost for good under load; those that are left go on, and grow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rsqlite.cli.exits import Exit
from rsqlite.statemachine.generations import note_damage
from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until
from tests.e2e.calls import execute, leader_and_followers, query
from tests.e2e.conftest import StartCluster
from tests.e2e.files import database_path
from tests.e2e.test_members import wait_for_vote

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CREATE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"
INSERT = "INSERT INTO t(id, v) VALUES(?, ?)"


@contextmanager
def writes(cluster: ProcessCluster) -> Iterator[list[int]]:
    """Somebody inserts one row after the other until he gets no answer any more; those that were
    acknowledged."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            node = cluster.nodes[number % len(cluster.nodes)]
            try:
                status, _ = node.request("POST", "/db/execute", [[INSERT, number, "x" * 100]])
            except OSError:
                continue
            if status == 200:
                acknowledged.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        thread.join()


def lose(cluster: ProcessCluster, lost: Sequence[ProcessNode]) -> list[int]:
    """Destroy these nodes in the middle of writes; what had been acknowledged by then."""
    with writes(cluster) as acknowledged:
        wait_until(lambda: len(acknowledged) > 100, 30.0, lambda: "writes to go on")
        for node in lost:
            node.send_signal(9)
        for node in lost:
            node.wait_exit()
            shutil.rmtree(node.directory)
    return acknowledged


def recover(node: ProcessNode, *peers: str, answer: str) -> tuple[int, str]:
    """Exit code and text of `rsqlite recover`."""
    options = [word for peer in peers for word in ("--peer", peer)]
    done = subprocess.run(
        [sys.executable, "-m", "rsqlite", "recover", str(node.directory), *options],
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def check_nothing_but_the_newest_is_lost(node: ProcessNode, acknowledged: list[int]) -> None:
    """It may be behind, but has everything up to where it is."""
    there = {row[0] for row in query(node, "SELECT id FROM t")}
    newest = max(there)
    assert [one for one in acknowledged if one <= newest and one not in there] == []
    assert newest >= acknowledged[0]


def grow_to_three(cluster: ProcessCluster) -> None:
    """New nodes with empty directories, until there are three."""
    while len(cluster.running()) < 3:
        wait_for_vote(cluster.grow())
    cluster.wait_applied()
    execute(cluster.running()[-1], [INSERT, 1_000_000, "after"])
    leader = cluster.nodes[cluster.leader()]
    wanted = sorted(node.label for node in cluster.running())
    assert sorted(leader.call("GET", "/nodes")) == wanted
    cluster.wait_applied()
    rows = "SELECT count(*), max(id) FROM t"
    (first, *others) = [query(node, rows, flags="level=none") for node in cluster.running()]
    assert all(one == first for one in others)


def test_two_of_three_are_lost_and_the_third_goes_on_and_grows(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    execute(cluster.nodes[0], CREATE)
    cluster.wait_applied()
    kept = cluster.nodes[cluster.followers()[0]]
    lost = [node for node in cluster.nodes if node is not kept]
    acknowledged = lose(cluster, lost)
    status, _ = kept.request("POST", "/db/execute", [[INSERT, 2_000_000, "x"]])
    assert status == 503, "alone it takes nothing"
    kept.kill()
    code, text = recover(kept, answer="no\n")
    assert code == Exit.USAGE
    assert f"Out of it, for good: {', '.join(sorted(node.label for node in lost))}" in text
    assert "Lost are all writes that only they hold, acknowledged or not" in text
    assert "Its log ends at entry" in text
    assert "Nothing was changed" in text
    assert recover(kept, answer="yes\n")[0] == Exit.OK
    kept.start()
    kept.wait_ready()
    check_nothing_but_the_newest_is_lost(kept, acknowledged)
    grow_to_three(cluster)


def test_two_that_are_left_of_five_go_on_with_what_the_better_one_has(
    start_cluster: StartCluster,
) -> None:
    """By rqlite's way: the same file in both directories."""
    cluster = start_cluster(5)
    leader = cluster.nodes[cluster.leader()]
    execute(leader, CREATE)
    cluster.wait_applied()
    kept = [cluster.nodes[at] for at in cluster.followers()[:2]]
    acknowledged = lose(cluster, [node for node in cluster.nodes if node not in kept])
    peers = [{"id": node.label, "address": node.raft_addr, "non_voter": False} for node in kept]
    for node in kept:
        node.kill()
        folder = node.directory / "raft"
        folder.mkdir(exist_ok=True)
        (folder / "peers.json").write_text(json.dumps(peers))
    for node in kept:
        node.start()
    cluster.wait_ready()
    for node in kept:
        check_nothing_but_the_newest_is_lost(node, acknowledged)
        assert (node.directory / "raft" / "peers.info").exists()
    grow_to_three(cluster)


def test_two_of_three_are_damaged_and_wait_until_the_third_was_recovered(
    start_cluster: StartCluster,
) -> None:
    """As a bad power cut may leave them. Nothing of what the third has is lost."""
    cluster = start_cluster(3)
    execute(cluster.nodes[0], CREATE)
    for number in range(100):
        execute(cluster.nodes[0], [INSERT, number, "x"])
    cluster.wait_applied()
    cluster.kill_all()
    first, second, third = cluster.nodes
    for node in (first, second):
        (node.directory / "log" / "hardstate").write_bytes(b"")
    for node in cluster.nodes:
        node.start()
    for node in (first, second):
        wait_until(lambda node=node: "rsqlite recover" in node.log_tail(100), 60.0, node.log_tail)
        node.check_alive()
        assert not (node.directory / "quarantine").exists()
        status, reason = node.request("GET", "/readyz")
        assert status == 503
        assert b"hardstate" in reason, reason
        assert b"waits for the others" in reason, reason
    assert third.request("POST", "/db/execute", [[INSERT, 2_000_000, "x"]])[0] == 503
    assert second.terminate() == Exit.OK, "it hears a signal while it waits"
    second.start()
    third.kill()
    code, text = recover(third, answer="yes\n")
    assert code == Exit.OK, text
    third.start()
    for node in (first, second):
        assert node.wait_exit() == Exit.REMOVED, "who is left was said without them"
        assert not (node.directory / "quarantine").exists()
        shutil.rmtree(node.directory)
        node.start()
        wait_for_vote(node)
    cluster.wait_applied()
    for node in cluster.nodes:
        assert query(node, "SELECT count(*), max(id) FROM t", flags="level=none") == [[100, 99]]


def test_all_are_damaged_and_the_content_of_one_goes_to_a_new_cluster(
    start_cluster: StartCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/rsqlited.md shows it."""
    cluster = start_cluster(3)
    leader = cluster.nodes[cluster.leader()]
    execute(leader, CREATE, "CREATE INDEX i ON t(v)", "CREATE VIEW w AS SELECT v FROM t")
    execute(leader, "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END")
    execute(leader, *[[INSERT, number, f"a; b 'q'\n{number}"] for number in range(2500)])
    cluster.wait_applied()
    cluster.kill_all()
    folder = leader.directory / "db" / (leader.directory / "db" / "CURRENT").read_text().split()[0]
    shutil.copytree(folder, tmp_path / "COPY")
    (new,) = start_cluster(1).nodes
    text = (Path(__file__).parents[2] / "docs" / "rsqlited.md").read_text()
    (block,) = (one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "COPY" in one)
    monkeypatch.chdir(tmp_path)
    exec(block.replace("http://NEW:4001", new.http_url), {})
    found = query(new, "SELECT count(*), min(v), max(v), sum(id) FROM t")
    assert found == [[2500, "a; b 'q'\n0", "a; b 'q'\n999", 2499 * 1250]]
    names = query(new, "SELECT name FROM sqlite_schema WHERE name NOT LIKE '\\_%' ESCAPE '\\'")
    assert sorted(names) == [["g"], ["i"], ["t"], ["w"]]


def test_two_of_three_databases_are_lost_and_the_third_node_is_behind(
    start_cluster: StartCluster,
) -> None:
    """What it lacks only the logs of the other two have."""
    cluster = start_cluster(3)
    leader, (other, behind) = leader_and_followers(cluster)
    execute(leader, CREATE)
    cluster.wait_applied()
    behind.pause()
    execute(leader, *[[INSERT, number, "x"] for number in range(50)])
    for node in cluster.nodes:
        node.kill()
    for node in (leader, other):
        note_damage(str(database_path(node.directory)), "for this test", wants_image=True)
    for node in cluster.nodes:
        node.start()
    cluster.wait_ready()
    execute(behind, [INSERT, 50, "y"])
    cluster.wait_applied()
    for node in cluster.nodes:
        assert query(node, "SELECT count(*) FROM t", flags="level=none") == [[51]]
