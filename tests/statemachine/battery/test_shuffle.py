"""Cases and strangers thrown together: several cases in one database, their requests shuffled
without changing the order within each, in batches of any size, on nodes of any history.

A failing seed replays exactly, but for the real clock.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rsqlite.config import Settings
from tests.statemachine.battery.cases import all_cases
from tests.statemachine.battery.judge import Trial, run
from tests.statemachine.battery.model import Ask, Case
from tests.statemachine.battery.rename import renamed
from tests.statemachine.battery.strangers import GUESTS, SETUP, VOLATILE
from tests.statemachine.battery.world import Way, World

SEEDS = 150
BUDGETS = (1000, 4_000_000)
DIGESTS = ("always", "risky", "never")
FOLLOWING = (Way.STEP, Way.RESTART, Way.BUNCH, Way.LAG)
BATCHES = (1, 2, 5, 1000)


def pool(fk: bool) -> list[Case]:
    """What can share a database with others."""
    return [one for one in all_cases() if one.fk == fk and not (one.alone or one.slow)]


def chosen(chance: random.Random, fk: bool) -> list[Case]:
    """A few cases under names that do not meet."""
    cases: list[Case] = []
    for number, case in enumerate(chance.sample(pool(fk), 6)):
        other = renamed(case, f"c{number}_")
        if other is not None:
            cases.append(other)
    return cases


def shuffled(chance: random.Random, cases: list[Case]) -> list[Ask]:
    """All their requests, with strangers between them."""
    queues = [list(case.requests) for case in cases]
    queues.append(chance.sample(GUESTS, chance.randint(0, 12)))
    found: list[Ask] = []
    while any(queues):
        found.append(chance.choice([queue for queue in queues if queue]).pop(0))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_shuffled(seed: int, directory: Path) -> None:
    chance = random.Random(seed)
    fk = chance.random() < 0.1
    cases = chosen(chance, fk)
    asks = shuffled(chance, cases)
    settings = Settings(
        fk=fk,
        verify_digest=chance.choice(DIGESTS),
        write_steps_max=chance.choice(BUDGETS),
        write_statements_max=chance.choice((3, 5000)),
    )
    world = World(
        directory,
        (Way.LEAD, *chance.sample(FOLLOWING, 2)),
        settings=settings,
        disturb=chance.sample(GUESTS, chance.choice((0, 0, 4))),
        moving=chance.random() < 0.3,
    )
    one = Trial.begin(world, directory, fk=fk)
    try:
        run(one, [Ask(case.setup) for case in cases], batch_max=1)
        run(one, [Ask(SETUP)], batch_max=1)
        run(one, asks, batch_max=chance.choice(BATCHES))
        volatile = any(case.volatile for case in cases)
        one.compare(with_oracle=not volatile, without=VOLATILE)
    finally:
        one.end()
