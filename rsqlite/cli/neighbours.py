"""Notices a data directory that was put among the nodes of another cluster.

A node that has a cluster needs no `-join`; it is given all the same, because nodes are started
again with the same words. While this node knows no leader, the nodes that `-join` names are asked
who they are. One of another cluster means that a directory or an address was mixed up: the node
would campaign for ever among nodes that refuse it, so it ends and says what was found. A node that
is all of its cluster leads at once; it compares once, at its start, or it would serve beside those
that it was meant to join.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from rsqlite.config import Settings
from rsqlite.errors import ForeignDirectory
from rsqlite.node.cluster import join_addresses
from rsqlite.ports import Network
from rsqlite.raft.types import Member


class Neighbour(Protocol):
    """What is needed of a node."""

    path: str

    @property
    def network(self) -> Network: ...

    @property
    def cluster_id(self) -> str | None: ...

    @property
    def leader(self) -> Member | None: ...

    @property
    def members(self) -> tuple[Member, ...]: ...


async def another_cluster(node: Neighbour, settings: Settings) -> ForeignDirectory:
    """Returns when a node that `-join` names turns out to belong to another cluster; never when
    a leader of several is known first."""
    is_compared = False
    found: asyncio.Future[ForeignDirectory] = asyncio.get_running_loop().create_future()
    while not (found.done() or is_compared or _is_placed(node)):
        if node.cluster_id is not None:
            is_compared = node.leader is not None
            for address in join_addresses(settings):
                node.network.identify(address, partial(_compare, node, address, found))
        await asyncio.wait((found,), timeout=settings.join_interval)
    # Where one of ours leads, the others can tell us nothing that matters.
    return await found


def _is_placed(node: Neighbour) -> bool:
    """It follows a leader, or is one that others follow."""
    return node.leader is not None and len(node.members) > 1


def _compare(
    node: Neighbour,
    address: str,
    found: asyncio.Future[ForeignDirectory],
    identity: Mapping[str, Any] | None,
    error: BaseException | None,
) -> None:
    if error is not None or identity is None or found.done() or _is_placed(node):
        return
    theirs = identity.get("cluster_id")
    if theirs is not None and theirs != node.cluster_id:
        found.set_result(
            ForeignDirectory(
                f"{node.path} belongs to cluster {node.cluster_id}, but the node at {address} to"
                f" cluster {theirs}: give this node its own directory, or correct -join"
            )
        )
