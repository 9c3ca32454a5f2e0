"""Throughput and p99 minute by minute while ten million rows are written, checkpoints and log cuts
included; and what the nodes hold by then: memory, log, WAL, database."""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from bench.generator import Run, WrongAnswer, loop_factory
from bench.harness import Target, call, own_cluster, wait_everywhere
from bench.report import figure_table, header, steps, thousands, write_json
from bench.slices import Slice
from bench.usage import Sizes, sizes_of
from bench.workloads import Inserts

TABLE = "bench_endurance"
WARMUP = 2.0
GOAL = 0.9
"""The last interval's throughput against that of the second: the first one starts cold."""
LAST_PART = 0.5
"""What is left at the end is the last interval if it is at least this part of a whole one."""
VERIFY_SECONDS = 300
"""Ten million rows are counted and hashed in one read."""
HASH_FACTOR, HASH_MODULUS = 2_654_435_761, 4_294_967_296
GIGABYTE = 1e9
MEGABYTE = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="some seconds: a look, no figure")
    parser.add_argument("--rows", type=int, default=10_000_000, help="to be written, one a request")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--interval", type=float, default=60.0, help="seconds of each line")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the nodes hold at the end of an interval, and how often they have done what costs."""

    nodes: Sequence[Sizes]
    """The leader first."""
    checkpoints: int
    """Of the leader, since it started."""
    log_cuts: int


@dataclass(frozen=True, slots=True)
class Interval:
    """One line."""

    slice: Slice
    sample: Sample

    def as_json(self) -> dict[str, Any]:
        one = self.slice
        return {
            "seconds": round(one.seconds, 3),
            "rows": one.requests,
            "rows_per_second": round(one.per_second, 1),
            "p50_ms": round(one.p50_ms, 4),
            "p99_ms": round(one.p99_ms, 4),
            "max_ms": round(one.max_ms, 4),
            "nodes": [asdict(sizes) for sizes in self.sample.nodes],
            "checkpoints": self.sample.checkpoints,
            "log_cuts": self.sample.log_cuts,
        }


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    if arguments.quick:
        arguments.rows, arguments.interval, arguments.clients = 2_000, 0.3, 16
    # The count at the end reads the whole table at once.
    options = [*arguments.option, f"-read-time-max={VERIFY_SECONDS}s"]
    with (
        steps(console, arguments.rows) as progress,
        own_cluster(options, arguments.directory, arguments.keep) as target,
    ):
        call(target.leader, "/db/execute", [f"CREATE TABLE {TABLE}(id INTEGER PRIMARY KEY, v)"])
        term = target.term()
        progress.tell("writing")
        endurance = Endurance(
            target,
            arguments.clients,
            arguments.rows,
            min(WARMUP, arguments.interval),
            progress.advance,
        )
        intervals = endurance.run(arguments.interval)
        progress.tell("counting rows")
        verify(target, endurance.source.rows)
        if target.term() != term:
            raise WrongAnswer("an election took place meanwhile")
    ratio = kept(intervals, arguments.interval)
    show(intervals, arguments.interval, console)
    is_met = ratio is not None and ratio >= GOAL
    console.print(verdict(ratio), highlight=False)
    if arguments.json:
        lines = [one.as_json() for one in intervals]
        content = {"interval_seconds": arguments.interval, "clients": arguments.clients}
        goal = {"kept": ratio, "goal": GOAL, "is_met": is_met}
        write_json(arguments.json, {**first, **content, "intervals": lines, **goal})
    return 1 if arguments.asserts and not is_met else 0


