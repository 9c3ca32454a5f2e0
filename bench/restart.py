"""How long a restart takes at a million rows, beside that of the same nodes without any.

One follower, stopped cleanly, killed, or as after a power cut that took everything its database had
not synced; and all nodes killed at once. Before each stop some single inserts are written, so that
there is something behind the last checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console

from bench.failover import PROBE_TABLE_SQL, probe_until_acknowledged
from bench.generator import WrongAnswer, loop_factory, measure
from bench.harness import Target, call, own_cluster, target_of, wait_everywhere
from bench.report import figure_table, header, spread, steps, write_json
from bench.workloads import BULK_ROWS, Bulks, Inserts
from rsqlite.testing.cluster import ProcessCluster, ProcessNode

Case = Literal["clean", "killed", "power cut", "all killed"]
CASES: tuple[Case, ...] = ("clean", "killed", "power cut", "all killed")
QUICK_CASES: tuple[Case, ...] = ("power cut", "all killed")
WORDS: dict[Case, str] = {
    "clean": "follower, SIGTERM: to ready",
    "killed": "follower, SIGKILL: to ready",
    "power cut": "follower, SIGKILL, WAL lost: to ready",
    "all killed": "all nodes, SIGKILL: to an acknowledged write",
}
GOAL = 2.0
"""At most so many times the restart of the same nodes without rows: it must not grow with them."""
LOOK_PAUSE = 0.005
"""Seconds between two questions: what a restart is known to."""
READY_TIMEOUT = 120.0
TABLE = "bench_restart"
TAIL_TABLE = "bench_restart_tail"
LOAD_CLIENTS = 4
CUT_TRIES = 5
TAIL_CLIENTS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="few rows, once: a look, no figure")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5, help="restarts of each case")
    parser.add_argument(
        "--tail", type=int, default=10_000, metavar="N", help="single inserts before each stop"
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One case: seconds with no rows, and with all of them."""

    case: Case
    empty: Sequence[float]
    full: Sequence[float]

    @property
    def ratio(self) -> float:
        return median(self.full) / median(self.empty)

    @property
    def is_met(self) -> bool:
        return self.ratio <= GOAL

    def as_json(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "what": WORDS[self.case],
            "empty_seconds": [round(one, 4) for one in self.empty],
            "full_seconds": [round(one, 4) for one in self.full],
            "ratio": round(self.ratio, 4),
            "goal": f"<= {GOAL}",
            "is_met": self.is_met,
        }


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    cases = CASES
    if arguments.quick:
        arguments.rows, arguments.repeat, arguments.tail = 20_000, 1, 200
        cases = QUICK_CASES
    seconds: dict[Case, tuple[list[float], list[float]]] = {case: ([], []) for case in cases}
    with (
        steps(console, 2 * arguments.repeat * len(cases)) as progress,
        own_cluster(arguments.option, arguments.directory, arguments.keep) as target,
    ):
        bench = Restarts(target, arguments.tail)
        for which, rows in enumerate((0, arguments.rows)):
            if rows:
                progress.tell(f"writing {rows:,} rows")
                bench.load(rows)
            for _ in range(arguments.repeat):
                for case in cases:
                    progress.tell(f"{case}, {rows:,} rows")
                    seconds[case][which].append(bench.one(case))
                    progress.advance()
        database_bytes = bench.database_bytes()
    rows_ = [Row(case, *seconds[case]) for case in cases]
    show(rows_, arguments.rows, database_bytes, console)
    if arguments.json:
        content = {"rows": [row.as_json() for row in rows_], "table_rows": arguments.rows}
        write_json(arguments.json, {**first, **content, "database_bytes": database_bytes})
    return 1 if arguments.asserts and not all(row.is_met for row in rows_) else 0


