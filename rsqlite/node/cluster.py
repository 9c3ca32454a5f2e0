"""Forms a cluster out of nodes that have none (rqlite's `-bootstrap-expect`).

Every node without a cluster asks the addresses in `-join` who they are. Once a node has found as
many others without a cluster as it expects, itself included, and its own id is the lowest of them,
it alone writes the first configuration into its log, and only then invites the others by opening
links to them. A node without a cluster takes the first invitation, durably, and never another: two
nodes that both think they should begin make two clusters with disjoint majorities at worst, never
one cluster with two histories. A node that finds a cluster which does not count on it asks to join.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rsqlite.config import Settings
from rsqlite.errors import RequestError
from rsqlite.node.changes import member_problem
from rsqlite.ports import Handle, Loop, Network
from rsqlite.raft.types import Configuration, Member, NodeId


def first_configuration(
    members: list[Member], *, fingerprint: str, cluster_id: str
) -> Configuration:
    """Everybody votes."""
    return Configuration(
        members=tuple(sorted(members)),
        voters=frozenset(member.node_id for member in members),
        fingerprint=fingerprint,
        cluster_id=cluster_id,
    )


def join_addresses(settings: Settings) -> list[str]:
    """The addresses of `-join`, without blanks and repeats."""
    return list(dict.fromkeys(one.strip() for one in settings.join.split(",") if one.strip()))


def expects_itself(settings: Settings, own_address: str) -> bool:
    """Is this node all that a cluster of one waits for, and `-join` names nobody else?"""
    own = {own_address, settings.raft_addr}
    return settings.bootstrap_expect == 1 and own.issuperset(join_addresses(settings))


def founders(own: Member, found: Mapping[NodeId, Member], expect: int) -> list[Member] | None:
    """Whom the first configuration holds if this node is the one to write it, else None.

    The lowest id begins: all who see the same nodes agree on it without a message.
    """
    everybody = {own.node_id: own, **found}
    if len(everybody) < expect:
        return None
    chosen = [everybody[node_id] for node_id in sorted(everybody)][:expect]
    return chosen if chosen[0].node_id == own.node_id else None


class Discovery:
    """Asks around until there are enough; `begin(members)` is called once, on the node that is to
    write the first configuration."""

    def __init__(
        self,
        *,
        own: Member,
        fingerprint: str,
        settings: Settings,
        network: Network,
        loop: Loop,
        begin: Callable[[list[Member]], None],
        join: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._own = own
        self._fingerprint = fingerprint
        self._settings = settings
        self._network = network
        self._loop = loop
        self._begin = begin
        self._join = join
        self._failed = failed
        self._found: dict[NodeId, Member] = {}
        self._answered: dict[str, NodeId] = {}
        """Who did last, by the address that was asked."""
        self._silent: dict[str, BaseException | None] = {}
        """Why there was no answer, by the address."""
        self._is_awaited = False
        """A neighbour's cluster counts on this node: its invitation is on the way."""
        self._is_stranger = False
        """A neighbour's cluster does not."""
        self._deadline = loop.monotonic() + settings.bootstrap_expect_timeout
        self._timer: Handle | None = None
        self._is_done = False

    def start(self) -> None:
        """Look for the others until `stop`, or until this node is the one to begin."""
        self._look()

    def stop(self) -> None:
        """A cluster was found or formed."""
        self._is_done = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._is_done:
            return
        if self._loop.monotonic() > self._deadline:
            self.stop()
            self._failed(
                RequestError(
                    f"found {len(self._found) + 1} of {self._settings.bootstrap_expect} nodes "
                    f"within {self._settings.bootstrap_expect_timeout:g} s: are all of "
                    f"{self._settings.join} running, and do they agree on -bootstrap-expect?"
                    + "".join(f" {one} did not tell: {why}." for one, why in self._silent.items())
                )
            )
            return
        # A turn after the answers came: another neighbour may have said the opposite, if two of
        # them began a cluster each.
        if self._is_stranger and not self._is_awaited:
            self.stop()
            self._join()
            return
        self._is_stranger = self._is_awaited = False
        self._consider()
        for address in join_addresses(self._settings):
            self._network.identify(address, partial(self._identified, address))
        self._timer = self._loop.call_later(self._settings.discovery_interval, self._look)

    def _identified(
        self, address: str, identity: Mapping[str, Any] | None, error: BaseException | None
    ) -> None:
        if self._is_done:
            return
        if error is not None or identity is None:
            self._silent[address] = error
            return
        self._silent.pop(address, None)
        try:
            member = Member(
                NodeId(int(identity["node_id"])),
                str(identity["label"]),
                str(identity["raft_addr"]),
                str(identity["http_addr"]),
            )
            cluster_id = identity["cluster_id"]
            fingerprint = identity["fingerprint"]
            members = dict(identity["members"])
            if problem := member_problem(member):
                raise ValueError(problem)
        except (KeyError, TypeError, ValueError):
            return  # not one of ours; it keeps being asked until the deadline names it
        if cluster_id is not None or member.node_id == self._own.node_id:
            self._found.pop(member.node_id, None)
            if cluster_id is not None:
                self._note_cluster(members)
            return
        before = self._answered.get(address)
        if before is not None and before != member.node_id:
            self._found.pop(before, None)  # it was started again, with an empty directory
        self._answered[address] = member.node_id
        problem = self._problem_with(member, fingerprint)
        if problem:
            self.stop()
            self._failed(RequestError(problem))
            return
        self._found[member.node_id] = member
        self._consider()

    def _problem_with(self, member: Member, fingerprint: str) -> str:
        """Why this one and the others cannot found a cluster together; empty if they can."""
        if fingerprint != self._fingerprint:
            return (
                f"the node at {member.raft_addr} computes SQL differently (another SQLite version"
                " or other options): all founders need the same release"
            )
        for one in (self._own, *self._found.values()):
            is_twin = one.label == member.label or one.raft_addr == member.raft_addr
            if is_twin and one.node_id != member.node_id:
                return (
                    f"of the nodes to be, {one.label!r} is at {one.raft_addr} and {member.label!r}"
                    f" at {member.raft_addr}: each needs a -node-id and a raft address of its own"
                )
        return ""

    def _note_cluster(self, members: Mapping[str, str]) -> None:
        if not members or str(self._own.node_id) in members:
            self._is_awaited = True  # or it is not known yet who belongs to it
        else:
            self._is_stranger = True

    def _consider(self) -> None:
        if self._is_done:
            return
        members = founders(self._own, self._found, self._settings.bootstrap_expect)
        if members is not None:
            self.stop()
            self._begin(members)
