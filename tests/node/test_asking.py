"""A node whose database is lost asks for an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rsqlite.node.asking import ASK_PAUSE_S, Asking
from rsqlite.node.engine import Engine
from rsqlite.raft.types import Index
from rsqlite.statemachine import generations
from rsqlite.statemachine.image import Manifest
from rsqlite.testing.engines import EngineCluster
from tests.node.test_images import BRIEF, formed, is_level, leave_behind, restarted, write


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[EngineCluster]:
    """Three that keep an image for a short time."""
    yield from formed(tmp_path, **BRIEF)


def test_a_node_without_a_database_gets_an_image_that_its_log_can_follow_on(
    brief: EngineCluster,
) -> None:
    number = leave_behind(brief)
    again = brief.start_node(number)
    brief.until(lambda: is_level(brief, again), 20.0)
    leader = brief.leader()
    (other,) = (one for one in brief.followers() if one is not again)
    kept_from = leader.images.keeps_from
    assert kept_from is not None
    for _ in range(10):
        write(brief, 10)
        brief.loop.advance(0.1)
    assert leader.images.keeps_from == kept_from, "the leader has it still"
    assert other.log.first_index > kept_from
    generations.note_damage(other.machine.path, "a test")
    other = restarted(brief, brief.number(other))
    assert other.installer.is_without_database
    brief.until(lambda: other.is_synced and is_level(brief, other), 20.0)
    assert leader.images.made == 2


def test_a_leader_that_has_carried_out_nothing_yet_makes_no_image(brief: EngineCluster) -> None:
    leader = brief.leader()
    answers: list[Mapping[str, object]] = []
    leader.machine.applied_index = Index(0)
    leader.images.asked(None, answers.append)
    assert "too old" in str(answers[0]["text"])
    assert not leader.images.is_making


def asked_by(
    cluster: EngineCluster, number: int, monkeypatch: pytest.MonkeyPatch, times: int
) -> list[str]:
    """Whom it asks, one pause after the other."""
    engine = cluster.engines[number]
    assert engine is not None
    addresses: list[str] = []
    monkeypatch.setattr(engine.network, "ask", lambda address, *_, **__: addresses.append(address))
    asking = Asking(engine)
    for turn in range(times):
        asking.sweep(turn * ASK_PAUSE_S)
        asking.sweep(turn * ASK_PAUSE_S + ASK_PAUSE_S / 2)
    return addresses


def test_the_leader_is_asked_once_in_a_while(
    brief: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = brief.number(brief.followers()[0])
    address = brief.leader().raft_addr
    assert asked_by(brief, number, monkeypatch, 3) == [address] * 3


def test_where_no_leader_is_known_the_others_are_asked_in_turn(
    brief: EngineCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, *others = brief.running()
    number = brief.number(left)
    for one in others:
        brief.kill(brief.number(one))
    brief.until(lambda: left.leader is None)
    told = asked_by(brief, number, monkeypatch, 4)
    assert set(told) == {one.raft_addr for one in others}
    assert told[:2] == told[2:]


def test_who_joins_by_an_image_is_not_removed_by_the_word_of_one_that_is_behind(
    brief: EngineCluster,
) -> None:
    """The image is of before it was let in, and so is what that member knows."""
    number = leave_behind(brief)
    brief.start_node(number)
    brief.until(lambda: is_level(brief, brief.running()[number]), 20.0)
    leader = brief.leader()
    (other,) = (one for one in brief.followers() if brief.number(one) != number)
    behind = brief.number(other)
    write(brief, 5)
    brief.until(lambda: other.machine.applied_index == leader.machine.applied_index)
    brief.kill(behind)
    other = brief.start_node(behind)
    brief.board.cut(other.node_id, leader.node_id)
    brief.board.cut(leader.node_id, other.node_id)
    new = brief.grow()
    brief.until(lambda: is_voter(new) or bool(brief.faults), 20.0)
    assert brief.faults == []


@pytest.mark.parametrize("address", ["node3:4002", "elsewhere:4002"])
def test_who_was_let_in_and_has_nothing_yet_may_come_back_at_another_address(
    brief: EngineCluster, address: str
) -> None:
    """As a container may, that is started again while it fetches its first image."""
    leave_behind(brief)
    new = brief.grow()
    new.network.fetch = lambda *_, **__: None  # type: ignore[method-assign]
    brief.until(lambda: new.transfer.is_under_way, 20.0)
    number = brief.number(new)
    brief.kill(number)
    assert new.log.last_index == 0
    brief.addresses[number] = address
    new = brief.start_node(number)
    brief.until(lambda: is_voter(new) and is_level(brief, new), 30.0)
    assert address in {one.raft_addr for one in brief.leader().members}


def is_voter(engine: Engine) -> bool:
    return engine.core is not None and engine.node_id in engine.core.configuration.voters


def test_an_image_that_the_log_cannot_follow_on_is_not_taken(brief: EngineCluster) -> None:
    left, _ = brief.followers()
    for _ in range(100):
        write(brief, 10)
        brief.loop.advance(0.2)
        if left.log.first_index > 20:
            break
    generations.note_damage(left.machine.path, "a test", wants_image=True)
    left = restarted(brief, brief.number(left))
    assert left.installer.is_without_database
    ends = Index(left.log.first_index - 2)
    left.installer.arrived("nowhere", Manifest("old", ends, 1, 1, 1, ["00"]))
    assert brief.faults == []
    brief.until(lambda: left.is_synced and is_level(brief, left), 20.0)
