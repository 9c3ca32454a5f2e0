"""A writer that knows nothing but `rsqlite.connect` while leaders are killed and paused.

    python tests/e2e/client_failover.py --kills 10 --pauses 10

Each row has a number of its own, in a table that would take it twice. What was answered with
success must be there exactly once on every node, what was ambiguous at most once, and nothing else.
No other error may reach the writer, and at most one ambiguous answer for each fault.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rsqlite
from rsqlite.testing.cluster import ProcessCluster, wait_until

TIMEOUT_S = 5.0
"""Of a statement; an election takes one, and starting Python on a busy machine a few."""
RECOVERY_S = 30.0
PAUSE_S = (0.5, 8.0)
"""Some end before the writer's patience, and some after."""


@dataclass
class Writer:
    """Writes one row after the other, in a thread, and notes what it is told."""

    url: str
    sure: list[int] = field(default_factory=list)
    maybe: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    longest_s: float = 0.0

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with closing(rsqlite.connect(self.url, timeout=TIMEOUT_S)) as db:
            number = 0
            while not self.stop.is_set():
                number += 1
                started = time.monotonic()
                try:
                    cursor = db.execute("INSERT INTO written VALUES(?)", (number,))
                    assert cursor.rowcount == 1
                except rsqlite.AmbiguousResultError:
                    self.maybe.append(number)
                except Exception as error:  # noqa: BLE001 - none is allowed
                    self.errors.append(f"row {number}: {type(error).__name__}: {error}")
                else:
                    self.sure.append(number)
                self.longest_s = max(self.longest_s, time.monotonic() - started)

    def wait_for_progress(self) -> None:
        """Return when one more row is acknowledged."""
        before = len(self.sure)
        wait_until(lambda: len(self.sure) > before, RECOVERY_S, lambda: f"a row of {self.url}")


def kill_leader(cluster: ProcessCluster, writer: Writer) -> None:
    """The writer must go on with the others; then the node comes back."""
    leader = cluster.nodes[cluster.leader()]
    leader.kill()
    writer.wait_for_progress()
    leader.start()


def pause_leader(cluster: ProcessCluster, seconds: float) -> None:
    """The process keeps its sockets, and says nothing."""
    leader = cluster.nodes[cluster.leader()]
    leader.pause()
    time.sleep(seconds)
    leader.resume()


def problems_of(writer: Writer, rows: list[int]) -> list[str]:
    """What one node holds against what the writer was told."""
    counts = Counter(rows)
    sure, maybe = set(writer.sure), set(writer.maybe)
    return [
        *(f"row {number} is lost" for number in sorted(sure - counts.keys())),
        *(f"row {number} is there {count} times" for number, count in counts.items() if count > 1),
        *(f"row {number} is nobody's" for number in sorted(counts.keys() - sure - maybe)),
    ]


def run(directory: Path, kills: int, pauses: int, seed: int) -> dict[str, Any]:
    """Faults in a random order under one writer, and what came of it."""
    chance = random.Random(seed)
    faults = ["kill"] * kills + ["pause"] * pauses
    chance.shuffle(faults)
    problems: list[str] = []
    with ProcessCluster(3, directory) as cluster:
        with closing(rsqlite.connect(cluster.url)) as db:
            db.execute("CREATE TABLE written(n)")
        writer = Writer(cluster.url)
        writer.thread.start()
        try:
            for fault in faults:
                writer.wait_for_progress()
                before = len(writer.maybe)
                if fault == "kill":
                    kill_leader(cluster, writer)
                else:
                    pause_leader(cluster, chance.uniform(*PAUSE_S))
                cluster.wait_ready()
                writer.wait_for_progress()
                if len(writer.maybe) - before > 1:
                    problems.append(f"{len(writer.maybe) - before} ambiguous rows at one {fault}")
        finally:
            writer.stop.set()
            writer.thread.join()
        problems += writer.errors
        cluster.wait_applied()
        for node in cluster.nodes:
            with closing(rsqlite.connect(node.url, read="none")) as db:
                rows = [row[0] for row in db.execute("SELECT n FROM written")]
            problems += [f"node {node.index}: {problem}" for problem in problems_of(writer, rows)]
    return {
        "seed": seed,
        "kills": kills,
        "pauses": pauses,
        "acknowledged": len(writer.sure),
        "ambiguous": len(writer.maybe),
        "longest_statement_s": round(writer.longest_s, 2),
        "problems": problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pauses", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = run(Path(directory), arguments.kills, arguments.pauses, arguments.seed)
    print(json.dumps(found, indent=2))
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
