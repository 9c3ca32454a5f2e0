"""The same work here and on the servers at --url, in turns: what this does, in times of theirs.

Any server that speaks rqlite's HTTP API. Each workload runs four times in a round, ours, theirs,
theirs, ours (the other way round in every second round), so that a machine that drifts is no
matter; the ratio is of the two means within a round. Answers of both are checked in the same way.
While one is measured the other one idles.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Literal

from rich.console import Console

from bench.generator import Measurement
from bench.harness import (
    QUICK,
    WARMUP,
    Extent,
    Target,
    drop_reads,
    given_servers,
    measure_workload,
    own_cluster,
    prepare_reads,
)
from bench.report import (
    figure_table,
    header,
    measured_json,
    spread,
    steps,
    sync_mode,
    thousands,
    write_json,
)
from bench.workloads import Workload, workloads_matching

Side = Literal["ours", "theirs"]
TURNS: tuple[Side, ...] = ("ours", "theirs", "theirs", "ours")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", required=True, help="theirs: leader[,follower], such as localhost:4001"
    )
    parser.add_argument(
        "--ours", metavar="URL", help="leader[,follower]; default: a cluster that is started"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: a look, no figure")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of each turn")
    parser.add_argument("--rounds", type=int, default=3, help="of four turns for each workload")
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="workloads of that name"
    )
    parser.add_argument(
        "--at-least", type=float, default=2.0, help="the goal of the rows that write; default: 2"
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One workload, over all rounds: two measurements of each side in each of them."""

    workload: Workload
    ours: Sequence[Measurement]
    theirs: Sequence[Measurement]
    at_least: float

    @property
    def ratios(self) -> list[float]:
        """Round by round: our mean in times of theirs."""
        rounds = zip(in_pairs(self.ours), in_pairs(self.theirs), strict=True)
        return [mean(ours) / mean(theirs) for ours, theirs in rounds]

    @property
    def is_met(self) -> bool:
        """False only for a write whose median ratio is below the goal."""
        return not self.workload.is_write or median(self.ratios) >= self.at_least

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "ours": measured_json(self.ours),
            "theirs": measured_json(self.theirs),
            "ratio": [round(one, 4) for one in self.ratios],
            "goal": f">= {self.at_least:g}" if self.workload.is_write else None,
            "is_met": self.is_met,
        }


def in_pairs(measurements: Sequence[Measurement]) -> list[tuple[float, float]]:
    """Requests a second of the two turns of each round."""
    rates = [one.per_second for one in measurements]
    return list(zip(rates[::2], rates[1::2], strict=True))


def turns(number: int) -> Sequence[Side]:
    """Who is measured when in a round."""
    if number % 2 == 0:
        return TURNS
    return ["theirs" if side == "ours" else "ours" for side in TURNS]


def run(arguments: argparse.Namespace, console: Console) -> int:
    first = header(arguments)
    extent = Extent(arguments.seconds, warmup=WARMUP)
    patterns = arguments.only or ["*"]
    if arguments.quick:
        arguments.rounds, extent = 1, QUICK
        patterns = arguments.only or ["insert-16-leader", "read-none-16-leader"]
    with both_sides(arguments) as sides:
        has_follower = all(target.follower for target in sides.values())
        workloads = workloads_matching(patterns, has_follower)
        if not workloads:
            console.print("no workload has such a name; see python -m bench run --list")
            return 2
        found: dict[Workload, dict[Side, list[Measurement]]] = {
            workload: {"ours": [], "theirs": []} for workload in workloads
        }
        with steps(console, arguments.rounds * len(workloads) * len(TURNS)) as progress:
            for number in range(arguments.rounds):
                for workload in workloads:
                    for side in turns(number):
                        progress.tell(f"{workload.name}: {side}")
                        measurement = measure_workload(sides[side], workload, extent)
                        found[workload][side].append(measurement)
                        progress.advance()
    rows = [
        Row(workload, one["ours"], one["theirs"], arguments.at_least)
        for workload, one in found.items()
    ]
    show(rows, console)
    if arguments.json:
        own = sync_mode(arguments.option) if arguments.ours is None else "as they are set"
        content = {"ours_sync": own, "rows": [row.as_json() for row in rows]}
        write_json(arguments.json, {**first, **content})
    return 1 if arguments.asserts and not all(row.is_met for row in rows) else 0


@contextlib.contextmanager
def both_sides(arguments: argparse.Namespace) -> Iterator[dict[Side, Target]]:
    """Ours and theirs, with the table of the reads on both, which is dropped again."""
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(given_servers(arguments.url, arguments.directory))
        ours = stack.enter_context(
            given_servers(arguments.ours, arguments.directory)
            if arguments.ours is not None
            else own_cluster(arguments.option, arguments.directory, arguments.keep)
        )
        sides: dict[Side, Target] = {"ours": ours, "theirs": theirs}
        for target in sides.values():
            prepare_reads(target)
            if target.cluster is None:
                stack.callback(drop_reads, target)
        yield sides


def show(rows: Sequence[Row], console: Console) -> None:
    title = "medians; ratio = ours / theirs in requests/s within one round, [lowest..highest]"
    table = figure_table(
        title,
        *("workload", "ours /s", "theirs /s", "ratio"),
        *("ours p50", "p99 ms", "theirs p50", "p99 ms", "goal", "met"),
    )
    for row in rows:
        latencies = [
            f"{median(getattr(one, name) for one in side):.{digits}f}"
            for side in (row.ours, row.theirs)
            for name, digits in (("p50_ms", 2), ("p99_ms", 1))
        ]
        table.add_row(
            row.workload.name,
            thousands(median(one.per_second for one in row.ours)),
            thousands(median(one.per_second for one in row.theirs)),
            spread(row.ratios),
            *latencies,
            f">= {row.at_least:g}" if row.workload.is_write else "",
            ("yes" if row.is_met else "NO") if row.workload.is_write else "",
        )
    console.print(table)
