"""What a node says of itself to anybody who asks (`Engine.identity`), as others read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rsqlite.errors import RemovedFromCluster


class Introduction(NamedTuple):
    """`members` are those of its committed configuration, which is the one at `index`: their
    addresses, by number as text."""

    cluster_id: str | None
    members: dict[str, str]
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: int
    committed_term: int
    """Of the last entry that it has committed."""
    is_settled: bool
    """It leads, and no change is under way."""
    leader: str
    """The raft address of whom it follows, or empty."""
    quorum_checks: int
    """If it leads: how often it has found in this term that a quorum answers."""


def removal(label: str, told: Introduction) -> RemovedFromCluster:
    """What ends a node that is no member any more, as this introduction shows."""
    return RemovedFromCluster(
        f"this node ({label}) was removed from its cluster, whose members are"
        f" {', '.join(sorted(told.members.values()))}. To have it back, start it with"
        " an empty directory and -join"
    )


def read_introduction(value: Mapping[str, Any]) -> Introduction | None:
    """None if it says something else, as an older release does."""
    try:
        return Introduction(
            value["cluster_id"],
            {str(number): str(address) for number, address in dict(value["members"]).items()},
            int(value["configuration_index"]),
            int(value["term"]),
            int(value["committed_term"]),
            bool(value["is_settled"]),
            str(value["leader"]),
            int(value.get("quorum_checks", 0)),
        )
    except (KeyError, TypeError, ValueError):
        return None
