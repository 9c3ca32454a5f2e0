"""What operators and discovering clients ask: /status, /nodes, /leader, /readyz, /debug/vars.

The shapes are rqlite's (rqlite.md 2.5, clients.md 1). Nodes are named by their labels.
"""

from __future__ import annotations

import os
import platform
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

import apsw

from rsqlite.config import Settings
from rsqlite.node.status import MemberStatus, Status
from rsqlite.node.vacuum import Progress
from rsqlite.request import Answer, Outcome, ReadLevel, Request, RequestKind
from rsqlite.server import cluster_api, gojson
from rsqlite.server.answers import (
    LEADER_NOT_FOUND,
    TEXT_TYPE,
    Reply,
    json_reply,
    retry_after,
    text_reply,
)
from rsqlite.server.durations import format_duration
from rsqlite.server.flags import Flags
from rsqlite.server.limits import HttpCounters
from rsqlite.server.service import NodeService


class Site(Protocol):
    """What these endpoints need of the HTTP server."""

    node: NodeService
    settings: Settings
    address: str

    @property
    def counters(self) -> HttpCounters: ...

    @property
    def open_connections(self) -> int: ...

    @property
    def uptime_s(self) -> float: ...


def status(site: Site, flags: Flags) -> Reply:
    """Everything, or the part that `key=a.b.c` names (`{}` if there is none)."""
    tree = _status_tree(site)
    value: Any = tree
    for name in flags.key.split(".") if flags.key else ():
        value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            value = {}
            break
    return json_reply(gojson.dumps(value, is_pretty=flags.pretty))


def nodes(site: Site, flags: Flags) -> Reply:
    """The members by label (by number, those that share one), or with `ver=2` as a list; voters
    only unless `nonvoters`."""
    picture = site.node.status()
    shown = [
        _node(member, picture) for member in picture.members if member.is_voter or flags.nonvoters
    ]
    if flags.ver == "2":
        return json_reply(gojson.dumps({"nodes": shown}, is_pretty=flags.pretty))
    uses = Counter(node["id"] for node in shown)
    value = {node["id" if uses[node["id"]] == 1 else "number"]: node for node in shown}
    return json_reply(gojson.dumps(value, is_pretty=flags.pretty))


def leader(site: Site, flags: Flags) -> Reply:
    """The leader as /nodes shows it."""
    picture = site.node.status()
    if picture.leader is None:
        return text_reply(503, LEADER_NOT_FOUND, (retry_after(1.0),))
    return json_reply(gojson.dumps(_node(picture.leader, picture), is_pretty=flags.pretty))


async def readyz(site: Site, flags: Flags, submit: Callable[[Request], Awaitable[Answer]]) -> Reply:
    """A line for each thing that is ready; 503 ending with the one that is not.

    The database is asked for real. With `sync` the question is a linearizable one: it waits (up to
    `timeout`) until all is applied here that the leader has committed by now. What a follower knows
    to be committed would not do: after a start it is next to nothing.
    """
    lines = ["[+]node ok"]
    if flags.noleader:
        return _lines(200, lines)
    picture = site.node.status()
    if picture.leader is None:
        return _lines(503, [*lines, "[+]leader does not exist"])
    if not picture.leader.reachable:
        return _lines(503, [*lines, "[+]leader not contactable: no connection"])
    lines.append("[+]leader ok")
    if picture.fault is not None:
        return _lines(503, [*lines, f"[+]store not ready: {picture.fault}"])
    lines.append("[+]store ok")
    level = ReadLevel.LINEARIZABLE if flags.sync else ReadLevel.NONE
    answer = await submit(
        Request(RequestKind.QUERY, ["SELECT 1"], [None], level=level, timeout_s=flags.timeout_s)
    )
    if not isinstance(answer, Outcome):
        return _lines(503, [*lines, f"[+]{'sync' if flags.sync else 'db'} {answer}"])
    if flags.sync:
        lines.append("[+]sync ok")
    return _lines(200, [*lines, "[+]db ok"])


