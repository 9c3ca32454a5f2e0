"""The next step towards a wished membership, decided without a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from rsqlite.errors import RequestError, Unavailable
from rsqlite.node.changes import (
    Change,
    Join,
    Remove,
    Standing,
    find_member,
    next_configuration,
    replaced,
)
from rsqlite.raft.types import Configuration, Member, NodeId


def member(number: int, label: str = "", place: str = "") -> Member:
    return Member(NodeId(number), label or f"n{number}", f"{place or number}:2", f"{number}:1")


def configuration(*numbers: int, learners: tuple[int, ...] = ()) -> Configuration:
    return Configuration(
        members=tuple(member(number) for number in sorted((*numbers, *learners))),
        voters=frozenset(map(NodeId, numbers)),
        learners=frozenset(map(NodeId, learners)),
        fingerprint="f",
        cluster_id="c",
    )


def join(one: Member, *, is_voter: bool = True, fingerprint: str = "f") -> Join:
    return Join(*one, fingerprint, is_voter)  # type: ignore[arg-type]


def step(
    current: Configuration,
    change: Change,
    *,
    behind: tuple[int, ...] = (),
    down: Any = (),
    unheard: Any = (),
    lame: Any = (),
) -> Configuration | Standing:
    return next_configuration(
        current,
        change,
        is_caught_up=lambda node_id: node_id not in behind,
        is_reachable=lambda node_id: None if node_id in unheard else node_id not in down,
        may_lead=lambda node_id: None if node_id in unheard else node_id not in lame,
    )


def steps(current: Configuration, change: Change, *, down: Any = ()) -> Configuration:
    """All of them, one after the other."""
    for _ in range(10):
        found = step(current, change, down=down)
        if found is Standing.DONE:
            return current
        assert isinstance(found, Configuration)
        assert not found.is_joint
        current = found
    raise AssertionError("it does not come to an end")


def test_a_new_node_learns_first_and_votes_when_it_has_caught_up() -> None:
    current = configuration(1, 2, 3)
    learning = step(current, join(member(4)))
    assert learning == configuration(1, 2, 3, learners=(4,))
    assert step(learning, join(member(4)), behind=(4,)) is Standing.LEARNING
    assert step(learning, join(member(4))) == configuration(1, 2, 3, 4)
    assert steps(current, join(member(4))) == configuration(1, 2, 3, 4)


def test_a_read_only_node_stays_a_learner() -> None:
    change = join(member(4), is_voter=False)
    assert steps(configuration(1, 2, 3), change) == configuration(1, 2, 3, learners=(4,))
    # Who votes already keeps its vote: joining takes nothing away.
    assert step(configuration(1, 2, 4), change) is Standing.DONE


@pytest.mark.parametrize("new", [member(4, "n3"), member(4, place="3")], ids=["label", "address"])
@pytest.mark.parametrize("is_voter", [True, False])
def test_the_same_label_or_address_with_another_number_is_a_replacement(
    new: Member, is_voter: bool
) -> None:
    found = steps(configuration(1, 2, 3), join(new, is_voter=is_voter), down={3})
    assert found.members == (member(1), member(2), new)
    assert found.voters == ({1, 2, 4} if is_voter else {1, 2})
    # The old one keeps its vote until the new one has its own: one change, no gap.
    learning = step(configuration(1, 2, 3), join(new), down={3})
    assert isinstance(learning, Configuration)
    assert learning.voters == {1, 2, 3}
    promoted = step(learning, join(new), down={3})
    assert isinstance(promoted, Configuration)
    assert promoted.voters == {1, 2, 4}
    # A member that answers is not replaced by whoever takes its name, who is not let in either.
    for current in (configuration(1, 2, 3), learning):
        with pytest.raises(Unavailable, match="and answers"):
            step(current, join(new))


def test_who_is_replaced_is_told_with_who_replaces_him() -> None:
    before = configuration(1, 2, 3)
    after = steps(before, join(member(4, "n1")), down=(1,))
    assert replaced(before, after) == ["n1 at 1:2 by n1"]
    assert replaced(before, steps(before, join(member(4)))) == []
    assert replaced(before, steps(before, Remove("n1"))) == []


def test_a_member_that_has_moved_gets_its_new_addresses() -> None:
    moved = member(3)._replace(raft_addr="new:2", http_addr="new:1")
    found = steps(configuration(1, 2, 3), join(moved))
    assert found == replace(configuration(1, 2, 3), members=(member(1), member(2), moved))
    # Two that have changed places have one address for a moment, and both stay.
    swapped = steps(configuration(1, 2, 3), join(member(2)._replace(raft_addr="3:2")))
    swapped = steps(swapped, join(member(3)._replace(raft_addr="2:2")))
    assert [(one.node_id, one.raft_addr) for one in swapped.members] == [
        (1, "1:2"),
        (2, "3:2"),
        (3, "2:2"),
    ]


def test_another_way_to_compute_sql_is_refused() -> None:
    with pytest.raises(RequestError, match="computes SQL differently"):
        step(configuration(1, 2, 3), join(member(4), fingerprint="g"))


@pytest.mark.parametrize("name", ["n2", "2"])
def test_a_member_is_removed_by_label_or_number(name: str) -> None:
    assert steps(configuration(1, 2, 3, learners=(4,)), Remove(name)) == configuration(
        1, 3, learners=(4,)
    )
    assert steps(configuration(1, 3), Remove(name)) == configuration(1, 3)


def test_who_was_a_member_and_is_none_does_not_come_back_by_asking() -> None:
    change = msgspec.structs.replace(join(member(4)), is_member=True)
    with pytest.raises(Unavailable, match="removed"):
        step(configuration(1, 2, 3), change)
    assert steps(configuration(1, 2, 3, learners=(4,)), change) == configuration(1, 2, 3, 4)


def test_a_learner_is_removed() -> None:
    assert steps(configuration(1, 2, learners=(4,)), Remove("n4")) == configuration(1, 2)


def test_the_last_voter_stays() -> None:
    with pytest.raises(RequestError, match="last voter"):
        step(configuration(1, learners=(2,)), Remove("n1"))


@pytest.mark.parametrize(
    ("numbers", "leaves", "down", "is_allowed"),
    [
        ((1, 2, 3), "n3", {3}, True),
        ((1, 2, 3), "n2", {3}, False),
        ((1, 2), "n2", {2}, True),
        ((1, 2), "n1", {2}, False),
        ((1, 2, 3, 4, 5), "n5", {4}, True),
        ((1, 2, 3, 4, 5), "n3", {4, 5}, False),
        ((1, 2, 3, 4, 5), "n5", {4, 5}, True),
    ],
)
def test_those_that_are_left_must_be_able_to_agree(
    numbers: tuple[int, ...], leaves: str, down: set[int], is_allowed: bool
) -> None:
    if is_allowed:
        assert isinstance(step(configuration(*numbers), Remove(leaves), down=down), Configuration)
    else:
        with pytest.raises(Unavailable, match="no majority"):
            step(configuration(*numbers), Remove(leaves), down=down)


def test_one_of_those_that_are_left_must_be_able_to_lead() -> None:
    """Else nobody does ever again: whoever waits for a database gets it from a leader."""
    current = configuration(1, 2, 3)
    with pytest.raises(Unavailable, match="could lead"):
        step(current, Remove("n1"), lame={2, 3})
    with pytest.raises(Unavailable, match="could lead"):
        step(configuration(1, 2, 3, 4), Remove("n1"), lame={2, 3}, down={4})
    assert isinstance(step(current, Remove("n1"), lame={2}), Configuration)
    assert isinstance(step(current, Remove("n3"), lame={2, 3}), Configuration)
    four = configuration(1, 2, 3, 4)
    assert step(four, Remove("n1"), lame={2, 3}, unheard={4}) is Standing.UNHEARD


def test_what_depends_on_members_that_were_not_heard_yet_waits() -> None:
    current, new = configuration(1, 2, 3), join(member(4, "n3"))
    assert step(current, Remove("n1"), unheard={3}) is Standing.UNHEARD
    assert isinstance(step(current, Remove("n3"), unheard={3}), Configuration)
    assert isinstance(step(configuration(1, 2, 3, 4), Remove("n4"), unheard={3}), Configuration)
    with pytest.raises(Unavailable, match="no majority"):
        step(configuration(1, 2, 3, 4), Remove("n1"), down={2, 3}, unheard={4})
    # Nor is a member replaced that may answer yet.
    assert step(current, new, unheard={3}) is Standing.UNHEARD
    learning = configuration(1, 2, 3, learners=(4,))
    learning = replace(learning, members=(*current.members, member(4, "n3")))
    assert step(learning, new, unheard={3}) is Standing.UNHEARD
    assert isinstance(step(learning, new, down={3}), Configuration)


def test_a_label_that_two_have_needs_a_number() -> None:
    current = replace(configuration(1, 2), members=(member(1, "same"), member(2, "same")))
    with pytest.raises(RequestError, match="give one of the numbers 1, 2"):
        find_member(current, "same")
    assert find_member(current, "2") == member(2, "same")
    assert find_member(current, "3") is None
