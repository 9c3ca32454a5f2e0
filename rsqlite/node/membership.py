"""Wishes about the membership, asked of any node and carried out by the leader, one at a time.

A node that does not lead passes a wish of its own clients on to the leader; one that comes from
another node is answered with the leader's address instead, so that nothing goes in circles. The
leader looks at every open wish once a sweep: the first for which there is a next configuration
proposes it, the others wait until that is committed and settled. A leader that is to be removed
hands over first.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rsqlite import errors
from rsqlite.config import Settings
from rsqlite.errors import (
    MAYBE_CHANGED,
    Fate,
    LeadershipLost,
    NoLeader,
    NotLeader,
    Overloaded,
    RequestError,
    RsqliteError,
    TimedOut,
    Unavailable,
)
from rsqlite.node.changes import (
    Change,
    Join,
    Remove,
    Standing,
    Transfer,
    Wish,
    find_member,
    member_problem,
    next_configuration,
    replaced,
)
from rsqlite.node.driver import Driver
from rsqlite.node.upgrade import Abandon, Declare, by_itself
from rsqlite.ports import Loop, Network
from rsqlite.raft.core import Raft
from rsqlite.raft.types import Configuration, Index, Member, NodeId, Role

log = logging.getLogger(__name__)

CAUGHT_UP_SWEEPS = 10
"""A second."""

Granted = Callable[[RsqliteError | None], None]
"""Called once: None when the wish is fulfilled, or (a join) when the node is a learner at least."""

_to_wish: Callable[[Any], Wish] = lambda value: msgspec.convert(value, type=Wish)  # noqa: E731


class Open:
    """A wish that is not fulfilled yet. `is_begun`: leadership is handed over for it."""

    __slots__ = ("deadline", "granted", "is_begun", "wish")

    def __init__(self, wish: Wish, granted: Granted, deadline: float) -> None:
        self.wish = wish
        self.granted = granted
        self.deadline = deadline
        self.is_begun = False

    def answer(self, error: RsqliteError | None) -> None:
        """Tell whoever asked, once."""
        granted, self.granted = self.granted, _nobody
        granted(error)


class Membership:
    """Both sides: wishes of this node's clients, and those that other nodes ask of it."""

    def __init__(
        self,
        *,
        network: Network,
        loop: Loop,
        settings: Settings,
        own: Callable[[], Member],
        fingerprint: str,
        leader: Callable[[], Member | None],
    ) -> None:
        """`fingerprint` is how this node computes SQL."""
        self._network = network
        self._loop = loop
        self._settings = settings
        self._own = own
        self._fingerprint = fingerprint
        self._leader = leader
        self._driver: Driver | None = None
        self._open: list[Open] = []
        self._ends: deque[Index] = deque(maxlen=CAUGHT_UP_SWEEPS)
        """The end of the log at the last sweeps. Who has the latest is not far behind; whose
        database is as far as the earliest has not much to apply."""

    def __repr__(self) -> str:
        return f"<Membership open={len(self._open)}>"

    def wire(self, driver: Driver) -> None:
        """Tell it of the part that is made after it."""
        self._driver = driver

    @property
    def _leads(self) -> bool:
        return self._driver is not None and self._core.role is Role.LEADER

    @property
    def _core(self) -> Raft:
        assert self._driver is not None
        return self._driver.core

    def submit(self, wish: Wish, granted: Granted, timeout_s: float = 0.0) -> None:
        """See to a wish, here or at the leader. The fate of an error is that of the change."""
        timeout_s = timeout_s or self._settings.request_timeout
        if self._leads:
            self._begin(wish, granted, timeout_s)
            return
        leader = self._leader()
        if leader is None:
            granted(NoLeader())
            return

        def answered(value: Mapping[str, Any] | None, error: BaseException | None) -> None:
            if value is None:
                text = f"the leader at {leader.raft_addr} did not answer: {error}"
                granted(Unavailable(text, fate=Fate.UNKNOWN))
            else:
                granted(refusal_of(value))

        question = {"wish": msgspec.to_builtins(wish), "timeout_s": timeout_s}
        self._network.ask(leader.raft_addr, question, answered, timeout_s=timeout_s)

    def asked(
        self, question: Mapping[str, Any], answer: Callable[[Mapping[str, object]], None]
    ) -> None:
        """A question of another node."""

        def granted(error: RsqliteError | None) -> None:
            answer(_worded(error, self._leader()))

        try:
            wish = _to_wish(question.get("wish"))
            timeout_s = float(question.get("timeout_s", 0.0))
            if not 0 < timeout_s < math.inf:
                raise ValueError("timeout_s must be a time")
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            granted(RequestError(f"a question that no node asks: {error}"))
            return
        if not self._leads:
            granted(NotLeader())
        else:
            self._begin(wish, granted, min(timeout_s, self._settings.request_timeout))

    def _begin(self, wish: Wish, granted: Granted, timeout_s: float) -> None:
        if isinstance(wish, Join):
            if problem := member_problem(wish.member):
                granted(RequestError(f"the node that asks {problem}"))
                return
            # Asked again and again until it has its place: the last time counts.
            for one in self._open.copy():
                if isinstance(one.wish, Join) and one.wish.node_id == wish.node_id:
                    self._close(one, Unavailable("it was asked again"))
        if len(self._open) >= self._settings.membership_wishes_max:
            granted(Overloaded("too many changes of the membership are waiting"))
            return
        self._open.append(Open(wish, granted, self._loop.monotonic() + timeout_s))
        self._loop.call_soon(self.advance)

    def sweep(self, now: float) -> None:
        """Carry on with what is open; give up what is over its time."""
        for one in [one for one in self._open if one.deadline <= now]:
            self._open.remove(one)
            one.answer(
                TimedOut(f"the change was not made in time{MAYBE_CHANGED}", fate=Fate.UNKNOWN)
            )
        self.advance()
        if self._driver is not None:
            self._ends.append(self._core.last_index)

    def advance(self) -> None:
        """Take the next steps that are possible now."""
        if self._leads and self._is_settled and self._see_to_itself():
            return
        for one in list(self._open):
            if not self._leads:
                self._lead_no_more(one)
            elif isinstance(one.wish, Transfer):
                self._transfer(one, one.wish)
            elif self._is_settled and not self._step(one, one.wish):
                break

    def stop(self, error: RsqliteError) -> None:
        """Answer everybody."""
        waiting, self._open = self._open, []
        for one in waiting:
            one.answer(error)

    def _close(self, one: Open, error: RsqliteError | None) -> None:
        self._open.remove(one)
        one.answer(error)

    @property
    def _is_settled(self) -> bool:
        """May the next configuration be proposed (raft.md rule 24)?"""
        return self._core.may_change_configuration

    def _see_to_itself(self) -> bool:
        """True when a configuration was proposed that nobody wished for."""
        step = by_itself(self._core.configuration, self._own(), self._fingerprint)
        if step is not None:
            self._propose(step)
        return step is not None

    def _step(self, one: Open, change: Change) -> bool:
        """False when a configuration was proposed: nothing else can be, for now."""
        assert self._driver is not None
        current = self._driver.core.configuration
        try:
            step = next_configuration(
                current,
                change,
                is_caught_up=self._is_caught_up,
                is_reachable=self._is_reachable,
                may_lead=self._may_lead,
            )
        except RsqliteError as error:
            self._close(one, error)
            return True
        if step is Standing.DONE:
            self._close(one, None)
            return True
        if step is Standing.LEARNING:
            one.answer(None)  # it goes on; whoever asked sees the rest in its own log
        if isinstance(step, Standing):
            return True
        if step.member(self._own().node_id) is None and not one.is_begun:
            # We are to go ourselves. The next leader sees to it: it has everything when it takes
            # over, while those who are left by a leader wait until they miss one, and we would hear
            # no more of what is under way.
            one.is_begun = True
            if self._driver.transfer_leadership(None):
                return False
        self._forget_joins(step)
        self._propose(step)
        return False

    def _forget_joins(self, target: Configuration) -> None:
        """Who leaves is not to come back by what it asked before."""
        leaving = {one.node_id for one in self._core.configuration.members}
        leaving -= {one.node_id for one in target.members}
        for one in self._open.copy():
            if isinstance(one.wish, Join) and one.wish.node_id in leaving:
                self._close(one, Unavailable("it is being removed"))

    def _propose(self, target: Configuration) -> None:
        assert self._driver is not None
        before = self._driver.core.configuration
        entry_id = self._driver.propose_configuration(target)
        if entry_id is None:
            return
        told: dict[str, object] = {
            "index": entry_id.index,
            "voters": _labels(target.members, target.voters),
            "learners": _labels(target.members, target.learners),
            "replaced": replaced(before, target),
        }
        if target.upgrade is not None:
            told["upgrade"] = target.upgrade.target
            told["upgraded"] = _labels(target.members, target.upgrade.members)
        if target.fingerprint != before.fingerprint:
            told["fingerprint"] = target.fingerprint
        log.info("membership changes", extra=told)

    def _transfer(self, one: Open, wish: Transfer) -> None:
        assert self._driver is not None
        core = self._driver.core
        try:
            target = find_member(core.configuration, wish.node) if wish.node else None
        except RequestError as error:
            self._close(one, error)
            return
        if wish.node and (target is None or target.node_id not in core.configuration.voters):
            self._close(one, RequestError(f"{wish.node!r} is no voter of this cluster"))
        elif target is not None and target.node_id == self._own().node_id:
            self._close(one, None)
        elif target is not None and self._is_ahead(target.node_id):
            text = "is upgraded, and a voter that is not leads until the upgrade has reached all"
            self._close(one, RequestError(f"{wish.node!r} {text}"))
        elif not one.is_begun:
            node_id = None if target is None else target.node_id
            if not self._driver.transfer_leadership(node_id):
                self._close(one, Unavailable("no follower can take over now"))
            else:
                one.is_begun = True
        elif not core.is_transferring:
            self._close(one, Unavailable("the follower did not take over in time"))

    def _lead_no_more(self, one: Open) -> None:
        """This node ceased to lead. If it handed over to be removed, the next leader is asked, once
        it is known."""
        error = self._end_of_leadership(one.wish)
        leader = self._leader()
        if error is None or not (isinstance(one.wish, Remove) and one.is_begun):
            self._close(one, error)
        elif leader is not None:
            self._open.remove(one)
            left_s = one.deadline - self._loop.monotonic()
            self.submit(one.wish, one.granted, max(left_s, self._settings.tick))

    def _end_of_leadership(self, wish: Wish) -> RsqliteError | None:
        """What became of a wish when this node ceased to lead."""
        if isinstance(wish, Transfer):
            return None
        committed = self._core.configurations.committed
        if isinstance(wish, Declare) and wish.target in committed.fingerprints:
            return None
        if isinstance(wish, Abandon) and committed.members and committed.upgrade is None:
            return None
        if isinstance(wish, Remove) and committed.members:
            try:
                if find_member(committed, wish.node) is None:
                    return None
            except RequestError:
                pass  # several of that name: not ours to say which is gone
        return LeadershipLost(f"the leader changed{MAYBE_CHANGED}")

    def _is_caught_up(self, node_id: NodeId) -> bool:
        """Does it have what the log held a moment ago? Then the rest is as good as there. And has
        it applied what was there a second ago? If it were to lead it would serve nobody until then,
        and the log comes faster than it is applied."""
        for one in self._core.progress():
            if one.node_id == node_id and self._ends:
                return one.match_index >= self._ends[-1] and one.applied_index >= self._ends[0] > 0
        return False

    def _is_ahead(self, node_id: NodeId) -> bool:
        """Would it hand leadership back to a voter that answers?"""
        older = self._core.configuration.older_voters
        return node_id not in older and any(map(self._is_reachable, older))

    def _is_reachable(self, node_id: NodeId) -> bool | None:
        """Followers speak to their leader only. So one that was not heard is silent to whoever has
        led for as long as that; before, nobody knows: its first answer may wait for its disk."""
        if node_id == self._own().node_id:
            return True
        driver = self._driver
        assert driver is not None
        heard = driver.last_contact_s.get(node_id, -math.inf)
        now, patience = self._loop.monotonic(), 2 * self._settings.raft_election_timeout
        if now - heard < patience:
            return True
        return None if now - driver.led_since_s < patience else False

    def _may_lead(self, node_id: NodeId) -> bool | None:
        said = {one.node_id: one.may_lead for one in self._core.progress()}
        return node_id == self._own().node_id or said.get(node_id)


def refusal_of(value: Mapping[str, Any]) -> RsqliteError | None:
    """The error in the answer of another node; None when there is none."""
    name = value.get("error")
    if name is None:
        return None
    kind = getattr(errors, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, Unavailable | RequestError)):
        kind = Unavailable
    if issubclass(kind, errors.SqlError):
        kind = RequestError
    error = kind(str(value.get("text", "")))
    fate = str(value.get("fate"))
    error.fate = Fate[fate] if fate in Fate.__members__ else Fate.UNKNOWN
    return error


def _worded(error: RsqliteError | None, leader: Member | None) -> Mapping[str, object]:
    told = {"leader": "" if leader is None else leader.raft_addr}
    if error is not None:
        told |= {"error": type(error).__name__, "text": str(error), "fate": error.fate.name}
    return told


def _labels(members: tuple[Member, ...], node_ids: frozenset[NodeId]) -> list[str]:
    return sorted(member.label for member in members if member.node_id in node_ids)


def _nobody(_: RsqliteError | None) -> None:
    """Stands in for somebody who has been answered already."""
