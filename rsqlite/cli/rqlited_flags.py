"""Flags of rqlited (v10) that are not ours: so that a command line brought over from rqlite says
what becomes of each, instead of `unknown flag`.

Three kinds. WITHOUT_EFFECT are accepted because leaving them out changes no result: they tune
machinery that rsqlite does not have. RENAMED have another name here. NOT_YET would be missed, so
they are an error; except that a flag set to rqlited's own default asks for nothing and passes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForeignFlag:
    """`default` is rqlited's; a boolean takes no value after a space."""

    default: str = ""
    is_boolean: bool = False
    without_effect: str = ""
    """Why it may be left out."""
    renamed: str = ""
    """Our flag for it."""


def _not_yet(*names: str, default: str = "") -> dict[str, ForeignFlag]:
    return {name: ForeignFlag(default=default) for name in names}


def _not_yet_switches(*names: str) -> dict[str, ForeignFlag]:
    return {name: ForeignFlag(default="false", is_boolean=True) for name in names}


FLAGS: dict[str, ForeignFlag] = {
    # Without effect
    "auto-optimize-int": ForeignFlag(without_effect="nothing is optimized on a timer"),
    "cluster-connect-timeout": ForeignFlag(without_effect="peers are tried until they answer"),
    "compress-snap-transport": ForeignFlag(
        is_boolean=True, default="false", without_effect="images are sent as they are"
    ),
    "db-max-ro-conns": ForeignFlag(without_effect="reads share a few connections"),
    "raft-commit-timeout": ForeignFlag(without_effect="followers learn of a commit at once"),
    "raft-leader-lease-timeout": ForeignFlag(without_effect="there are no leases"),
    "raft-log-level": ForeignFlag(without_effect="one level holds for all parts: -log-level"),
    "raft-remove-shutdown": ForeignFlag(
        is_boolean=True, default="false", without_effect="a node that was removed always ends"
    ),
    "raft-snap-wal-size": ForeignFlag(
        without_effect="checkpoints follow the size of the WAL by themselves"
    ),
    # Another name
    "raft-apply-timeout": ForeignFlag(default="10s", renamed="request-timeout"),
    "raft-heartbeat-timeout": ForeignFlag(default="1s", renamed="raft-election-timeout"),
    # Not yet
    **_not_yet("extensions-path", "cdc-config", "otlp-endpoint", "otlp-ca-cert", "otlp-cert"),
    **_not_yet("otlp-key", "auth", "auto-backup", "auto-restore", "join-as"),
    **_not_yet("otlp-interval", default="30s"),
    **_not_yet("http-ca-cert", "http-cert", "http-key", "http-verify-common-name"),
    **_not_yet("node-ca-cert", "node-cert", "node-key"),
    **_not_yet("node-verify-server-name", "node-verify-common-name"),
    **_not_yet("disco-mode", "disco-config"),
    **_not_yet("disco-key", default="rqlite"),
    **_not_yet("raft-reap-node-timeout", "raft-reap-read-only-node-timeout", default="0h"),
    **_not_yet("write-queue-capacity", default="1024"),
    **_not_yet("write-queue-batch-size", default="128"),
    **_not_yet("write-queue-timeout", default="50ms"),
    **_not_yet("cpu-profile", "mem-profile", "trace-profile"),
    **_not_yet_switches("otlp-insecure", "otlp-no-verify", "http-verify-client"),
    **_not_yet_switches("node-no-verify", "node-verify-client"),
    **_not_yet_switches("write-queue-tx"),
    "raft-shutdown-stepdown": ForeignFlag(default="true", is_boolean=True),
}


def judge(name: str, text: str) -> tuple[str, str]:
    """(problem, note) of `-name text`, each empty when there is none."""
    flag = FLAGS[name]
    if flag.without_effect:
        return "", f"-{name} has no effect: {flag.without_effect}"
    if text == flag.default:
        return "", ""
    if flag.renamed:
        return f"-{name} of rqlited is -{flag.renamed} here", ""
    return f"-{name} of rqlited is known, but rsqlited does not have it yet: leave it out", ""
