"""The byte budget."""

from __future__ import annotations

from rsqlite.request import RequestKind
from rsqlite.server.limits import ByteBudget, HttpCounters


def test_who_takes_gives_back() -> None:
    budget = ByteBudget(10)
    assert budget.take(6)
    assert not budget.take(5)
    assert budget.has(4)
    assert not budget.has(5)
    budget.force(5)
    assert not budget.has(0)
    assert budget.is_full
    budget.give(11)
    assert budget.used == 0


def test_requests_are_counted_by_kind() -> None:
    counters = HttpCounters()
    for kind in (RequestKind.EXECUTE, RequestKind.QUERY, RequestKind.QUERY, RequestKind.MIXED):
        counters.count(kind)
    assert (counters.executions, counters.queries, counters.mixed) == (1, 2, 1)
