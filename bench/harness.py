"""Runs workloads against a cluster, with their floors before and after each one.

The cluster is either our own (three `rsqlited` processes with default settings, a fresh one for
each round) or whatever answers rqlite's API at the given URLs. A workload's ratio is taken within
its round, against the mean of the two floors around it, because a shared machine drifts by more
than what is to be seen.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.floors import EchoServer, fdatasync_ms, sqlite_rows_per_second
from bench.generator import Measurement, WrongAnswer, measure
from bench.workloads import READ_FIRST_ID, READ_ROWS, Bulks, Inserts, Workload, read_row, source_of
from rsqlite.testing.cluster import ProcessCluster

READ_TABLE = "bench_reads"
CALL_TIMEOUT = 120.0
"""Seconds for a request of the harness itself: counting a million rows takes a while."""
FDATASYNC_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured."""

    leader: str
    follower: str | None
    directory: Path
    """On the disk that the floors use; the data is here when the cluster is ours."""
    cluster: ProcessCluster | None = None

    def url(self, workload: Workload) -> str | None:
        return self.leader if workload.through == "leader" else self.follower

    def pids(self) -> tuple[int, ...]:
        return tuple(node.pid for node in self.cluster.nodes) if self.cluster else ()

    def term(self) -> int | None:
        """The cluster's term, when it is ours: an election within a measurement spoils it."""
        if self.cluster is None:
            return None
        return max(int(node.raft_status()["term"]) for node in self.cluster.nodes)


@dataclass(slots=True)
class Observation:
    """One workload in one round."""

    workload: Workload
    measurement: Measurement
    figure: float
    floor: float
    ratio: float

    def as_json(self) -> dict[str, Any]:
        one = self.measurement
        return {
            "workload": self.workload.name,
            "clients": one.clients,
            "requests": one.requests,
            "seconds": round(one.seconds, 4),
            "requests_per_second": round(one.per_second, 1),
            "rows_per_second": round(one.per_second * self.workload.rows_per_request, 1),
            "p50_ms": round(one.p50_ms, 4),
            "p99_ms": round(one.p99_ms, 4),
            "max_ms": round(one.max_ms, 4),
            "generator_cpu_us_per_request": round(one.generator_cpu_us, 2),
            "server_cpu_us_per_request": None
            if one.server_cpu_us is None
            else round(one.server_cpu_us, 2),
            "floor": self.workload.goal.floor,
            "floor_figure": round(self.floor, 4),
            "ratio": round(self.ratio, 4),
        }


@contextlib.contextmanager
def own_cluster(options: Sequence[str], parent: Path | None, keep: bool) -> Iterator[Target]:
    """Three nodes on this machine with an empty database; gone afterwards unless kept."""
    directory = Path(tempfile.mkdtemp(prefix="rsqlite-bench-", dir=parent))
    try:
        with ProcessCluster(3, directory, list(options)) as cluster:
            leader = cluster.leader()
            follower = next(node.index for node in cluster.nodes if node.index != leader)
            yield Target(cluster.http_url(leader), cluster.http_url(follower), directory, cluster)
    finally:
        if not keep:
            shutil.rmtree(directory)


@contextlib.contextmanager
def given_servers(urls: str, parent: Path | None) -> Iterator[Target]:
    """The servers at `leader[,follower]`; the floors use a temporary directory of this machine."""
    addresses = [part if "//" in part else f"http://{part}" for part in urls.split(",")]
    with tempfile.TemporaryDirectory(prefix="rsqlite-bench-", dir=parent) as directory:
        follower = addresses[1] if len(addresses) > 1 else None
        yield Target(addresses[0], follower, Path(directory))


def call(url: str, path: str, statements: object) -> list[dict[str, Any]]:
    """The results of one request of the harness; raises WrongAnswer for anything but success."""
    parts = urlsplit(url)
    with contextlib.closing(
        http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CALL_TIMEOUT)
    ) as connection:
        body = json.dumps(statements).encode()
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    if answer.status != 200:
        raise WrongAnswer(f"{path} answered {answer.status}: {content[:400]!r}")
    parsed = json.loads(content)
    results: list[dict[str, Any]] = parsed.get("results", [])
    if "error" in parsed or any("error" in result for result in results):
        raise WrongAnswer(f"{path} answered {content[:400]!r}")
    return results


