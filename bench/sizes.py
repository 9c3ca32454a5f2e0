"""Payloads of 10 B to 1 MB: inserts and point reads of one text, beside what the bytes alone cost.

Every answer is checked as in the other workloads; each read must bring back the whole text, and
the table must hold all acknowledged texts with all their bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from rich.console import Console

from bench.floors import EchoServer, fdatasync_ms
from bench.generator import Measurement, Source, WrongAnswer, measure, request_bytes
from bench.harness import (
    FDATASYNC_SECONDS,
    WARMUP,
    Extent,
    Target,
    call,
    own_cluster,
    wait_everywhere,
)
from bench.report import (
    figure_table,
    header,
    measured_json,
    spread,
    steps,
    thousands,
    write_json,
)
from bench.workloads import Exchanges, Inserts

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES, QUICK_EXTENT, QUICK_DISK_SECONDS = (10, 1_000_000), Extent(requests=20), 0.05
READ_BYTES = 16_000_000
"""The texts that are read take so much together, up to READ_ROWS of them."""
READ_ROWS = 1_000
DIGITS = 10
"""A text begins with its number, which keeps it distinct; so it has at least these."""

Operation = Literal["insert-1", "insert-16", "read-none-16"]
OPERATIONS: tuple[Operation, ...] = ("insert-1", "insert-16", "read-none-16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="one short round: a look, no figure")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of each row")
    parser.add_argument("--rounds", type=int, default=3, help="each with a fresh cluster")


@dataclass(frozen=True, slots=True)
class Row:
    """One operation with one size, over all rounds."""

    operation: Operation
    size: int
    measurements: Sequence[Measurement]
    floors: Sequence[float]
    """Milliseconds of an fdatasync for one client that writes; else requests a second of the echo
    with the same body."""

    @property
    def has_disk_floor(self) -> bool:
        return self.operation == "insert-1"

    @property
    def ratios(self) -> list[float]:
        pairs = zip(self.measurements, self.floors, strict=True)
        if self.has_disk_floor:
            return [one.p50_ms / floor for one, floor in pairs]
        return [one.per_second / floor for one, floor in pairs]

    @property
    def megabytes_per_second(self) -> float:
        return median(one.per_second for one in self.measurements) * self.size / 1e6

    def as_json(self) -> dict[str, Any]:
        return {
            "operation": self.operation,
            "payload_bytes": self.size,
            **measured_json(self.measurements),
            "floor": "fdatasync_ms" if self.has_disk_floor else "echo_per_second",
            "floors": [round(one, 4) for one in self.floors],
            "ratio": [round(one, 4) for one in self.ratios],
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """What one round measures with."""

    target: Target
    echo: EchoServer
    extent: Extent
    disk_seconds: float

    def one(self, operation: Operation, size: int) -> tuple[Measurement, float]:
        """One row of one round, with the mean of the floors before and after it."""
        clients = int(operation.rpartition("-")[2])
        table = f"bench_size_{size}_{operation.replace('-', '_')}"
        call(
            self.target.leader, "/db/execute", [f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v)"]
        )
        source: Source
        if operation == "read-none-16":
            source = reads(self.target, table, size)
        else:
            source = inserts(self.target.leader, table, size)
        term = self.target.term()
        before = self._floor(operation, size, clients)
        measurement = measure(
            url=self.target.leader,
            source=source,
            clients=clients,
            seconds=self.extent.seconds,
            warmup=self.extent.warmup,
            requests=self.extent.requests,
            server_pids=self.target.pids(),
        )
        floor = (before + self._floor(operation, size, clients)) / 2
        if isinstance(source, Inserts):
            verify(self.target, table, source.rows, size)
        if self.target.term() != term:
            raise WrongAnswer(f"an election took place during {operation} of {size} bytes")
        call(self.target.leader, "/db/execute", [f"DROP TABLE {table}"])
        return measurement, floor

    def _floor(self, operation: Operation, size: int, clients: int) -> float:
        if operation == "insert-1":
            return fdatasync_ms(self.target.directory, seconds=self.disk_seconds, record_bytes=size)
        return self.echo.measure(
            clients=clients,
            seconds=self.extent.seconds / 2,
            warmup=self.extent.warmup / 2,
            requests=self.extent.requests,
            source=echo_of(self.echo.url, size),
        ).per_second


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    extent = Extent(arguments.seconds, warmup=WARMUP)
    disk_seconds = FDATASYNC_SECONDS
    sizes: Sequence[int] = SIZES
    if arguments.quick:
        arguments.rounds, extent = 1, QUICK_EXTENT
        disk_seconds, sizes = QUICK_DISK_SECONDS, QUICK_SIZES
    found: dict[tuple[Operation, int], list[tuple[Measurement, float]]] = {}
    with (
        steps(console, arguments.rounds * len(sizes) * len(OPERATIONS)) as progress,
        EchoServer() as echo,
    ):
        for number in range(arguments.rounds):
            progress.tell(f"round {number + 1}: starting")
            with own_cluster(arguments.option, arguments.directory, arguments.keep) as target:
                bench = Bench(target, echo, extent, disk_seconds)
                for size in sizes if number % 2 == 0 else reversed(sizes):
                    for operation in OPERATIONS:
                        progress.tell(f"{operation}: {size:,} bytes")
                        found.setdefault((operation, size), []).append(bench.one(operation, size))
                        progress.advance()
    rows = [
        Row(operation, size, *zip(*found[operation, size], strict=True))
        for operation in OPERATIONS
        for size in sizes
    ]
    show(rows, console)
    if arguments.json:
        write_json(arguments.json, {**first, "rows": [row.as_json() for row in rows]})
    return 0


def text_of(number: int, size: int) -> str:
    return f"{number:0{DIGITS}d}" + "x" * (size - DIGITS)


def inserts(url: str, table: str, size: int) -> Inserts:
    return Inserts(url, table, before=b"", after=b"x" * (size - DIGITS))


def reads(target: Target, table: str, size: int) -> Exchanges:
    """Point reads of rows that are put there first, on every node."""
    count = max(1, min(READ_ROWS, READ_BYTES // size))
    for number in range(count):
        insert = [f"INSERT INTO {table} VALUES(?,?)", DIGITS * READ_ROWS + number]
        call(target.leader, "/db/execute", [[*insert, text_of(number, size)]])
    wait_everywhere(target, table, count)
    pairs = []
    for number in range(count):
        body = json.dumps([[f"SELECT v FROM {table} WHERE id=?", DIGITS * READ_ROWS + number]])
        result = {"columns": ["v"], "types": ["text"], "values": [[text_of(number, size)]]}
        wanted = json.dumps({"results": [result]}, separators=(",", ":")).encode()
        request = request_bytes(target.leader, "/db/query?level=none", body.encode())
        pairs.append((request, wanted))
    return Exchanges(pairs)


def echo_of(url: str, size: int) -> Exchanges:
    """The insert's body, there and back."""
    body = json.dumps([["INSERT INTO t(v) VALUES(?)", text_of(0, size)]], separators=(",", ":"))
    return Exchanges([(request_bytes(url, "/echo", body.encode()), body.encode())])


