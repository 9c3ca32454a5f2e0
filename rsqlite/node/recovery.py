"""A cluster that lost its majority for good: an operator says who it consists of from now on.

As with rqlite, `raft/peers.json` in the data directory of each node that is left names them all:
`[{"id": "1", "address": "host:4002", "non_voter": false}]`. At its next start each appends that
configuration to its log by itself, and the file becomes `peers.info`. This is not consensus: what
only the lost nodes had is lost, and what no majority had acknowledged may be kept.

The entry's term is far above every term of an election, and grows with the last one in the log, so
the node with the most up-to-date log wins, as it would have, and no two different entries get the
same term and index: not even where the logs differ.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from rsqlite.config import address_problems
from rsqlite.errors import DiskFault, RequestError
from rsqlite.ports import Loop, Network
from rsqlite.raft.types import (
    TERM_STEP,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    Member,
    NodeId,
    Term,
    is_forced_between,
)
from rsqlite.statemachine.schema import sync_directory
from rsqlite.storage.directory import RAFT_NAME
from rsqlite.storage.logstore import LogStore

PEERS_NAME, DONE_NAME = "peers.json", "peers.info"
PEERS_BYTES_MAX = 1 << 20
SCAN_BYTES = 4 << 20


class Peer(NamedTuple):
    """A node as an operator names it."""

    label: str
    raft_addr: str
    is_voter: bool


def peers_path(directory: str) -> str:
    """Where the operator's file is looked for."""
    return os.path.join(directory, RAFT_NAME, PEERS_NAME)


