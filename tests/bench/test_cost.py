"""Costs are for so many rows, of each node, and of the time between two checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from bench.cost import UNIT, VALUE_BYTES, WORKLOADS, Sample, as_json
from bench.generator import Measurement
from bench.usage import Usage

MEASUREMENT = Measurement(1, 10, 1.0, 1.0, 2.0, 3.0, 5.0, 20.0, 10)


def test_costs_are_told_for_a_hundred_thousand_rows() -> None:
    followers = [Usage(1.0, 30), Usage(3.0, 10)]
    sample = Sample(UNIT // 10, 1.0, Usage(5.0, 50), followers, 200, MEASUREMENT)
    assert sample.nodes == Usage(9.0, 90)
    assert sample.follower == Usage(2.0, 20)
    row = as_json("insert-1-leader", [sample])
    assert row["leader_cpu_seconds"] == [50.0]
    assert row["follower_cpu_seconds"] == [20.0]
    assert row["nodes_cpu_seconds"] == [90.0]
    assert row["nodes_write_bytes"] == [900.0]
    assert row["device_bytes"] == [2000.0]
    unknown = dataclasses.replace(sample, device_bytes=None)
    assert as_json("insert-1-leader", [unknown])["device_bytes"] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_node_has_its_share_of_the_cost(quick: Callable[..., dict[str, Any]]) -> None:
    figures = quick("cost")
    assert [row["workload"] for row in figures["rows"]] == list(WORKLOADS)
    for row in figures["rows"]:
        (round_,) = row["rounds"]
        assert round_["rows"] >= 500
        device_bytes = round_["device_bytes"]
        assert device_bytes is None or device_bytes > 3 * round_["rows"] * VALUE_BYTES
        for node in (round_["leader"], *round_["followers"]):
            assert node["bytes"] > round_["rows"] * VALUE_BYTES
    assert figures["rows"][0]["nodes_cpu_seconds"][0] > 0
    assert len(figures["idle"][0]["followers"]) == 2
