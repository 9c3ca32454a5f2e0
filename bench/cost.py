"""What 100,000 writes cost: CPU seconds of each node, and bytes written to the disk by all of them.

Counted from one checkpoint of every node to the next, and with everything on the disk, so that
what a write causes later is in it: its pages in the WAL and in the database file, beside the log's.
The disk's count has in it what others write there: an idle cluster tells how much that is, and what
time alone costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from bench.generator import Measurement, WrongAnswer, measure
from bench.harness import (
    CALL_TIMEOUT,
    Target,
    own_cluster,
    prepare_table,
    verify_rows,
    wait_everywhere,
)
from bench.report import figure_table, header, measured_json, spread, steps, write_json
from bench.usage import Usage, device_written_bytes, usage_of
from bench.workloads import Bulks, Inserts, Workload, source_of, workload_named

UNIT = 100_000
"""Writes that the figures are for."""
WORKLOADS = ("insert-1-leader", "insert-64-leader", "bulk-1-leader")
BULK_FACTOR = 10
"""So many times more rows in bulk: UNIT of them is a third of a second."""
IDLE_SECONDS = 10.0
VALUE_BYTES = 25
"""What a row of these workloads holds."""
MEGABYTE = 1e6
SNAPSHOT_MADE = (200, 204)
"""204: there was nothing to bring there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="few writes: a look, no figure")
    parser.add_argument("--writes", type=int, default=UNIT, help="of each workload, at least")
    parser.add_argument("--rounds", type=int, default=3, help="each with a fresh cluster")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one stretch of time cost the nodes: a workload in one round, or nothing."""

    rows: int
    seconds: float
    leader: Usage
    followers: Sequence[Usage]
    device_bytes: int | None
    """What the disk under all nodes got, if it counts that."""
    measurement: Measurement | None = None

    @property
    def nodes(self) -> Usage:
        """All together."""
        return sum(self.followers, self.leader)

    @property
    def follower(self) -> Usage:
        """The mean of them."""
        count = len(self.followers)
        together = sum(self.followers, Usage(0.0, 0))
        return Usage(together.cpu_seconds / count, together.written_bytes // count)

    def for_unit(self, value: float) -> float:
        return value * UNIT / self.rows


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    idle_seconds = IDLE_SECONDS
    if arguments.quick:
        arguments.rounds, arguments.writes, idle_seconds = 1, 500, 0.5
    found: dict[str, list[Sample]] = {}
    idle: list[Sample] = []
    with steps(console, arguments.rounds * (len(WORKLOADS) + 1)) as progress:
        for number in range(arguments.rounds):
            progress.tell(f"round {number + 1}: starting")
            with own_cluster(arguments.option, arguments.directory, arguments.keep) as target:
                progress.tell("idle")
                idle.append(cost_of(target, lambda: time.sleep(idle_seconds)))
                progress.advance()
                for name in WORKLOADS:
                    progress.tell(name)
                    sample = cost_of_writes(target, workload_named(name), arguments.writes)
                    found.setdefault(name, []).append(sample)
                    progress.advance()
    show(found, idle, console)
    if arguments.json:
        rows = [as_json(name, samples) for name, samples in found.items()]
        content = {"unit": UNIT, "rows": rows, "idle": [sample_json(one) for one in idle]}
        write_json(arguments.json, {**first, **content})
    return 0


def cost_of_writes(target: Target, workload: Workload, writes: int) -> Sample:
    """At least so many rows through the leader; the table is counted when the cost is known."""
    table = prepare_table(target, workload)
    source = source_of(workload, target.leader, table)
    assert isinstance(source, Inserts | Bulks)
    rows = writes * (BULK_FACTOR if workload.kind == "bulk" else 1)
    measurements: list[Measurement] = []

    def write() -> None:
        measurements.append(
            measure(
                url=target.leader,
                source=source,
                clients=workload.clients,
                requests=rows // workload.rows_per_request,
                server_pids=target.pids(),
            )
        )

    cost = cost_of(target, write)
    verify_rows(target, table, source.rows)
    wait_everywhere(target, table, source.rows)
    return dataclasses.replace(cost, rows=source.rows, measurement=measurements[0])


def cost_of(target: Target, work: Callable[[], None]) -> Sample:
    """What the nodes use between two checkpoints of all of them with `work` in between."""
    term = target.term()
    before, device_before = settled(target)
    begin = time.perf_counter()
    work()
    after, device_after = settled(target)
    seconds = time.perf_counter() - begin
    if target.term() != term:
        raise WrongAnswer("an election took place meanwhile")
    spent = {url: usage - before[url] for url, usage in after.items()}
    leader = spent.pop(target.leader)
    device_bytes = None
    if device_before is not None and device_after is not None:
        device_bytes = device_after - device_before
    return Sample(0, seconds, leader, list(spent.values()), device_bytes)


def settled(target: Target) -> tuple[dict[str, Usage], int | None]:
    """What each node has used, by its URL, and what the disk got: once all of them have brought all
    they know into their files, and the kernel has brought that to the disk."""
    cluster = target.cluster
    assert cluster is not None
    cluster.wait_applied(timeout_s=CALL_TIMEOUT)
    for node in cluster.nodes:
        status, answer = node.request("POST", "/snapshot", timeout_s=CALL_TIMEOUT)
        if status not in SNAPSHOT_MADE:
            raise WrongAnswer(f"/snapshot answered {status}: {answer!r}")
    usages = {node.http_url: usage_of(node.pid) for node in cluster.nodes}
    os.sync()
    return usages, device_written_bytes(target.directory)


def sample_json(one: Sample) -> dict[str, Any]:
    return {
        "rows": one.rows,
        "seconds": round(one.seconds, 3),
        "device_bytes": one.device_bytes,
        "leader": {"cpu_seconds": one.leader.cpu_seconds, "bytes": one.leader.written_bytes},
        "followers": [
            {"cpu_seconds": usage.cpu_seconds, "bytes": usage.written_bytes}
            for usage in one.followers
        ],
    }


def as_json(name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    measurements = [one.measurement for one in samples if one.measurement is not None]
    return {
        "workload": name,
        **measured_json(measurements),
        "rounds": [sample_json(one) for one in samples],
        "leader_cpu_seconds": [one.for_unit(one.leader.cpu_seconds) for one in samples],
        "follower_cpu_seconds": [one.for_unit(one.follower.cpu_seconds) for one in samples],
        "nodes_cpu_seconds": [one.for_unit(one.nodes.cpu_seconds) for one in samples],
        "nodes_write_bytes": [one.for_unit(one.nodes.written_bytes) for one in samples],
        "device_bytes": device_for_unit(samples),
    }


def device_for_unit(samples: Sequence[Sample]) -> list[float]:
    """Of the rounds in which the disk's count is known."""
    return [one.for_unit(one.device_bytes) for one in samples if one.device_bytes is not None]


