"""A directory among the nodes of another cluster is noticed; nothing else is taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from rsqlite.cli.neighbours import another_cluster
from rsqlite.config import Settings
from rsqlite.errors import ForeignDirectory
from rsqlite.ports import Done
from rsqlite.raft.types import Member, NodeId

SETTINGS = Settings(join="a:1,b:2", join_interval=0.01, join_attempts=3)
OWN = 7
LEADER = Member(NodeId(1), "1", "a:1", "")
OTHER = Member(NodeId(2), "2", "b:2", "")


class Directory:
    """A network that knows who lives where."""

    def __init__(self, clusters: Mapping[str, str | None]) -> None:
        self.clusters = clusters
        self.asked: list[str] = []

    def identify(self, address: str, done: Done[Mapping[str, object]]) -> None:
        self.asked.append(address)
        if address in self.clusters:
            cluster_id = self.clusters[address]
            node_id = OWN if cluster_id == "myself" else 1
            done({"cluster_id": "ours" if node_id == OWN else cluster_id, "node_id": node_id}, None)
        else:
            done(None, ConnectionRefusedError())


@dataclass
class Resident:
    network: Any
    node_id: NodeId = NodeId(OWN)
    cluster_id: str | None = "ours"
    leader: Member | None = None
    members: tuple[Member, ...] = (LEADER, OTHER)
    path: str = field(default="data")


async def look(node: Resident) -> ForeignDirectory | None:
    """What is noticed within a few questions."""
    try:
        return await asyncio.wait_for(another_cluster(node, SETTINGS), 0.1)
    except TimeoutError:
        return None


@pytest.mark.parametrize(
    ("clusters", "rounds"),
    [
        ({"a:1": "theirs", "b:2": "theirs"}, 1),
        ({"a:1": "myself", "b:2": "theirs"}, 1),
        ({"b:2": "theirs"}, 3),
        ({"a:1": None, "b:2": "theirs"}, 3),
    ],
    ids=["all", "all but this one", "who answers", "who has a cluster"],
)
async def test_nodes_of_another_cluster_are_named(
    clusters: dict[str, str | None], rounds: int
) -> None:
    """Who does not answer, or has no cluster yet, may become one of ours for a while."""
    network = Directory(clusters)
    found = await look(Resident(network))
    assert found is not None
    for word in ("data", "cluster ours", "cluster theirs", "-join"):
        assert word in str(found)
    assert len(network.asked) == 2 * rounds


async def test_one_old_address_is_only_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert await look(Resident(Directory({"a:1": "ours", "b:2": "theirs"}))) is None
    (told,) = caplog.messages
    for word in ("b:2", "cluster theirs", "ours", "-join"):
        assert word in told


@pytest.mark.parametrize(
    "clusters",
    [{}, {"a:1": "ours", "b:2": "ours"}, {"a:1": None}],
    ids=["nobody answers", "all are ours", "one has none yet"],
)
async def test_anything_else_is_no_reason_to_end(clusters: dict[str, str | None]) -> None:
    node = Resident(Directory(clusters))
    assert await look(node) is None
    assert len(node.network.asked) > 2, "it is asked again"


async def test_with_a_leader_nobody_is_asked() -> None:
    node = Resident(Directory({"b:2": "theirs"}), leader=LEADER)
    assert await look(node) is None
    assert node.network.asked == []


async def test_a_node_that_leads_only_itself_compares_once() -> None:
    """It led nobody else before anybody could answer, and -join says that there are others."""
    alone = Resident(Directory({"b:2": "theirs"}), leader=LEADER, members=(LEADER,))
    found = await look(alone)
    assert found is not None
    assert "cluster theirs" in str(found)
    quiet = Resident(Directory({}), leader=LEADER, members=(LEADER,))
    assert await look(quiet) is None
    assert quiet.network.asked == ["a:1", "b:2"], "what others become later does not end it"


async def test_a_node_without_a_cluster_is_looking_for_one() -> None:
    node = Resident(Directory({"b:2": "theirs"}), cluster_id=None)
    assert await look(node) is None
    assert node.network.asked == []
