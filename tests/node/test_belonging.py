"""Who is told to be missing where nobody leads. Nodes that were removed: `test_membership.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from rsqlite.errors import RemovedFromCluster
from rsqlite.node import belonging, hand_back
from rsqlite.node.changes import Remove
from rsqlite.raft.membership import ConfigurationHistory
from rsqlite.testing.engines import EngineCluster


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EngineCluster]:
    cluster = EngineCluster(tmp_path, 3)
    cluster.start()
    yield cluster
    cluster.close()


def told(caplog: pytest.LogCaptureFixture) -> list[list[str]]:
    """Who was said to be missing, each time."""
    return [one.missing for one in caplog.records if one.name == belonging.__name__]  # type: ignore[attr-defined]


def test_without_a_majority_a_node_says_who_is_missing_and_what_can_be_done(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (three.number(one) for one in three.followers())
    three.kill(first)
    three.kill(second)
    three.loop.advance(10.0)
    assert told(caplog) == [[f"n{one} at node{one}:4002" for one in sorted((first, second))]]
    assert "rsqlite recover" in caplog.text
    three.loop.advance(belonging.TELL_PAUSE_S + 5)
    assert len(told(caplog)) == 2, "now and then"
    three.start_node(first)
    three.wait_leader()
    three.loop.advance(60.0)
    assert len(told(caplog)) == 2


@pytest.mark.parametrize("is_one_down", [False, True])
def test_a_majority_that_cannot_lead_is_told_as_well(
    three: EngineCluster, caplog: pytest.LogCaptureFixture, is_one_down: bool
) -> None:
    if is_one_down:
        three.kill(three.number(three.followers()[0]))
    for engine in three.running():
        assert engine.driver is not None
        engine.driver.lead_reluctantly()
    three.loop.advance(belonging.TELL_PAUSE_S - 10)
    assert told(caplog) == []
    three.loop.advance(30.0)
    assert hand_back.NOBODY in caplog.text


def test_a_start_and_a_change_of_the_leader_are_no_news(
    three: EngineCluster, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        three.kill(number)
    for number in range(3):
        three.start_node(number)
        three.loop.advance(1.0)
    three.kill(three.number(three.wait_leader()))
    three.loop.advance(20.0)
    assert told(caplog) == []


def older(identity: Callable[[], Mapping[str, object]]) -> Mapping[str, object]:
    """As if the members had been decided long ago."""
    return {**identity(), "configuration_index": 1}


def test_an_image_that_has_no_place_for_a_member_is_believed(three: EngineCluster) -> None:
    """Its configuration stands where the image ends: above what all others say of theirs."""
    leader, gone = three.leader(), three.followers()[0]
    three.loop.advance(1.0)
    three.isolate(gone)
    assert three.change(leader, Remove(str(gone.node_id))) is None
    three.until(lambda: all(len(one.members) == 2 for one in three.running() if one is not gone))
    assert gone.core is not None
    assert leader.core is not None
    # As if an image had come instead of what follows in the log.
    configuration = leader.core.configuration
    gone.core._state.configurations = ConfigurationHistory(configuration, gone.core.commit_index)
    for network in three.networks:
        assert network is not None
        network.identity = partial(older, network.identity)
    three.board.heal()
    three.until(lambda: bool(three.faults), 20.0)
    assert isinstance(three.faults[0][1], RemovedFromCluster)
