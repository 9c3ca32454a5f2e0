"""What came of a check of the contents: what one node found, and the report on all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from rsqlite.errors import RsqliteError
from rsqlite.raft.quorum import quorum_choice
from rsqlite.raft.types import Configuration, Index, Member, NodeId
from rsqlite.statemachine.content import Content

TABLES_BYTES_MAX = 16 << 10
"""The hashes of single tables are told as long as they are no more than this."""
PROBLEM_CHARS_MAX = 200


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one node says of one check. `state`: waiting (it has not come to that index), running,
    done, failed, or none (it never came to it: an image brought it further). `is_copy`: its
    database came from another node, and no check has found it like all others since."""

    state: str
    digest: str = ""
    tables: dict[str, str] = {}
    problems: list[str] = []
    seconds: float = 0.0
    error: str = ""
    is_copy: bool = False

    @property
    def is_final(self) -> bool:
        return self.state in ("done", "failed", "none")


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node in a `Report`. `verdict`: agrees, differs, undecided (no content is shared by a
    quorum, copies not counted), or no answer."""

    node_id: int
    label: str
    is_voter: bool
    verdict: str
    finding: Finding | None
    tables: tuple[str, ...]
    """Those whose content differs from that of the others, if they were told."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a check of the content at `index`."""

    index: int
    agreed: bool
    """A quorum shares one content, and nobody has another one."""
    complete: bool
    """Every member has told what it holds."""
    nodes: tuple[NodeReport, ...]

    def is_alike(self, node_id: NodeId) -> bool:
        """Do this node and all voters hold the same?"""
        asked = [one for one in self.nodes if one.is_voter or one.node_id == node_id]
        return all(one.verdict == "agrees" for one in asked)


Verified = Callable[[Report | None, RsqliteError | None], None]


@dataclass(slots=True)
class Round:
    """One check, as this node sees it."""

    index: Index
    began: float
    found: dict[NodeId, Finding] = field(default_factory=dict)
    silences: dict[NodeId, int] = field(default_factory=dict)
    waiting: list[tuple[float, Verified]] = field(default_factory=list)
    next_question: float = 0.0
    is_settled: bool = False
    """What it says of this node has been acted on."""


def shared_content(configuration: Configuration, found: Mapping[NodeId, Finding]) -> str | None:
    """The hash of the content that a quorum shares, None if there is none (yet). Where contents
    differ a copy does not count: it is right or wrong with the one that it was made from."""
    done = {node_id: one for node_id, one in found.items() if one.state == "done"}
    if len({one.digest for one in done.values()}) > 1:
        done = {node_id: one for node_id, one in done.items() if not one.is_copy}
    return quorum_choice(configuration, {node_id: one.digest for node_id, one in done.items()})


def finding_of(content: Content, seconds: float, *, is_copy: bool) -> Finding:
    """What a node says of the content that it has hashed."""
    tables = content.tables
    if sum(len(name.encode()) + 40 for name in tables) > TABLES_BYTES_MAX:
        tables = {}
    return Finding(
        state="done",
        digest=content.digest,
        tables=tables,
        problems=[text[:PROBLEM_CHARS_MAX] for text in content.problems],
        seconds=seconds,
        is_copy=is_copy,
    )


def node_report(
    member: Member, found: Finding | None, model: Finding | None, voters: Collection[NodeId]
) -> NodeReport:
    """What a member has found, beside `model`, what a quorum has: None if there is no such."""
    tables: tuple[str, ...] = ()
    if found is None or found.state != "done":
        verdict = "no answer"
    elif model is None:
        verdict = "undecided"
    elif found.digest == model.digest:
        verdict = "agrees"
    else:
        verdict = "differs"
        if found.tables and model.tables:
            names = sorted({*found.tables, *model.tables})
            tables = tuple(
                name for name in names if found.tables.get(name) != model.tables.get(name)
            )
    is_voter = member.node_id in voters
    return NodeReport(member.node_id, member.label, is_voter, verdict, found, tables)
