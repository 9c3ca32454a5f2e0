"""This node's place in the cluster: it asks for one, keeps its addresses true, learns that it left.

A node asks to join until its own log says that it is a member, with the vote that it wants, at the
addresses where it can be reached. Whether it was removed it cannot tell by itself: it may only be
behind. So it asks the others: at its start, when its configuration has no place for it, when it
has heard of no leader for a while, and now and then (those that a recovery left out may have begun
while the others were away); a committed configuration newer than all it has seen, and without it,
is the answer. Where what it has seen has no place for it either (an image may be older than the
entry that let it in), only one that leads can say.
"""

from __future__ import annotations

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
    RemovedFromCluster,
    RequestError,
    RsqliteError,
    Stopped,
)
from rsqlite.node.changes import Join, former_selves
from rsqlite.node.cluster import join_addresses
from rsqlite.node.home import Home
from rsqlite.node.introduction import read_introduction
from rsqlite.node.membership import refusal_of
from rsqlite.ports import Loop, Network
from rsqlite.raft.core import Raft
from rsqlite.raft.types import TERM_STEP, Member

log = logging.getLogger(__name__)

ASK_PAUSE_S = 10.0
"""Pause before the others are asked once more who is in the cluster."""
LEARNING_PAUSE_S = 0.25
"""Pause between two questions while the answer was yes and the log does not say so yet."""

VOTES = (
    "this node has a vote and keeps it, against -raft-non-voter: to be without, it must be removed"
    " and join with an empty directory"
)


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
        self._cluster_id = cluster_id
        self._core = core
        self._connect = connect
        self._failed = failed
        self._joins = False
        self._seeds: list[str] = []
        self._is_asking = False
        self._next_look = self._next_ask = 0.0
        self._attempts = 0
        self._attempts_max: float = settings.join_attempts
        self._leaderless_since: float | None = None
        self._was_member = False
        """In a configuration that was in force here since the start."""
        self._is_warned = False
        """Of its vote, that its settings do not want."""
        self._is_stopped = False
        self._refusal = ""
        self._is_leaders_word = False
        """The refusal is of one that leads: what the others say, who cannot know, is no news."""
        self._home = Home(network, own=own, run=run, is_twin=self._end)
        self._let_in_since: float | None = None
        """A cluster said yes, and nothing else has come from it."""
        self._found_at: dict[Member, str] = {}
        """Where members are that are not where the configuration in force says: nobody leads who
        could change it."""
        self._denied_since: float | None = None
        """A cluster that has invited us, of which we have nothing yet, does not name us."""

    def __repr__(self) -> str:
        return f"<Place joins={self._joins} asking={self._is_asking}>"

    @property
    def joins(self) -> bool:
        """This node has no cluster and asks for one: it takes the first that invites it."""
        return self._joins

    def join(self, seeds: Sequence[str] = (), *, comes_back: bool = False) -> None:
        """Begin to ask: this node has no cluster, and shall be in that of the others. `seeds`: who
        may be asked beside those of `-join`. `comes_back`: it was in it, as another node, so it
        asks until it is told yes or no."""
        self._joins = True
        self._attempts_max = math.inf if comes_back else self._settings.join_attempts
        self._seeds = list(seeds)
        self._look()

    def own_member(self) -> Member:
        """This node as the configuration is to name it: not where somebody else answers."""
        own, core = self._own(), self._core()
        known = None if core is None else core.configuration.member(own.node_id)
        return own._replace(raft_addr=known.raft_addr) if known and self._home.occupant else own

    def address_of(self, member: Member) -> str:
        """Where to look for a member. A link is made only with who it is meant for."""
        return self._found_at.get(member, member.raft_addr)

    def stop(self) -> None:
        """Ask no more."""
        self._is_stopped = True

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
        self._was_member = self._was_member or known is not None
        silent_s = 0.0 if self._leaderless_since is None else now - self._leaderless_since
        is_unheard = silent_s > self._settings.join_interval
        if (known is None and core.leader_id != own.node_id) or is_unheard or now >= self._next_ask:
            self._ask_who_is_in(core)
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
        found += [*self._seeds, *join_addresses(self._settings)]
        return [one for one in dict.fromkeys(found) if one and one != own.raft_addr]

    # Asking to join

    def _ask(self, addresses: list[str]) -> None:
        self._is_asking = True
        self._refusal, self._is_leaders_word = "nobody answered", False
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
            self._is_stopped = True
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
            self._note(f"{address}: {error}")
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
            self._note(f"{address}: {refusal}", is_leaders_word=knows)
            self._ask_next([leader, *left] if leader else left, asked)

    def _note(self, refusal: str, *, is_leaders_word: bool = False) -> None:
        if is_leaders_word or not self._is_leaders_word:
            self._refusal, self._is_leaders_word = refusal, is_leaders_word

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

    # Learning that this node was removed

    def _ask_who_is_in(self, core: Raft) -> None:
        self._next_ask = self._loop.monotonic() + ASK_PAUSE_S
        for address in self._addresses(core):
            self._network.identify(address, self._identified)

    def _identified(self, value: Mapping[str, Any] | None, error: BaseException | None) -> None:
        core = self._core()
        if self._is_stopped or value is None or core is None:
            return
        own, told = self._own(), read_introduction(value)
        if told is None:
            return
        is_ours, members = told.cluster_id == self._cluster_id(), told.members
        # It may be newer at a lower index: those that forced it did not have all.
        is_forced = told.committed_term - core.current_term > TERM_STEP // 2
        if is_ours:
            self._look_where_it_is(core, value)
        if not is_ours or not members:
            return
        is_fed = core.leader_id is not None and not self._was_member
        if is_fed or str(own.node_id) in members:
            self._denied_since = None  # whoever says no may be behind our own beginning
            self._home.look_for_twin(members.get(str(own.node_id), ""), lambda: None)
            return
        if self._was_member or core.configuration.member(own.node_id) is not None:
            if told.index < core.configurations.index and not is_forced:
                return  # it is behind us
        elif not told.is_settled or told.term < core.current_term:
            # We do not know where we came in, so it may be behind that. Who leads is not.
            self._seeds = [told.leader]
            return
        elif not core.configuration.members and not self._is_denied_for_long():
            return
        self._end(
            RemovedFromCluster(
                f"this node ({own.label}) was removed from its cluster, whose members are"
                f" {', '.join(sorted(members.values()))}. To have it back, start it with"
                " an empty directory and -join"
            )
        )

    def _look_where_it_is(self, core: Raft, value: Mapping[str, Any]) -> None:
        """A member that has moved tells the leader. Where all have moved at once, there is none
        before they have found each other."""
        members = core.configuration.members
        known = next((one for one in members if one.node_id == value.get("node_id")), None)
        address = str(value.get("raft_addr") or "")
        if known is None or known.node_id == self._own().node_id or not address:
            return
        if core.leader_id is not None or self.address_of(known) == address:
            return
        log.warning(
            "a member is at another address",
            extra={"label": known.label, "known": known.raft_addr, "found": address},
        )
        kept = {one: at for one, at in self._found_at.items() if one in members}
        self._found_at = {**kept, known: address}
        self._connect()

    def _is_denied_for_long(self) -> bool:
        """Without an entry we may have no term to tell by whether the leader that says so is one no
        more: it has time to learn it. Were it wrong all the same, we have nothing to lose."""
        now = self._loop.monotonic()
        if self._denied_since is None:
            self._denied_since = now
            log.warning("invited once, and no member of this cluster now")
        patience = (self._settings.join_attempts - 1) * self._settings.join_interval
        return now - self._denied_since >= patience