def prepare_reads(target: Target) -> None:
    """Make the table of the read workloads, and have it on every node."""
    create = (
        f"CREATE TABLE {READ_TABLE}"
        "(id INTEGER PRIMARY KEY, name TEXT, share REAL, amount INTEGER, note TEXT)"
    )
    call(target.leader, "/db/execute", [f"DROP TABLE IF EXISTS {READ_TABLE}", create])
    numbers = range(READ_FIRST_ID, READ_FIRST_ID + READ_ROWS)
    insert = f"INSERT INTO {READ_TABLE} VALUES(?,?,?,?,?)"
    rows = [[insert, *read_row(number)] for number in numbers]
    call(target.leader, "/db/execute?transaction", rows)
    if target.cluster is not None:
        target.cluster.wait_applied()


@dataclass(slots=True)
class Round:
    """All chosen workloads once, against one target."""

    target: Target
    echo: EchoServer
    seconds: float
    warmup: float
    report: Callable[[str], None]
    observations: list[Observation] = field(default_factory=list)

    def clean(self) -> None:
        """Leave nothing behind in a database that is not ours."""
        call(self.target.leader, "/db/execute", [f"DROP TABLE IF EXISTS {READ_TABLE}"])

    def run(self, workload: Workload) -> Observation:
        url = self.target.url(workload)
        assert url is not None
        table = f"bench_{workload.kind}_{workload.clients}_{workload.through}"
        writes = workload.kind in ("insert", "bulk")
        if writes:
            create = f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)"
            call(self.target.leader, "/db/execute", [f"DROP TABLE IF EXISTS {table}", create])
            if self.target.cluster is not None:
                self.target.cluster.wait_applied()
        else:
            table = READ_TABLE
        term = self.target.term()
        before = self._floor(workload)
        self.report(f"{workload.name}")
        source = source_of(workload, url, table)
        measurement = measure(
            url=url,
            source=source,
            clients=workload.clients,
            seconds=self.seconds,
            warmup=self.warmup,
            server_pids=self.target.pids(),
        )
        if isinstance(source, Inserts | Bulks):
            self.report(f"{workload.name}: counting rows")
            self._verify(table, source.rows)
        floor = (before + self._floor(workload)) / 2
        if self.target.term() != term:
            raise WrongAnswer(f"an election took place during {workload.name}")
        figure = self._figure(workload, measurement)
        observation = Observation(workload, measurement, figure, floor, figure / floor)
        self.observations.append(observation)
        return observation

    def _verify(self, table: str, rows: int) -> None:
        """Every acknowledged row is there exactly once, and no other."""
        sql = f"SELECT count(*), count(DISTINCT v) FROM {table}"
        (result,) = call(self.target.leader, "/db/query?level=linearizable", [sql])
        if result["values"] != [[rows, rows]]:
            raise WrongAnswer(
                f"{rows} rows were acknowledged, {table} has {result['values'][0][0]}, "
                f"{result['values'][0][1]} of them distinct"
            )
        if self.target.cluster is None:
            call(self.target.leader, "/db/execute", [f"DROP TABLE {table}"])

    def _figure(self, workload: Workload, measurement: Measurement) -> float:
        match workload.goal.figure:
            case "per_second":
                return measurement.per_second
            case "p50_ms":
                return measurement.p50_ms
            case "rows_per_second":
                return measurement.per_second * workload.rows_per_request

    def _floor(self, workload: Workload) -> float:
        self.report(f"{workload.name}: floor {workload.goal.floor}")
        match workload.goal.floor:
            case "echo":
                echo = self.echo.measure(
                    clients=workload.clients, seconds=self.seconds / 2, warmup=self.warmup / 2
                )
                return echo.per_second
            case "fdatasync":
                return fdatasync_ms(self.target.directory, seconds=FDATASYNC_SECONDS)
            case "sqlite":
                return sqlite_rows_per_second(self.target.directory)
