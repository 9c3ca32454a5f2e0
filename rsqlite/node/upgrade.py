"""Declared upgrades: two releases that compute SQL differently live together for a while.

An operator declares what is to come: that entry of the log lets members of a second fingerprint in
(`raft/types.py: Upgrade`). Each member that comes back with it makes that known, as it does with a
new address. Entries are made as the older release makes them, and one of the older ones leads as
long as one can. When every member has the newer fingerprint, the leader ends the upgrade: from
that entry on the newer one alone counts.

What to propose is decided by pure functions here, which `changes.py` and `membership.py` call.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from rsqlite.errors import RequestError
from rsqlite.raft.types import Configuration, Member, NodeId, Upgrade
from rsqlite.statemachine.fingerprint import behaviour_of, is_fingerprint


class Declare(msgspec.Struct, tag="declare", frozen=True):
    """Members of the fingerprint `target` are to be let in."""

    target: str


class Abandon(msgspec.Struct, tag="abandon", frozen=True):
    """The upgrade that is declared is not to be."""


def declare(current: Configuration, target: str) -> Configuration | None:
    """The configuration with this upgrade; None when it is declared already, or over."""
    if not is_fingerprint(target):
        raise RequestError(
            f"{target!r} is no fingerprint: `rsqlite fingerprint` prints that of a release"
        )
    declared = current.upgrade
    if declared is not None and declared.target != target:
        raise RequestError(
            f"an upgrade to {declared.target} is declared: let it end, or abandon it first"
        )
    if declared is not None or target == current.fingerprint:
        return None
    if behaviour_of(target) < behaviour_of(current.fingerprint):
        raise RequestError(
            f"{target} is older than the cluster's {current.fingerprint}: its release could not"
            " carry out what is in the log"
        )
    return replace(current, upgrade=Upgrade(target))


def abandon(current: Configuration) -> Configuration | None:
    """The configuration without the upgrade that is declared; None if none is."""
    if current.upgrade is None:
        return None
    ahead = [one.label for one in current.members if one.node_id in current.upgrade.members]
    if ahead:
        raise RequestError(
            f"the newer release runs on {', '.join(ahead)}: start it there with the older one"
            " first, or let the upgrade end"
        )
    return replace(current, upgrade=None)


def recorded(current: Configuration, node_id: NodeId, fingerprint: str) -> Configuration:
    """The configuration that knows how this member computes SQL; RequestError if it may not so."""
    if fingerprint not in current.fingerprints:
        raise RequestError(
            f"it computes SQL differently from this cluster ({fingerprint} is not"
            f" {' or '.join(sorted(current.fingerprints))}): start it with the release that the"
            " cluster runs, or declare an upgrade first (`rsqlite upgrade`)"
        )
    upgrade = current.upgrade
    if upgrade is None:
        return current
    others = upgrade.members - {node_id}
    ahead = others | {node_id} if fingerprint == upgrade.target else others
    return replace(current, upgrade=Upgrade(upgrade.target, ahead))


def by_itself(current: Configuration, own: Member, fingerprint: str) -> Configuration | None:
    """What a leader proposes without being asked: its own address and fingerprint, and the end of
    an upgrade that has reached every member. None: there is nothing."""
    node_id = own.node_id
    known, found = current.member(node_id), current
    if known is None:
        return None  # it is leaving
    if known != own:
        others = (one for one in current.members if one.node_id != node_id)
        found = replace(current, members=tuple(sorted((*others, own))))
    if current.is_alone(node_id) and fingerprint != current.fingerprint:
        return replace(found, fingerprint=fingerprint, upgrade=None)
    if fingerprint in current.fingerprints:
        found = recorded(found, node_id, fingerprint)
    upgrade = found.upgrade
    if upgrade is not None and all(one.node_id in upgrade.members for one in found.members):
        found = replace(found, fingerprint=upgrade.target, upgrade=None)
    return None if found == current else found
