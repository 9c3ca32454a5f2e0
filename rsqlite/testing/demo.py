"""`make demo`: three nodes, a killed leader, nothing lost. A line for each step; the exit code says
whether everything held."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rsqlite.testing.cluster import ClusterError, ProcessCluster, wait_for

TIMEOUT_S = 30.0
NAMES = ["fiona", "mary", "declan", "sinéad", "bob"]


def main() -> int:
    """Run the demo; 0 when every step held."""
    with tempfile.TemporaryDirectory(prefix="rsqlite-demo-") as directory:
        cluster = ProcessCluster(3, directory)
        try:
            run(cluster, Path(directory))
        except ClusterError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            for node in cluster.nodes:
                print(node.log_tail(), file=sys.stderr)
            return 1
        finally:
            cluster.close()
    print("everything held")
    return 0


def run(cluster: ProcessCluster, directory: Path) -> None:
    """The steps, in order; ClusterError for the first that does not hold."""
    step("start three nodes", cluster.start, f"in {directory}")
    leader = step("find the leader", cluster.leader, lambda at: name_of(cluster, at))
    followers = cluster.followers()
    first, second = followers
    step(
        "create a table through a follower",
        lambda: execute(cluster, first, "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)"),
        name_of(cluster, first),
    )
    for at, name in zip([first, second, leader], NAMES, strict=False):
        step(
            f"insert {name}",
            partial(insert, cluster, at, name),
            f"through {name_of(cluster, at)}",
        )
    for level in ("none", "weak", "linearizable", "strong"):
        at = second if level != "weak" else first
        step(
            f"read at level {level}",
            partial(read_until, cluster, at, level, NAMES[:3]),
            partial(seen, cluster, at),
        )
    step("kill the leader with SIGKILL", cluster.nodes[leader].kill, name_of(cluster, leader))
    started = time.monotonic()
    step(
        f"insert {NAMES[3]} as soon as somebody leads",
        lambda: insert_again(cluster, first, NAMES[3]),
        lambda _: f"{(time.monotonic() - started) * 1000:.0f} ms after the kill",
    )
    step(f"insert {NAMES[4]}", lambda: insert(cluster, second, NAMES[4]), "one node is still down")
    step("start the killed node again", lambda: revive(cluster, leader), name_of(cluster, leader))
    step("wait until all have applied the same", cluster.wait_applied, lambda at: f"index {at}")
    step("compare the content of all three", lambda: compare(cluster), lambda digest: digest[:16])
    step("stop all nodes", lambda: [node.terminate() for node in cluster.nodes], exit_codes)


def step(
    what: str, act: Callable[[], Any], told: str | Callable[[Any], str] = "", width: int = 46
) -> Any:
    """Do one step and print its line."""
    print(f"{what:<{width}}", end="", flush=True)
    value = act()
    print("ok  ", told(value) if callable(told) else told, flush=True)
    return value


def name_of(cluster: ProcessCluster, at: int) -> str:
    node = cluster.nodes[at]
    return f"node {node.label} ({node.http_addr})"


def seen(cluster: ProcessCluster, at: int, names: list[str]) -> str:
    return f"{', '.join(names)} from {name_of(cluster, at)}"


def execute(cluster: ProcessCluster, at: int, *statement: object) -> dict[str, Any]:
    """One write through node `at`; ClusterError if it or its statement fails."""
    answer: dict[str, Any] = cluster.nodes[at].call("POST", "/db/execute", [list(statement)])
    if "error" in answer or any("error" in one for one in answer["results"]):
        raise ClusterError(f"{statement} answered {answer}")
    return answer


def insert(cluster: ProcessCluster, at: int, name: str) -> None:
    execute(cluster, at, "INSERT INTO people (name) VALUES (?)", name)


def insert_again(cluster: ProcessCluster, at: int, name: str) -> None:
    """Insert until it succeeds. It is idempotent, as a retry must be: an answer that was lost
    does not say whether the row is there."""
    sql = (
        "INSERT INTO people (name)"
        " SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM people WHERE name = ?1)"
    )

    def attempt() -> bool | None:
        try:
            execute(cluster, at, sql, name)
        except (ClusterError, OSError):
            return None
        return True

    wait_for(attempt, TIMEOUT_S, lambda: "a write after the leader was killed")


def read(cluster: ProcessCluster, at: int, level: str) -> list[str]:
    """The names, in the order they were inserted."""
    answer = cluster.nodes[at].call(
        "POST", f"/db/query?level={level}", ["SELECT name FROM people ORDER BY id"]
    )
    (result,) = answer["results"]
    return [row[0] for row in result.get("values", [])]


def read_until(cluster: ProcessCluster, at: int, level: str, expected: list[str]) -> list[str]:
    """A read that must see everything; one at level none may be a moment late."""
    if level == "none":
        return wait_for(
            lambda: names if (names := read(cluster, at, level)) == expected else None,
            TIMEOUT_S,
            lambda: f"{expected} on {name_of(cluster, at)}",
        )
    names = read(cluster, at, level)
    if names != expected:
        raise ClusterError(f"a {level} read saw {names}, not {expected}")
    return names


def revive(cluster: ProcessCluster, at: int) -> None:
    cluster.nodes[at].start()
    cluster.nodes[at].wait_ready(TIMEOUT_S)


def compare(cluster: ProcessCluster) -> str:
    """A digest of what every node holds by itself, which must be the same on all."""
    digests = set()
    for node in cluster.nodes:
        names = read(cluster, node.index, "none")
        if sorted(names) != sorted(NAMES):
            raise ClusterError(f"{name_of(cluster, node.index)} holds {names}")
        content = node.call("POST", "/db/query?level=none", ["SELECT * FROM people ORDER BY id"])
        digests.add(hashlib.sha256(json.dumps(content["results"]).encode()).hexdigest())
    if len(digests) != 1:
        raise ClusterError(f"the nodes hold different content: {sorted(digests)}")
    return digests.pop()


def exit_codes(codes: list[int]) -> str:
    if any(codes):
        raise ClusterError(f"exit codes {codes}")
    return "all with exit code 0"


if __name__ == "__main__":
    sys.exit(main())
