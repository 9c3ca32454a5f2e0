"""Notices a data directory that was put among the nodes of another cluster.

A node that has a cluster needs no `-join`; it is given all the same, because nodes are started
again with the same words. While this node knows no leader, the nodes that `-join` names are asked
who they are. If none is of our cluster, and one of another, a directory or the addresses were mixed
up: the node would campaign for ever among nodes that refuse it, so it ends and says what was found.
(One old address that another cluster uses by now is only warned of.) Those that do not answer yet
may be ours, started a moment after this one: they have `join_attempts` rounds. A node that is all
of its cluster leads at once; it compares once, at its start, or it would serve beside those that it
was meant to join.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from rsqlite.config import Settings
from rsqlite.errors import ForeignDirectory
from rsqlite.node.cluster import join_addresses
from rsqlite.ports import Network
from rsqlite.raft.types import Member, NodeId

log = logging.getLogger(__name__)


class Neighbour(Protocol):
    """What is needed of a node."""

    path: str

    @property
    def node_id(self) -> NodeId: ...

    @property
    def network(self) -> Network: ...

    @property
    def cluster_id(self) -> str | None: ...

    @property
    def leader(self) -> Member | None: ...

    @property
    def members(self) -> tuple[Member, ...]: ...


async def another_cluster(node: Neighbour, settings: Settings) -> ForeignDirectory:
    """Returns when those that `-join` names turn out to be of another cluster; never when a leader
    of several is known first."""
    answers = _Answers(node, join_addresses(settings))
    rounds = 0
    while not (answers.found.done() or _is_placed(node)):
        if node.cluster_id is not None:
            rounds += 1
            answers.is_alone = node.leader is not None
            answers.ask()
            if answers.is_alone:
                break  # where one of ours leads, the others can tell us nothing that matters
        await asyncio.wait((answers.found,), timeout=settings.join_interval)
        if rounds >= settings.join_attempts:
            answers.decide(is_patient=False)
    return await answers.found


class _Answers:
    """What those who are asked say: by address, the cluster."""

    def __init__(self, node: Neighbour, addresses: Sequence[str]) -> None:
        self._node = node
        self._addresses = addresses
        self._foreign: dict[str, str] = {}
        self._answered: set[str] = set()
        self._is_ours_seen = False
        self.is_alone = False
        self.found: asyncio.Future[ForeignDirectory] = asyncio.get_running_loop().create_future()

    def ask(self) -> None:
        for address in self._addresses:
            self._node.network.identify(address, partial(self._take, address))

    def _take(
        self, address: str, identity: Mapping[str, Any] | None, error: BaseException | None
    ) -> None:
        node = self._node
        if error is not None or identity is None or self.found.done() or _is_placed(node):
            return
        theirs = identity.get("cluster_id")
        if identity.get("node_id") == node.node_id:
            self._answered.add(address)  # this is ourselves
        elif theirs == node.cluster_id:
            self._is_ours_seen = True
        elif theirs is not None:
            if address not in self._foreign:
                text = "the node at %s belongs to cluster %s, this one to %s: correct -join"
                log.warning(text, address, theirs, node.cluster_id)
            self._foreign[address] = theirs
            self._answered.add(address)
            self.decide(is_patient=not self.is_alone)

    def decide(self, *, is_patient: bool) -> None:
        """End if nobody is ours; with patience, only if nobody is left who might be."""
        if self._is_ours_seen or not self._foreign or self.found.done():
            return
        if is_patient and not self._answered.issuperset(self._addresses):
            return
        node = self._node
        (address, theirs), *_ = self._foreign.items()
        self.found.set_result(
            ForeignDirectory(
                f"{node.path} belongs to cluster {node.cluster_id}, but the node at {address} to"
                f" cluster {theirs}: give this node its own directory, or correct -join"
            )
        )


def _is_placed(node: Neighbour) -> bool:
    """It follows a leader, or is one that others follow."""
    return node.leader is not None and len(node.members) > 1
