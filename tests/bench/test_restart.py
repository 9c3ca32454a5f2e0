"""Restarts with rows are compared with those of the same nodes without any; no row is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.restart import CASES, GOAL, QUICK_CASES, WORDS, Row


def test_a_restart_that_grows_with_the_rows_misses_the_goal() -> None:
    assert Row("killed", [1.0, 9.0, 2.0], [GOAL * 2.0, 0.1, 99.0]).is_met
    assert not Row("killed", [2.0], [GOAL * 2.1]).is_met
    assert Row("killed", [2.0], [1.0]).as_json()["ratio"] == 0.5


def test_every_case_says_what_it_measures() -> None:
    assert set(WORDS) == set(CASES)
    assert set(QUICK_CASES) < set(CASES)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nodes_are_restarted_without_and_with_rows(quick: Callable[..., dict[str, Any]]) -> None:
    figures = quick("restart", is_patient=False)
    assert [row["case"] for row in figures["rows"]] == list(QUICK_CASES)
    assert all(
        row["empty_seconds"][0] > 0 and row["full_seconds"][0] > 0 for row in figures["rows"]
    )
    assert figures["database_bytes"] > 500_000
