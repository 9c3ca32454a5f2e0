"""Whom a request is sent to."""

from __future__ import annotations

import pytest
from rsqlite_client.routing import (
    FORWARDED_MAX,
    HOSTS_MAX,
    PAUSE_MAX_S,
    Choice,
    Routing,
    pause_before_round,
)


def choose(routing: Routing, *, for_leader: bool = True, in_trouble: bool = False) -> Choice:
    return routing.choose(for_leader=for_leader, in_trouble=in_trouble)


def test_what_needs_the_leader_goes_to_it_once_it_is_known() -> None:
    routing = Routing(["a", "b", "c"], start=1)
    assert choose(routing) == Choice("b", True)
    assert routing.redirected("c")
    assert choose(routing) == Choice("c", True)
    routing.served(Choice("c", True))
    assert choose(routing) == Choice("c", True)
    assert choose(routing, for_leader=False) == Choice("b", False)


def test_who_answers_itself_leads() -> None:
    routing = Routing(["a", "b"])
    routing.served(Choice("b", False))
    assert routing.leader is None
    routing.served(Choice("b", True))
    assert routing.leader == "b"


def test_in_trouble_a_node_is_asked_to_find_the_leader() -> None:
    routing = Routing(["a", "b"])
    routing.redirected("b")
    routing.failed("b", is_reachable=True)
    assert choose(routing, in_trouble=True) == Choice("a", False)
    assert choose(routing) == Choice("a", True)


def test_hosts_take_turns_when_they_fail() -> None:
    routing = Routing(["a", "b", "a"])
    assert routing.count == 2
    asked = []
    for _ in range(3):
        asked.append(choose(routing, for_leader=False).host)
        routing.failed(asked[-1], is_reachable=False)
    assert asked == ["a", "b", "a"]
    routing.failed("a", is_reachable=False)
    assert choose(routing).host == "b", "only the host that is asked next makes way"


def test_a_leader_that_cannot_be_reached_is_asked_through_others_for_a_while() -> None:
    routing = Routing(["a"])
    assert routing.redirected("inside")
    routing.failed("inside", is_reachable=False)
    assert not routing.redirected("inside")
    assert [choose(routing) for _ in range(FORWARDED_MAX)] == [Choice("a", False)] * FORWARDED_MAX
    assert choose(routing) == Choice("a", True)
    assert routing.redirected("inside"), "it is tried again"


def test_another_leader_is_followed_at_once() -> None:
    routing = Routing(["a", "b", "c"])
    routing.redirected("b")
    routing.failed("b", is_reachable=False)
    assert routing.redirected("c")
    assert choose(routing) == Choice("c", True)


def test_leaders_become_hosts_up_to_a_bound() -> None:
    routing = Routing(["a"])
    for number in range(HOSTS_MAX + 10):
        routing.redirected(f"leader-{number}")
    assert routing.count == HOSTS_MAX
    routing.failed(f"leader-{HOSTS_MAX + 9}", is_reachable=True)
    routing.failed("a", is_reachable=False)
    assert choose(routing).host == "leader-0"


def test_pauses_grow_to_a_bound() -> None:
    pauses = [pause_before_round(number) for number in range(1, 2000)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.05)
    assert pauses[-1] == PAUSE_MAX_S
