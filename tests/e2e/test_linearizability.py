"""The checker is checked: histories known good and bad, and a dumb twin that tries all orders."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence

import pytest

from tests.e2e import linearizability
from tests.e2e.linearizability import Operation, Undecided, is_linearizable, step


def read(called: int, returned: int, got: int | None) -> Operation:
    return Operation("read", called, returned, got=got)


def write(called: int, returned: int | None, value: int) -> Operation:
    return Operation("write", called, returned, value=value)


def cas(
    called: int, returned: int | None, expected: int, value: int, got: bool | None
) -> Operation:
    return Operation("cas", called, returned, value=value, expected=expected, got=got)


GOOD = {
    "nothing happened": [],
    "one after the other": [write(0, 1, 5), read(2, 3, 5)],
    "a read beside a write sees the old value": [write(0, 9, 5), read(1, 2, 0)],
    "a read beside a write sees the new value": [write(0, 9, 5), read(1, 2, 5)],
    "two reads beside a write, old then new": [write(0, 9, 5), read(1, 2, 0), read(3, 4, 5)],
    "a write of unknown outcome happened": [write(0, None, 5), read(1, 2, 5)],
    "a write of unknown outcome happened late": [
        write(0, None, 5),
        read(1, 2, 0),
        write(3, 4, 7),
        read(5, 6, 5),
    ],
    "a write of unknown outcome never happened": [write(0, None, 5), read(1, 2, 0)],
    "a compare and set that matched": [cas(0, 1, 0, 5, True), read(2, 3, 5)],
    "a compare and set that did not match": [cas(0, 1, 3, 5, False), read(2, 3, 0)],
    "an unknown compare and set happened": [cas(0, None, 0, 5, None), read(1, 2, 5)],
    "an unknown compare and set did not match": [cas(0, None, 9, 5, None), read(1, 2, 0)],
    "of two at once one matches": [
        cas(0, 8, 0, 5, True),
        cas(1, 9, 0, 6, False),
        read(10, 11, 5),
    ],
    "concurrent writes in the order the reads demand": [
        write(0, 9, 1),
        write(0, 9, 2),
        read(10, 11, 1),
    ],
}

BAD = {
    "a stale read": [write(0, 1, 5), read(2, 3, 0)],
    "a value from nowhere": [read(0, 1, 7)],
    "new then old": [write(0, 9, 5), read(1, 2, 5), read(3, 4, 0)],
    "a lost update": [write(0, 1, 5), write(2, 3, 6), read(4, 5, 5)],
    "two compare and sets match one value": [cas(0, 8, 0, 5, True), cas(1, 9, 0, 6, True)],
    "a match of what was not there": [cas(0, 1, 3, 5, True)],
    "no match of what was there": [cas(0, 1, 0, 5, False)],
    "an unknown write before its call": [read(0, 1, 5), write(2, None, 5)],
    "an unknown write happened twice": [
        write(0, None, 5),
        read(1, 2, 5),
        write(3, 4, 7),
        read(5, 6, 7),
        read(7, 8, 5),
    ],
    "a stale read after a pause": [
        write(0, 1, 5),
        write(2, 3, 6),
        read(4, 20, 6),
        read(21, 22, 5),
    ],
}


@pytest.mark.parametrize("operations", GOOD.values(), ids=GOOD.keys())
def test_good_histories_pass(operations: list[Operation]) -> None:
    assert is_linearizable(operations, 0)


@pytest.mark.parametrize("operations", BAD.values(), ids=BAD.keys())
def test_bad_histories_fail(operations: list[Operation]) -> None:
    assert not is_linearizable(operations, 0)


def by_trying_all_orders(operations: Sequence[Operation], initial: int) -> bool:
    """The definition, word for word: every subset of the unknown ones, every order."""
    known = [one for one in operations if one.returned is not None]
    unknown = [one for one in operations if one.returned is None]
    for count in range(len(unknown) + 1):
        for extra in itertools.combinations(unknown, count):
            for order in itertools.permutations([*known, *extra]):
                if explains(order, initial):
                    return True
    return False


def explains(order: Sequence[Operation], initial: int) -> bool:
    state: int | None = initial
    for place, one in enumerate(order):
        if any(
            later.returned is not None and later.returned < one.called for later in order[place:]
        ):
            return False
        may_happen, state = step(state, one)
        if not may_happen:
            return False
    return True


def random_history(chance: random.Random) -> list[Operation]:
    places = list(range(14))
    chance.shuffle(places)
    operations = []
    for _ in range(chance.randint(1, 6)):
        called, returned = sorted((places.pop(), places.pop()))
        value, expected = chance.randrange(3), chance.randrange(3)
        match chance.choice(["read", "write", "cas"]):
            case "read":
                operations.append(read(called, returned, value))
            case "write":
                end = None if chance.random() < 0.3 else returned
                operations.append(write(called, end, value))
            case _:
                end = None if chance.random() < 0.3 else returned
                got = None if end is None else chance.random() < 0.5
                operations.append(cas(called, end, expected, value, got))
    return operations


@pytest.mark.slow
def test_it_agrees_with_the_definition_on_random_histories() -> None:
    chance = random.Random(4)
    verdicts = []
    for _ in range(1500):
        operations = random_history(chance)
        verdict = is_linearizable(operations, 0)
        assert verdict == by_trying_all_orders(operations, 0), operations
        verdicts.append(verdict)
    assert 200 < sum(verdicts) < 1300, "the histories should be good and bad in turn"


def simulated_history(chance: random.Random, clients: int, count: int) -> list[Operation]:
    """What clients of a correct register see: each operation happens at a moment between its call
    and its return, and a few never return."""
    state: int | None = 0
    free = dict.fromkeys(range(clients), 0)
    planned = []
    for number in range(count):
        client = min(free, key=lambda one: free[one])
        called = free[client] + chance.randint(1, 5)
        moment = called + chance.randint(1, 20)
        returned = moment + chance.randint(1, 20)
        free[client] = returned
        planned.append((moment, called, returned, number))
    operations = []
    for _, called, returned, number in sorted(planned):
        end = None if chance.random() < 0.02 else returned
        match number % 3:
            case 0:
                if end is not None:
                    operations.append(read(called, end, state))
            case 1:
                state = number
                operations.append(write(called, end, number))
            case _:
                expected = state if chance.random() < 0.5 else -1
                assert expected is not None
                is_there = state == expected
                operations.append(
                    cas(called, end, expected, number, None if end is None else is_there)
                )
                state = number if is_there else state
    return operations


@pytest.mark.slow
def test_histories_as_large_as_the_runs_make_them_are_decided_quickly() -> None:
    begin = time.perf_counter()
    for seed in range(10):
        chance = random.Random(seed)
        operations = simulated_history(chance, clients=8, count=300)
        assert is_linearizable(operations, 0)
        reads = [at for at, one in enumerate(operations) if one.kind == "read"]
        at = reads[len(reads) // 2]
        spoiled = operations[at]
        assert spoiled.returned is not None
        operations[at] = read(spoiled.called, spoiled.returned, -7)
        assert not is_linearizable(operations, 0)
    assert time.perf_counter() - begin < 20


def test_giving_up_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizability, "STATES_MAX", 100)
    operations = [*(write(0, 100, value) for value in range(12)), read(101, 102, 99)]
    with pytest.raises(Undecided):
        is_linearizable(operations, 0)
