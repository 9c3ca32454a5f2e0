"""Clusters of one, three and five nodes do the same work, and are compared within a round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.generator import Measurement
from bench.nodes import BASE_COUNT, compared
from bench.workloads import workload_named


def measurement(per_second: float) -> Measurement:
    return Measurement(1, int(per_second), 1.0, 1.0, 2.0, 3.0, 5.0, 20.0, int(per_second))


def test_ratios_are_against_three_nodes_in_the_same_round() -> None:
    one, many = workload_named("insert-1-leader"), workload_named("insert-64-leader")
    rows = compared(
        {
            (many, 3): [measurement(1000), measurement(3000)],
            (one, 5): [measurement(50), measurement(300)],
            (one, 3): [measurement(100), measurement(400)],
        }
    )
    assert [(row.workload, row.nodes) for row in rows] == [(one, 3), (one, 5), (many, 3)]
    assert [row.ratios for row in rows] == [[1.0, 1.0], [0.5, 0.75], [1.0, 1.0]]
    assert rows[1].as_json()["ratio"] == [0.5, 0.75]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_work_is_done_on_clusters_of_several_sizes(
    quick: Callable[..., dict[str, Any]],
) -> None:
    rows = quick("nodes")["rows"]
    assert [row["nodes"] for row in rows] == [1, BASE_COUNT]
    assert all(row["requests_per_second"][0] > 0 for row in rows)
