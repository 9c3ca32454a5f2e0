"""Real processes go over to a release with another fingerprint, one after the other, under load."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rsqlite.cli.exits import Exit
from rsqlite.cli.main import main
from rsqlite.testing.cluster import ProcessCluster, ProcessNode, wait_until
from tests.e2e.as_newer import FINGERPRINT
from tests.e2e.calls import execute, leader_and_followers, query
from tests.e2e.conftest import StartCluster
from tests.e2e.test_faults import assert_equal_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCRIPT = str(Path(__file__).parent / "as_newer.py")


class Writers:
    """One thread for each node, that writes through it as long as the test goes on."""

    def __init__(self, cluster: ProcessCluster) -> None:
        self.acknowledged: list[str] = []
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(node,), daemon=True)
            for node in cluster.nodes
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ends.set()
            for thread in self._threads:
                thread.join()

    def _write(self, node: ProcessNode) -> None:
        count = 0
        while not self._ends.is_set():
            count += 1
            key = f"{node.label}-{count}"
            try:
                status, body = node.request(
                    "POST", "/db/execute?timeout=3s", [["INSERT INTO t(v) VALUES(?)", key]]
                )
            except (OSError, http.client.HTTPException):
                self._ends.wait(0.02)  # it is being restarted
                continue
            if status == 200 and b'"error"' not in body:
                self.acknowledged.append(key)

    def wait_for_more(self, cluster: ProcessCluster) -> None:
        """Return when something more was acknowledged."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > before, 30.0, lambda: repr(cluster))


def command(*words: str) -> Result:
    return CliRunner().invoke(main, ["upgrade", *words])


def state(node: ProcessNode) -> dict[str, Any]:
    value: dict[str, Any] = node.call("GET", "/upgrade")
    return value


def start_newer(node: ProcessNode) -> None:
    node.python = [sys.executable, SCRIPT]
    node.start()


def start_older(node: ProcessNode) -> None:
    node.python = [sys.executable]
    node.start()


def fingerprint_of(node: ProcessNode, witness: ProcessNode) -> str:
    found = {one["id"]: one["fingerprint"] for one in state(witness)["nodes"]}
    return str(found[node.label])


def wait_until_upgraded(node: ProcessNode, witness: ProcessNode) -> None:
    wait_until(
        lambda: node.is_ready() and fingerprint_of(node, witness) == FINGERPRINT,
        30.0,
        node.log_tail,
    )


def test_three_nodes_are_upgraded_one_by_one_under_load(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    leader, followers = leader_and_followers(cluster)
    execute(leader, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    older = state(leader)["fingerprint"]
    writers = Writers(cluster)
    with writers.running():
        # What was not declared is refused, with the words to say.
        followers[0].terminate()
        start_newer(followers[0])
        assert followers[0].wait_exit() == Exit.FOREIGN
        assert f"the cluster takes {older}." in followers[0].log_tail()
        assert f"rsqlite upgrade URL --to {FINGERPRINT}" in followers[0].log_tail()
        declared = command(followers[1].http_url, "--to", FINGERPRINT)
        assert declared.exit_code == 0, declared.output
        for node in followers:
            node.terminate()
            start_newer(node)
            wait_until_upgraded(node, leader)
            assert cluster.leader() == leader.index, "one of the older leads"
            writers.wait_for_more(cluster)
            shown = command(node.http_url, "--show")
            assert shown.exit_code == 1
            assert f"{node.label}  upgraded" in shown.output
        leader.terminate()
        start_newer(leader)
        leader.wait_ready()
        wait_until(lambda: state(leader)["to"] is None, 30.0, leader.log_tail)
        writers.wait_for_more(cluster)
    cluster.wait_ready()
    assert {state(node)["fingerprint"] for node in cluster.nodes} == {FINGERPRINT}
    assert command(leader.http_url, "--show").exit_code == 0
    assert "already" in command(leader.http_url, "--to", FINGERPRINT).output
    kept = {value for (value,) in query(leader, "SELECT v FROM t")}
    assert len(writers.acknowledged) > 10
    assert set(writers.acknowledged) <= kept
    # The older release has no place there any more.
    followers[0].terminate()
    start_older(followers[0])
    assert followers[0].wait_exit() == Exit.FOREIGN
    assert f"the cluster takes {FINGERPRINT}." in followers[0].log_tail()
    start_newer(followers[0])
    cluster.wait_ready()
    assert_equal_files(cluster)


def test_an_upgrade_survives_a_killed_leader_and_can_be_taken_back(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3)
    leader, (first, second) = leader_and_followers(cluster)
    execute(leader, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    older = state(leader)["fingerprint"]
    assert command(leader.http_url, "--to", FINGERPRINT).exit_code == 0
    first.terminate()
    start_newer(first)
    wait_until_upgraded(first, leader)
    leader.kill()
    # Whoever had all that was acknowledged may have had to lead for a moment.
    wait_until(lambda: cluster.leader() == second.index, 30.0, lambda: repr(cluster))
    execute(first, "INSERT INTO t(v) VALUES('through the upgraded one')")
    leader.start()
    cluster.wait_ready()
    refused = command(second.http_url, "--abandon")
    assert refused.exit_code == Exit.USAGE
    assert f"runs on {first.label}" in refused.output
    first.terminate()
    start_older(first)
    wait_until(
        lambda: first.is_ready() and fingerprint_of(first, second) == older, 30.0, first.log_tail
    )
    assert command(second.http_url, "--abandon").exit_code == 0
    cluster.wait_applied()
    assert [state(node)["to"] for node in cluster.nodes] == [None] * 3
    assert_equal_files(cluster)
