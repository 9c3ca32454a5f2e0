"""A user who sends the engine's own SQL, word for word, gets nowhere: the engine compiled it with
its guard lifted, and a statement cache knows texts, not users."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import rsqlite.statemachine
from rsqlite.request import Failure, Outcome
from tests.statemachine.battery.model import Ask, Sql, ask
from tests.statemachine.battery.world import Answer, Way, World

OWN = "_rsqlite_"
PARAMETERS = ((), (1,), (1, 2), (99, 99, 99), ("configuration", b"x"))


def engine_texts() -> list[str]:
    """All SQL texts that the engine's modules hold as constants and that name our tables."""
    found: set[str] = set()
    for info in pkgutil.iter_modules(rsqlite.statemachine.__path__):
        module = importlib.import_module(f"rsqlite.statemachine.{info.name}")
        for value in vars(module).values():
            texts = value if isinstance(value, tuple) else (value,)
            found.update(t for t in texts if isinstance(t, str) and OWN in t and " " in t)
    return sorted(t for t in found if t.split()[0].isupper())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A leader and a replica that have applied some entries, so that both used all their texts."""
    one = World(tmp_path, (Way.LEAD, Way.STEP), moving=True)
    one.ask([ask("CREATE TABLE val(a)", "ANALYZE")])
    for number in range(4):
        one.ask([ask(("INSERT INTO val VALUES(?)", number), "SELECT * FROM val")])
    one.moving = False
    yield one
    one.close()


def test_the_texts_are_found() -> None:
    assert any(text.startswith("UPDATE") for text in engine_texts())


def is_refused(answer: Answer) -> bool:
    if isinstance(answer, Outcome):
        return all(isinstance(result, Failure) for result in answer.results)
    return True


def test_no_text_of_the_engine_works_for_a_user(world: World) -> None:
    before = [dict(own_rows(node.database_path)) for node in world.nodes]
    for text in engine_texts():
        for parameters in PARAMETERS:
            one = Sql(text, parameters)
            index = world.index
            for kind in ("execute", "mixed"):
                answers, _ = world.ask([Ask((one,), kind=kind)])
                assert is_refused(answers[0]), f"{text!r}: {answers[0]}"
            assert world.index == index, f"{text!r} was logged"
            for answer in world.query(Ask((one,), kind="query")):
                assert is_refused(answer), f"{text!r}: {answer}"
    after = [dict(own_rows(node.database_path)) for node in world.nodes]
    assert after == before
    first, second = (node.content() for node in world.nodes)
    assert first == second


def own_rows(path: str) -> dict[str, list[object]]:
    """The rows of the engine's own tables."""
    connection = apsw.Connection(path)
    try:
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '\\_rsqlite%'"
            " ESCAPE '\\' ORDER BY name"
        ).fetchall()
        assert names
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}
    finally:
        connection.close()
