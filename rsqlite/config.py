"""Every setting once: name, default, unit, bounds, help. Flags, environment, config file, `--help`
and the docs are made from this table.

A field's name is the name of its flag with dashes (`raft_addr` is `-raft-addr` and
`RSQLITE_RAFT_ADDR`). `check` reports all errors at once. Fields without a flag (`flag=False`) are
bounds that an operator has no reason to turn; they still have their one place here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KIB = 1024
MIB = 1024 * KIB

QUARANTINED_MAX = 2
"""What was damaged and set aside is kept so often, the newest: databases, and whole identities."""

# Bounds that are part of the protocol between nodes: all nodes share them, so they are no settings.
PEER_ENTRIES_MAX = 65_536
"""Entries in one message between nodes."""
PEER_PIECE_BYTES_MIN = 4 * KIB
PEER_PIECE_BYTES_MAX = 1 * MIB
"""Bytes of one piece of a message on the wire; one that others follow has the least."""
PEER_IMAGE_BYTES_MAX = 16 * MIB
"""Bytes of one part of an image: a chunk, or the manifest."""
PEER_HANDSHAKE_BYTES_MAX = 64 * KIB
"""Bytes of an answer to a handshake, or of what a node says about itself."""
ADDRESS_LENGTH_MAX = 261
"""A DNS name, brackets, a port."""
LABEL_LENGTH_MAX = 255
"""Of a node's name, which each node tells of each member."""


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    flag: bool = True,
) -> Any:
    """A field of `Settings` with what flags and docs need to know of it."""
    metadata: Mapping[str, Any] = {
        "help": help,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "flag": flag,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one node. Durations are seconds, sizes bytes, unless the name says so."""

    # Who this node is
    node_id: str = setting("", "Label of this node, to be kept for life; default: its raft address")
    http_addr: str = setting("localhost:4001", "Address to serve HTTP on; empty: no HTTP")
    http_adv_addr: str = setting("", "HTTP address that others are told; default: http_addr")
    raft_addr: str = setting("localhost:4002", "Address to serve the other nodes on")
    raft_adv_addr: str = setting("", "Raft address that others are told; default: raft_addr")
    bootstrap_expect: int = setting(
        0, "Form a cluster when this many nodes have found each other", minimum=0, maximum=99
    )
    bootstrap_expect_timeout: float = setting(
        120.0, "Give up forming a cluster after this long", unit="s", minimum=1, maximum=86_400
    )
    join: str = setting("", "Comma-separated raft addresses of the nodes to find")
    join_interval: float = setting(
        3.0,
        "Pause between two attempts to join, and looks at the others while no leader is known",
        unit="s",
        minimum=0.01,
        maximum=3600,
    )
    join_attempts: int = setting(
        5, "Attempts to join a running cluster", minimum=1, maximum=1_000_000
    )
    raft_non_voter: bool = setting(False, "Join as a read-only node, without a vote")
    raft_cluster_remove_shutdown: bool = setting(
        False, "Leave the cluster for good at a clean stop"
    )
    membership_wishes_max: int = setting(
        64, "Changes of the membership that wait at the leader", minimum=1, flag=False
    )

    # Raft (raft.md, design 1)
    tick: float = setting(
        0.025, "Resolution of the core's clock", unit="s", minimum=0.001, maximum=1, flag=False
    )
    raft_heartbeat: float = setting(
        0.075, "Pause between heartbeats", unit="s", minimum=0.005, maximum=10
    )
    raft_election_timeout: float = setting(
        0.4,
        "Silence after which a follower campaigns; each draws from this to twice this",
        unit="s",
        minimum=0.05,
        maximum=60,
    )
    inflight_messages_max: int = setting(
        4, "Appends under way to one follower", minimum=1, maximum=1024, flag=False
    )
    inflight_bytes_max: int = setting(
        8 * MIB, "Bytes of entries under way to one follower", minimum=64 * KIB, flag=False
    )
    append_bytes_max: int = setting(
        1 * MIB, "Bytes of entries in one append (one entry may be larger)", flag=False
    )
    append_entries_max: int = setting(
        8192, "Entries in one append", minimum=1, maximum=PEER_ENTRIES_MAX, flag=False
    )
    committed_bytes_max: int = setting(
        4 * MIB, "Bytes of entries handed over for applying at a time", flag=False
    )
    uncommitted_bytes_max: int = setting(
        64 * MIB, "Bytes of entries proposed and not committed", flag=False
    )

    # Log (storage)
    segment_bytes: int = setting(
        16 * MIB, "Size of a log segment", minimum=64 * KIB, maximum=1024 * MIB, flag=False
    )
    log_prepare_step_bytes: int = setting(
        512 * KIB, "Log space zero-filled at a time", minimum=4 * KIB, flag=False
    )
    log_prepare_bytes_max: int = setting(
        8 * MIB, "Log space kept zero-filled ahead of a busy log", minimum=4 * KIB, flag=False
    )
    log_readers_max: int = setting(
        8, "Segments kept open for reading old entries", minimum=1, flag=False
    )
    log_cache_bytes_max: int = setting(
        16 * MIB, "Recent entries kept in memory for followers", minimum=0, flag=False
    )
    log_sync: str = setting(
        "auto",
        "How the leader's log syncs: by the kernel in the background where it can, or in a thread",
        choices=("auto", "thread"),
    )
    log_inline_sync_max: float = setting(
        0.005,
        "A follower whose disk syncs quicker than this syncs on the loop; 0: never",
        unit="s",
        minimum=0.0,
        maximum=0.1,
        flag=False,
    )
    log_backlog_bytes_max: int = setting(
        128 * MIB, "Entries waiting for the log's disk before writes are refused", flag=False
    )
    disk_reserve_bytes: int = setting(
        64 * MIB, "Free space below which new writes are refused", minimum=0
    )

    raft_snap: int = setting(
        65_536, "Entries that the log keeps at least, for followers that lag", minimum=16
    )
    raft_snap_int: float = setting(
        1.0, "Pause between looks whether the log can be cut", unit="s", minimum=0.01, maximum=3600
    )
    log_keep_bytes: int = setting(
        64 * MIB, "Bytes of log beyond which fewer entries are kept", minimum=64 * KIB
    )
    image_bytes_per_second: int = setting(
        64 * MIB, "Rate at which a node fetches an image of the database", minimum=64 * KIB
    )
    image_offer_interval: float = setting(
        0.5, "Pause between two offers of an image", unit="s", minimum=0.01, flag=False
    )
    image_keep_time: float = setting(
        60.0, "Time for which an image is kept that nobody fetches", unit="s", flag=False
    )
    image_part_timeout: float = setting(
        60.0,
        "Time for a part of an image to come over: 17 KiB/s will do for a chunk",
        unit="s",
        minimum=0.1,
        flag=False,
    )
    image_stall_timeout: float = setting(
        15.0, "Silence after which a transfer gives way to another image", unit="s", flag=False
    )

    # State machine
    entry_bytes_max: int = setting(
        64 * MIB, "Size of one encoded entry", minimum=64 * KIB, maximum=512 * MIB
    )
    fk: bool = setting(False, "Enforce foreign keys")
    statement_cache_size: int = setting(
        128, "Compiled statements kept per connection", minimum=0, maximum=100_000, flag=False
    )
    shapes_max: int = setting(
        4096, "SQL texts whose kind is remembered per connection", minimum=16, flag=False
    )
    page_cache_bytes: int = setting(
        16 * MIB,
        "Database pages cached for writing, and as many for short reads",
        minimum=256 * KIB,
        flag=False,
    )
    thread_page_cache_bytes: int = setting(
        2 * MIB,
        "Database pages cached by each connection of a thread: long reads, checkpoints, checks",
        minimum=256 * KIB,
        flag=False,
    )
    speculate_reruns_max: int = setting(
        16,
        "Times a batch is run again without the statement that ended its transaction",
        minimum=1,
        flag=False,
    )
    write_steps_max: int = setting(
        4_000_000,
        "VM steps a request may take on the loop; over it, it runs alone in a thread",
        minimum=1_000,
        flag=False,
    )
    write_loop_time_max: float = setting(
        0.1,
        "Time for these steps on the loop, for a batch, and for what a follower applies at once",
        unit="s",
        minimum=0.001,
        flag=False,
    )
    write_statements_max: int = setting(
        5_000, "Statements of a request run on the loop; over it, in a thread", flag=False
    )
    read_steps_max: int = setting(
        50_000, "VM steps a read may take on the loop; over it, it runs in a thread", flag=False
    )
    read_loop_time_max: float = setting(
        0.02,
        "Time for a read on the loop, and for all reads of one turn of it",
        unit="s",
        minimum=0.001,
        flag=False,
    )
    read_time_max: float = setting(
        60.0, "Longest time for a read", unit="s", minimum=0.01, maximum=86_400
    )
    write_time_max: float = setting(
        300.0, "Longest time for a write's SQL", unit="s", minimum=0.01, maximum=86_400
    )
    rows_max: int = setting(1_000_000, "Rows in one answer", minimum=1)
    result_bytes_max: int = setting(256 * MIB, "Size of one answer", minimum=1 * KIB)
    blob_bytes_max: int = setting(
        48 * MIB, "Longest string or BLOB", minimum=1 * KIB, maximum=1024 * MIB, flag=False
    )
    sql_bytes_max: int = setting(
        1 * MIB, "Longest SQL text", minimum=1 * KIB, maximum=1024 * MIB, flag=False
    )
    clock_lag_max: float = setting(
        5.0,
        "A node whose clock is further behind the time of the log warns of it",
        unit="s",
        minimum=0.1,
        flag=False,
    )
    checkpoint_wal_bytes: int = setting(
        16 * MIB, "WAL size at which a checkpoint starts", minimum=64 * KIB, flag=False
    )
    checkpoint_rest_bytes: int = setting(
        512 * KIB,
        "What a checkpoint leaves for its step on the loop; twice as much after each further pass",
        minimum=4 * KIB,
        flag=False,
    )
    checkpoint_held_max: float = setting(
        60.0,
        "Time for which reads may hold checkpoints up; then long ones wait until one has passed",
        unit="s",
        minimum=0.0,
        flag=False,
    )
    wal_spare_bytes_max: int = setting(
        48 * MIB,
        "A WAL file that is longer by this than what lives in it is cut",
        minimum=64 * KIB,
        flag=False,
    )
    wal_reclaim_pause: float = setting(
        0.2,
        "Pause before that is tried again when somebody reads from the WAL",
        unit="s",
        minimum=0.01,
        flag=False,
    )
    verify_digest: str = setting(
        "risky",
        "Which entries carry a digest of their row changes",
        choices=("always", "risky", "never"),
    )
    verify_interval: float = setting(
        86_400.0,
        "Pause between checks that all nodes hold the same content; 0: only when asked for or"
        " after an image",
        unit="s",
        minimum=0.0,
    )
    verify_timeout: float = setting(
        600.0,
        "Longest time for such a check; while it runs the WAL grows",
        unit="s",
        minimum=0.1,
        maximum=86_400,
    )
    auto_vacuum_int: float = setting(
        0.0, "Pause between VACUUMs that the leader begins by itself; 0: none", unit="s", minimum=0
    )
    vacuum_timeout: float = setting(
        3600.0,
        "Longest time for the VACUUM of one node; while the copy is written the WAL grows",
        unit="s",
        minimum=0.1,
        maximum=86_400,
    )
    maintenance_waiting_max: int = setting(
        16,
        "Requests that wait for the end of a snapshot, as many for a check, and for a VACUUM",
        minimum=1,
        flag=False,
    )
    scrub_interval: float = setting(
        86_400.0,
        "Pause between readings of all that is on the disk, to find damage; 0: only when asked for",
        unit="s",
        minimum=0.0,
    )
    scrub_bytes_per_second: int = setting(
        8 * MIB, "Rate of such a reading at most", minimum=64 * KIB
    )
    digest_memory_max: int = setting(
        64 * MIB,
        "An entry whose row changes take more memory carries no digest",
        minimum=64 * KIB,
        flag=False,
    )
    digest_sample: int = setting(
        64,
        "With verify_digest=risky, every so-many-th entry carries a digest all the same",
        minimum=1,
        flag=False,
    )

    # Node
    batch_requests_max: int = setting(1024, "Requests in one batch", minimum=1, flag=False)
    batch_gather_max: float = setting(
        0.002,
        "Longest wait for the clients just answered to share the next batch; 0: none",
        unit="s",
        minimum=0.0,
        maximum=0.1,
        flag=False,
    )
    batch_statements_max: int = setting(
        20_000, "Statements in one batch (one request may have more)", minimum=1, flag=False
    )
    write_queue_max: int = setting(10_000, "Writes waiting for their batch", minimum=1)
    read_queue_max: int = setting(
        10_000, "Reads waiting for a leader or an index, and as many for a thread", minimum=1
    )
    read_threads: int = setting(2, "Threads for long reads", minimum=1, maximum=64)
    forward_queue_max: int = setting(10_000, "Requests under way to the leader", minimum=1)
    request_timeout: float = setting(
        30.0, "Default time for a request, waiting included", unit="s", minimum=0.01, maximum=86_400
    )
    apply_entries_max: int = setting(
        256, "Entries applied in one SQLite transaction", minimum=1, flag=False
    )
    apply_gather_max: float = setting(
        0.004,
        "Time a follower gathers entries to apply together while nobody waits for them; 0: none",
        unit="s",
        minimum=0.0,
        maximum=1.0,
        flag=False,
    )
    apply_gather_bytes: int = setting(
        64 * KIB, "Bytes of entries that a follower does not gather beyond", minimum=0, flag=False
    )
    leader_wait: float = setting(
        2.0, "Time a request waits for a leader to be known", unit="s", minimum=0, maximum=3600
    )
    discovery_interval: float = setting(
        0.2, "Pause between looks for the other nodes of a new cluster", unit="s", flag=False
    )
    commit_flush_delay: float = setting(
        0.01, "Silence after which followers are told the commit index", unit="s", flag=False
    )
    linearizable_timeout: float = setting(
        10.0, "Default wait of a linearizable read", unit="s", minimum=0.01, maximum=86_400
    )

    # Peers (transport)
    peer_frame_bytes_max: int = setting(
        80 * MIB, "Longest message between nodes", minimum=64 * KIB, flag=False
    )
    peer_fragment_bytes: int = setting(
        64 * KIB,
        "A longer message is sent in pieces of this size",
        minimum=PEER_PIECE_BYTES_MIN,
        maximum=PEER_PIECE_BYTES_MAX,
        flag=False,
    )
    peer_queue_bytes_max: int = setting(
        160 * MIB, "Bytes waiting for one peer; more are dropped", minimum=64 * KIB, flag=False
    )
    peer_connect_timeout: float = setting(
        2.0, "Time to open a connection to a peer", unit="s", minimum=0.05, flag=False
    )
    peer_backoff_min: float = setting(
        0.05, "First pause before a peer is tried again", unit="s", minimum=0.001, flag=False
    )
    peer_backoff_max: float = setting(
        1.0, "Longest pause before a peer is tried again", unit="s", minimum=0.001, flag=False
    )
    peer_handshake_timeout: float = setting(
        10.0, "Time for whoever connects to say who it is", unit="s", minimum=0.1, flag=False
    )
    peer_connections_max: int = setting(
        256, "Connections to the raft address", minimum=8, maximum=65_536, flag=False
    )
    peer_pulse: float = setting(
        1.0, "Pause between signs of life on a link", unit="s", minimum=0.01, flag=False
    )
    peer_stall_timeout: float = setting(
        4.0, "Silence after which a link is opened anew", unit="s", minimum=0.05, flag=False
    )

    # HTTP (server)
    http_shortcut: str = setting(
        "on", "Serve known request heads without aiohttp's machinery", choices=("on", "off")
    )
    http_allow_origin: str = setting("", "Value of Access-Control-Allow-Origin")
    body_bytes_max: int = setting(64 * MIB, "Longest request body", minimum=1 * KIB)
    bodies_bytes_max: int = setting(512 * MIB, "Request bodies under way together", minimum=1 * KIB)
    answers_bytes_max: int = setting(
        256 * MIB,
        "Answers that clients have not taken; over it, reads are refused",
        minimum=1 * KIB,
    )
    statements_max: int = setting(200_000, "Statements in one request", minimum=1)
    connections_max: int = setting(4096, "HTTP connections", minimum=1)
    head_timeout: float = setting(
        10.0, "Time for a request's head to arrive", unit="s", minimum=0.1, flag=False
    )
    body_timeout: float = setting(
        60.0, "Time for a request's body to arrive", unit="s", minimum=0.1, flag=False
    )
    idle_timeout: float = setting(
        75.0, "Time an idle connection is kept", unit="s", minimum=0.1, flag=False
    )
    answer_timeout: float = setting(
        60.0, "Time for a client to take its answer", unit="s", minimum=0.1, flag=False
    )
    answer_timeout_crowded: float = setting(
        3.0,
        "Time in which a client must take some of its answer when answers_bytes_max is reached",
        unit="s",
        minimum=0.01,
        flag=False,
    )
    idle_timeout_crowded: float = setting(
        1.0,
        "Time an idle connection is kept when most of connections_max are taken",
        unit="s",
        minimum=0.01,
        flag=False,
    )
    linger_timeout: float = setting(
        2.0,
        "Time to read on after a request was refused, so that its sender sees why",
        unit="s",
        minimum=0.0,
        flag=False,
    )
    head_bytes_max: int = setting(
        256 * KIB, "Longest request head, SQL in a URL included", minimum=8 * KIB, flag=False
    )
    pipeline_bytes_max: int = setting(
        64 * KIB,
        "Bytes of further requests taken while a connection's answer is pending",
        minimum=4 * KIB,
        flag=False,
    )
    shortcut_heads_max: int = setting(
        1024, "Request heads remembered by the short cut", minimum=1, flag=False
    )

    # Process
    log_level: str = setting(
        "INFO", "Least severity logged", choices=("DEBUG", "INFO", "WARN", "ERROR")
    )
    log_format: str = setting("auto", "Form of log lines", choices=("auto", "json", "console"))
    uvloop: str = setting("auto", "Use uvloop: when installed, or never", choices=("auto", "off"))
    shutdown_timeout: float = setting(
        10.0, "Time for requests under way at a stop", unit="s", minimum=0.0, maximum=3600
    )

    def check(self) -> list[str]:
        """What is wrong with these values, in words; empty when all is well."""
        problems = []
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            name = one.name.replace("_", "-")
            minimum, maximum = one.metadata["minimum"], one.metadata["maximum"]
            if minimum is not None and value < minimum:
                problems.append(f"-{name} {value} is below {minimum}")
            if maximum is not None and value > maximum:
                problems.append(f"-{name} {value} is above {maximum}")
            choices = one.metadata["choices"]
            if choices and value not in choices:
                problems.append(f"-{name} {value!r} is none of {', '.join(choices)}")
        if self.raft_election_timeout < 3 * self.raft_heartbeat:
            problems.append("-raft-election-timeout must be at least three times -raft-heartbeat")
        if self.peer_frame_bytes_max < self.entry_bytes_max + MIB:
            problems.append("-entry-bytes-max must be a MiB below the peers' frame cap")
        if self.peer_queue_bytes_max < self.peer_frame_bytes_max + PEER_PIECE_BYTES_MAX:
            problems.append("-peer-queue-bytes-max must hold the longest message and a MiB")
        if self.peer_stall_timeout < 3 * self.peer_pulse:
            problems.append("-peer-stall-timeout must be at least three times -peer-pulse")
        if self.raft_non_voter and self.bootstrap_expect:
            problems.append(
                "-raft-non-voter joins a cluster: leave out -bootstrap-expect, which forms one"
            )
        if self.http_addr and self.http_addr == self.raft_addr:
            problems.append("-http-addr and -raft-addr must differ")
        if self.node_id:
            problems += [f"-node-id {problem}" for problem in label_problems(self.node_id)]
        problems += self._address_problems()
        return problems

    def _address_problems(self) -> list[str]:
        problems = []
        for name in ("http_addr", "http_adv_addr", "raft_addr", "raft_adv_addr"):
            address = getattr(self, name)
            if address:
                problems += [f"-{name.replace('_', '-')} {p}" for p in address_problems(address)]
        for one in filter(None, (one.strip() for one in self.join.split(","))):
            problems += [f"-join {problem}" for problem in address_problems(one)]
        for own, told in (("http_addr", "http_adv_addr"), ("raft_addr", "raft_adv_addr")):
            address, flag = getattr(self, told) or getattr(self, own), told.replace("_", "-")
            if address and not address_problems(address) and host_of(address) in WILDCARD_HOSTS:
                problems.append(
                    f"others cannot reach {address}: give them an address with -{flag} HOST:PORT"
                )
        return problems


WILDCARD_HOSTS = frozenset({"", "0.0.0.0", "::", "*"})


def host_of(address: str) -> str:
    """The host of `host:port`, without the brackets of an IPv6 one."""
    return address.rpartition(":")[0].strip("[]")


def address_problems(address: str) -> list[str]:
    """What is wrong with `host:port`, in words."""
    if len(address) > ADDRESS_LENGTH_MAX:
        return [f"{address[:20]!r}... has more than {ADDRESS_LENGTH_MAX} characters"]
    if not is_token(address):
        return [f"{address!r} has characters that no address has"]
    if "://" in address:
        return [f"{address} has a scheme: write HOST:PORT"]
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host.strip("[]") and not host.startswith("[")):
        return [f"{address!r} is no HOST:PORT (an IPv6 host stands in brackets)"]
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        return [f"{address!r} has no port from 0 to 65535"]
    return []


def is_token(text: str) -> bool:
    """Printable ASCII without spaces: fit for a header."""
    return text.isascii() and text.isprintable() and " " not in text


def label_problems(label: str) -> list[str]:
    """What is wrong with the name of a node, in words."""
    if not 0 < len(label) <= LABEL_LENGTH_MAX:
        return [f"{label[:20]!r} has {len(label)} characters: 1 to {LABEL_LENGTH_MAX} are allowed"]
    if not label.isprintable():
        return [f"{label!r} has characters that cannot be printed"]
    return []