def show(found: dict[str, list[Sample]], idle: Sequence[Sample], console: Console) -> None:
    title = f"for {UNIT:,} rows; medians of the rounds, [lowest..highest]"
    table = figure_table(
        title,
        "workload",
        "CPU s, all nodes",
        "leader",
        "a follower",
        "MB to the disk",
        "times the values",
        "MB by write_bytes",
    )
    for name, samples in found.items():
        device = [one / MEGABYTE for one in device_for_unit(samples)]
        values = UNIT * VALUE_BYTES * (1 + len(samples[0].followers)) / MEGABYTE
        written = median(one.for_unit(one.nodes.written_bytes) for one in samples)
        table.add_row(
            name,
            spread([one.for_unit(one.nodes.cpu_seconds) for one in samples]),
            f"{median(one.for_unit(one.leader.cpu_seconds) for one in samples):.2f}",
            f"{median(one.for_unit(one.follower.cpu_seconds) for one in samples):.2f}",
            spread(device, 1) if device else "",
            f"{median(device) / values:.1f}" if device else "",
            f"{written / MEGABYTE:.1f}",
        )
    console.print(table)
    cpu = median(one.nodes.cpu_seconds / one.seconds for one in idle)
    words = f"idle, all nodes: {cpu * 1e3:.1f} ms of CPU each second"
    devices = [one.device_bytes / one.seconds for one in idle if one.device_bytes is not None]
    if devices:
        words += f"; to the disk, from anybody: {median(devices) / 1e3:.1f} kB each second"
    console.print(words, highlight=False)
