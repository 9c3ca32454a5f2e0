"""Added network delay: what a round trip between the nodes adds to a request.

The nodes reach each other through `bench/proxy.py` only; clients are beside the node they ask. The
row of 0 ms goes through the proxy as well, and the one before it without, so that the proxy's own
hop is seen.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from bench.generator import Measurement
from bench.harness import (
    QUICK,
    WARMUP,
    Extent,
    Target,
    measure_workload,
    own_cluster,
    prepare_reads,
)
from bench.proxy import DelayProxy, put_before
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
from rsqlite.testing.cluster import ProcessCluster

ROUND_TRIPS_MS = (0.0, 1.0, 10.0, 50.0)
DIRECT = -1.0
"""Stands for no proxy at all."""
WORKLOADS = (
    "insert-1-leader",
    "insert-64-leader",
    "bulk-16-leader",
    "read-linearizable-1-leader",
    "read-linearizable-64-leader",
    "insert-1-follower",
    "read-linearizable-1-follower",
)
GOAL_TRIPS = 1.2
"""Round trips that an insert through the leader may cost: one is what it cannot do without."""
GOAL_WORKLOAD = "insert-1-leader"
GOAL_FROM_MS = 10.0
"""Below it, what is measured is the machine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="one short round: a look, no figure")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of each workload")
    parser.add_argument("--rounds", type=int, default=3, help="each with fresh clusters")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload at one delay, over all rounds."""

    workload: Workload
    round_trip_ms: float
    measurements: Sequence[Measurement]
    trips: Sequence[float]
    """Round by round: how many round trips p50 has more than with 0 ms. Empty where there is no
    delay."""

    @property
    def is_met(self) -> bool:
        """False only where there is a goal, and it is missed."""
        has_goal = self.workload.name == GOAL_WORKLOAD and self.round_trip_ms >= GOAL_FROM_MS
        return not has_goal or median(self.trips) <= GOAL_TRIPS

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "round_trip_ms": None if self.round_trip_ms == DIRECT else self.round_trip_ms,
            **measured_json(self.measurements),
            "round_trips": [round(one, 4) for one in self.trips],
            "is_met": self.is_met,
        }


Found = dict[tuple[Workload, float], list[Measurement]]


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    extent = Extent(arguments.seconds, warmup=WARMUP)
    trips_ms: Sequence[float] = ROUND_TRIPS_MS
    workloads = [workload_named(name) for name in WORKLOADS]
    if arguments.quick:
        arguments.rounds, extent, trips_ms = 1, QUICK, (0.0, 10.0)
        workloads = workloads[:1]
    found: Found = {}
    with steps(console, arguments.rounds * len(workloads) * (1 + len(trips_ms))) as progress:

        def measure(target: Target, trip_ms: float) -> None:
            for workload in workloads:
                progress.tell(f"{name_of(trip_ms)}: {workload.name}")
                measurement = measure_workload(target, workload, extent)
                found.setdefault((workload, trip_ms), []).append(measurement)
                progress.advance()

        for number in range(arguments.rounds):
            with own_cluster(arguments.option, arguments.directory, arguments.keep) as target:
                prepare_reads(target)
                measure(target, DIRECT)
            with delayed_cluster(arguments) as (target, set_round_trip):
                prepare_reads(target)
                for trip_ms in trips_ms if number % 2 == 0 else reversed(trips_ms):
                    set_round_trip(trip_ms / 1e3)
                    measure(target, trip_ms)
    rows = compared(found)
    show(rows, console)
    if arguments.json:
        write_json(arguments.json, {**first, "rows": [row.as_json() for row in rows]})
    return 1 if arguments.asserts and not all(row.is_met for row in rows) else 0


@contextlib.contextmanager
def delayed_cluster(
    arguments: argparse.Namespace,
) -> Iterator[tuple[Target, Callable[[float], None]]]:
    """Nodes of ours that reach each other through the proxy, and how to set its round trip."""
    with contextlib.ExitStack() as stack:
        proxies: list[DelayProxy] = []

        def prepare(cluster: ProcessCluster) -> None:
            targets = [node.raft_addr for node in cluster.nodes]
            proxies.append(stack.enter_context(DelayProxy(targets)))
            put_before(cluster, proxies[0].addresses)

        cluster = own_cluster(
            arguments.option, arguments.directory, arguments.keep, prepare=prepare
        )
        yield stack.enter_context(cluster), proxies[0].set_round_trip


def compared(found: Found) -> list[Row]:
    """A row for each workload and delay, with what the delay added within the rounds."""
    rows = []
    for (workload, trip_ms), measurements in sorted(
        found.items(), key=lambda item: (WORKLOADS.index(item[0][0].name), item[0][1])
    ):
        trips = []
        if trip_ms > 0:
            base = found[workload, 0.0]
            pairs = zip(measurements, base, strict=True)
            trips = [(one.p50_ms - other.p50_ms) / trip_ms for one, other in pairs]
        rows.append(Row(workload, trip_ms, measurements, trips))
    return rows


def name_of(trip_ms: float) -> str:
    return "no proxy" if trip_ms == DIRECT else f"{trip_ms:g} ms"


def show(rows: Sequence[Row], console: Console) -> None:
    title = "medians; round trips = what a request's p50 has more than at 0 ms, in round trips"
    table = figure_table(
        title, "workload", "added", "requests/s", "p50 ms", "p99 ms", "round trips", "goal", "met"
    )
    for row in rows:
        has_goal = row.workload.name == GOAL_WORKLOAD and row.round_trip_ms >= GOAL_FROM_MS
        table.add_row(
            row.workload.name,
            name_of(row.round_trip_ms),
            thousands(median(one.per_second for one in row.measurements)),
            f"{median(one.p50_ms for one in row.measurements):.2f}",
            f"{median(one.p99_ms for one in row.measurements):.1f}",
            spread(row.trips) if row.trips else "",
            f"<= {GOAL_TRIPS}" if has_goal else "",
            ("yes" if row.is_met else "NO") if has_goal else "",
        )
    console.print(table)
