"""What a benchmark run says in the end: the table for people, the JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.harness import Observation
from bench.workloads import Workload

PACKAGES = ("aiohttp", "apsw", "msgspec", "orjson", "uvloop")


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


def thousands(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(console: Console, summaries: Sequence[Summary]) -> None:
    title = "medians; ratio = figure / floor within one round, [lowest..highest]"
    table = Table(title=title, box=box.SIMPLE)
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
