"""Stable text of messages, entries and outputs, for scripts and traces.

A line for each thing, made of names and numbers only, so that a golden file changes when what a
node does changes and not when somebody rewords a log.
"""

from __future__ import annotations

from rsqlite.raft.core import Raft
from rsqlite.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from rsqlite.raft.output import AppendWork, Output
from rsqlite.raft.types import Configuration, Entry, EntryKind, SoftState

DATA_SHOWN_MAX = 40
"""Bytes of a command that are worth a place in a trace."""


def entry_text(entry: Entry) -> str:
    """`index@term` and what it carries: `7@2 'set x'`, `8@3 noop`, `9@3 voters 1,2`."""
    match entry.kind:
        case EntryKind.CHECK:
            content = "check"
        case EntryKind.NOOP:
            content = "noop"
        case EntryKind.CONFIGURATION:
            content = configuration_text(Configuration.from_bytes(entry.data))
        case EntryKind.COMMAND:
            content = repr(entry.data[:DATA_SHOWN_MAX])[1:]
    return f"{entry.index}@{entry.term} {content}"


def entries_text(entries: tuple[Entry, ...]) -> str:
    return "[" + ", ".join(entry_text(entry) for entry in entries) + "]"


def configuration_text(configuration: Configuration) -> str:
    """`voters 1,2,3`, with `outgoing` and `learners` if there are any."""
    parts = []
    for name in ("voters", "outgoing", "learners"):
        ids = sorted(getattr(configuration, name))
        if ids or name == "voters":
            parts.append(f"{name} {','.join(map(str, ids)) or '-'}")
    if configuration.upgrade is not None:
        parts.append(f"upgraded {','.join(map(str, sorted(configuration.upgrade.members))) or '-'}")
    return " ".join(parts)


def message_text(message: Message) -> str:
    """`1>2 AppendEntries term=3 …`."""
    name = type(message).__name__
    head = f"{message.source}>{message.target} {name} term={message.term}"
    match message:
        case RequestVote():
            tail = f"last={message.last_log_index}@{message.last_log_term}"
            tail += " pre" * message.pre_vote + " transfer" * message.transfer
        case RequestVoteReply():
            tail = ("granted" if message.granted else "refused") + " pre" * message.pre_vote
        case AppendEntries():
            tail = (
                f"prev={message.prev_log_index}@{message.prev_log_term} "
                f"{entries_text(message.entries)} commit={message.commit_index}"
            )
        case AppendEntriesReply(success=True):
            tail = f"match={message.match_index}"
        case AppendEntriesReply():
            tail = f"refused={message.match_index} hint={message.hint_index}@{message.hint_term}"
        case Heartbeat():
            tail = f"commit={message.commit_index}"
        case HeartbeatReply():
            tail = f"room={message.room.name.lower()}" if message.room else ""
            tail += "" if message.may_lead else " cannot lead"
        case TimeoutNow():
            tail = ""
        case InstallSnapshot():
            tail = f"last={message.last_index}@{message.last_term}"
        case ReadIndex():
            tail = f"context={message.context}"
        case ReadIndexReply():
            index = "none" if message.index is None else message.index
            tail = f"context={message.context} index={index}"
    round_ = getattr(message, "round", 0)
    return " ".join(part for part in (head, tail, round_ and f"round={round_}") if part)


def soft_state_text(soft_state: SoftState) -> str:
    leader = "nobody" if soft_state.leader_id is None else soft_state.leader_id
    return f"{soft_state.role.value} in term {soft_state.term}, follows {leader}"


def work_text(work: AppendWork) -> str:
    """One line: what the disk must do."""
    parts = []
    if work.truncate_from is not None:
        parts.append(f"truncate from {work.truncate_from}")
    if work.entries:
        parts.append(f"append {entries_text(work.entries)}")
    if work.hard_state is not None:
        parts.append(f"term={work.hard_state.term} vote={work.hard_state.voted_for or '-'}")
    return f"work {work.token}: " + (", ".join(parts) or "nothing")


def output_lines(output: Output) -> list[str]:
    """A line for each thing to do, in the order of the fields of the driver's duties."""
    lines = []
    if output.soft_state is not None:
        lines.append(f"becomes {soft_state_text(output.soft_state)}")
    if output.append is not None:
        lines.append(work_text(output.append))
        lines += [f"  then {message_text(reply)}" for reply in output.append.replies]
    lines += [f"sends {message_text(message)}" for message in output.send]
    lines += [f"commits {entry_text(entry)}" for entry in output.committed]
    if output.image is not None:
        lines.append(f"offered {message_text(output.image)}")
    for read in output.reads:
        index = "cannot be confirmed" if read.index is None else f"at {read.index}"
        lines.append(f"read {read.context} {index}")
    return lines


def raft_lines(raft: Raft) -> list[str]:
    """A node as it stands: itself on the first line, then its followers if it leads."""
    leader = "nobody" if raft.leader_id is None else raft.leader_id
    lines = [
        f"{raft.node_id} {raft.role.value} term={raft.current_term} vote={raft.voted_for or '-'} "
        f"follows={leader} last={raft.last_index} durable={raft.durable_index} "
        f"commit={raft.commit_index} applied={raft.applied_index} "
        f"({configuration_text(raft.configuration)})"
    ]
    for view in raft.progress():
        lines.append(
            f"  {view.node_id} {view.state.value} match={view.match_index} "
            f"next={view.next_index} inflight={view.inflight_messages}"
        )
    return lines
