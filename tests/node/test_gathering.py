"""When the writer waits a moment for the clients it just answered."""

from __future__ import annotations

import pytest

from rsqlite.node.gathering import (
    CLIENTS_MAX,
    CREDIT_MAX,
    PAUSE_MAX,
    STATEMENTS_MAX,
    Gathering,
)

LONGEST_S = 0.002


def test_one_client_alone_is_never_waited_for() -> None:
    assert not Gathering(LONGEST_S).is_worth_it(1, 0)


def test_two_clients_that_take_turns_are_brought_together() -> None:
    gathering = Gathering(LONGEST_S)
    assert gathering.is_worth_it(1, 1)
    gathering.begin(0.0, 2)
    assert gathering.goal == 2


def test_a_crowd_and_a_bulk_are_overlapped_instead() -> None:
    gathering = Gathering(LONGEST_S)
    assert not gathering.is_worth_it(CLIENTS_MAX, 1)
    gathering.statements = STATEMENTS_MAX + 1
    assert not gathering.is_worth_it(8, 8)


def test_where_enough_wait_already_nobody_is_waited_for() -> None:
    assert not Gathering(LONGEST_S).is_worth_it(1, 9)
    assert Gathering(LONGEST_S).is_worth_it(2, 8)
    assert Gathering(LONGEST_S).is_worth_it(1, 8)


@pytest.mark.parametrize(("clients", "goal"), [(2, 2), (9, 9), (16, 15), (64, 58), (128, 116)])
def test_the_goal_leaves_out_the_slowest_tenth(clients: int, goal: int) -> None:
    gathering = Gathering(LONGEST_S)
    gathering.begin(0.0, clients)
    assert gathering.goal == goal


def test_it_is_over_when_its_time_is_and_not_before() -> None:
    gathering = Gathering(LONGEST_S)
    gathering.begin(10.0, 8)
    assert gathering.left_s(10.0 + LONGEST_S / 2) == pytest.approx(LONGEST_S / 2)
    assert gathering.goal
    assert not gathering.left_s(10.0 + LONGEST_S)
    assert gathering.goal == 0


def in_vain(gathering: Gathering) -> None:
    gathering.begin(0.0, 8)
    assert not gathering.left_s(1.0)


def paid(gathering: Gathering) -> None:
    gathering.begin(0.0, 8)
    gathering.end(8)


def waits_in(gathering: Gathering, batches: int) -> int:
    """Of so many batches, those before which it waits, always in vain."""
    waits = 0
    for _ in range(batches):
        if gathering.is_worth_it(4, 4):
            in_vain(gathering)
            waits += 1
    return waits


def test_waits_in_vain_end_and_are_tried_again_ever_more_seldom() -> None:
    gathering = Gathering(LONGEST_S)
    assert waits_in(gathering, CREDIT_MAX // 2) == CREDIT_MAX // 2
    seen = [waits_in(gathering, PAUSE_MAX) for _ in range(8)]
    assert 2 <= seen[0] <= 4
    assert seen[-4:] == [1] * 4


def test_a_bad_moment_does_not_end_it() -> None:
    gathering = Gathering(LONGEST_S)
    for _ in range(20):
        assert waits_in(gathering, CREDIT_MAX // 2 - 1) == CREDIT_MAX // 2 - 1
        for _ in range(CREDIT_MAX):
            paid(gathering)


def test_a_trial_that_paid_resumes_it_and_the_next_pause_is_short() -> None:
    gathering = Gathering(LONGEST_S)
    waits_in(gathering, 10 * PAUSE_MAX)
    while not gathering.is_worth_it(4, 4):
        pass
    for _ in range(CREDIT_MAX):
        paid(gathering)
        assert gathering.is_worth_it(4, 4)
    assert waits_in(gathering, CREDIT_MAX // 2) == CREDIT_MAX // 2
    assert waits_in(gathering, PAUSE_MAX) >= 2


def test_a_batch_that_ran_before_it_was_full_neither_paid_nor_was_in_vain() -> None:
    gathering = Gathering(LONGEST_S)
    for _ in range(100):
        gathering.begin(0.0, 8)
        gathering.end(3)
    assert gathering.goal == 0
    assert gathering.is_worth_it(4, 4)


def test_zero_switches_it_off_for_good() -> None:
    gathering = Gathering(0.0)
    assert not any(gathering.is_worth_it(4, 4) for _ in range(3 * PAUSE_MAX))
