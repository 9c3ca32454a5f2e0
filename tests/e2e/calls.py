"""Short forms of what the end-to-end tests ask of a node."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from rsqlite.testing.cluster import ProcessCluster, ProcessNode

TIMEOUT_S = 20.0
VERIFY_S = 120


def execute(node: ProcessNode, *statements: Any, flags: str = "") -> list[dict[str, Any]]:
    """The results of a write that must be answered without any error."""
    return _results(node, f"/db/execute?{flags}", statements)


def query(node: ProcessNode, sql: str, *parameters: Any, flags: str = "level=linearizable") -> Any:
    """The rows of a read that must be answered."""
    (result,) = _results(node, f"/db/query?{flags}", [[sql, *parameters]])
    return result.get("values", [])


def _results(node: ProcessNode, path: str, statements: Any) -> list[dict[str, Any]]:
    answer = node.call("POST", path, statements, timeout_s=TIMEOUT_S)
    results: list[dict[str, Any]] = answer["results"]
    assert "error" not in answer, answer
    assert not [one for one in results if "error" in one], answer
    return results


def leader_and_followers(cluster: ProcessCluster) -> tuple[ProcessNode, list[ProcessNode]]:
    """The nodes by their part now; all of them have a leader and have applied what is committed."""
    leader = cluster.leader()
    cluster.wait_applied()
    return cluster.nodes[leader], [node for node in cluster.nodes if node.index != leader]


def term_of(cluster: ProcessCluster) -> int:
    """The highest term of the running nodes."""
    return max(int(node.raft_status()["term"]) for node in cluster.running())


def verify(node: ProcessNode) -> tuple[int, str]:
    """Exit code and output of `rsqlite verify`."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "rsqlite.cli.main",
            "verify",
            node.http_url,
            "--timeout",
            str(VERIFY_S),
        ],
        capture_output=True,
        text=True,
        timeout=2 * VERIFY_S,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr
