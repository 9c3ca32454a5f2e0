"""When the writer waits a moment for the clients it just answered."""

from __future__ import annotations

from rsqlite.node.gathering import (
    CLIENTS_MAX,
    PROBE_EVERY,
    SHORTEST_S,
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


def test_the_goal_leaves_out_the_slowest_quarter() -> None:
    gathering = Gathering(LONGEST_S)
    gathering.begin(0.0, 64)
    assert gathering.goal == 48


def test_it_is_over_when_its_time_is_and_not_before() -> None:
    gathering = Gathering(LONGEST_S)
    gathering.begin(10.0, 8)
    assert not gathering.is_over(10.0 + LONGEST_S / 2)
    assert gathering.is_over(10.0 + LONGEST_S)
    assert gathering.goal == 0


def test_waits_that_do_not_pay_shrink_to_none_and_are_tried_again() -> None:
    gathering = Gathering(LONGEST_S)
    waits = 0
    while gathering.is_worth_it(4, 4):
        gathering.begin(0.0, 8)
        assert gathering.is_over(1.0)
        waits += 1
    assert 2 <= waits <= 10
    tries = 0
    for _ in range(2 * PROBE_EVERY):
        if gathering.is_worth_it(4, 4):
            gathering.begin(0.0, 8)
            assert gathering.is_over(1.0)
            tries += 1
    assert tries == 2


def test_a_wait_that_paid_grows_back() -> None:
    gathering = Gathering(LONGEST_S)
    gathering.begin(0.0, 8)
    gathering.is_over(1.0)
    for _ in range(3):
        gathering.begin(0.0, 8)
        gathering.end(8)
    gathering.begin(0.0, 8)
    assert not gathering.is_over(LONGEST_S - SHORTEST_S)


def test_zero_switches_it_off_for_good() -> None:
    gathering = Gathering(0.0)
    assert not any(gathering.is_worth_it(4, 4) for _ in range(3 * PROBE_EVERY))
