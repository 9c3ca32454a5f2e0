"""What the clients of an acceptance run did and were told: the evidence that the checks look at.

Every operation ends in one of three ways. OK: acknowledged. FAIL: the answer said that nothing was
done (or the request was never sent). INFO: anything else; it may have happened, at any time.
"""

from __future__ import annotations

import enum
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.linearizability import Operation

REGISTER_OPERATIONS_MAX = 200
REGISTER_UNKNOWN_MAX = 5
"""Writes of unknown outcome on one register, each of which stays concurrent with all that follows;
the clients go on with a fresh register then."""


class Outcome(enum.Enum):
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(slots=True)
class Record:
    """One operation. `called` and `returned` are places in the order of all events of the run."""

    client: str
    node: int
    kind: str
    what: dict[str, Any]
    called: int
    called_s: float
    returned: int | None = None
    returned_s: float | None = None
    outcome: Outcome = Outcome.INFO
    result: Any = None

    def as_json(self) -> dict[str, Any]:
        return {
            "client": self.client,
            "node": self.node,
            "kind": self.kind,
            **self.what,
            "called": self.called,
            "called_s": round(self.called_s, 6),
            "returned": self.returned,
            "returned_s": None if self.returned_s is None else round(self.returned_s, 6),
            "outcome": self.outcome.value,
            "result": self.result,
        }


class History:
    """Operations and faults in one order, from one clock."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.faults: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self._places = 0
        self._begin = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._begin

    def invoke(self, client: str, node: int, kind: str, **what: Any) -> Record:
        record = Record(client, node, kind, what, self._place(), self.now())
        self.records.append(record)
        return record

    def complete(self, record: Record, outcome: Outcome, result: Any = None) -> None:
        record.returned, record.returned_s = self._place(), self.now()
        record.outcome, record.result = outcome, result

    def fault(self, name: str, nodes: Sequence[int]) -> None:
        self.faults.append({"at_s": round(self.now(), 3), "fault": name, "nodes": list(nodes)})

    def violate(self, text: str) -> None:
        """Something was seen that must not be; the run fails, and goes on for more evidence."""
        self.violations.append(f"at {self.now():.3f} s: {text}")

    def counts(self) -> dict[str, dict[str, int]]:
        """How many operations of each kind ended in which way."""
        counted: dict[str, Counter[str]] = {}
        for record in self.records:
            counted.setdefault(record.kind, Counter())[record.outcome.value] += 1
        return {kind: dict(sorted(counter.items())) for kind, counter in sorted(counted.items())}

    def acknowledged(self) -> int:
        return sum(record.outcome is Outcome.OK for record in self.records)

    def registers(self) -> dict[int, list[Operation]]:
        """The history of each register, as the checker wants it: what certainly did nothing is
        left out, what is unknown never returned."""
        found: dict[int, list[Operation]] = {}
        for record in self.records:
            kind = record.kind
            is_unknown = record.outcome is Outcome.INFO
            if record.outcome is Outcome.FAIL or (kind == "read" and is_unknown):
                continue
            if kind not in ("read", "write", "cas"):
                continue
            found.setdefault(record.what["key"], []).append(
                Operation(
                    kind,  # type: ignore[arg-type]
                    record.called,
                    None if is_unknown else record.returned,
                    value=record.what.get("value"),
                    expected=record.what.get("expected"),
                    got=None if is_unknown or kind == "write" else record.result,
                )
            )
        return found

    def write(self, path: Path) -> None:
        """All of it, a line for each operation and fault, for whoever looks for the bug."""
        with path.open("w") as file:
            for fault in self.faults:
                file.write(json.dumps(fault) + "\n")
            for record in self.records:
                file.write(json.dumps(record.as_json()) + "\n")

    def _place(self) -> int:
        self._places += 1
        return self._places


@dataclass(slots=True)
class Ledger:
    """What must be in the table of markers in the end."""

    sure: set[str] = field(default_factory=set)
    """Acknowledged: there exactly once."""
    maybe: set[str] = field(default_factory=set)
    """Unknown: there once or not at all."""
    never: set[str] = field(default_factory=set)
    """Refused, or certainly not applied: not there."""

    def note(self, markers: Sequence[str], outcome: Outcome) -> None:
        match outcome:
            case Outcome.OK:
                self.sure.update(markers)
            case Outcome.INFO:
                self.maybe.update(markers)
            case Outcome.FAIL:
                self.never.update(markers)

    def problems(self, counted: dict[str, int]) -> list[str]:
        """What is wrong with a table that holds each marker so many times."""
        found = []
        lost = sorted(marker for marker in self.sure if marker not in counted)
        twice = sorted(marker for marker, count in counted.items() if count > 1)
        risen = sorted(marker for marker in self.never if marker in counted)
        known = self.sure | self.maybe | self.never
        alien = sorted(marker for marker in counted if marker not in known)
        for what, markers in (
            ("acknowledged writes are missing", lost),
            ("writes are there more than once", twice),
            ("refused writes are there", risen),
            ("writes nobody made are there", alien),
        ):
            if markers:
                found.append(f"{len(markers)} {what}: {', '.join(markers[:10])}")
        return found
