"""What came of a check of the contents: what one node found, and the report on all of them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from rsqlite.statemachine.content import Content

TABLES_BYTES_MAX = 16 << 10
"""The hashes of single tables are told as long as they are no more than this."""
PROBLEM_CHARS_MAX = 200


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one node says of one check. `state`: waiting (it has not come to that index), running,
    done, failed, or none (it never came to it: an image brought it further)."""

    state: str
    digest: str = ""
    tables: dict[str, str] = {}
    problems: list[str] = []
    seconds: float = 0.0
    error: str = ""

    @property
    def is_final(self) -> bool:
        return self.state in ("done", "failed", "none")


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node in a `Report`. `verdict`: agrees, differs, undecided (no content is shared by a
    quorum), or no answer."""

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


def finding_of(content: Content, seconds: float) -> Finding:
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
    )
