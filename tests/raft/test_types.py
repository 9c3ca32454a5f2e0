"""The words: configurations in bytes, and assertions that stay."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rsqlite.raft.types import (
    Configuration,
    EntryKind,
    InvariantViolation,
    Upgrade,
    require,
)
from tests.raft.cluster import configuration


def test_a_configuration_survives_its_bytes() -> None:
    for one in (
        Configuration(),
        configuration([2**63 + 5, 1], outgoing=[7], learners=[8, 9]),
        Configuration(fingerprint="sqlite 3.54 — ü", cluster_id="c"),
        configuration([1, 2], fingerprint="a", upgrade=Upgrade("b", frozenset({2**63, 1}))),
        configuration([1], fingerprint="a", upgrade=Upgrade("b")),
    ):
        assert Configuration.from_bytes(one.to_bytes()) == one


def test_the_bytes_do_not_depend_on_the_order_of_sets() -> None:
    assert configuration([3, 1, 2]).to_bytes() == configuration([2, 3, 1]).to_bytes()


def test_the_bytes_of_version_1_are_fixed() -> None:
    assert configuration([1], learners=[2]).to_bytes() == (
        b'{"cluster_id":"","fingerprint":"","learners":[2],'
        b'"members":[[1,"n1","",""],[2,"n2","",""]],"outgoing":[],"version":1,"voters":[1]}'
    )


def test_a_declared_upgrade_is_a_version_of_its_own_that_older_readers_refuse() -> None:
    one = configuration([1], fingerprint="a", upgrade=Upgrade("b", frozenset({1})))
    assert one.to_bytes() == (
        b'{"cluster_id":"","fingerprint":"a","learners":[],"members":[[1,"n1","",""]],'
        b'"outgoing":[],"upgrade":{"members":[1],"target":"b"},"version":2,"voters":[1]}'
    )
    # What ends it is for everybody.
    assert json.loads(replace(one, upgrade=None).to_bytes())["version"] == 1


def test_keys_of_a_later_release_are_ignored() -> None:
    one = configuration([1, 2], fingerprint="a")
    value = json.loads(one.to_bytes()) | {"colour": "green", "upgrade": {"target": "b"}}
    assert Configuration.from_bytes(json.dumps(value).encode()) == one


def test_a_member_is_known_by_its_fingerprint() -> None:
    one = configuration([1, 2], learners=[3], fingerprint="a")
    assert (one.fingerprints, one.older_voters) == ({"a"}, set())
    assert one.fingerprint_of(1) == "a"
    two = replace(one, upgrade=Upgrade("b", frozenset({2, 3})))
    assert (two.fingerprints, two.older_voters) == ({"a", "b"}, {1})
    assert [two.fingerprint_of(node_id) for node_id in (1, 2, 3)] == ["a", "b", "b"]
    assert configuration([1]).fingerprints == set()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"[]",
        b"3",
        b"[" * 100_000,
        b"{}",
        b"\xff",
        json.dumps({"version": 2}).encode(),
        json.dumps({"version": 3}).encode(),
        configuration([1]).to_bytes().replace(b'"version":1', b'"version":2'),
        configuration([1])
        .to_bytes()
        .replace(b'"version":1', b'"version":2,"upgrade":{"target":1}'),
        json.dumps({"version": 1, "members": [[1, 2]]}).encode(),
        json.dumps({"version": 1, "members": 3}).encode(),
    ],
)
def test_other_bytes_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Configuration.from_bytes(data)


def test_members_are_found_by_id() -> None:
    one = configuration([1, 2])
    member = one.member(2)
    assert member is not None
    assert member.label == "n2"
    assert one.member(3) is None


def test_the_numbers_of_kinds_are_on_disk_for_ever() -> None:
    assert [(kind.name, kind.value) for kind in EntryKind] == [
        ("COMMAND", 1),
        ("CONFIGURATION", 2),
        ("NOOP", 3),
        ("CHECK", 4),
    ]


def test_require_formats_only_on_failure() -> None:
    require(True, "{} {}")
    with pytest.raises(InvariantViolation, match="7 is not 8"):
        require(False, "{} is not {}", 7, 8)
