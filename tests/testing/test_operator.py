"""An operator of a simulated cluster changes its members, and the cluster comes to rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsqlite.testing.operator import PATIENCE_S
from rsqlite.testing.simulator import Simulation, simulation


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Simulation]:
    """Three nodes, and nothing befalls them but what the test does."""
    for seed in range(100):
        with simulation(seed, tmp_path) as run:
            if run.size == 3 and not run.is_churn:
                run.cluster.start()
                yield run
                return


def do(run: Simulation, kind: str, number: int, seconds: float = 3.0) -> None:
    """What the operator does, and what becomes of it."""
    engine = run.cluster.engines[number]
    assert engine is not None
    run.nemesis.operator.kinds[kind](number, engine)
    run.advance(seconds)


def follower(run: Simulation) -> int:
    return run.cluster.number(run.cluster.followers()[0])


def test_a_node_that_is_cut_off_is_replaced_and_learns_it(three: Simulation) -> None:
    old = follower(three)
    label = three.cluster.engines[old].label  # type: ignore[union-attr]
    for _ in range(20):  # sometimes it is reached before the other one is a member
        do(three, "replace", old, PATIENCE_S + 4.0)
        if old in three.removed:
            break
    assert old in three.removed
    new = three.running[-1]
    assert three.cluster.engines[new].label == label  # type: ignore[union-attr]
    three.until_whole()


def test_a_node_that_moves_is_found_at_its_new_address(three: Simulation) -> None:
    three.until_whole()
    before = list(three.cluster.addresses)
    do(three, "move", follower(three))
    three.until_whole()
    assert three.cluster.addresses != before
    assert three.nemesis.operator.are_found()


def test_a_read_only_node_is_promoted(three: Simulation) -> None:
    new = three.cluster.grow(raft_non_voter=True)
    number = three.cluster.number(new)
    three.until_whole()
    core = three.cluster.leader().core
    assert core is not None
    assert new.node_id in core.configuration.learners
    do(three, "promote", number)
    three.until_whole()
    core = three.cluster.leader().core
    assert core is not None
    assert new.node_id in core.configuration.voters