class Restarts:
    """One cluster, stopped and started again in every way. After each, all rows are counted.

    A node is ready when `/readyz` says so and it has applied all that it had when it was stopped.
    """

    def __init__(self, target: Target, tail: int) -> None:
        assert target.cluster is not None
        self._cluster: ProcessCluster = target.cluster
        self._tail = tail
        self._rows = {TABLE: 0, TAIL_TABLE: 0}
        creates = [f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)" for table in self._rows]
        call(target.leader, "/db/execute", [*creates, PROBE_TABLE_SQL])

    def load(self, rows: int) -> None:
        """Write the million rows."""
        leader = target_of(self._cluster).leader
        source = Bulks(leader, TABLE)
        requests = -(-rows // BULK_ROWS)
        measure(url=leader, source=source, clients=LOAD_CLIENTS, requests=requests)
        self._rows[TABLE] += source.rows
        self._check()

    def one(self, case: Case) -> float:
        """Seconds that one restart took."""
        self._write_tail()
        if case == "all killed":
            seconds = self._restart_all()
        else:
            target = target_of(self._cluster)
            node = next(one for one in self._cluster.nodes if one.http_url == target.follower)
            self._stop(node, case)
            seconds = restarted(node, self._index)
        self._cluster.wait_ready(READY_TIMEOUT)
        self._check()
        return seconds

    def database_bytes(self) -> int:
        """Of one node."""
        return max(database_path(node).stat().st_size for node in self._cluster.nodes)

    def _write_tail(self) -> None:
        leader = target_of(self._cluster).leader
        source = Inserts(leader, TAIL_TABLE)
        measure(url=leader, source=source, clients=TAIL_CLIENTS, requests=self._tail)
        self._rows[TAIL_TABLE] += source.rows
        self._index = self._cluster.wait_applied(timeout_s=READY_TIMEOUT)

    def _stop(self, node: ProcessNode, case: Case) -> None:
        if case == "clean":
            node.terminate()
        elif case == "killed":
            node.kill()
        else:
            self._cut_power(node)

    def _cut_power(self, node: ProcessNode) -> None:
        """Kill a node, and leave of its database what was synced: the file as the last checkpoint
        left it, and none of the WAL, which SQLite syncs only before the next one."""
        for _ in range(CUT_TRIES):
            status, answer = node.request("POST", "/snapshot", timeout_s=READY_TIMEOUT)
            assert status in (200, 204), answer
            database = database_path(node)
            written_at = database.stat().st_mtime_ns
            self._write_tail()
            node.kill()
            if database.stat().st_mtime_ns == written_at:
                for suffix in ("-wal", "-shm"):
                    database.with_name(database.name + suffix).unlink(missing_ok=True)
                return
            # Another checkpoint had begun: it has synced the WAL and written half of it to the
            # file, and without the WAL that would be no database.
            node.start()
            node.wait_ready(READY_TIMEOUT)
        raise WrongAnswer("there is a checkpoint within each tail: choose a smaller --tail")

    def _restart_all(self) -> float:
        self._cluster.kill_all()
        nodes = self._cluster.nodes

        def start() -> None:
            for node in nodes:
                node.start()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            urls = [node.http_url for node in nodes]
            return runner.run(probe_until_acknowledged(urls, start))

    def _check(self) -> None:
        self._cluster.wait_applied(timeout_s=READY_TIMEOUT)
        for table, rows in self._rows.items():
            wait_everywhere(target_of(self._cluster), table, rows)


def restarted(node: ProcessNode, index: int) -> float:
    """Seconds from the start of the process until it is ready and has applied `index`."""
    begin = time.perf_counter()
    node.start()
    while not (node.is_ready() and int(node.raft_status()["applied_index"]) >= index):
        node.check_alive()
        if time.perf_counter() - begin > READY_TIMEOUT:
            raise WrongAnswer(f"not ready after {READY_TIMEOUT:.0f} s\n{node.log_tail()}")
        time.sleep(LOOK_PAUSE)
    return time.perf_counter() - begin


def database_path(node: ProcessNode) -> Path:
    """The one database that such a node has had."""
    (path,) = node.directory.glob("db/*/main.db")
    return path


def show(rows: Sequence[Row], table_rows: int, database_bytes: int, console: Console) -> None:
    title = f"seconds, {table_rows:,} rows ({database_bytes / 1e6:.0f} MB) beside none"
    table = figure_table(title, "restart of", "no rows", "all rows", "ratio", "goal", "met")
    for row in rows:
        table.add_row(
            WORDS[row.case],
            spread(row.empty, 3),
            spread(row.full, 3),
            f"{row.ratio:.2f}",
            f"<= {GOAL:g}",
            "yes" if row.is_met else "NO",
        )
    console.print(table)
