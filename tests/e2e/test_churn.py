"""The acceptance of membership, once and short: the whole of it is `make accept RUN=churn`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.e2e.churn import Churn
from tests.e2e.history import History
from tests.e2e.pulse import Pulse

OPERATIONS = (
    "add a voter",
    "remove the leader",
    "hand over to a named node",
    "refuse what leaves no majority",
    "replace, and a fault in it",
)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_members_come_go_and_are_replaced_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    found = Churn(0.0, 3, tmp_path).run(OPERATIONS, is_timed=False)
    assert found["problems"] == []
    assert [step["name"] for step in found["steps"]] == list(OPERATIONS)
    assert found["beats"] > 50
    assert found["registers"] > 0


def test_the_pulse_tells_the_longest_gap_and_who_leads() -> None:
    pulse = Pulse(Api([]), History(), [0], 1)
    pulse.acknowledged_s = [1.0, 1.1, 1.9, 2.0, 2.1]
    assert pulse.longest_gap_s(1.0, 2.2) == pytest.approx(0.8)
    assert pulse.longest_gap_s(1.95, 2.05) == pytest.approx(0.1), "the gap it lies in counts"
    assert pulse.longest_gap_s(2.0, 5.0) == pytest.approx(2.9), "one that goes on counts"
    pulse.leads = [(1.0, True), (1.1, False), (1.2, False), (1.4, True), (2.5, True)]
    assert pulse.longest_without_leader_s(0.9, 3.0) == pytest.approx(0.4)
    assert pulse.longest_without_leader_s(1.4, 3.0) == 0.0


def test_the_pulse_finds_what_is_lost_and_what_rose() -> None:
    pulse = Pulse(Api([]), History(), [0], 1)
    pulse.sure, pulse.maybe = {1, 2, 3}, {4, 5}
    assert pulse.problems([1, 2, 3, 5]) == []
    (lost,) = pulse.problems([1, 3])
    assert "1 acknowledged beats are missing: [2]" in lost
    (risen,) = pulse.problems([1, 2, 3, 6])
    assert "[6]" in risen
