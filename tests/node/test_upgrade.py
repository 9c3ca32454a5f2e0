"""What is proposed on the way of a declared upgrade, decided without a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rsqlite.errors import RequestError
from rsqlite.node.upgrade import abandon, by_itself, declare, recorded
from rsqlite.raft.types import Configuration, Member, NodeId, Upgrade
from tests.node.releases import LATER, NEW, OLD, OTHER


def member(number: int) -> Member:
    return Member(NodeId(number), f"n{number}", f"{number}:2", f"{number}:1")


def configuration(
    *numbers: int, fingerprint: str = OLD, target: str = "", ahead: tuple[int, ...] = ()
) -> Configuration:
    return Configuration(
        members=tuple(member(number) for number in numbers),
        voters=frozenset(map(NodeId, numbers)),
        fingerprint=fingerprint,
        upgrade=Upgrade(target, frozenset(map(NodeId, ahead))) if target else None,
    )


def test_an_upgrade_is_declared_once() -> None:
    declared = configuration(1, 2, 3, target=NEW)
    assert declare(configuration(1, 2, 3), NEW) == declared
    assert declare(declared, NEW) is None
    assert declare(configuration(1, 2, 3, fingerprint=NEW), NEW) is None, "it is over"


@pytest.mark.parametrize(
    ("current", "target", "said"),
    [
        (configuration(1), "3.55", "rsqlite fingerprint"),
        (configuration(1, target=NEW), OTHER, "abandon it first"),
        (configuration(1, target=NEW), OLD, "abandon it first"),
        (configuration(1, fingerprint=LATER), NEW, "older than the cluster's"),
    ],
)
def test_what_cannot_be_declared_is_said(current: Configuration, target: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        declare(current, target)


def test_an_upgrade_can_be_abandoned_as_long_as_nobody_runs_it() -> None:
    assert abandon(configuration(1, 2, target=NEW)) == configuration(1, 2)
    assert abandon(configuration(1, 2)) is None
    with pytest.raises(RequestError, match="runs on n2: start it there with the older"):
        abandon(configuration(1, 2, target=NEW, ahead=(2,)))


def test_a_member_is_recorded_and_taken_back() -> None:
    declared = configuration(1, 2, target=NEW)
    ahead = configuration(1, 2, target=NEW, ahead=(2,))
    assert recorded(declared, NodeId(2), NEW) == ahead
    assert recorded(ahead, NodeId(2), NEW) == ahead
    assert recorded(ahead, NodeId(2), OLD) == declared
    assert recorded(configuration(1, 2), NodeId(2), OLD) == configuration(1, 2)
    for current in (declared, configuration(1, 2)):
        with pytest.raises(RequestError, match=r"differently.*declare an upgrade"):
            recorded(current, NodeId(2), OTHER)


def test_the_leader_ends_an_upgrade_that_has_reached_everybody() -> None:
    assert by_itself(configuration(1, 2, target=NEW, ahead=(2,)), member(1), OLD) is None
    ended = configuration(1, 2, fingerprint=NEW)
    for ahead in ((1, 2), (2,)):
        assert by_itself(configuration(1, 2, target=NEW, ahead=ahead), member(1), NEW) == ended
    # One that came back with the older release takes itself out first.
    back = by_itself(configuration(1, 2, target=NEW, ahead=(1, 2)), member(1), OLD)
    assert back == configuration(1, 2, target=NEW, ahead=(2,))


def test_a_read_only_member_has_to_be_reached_as_well() -> None:
    current = replace(
        configuration(1, 2, target=NEW, ahead=(1, 2)),
        members=(member(1), member(2), member(3)),
        learners=frozenset({NodeId(3)}),
    )
    assert by_itself(current, member(1), NEW) is None


def test_a_leader_that_is_alone_takes_its_own_fingerprint() -> None:
    for target in ("", NEW, OTHER):
        current = configuration(1, target=target)
        assert by_itself(current, member(1), NEW) == configuration(1, fingerprint=NEW)
    assert by_itself(configuration(1, target=NEW), member(1), OLD) is None
    assert by_itself(configuration(1), member(1), OLD) is None


def test_a_leader_makes_its_own_address_known() -> None:
    moved = member(1)._replace(raft_addr="elsewhere:2")
    found = by_itself(configuration(1, 2), moved, OLD)
    assert found is not None
    assert found.members == (moved, member(2))
    assert by_itself(found, moved, OLD) is None
    assert by_itself(configuration(2, 3), moved, OLD) is None, "it is leaving"
