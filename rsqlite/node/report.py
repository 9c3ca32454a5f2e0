"""Takes the picture of a node that `status.py` describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from rsqlite import __version__
from rsqlite.node.status import MemberStatus, Status
from rsqlite.ports import Network
from rsqlite.transport.peer import LinkStatus

if TYPE_CHECKING:
    from rsqlite.node.engine import Engine


class PeerLinks(Network, Protocol):
    """A network that can tell how its links are."""

    def links(self) -> Iterable[LinkStatus]: ...


def status_of(node: Engine) -> Status:
    """Everything an operator asks first, taken now."""
    core, log, machine = node.core, node.log, node.machine
    members = _members(node)
    return Status(
        version=__version__,
        label=node.label,
        node_id=node.node_id,
        cluster_id=node.cluster_id,
        incarnation=node.directory.identity.incarnation,
        role="none" if core is None else core.role.value,
        leader=next((member for member in members if member.is_leader), None),
        term=0 if core is None else core.current_term,
        first_index=log.first_index,
        last_index=log.last_index,
        durable_index=log.durable_index,
        commit_index=0 if core is None else core.commit_index,
        applied_index=machine.applied_index,
        members=members,
        directory=node.path,
        uptime_s=node.loop.monotonic() - node.started_at,
        fault=None if node.fault is None else str(node.fault),
        fingerprint=machine.fingerprint,
        cluster_fingerprint="" if core is None else core.configuration.fingerprint,
        upgrade=None
        if core is None or core.configuration.upgrade is None
        else core.configuration.upgrade.target,
        content_check=node.content.last,
        vacuum=node.vacuum.progress,
        scrub=node.scrub.status,
        repairs=tuple(node.repairs),
        counters=_counters(node),
    )


def _members(node: Engine) -> tuple[MemberStatus, ...]:
    core, driver = node.core, node.driver
    if core is None or driver is None:
        return ()
    links = {link.node_id: link for link in node.network.links()}
    progress = {one.node_id: one for one in core.progress()}
    now = node.loop.monotonic()
    found = []
    for member in core.configuration.members:
        is_self = member.node_id == node.node_id
        link = links.get(member.node_id)
        heard = driver.last_contact_s.get(member.node_id)
        known = progress.get(member.node_id)
        found.append(
            MemberStatus(
                node_id=member.node_id,
                label=member.label,
                raft_addr=member.raft_addr,
                http_addr=member.http_addr,
                is_voter=member.node_id in core.configuration.voters,
                is_leader=member.node_id == core.leader_id,
                is_self=is_self,
                reachable=is_self or (link is not None and link.is_connected),
                contact_age_s=0.0 if is_self else None if heard is None else now - heard,
                match_index=None if known is None else known.match_index,
                error="" if link is None else link.error,
                fingerprint=core.configuration.fingerprint_of(member.node_id),
            )
        )
    return tuple(found)


def _counters(node: Engine) -> dict[str, int | float]:
    writer, reader, forwarding, driver = node.writer, node.reader, node.forwarding, node.driver
    counters: dict[str, int | float] = {
        "writer_batches": writer.batches,
        "writer_requests": writer.requests,
        "writer_rollbacks": writer.rollbacks,
        "writer_waiting": writer.waiting,
        "reader_reads": reader.reads,
        "reader_rounds": reader.rounds,
        "reader_waiting": reader.waiting,
        "forwarding_sent": forwarding.forwarded,
        "forwarding_served": forwarding.served,
        "log_backlog_bytes": node.log.backlog_bytes,
    }
    if driver is not None:
        counters["driver_lag_max_seconds"] = driver.lag_max_s
        counters["driver_dropped_frames"] = driver.dropped_frames
    counters["images_made"] = node.images.made
    counters["images_parts_served"] = node.images.parts_served
    counters["log_cuts"] = node.compaction.cuts
    if not node.installer.is_under_way:
        for name, value in dataclasses.asdict(node.machine.statistics()).items():
            counters[f"machine_{name}"] = value
    return counters