class Endurance:
    """One run without a pause; at the end of each interval the nodes are looked at."""

    def __init__(
        self,
        target: Target,
        clients: int,
        rows: int,
        warmup: float,
        advance: Callable[[float], None],
    ) -> None:
        self._target = target
        self._warmup = warmup
        self._advance = advance
        self.source = Inserts(target.leader, TABLE)
        self._run = Run(
            url=target.leader,
            source=self.source,
            clients=clients,
            warmup=warmup,
            requests=rows,
            server_pids=target.pids(),
        )
        self._samples: list[Sample] = []

    def run(self, interval: float) -> list[Interval]:
        """Until so many rows are acknowledged."""
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(self._watched(interval))
        marks = self._run.marks
        # The last interval ends where the run does, and its sample is the last one.
        return [
            Interval(self._run.between(begin, end), sample)
            for (begin, end), sample in zip(itertools.pairwise(marks), self._samples, strict=True)
        ]

    async def _watched(self, interval: float) -> None:
        loop = asyncio.get_running_loop()
        measuring = asyncio.create_task(self._run.measure())
        await asyncio.wait([measuring], timeout=self._warmup)
        seen = 0
        while not measuring.done():
            await asyncio.wait([measuring], timeout=interval)
            if not self._run.is_stopping:
                seen = await self._interval_ended(loop, seen)
        await measuring
        self._advance(self._run.marks[-1].answers - seen)
        self._samples.append(sample_of(self._target))

    async def _interval_ended(self, loop: asyncio.AbstractEventLoop, seen: int) -> int:
        mark = self._run.mark()
        # In a thread: the questions take milliseconds, in which 64 clients would wait.
        self._samples.append(await loop.run_in_executor(None, sample_of, self._target))
        self._advance(mark.answers - seen)
        return mark.answers


def sample_of(target: Target) -> Sample:
    cluster = target.cluster
    assert cluster is not None
    nodes = sorted(cluster.nodes, key=lambda node: node.http_url != target.leader)
    counters = nodes[0].call("GET", "/status")["store"]["counters"]
    return Sample(
        nodes=[sizes_of(node.pid, node.directory) for node in nodes],
        checkpoints=counters["machine_checkpoints"],
        log_cuts=counters["log_cuts"],
    )


def verify(target: Target, rows: int) -> None:
    """The table holds every number that was sent once, here by their count and two sums."""
    number = "CAST(substr(v,5,10) AS INTEGER)"
    sql = (
        f"SELECT count(*), sum({number}), sum({number} * {HASH_FACTOR} % {HASH_MODULUS}) "
        f"FROM {TABLE}"
    )
    path = f"/db/query?level=linearizable&timeout={VERIFY_SECONDS}s"
    (result,) = call(target.leader, path, [sql])
    hashes = sum(number * HASH_FACTOR % HASH_MODULUS for number in range(rows))
    wanted = [rows, rows * (rows - 1) // 2, hashes]
    if result["values"] != [wanted]:
        raise WrongAnswer(f"{TABLE} must count {wanted}, and counts {result['values']}")
    wait_everywhere(target, TABLE, rows)


def kept(intervals: Sequence[Interval], seconds: float) -> float | None:
    """The last interval's throughput against that of the second; None of fewer than three."""
    whole = [one for one in intervals if one.slice.seconds >= LAST_PART * seconds]
    if len(whole) < 3:
        return None
    return whole[-1].slice.per_second / whole[1].slice.per_second


def verdict(ratio: float | None) -> str:
    if ratio is None:
        return "too short: there is no last interval to compare with the second"
    sign = "yes" if ratio >= GOAL else "NO"
    return f"last interval / second: {ratio:.3f}, goal >= {GOAL}, met: {sign}"


def show(intervals: Sequence[Interval], seconds: float, console: Console) -> None:
    title = f"intervals of {seconds:g} s; memory, log and WAL of the largest node, in MB"
    table = figure_table(
        title,
        "rows",
        "rows/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "memory",
        "log",
        "WAL",
        "database GB",
        "checkpoints",
        "log cuts",
    )
    rows = 0
    for one in intervals:
        rows += one.slice.requests
        nodes = one.sample.nodes
        table.add_row(
            f"{rows:,}",
            thousands(one.slice.per_second),
            f"{one.slice.p50_ms:.2f}",
            f"{one.slice.p99_ms:.1f}",
            f"{one.slice.max_ms:.0f}",
            f"{max(node.memory_bytes for node in nodes) / MEGABYTE:.0f}",
            f"{max(node.log_bytes for node in nodes) / MEGABYTE:.0f}",
            f"{max(node.wal_bytes for node in nodes) / MEGABYTE:.1f}",
            f"{max(node.database_bytes for node in nodes) / GIGABYTE:.2f}",
            str(one.sample.checkpoints),
            str(one.sample.log_cuts),
        )
    console.print(table)
