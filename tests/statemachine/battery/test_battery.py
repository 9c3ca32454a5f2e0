"""Every case on a leader and its replicas: equal content on all nodes, and for each client the
answers of plain SQLite; alone, mixed with strangers, with other physical histories.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rsqlite.config import Settings
from tests.statemachine.battery.cases import all_cases
from tests.statemachine.battery.judge import Trial, run
from tests.statemachine.battery.model import Ask, Case
from tests.statemachine.battery.strangers import GUESTS, SETUP, VOLATILE, mix
from tests.statemachine.battery.world import Way, World

STRANGERS = 9
"""How many share a batch with the requests of one case."""

CASES = [
    pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else [])
    for case in all_cases()
]


def settings(case: Case, **changes: int) -> Settings:
    """Every entry carries a digest of its row changes, so that replicas check them too."""
    return Settings(fk=case.fk, verify_digest="always", **changes)


@contextmanager
def trial(case: Case, directory: Path, ways: Sequence[Way], **more: object) -> Iterator[Trial]:
    """A leader and its replicas beside plain SQLite, closed at the end."""
    options = {"settings": settings(case), **more}
    world = World(directory, ways, **options)  # type: ignore[arg-type]
    one = Trial.begin(world, directory, fk=case.fk)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("case", CASES)
def test_alone(case: Case, directory: Path) -> None:
    with trial(case, directory, (Way.LEAD, Way.STEP, Way.LAG)) as one:
        run(one, [Ask(case.setup), *case.requests], batch_max=1)
        one.compare(with_oracle=not case.volatile)


@pytest.mark.parametrize("case", CASES)
def test_with_strangers_in_one_batch(case: Case, directory: Path) -> None:
    mixed = mix(case.requests, random.Random(case.id), STRANGERS)
    with trial(case, directory, (Way.LEAD, Way.STEP)) as one:
        run(one, [Ask(case.setup), Ask(SETUP)], batch_max=1)
        run(one, mixed, batch_max=1000)
        one.compare(with_oracle=not case.volatile, without=VOLATILE)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_with_another_physical_history(case: Case, directory: Path) -> None:
    """The leader moves, restarts happen, and speculations are given up."""
    chance = random.Random(case.id)
    ways = (Way.LEAD, Way.STEP, Way.RESTART)
    disturb = chance.sample(GUESTS, 4)
    mixed = mix(case.requests, chance, 3)
    with trial(case, directory, ways, disturb=disturb, moving=True) as one:
        run(one, [Ask(case.setup), Ask(SETUP)], batch_max=1)
        run(one, mixed, batch_max=chance.choice((1, 2, 3)))
        one.compare(with_oracle=not case.volatile, without=VOLATILE)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_in_threads(case: Case, directory: Path) -> None:
    """Every request takes the way of a long write; reads are over their budget at once."""
    small = settings(case, read_steps_max=1)
    ways = (Way.LEAD, Way.STEP, Way.LAG)
    with trial(case, directory, ways, settings=small, in_thread=True) as one:
        run(one, [Ask(case.setup), *case.requests], batch_max=1000)
        one.compare(with_oracle=not case.volatile)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_over_the_budget_of_the_loop(case: Case, directory: Path) -> None:
    """A small budget sends only what takes a while to a thread, and the others run again."""
    small = settings(case, write_steps_max=1000, write_statements_max=5)
    mixed = mix(case.requests, random.Random("budget " + case.id), 5)
    with trial(case, directory, (Way.LEAD, Way.STEP, Way.LAG), settings=small) as one:
        run(one, [Ask(case.setup), Ask(SETUP)], batch_max=1)
        run(one, mixed, batch_max=1000)
        one.compare(with_oracle=not case.volatile, without=VOLATILE)
