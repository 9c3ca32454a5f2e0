"""The table and the JSON: medians of the rounds, and verdicts only where there is a goal."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from bench.generator import Measurement
from bench.harness import Observation
from bench.report import (
    FOREIGN_SYNC,
    figure_table,
    header,
    machine,
    measured_json,
    print_table,
    spread,
    steps,
    summarize,
    summary_json,
    sync_mode,
    write_json,
)
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


def test_figures_begin_with_the_machine_the_load_of_others_and_the_sync_mode() -> None:
    given = ["cost", "--quick"]
    arguments = argparse.Namespace(command="cost", given=given, option=[], url=None)
    told = header(arguments)
    assert told["kind"] == "cost"
    assert told["command"] == ["python", "-m", "bench", "cost", "--quick"]
    assert told["machine"] == machine()
    assert told["load_before"] >= 0
    assert "fdatasync" in told["sync"]
    foreign = argparse.Namespace(command="run", given=given, option=[], url="localhost:4001")
    assert header(foreign)["sync"] == FOREIGN_SYNC


def test_the_sync_mode_is_that_of_the_last_flag() -> None:
    assert "-log-sync auto: " in sync_mode([])
    assert "-log-sync auto: " in sync_mode(["-fk"])
    assert "-log-sync thread)" in sync_mode(["-log-sync=auto", "--log-sync=thread"])


def test_a_spread_is_the_median_between_the_least_and_the_greatest() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2.00 [1.00..3.00]"
    assert spread([3.04], 1) == "3.0 [3.0..3.0]"


def test_what_stands_in_brackets_in_a_title_is_no_markup() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(figure_table("times [lowest..highest] [bold]", "a" * 20, "b" * 20))
    assert "times [lowest..highest] [bold]" in captured.get()


def test_a_bar_counts_its_steps() -> None:
    console = Console(width=120)
    with console.capture() as captured, steps(console, 3) as progress:
        progress.tell("first")
        progress.advance()
        progress.tell("second")
        progress.advance(2)
    assert "second" in captured.get()
    assert "3/3" in captured.get()


def test_every_round_keeps_its_figures() -> None:
    rounds = [one.measurement for one in observations()[:3]]
    told = measured_json(rounds)
    assert told["requests_per_second"] == [2200.0, 2100.0, 500.0]
    assert told["server_cpu_us_per_request"] == [None] * 3
