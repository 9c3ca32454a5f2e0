"""The words: configurations in bytes, and assertions that stay."""

from __future__ import annotations

import json

import pytest

from rsqlite.raft.types import Configuration, EntryKind, InvariantViolation, require
from tests.raft.cluster import configuration


def test_a_configuration_survives_its_bytes() -> None:
    for one in (
        Configuration(),
        configuration([2**63 + 5, 1], outgoing=[7], learners=[8, 9]),
        Configuration(fingerprint="sqlite 3.54 — ü", cluster_id="c"),
    ):
        assert Configuration.from_bytes(one.to_bytes()) == one


def test_the_bytes_do_not_depend_on_the_order_of_sets() -> None:
    assert configuration([3, 1, 2]).to_bytes() == configuration([2, 3, 1]).to_bytes()


def test_the_bytes_of_version_1_are_fixed() -> None:
    assert configuration([1], learners=[2]).to_bytes() == (
        b'{"cluster_id":"","fingerprint":"","learners":[2],'
        b'"members":[[1,"n1","",""],[2,"n2","",""]],"outgoing":[],"version":1,"voters":[1]}'
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"[]",
        b"3",
        b"{}",
        b"\xff",
        json.dumps({"version": 2}).encode(),
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