def read_peers(path: str) -> list[Peer] | None:
    """What the file says; None if there is none. RequestError says what is wrong with it."""
    try:
        with open(path, "rb") as file:
            data = file.read(PEERS_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskFault(f"cannot read {path}: {error}") from error
    try:
        value = json.loads(data)
        peers = [
            Peer(str(one["id"]), str(one["address"]), not one.get("non_voter", False))
            for one in value
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f'{path} is not [{{"id": "...", "address": "host:port"}}, ...]: {error!r}'
        ) from error
    problem = problem_of(peers)
    if problem:
        raise RequestError(f"{path} {problem}")
    return peers


def problem_of(peers: Sequence[Peer]) -> str:
    """Why these cannot be a cluster, as the end of a sentence; empty if they can."""
    for found in ([one.label for one in peers], [one.raft_addr for one in peers]):
        if twice := [one for one in found if found.count(one) > 1]:
            return f"names {twice[0]!r} twice"
    for _, address, _ in peers:
        if problems := address_problems(address):
            return f"has a wrong address: {problems[0]}"
        host, _, port = address.rpartition(":")
        if not host or not int(port):
            return f"has an address at which nobody can reach a node: {address!r}"
    if not any(one.is_voter for one in peers):
        return "names no node with a vote"
    return ""


def forced(current: Configuration, own: Member, peers: list[Peer]) -> Configuration:
    """The configuration that these peers make, with the numbers that the present one knows.
    RequestError for a node that it does not know, or knows twice."""
    members: list[Member] = []
    voters: set[NodeId] = set()
    for peer in peers:
        known = [one for one in current.members if one.label == peer.label] or [
            one for one in current.members if one.raft_addr == peer.raft_addr
        ]
        if own.label == peer.label:
            # As all others know it, so that all write the same.
            known = [one for one in current.members if one.node_id == own.node_id] or [own]
        if len(known) != 1:
            raise RequestError(
                f"{PEERS_NAME} names {peer.label!r} at {peer.raft_addr}, which is no member that"
                " this node knows: leave it out, and let it join afterwards"
            )
        member = known[0]._replace(raft_addr=peer.raft_addr)
        if member.node_id in {one.node_id for one in members}:
            raise RequestError(f"{PEERS_NAME} names {member.label!r} twice, as {peer.label!r}, too")
        members.append(member)
        if peer.is_voter:
            voters.add(member.node_id)
    if own.node_id not in {member.node_id for member in members}:
        raise RequestError(f"{PEERS_NAME} does not name this node, {own.label!r}")
    learners = {member.node_id for member in members} - voters
    upgrade = current.upgrade
    if upgrade is not None:
        upgrade = upgrade._replace(members=upgrade.members & (voters | learners))
    return replace(
        current,
        members=tuple(sorted(members)),
        voters=frozenset(voters),
        outgoing=frozenset(),
        learners=frozenset(learners),
        upgrade=upgrade,
    )


def latest_configuration(
    log: LogStore, base: Configuration, applied: Index
) -> tuple[Configuration, Term]:
    """The last one in the log and its term, or the database's, which is as of `applied`."""
    found, term, low = base, Term(0), Index(max(applied + 1, log.first_index))
    if base.members:
        term = log.term(applied) or Term(0)
    while low <= log.last_index:
        entries = log.entries(low, Index(log.last_index + 1), SCAN_BYTES)
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                found, term = Configuration.from_bytes(entry.data), entry.term
        low = Index(entries[-1].index + 1)
    return found, term


def addresses_of(*configurations: Configuration, without: NodeId) -> list[str]:
    """Where all their members are but this one, each address once."""
    members = [one for each in configurations for one in each.members if one.node_id != without]
    return list(dict.fromkeys(one.raft_addr for one in members))


class Others(NamedTuple):
    """What the other nodes say of the cluster."""

    went_on: bool = False
    """Some of them were recovered already, and count on this one."""
    leader: str = ""
    """Where the one is that leads, if none went on so: a majority is there."""


def ask_others(
    network: Network,
    loop: Loop,
    addresses: Sequence[str],
    *,
    own_id: int,
    cluster_id: str,
    last_term: Term,
    timeout_s: float,
    done: Callable[[Others], None],
) -> None:
    """Ask the nodes at these addresses; told once, when one of them went on or all have been asked.
    `last_term` is that of the last entry here: the terms before another recovery are large, too."""
    waiting = set(addresses)
    leaders: list[str] = []
    is_told = [False]

    def tell(went_on: bool) -> None:
        if not is_told[0]:
            is_told[0] = True
            done(Others(went_on, "" if went_on or not leaders else leaders[0]))

    def identified(
        address: str, value: Mapping[str, object] | None, error: BaseException | None
    ) -> None:
        waiting.discard(address)
        if value is not None and value.get("cluster_id") == cluster_id:
            members, term = value.get("members"), value.get("term")
            counts = isinstance(members, dict) and str(own_id) in members
            if counts and isinstance(term, int) and is_forced_between(last_term, term):
                tell(True)
            elif leader := value.get("leader"):
                leaders.append(str(leader))
        if not waiting:
            tell(False)

    for address in addresses:
        network.identify(address, partial(identified, address))
    if addresses:
        loop.call_later(timeout_s, tell, False)
    else:
        loop.call_soon(tell, False)


def forcing_entry(log: LogStore, configuration: Configuration) -> tuple[Entry, HardState]:
    """What to append, and the term that goes with it."""
    last_term = log.term(log.last_index) or Term(0)
    term = Term(last_term + TERM_STEP)
    entry = Entry(
        term, Index(log.last_index + 1), EntryKind.CONFIGURATION, configuration.to_bytes()
    )
    # A vote that was given stays given.
    state = log.hard_state if log.hard_state.term >= term else HardState(term)
    return entry, state


def write_peers(directory: str, peers: list[Peer]) -> str:
    """Make the file, durable when this returns; its path."""
    path = peers_path(directory)
    value = [
        {"id": one.label, "address": one.raft_addr, "non_voter": not one.is_voter} for one in peers
    ]
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)
        for folder in (os.path.dirname(path), directory):
            sync_directory(folder)
    except OSError as error:
        raise DiskFault(f"cannot write {path}: {error}") from error
    return path


def finish(directory: str) -> None:
    """The file has been followed: it must not be followed again."""
    folder = os.path.join(directory, RAFT_NAME)
    try:
        os.replace(os.path.join(folder, PEERS_NAME), os.path.join(folder, DONE_NAME))
        sync_directory(folder)
    except OSError as error:
        raise DiskFault(f"cannot rename {peers_path(directory)}: {error}") from error
