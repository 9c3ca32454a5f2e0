"""What one, three and five nodes cost each other: the same work on clusters of each size.

All nodes share this machine, so five of them also have less of it each; on machines of their own
only the messages and the slowest disk of a majority would count.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from bench.generator import Measurement
from bench.harness import QUICK, WARMUP, Extent, measure_workload, own_cluster, prepare_reads
from bench.report import (
    figure_table,
    header,
    measured_json,
    spread,
    steps,
    thousands,
    write_json,
)
from bench.workloads import Workload, workload_named

COUNTS = (1, 3, 5)
BASE_COUNT = 3
"""The ratios are against a cluster of this size in the same round."""
WORKLOADS = (
    "insert-1-leader",
    "insert-64-leader",
    "bulk-1-leader",
    "read-none-64-leader",
    "read-linearizable-64-leader",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="one short round: a look, no figure")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of each workload")
    parser.add_argument("--rounds", type=int, default=3, help="each with fresh clusters")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload on clusters of one size, over all rounds."""

    workload: Workload
    nodes: int
    measurements: Sequence[Measurement]
    ratios: Sequence[float]
    """Requests a second against BASE_COUNT nodes, round by round."""

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "nodes": self.nodes,
            **measured_json(self.measurements),
            "ratio": [round(one, 4) for one in self.ratios],
        }


Found = dict[tuple[Workload, int], list[Measurement]]


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    extent = Extent(arguments.seconds, warmup=WARMUP)
    counts: Sequence[int] = COUNTS
    workloads = [workload_named(name) for name in WORKLOADS]
    if arguments.quick:
        arguments.rounds, extent, counts = 1, QUICK, (1, BASE_COUNT)
        workloads = [one for one in workloads if one.name.startswith("insert-64")]
    found: Found = {}
    with steps(console, arguments.rounds * len(counts) * len(workloads)) as progress:
        for number in range(arguments.rounds):
            # There and back, so that a machine that gets slower is no matter of the order.
            for count in counts if number % 2 == 0 else reversed(counts):
                progress.tell(f"{count} nodes: starting")
                cluster = own_cluster(arguments.option, arguments.directory, arguments.keep, count)
                with cluster as target:
                    prepare_reads(target)
                    for workload in workloads:
                        progress.tell(f"{count} nodes: {workload.name}")
                        measurement = measure_workload(target, workload, extent)
                        found.setdefault((workload, count), []).append(measurement)
                        progress.advance()
    rows = compared(found)
    show(rows, console)
    if arguments.json:
        write_json(arguments.json, {**first, "rows": [row.as_json() for row in rows]})
    return 0


def compared(found: Found) -> list[Row]:
    """A row for each workload and size, with its ratios within the rounds."""
    rows = []
    for (workload, count), measurements in sorted(
        found.items(), key=lambda item: (WORKLOADS.index(item[0][0].name), item[0][1])
    ):
        base = found[workload, BASE_COUNT]
        ratios = [
            one.per_second / other.per_second for one, other in zip(measurements, base, strict=True)
        ]
        rows.append(Row(workload, count, measurements, ratios))
    return rows


def show(rows: Sequence[Row], console: Console) -> None:
    title = f"medians; ratio = requests/s against {BASE_COUNT} nodes within one round"
    table = figure_table(
        title, "workload", "nodes", "requests/s", "p50 ms", "p99 ms", "servers us", "ratio"
    )
    for row in rows:
        cpu = [one.server_cpu_us for one in row.measurements if one.server_cpu_us is not None]
        table.add_row(
            row.workload.name,
            str(row.nodes),
            thousands(median(one.per_second for one in row.measurements)),
            f"{median(one.p50_ms for one in row.measurements):.2f}",
            f"{median(one.p99_ms for one in row.measurements):.1f}",
            f"{median(cpu):.1f}",
            spread(row.ratios),
        )
    console.print(table)
