"""What a node says of itself, as others read it."""

from __future__ import annotations

from typing import Any

import pytest

from rsqlite.node.introduction import read_introduction, removal

SAID: dict[str, Any] = {
    "cluster_id": "c",
    "members": {"1": "a:1", "2": "b:1"},
    "configuration_index": 7,
    "term": 3,
    "committed_term": 2,
    "is_settled": True,
    "leader": "a:1",
    "quorum_checks": 5,
}


def test_all_of_it_is_read() -> None:
    told = read_introduction(SAID)
    assert told is not None
    assert told._asdict() == {
        **{name: value for name, value in SAID.items() if name != "configuration_index"},
        "index": 7,
    }


@pytest.mark.parametrize("name", [name for name in SAID if name != "quorum_checks"])
def test_what_says_less_is_no_introduction(name: str) -> None:
    assert read_introduction({key: value for key, value in SAID.items() if key != name}) is None


def test_who_does_not_count_its_checks_has_made_none() -> None:
    told = read_introduction({key: value for key, value in SAID.items() if key != "quorum_checks"})
    assert told is not None
    assert told.quorum_checks == 0


def test_who_was_removed_is_told_who_is_in() -> None:
    told = read_introduction(SAID)
    assert told is not None
    assert "(n9) was removed from its cluster, whose members are a:1, b:1." in str(
        removal("n9", told)
    )
