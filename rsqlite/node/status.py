"""An immutable picture of a node, for `/status`, `/nodes`, logs and `Node.status()`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsqlite.node.findings import Report
    from rsqlite.node.scrub import ScrubStatus
    from rsqlite.node.vacuum import Progress


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member as this node sees it. `reachable` is about the link to it; True for itself."""

    node_id: int
    label: str
    raft_addr: str
    http_addr: str
    is_voter: bool
    is_leader: bool
    is_self: bool
    reachable: bool
    contact_age_s: float | None = None
    """Seconds since something was heard from it; None: never."""
    match_index: int | None = None
    """What is known to be on its disk, as the leader knows it."""
    error: str = ""
    fingerprint: str = ""
    """How it is known to compute SQL."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything an operator asks first."""

    version: str
    label: str
    node_id: int
    cluster_id: str | None
    incarnation: int
    role: str
    leader: MemberStatus | None
    term: int
    first_index: int
    last_index: int
    durable_index: int
    commit_index: int
    applied_index: int
    members: tuple[MemberStatus, ...]
    directory: str
    uptime_s: float
    fault: str | None
    fingerprint: str
    """How this node computes SQL."""
    cluster_fingerprint: str
    """How its cluster does, by what is in force."""
    upgrade: str | None
    """The fingerprint that an upgrade is declared to."""
    content_check: Report | None
    """What came of the last check of all nodes' contents that ended here."""
    vacuum: Progress
    """How far this node's last VACUUM is."""
    scrub: ScrubStatus
    """How far the reading of all that is on the disk is."""
    repairs: tuple[str, ...]
    """What was found damaged in this life of the node, and mended."""
    counters: Mapping[str, int | float]
    """Names are `part_thing_unit`, such as `writer_batches` or `log_sync_seconds`."""
