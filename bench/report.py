"""What a benchmark run says in the end: the table for people, the JSON for machines."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from bench.generator import Measurement
from bench.harness import Observation
from bench.workloads import Workload
from rsqlite.storage.kernelsync import KernelSync

PACKAGES = ("aiohttp", "apsw", "msgspec", "orjson", "uvloop")
LOG_SYNC = "log-sync="
FOREIGN_SYNC = "as the servers at --url are set"


@dataclass(frozen=True, slots=True)
class Summary:
    """One workload over all rounds: medians, and the spread of the ratio."""

    workload: Workload
    per_second: float
    p50_ms: float
    p99_ms: float
    floor: float
    ratio: float
    ratio_low: float
    ratio_high: float
    generator_cpu_us: float
    server_cpu_us: float | None

    @property
    def is_met(self) -> bool:
        """False only for a goal that is required and missed."""
        return not self.workload.is_required or self.workload.goal.is_met(self.ratio)


def summarize(observations: Sequence[Observation]) -> list[Summary]:
    """A summary for each workload, in the order in which they were first measured."""
    found = []
    for workload in dict.fromkeys(one.workload for one in observations):
        mine = [one for one in observations if one.workload == workload]
        ratios = sorted(one.ratio for one in mine)
        servers = [cpu for one in mine if (cpu := one.measurement.server_cpu_us) is not None]
        found.append(
            Summary(
                workload=workload,
                per_second=median(one.measurement.per_second for one in mine),
                p50_ms=median(one.measurement.p50_ms for one in mine),
                p99_ms=median(one.measurement.p99_ms for one in mine),
                floor=median(one.floor for one in mine),
                ratio=median(ratios),
                ratio_low=ratios[0],
                ratio_high=ratios[-1],
                generator_cpu_us=median(one.measurement.generator_cpu_us for one in mine),
                server_cpu_us=median(servers) if servers else None,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Steps:
    """A progress bar. Nothing is drawn while something is measured: only these calls draw."""

    _progress: Progress
    _task: TaskID

    def tell(self, text: str) -> None:
        self._progress.update(self._task, description=text)
        self._progress.refresh()

    def advance(self, count: float = 1) -> None:
        self._progress.advance(self._task, count)
        self._progress.refresh()


@contextlib.contextmanager
def steps(console: Console, total: float) -> Iterator[Steps]:
    """A bar of so many steps while the block runs."""
    progress = Progress(
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
    )
    with progress:
        yield Steps(progress, progress.add_task("", total=total))


def figure_table(title: str, *columns: str, texts: int = 1) -> Table:
    """An empty table whose first `texts` columns hold words, and the others figures."""
    table = Table(title=escape(title), box=box.SIMPLE)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < texts else "right", no_wrap=True)
    return table


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the least and the greatest."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}..{high:.{digits}f}]"


def thousands(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(console: Console, summaries: Sequence[Summary]) -> None:
    title = "medians; ratio = figure / floor within one round, [lowest..highest]"
    table = Table(title=escape(title), box=box.SIMPLE)
    for column in ("workload", "requests/s", "rows/s", "p50 ms", "p99 ms", "floor", "ratio"):
        is_text = column == "workload"
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    for column in ("goal", "met"):
        table.add_column(column, no_wrap=True)
    # Microseconds of CPU per request: of the servers' processes together, and of this one.
    for column in ("servers", "generator"):
        table.add_column(f"{column} us", justify="right", no_wrap=True)
    for one in summaries:
        workload = one.workload
        verdict = ("yes" if one.is_met else "NO") if workload.is_required else ""
        rows = one.per_second * workload.rows_per_request
        table.add_row(
            workload.name,
            thousands(one.per_second),
            thousands(rows) if workload.rows_per_request > 1 else "",
            f"{one.p50_ms:.2f}",
            f"{one.p99_ms:.2f}",
            f"{workload.goal.floor} {thousands(one.floor)}",
            f"{one.ratio:.2f} [{one.ratio_low:.2f}..{one.ratio_high:.2f}]",
            str(workload.goal) if workload.is_required else "",
            verdict,
            "" if one.server_cpu_us is None else f"{one.server_cpu_us:.1f}",
            f"{one.generator_cpu_us:.1f}",
        )
    console.print(table)


def header(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every file of figures begins with. Take it before anything is measured: the load that
    it tells is that of others."""
    is_foreign = getattr(arguments, "url", None) is not None
    return {
        "kind": arguments.command,
        "command": ["python", "-m", "bench", *arguments.given],
        "machine": machine(),
        "load_before": round(os.getloadavg()[0], 2),
        "sync": FOREIGN_SYNC if is_foreign else sync_mode(arguments.option),
    }


def sync_mode(options: Sequence[str]) -> str:
    """How nodes of ours with these flags make a write durable on this machine."""
    chosen = [one.partition(LOG_SYNC)[2] for one in options if LOG_SYNC in one]
    how = chosen[-1] if chosen else "auto"
    if how == "auto":
        kernel = KernelSync.open()
        how = "auto: a thread" if kernel is None else "auto: the kernel's asynchronous I/O"
        if kernel is not None:
            kernel.close()
    return (
        f"fdatasync of the log on a majority before each answer (-log-sync {how}), "
        "SQLite WAL with synchronous=NORMAL"
    )


def measured_json(measurements: Sequence[Measurement]) -> dict[str, list[float | None]]:
    """The same work in several rounds: a list for each figure."""
    return {
        "requests_per_second": [round(one.per_second, 1) for one in measurements],
        "p50_ms": [round(one.p50_ms, 4) for one in measurements],
        "p99_ms": [round(one.p99_ms, 4) for one in measurements],
        "max_ms": [round(one.max_ms, 4) for one in measurements],
        "server_cpu_us_per_request": [one.server_cpu_us for one in measurements],
        "generator_cpu_us_per_request": [round(one.generator_cpu_us, 2) for one in measurements],
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = lines[0].partition(":")[2].strip() if lines else processor
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def summary_json(one: Summary) -> dict[str, Any]:
    goal = one.workload.goal
    return {
        "workload": one.workload.name,
        "requests_per_second": round(one.per_second, 1),
        "rows_per_second": round(one.per_second * one.workload.rows_per_request, 1),
        "p50_ms": round(one.p50_ms, 4),
        "p99_ms": round(one.p99_ms, 4),
        "floor": goal.floor,
        "floor_figure": round(one.floor, 4),
        "ratio": round(one.ratio, 4),
        "ratio_spread": [round(one.ratio_low, 4), round(one.ratio_high, 4)],
        "goal": str(goal) if one.workload.is_required else None,
        "is_met": one.is_met if one.workload.is_required else None,
        "server_cpu_us_per_request": one.server_cpu_us,
        "generator_cpu_us_per_request": round(one.generator_cpu_us, 2),
    }
