"""A follower that was left behind comes back by an image while writes go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.catchup import PHASES, Look, Round, behind
from bench.slices import Mark, Slice

MARK = Mark(0, 0.0, 0.0, 0.0)


def test_a_follower_that_does_not_answer_is_behind_by_nobody_knows_what() -> None:
    assert behind(Look(MARK, 100, None)) is None
    assert behind(Look(MARK, 100, 40)) == 60
    assert behind(Look(MARK, 100, 101)) == 0, "it was asked a moment later"


def test_what_the_writes_keep_is_against_those_before() -> None:
    before, during, after = (Slice(n, 2.0, 1.0, 2.0, 3.0) for n in (1000, 600, 900))
    one = Round(1.5, 2.0, 5_000_000, [before, during, after], [(before, None), (during, 7)])
    assert one.kept == 0.6
    told = one.as_json()
    assert list(told["phases"]) == list(PHASES)
    assert told["phases"]["during"]["writes_per_second"] == 300.0
    assert [look["entries_behind"] for look in told["timeline"]] == [None, 7]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_image_arrives_while_writes_go_on(quick: Callable[..., dict[str, Any]]) -> None:
    (round_,) = quick("catchup")["rounds"]
    assert 0 < round_["image_seconds"] <= round_["seconds"]
    assert round_["database_bytes"] > 10_000_000
    assert all(phase["writes_per_second"] > 0 for phase in round_["phases"].values())
    assert round_["timeline"][-1]["entries_behind"] is not None
