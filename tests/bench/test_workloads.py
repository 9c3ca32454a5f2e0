"""What is sent, what must come back, and the goals that are measured with it."""

from __future__ import annotations

from array import array

import pytest

from bench.generator import WrongAnswer
from bench.workloads import (
    Bulks,
    Goal,
    Inserts,
    all_workloads,
    has_repeats,
    holds,
    workload_named,
    workloads_matching,
    written_ids,
)


def test_every_goal_of_the_project_has_a_workload() -> None:
    goals = {one.name: str(one.goal) for one in all_workloads() if one.is_required}
    assert goals == {
        "insert-1-leader": "<= 5 x fdatasync",
        "insert-16-leader": ">= 0.4 x echo",
        "insert-64-leader": ">= 1.25 x echo",
        "insert-256-leader": ">= 2 x echo",
        "bulk-1-leader": ">= 0.11 x sqlite",
        "bulk-16-leader": ">= 0.11 x sqlite",
        "read-none-64-leader": ">= 1.6 x echo",
        "read-linearizable-64-leader": ">= 1.4 x echo",
    }


def test_goals_know_their_direction() -> None:
    assert Goal("echo", "per_second", 2.0).is_met(2.0)
    assert not Goal("echo", "per_second", 2.0).is_met(1.9)
    assert Goal("fdatasync", "p50_ms", 5.0, is_at_most=True).is_met(5.0)
    assert not Goal("fdatasync", "p50_ms", 5.0, is_at_most=True).is_met(5.1)


def test_the_slow_check_wants_one_row_per_statement() -> None:
    good = b'{"results":[{"rows_affected": 1, "last_insert_id": 9, "time": 0.1}]}'
    assert written_ids(good, 0, 1) == [9]
    for bad in (b"", b"[]", b'{"results":[{"last_insert_id":9}]}', b'{"results":{}}'):
        with pytest.raises(WrongAnswer):
            written_ids(bad, 0, 1)


def test_bodies_of_a_workload_have_one_length_and_are_all_different() -> None:
    for source in (Inserts("http://a:1", "t"), Bulks("http://a:1", "t")):
        requests = [source.next()[0] for _ in range(50)]
        assert len({len(request) for request in requests}) == 1
        assert len({request.partition(b"\r\n\r\n")[0] for request in requests}) == 1
        assert len(set(requests)) == 50


def test_an_answer_may_hold_more_than_is_wanted_and_nothing_else() -> None:
    wanted = {"results": [{"values": [[1, "a"]]}]}
    assert holds({"results": [{"values": [[1, "a"]], "time": 0.1}], "time": 0.2}, wanted)
    assert not holds({"results": [{"values": [[1, "b"]]}]}, wanted)
    assert not holds({"results": [{"values": [[1, "a"], [2, "b"]]}]}, wanted)
    assert not holds({"results": []}, wanted)


@pytest.mark.parametrize(
    ("ids", "repeats"),
    [
        ([], False),
        ([7], False),
        ([7, 9, 8], False),
        ([7, 9, 8, 9], True),
        ([1, 2**62], False),
        ([1, 2**62, 1], True),
        ([-5, 5], False),
    ],
)
def test_an_id_that_is_there_twice_is_noticed(ids: list[int], repeats: bool) -> None:
    assert has_repeats(array("q", ids)) is repeats


def test_workloads_are_chosen_by_patterns() -> None:
    names = [one.name for one in workloads_matching(["insert-1-*", "bulk-16-leader"], True)]
    assert names == ["insert-1-leader", "bulk-16-leader", "insert-1-follower"]
    names = [one.name for one in workloads_matching(["insert-1-*"], has_follower=False)]
    assert names == ["insert-1-leader"]
    assert workload_named("bulk-16-leader").clients == 16


def test_a_row_may_have_any_text_around_its_number() -> None:
    source = Inserts("http://a:1", "t", before=b"", after=b"xyz")
    assert source.next()[0].endswith(b'"0000000000xyz"]]')
    assert source.next()[0].endswith(b'"0000000001xyz"]]')
