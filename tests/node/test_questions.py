"""An answer counts for the member that was asked, or for nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsqlite.node.questions import ask_member, is_for
from rsqlite.testing.engines import EngineCluster


def test_a_question_for_another_node_is_refused_and_begins_nothing(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 2)
    engine = cluster.start()
    (other,) = cluster.followers()
    answers: list[Any] = []
    for question in ({"content": 1}, {"verdict": 1}, {"vacuum": "token"}):
        engine.asked({**question, "target": other.node_id}, answers.append)
    assert [one["error"] for one in answers] == ["Unavailable"] * 3
    assert {one["node_id"] for one in answers} == {engine.node_id}
    assert engine.vacuum.progress.token == ""
    cluster.close()


def test_an_answer_of_another_node_is_none(tmp_path: Path) -> None:
    cluster = EngineCluster(tmp_path, 2)
    engine = cluster.start()
    (other,) = cluster.followers()
    member = other.own_member()
    wrong = engine.own_member()._replace(raft_addr=member.raft_addr)
    answers: list[Any] = []
    for one in (member, wrong):
        ask_member(engine, one, {"verdict": 1}, lambda *answer: answers.append(answer))
    cluster.until(lambda: len(answers) == 2)
    (value, _), (nothing, error) = answers
    assert value["node_id"] == other.node_id
    assert nothing is None
    assert "another node answers" in str(error)
    cluster.close()


def test_who_names_nobody_means_whoever_is_asked() -> None:
    assert is_for(1, {})
    assert is_for(1, {"target": 1})
    assert not is_for(1, {"target": 2})
