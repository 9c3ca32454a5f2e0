"""What an inspection of the files found, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """How bad a finding is. Only DAMAGE keeps a node from starting."""

    INFO = "info"
    WARNING = "warning"
    DAMAGE = "damage"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `offset` is the place in the file, if it has one."""

    severity: Severity
    path: str
    offset: int | None
    what: str
    advice: str = ""

    def __str__(self) -> str:
        place = self.path if self.offset is None else f"{self.path} at byte {self.offset}"
        text = f"{self.severity.value}: {place}: {self.what}"
        return f"{text}. {self.advice}" if self.advice else text


# Damage is repaired from the other nodes, never here: what is cut here may be the last copy of an
# acknowledged write (reliability 1.3, Protocol-Aware Recovery).
REJOIN_ADVICE = (
    "Keep a copy of the directory, check the disk, remove this node from the cluster"
    " and let it join again with an empty directory; do not edit or cut the file"
)
