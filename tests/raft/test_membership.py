"""Joint changes and the history of configurations, by themselves."""

from __future__ import annotations

import pytest

from rsqlite.raft.membership import (
    ConfigurationHistory,
    check_target,
    enter_joint,
    is_voter,
    leave_joint,
    replicas,
)
from rsqlite.raft.types import Configuration, InvariantViolation
from tests.raft.cluster import configuration

THREE = configuration([1, 2, 3])


def test_a_change_of_voters_is_joint_even_for_one() -> None:
    joint = enter_joint(THREE, configuration([1, 2, 3, 4]))
    assert (joint.voters, joint.outgoing) == (frozenset({1, 2, 3, 4}), frozenset({1, 2, 3}))
    assert joint.is_joint
    assert leave_joint(joint) == configuration([1, 2, 3, 4])


def test_a_change_of_learners_alone_needs_no_joint_form() -> None:
    target = configuration([1, 2, 3], learners=[4])
    assert enter_joint(THREE, target) == target


def test_the_joint_form_names_everybody_and_the_new_one_only_its_own() -> None:
    joint = enter_joint(THREE, configuration([3, 4], learners=[5]))
    assert [member.node_id for member in joint.members] == [1, 2, 3, 4, 5]
    assert [member.node_id for member in leave_joint(joint).members] == [3, 4, 5]


def test_a_voter_that_becomes_a_learner_votes_until_the_joint_form_is_left() -> None:
    joint = enter_joint(THREE, configuration([1, 2], learners=[3]))
    assert is_voter(joint, 3)
    after = leave_joint(joint)
    assert not is_voter(after, 3)
    assert 3 in replicas(after)


def test_rule_27_leaving_twice_changes_nothing() -> None:
    assert leave_joint(THREE) is THREE


def test_fingerprint_and_cluster_travel_through_a_change() -> None:
    target = Configuration(
        THREE.members, frozenset({1, 2}), fingerprint="f", cluster_id="c", learners=frozenset({3})
    )
    joint = enter_joint(THREE, target)
    assert (joint.fingerprint, joint.cluster_id) == ("f", "c")
    assert leave_joint(joint) == target
    assert Configuration.from_bytes(joint.to_bytes()) == joint


@pytest.mark.parametrize(
    "target",
    [
        configuration([]),
        configuration([1], outgoing=[2]),
        configuration([1, 2], learners=[2]),
        Configuration(voters=frozenset({1})),
    ],
)
def test_what_no_cluster_could_end_in_is_refused_in_words(target: Configuration) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        check_target(target)


def test_rule_25_the_whole_stack_falls_back_however_many_are_truncated() -> None:
    history = ConfigurationHistory(THREE, 4)
    steps = [configuration([1, 2, 3, node]) for node in (4, 5, 6)]
    for index, step in zip((7, 9, 12), steps, strict=True):
        history.appended(index, step)
    assert (history.index, history.current) == (12, steps[2])
    assert not history.truncated(13)
    assert history.truncated(8)
    assert (history.index, history.current) == (7, steps[0])
    assert history.truncated(5)
    assert (history.index, history.current) == (4, THREE)


def test_what_is_committed_never_falls_back() -> None:
    history = ConfigurationHistory(THREE, 0)
    history.appended(3, configuration([1, 2]))
    history.appended(5, configuration([1]))
    history.committed_to(4)
    assert history.committed == configuration([1, 2])
    with pytest.raises(InvariantViolation, match="committed configuration"):
        history.truncated(3)


def test_a_voter_left_out_by_an_uncommitted_configuration_is_remembered() -> None:
    history = ConfigurationHistory(THREE, 0)
    history.appended(3, configuration([1, 2]))
    assert history.is_voter_in_any(3)
    history.committed_to(3)
    assert not history.is_voter_in_any(3)
