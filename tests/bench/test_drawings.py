"""Every command that measures has a plot, and none imports matplotlib before one is asked for.

The tests of the commands draw what their quick form measured; here is what has no quick form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from matplotlib.figure import Figure

from bench.__main__ import COMMANDS
from bench.drawings import DRAWINGS, bars, dots, draw_delay, draw_failover, draw_run, marks

ROOT = Path(__file__).resolve().parents[2]


def test_every_command_has_a_plot_but_one_that_answers_yes_or_no() -> None:
    assert set(DRAWINGS) == {"run", *COMMANDS} - {"elections"}


@pytest.mark.slow
def test_matplotlib_is_imported_only_for_a_plot() -> None:
    program = "import sys, bench.__main__; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_marks_are_medians_with_the_way_to_the_least_and_the_greatest() -> None:
    assert marks([[1.0, 5.0, 2.0], [3.0]]) == ([2.0, 3.0], [[1.0, 0.0], [3.0, 0.0]])


def test_bars_stand_side_by_side_and_dots_lie_from_the_top_down() -> None:
    left, right = Figure().subplots(1, 2)
    groups = {"one": [[1.0], [2.0]], "two": [[3.0], [4.0]]}
    bars(left, ["a", "b"], groups, "unit")
    assert sorted(round(patch.get_x() * 10) for patch in left.patches) == [-4, 0, 6, 10]
    assert left.get_ylabel() == "unit"
    dots(right, ["a", "b"], groups)
    bottom, top = right.get_ylim()
    assert bottom > top


def test_a_run_shows_each_workload_with_its_ratio() -> None:
    figure = Figure()
    rates = {"insert-1-leader": [900.0, 1000.0, 1100.0], "read-none-1-leader": [5000.0]}
    summary = [
        {"workload": name, "ratio": 1.25, "floor": "echo", "requests_per_second": median(found)}
        for name, found in rates.items()
    ]
    rounds = [
        {"workload": name, "requests_per_second": rate}
        for name, found in rates.items()
        for rate in found
    ]
    draw_run(figure, {"summary": summary, "rounds": rounds})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(rates)
    assert [text.get_text().strip() for text in axes.texts] == ["1.25 x echo"] * 2


def test_a_failover_shows_every_time_and_its_goal() -> None:
    figure = Figure()
    times = {"seconds": [0.2, 0.3], "median": 0.25, "goal": 0.7}
    draw_failover(figure, {"SIGKILL": times, "SIGSTOP": times})
    (axes,) = figure.axes
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert [0.2, 0.3] in drawn
    assert [0.7, 0.7] in drawn


def test_a_delay_that_was_not_there_is_not_drawn() -> None:
    figure = Figure()
    rows = [
        {"workload": "insert-1-leader", "round_trip_ms": trip, "p50_ms": [1.0]}
        for trip in (None, 0.0, 1.0, 10.0)
    ]
    draw_delay(figure, {"rows": rows})
    (axes,) = figure.axes
    assert list(axes.lines[0].get_xdata()) == [0.0, 1.0, 10.0]
