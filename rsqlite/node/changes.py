"""What may be wished of a cluster's membership, and the next step towards it; nothing happens here.

A wish is compared with the configuration in force again and again until they agree, so whoever
leads may carry on with it, and to wish twice changes nothing.

join      an unknown node becomes a learner; when it has caught up, and wants a vote, a voter
          (thesis 4.2.1). A silent member of the same label or raft address, but another number, is
          a disk that was wiped or replaced: it leaves in the very change that gives the new one its
          vote. A member that has moved gets its new addresses, one that runs another release of
          a declared upgrade its fingerprint.
remove    the member leaves, if those that remain can still agree.
declare, abandon   an upgrade (`upgrade.py`).

Who answers, a new leader does not know yet: nobody is silent to it before it has listened for a
while, and what depends on that waits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from dataclasses import replace

import msgspec

from rsqlite.config import address_problems, label_problems
from rsqlite.errors import RequestError, Unavailable
from rsqlite.node.upgrade import Abandon, Declare, abandon, declare, recorded
from rsqlite.raft.types import Configuration, Member, NodeId

NODE_ID_MAX = (1 << 64) - 1
"""It has eight bytes in the messages between nodes."""


class Join(msgspec.Struct, tag="join", frozen=True):
    """A node wants to be a member. `fingerprint` is how it computes SQL; `is_member` says that its
    own log has it as one. `cluster_id` is empty, or of the only cluster that it will be in."""

    node_id: int
    label: str
    raft_addr: str
    http_addr: str
    fingerprint: str
    is_voter: bool = True
    is_member: bool = False
    cluster_id: str = ""

    @property
    def member(self) -> Member:
        return Member(NodeId(self.node_id), self.label, self.raft_addr, self.http_addr)


class Remove(msgspec.Struct, tag="remove", frozen=True):
    """A member is to leave. `node` is its label, or its number."""

    node: str


class Transfer(msgspec.Struct, tag="transfer", frozen=True):
    """Leadership is to move: to the member of this label or number, or to whoever has most."""

    node: str = ""


Change = Join | Remove | Declare | Abandon
Wish = Change | Transfer

Heard = Callable[[NodeId], bool | None]
"""Whether something is so of a member; None: it was not heard yet."""


class Standing(enum.Enum):
    """How far a change is that asks for no new configuration now."""

    DONE = "done"
    LEARNING = "learning"
    """It is a learner and has not caught up."""
    UNHEARD = "unheard"
    """It depends on members that may answer, and were not heard yet."""


def member_problem(member: Member) -> str:
    """Why a cluster cannot have this one, as the end of a sentence; empty if it can. From the entry
    that names it on every node counts on it: that it can be sent, printed and dialled."""
    if not 0 < member.node_id <= NODE_ID_MAX:
        return f"has the number {member.node_id}, which no node can have"
    if problems := label_problems(member.label):
        return f"has a wrong label: {problems[0]}"
    for address in filter(None, (member.raft_addr, member.http_addr)):
        if problems := address_problems(address):
            return f"has a wrong address: {problems[0]}"
    host, _, port = member.raft_addr.rpartition(":")
    if not host or not int(port):
        return f"has an address at which nobody can reach it: {member.raft_addr!r}"
    return ""


def find_member(configuration: Configuration, node: str) -> Member | None:
    """The member that an operator means: by label, else by number. RequestError if the label is
    that of several."""
    found = [member for member in configuration.members if member.label == node]
    if not found:
        found = [member for member in configuration.members if str(member.node_id) == node]
    if len(found) > 1:
        numbers = ", ".join(str(member.node_id) for member in found)
        raise RequestError(f"several members are named {node!r}: give one of the numbers {numbers}")
    return found[0] if found else None


def next_configuration(
    current: Configuration,
    change: Change,
    *,
    is_caught_up: Callable[[NodeId], bool],
    is_reachable: Heard,
    may_lead: Heard,
) -> Configuration | Standing:
    """What to propose next, if `current` is settled. RequestError or Unavailable: never, or not
    while things are as they are."""
    match change:
        case Remove():
            return _remove(current, change, is_reachable, may_lead)
        case Declare():
            return declare(current, change.target) or Standing.DONE
        case Abandon():
            return abandon(current) or Standing.DONE
    return _join(current, change, is_caught_up, is_reachable, may_lead)


def _join(
    current: Configuration,
    change: Join,
    is_caught_up: Callable[[NodeId], bool],
    is_reachable: Heard,
    may_lead: Heard,
) -> Configuration | Standing:
    if change.cluster_id not in ("", current.cluster_id):
        raise Unavailable(f"this is cluster {current.cluster_id}, it asks for {change.cluster_id}")
    member = change.member
    known = current.member(member.node_id)
    named = recorded(current, member.node_id, change.fingerprint)
    if known is None and change.is_member:
        raise Unavailable("it was removed, or this leader does not know of it yet")
    former = former_selves(current, member, voters=change.is_voter or not change.is_member)
    if known is None:
        if not _are_silent(former, is_reachable):
            return Standing.UNHEARD
        return replace(
            named,
            members=tuple(sorted((*current.members, member))),
            learners=current.learners | {member.node_id},
        )
    if known != member or named != current:
        others = (one for one in current.members if one.node_id != member.node_id)
        return replace(named, members=tuple(sorted((*others, member))))
    if member.node_id not in current.learners:
        return Standing.DONE
    if not (change.is_voter or former):
        return Standing.DONE
    if not is_caught_up(member.node_id):
        return Standing.LEARNING
    if not _are_silent(former, is_reachable):
        return Standing.UNHEARD
    target = _without(current, {one.node_id for one in former})
    if change.is_voter:
        target = replace(
            target,
            voters=target.voters | {member.node_id},
            learners=target.learners - {member.node_id},
        )
    return target if _can_go_on(target, is_reachable, may_lead) else Standing.UNHEARD


def former_selves(configuration: Configuration, member: Member, *, voters: bool) -> list[Member]:
    """Members that had its label or its raft address before it: it takes their place. Without
    `voters` only that of learners: a read-only node that is started where a voter was is no reason
    to take the vote of that one away."""
    return [
        one
        for one in configuration.members
        if one.node_id != member.node_id
        and (one.label == member.label or one.raft_addr == member.raft_addr)
        and (voters or one.node_id in configuration.learners)
    ]


def replaced(before: Configuration, after: Configuration) -> list[str]:
    """Who leaves because another node has its label or its address, in words."""
    came = [one for one in after.members if one.node_id not in before.voters]
    return [
        f"{gone.label} at {gone.raft_addr} by {one.label}"
        for gone in sorted(set(before.members) - set(after.members))
        for one in came
        if gone in former_selves(before, one, voters=True)
    ]


def _are_silent(former: Collection[Member], is_reachable: Heard) -> bool:
    """A member that answers is not replaced by whoever has its name or its place. False: that is
    not known yet."""
    found = [(one, is_reachable(one.node_id)) for one in former]
    for one, answers in found:
        if answers:
            raise Unavailable(
                f"node {one.node_id} has the label {one.label!r} and the address {one.raft_addr},"
                " and answers: a new node needs others of its own, or remove that one first"
            )
    return all(answers is not None for _, answers in found)


def _remove(
    current: Configuration, change: Remove, is_reachable: Heard, may_lead: Heard
) -> Configuration | Standing:
    member = find_member(current, change.node)
    if member is None:
        return Standing.DONE
    target = _without(current, {member.node_id})
    if not target.voters:
        raise RequestError(f"{change.node} is the last voter: a cluster needs one")
    return target if _can_go_on(target, is_reachable, may_lead) else Standing.UNHEARD


def _without(configuration: Configuration, leaving: Collection[NodeId]) -> Configuration:
    upgrade = configuration.upgrade
    if upgrade is not None:
        upgrade = upgrade._replace(members=upgrade.members.difference(leaving))
    return replace(
        configuration,
        members=tuple(one for one in configuration.members if one.node_id not in leaving),
        voters=configuration.voters.difference(leaving),
        learners=configuration.learners.difference(leaving),
        upgrade=upgrade,
    )


def _can_go_on(target: Configuration, is_reachable: Heard, may_lead: Heard) -> bool:
    """Refuse what would leave no majority that answers, or nobody in it to lead: the change itself
    could commit with the votes of today, and nothing after it. False: that is not known yet."""
    found = {one: is_reachable(one) for one in sorted(target.voters)}
    silent = [one for one, answers in found.items() if answers is False]
    needed = len(found) // 2 + 1
    if len(found) - len(silent) < needed:
        labels = ", ".join(member.label for member in target.members if member.node_id in silent)
        raise Unavailable(
            f"of the {len(found)} voters that would be left, {len(silent)} do not answer"
            f" ({labels}): no majority could be had"
        )
    leading = {may_lead(one) for one in found if one not in silent}
    if leading <= {False}:
        raise Unavailable(
            f"of the {len(found)} voters that would be left, none that answers could lead: they"
            " wait for their databases, or for their disks"
        )
    return True in leading and sum(map(bool, found.values())) >= needed