def variables(site: Site, flags: Flags) -> Reply:
    """Counters in groups, as Go's expvar shows them; `key=` picks one group."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    groups: dict[str, Any] = {
        "cmdline": sys.argv,
        "http": asdict(site.counters),
        "memstats": {"max_rss_kib": usage.ru_maxrss},
        "process": {"user_seconds": usage.ru_utime, "system_seconds": usage.ru_stime},
    }
    for name, value in sorted(site.node.status().counters.items()):
        part, _, rest = name.partition("_")
        groups.setdefault(part, {})[rest or part] = value
    if flags.key:
        groups = {flags.key: groups[flags.key]} if flags.key in groups else {}
    return json_reply(gojson.dumps(groups, is_pretty=flags.pretty))


def _lines(status_code: int, lines: list[str]) -> Reply:
    return Reply(status_code, "\n".join(lines).encode(), TEXT_TYPE)


def _node(member: MemberStatus, picture: Status) -> dict[str, Any]:
    node: dict[str, Any] = {
        "id": member.label,
        "number": str(member.node_id),  # a text: JSON's numbers lose digits in many languages
        "api_addr": _url(member.http_addr),
        "addr": member.raft_addr,
        "voter": member.is_voter,
        "reachable": member.reachable,
        "leader": member.is_leader,
    }
    if member.fingerprint:
        node["fingerprint"] = member.fingerprint
    if member.is_self:
        node["version"] = f"v{picture.version}"
    if member.error:
        node["error"] = member.error
    return node


def _url(address: str) -> str:
    return f"http://{address}" if address and "://" not in address else address


def _status_tree(site: Site) -> dict[str, Any]:
    picture, settings = site.node.status(), site.settings
    now = datetime.now(UTC)
    return {
        "build": {
            "version": f"v{picture.version}",
            "compiler": platform.python_implementation(),
            "python": platform.python_version(),
            "fingerprint": picture.fingerprint,
        },
        "cluster": {
            "addr": settings.raft_adv_addr or settings.raft_addr,
            "api_addr": settings.http_adv_addr or site.address,
            "cluster_id": picture.cluster_id,
            "fingerprint": picture.cluster_fingerprint,
            "upgrade_to": picture.upgrade,
            "https": "false",
        },
        "extensions": {"names": []},
        "http": {
            "bind_addr": site.address,
            "allow_origin": settings.http_allow_origin,
            "auth": "disabled",
            "tls": {"enabled": "false"},
            "shortcut": settings.http_shortcut,
            "open_connections": site.open_connections,
            **asdict(site.counters),
        },
        "mux": {"addr": settings.raft_addr, "tls": "false"},
        "network": {"hostname": socket.gethostname()},
        "node": {
            "start_time": datetime.fromtimestamp(time.time() - picture.uptime_s, UTC).isoformat(),
            "current_time": now.isoformat(),
            "uptime": format_duration(picture.uptime_s),
        },
        "os": {
            "executable": sys.executable,
            "hostname": socket.gethostname(),
            "page_size": resource.getpagesize(),
            "pid": os.getpid(),
            "ppid": os.getppid(),
        },
        "runtime": {
            "version": sys.version.split()[0],
            "os": sys.platform,
            "arch": platform.machine(),
            "num_cpu": os.cpu_count(),
        },
        "store": _store(picture, settings),
    }


def _store(picture: Status, settings: Settings) -> dict[str, Any]:
    voters = {member.node_id for member in picture.members if member.is_voter}
    known = picture.leader
    return {
        "open": True,
        "ready": known is not None and picture.fault is None,
        "fault": picture.fault,
        "node_id": picture.label,
        "addr": settings.raft_adv_addr or settings.raft_addr,
        "dir": picture.directory,
        "leader": {
            "node_id": known.label if known else "",
            "addr": known.raft_addr if known else "",
        },
        "nodes": [
            {
                "id": member.label,
                "number": str(member.node_id),
                "addr": member.raft_addr,
                "suffrage": "Voter" if member.is_voter else "Nonvoter",
            }
            for member in picture.members
        ],
        "fsm_index": picture.applied_index,
        "db_applied_index": picture.applied_index,
        "raft": {
            "state": picture.role.removeprefix("pre-").capitalize(),
            "voter": picture.node_id in voters,
            "term": picture.term,
            "num_peers": max(0, len(picture.members) - 1),
            "first_log_index": picture.first_index,
            "last_log_index": picture.last_index,
            "durable_index": picture.durable_index,
            "commit_index": picture.commit_index,
            "applied_index": picture.applied_index,
            "last_snapshot_index": max(0, picture.first_index - 1),
            "incarnation": picture.incarnation,
        },
        "content_check": None
        if picture.content_check is None
        else cluster_api.report_value(picture.content_check),
        "vacuum": _vacuum(picture.vacuum),
        "scrub": cluster_api.scrub_value(picture.scrub),
        "repairs": list(picture.repairs),
        "snapshot_store": {"snapshots": []},
        "sqlite3": {
            "version": apsw.sqlite_lib_version(),
            "path": os.path.join(picture.directory, "db"),
            "pragmas": {"ro": _pragmas(settings), "rw": _pragmas(settings)},
            "compile_options": list(apsw.compile_options),
        },
        "counters": dict(sorted(picture.counters.items())),
    }


def _vacuum(progress: Progress) -> dict[str, Any]:
    """This node's last one."""
    return {
        "step": progress.step.value,
        "bytes_before": progress.bytes_before,
        "bytes_after": progress.bytes_after,
        "seconds": progress.seconds,
        "error": progress.error,
    }


def _pragmas(settings: Settings) -> dict[str, str]:
    """Those that a client may want to know and that are the same on all connections."""
    return {
        "foreign_keys": "1" if settings.fk else "0",
        "journal_mode": "wal",
        "wal_autocheckpoint": "0",
    }