def verify(target: Target, table: str, rows: int, size: int) -> None:
    """All acknowledged texts are there, each once and whole."""
    sql = (
        f"SELECT count(*), count(DISTINCT substr(v,1,{DIGITS})), total(length(v)), "
        f"total(length(replace(v,'x',''))) FROM {table}"
    )
    (result,) = call(target.leader, "/db/query?level=linearizable", [sql])
    wanted = [rows, rows, float(rows * size), float(rows * DIGITS)]
    if result["values"] != [wanted]:
        raise WrongAnswer(f"{table} must count {wanted}, and counts {result['values']}")
    wait_everywhere(target, table, rows)


def show(rows: Sequence[Row], console: Console) -> None:
    title = "medians; floor: fdatasync of as many bytes (ms), or the echo of the same body (per s)"
    table = figure_table(
        title, "operation", "bytes", "requests/s", "MB/s", "p50 ms", "p99 ms", "floor", "ratio"
    )
    for row in rows:
        table.add_row(
            row.operation,
            f"{row.size:,}",
            thousands(median(one.per_second for one in row.measurements)),
            f"{row.megabytes_per_second:.1f}",
            f"{median(one.p50_ms for one in row.measurements):.2f}",
            f"{median(one.p99_ms for one in row.measurements):.1f}",
            thousands(median(row.floors)),
            spread(row.ratios),
        )
    console.print(table)
