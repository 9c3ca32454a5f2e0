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
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
REPLICATION_TIMEOUT = 30.0
"""Seconds until a follower that is not ours has what its leader has acknowledged."""
REPLICATION_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of each workload is measured: a time, or a number of answers."""

    seconds: float = math.inf
    requests: int | None = None
    warmup: float = 0.0


QUICK = Extent(requests=50)
"""Enough to see that everything works, on a machine of any speed."""
WARMUP = 0.5


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
        return tuple(node.pid for node in self.cluster.running()) if self.cluster else ()

    def term(self) -> int | None:
        """The cluster's term, when it is ours: an election within a measurement spoils it."""
        if self.cluster is None:
            return None
        return max(int(node.raft_status()["term"]) for node in self.cluster.running())


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
def own_cluster(
    options: Sequence[str],
    parent: Path | None,
    keep: bool,
    count: int = 3,
    prepare: Callable[[ProcessCluster], None] = lambda cluster: None,
) -> Iterator[Target]:
    """Nodes on this machine with an empty database; gone afterwards unless kept. `prepare` is
    called before they start."""
    directory = Path(tempfile.mkdtemp(prefix="rsqlite-bench-", dir=parent))
    try:
        cluster = ProcessCluster(count, directory, list(options))
        prepare(cluster)
        with cluster:
            yield target_of(cluster)
    finally:
        if not keep:
            shutil.rmtree(directory)


def target_of(cluster: ProcessCluster) -> Target:
    """The cluster as it is led now."""
    leader = cluster.leader()
    others = [node.http_url for node in cluster.nodes if node.index != leader]
    return Target(
        cluster.http_url(leader), others[0] if others else None, cluster.directory, cluster
    )


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
    wait_everywhere(target, READ_TABLE, READ_ROWS)


def wait_everywhere(target: Target, table: str, rows: int) -> None:
    """Return when every node that is known has the table with exactly so many rows."""
    if target.cluster is not None:
        target.cluster.wait_applied(timeout_s=CALL_TIMEOUT)
        urls = [node.http_url for node in target.cluster.running()]
    else:
        urls = [url for url in (target.leader, target.follower) if url is not None]
    deadline = time.monotonic() + REPLICATION_TIMEOUT
    for url in urls:
        while (found := counted(url, table, "none")) != rows:
            # A node of ours has applied everything; another server's may come later.
            if target.cluster is not None or time.monotonic() > deadline:
                raise WrongAnswer(f"{table} must have {rows} rows, and has {found} at {url}")
            time.sleep(REPLICATION_PAUSE)


def counted(url: str, table: str, level: str) -> int:
    """How many rows a table has there; -1 while there is no such table."""
    try:
        (result,) = call(url, f"/db/query?level={level}", [f"SELECT count(*) FROM {table}"])
    except WrongAnswer as error:
        if "no such table" in str(error):
            return -1
        raise
    return int(result["values"][0][0])


def prepare_table(target: Target, workload: Workload) -> str:
    """The name of a workload's table: an empty one for writes, on every node."""
    if not workload.is_write:
        return READ_TABLE
    table = f"bench_{workload.kind}_{workload.clients}_{workload.through}"
    create = f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)"
    call(target.leader, "/db/execute", [f"DROP TABLE IF EXISTS {table}", create])
    wait_everywhere(target, table, 0)
    return table


def measure_workload(
    target: Target,
    workload: Workload,
    extent: Extent,
    *,
    report: Callable[[str], None] = lambda text: None,
) -> Measurement:
    """One workload against one target, with a table of its own. WrongAnswer: an answer, the table
    afterwards, or the leader changed meanwhile. The table of the reads must be there
    (`prepare_reads`)."""
    url = target.url(workload)
    assert url is not None
    term = target.term()
    table = prepare_table(target, workload)
    report(workload.name)
    source = source_of(workload, url, table)
    measurement = measure(
        url=url,
        source=source,
        clients=workload.clients,
        warmup=extent.warmup,
        seconds=extent.seconds,
        requests=extent.requests,
        server_pids=target.pids(),
    )
    if isinstance(source, Inserts | Bulks):
        report(f"{workload.name}: counting rows")
        verify_rows(target, table, source.rows)
    if target.term() != term:
        raise WrongAnswer(f"an election took place during {workload.name}")
    return measurement


def verify_rows(target: Target, table: str, rows: int) -> None:
    """Every acknowledged row is there exactly once, and no other. A database that is not ours is
    left without the table."""
    sql = f"SELECT count(*), count(DISTINCT v) FROM {table}"
    (result,) = call(target.leader, "/db/query?level=linearizable", [sql])
    if result["values"] != [[rows, rows]]:
        raise WrongAnswer(
            f"{rows} rows were acknowledged, {table} has {result['values'][0][0]}, "
            f"{result['values'][0][1]} of them distinct"
        )
    if target.cluster is None:
        call(target.leader, "/db/execute", [f"DROP TABLE {table}"])


def drop_reads(target: Target) -> None:
    """Leave nothing behind in a database that is not ours."""
    call(target.leader, "/db/execute", [f"DROP TABLE IF EXISTS {READ_TABLE}"])


@dataclass(slots=True)
class Round:
    """All chosen workloads once, against one target."""

    target: Target
    echo: EchoServer
    extent: Extent
    report: Callable[[str], None]

    def run(self, workload: Workload) -> Observation:
        before = self._floor(workload)
        measurement = measure_workload(self.target, workload, self.extent, report=self.report)
        floor = (before + self._floor(workload)) / 2
        figure = self._figure(workload, measurement)
        return Observation(workload, measurement, figure, floor, figure / floor)

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
                    clients=workload.clients,
                    seconds=self.extent.seconds / 2,
                    warmup=self.extent.warmup / 2,
                )
                return echo.per_second
            case "fdatasync":
                return fdatasync_ms(self.target.directory, seconds=FDATASYNC_SECONDS)
            case "sqlite":
                return sqlite_rows_per_second(self.target.directory)
