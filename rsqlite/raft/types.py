"""The words of the Raft paper: terms, indices, entries, configurations.

`Configuration` is the value of a configuration entry. Its joint form (`outgoing` not empty) is
there from the start: agreement then needs a majority of both halves (thesis 4.3). The addresses of
a member are data to the core; it only looks at ids, and compares fingerprints.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import NamedTuple, NewType

NodeId = NewType("NodeId", int)
"""A random 64-bit number, chosen when a data directory is made and never used again."""
Term = NewType("Term", int)
Index = NewType("Index", int)

NO_TERM = Term(0)
NO_INDEX = Index(0)


class Role(enum.Enum):
    """The roles of Figure 4 of the paper, and the pre-candidate of thesis 9.6."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryKind(enum.IntEnum):
    """What an entry carries. Numbers are on disk and on the wire: never reuse one."""

    COMMAND = 1
    CONFIGURATION = 2
    NOOP = 3
    CHECK = 4
    """The state machine is to be looked at as of this index; it changes nothing."""


class Room(enum.IntEnum):
    """How much a node's disk still takes. Numbers are on the wire: never reuse one."""

    AMPLE = 0
    SHORT = 1
    """It takes what a leader sends, and wants to lead no more: clients' writes would be refused."""
    NONE = 2
    """It takes little more: entries are sent to it now and then only, a few at a time."""


class EntryId(NamedTuple):
    """Names an entry for ever: the same (term, index) never has two contents (log matching)."""

    term: Term
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class Entry(NamedTuple):
    """One entry of the log. `data` is bytes to the core, but for configurations."""

    term: Term
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    kind: EntryKind
    data: bytes


class HardState(NamedTuple):
    """What must be durable before a vote or a reply of its term leaves (paper, Figure 2)."""

    term: Term = NO_TERM
    voted_for: NodeId | None = None


class Member(NamedTuple):
    """A server as the configuration names it. `label` is the operator's name for it."""

    node_id: NodeId
    label: str
    raft_addr: str
    http_addr: str


class Upgrade(NamedTuple):
    """Declared: beside the members that compute SQL as the configuration's own fingerprint says,
    there may be others that do as `target` says. `members` are those known to do so."""

    target: str
    members: frozenset[NodeId] = frozenset()


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who only learns.

    `voters` is the incoming half; `outgoing` is empty except during a joint change. `members` holds
    everybody named anywhere in it, sorted by id. `fingerprint` is the SQL behaviour that members
    share (design 5.2), and by which entries are made; `upgrade` lets a second one in. Both are
    texts that the core compares; the cluster's id it carries along unread.
    """

    members: tuple[Member, ...] = ()
    voters: frozenset[NodeId] = frozenset()
    outgoing: frozenset[NodeId] = frozenset()
    learners: frozenset[NodeId] = frozenset()
    fingerprint: str = ""
    cluster_id: str = ""
    upgrade: Upgrade | None = None

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    def member(self, node_id: NodeId) -> Member | None:
        """The member with this id, or None."""
        for member in self.members:
            if member.node_id == node_id:
                return member
        return None

    @property
    def fingerprints(self) -> frozenset[str]:
        """Those that members may have; none: any."""
        own = {self.fingerprint} if self.fingerprint else set()
        return frozenset(own if self.upgrade is None else own | {self.upgrade.target})

    def fingerprint_of(self, node_id: NodeId) -> str:
        """How this member is known to compute SQL."""
        upgrade = self.upgrade
        is_ahead = upgrade is not None and node_id in upgrade.members
        return upgrade.target if upgrade is not None and is_ahead else self.fingerprint

    @property
    def older_voters(self) -> frozenset[NodeId]:
        """While an upgrade is declared, the voters that it has not reached."""
        return frozenset() if self.upgrade is None else self.voters - self.upgrade.members

    def is_alone(self, node_id: NodeId) -> bool:
        """Whether this node is the only member."""
        return [member.node_id for member in self.members] == [node_id]

    def to_bytes(self) -> bytes:
        """The stable form that a configuration entry carries: JSON, keys sorted.

        Version 2 while an upgrade is declared, which who cannot read it must not ignore; else 1. A
        reader ignores keys that it does not know, so a later release may add what may be ignored.
        A higher version it writes only after the upgrade to it has ended: the entry that ends one
        is still for everybody.
        """
        value: dict[str, object] = {
            "version": 1 if self.upgrade is None else 2,
            "members": [list(member) for member in sorted(self.members)],
            "voters": sorted(self.voters),
            "outgoing": sorted(self.outgoing),
            "learners": sorted(self.learners),
            "fingerprint": self.fingerprint,
            "cluster_id": self.cluster_id,
        }
        if self.upgrade is not None:
            value["upgrade"] = {
                "target": self.upgrade.target,
                "members": sorted(self.upgrade.members),
            }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Configuration:
        """The inverse of `to_bytes`; ValueError for anything it did not write."""
        try:
            value = json.loads(data)
            version, upgrade = value["version"], None
            if version == 2:
                declared = value["upgrade"]
                upgrade = Upgrade(declared["target"], frozenset(map(NodeId, declared["members"])))
            elif version != 1:
                raise ValueError(f"configuration version {version!r} is unknown")
            members = tuple(Member(NodeId(i), la, ra, ha) for i, la, ra, ha in value["members"])
            return cls(
                members=members,
                voters=frozenset(map(NodeId, value["voters"])),
                outgoing=frozenset(map(NodeId, value["outgoing"])),
                learners=frozenset(map(NodeId, value["learners"])),
                fingerprint=value["fingerprint"],
                cluster_id=value["cluster_id"],
                upgrade=upgrade,
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a configuration: {error}") from error


class SnapshotMeta(NamedTuple):
    """What a state machine image covers: everything up to `index`, which was of `term`."""

    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: Term
    configuration: Configuration


class SoftState(NamedTuple):
    """What may be forgotten at a restart: who this node is and whom it follows."""

    role: Role
    term: Term
    leader_id: NodeId | None


TERM_STEP = 1 << 32
"""More elections than any cluster will have. When an operator forces the members, the term grows by
this: who is so far apart has not lived through that together."""


def is_forced_between(older: int, newer: int) -> bool:
    """Were the members forced after the one term, and before the other?"""
    return newer - older > TERM_STEP // 2


class InvariantViolation(AssertionError):
    """The core broke one of its own promises, or was told something that cannot be.

    The process must stop before it does harm (raft.md rule 18). A peer's message never raises it
    unless it proves that committed entries differ. `rsqlite.errors` has a class of this name for
    the rest of the house; the core imports the standard library only, so it has its own.
    """


class DividedHistory(InvariantViolation):
    """What is committed here is something else at a leader: two parts of a cluster went on apart,
    as after a recovery of one of them."""


def require(condition: bool, text: str, *values: object) -> None:
    """An assertion that `python -O` keeps. `text` is formatted with `values` only on failure."""
    if not condition:
        raise InvariantViolation(text.format(*values))
