"""VACUUM of a cluster of processes, under load."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.e2e.conftest import StartCluster

pytestmark = pytest.mark.slow

ROWS = 5000
BIG = f"INSERT INTO t(v) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"


def test_three_processes_are_made_compact_while_one_writes(
    start_cluster: StartCluster,
) -> None:
    three = start_cluster(3)
    node = three.nodes[0]
    node.call("POST", "/db/execute", ["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"])
    node.call("POST", "/db/execute", [f"{BIG} SELECT hex(randomblob(500)) FROM n"])
    node.call("POST", "/db/execute", ["DELETE FROM t WHERE id % 50"])
    ended = threading.Event()
    answers: list[Any] = []

    def write() -> None:
        while not ended.is_set():
            answers.append(node.request("POST", "/db/execute", ["INSERT INTO t(v) VALUES(1)"]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "rsqlite", "vacuum", three.nodes[1].http_url],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    finally:
        ended.set()
        writer.join()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(ran.stdout.splitlines()) == 3
    assert {status for status, _ in answers} == {200}
    assert not any(b"error" in body for _, body in answers)
    for one in three.nodes:
        vacuum = one.call("GET", "/status?key=store.vacuum")
        assert vacuum["step"] == "done"
        assert vacuum["bytes_after"] < vacuum["bytes_before"] / 10
        one.kill()
        one.start()
    for one in three.nodes:
        one.wait_ready()
    report = node.call("POST", "/verify", timeout_s=30.0)
    assert report["agreed"]
    assert report["complete"]
    found = node.call("GET", "/db/query?level=strong&q=SELECT%20count(*)%20FROM%20t")
    assert found["results"][0]["values"] == [[ROWS // 50 + len(answers)]]
