"""The table and the JSON: medians of the rounds, and verdicts only where there is a goal."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from bench.generator import Measurement
from bench.harness import Observation
from bench.report import machine, print_table, summarize, summary_json, write_json
from bench.workloads import Goal, Workload

ECHO = Goal("echo", "per_second", 2.0)
REQUIRED = Workload("insert", 256, "leader", ECHO, is_required=True)
SHOWN = Workload("insert", 256, "follower", ECHO, is_required=False)


def observation(workload: Workload, requests: int, floor: float) -> Observation:
    measurement = Measurement(256, requests, 2.0, 1.0, 2.0, 3.0, 6.0, None, requests)
    figure = measurement.per_second
    return Observation(workload, measurement, figure, floor, figure / floor)


def observations() -> list[Observation]:
    return [
        *(observation(REQUIRED, requests, 1000.0) for requests in (4400, 4200, 1000)),
        *(observation(SHOWN, requests, 1000.0) for requests in (1000, 1200, 1400)),
    ]


def test_a_summary_takes_medians_and_keeps_the_spread() -> None:
    required, shown = summarize(observations())
    assert (required.per_second, required.ratio) == (2100.0, 2.1)
    assert (required.ratio_low, required.ratio_high) == (0.5, 2.2)
    assert required.is_met
    assert shown.ratio == 0.6
    assert shown.is_met, "without a goal nothing is missed"


def test_a_missed_goal_is_told() -> None:
    (missed,) = summarize([observation(REQUIRED, 3000, 1000.0)])
    assert not missed.is_met
    assert summary_json(missed)["is_met"] is False
    console = Console(width=150, record=True, quiet=False, file=None)
    with console.capture() as captured:
        print_table(console, [missed])
    assert "insert-256-leader" in captured.get()
    assert "NO" in captured.get()


def test_the_json_names_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "figures.json"
    write_json(file, {"machine": machine()})
    told = json.loads(file.read_text())["machine"]
    assert told["cores"] >= 1
    assert told["packages"]["aiohttp"]
