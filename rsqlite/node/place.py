"""This node's place in the cluster: it asks for one, and keeps its addresses true.

A node asks to join until its own log says that it is a member, with the vote that it wants, at the
addresses where it can be reached. Whether it still belongs there `belonging.py` finds out.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from rsqlite.config import Settings
from rsqlite.errors import (
    NoLeader,
    NotLeader,
    RequestError,
    RsqliteError,
    Stopped,
)
from rsqlite.node.belonging import Belonging
from rsqlite.node.changes import Join, former_selves
from rsqlite.node.cluster import join_addresses
from rsqlite.node.home import Home
from rsqlite.node.membership import refusal_of
from rsqlite.ports import Loop, Network
from rsqlite.raft.core import Raft
from rsqlite.raft.types import Configuration, Member

log = logging.getLogger(__name__)

ASK_PAUSE_S = 10.0
"""Pause before the others are asked once more who is in the cluster."""
LEARNING_PAUSE_S = 0.25
"""Pause between two questions while the answer was yes and the log does not say so yet."""

VOTES = (
    "this node has a vote and keeps it, against -raft-non-voter: to be without, it must be removed"
    " and join with an empty directory"
)


class Weight(enum.IntEnum):
    """What an answer is worth: who does not lead cannot know."""

    SILENCE = 0
    MEMBER = 1
    LEADER = 2


class Place:
    """One node's. `sweep` is called a few times a second."""

    def __init__(
        self,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        own: Callable[[], Member],
        fingerprint: str,
        cluster_id: Callable[[], str | None],
        run: str,
        core: Callable[[], Raft | None],
        connect: Callable[[], None],
        failed: Callable[[RsqliteError], None],
    ) -> None:
        """`connect` has the links made anew, to where `address_of` says that the members are. `run`
        tells this process from another one of the same node."""
        self._network = network
        self._loop = loop
        self._settings = settings
        self._own = own
        self._fingerprint = fingerprint
        self._core = core
        self._cluster_id = cluster_id
        self._former_cluster = ""
        self._failed = failed
        self._joins = False
        self._is_asking = False
        self._next_look = self._next_ask = 0.0
        self._attempts = 0
        self._attempts_max: float = settings.join_attempts
        self._leaderless_since: float | None = None
        self._is_warned = False
        """Of its vote, that its settings do not want."""
        self._is_stopped = False
        self._refusal = ""
        self._weight = Weight.SILENCE
        """Of what was answered so far: of one that leads, what the others say is no news."""
        self._home = Home(network, own=own, run=run, is_twin=self._end)
        self._let_in_since: float | None = None
        """A cluster said yes, and nothing else has come from it."""
        self._belonging = Belonging(
            network=network,
            loop=loop,
            settings=settings,
            own=own,
            cluster_id=cluster_id,
            core=core,
            home=self._home,
            connect=connect,
            removed=self._end,
        )

    def __repr__(self) -> str:
        return f"<Place joins={self._joins} asking={self._is_asking}>"

    @property
    def joins(self) -> bool:
        """This node has no cluster and asks for one: it takes the first that invites it."""
        return self._joins

    def join(self, seeds: Sequence[str] = ()) -> None:
        """Begin to ask: this node has no cluster, and shall be in that of the others. `seeds`: who
        may be asked beside those of `-join`."""
        self._joins = True
        self._belonging.seeds = list(seeds)
        self._look()

    def come_back(self, configuration: Configuration) -> None:
        """Begin to ask: this node was in that cluster as another one, and shall be in it again, and
        in no other that may be at the members' old addresses by now. It asks until it is told yes
        or no."""
        self._attempts_max = math.inf
        self._former_cluster = configuration.cluster_id
        self.join([one.raft_addr for one in configuration.members])

    @property
    def cluster_id(self) -> str:
        """The only cluster that this node may be in; empty: any."""
        return self._cluster_id() or self._former_cluster

    def own_member(self) -> Member:
        """This node as the configuration is to name it: not where somebody else answers."""
        own, core = self._own(), self._core()
        known = None if core is None else core.configuration.member(own.node_id)
        return own._replace(raft_addr=known.raft_addr) if known and self._home.occupant else own

    def address_of(self, member: Member) -> str:
        """Where to look for a member. A link is made only with who it is meant for."""
        return self._belonging.address_of(member)

    def stop(self) -> None:
        """Ask no more."""
        self._is_stopped = True
        self._belonging.stop()

    def sweep(self, now: float) -> None:
        """Look whether all is as it should be, and ask if it is not."""
        core = self._core()
        if core is not None and core.leader_id is None:
            self._leaderless_since = self._leaderless_since or now
        elif self._leaderless_since is not None:
            self._leaderless_since = None
            self._next_look = now  # somebody can be asked what has to be
        if now >= self._next_look and not self._is_asking and not self._is_stopped:
            self._look()

    def core_started(self) -> None:
        """Ask the others at once, and not only when no leader is heard of for long: those that a
        recovery left out would have elected each other by then. One that is only about to be a
        member would hear of no place from whoever is behind."""
        core = self._core()
        if core is not None and core.configuration.member(self._own().node_id) is not None:
            self._ask_who_is_in(core)
            if core.configuration.member(self._own().node_id) != self._own():
                self._home.look(lambda: None)
                self._home.look_for_twin(self._known_address(core), lambda: None)

    def configuration_committed(self) -> None:
        """Look at the next sweep: it may have no place for this node any more."""
        self._next_look = 0.0

    def _look(self) -> None:
        now = self._loop.monotonic()
        self._next_look = now + self._settings.join_interval
        core = self._core()
        if core is None:
            if self._joins:
                self._ask(self._addresses(None))
            return
        self._joins = False
        own, configuration = self._own(), core.configuration
        known = configuration.member(own.node_id)
        if core.configurations.committed.member(own.node_id) is not None:
            self._belonging.was_member = True
        silent_s = 0.0 if self._leaderless_since is None else now - self._leaderless_since
        is_unheard = silent_s > self._settings.join_interval
        if (known is None and core.leader_id != own.node_id) or is_unheard or now >= self._next_ask:
            self._ask_who_is_in(core, is_silent=is_unheard)
        if known is None and core.leader_id is None and self._belonging.is_lost:
            self._ask(self._addresses(core))
        if known is None or core.leader_id is None:
            return
        if self._settings.raft_non_voter and own.node_id in configuration.voters:
            if not self._is_warned:
                log.warning(VOTES)
            self._is_warned = True
        votes = not self._settings.raft_non_voter
        former = former_selves(configuration, own, voters=votes)
        has_changed = configuration.fingerprint_of(own.node_id) != self._fingerprint
        if (
            known != own
            or (own.node_id in configuration.learners and (votes or former))
            or (has_changed and self._fingerprint in configuration.fingerprints)
        ):
            self._ask(self._addresses(core))

    def _addresses(self, core: Raft | None) -> list[str]:
        """Whom to ask: the leader first, then the members, then those of `-join`."""
        own = self._own()
        found: list[str] = []
        if core is not None:
            members = core.configuration.members
            found += [one.raft_addr for one in members if one.node_id == core.leader_id]
            found += [one.raft_addr for one in members if one.node_id != own.node_id]
            found.append(self._known_address(core))  # another member may be there by now
        found += [*self._belonging.seeds, *join_addresses(self._settings)]
        return [one for one in dict.fromkeys(found) if one and one != own.raft_addr]

    def _ask_who_is_in(self, core: Raft, *, is_silent: bool = False) -> None:
        self._next_ask = self._loop.monotonic() + ASK_PAUSE_S
        self._belonging.ask(self._addresses(core), is_silent=is_silent)

    # Asking to join

    def _ask(self, addresses: list[str]) -> None:
        self._is_asking = True
        self._refusal, self._weight = "nobody answered", Weight.SILENCE
        self._home.look(partial(self._ask_from_home, addresses))

    def _ask_from_home(self, addresses: list[str]) -> None:
        if self._is_stopped:
            return
        if self._home.occupant:
            self._refusal = (
                f"{self._home.occupant}, where this one says that it is: give it an address of its"
                " own (-raft-addr, -raft-adv-addr)"
            )
            self._ended()
        else:
            known = self._known_address(self._core())
            self._home.look_for_twin(known, lambda: self._ask_next(addresses, set()))

    def _known_address(self, core: Raft | None) -> str:
        known = None if core is None else core.configuration.member(self._own().node_id)
        return "" if known is None else known.raft_addr

    def _end(self, error: RsqliteError) -> None:
        if not self._is_stopped:
            self.stop()
            self._failed(error)

    def _ask_next(self, addresses: list[str], asked: set[str]) -> None:
        """Ask one after the other, and whoever they say leads, until one can say."""
        left = [one for one in addresses if one not in asked]
        if self._is_stopped:
            return
        if not left:
            self._ended()
            return
        address = left[0]
        asked.add(address)
        own = self._own()
        wish = Join(
            own.node_id,
            own.label,
            own.raft_addr,
            own.http_addr,
            self._fingerprint,
            not self._settings.raft_non_voter,
            is_member=self._core() is not None,  # of which its log has told
            cluster_id=self.cluster_id,
        )
        timeout_s = self._settings.join_interval
        self._network.ask(
            address,
            {"wish": msgspec.to_builtins(wish), "timeout_s": timeout_s},
            partial(self._answered, address, left[1:], asked),
            timeout_s=timeout_s,
        )

    def _answered(
        self,
        address: str,
        left: list[str],
        asked: set[str],
        value: Mapping[str, Any] | None,
        error: BaseException | None,
    ) -> None:
        if self._is_stopped:
            return
        if value is None:
            self._note(f"{address}: {error}", Weight.SILENCE)
            self._ask_next(left, asked)
            return
        refusal = refusal_of(value)
        leader = str(value.get("leader") or "")
        if refusal is None:
            self._is_asking = False
            self._next_look = self._loop.monotonic() + LEARNING_PAUSE_S
            self._let_in()
        elif isinstance(refusal, RequestError):
            self._is_asking = False
            self._refused(RequestError(f"the cluster does not take this node: {refusal}"))
        else:
            knows = not isinstance(refusal, NotLeader | NoLeader | Stopped)
            self._note(f"{address}: {refusal}", Weight.LEADER if knows else Weight.MEMBER)
            self._ask_next([leader, *left] if leader else left, asked)

    def _note(self, refusal: str, weight: Weight) -> None:
        if weight >= self._weight:
            self._refusal, self._weight = refusal, weight

    def _let_in(self) -> None:
        """The leader said yes. Its invitation follows at once, if it finds us."""
        now = self._loop.monotonic()
        if self._core() is not None:
            self._attempts, self._let_in_since = 0, None
        elif self._let_in_since is None:
            self._let_in_since = now
        elif now - self._let_in_since >= self._settings.join_interval:
            self._let_in_since = now
            self._refusal = (
                "the cluster has let this node in, and does not reach it at"
                f" {self._own().raft_addr}: is that its address (-raft-adv-addr)? If it is not to"
                " be a member, stop it, then remove it"
            )
            self._ended()

    def _ended(self) -> None:
        """All were asked, and none could say yes."""
        self._is_asking = False
        self._attempts += 1
        log.warning("cannot join yet", extra={"attempt": self._attempts, "reason": self._refusal})
        if self._joins and self._attempts >= self._attempts_max:
            self._refused(
                RequestError(
                    f"could not join within {self._attempts} attempts (-join-attempts);"
                    f" the last answer: {self._refusal}"
                )
            )

    def _refused(self, error: RsqliteError) -> None:
        """A node without a cluster ends with it; a member goes on as it is."""
        if self._joins:
            self._end(error)
        else:
            log.error("the cluster does not change this node's place: %s", error)
